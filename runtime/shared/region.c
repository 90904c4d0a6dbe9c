/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/region.h"

#include "base/log.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum { REGION_LINE_BYTES = 64, REGION_HINTS = 64 };

// Lies at the start of the mapping; the parts follow.
struct moon_region {
    size_t bytes;
    size_t used; // includes this header; a multiple of REGION_LINE_BYTES
};

static size_t region_round(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

// LuaJIT wants its machine code within 1 GiB of the VM, so a big mapping stays far away from where
// libraries load. The thread sanitizer forbids such addresses.
static void *region_map(size_t bytes)
{
#ifndef __SANITIZE_THREAD__
    for (uintptr_t i = 0; i < REGION_HINTS; i++) {
        uintptr_t hint = UINT64_C(0x200000000000) + i * UINT64_C(0x1000000000);
        void *at = mmap((void *)hint, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (at == (void *)hint)
            return at;
        if (at != MAP_FAILED)
            (void)munmap(at, bytes); // a kernel that takes the address as a hint only
        else if (errno != EEXIST)
            break;
    }
#endif
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
}

struct moon_region *moon_region_new(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes > SIZE_MAX / 2) {
        moon_log_error("shared memory: %zu bytes are too many", bytes);
        return NULL;
    }
    bytes = region_round(bytes + sizeof(struct moon_region), page);
    struct moon_region *region = region_map(bytes);
    if (region == MAP_FAILED) {
        moon_log_error("shared memory: %zu bytes cannot be mapped: %s", bytes, strerror(errno));
        return NULL;
    }
    region->bytes = bytes;
    region->used = region_round(sizeof(*region), REGION_LINE_BYTES);
    return region;
}

void moon_region_free(struct moon_region *region)
{
    if (region != NULL)
        (void)munmap(region, region->bytes);
}

void *moon_region_carve(struct moon_region *region, const char *name, size_t bytes)
{
    if (bytes > moon_region_left(region)) {
        moon_log_error("shared memory: no room for %s (%zu bytes, %zu left of %zu)", name, bytes,
                       moon_region_left(region), region->bytes);
        return NULL;
    }
    void *part = (char *)region + region->used;
    region->used = region_round(region->used + bytes, REGION_LINE_BYTES);
    return part;
}

size_t moon_region_left(const struct moon_region *region)
{
    return region->used >= region->bytes ? 0 : region->bytes - region->used;
}
