/* SPDX-License-Identifier: Apache-2.0 */
#include "moongate/plugin.h"

#include "crypto/base64.h"
#include "json/value.h"
#include "jwt/keyset.h"
#include "jwt/memo.h"

#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#define PARTS_MAX 5
#define HEADER_DEPTH 8
#define CLAIMS_DEPTH 32
#define TRIES_MAX 16
#define COPY_MAX 65536 // values; no token has as many

static const struct moon_host *host;

const struct moon_host *jwt_host(void)
{
    return host;
}

// What the parts of a token decode to. One token is read at a time and nothing outlives the call.
static uint8_t scratch[JOSE_TOKEN_MAX + 64];
static uint8_t plain[JOSE_TOKEN_MAX + 64];
static size_t scratch_used;

struct refusal {
    const char *reason; // what policies give on: "TokenSignatureInvalid"
    const char *message;
};

static const struct refusal NOT_A_TOKEN = {"JwtInvalid", "the token is not of the compact form"};
static const struct refusal BAD_HEADER = {"JwtInvalid", "the token's header is not valid"};

struct token {
    struct moon_slice parts[PARTS_MAX];
    int count;
    const struct jose_algorithm *algorithm;
    struct moon_slice kid; // data NULL: none
    int header;            // stack index of its table
};

// Splits at the dots. 0: too long, or too many parts.
static int split(struct moon_slice text, struct moon_slice *parts)
{
    int count = 0;
    const char *at = text.data, *end = text.data + text.len;
    if (text.len > JOSE_TOKEN_MAX) {
        return 0;
    }
    while (count < PARTS_MAX) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const char *stop = dot != NULL ? dot : end;
        parts[count++] = (struct moon_slice){at, (size_t)(stop - at)};
        if (dot == NULL) {
            return count;
        }
        at = dot + 1;
    }
    return 0;
}

// Decodes a part into the scratch. The parts of one token always fit.
static bool decode_part(struct moon_slice part, struct moon_slice *out)
{
    size_t len;
    if (scratch_used + MOON_BASE64_DECODED_MAX(part.len) > sizeof scratch ||
        !moon_base64_decode(MOON_BASE64_URL, part, scratch + scratch_used, &len)) {
        return false;
    }
    *out = (struct moon_slice){(const char *)scratch + scratch_used, len};
    scratch_used += len;
    return true;
}

// The string member of the table at `index`, lent by the table. `data` NULL: absent or no string.
static struct moon_slice field(lua_State *L, int index, const char *name)
{
    struct moon_slice s = {NULL, 0};
    lua_getfield(L, index, name);
    if (lua_type(L, -1) == LUA_TSTRING) {
        s.data = lua_tolstring(L, -1, &s.len);
    }
    lua_pop(L, 1);
    return s;
}

static bool has_member(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    bool has = !lua_isnil(L, -1);
    lua_pop(L, 1);
    return has;
}

// Pushes the header's table and takes what matters out of it.
static const struct refusal *read_header(lua_State *L, const struct keyset *set, struct token *t)
{
    static const struct refusal NOT_LISTED = {"JwtInvalid",
                                              "the token's algorithm is not accepted"};
    static const struct refusal CRITICAL = {"JwtInvalid",
                                            "the token has a critical header that is not known"};
    struct moon_slice json;
    struct moon_json_reader reader;
    scratch_used = 0;
    if (!decode_part(t->parts[0], &json)) {
        return &BAD_HEADER;
    }
    json_reader_init(&reader, json, (char *)(uintptr_t)json.data, HEADER_DEPTH);
    if (json_push(L, &reader, true, NULL) != NULL) {
        return &BAD_HEADER;
    }
    t->header = lua_gettop(L);
    if (!lua_istable(L, t->header) || lua_objlen(L, t->header) != 0) {
        return &BAD_HEADER;
    }
    if (has_member(L, t->header, "crit") || has_member(L, t->header, "b64")) {
        return &CRITICAL; // no extension is known here, b64 (RFC 7797) least of all
    }
    struct moon_slice alg = field(L, t->header, "alg");
    t->kid = field(L, t->header, "kid");
    if (alg.data == NULL || (t->kid.data == NULL && has_member(L, t->header, "kid"))) {
        return &BAD_HEADER;
    }
    t->algorithm = jose_find_algorithm(alg);
    if (t->algorithm == NULL || (set->allowed >> t->algorithm->id & 1) == 0) {
        return &NOT_LISTED;
    }
    return NULL;
}

static bool is_candidate(const struct jose_key *key, const struct token *t, bool by_kid)
{
    if (by_kid) {
        return key->kid != NULL && t->kid.data != NULL && key->kid_len == t->kid.len &&
               memcmp(key->kid, t->kid.data, t->kid.len) == 0;
    }
    return t->kid.data == NULL || key->kid == NULL;
}

// A token that names its key is held to it; where no key has that name, those without one are tried.
static bool knows_kid(const struct keyset *set, const struct token *t)
{
    for (size_t i = 0; t->kid.data != NULL && i < set->count; i++) {
        if (is_candidate(set->keys[i], t, true)) {
            return true;
        }
    }
    return false;
}

typedef bool (*try_fn)(struct jose_key *key, void *with);

static const struct refusal *try_keys(struct keyset *set, const struct token *t, try_fn try,
                                      void *with, const struct refusal *wrong)
{
    static const struct refusal NO_KEY = {"TokenSignatureKeyNotFound",
                                          "no key is known for the token"};
    bool by_kid = knows_kid(set, t);
    int tries = 0;
    for (size_t i = 0; i < set->count && tries < TRIES_MAX; i++) {
        struct jose_key *key = set->keys[i];
        if (!is_candidate(key, t, by_kid) || (key->allowed >> t->algorithm->id & 1) == 0) {
            continue;
        }
        tries++;
        if (try(key, with)) {
            return NULL;
        }
    }
    return tries > 0 || by_kid ? wrong : &NO_KEY;
}

struct signed_token {
    const struct jose_algorithm *algorithm;
    struct moon_slice input, signature;
};

static bool try_verify(struct jose_key *key, void *with)
{
    const struct signed_token *s = with;
    return jose_verify(key, s->algorithm, s->input, s->signature);
}

// A signed token whose header was read: verifies it and decodes its payload.
static const struct refusal *open_signed(struct keyset *set, const struct token *t,
                                         struct moon_slice *payload)
{
    static const struct refusal WRONG = {"TokenSignatureInvalid",
                                         "the token's signature does not fit"};
    struct signed_token s = {.algorithm = t->algorithm};
    if (t->algorithm->family > JOSE_FAMILY_EDDSA || !decode_part(t->parts[2], &s.signature) ||
        !decode_part(t->parts[1], payload)) {
        return &NOT_A_TOKEN;
    }
    s.input.data = t->parts[0].data;
    s.input.len = (size_t)(t->parts[1].data + t->parts[1].len - t->parts[0].data);
    return try_keys(set, t, try_verify, &s, &WRONG);
}

struct sealed_token {
    struct jose_jwe jwe;
    size_t len;
};

static bool try_decrypt(struct jose_key *key, void *with)
{
    struct sealed_token *s = with;
    return jose_decrypt(key, &s->jwe, plain, &s->len);
}

// What the header of an encrypted token adds for its key management.
static bool read_agreement(lua_State *L, int header, struct jose_jwe *jwe)
{
    struct moon_slice s;
    struct {
        const char *name;
        struct moon_slice *into;
    } coded[] = {
        {"iv", &jwe->kw_iv}, {"tag", &jwe->kw_tag}, {"apu", &jwe->apu}, {"apv", &jwe->apv}};
    for (size_t i = 0; i < sizeof coded / sizeof coded[0]; i++) {
        s = field(L, header, coded[i].name);
        if (s.data != NULL && !decode_part(s, coded[i].into)) {
            return false;
        }
    }
    lua_getfield(L, header, "epk");
    if (lua_istable(L, -1)) {
        jwe->epk_crv = field(L, lua_gettop(L), "crv");
        jwe->epk_x = field(L, lua_gettop(L), "x");
        jwe->epk_y = field(L, lua_gettop(L), "y");
    }
    lua_pop(L, 1);
    return true;
}

static const struct refusal *open_sealed(lua_State *L, struct keyset *set, const struct token *t,
                                         struct moon_slice *payload)
{
    static const struct refusal WRONG = {"TokenSignatureInvalid", "the token cannot be decrypted"};
    static const struct refusal UNKNOWN = {"JwtInvalid",
                                           "the token's encryption or compression is not accepted"};
    struct sealed_token s = {.len = 0};
    s.jwe.algorithm = t->algorithm;
    s.jwe.aad = t->parts[0];
    s.jwe.enc = field(L, t->header, "enc");
    s.jwe.encryption = s.jwe.enc.data != NULL ? jose_find_encryption(s.jwe.enc) : NULL;
    // Compressed contents are refused: they tell of themselves by their length, and swell.
    if (s.jwe.encryption == NULL || has_member(L, t->header, "zip")) {
        return &UNKNOWN;
    }
    if (t->algorithm->family < JOSE_FAMILY_RSA_OAEP ||
        !decode_part(t->parts[1], &s.jwe.encrypted_key) || !decode_part(t->parts[2], &s.jwe.iv) ||
        !decode_part(t->parts[3], &s.jwe.ciphertext) || !decode_part(t->parts[4], &s.jwe.tag) ||
        !read_agreement(L, t->header, &s.jwe)) {
        return &NOT_A_TOKEN;
    }
    const struct refusal *refusal = try_keys(set, t, try_decrypt, &s, &WRONG);
    *payload = (struct moon_slice){(const char *)plain, s.len};
    return refusal;
}

// Reads the header and opens the token. On success `payload` lies in the scratch or in `plain`, and
// the header's table is on the stack.
static const struct refusal *open_token(lua_State *L, struct keyset *set, struct moon_slice text,
                                        struct token *t, struct moon_slice *payload)
{
    t->count = split(text, t->parts);
    if (t->count != 3 && t->count != 5) {
        return &NOT_A_TOKEN;
    }
    const struct refusal *refusal = read_header(L, set, t);
    if (refusal != NULL) {
        return refusal;
    }
    return t->count == 3 ? open_signed(set, t, payload) : open_sealed(L, set, t, payload);
}

static struct moon_slice check_token(lua_State *L, const char *method)
{
    struct moon_slice text;
    if (lua_type(L, 2) != LUA_TSTRING) {
        (void)luaL_error(L, "keyset:%s: token must be a string, got %s", method,
                         luaL_typename(L, 2));
    }
    text.data = lua_tolstring(L, 2, &text.len);
    host->charge(L, 3000); // a signature costs about 30 microseconds
    return text;
}

static int push_refusal(lua_State *L, const struct refusal *refusal)
{
    lua_pushnil(L);
    lua_pushstring(L, refusal->reason);
    lua_pushstring(L, refusal->message);
    return 3;
}

/// keyset:open(token) -> bytes, header | nil, reason, message
/// The payload of a signed token, or the contents of an encrypted one, whatever they are.
static int keyset_open(lua_State *L)
{
    struct keyset *set = jwt_keyset_check(L, 1, "open");
    struct moon_slice text = check_token(L, "open");
    struct token t = {.count = 0};
    struct moon_slice payload;
    const struct refusal *refusal = open_token(L, set, text, &t, &payload);
    if (refusal != NULL) {
        return push_refusal(L, refusal);
    }
    lua_pushlstring(L, payload.data, payload.len);
    lua_pushvalue(L, t.header);
    return 2;
}

/// keyset:verify(token) -> claims, header | nil, reason, message
/// A JWT: signed, or encrypted and signed within (without, where require_signed is false). Neither
/// times nor other claims are looked at here: moongate.claims does that.
/// Reasons: JwtInvalid, TokenSignatureInvalid, TokenSignatureKeyNotFound.
static int keyset_verify(lua_State *L)
{
    static const struct refusal UNSIGNED = {"JwtInvalid", "the encrypted token is not signed"};
    static const struct refusal NO_CLAIMS = {"JwtInvalid", "the token's claims are not valid"};
    struct keyset *set = jwt_keyset_check(L, 1, "verify");
    struct moon_slice text = check_token(L, "verify");
    struct token t = {.count = 0};
    struct moon_slice payload;
    lua_settop(L, 2);
    const struct refusal *refusal = open_token(L, set, text, &t, &payload);
    if (refusal == NULL && t.count == 5 && (payload.len == 0 || payload.data[0] != '{')) {
        struct moon_slice nested = payload; // in `plain`, while the scratch is used anew
        bool is_signed = split(nested, t.parts) == 3;
        refusal = is_signed ? open_token(L, set, nested, &t, &payload) : &NOT_A_TOKEN;
    }
    if (refusal == NULL && t.count == 5 && set->requires_signature) {
        refusal = &UNSIGNED;
    }
    if (refusal != NULL) {
        return push_refusal(L, refusal);
    }
    struct moon_json_reader reader;
    json_reader_init(&reader, payload, (char *)(uintptr_t)payload.data, CLAIMS_DEPTH);
    if (json_push(L, &reader, true, NULL) != NULL || !lua_istable(L, -1) ||
        payload.data[strspn(payload.data, " \t\r\n")] != '{') {
        return push_refusal(L, &NO_CLAIMS);
    }
    lua_pushvalue(L, t.header);
    return 2;
}

/// keyset:sign(payload, {alg = "RS256", kid = "1", typ = "JWT"}) -> token | nil, error
/// For tests and for tokens that a gateway makes itself.
static int keyset_sign(lua_State *L)
{
    struct keyset *set = jwt_keyset_check(L, 1, "sign");
    struct moon_slice payload = check_token(L, "sign");
    if (payload.len > JOSE_TOKEN_MAX / 2 || !lua_istable(L, 3)) {
        return luaL_error(L, "keyset:sign: a payload of up to 16 KiB and options are required");
    }
    struct moon_slice alg = field(L, 3, "alg"), kid = field(L, 3, "kid");
    const struct jose_algorithm *algorithm = alg.data != NULL ? jose_find_algorithm(alg) : NULL;
    if (algorithm == NULL) {
        return luaL_error(L, "keyset:sign: alg is not known");
    }
    lua_settop(L, 3);
    const char *error = json_write(L, 3, HEADER_DEPTH);
    if (error != NULL || lua_objlen(L, 4) > 1024) {
        return luaL_error(L, "keyset:sign: the header cannot be written");
    }
    struct moon_slice header;
    header.data = lua_tolstring(L, 4, &header.len);
    char *out = (char *)plain;
    size_t n = moon_base64_encode(MOON_BASE64_URL, (const uint8_t *)header.data, header.len, out);
    out[n++] = '.';
    n += moon_base64_encode(MOON_BASE64_URL, (const uint8_t *)payload.data, payload.len, out + n);
    struct token t = {.algorithm = algorithm, .kid = kid};
    uint8_t signature[JOSE_SIGNATURE_MAX];
    size_t len;
    for (size_t i = 0; i < set->count; i++) {
        if (is_candidate(set->keys[i], &t, kid.data != NULL) &&
            jose_sign(set->keys[i], algorithm, (struct moon_slice){out, n}, signature, &len)) {
            out[n++] = '.';
            n += moon_base64_encode(MOON_BASE64_URL, signature, len, out + n);
            lua_pushlstring(L, out, n);
            return 1;
        }
    }
    lua_pushnil(L);
    lua_pushliteral(L, "no key of the set can sign so");
    return 2;
}

/// keyset:size() -> how many keys can be used, how many were left out
static int keyset_size(lua_State *L)
{
    const struct keyset *set = jwt_keyset_check(L, 1, "size");
    lua_pushinteger(L, (lua_Integer)set->count);
    lua_pushinteger(L, (lua_Integer)set->skipped);
    return 2;
}

/// jwt.now() -> seconds since the epoch, with the specs' virtual clock
static int jwt_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)host->wall_ms() / 1000);
    return 1;
}

// A copy of the table at `from` (absolute) is pushed. The depth is that of claims that were read, and
// bounded again here.
static void copy_table(lua_State *L, int from, int depth, // NOLINT(misc-no-recursion)
                       uint32_t *left)
{
    if (depth == 0 || lua_checkstack(L, 6) == 0) {
        (void)luaL_error(L, "jwt.copy: nested too deeply");
    }
    int items = (int)lua_objlen(L, from);
    lua_createtable(L, items, items > 0 ? 0 : 8);
    int to = lua_gettop(L);
    if (lua_getmetatable(L, from) != 0) {
        (void)lua_setmetatable(L, to);
    }
    lua_pushnil(L);
    while (lua_next(L, from) != 0) {
        if ((*left)-- == 0) {
            (void)luaL_error(L, "jwt.copy: more than %d values", COPY_MAX);
        }
        lua_pushvalue(L, -2);
        if (lua_istable(L, -2)) {
            copy_table(L, to + 2, depth - 1, left);
        } else {
            lua_pushvalue(L, to + 2);
        }
        lua_rawset(L, to);
        lua_pop(L, 1);
    }
}

/// jwt.copy(claims) -> a copy that its receiver may change
static int jwt_copy(lua_State *L)
{
    if (!lua_istable(L, 1)) {
        return luaL_error(L, "jwt.copy: claims must be a table, got %s", luaL_typename(L, 1));
    }
    uint32_t left = COPY_MAX;
    copy_table(L, 1, CLAIMS_DEPTH + 1, &left);
    return 1;
}

/// jwt.is_algorithm(name) -> whether it may be listed
static int jwt_is_algorithm(lua_State *L)
{
    struct moon_slice name = {"", 0};
    if (lua_type(L, 1) == LUA_TSTRING) {
        name.data = lua_tolstring(L, 1, &name.len);
    }
    lua_pushboolean(L, jose_find_algorithm(name) != NULL);
    return 1;
}

static void jwt_attach(lua_State *L)
{
    static const luaL_Reg METHODS[] = {{"verify", keyset_verify},
                                       {"open", keyset_open},
                                       {"sign", keyset_sign},
                                       {"size", keyset_size},
                                       {NULL, NULL}};
    if (luaL_newmetatable(L, KEYSET_TYPE) != 0) {
        lua_newtable(L);
        for (const luaL_Reg *m = METHODS; m->name != NULL; m++) {
            lua_pushcfunction(L, m->func);
            lua_setfield(L, -2, m->name);
        }
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, jwt_keyset_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "jwt.keyset");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    jwt_memo_open(L);
}

static int jwt_open(const struct moon_host *given)
{
    host = given;
    if (!jose_open()) {
        host->log(MOON_LOG_ERROR, "jwt: OpenSSL does not have the digests that are needed");
        jose_close();
        return -1;
    }
    return 0;
}

static void jwt_close(void)
{
    jose_close();
    OPENSSL_cleanse(plain, sizeof plain);
    OPENSSL_cleanse(scratch, sizeof scratch);
}

static const luaL_Reg jwt_functions[] = {{"keyset", jwt_keyset_new},
                                         {"memo", jwt_memo_new},
                                         {"now", jwt_now},
                                         {"copy", jwt_copy},
                                         {"is_algorithm", jwt_is_algorithm},
                                         {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "jwt",
                                                          .functions = jwt_functions,
                                                          .open = jwt_open,
                                                          .close = jwt_close,
                                                          .attach = jwt_attach};
