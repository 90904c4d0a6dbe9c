/* SPDX-License-Identifier: Apache-2.0 */

/// Templates of bodies (lua/moongate/template.lua). Any text compiles or is refused with a reason; one
/// without marks is written as it stands; and a value, whatever it is, is a value: it closes nothing of
/// what is around it and is no template.

#include "plugin_host.h"

static const char PREPARE[] =
    "package.path = 'lua/?.lua'\n"
    "local template = require('moongate.template')\n"
    "local function of(text, media) return assert(template.compile(text, media)) end\n"
    "local html = of('<p t=\"{{ ctx.vars.v }}\">', 'text/html')\n"
    "local json = of('\"{{ ctx.vars.v }}\"', 'application/json')\n"
    "local form = of('a={{ ctx.vars.v }}', 'application/x-www-form-urlencoded')\n"
    "local csv = of('{{ ctx.vars.v }}', 'text/csv; charset=utf-8')\n"
    "local plain = of('{{ ctx.vars.v | raw }}', 'text/plain')\n"
    "local function unescape(c, digits)\n" // of JSON; what is left has to stand for itself
    "  return c == 'u' and #digits == 4 and '' or ('\"\\\\bfnrt'):find(c, 1, true) and digits or "
    "'<'\n"
    "end\n"
    "return function(input)\n"
    "  local render, why = template.compile(input, 'text/html')\n"
    "  assert(render or type(why) == 'string')\n"
    "  if not input:find('{[{%%#]') then assert(render({}) == input) end\n"
    "  local ctx = { vars = { v = input } }\n"
    "  assert(html(ctx):match('^<p t=\"[^<>\"\\']*\">$'))\n"
    "  local inner = json(ctx):match('^\"(.*)\"$'):gsub('\\\\(.)(%x?%x?%x?%x?)', unescape)\n"
    "  assert(not inner:find('[%c\"\\\\<>&]'))\n"
    "  assert(form(ctx):match('^a=[%w_.~%%-]*$'))\n"
    "  local cell = csv(ctx)\n"
    "  assert(not cell:find('^[=+@\\t-]') or tonumber(cell))\n"
    "  assert(plain(ctx) == input)\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = fuzz_new_state();
        fuzz_prepare(L, PREPARE);
    }
    fuzz_call(L, data, size);
    return 0;
}
