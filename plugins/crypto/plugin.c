/* SPDX-License-Identifier: Apache-2.0 */
#include "moongate/plugin.h"

#include "crypto/base64.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>

#define RANDOM_MAX 65536
#define TEXT_MAX ((size_t)64 << 20)

static const struct moon_host *host;

// Fetched once: a fetch by name on every call is what makes OpenSSL 3.0 slow.
static struct digest {
    const char *name;    // as policies write it
    const char *openssl; // as OpenSSL does
    EVP_MD *md;
} digests[] = {{"sha1", "SHA1", NULL},
               {"sha256", "SHA256", NULL},
               {"sha384", "SHA384", NULL},
               {"sha512", "SHA512", NULL}};

#define DIGESTS (sizeof digests / sizeof digests[0])

static EVP_MD_CTX *context;
static EVP_MAC *hmac;

static struct moon_slice check_string(lua_State *L, int index, const char *what)
{
    struct moon_slice s;
    if (lua_type(L, index) != LUA_TSTRING) {
        (void)luaL_error(L, "crypto.%s must be a string, got %s", what, luaL_typename(L, index));
    }
    s.data = lua_tolstring(L, index, &s.len);
    if (s.len > TEXT_MAX) {
        (void)luaL_error(L, "crypto.%s must not be longer than 64 MiB", what);
    }
    host->charge(L, (uint32_t)(s.len / 8) + 20);
    return s;
}

static const struct digest *find_digest(const char *name)
{
    for (size_t i = 0; name != NULL && i < DIGESTS; i++) {
        if (strcmp(digests[i].name, name) == 0) {
            return &digests[i];
        }
    }
    return NULL;
}

static int push_digest(lua_State *L, const struct digest *d, struct moon_slice data)
{
    uint8_t out[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (EVP_DigestInit_ex2(context, d->md, NULL) != 1 ||
        EVP_DigestUpdate(context, data.data, data.len) != 1 ||
        EVP_DigestFinal_ex(context, out, &len) != 1) {
        return luaL_error(L, "crypto.%s: OpenSSL failed", d->name);
    }
    lua_pushlstring(L, (const char *)out, len);
    return 1;
}

/// crypto.sha1(data) -> the digest's raw bytes; likewise sha256, sha384, sha512
static int crypto_sha1(lua_State *L)
{
    return push_digest(L, &digests[0], check_string(L, 1, "sha1: data"));
}

static int crypto_sha256(lua_State *L)
{
    return push_digest(L, &digests[1], check_string(L, 1, "sha256: data"));
}

static int crypto_sha384(lua_State *L)
{
    return push_digest(L, &digests[2], check_string(L, 1, "sha384: data"));
}

static int crypto_sha512(lua_State *L)
{
    return push_digest(L, &digests[3], check_string(L, 1, "sha512: data"));
}

/// crypto.hmac(digest, key, data) -> raw bytes; digest is "sha1", "sha256", "sha384" or "sha512"
/// @lua-raises "crypto.hmac: unknown digest md5"
static int crypto_hmac(lua_State *L)
{
    struct moon_slice name = check_string(L, 1, "hmac: digest");
    struct moon_slice key = check_string(L, 2, "hmac: key");
    struct moon_slice data = check_string(L, 3, "hmac: data");
    const struct digest *d = find_digest(name.data);
    if (d == NULL) {
        return luaL_error(L, "crypto.hmac: unknown digest %s", name.data);
    }
    uint8_t out[EVP_MAX_MD_SIZE];
    size_t len = 0;
    OSSL_PARAM params[2] = {
        OSSL_PARAM_construct_utf8_string("digest", (char *)(uintptr_t)d->openssl, 0),
        OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
    // An empty key is legal, and NULL would mean the one before.
    const uint8_t *key_bytes = (const uint8_t *)(key.len > 0 ? key.data : "");
    bool is_done = mac != NULL && EVP_MAC_init(mac, key_bytes, key.len, params) == 1 &&
                   EVP_MAC_update(mac, (const uint8_t *)data.data, data.len) == 1 &&
                   EVP_MAC_final(mac, out, &len, sizeof out) == 1;
    EVP_MAC_CTX_free(mac);
    if (!is_done) {
        return luaL_error(L, "crypto.hmac: OpenSSL failed");
    }
    lua_pushlstring(L, (const char *)out, len);
    return 1;
}

/// crypto.random(n) -> n unpredictable bytes
/// @lua-raises "crypto.random: n must be 1 to 65536"
static int crypto_random(lua_State *L)
{
    lua_Number n = lua_type(L, 1) == LUA_TNUMBER ? lua_tonumber(L, 1) : 0;
    if (!(n >= 1 && n <= RANDOM_MAX)) {
        return luaL_error(L, "crypto.random: n must be 1 to %d", RANDOM_MAX);
    }
    int count = (int)n;
    host->charge(L, (uint32_t)count / 4 + 50);
    uint8_t *bytes = lua_newuserdata(L, (size_t)count);
    if (RAND_bytes(bytes, count) != 1) {
        return luaL_error(L, "crypto.random: OpenSSL failed");
    }
    lua_pushlstring(L, (const char *)bytes, (size_t)count);
    return 1;
}

/// crypto.equal(a, b) -> whether they are the same, in a time that does not depend on where they
/// differ (their lengths are no secret)
static int crypto_equal(lua_State *L)
{
    struct moon_slice a = check_string(L, 1, "equal: a");
    struct moon_slice b = check_string(L, 2, "equal: b");
    lua_pushboolean(L, a.len == b.len && CRYPTO_memcmp(a.data, b.data, a.len) == 0);
    return 1;
}

static int encode(lua_State *L, enum moon_base64_form form, const char *what)
{
    struct moon_slice s = check_string(L, 1, what);
    char small[512];
    size_t need = MOON_BASE64_ENCODED_MAX(s.len);
    char *out = need <= sizeof small ? small : lua_newuserdata(L, need);
    lua_pushlstring(L, out, moon_base64_encode(form, (const uint8_t *)s.data, s.len, out));
    return 1;
}

static int decode(lua_State *L, enum moon_base64_form form, const char *what)
{
    struct moon_slice s = check_string(L, 1, what);
    uint8_t small[512];
    size_t need = MOON_BASE64_DECODED_MAX(s.len), len;
    uint8_t *out = need <= sizeof small ? small : lua_newuserdata(L, need);
    if (!moon_base64_decode(form, s, out, &len)) {
        lua_pushnil(L);
        lua_pushstring(L, form == MOON_BASE64 ? "not base64" : "not base64url");
        return 2;
    }
    lua_pushlstring(L, (const char *)out, len);
    return 1;
}

/// crypto.base64(bytes) -> text, padded
static int crypto_base64(lua_State *L)
{
    return encode(L, MOON_BASE64, "base64: bytes");
}

/// crypto.from_base64(text) -> bytes | nil, error
static int crypto_from_base64(lua_State *L)
{
    return decode(L, MOON_BASE64, "from_base64: text");
}

/// crypto.base64url(bytes) -> text, without padding
static int crypto_base64url(lua_State *L)
{
    return encode(L, MOON_BASE64_URL, "base64url: bytes");
}

/// crypto.from_base64url(text) -> bytes | nil, error; padding is refused
static int crypto_from_base64url(lua_State *L)
{
    return decode(L, MOON_BASE64_URL, "from_base64url: text");
}

/// crypto.hex(bytes) -> text in lower case
static int crypto_hex(lua_State *L)
{
    static const char DIGITS[] = "0123456789abcdef";
    struct moon_slice s = check_string(L, 1, "hex: bytes");
    char small[256];
    char *out = s.len * 2 <= sizeof small ? small : lua_newuserdata(L, s.len * 2);
    for (size_t i = 0; i < s.len; i++) {
        out[2 * i] = DIGITS[(uint8_t)s.data[i] >> 4];
        out[2 * i + 1] = DIGITS[(uint8_t)s.data[i] & 15];
    }
    lua_pushlstring(L, out, s.len * 2);
    return 1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char low = (char)(c | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/// crypto.from_hex(text) -> bytes | nil, error
static int crypto_from_hex(lua_State *L)
{
    struct moon_slice s = check_string(L, 1, "from_hex: text");
    char small[256];
    char *out = s.len / 2 <= sizeof small ? small : lua_newuserdata(L, s.len / 2);
    bool is_hex = s.len % 2 == 0;
    for (size_t i = 0; is_hex && i < s.len / 2; i++) {
        int high = hex_digit(s.data[2 * i]), low = hex_digit(s.data[2 * i + 1]);
        is_hex = high >= 0 && low >= 0;
        out[i] = (char)(is_hex ? high << 4 | low : 0);
    }
    if (!is_hex) {
        lua_pushnil(L);
        lua_pushliteral(L, "not hexadecimal");
        return 2;
    }
    lua_pushlstring(L, out, s.len / 2);
    return 1;
}

static void crypto_close(void)
{
    for (size_t i = 0; i < DIGESTS; i++) {
        EVP_MD_free(digests[i].md);
        digests[i].md = NULL;
    }
    EVP_MD_CTX_free(context);
    context = NULL;
    EVP_MAC_free(hmac);
    hmac = NULL;
}

static int crypto_open(const struct moon_host *given)
{
    host = given;
    context = EVP_MD_CTX_new();
    hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    bool is_ready = context != NULL && hmac != NULL;
    for (size_t i = 0; i < DIGESTS; i++) {
        digests[i].md = EVP_MD_fetch(NULL, digests[i].openssl, NULL);
        is_ready = is_ready && digests[i].md != NULL;
    }
    if (!is_ready) {
        host->log(MOON_LOG_ERROR, "crypto: OpenSSL does not have the digests that are needed");
        crypto_close();
        return -1;
    }
    return 0;
}

static const luaL_Reg crypto_functions[] = {{"sha1", crypto_sha1},
                                            {"sha256", crypto_sha256},
                                            {"sha384", crypto_sha384},
                                            {"sha512", crypto_sha512},
                                            {"hmac", crypto_hmac},
                                            {"random", crypto_random},
                                            {"equal", crypto_equal},
                                            {"base64", crypto_base64},
                                            {"from_base64", crypto_from_base64},
                                            {"base64url", crypto_base64url},
                                            {"from_base64url", crypto_from_base64url},
                                            {"hex", crypto_hex},
                                            {"from_hex", crypto_from_hex},
                                            {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "crypto",
                                                          .functions = crypto_functions,
                                                          .open = crypto_open,
                                                          .close = crypto_close};
