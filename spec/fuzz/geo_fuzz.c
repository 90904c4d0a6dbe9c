/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.geo: a file of any bytes is opened and looked about in.

#include "plugin_host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern const struct moon_plugin moon_plugin_geo;

static const char CHUNK[] = "local path = ...\n"
                            "local db = geo.open(path)\n"
                            "if not db then return end\n"
                            "for _, ip in ipairs({ '0.0.0.0', '1.1.1.1', '81.2.69.160', "
                            "'255.255.255.255', '::1', '2001:218::',\n"
                            "  'ffff::' }) do\n"
                            "  db:lookup(ip); db:country(ip); db:country(ip)\n"
                            "end\n"
                            "db:info(); db = nil; collectgarbage()\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = fuzz_new_state();
        fuzz_open_plugin(L, &moon_plugin_geo);
        if (luaL_loadstring(L, CHUNK) != 0) {
            __builtin_trap();
        }
    }
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd == -1 || write(fd, data, size) != (ssize_t)size) {
        __builtin_trap();
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fuzz_call(L, (const uint8_t *)path, strlen(path));
    (void)close(fd);
    return 0;
}
