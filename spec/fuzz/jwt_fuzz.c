/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.jwt: tokens, headers, claims, key sets and encrypted tokens. The first byte chooses what
/// the rest is; what is not signed by a key of ours must never be let in.

#include "plugin_host.h"

extern const struct moon_plugin moon_plugin_json;
extern const struct moon_plugin moon_plugin_crypto;
extern const struct moon_plugin moon_plugin_jwt;

static const char PREPARE[] =
    "local all = { 'HS256', 'RS256', 'PS256', 'ES256', 'EdDSA', 'dir', 'A128KW', 'A128GCMKW',\n"
    "  'ECDH-ES', 'RSA-OAEP' }\n"
    "local secret = ('k'):rep(32)\n"
    "local ec = { kty = 'EC', crv = 'P-256', kid = 'ec',\n"
    "  x = '04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY',\n"
    "  y = 'UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw',\n"
    "  d = 'yy49oPcINGK2ps0LmtxpB6UTEOiITghHBif6wDqmJ3c' }\n"
    "local set = assert(jwt.keyset({ algorithms = all, keys = {\n"
    "  { kty = 'oct', value = secret }, { kty = 'oct', value = secret:sub(1, 16) }, ec } }))\n"
    "local signer = assert(jwt.keyset({ algorithms = { 'HS256' },\n"
    "  keys = { { kty = 'oct', value = secret } } }))\n"
    "local b64 = crypto.base64url\n"
    "return function(input)\n"
    "  local kind, rest = (input:byte() or 0) % 6, input:sub(2)\n"
    "  if kind == 0 then\n"
    "    assert(not set:verify(rest)); set:open(rest)\n"
    "  elseif kind == 1 then\n" // a header of any kind before a signature that is not ours
    "    assert(not set:verify(b64(rest) .. '.e30.AAAA'))\n"
    "    set:open(b64(rest) .. '.AAAA.AAAA.AAAA.AAAA')\n"
    "  elseif kind == 2 and #rest < 16384 then\n" // claims that are well signed
    "    local token = assert(signer:sign(rest, { alg = 'HS256' }))\n"
    "    local claims, header = signer:verify(token)\n"
    "    if claims then assert(type(claims) == 'table'); jwt.copy(claims) end\n"
    "    assert(signer:open(token) == rest)\n"
    "  elseif kind == 3 then\n"
    "    jwt.keyset({ algorithms = all, jwks = rest })\n"
    "  elseif kind == 4 then\n"
    "    jwt.keyset({ algorithms = all, keys = { rest } })\n"
    "    jwt.keyset({ algorithms = all, keys = { { pem = rest } } })\n"
    "  elseif kind == 5 then\n" // an encrypted token whose header is well formed
    "    local heads = { '{\"alg\":\"dir\",\"enc\":\"A128GCM\"}',\n"
    "      '{\"alg\":\"A128KW\",\"enc\":\"A128CBC-HS256\"}',\n"
    "      '{\"alg\":\"ECDH-ES\",\"enc\":\"A128GCM\",\"epk\":{\"kty\":\"EC\",\"crv\":\"P-256\",'\n"
    "      .. '\"x\":\"' .. ec.x .. '\",\"y\":\"' .. ec.y .. '\"}}' }\n"
    "    for _, head in ipairs(heads) do\n"
    "      assert(not set:verify(b64(head) .. '.' .. rest))\n"
    "    end\n"
    "  end\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static lua_State *L;
    if (L == NULL) {
        L = fuzz_new_state();
        fuzz_open_plugin(L, &moon_plugin_json);
        fuzz_open_plugin(L, &moon_plugin_crypto);
        fuzz_open_plugin(L, &moon_plugin_jwt);
        fuzz_prepare(L, PREPARE);
    }
    fuzz_call(L, data, size);
    return 0;
}
