/* SPDX-License-Identifier: Apache-2.0 */
#include "process/trim.h"

#include "base/macros.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct trim_mapping {
    uintptr_t from, to;
    bool is_of_file; // private, of a file, and not to be written to
};

// "55d0c8a00000-55d0c8a21000 r-xp 00021000 fe:00 1234   /usr/bin/x". @return false for any other line
static bool trim_read_head(const char *line, struct trim_mapping *mapping)
{
    char *at;
    uintptr_t from = strtoul(line, &at, 16);
    if (*at != '-')
        return false;
    uintptr_t to = strtoul(at + 1, &at, 16);
    if (*at != ' ' || strlen(at) < 6)
        return false;
    const char *path = strchr(line, '/');
    *mapping = (struct trim_mapping){from, to, path != NULL && at[2] == '-' && at[4] == 'p'};
    return true;
}

// A page that was written to (relocations, before they were sealed) is no page of the file any more.
static void trim_files(FILE *smaps)
{
    static const char key[] = "Anonymous:";
    struct trim_mapping mapping = {0};
    char line[512];
    while (fgets(line, sizeof(line), smaps) != NULL) {
        if (trim_read_head(line, &mapping) || !mapping.is_of_file ||
            strncmp(line, key, sizeof(key) - 1) != 0)
            continue;
        if (strtoul(line + sizeof(key) - 1, NULL, 10) == 0)
            (void)madvise((void *)mapping.from, mapping.to - mapping.from, MADV_DONTNEED);
    }
}

void moon_process_trim(void)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    if (smaps != NULL) {
        trim_files(smaps);
        (void)fclose(smaps);
    }
    (void)malloc_trim(0);
}
