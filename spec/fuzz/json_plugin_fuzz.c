/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.json: what is decoded can be encoded, and decodes to the same text again.

#include "plugin_host.h"

extern const struct moon_plugin moon_plugin_json;

static const char CHUNK[] = "local input = ...\n"
                            "local value = json.decode(input, { duplicates = 'last' })\n"
                            "if value == nil then return end\n"
                            "json.decode(input, { duplicates = 'refuse', depth = 3 })\n"
                            "local text = assert(json.encode(value))\n"
                            "local again, wrong = json.decode(text)\n"
                            "assert(wrong == nil)\n"
                            "assert(#json.encode(again) == #text)\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = fuzz_new_state();
        fuzz_open_plugin(L, &moon_plugin_json);
        if (luaL_loadstring(L, CHUNK) != 0) {
            __builtin_trap();
        }
    }
    fuzz_call(L, data, size);
    return 0;
}
