/* SPDX-License-Identifier: Apache-2.0 */
#include "process/control_path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

// FNV-1a: it must be the same in every process, which moon_hash is not.
static uint64_t control_hash(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

static void control_folder(char *into, size_t cap)
{
    const char *given = getenv("MOONGATE_RUN_DIR"); // NOLINT(concurrency-mt-unsafe): one thread
    const char *xdg = getenv("XDG_RUNTIME_DIR");    // NOLINT(concurrency-mt-unsafe)
    if (given != NULL && given[0] != '\0')
        (void)snprintf(into, cap, "%s", given);
    else if (geteuid() == 0)
        (void)snprintf(into, cap, "/run/moongate");
    else if (xdg != NULL && xdg[0] == '/')
        (void)snprintf(into, cap, "%s/moongate", xdg);
    else
        (void)snprintf(into, cap, "/tmp/moongate-%u", (unsigned)geteuid());
}

// Below /tmp anybody could have made it: it must be ours, and nobody else's to write.
static bool control_is_ours(const char *folder, char *error, size_t error_cap)
{
    struct stat st;
    if (lstat(folder, &st) == -1) {
        (void)snprintf(error, error_cap, "%s: %m", folder);
        return false;
    }
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0)
        return true;
    (void)snprintf(error, error_cap,
                   "%s must be a directory of this user that nobody else may write to", folder);
    return false;
}

char *moon_config_place(const char *dir)
{
    char text[PATH_MAX], parent[PATH_MAX];
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    (void)snprintf(text, sizeof(text), "%.*s", (int)len, dir);
    char *slash = strrchr(text, '/');
    const char *name = slash == NULL ? text : slash + 1;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return realpath(dir, NULL);
    if (slash != NULL)
        *slash = '\0';
    const char *above = slash == NULL ? "." : slash == text ? "/" : text;
    char *place = NULL;
    if (realpath(above, parent) == NULL ||
        asprintf(&place, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) == -1)
        return NULL;
    return place;
}

enum moon_rc moon_control_path(const char *dir, bool makes, struct sockaddr_un *out, char *error,
                               size_t error_cap)
{
    char folder[PATH_MAX];
    char *place = access(dir, F_OK) == -1 ? NULL : moon_config_place(dir);
    if (place == NULL) {
        (void)snprintf(error, error_cap, "%s: %m", dir);
        return MOON_ERR_CONFIG;
    }
    uint64_t hash = control_hash(place);
    free(place);
    control_folder(folder, sizeof(folder));
    if (makes && mkdir(folder, 0700) == -1 && errno != EEXIST) {
        (void)snprintf(error, error_cap, "%s: %m", folder);
        return MOON_ERR_SYSTEM;
    }
    if (!control_is_ours(folder, error, error_cap))
        return MOON_ERR_SYSTEM;
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(out->sun_path, sizeof(out->sun_path), "%s/%016llx.sock", folder,
                     (unsigned long long)hash);
    if (n > 0 && (size_t)n < sizeof(out->sun_path))
        return MOON_OK;
    (void)snprintf(error, error_cap, "%s is too long a path for a socket", folder);
    return MOON_ERR_SYSTEM;
}
