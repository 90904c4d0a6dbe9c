/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.regex: a pattern and a subject, parted by a newline. A set with its filter must say what
/// the pattern says alone, and a pattern what it says where it has no filter; literals must say what a
/// plain search says.

#include "plugin_host.h"

extern const struct moon_plugin moon_plugin_regex;

static const char CHUNK[] =
    "local input = ...\n"
    "local text, subject = input:match('^([^\\n]*)\\n(.*)$')\n"
    "if not text or text == '' or #input > 300 then return end\n"
    "local literals = regex.literals({ text, 'a', 'bc' })\n"
    "local fold = function(s) return (s:gsub('[A-Z]', string.lower)) end\n"
    "local wanted = fold(subject):find(fold(text), 1, true) ~= nil\n"
    "local got = false\n"
    "for _, i in ipairs(literals:all(subject)) do got = got or i == 1 end\n"
    "assert(got == wanted)\n"
    "for _, flags in ipairs({ '', 'i', 'u' }) do\n"
    "  local ok, r = pcall(regex.new, text, flags)\n"
    "  if ok then\n"
    "    local yes, limited = r:test(subject)\n"
    "    local set = regex.set({ text }, flags)\n"
    "    local set_yes, set_limited = set:test(subject)\n"
    "    assert(limited or set_limited or yes == set_yes)\n"
    "    local has_plain, plain = pcall(regex.new, '(?:' .. text .. '){1}', flags)\n"
    "    if has_plain then\n"
    "      local plain_yes, plain_limited = plain:test(subject)\n"
    "      assert(limited or plain_limited or yes == plain_yes)\n"
    "    end\n"
    "    r:exec(subject); r:match(subject); r:find(subject)\n"
    "    pcall(r.gsub, r, subject, '<$0>', 50)\n"
    "  end\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = fuzz_new_state();
        fuzz_open_plugin(L, &moon_plugin_regex);
        if (luaL_loadstring(L, CHUNK) != 0) {
            __builtin_trap();
        }
    }
    fuzz_call(L, data, size);
    return 0;
}
