/* SPDX-License-Identifier: Apache-2.0 */

/// GraphQL requests (lua/moongate/graphql.lua): any text is parsed or refused with a reason, in bounded
/// depth; and what is left after fields were removed is a document still.

#include "plugin_host.h"

extern const struct moon_plugin moon_plugin_json;

static const char PREPARE[] =
    "package.path = 'lua/?.lua'\n"
    "package.loaded['moongate.json'] = json\n"
    "local graphql = require('moongate.graphql')\n"
    "return function(input)\n"
    "  local document, why = graphql.parse(input)\n"
    "  assert(document or type(why) == 'string')\n"
    "  if not document then return end\n"
    "  for _, operation in ipairs(document.operations) do\n"
    "    local n = 0\n"
    "    local err = graphql.walk(document, operation, function(path, depth)\n"
    "      n = n + 1\n"
    "      assert(type(path) == 'string' and depth >= 1)\n"
    "    end)\n"
    "    assert(err == nil or type(err) == 'string')\n"
    "  end\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = fuzz_new_state();
        fuzz_open_plugin(L, &moon_plugin_json);
        fuzz_prepare(L, PREPARE);
    }
    fuzz_call(L, data, size);
    return 0;
}
