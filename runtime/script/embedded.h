/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The Lua files that travel inside the binary: lua/ and policies/. Ends with a row of NULLs.

#include <stddef.h>

struct moon_embedded {
    const char *path; // "lua/moongate/config.lua"
    const char *text; // NUL-terminated
    size_t len;
    const char *code; // compiled by the LuaJIT of the build, names and lines kept
    size_t code_len;  // 0: no Lua
};

extern const struct moon_embedded moon_embedded_files[];
