/* SPDX-License-Identifier: Apache-2.0 */

/// Nanoseconds of what the native plugins do on the request path: tokens (verified, and remembered),
/// patterns, sets of literals, countries. Run from the project's root: `bench_jwt [country.mmdb]`.

#include "../spec/fuzz/plugin_host.h"

#include <stdio.h>
#include <time.h>

extern const struct moon_plugin moon_plugin_json;
extern const struct moon_plugin moon_plugin_crypto;
extern const struct moon_plugin moon_plugin_jwt;
extern const struct moon_plugin moon_plugin_regex;
extern const struct moon_plugin moon_plugin_geo;

static const char CHUNK[] =
    "local mmdb = ...\n"
    "package.path = 'lua/?.lua;' .. package.path\n"
    "package.preload['moongate.jwt'] = function() return jwt end\n"
    "local claims = require('moongate.claims')\n"
    "local function run(name, n, f, a, b, c)\n"
    "  local best = math.huge\n"
    "  for _ = 1, 5 do\n"
    "    local from = cpu_s()\n"
    "    for _ = 1, n do f(a, b, c) end\n"
    "    best = math.min(best, cpu_s() - from)\n"
    "  end\n"
    "  print(('%-44s %9.1f ns'):format(name, best / n * 1e9))\n"
    "end\n"
    "local payload = json.encode({ sub = 'alice', iss = 'https://id.contoso.test', iat = 1e9,\n"
    "  aud = 'api://orders', exp = 4e9, scope = 'orders.read orders.write', name = 'Alice' })\n"
    "local function pem(command)\n"
    "  local pipe = io.popen('openssl genpkey ' .. command .. ' 2>/dev/null')\n"
    "  local text = pipe:read('*a'); pipe:close()\n"
    "  return text\n"
    "end\n"
    "local keys = { HS256 = { kty = 'oct', value = ('k'):rep(64) },\n"
    "  RS256 = { pem = pem('-algorithm RSA -pkeyopt rsa_keygen_bits:2048') },\n"
    "  ES256 = { pem = pem('-algorithm EC -pkeyopt ec_paramgen_curve:P-256') },\n"
    "  EdDSA = { pem = pem('-algorithm ED25519') } }\n"
    "for _, alg in ipairs({ 'HS256', 'RS256', 'ES256', 'EdDSA' }) do\n"
    "  local set = assert(jwt.keyset({ keys = { keys[alg] }, algorithms = { alg } }))\n"
    "  local token = assert(set:sign(payload, { alg = alg, typ = 'JWT' }))\n"
    "  run(alg .. ', verified', alg == 'HS256' and 50000 or 5000, set.verify, set, token)\n"
    "  local rules = claims.rules({ issuers = { 'https://id.contoso.test' },\n"
    "    audiences = { 'api://orders' }, required_claims = { scope = 'orders.read' } })\n"
    "  assert(rules:verify(set, token))\n"
    "  assert(rules:recall(token, set).sub == 'alice')\n"
    "  run(alg .. ', remembered', 500000, rules.recall, rules, token, set)\n"
    "end\n"
    "local agent = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like '\n"
    "  .. 'Gecko) Chrome/120.0.0.0 Safari/537.36'\n"
    "local r = regex.new('(?:bot|crawl|spider)\\\\b', 'i')\n"
    "run('regex:test, 111 bytes, no match', 500000, r.test, r, agent)\n"
    "local texts, patterns = {}, {}\n"
    "for i = 1, 500 do texts[i] = ('agent%d/bot'):format(i) end\n"
    "for i = 1, 200 do patterns[i] = ('^tool%d[-/]\\\\d+|scan%d\\\\b'):format(i, i) end\n"
    "local literals, set = regex.literals(texts), regex.set(patterns, 'i')\n"
    "run('500 literals, no match', 500000, literals.test, literals, agent)\n"
    "run('200 patterns in a set, no match', 500000, set.test, set, agent)\n"
    "run('sha256 of 64 bytes', 200000, crypto.sha256, ('x'):rep(64))\n"
    "run('json.decode of the claims', 200000, json.decode, payload)\n"
    "local db = mmdb and geo.open(mmdb)\n"
    "if db then\n"
    "  run('country of an address', 500000, db.country, db, '81.2.69.160')\n"
    "  run('all of an address', 200000, db.lookup, db, '81.2.69.160')\n"
    "end\n";

static int cpu_s(lua_State *L)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
    return 1;
}

int main(int argc, char **argv)
{
    lua_State *L = fuzz_new_state();
    fuzz_open_plugin(L, &moon_plugin_json);
    fuzz_open_plugin(L, &moon_plugin_crypto);
    fuzz_open_plugin(L, &moon_plugin_jwt);
    fuzz_open_plugin(L, &moon_plugin_regex);
    fuzz_open_plugin(L, &moon_plugin_geo);
    lua_register(L, "cpu_s", cpu_s);
    int status = luaL_loadstring(L, CHUNK);
    if (status == 0) {
        lua_pushstring(L, argc > 1 ? argv[1] : NULL);
        status = lua_pcall(L, 1, 0, 0);
    }
    if (status != 0) {
        (void)fprintf(stderr, "bench_jwt: %s\n", lua_tostring(L, -1));
    }
    lua_close(L);
    return status == 0 ? 0 : 1;
}
