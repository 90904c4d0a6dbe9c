/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/base64.h"
#include "jwt/jose.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <string.h>

#define CEK_MAX 64
#define GCM_IV 12
#define TAG 16
#define PARTY_MAX 512

struct jose_encryption {
    const char *name;
    size_t cek;              // bytes of the content key
    const char *cipher;      // as OpenSSL names it
    enum jose_digest digest; // of the CBC forms
    bool is_gcm;
};

static const struct jose_encryption ENCRYPTIONS[] = {
    {"A128GCM", 16, "AES-128-GCM", JOSE_SHA256, true},
    {"A192GCM", 24, "AES-192-GCM", JOSE_SHA256, true},
    {"A256GCM", 32, "AES-256-GCM", JOSE_SHA256, true},
    {"A128CBC-HS256", 32, "AES-128-CBC", JOSE_SHA256, false},
    {"A192CBC-HS384", 48, "AES-192-CBC", JOSE_SHA384, false},
    {"A256CBC-HS512", 64, "AES-256-CBC", JOSE_SHA512, false}};

const struct jose_encryption *jose_find_encryption(struct moon_slice name)
{
    for (size_t i = 0; i < sizeof ENCRYPTIONS / sizeof ENCRYPTIONS[0]; i++) {
        const struct jose_encryption *e = &ENCRYPTIONS[i];
        if (strlen(e->name) == name.len && memcmp(e->name, name.data, name.len) == 0) {
            return e;
        }
    }
    return NULL;
}

static const uint8_t *bytes_of(struct moon_slice s)
{
    return (const uint8_t *)(s.data != NULL ? s.data : "");
}

// Decrypts with a cipher in its usual form: CBC with padding, or GCM where `tag` is given.
static bool open_cipher(const char *name, const uint8_t *key, struct moon_slice iv,
                        struct moon_slice aad, struct moon_slice in, struct moon_slice tag,
                        uint8_t *out, size_t *n_out)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int len = 0, last = 0, ignored = 0;
    bool is_well = cipher != NULL && context != NULL &&
                   iv.len == (size_t)EVP_CIPHER_get_iv_length(cipher) &&
                   EVP_DecryptInit_ex2(context, cipher, key, bytes_of(iv), NULL) == 1;
    if (is_well && tag.data != NULL) {
        is_well = EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, (int)tag.len,
                                      (void *)(uintptr_t)tag.data) == 1 &&
                  (aad.len == 0 ||
                   EVP_DecryptUpdate(context, NULL, &ignored, bytes_of(aad), (int)aad.len) == 1);
    }
    is_well = is_well && EVP_DecryptUpdate(context, out, &len, bytes_of(in), (int)in.len) == 1 &&
              EVP_DecryptFinal_ex(context, out + len, &last) == 1;
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(cipher);
    *n_out = is_well ? (size_t)(len + last) : 0;
    return is_well;
}

// The tag of the CBC forms (RFC 7518, 5.2.2.1): half of an HMAC over header, IV, text and length.
static bool is_tag_right(const struct jose_encryption *e, const uint8_t *cek,
                         const struct jose_jwe *jwe)
{
    uint8_t mac[EVP_MAX_MD_SIZE], bits[8];
    size_t half = e->cek / 2, len = 0;
    uint64_t aad_bits = (uint64_t)jwe->aad.len * 8;
    for (int i = 0; i < 8; i++) {
        bits[i] = (uint8_t)(aad_bits >> (56 - 8 * i));
    }
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(hmac);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                         (char *)(uintptr_t)jose_md_name(e->digest), 0),
        OSSL_PARAM_construct_end()};
    bool is_well = context != NULL && EVP_MAC_init(context, cek, half, params) == 1 &&
                   EVP_MAC_update(context, bytes_of(jwe->aad), jwe->aad.len) == 1 &&
                   EVP_MAC_update(context, bytes_of(jwe->iv), jwe->iv.len) == 1 &&
                   EVP_MAC_update(context, bytes_of(jwe->ciphertext), jwe->ciphertext.len) == 1 &&
                   EVP_MAC_update(context, bits, sizeof bits) == 1 &&
                   EVP_MAC_final(context, mac, &len, sizeof mac) == 1;
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(hmac);
    return is_well && jwe->tag.len == half && len >= half &&
           CRYPTO_memcmp(mac, jwe->tag.data, half) == 0;
}

static bool open_content(const struct jose_jwe *jwe, const uint8_t *cek, uint8_t *out,
                         size_t *n_out)
{
    const struct jose_encryption *e = jwe->encryption;
    const struct moon_slice none = {NULL, 0};
    if (e->is_gcm) {
        return jwe->iv.len == GCM_IV && jwe->tag.len == TAG &&
               open_cipher(e->cipher, cek, jwe->iv, jwe->aad, jwe->ciphertext, jwe->tag, out,
                           n_out);
    }
    return is_tag_right(e, cek, jwe) && open_cipher(e->cipher, cek + e->cek / 2, jwe->iv, none,
                                                    jwe->ciphertext, none, out, n_out);
}

static bool unwrap_rsa(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *cek)
{
    const EVP_MD *md = jose_md(jwe->algorithm->digest);
    uint8_t room[2048]; // RSA of 16,384 bits
    size_t len = sizeof room;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    bool is_well = context != NULL && EVP_PKEY_decrypt_init(context) == 1 &&
                   EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1 &&
                   EVP_PKEY_CTX_set_rsa_oaep_md(context, md) == 1 &&
                   EVP_PKEY_CTX_set_rsa_mgf1_md(context, md) == 1 &&
                   EVP_PKEY_decrypt(context, room, &len, bytes_of(jwe->encrypted_key),
                                    jwe->encrypted_key.len) == 1 &&
                   len == jwe->encryption->cek;
    EVP_PKEY_CTX_free(context);
    if (is_well) {
        memcpy(cek, room, len);
    }
    OPENSSL_cleanse(room, sizeof room);
    return is_well;
}

static bool unwrap_aes(const uint8_t *kek, size_t kek_len, const struct jose_jwe *jwe, uint8_t *cek)
{
    const char *name = kek_len == 16   ? "AES-128-WRAP"
                       : kek_len == 24 ? "AES-192-WRAP"
                                       : "AES-256-WRAP";
    uint8_t room[CEK_MAX + 16];
    if (jwe->encrypted_key.len != jwe->encryption->cek + 8) {
        return false;
    }
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int len = 0;
    bool is_well = cipher != NULL && context != NULL;
    if (is_well) {
        EVP_CIPHER_CTX_set_flags(context, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
        is_well = EVP_DecryptInit_ex2(context, cipher, kek, NULL, NULL) == 1 &&
                  EVP_DecryptUpdate(context, room, &len, bytes_of(jwe->encrypted_key),
                                    (int)jwe->encrypted_key.len) == 1 &&
                  (size_t)len == jwe->encryption->cek;
    }
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(cipher);
    if (is_well) {
        memcpy(cek, room, (size_t)len);
    }
    OPENSSL_cleanse(room, sizeof room);
    return is_well;
}

static bool unwrap_gcm(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *cek)
{
    const char *name = key->secret_len == 16   ? "AES-128-GCM"
                       : key->secret_len == 24 ? "AES-192-GCM"
                                               : "AES-256-GCM";
    const struct moon_slice none = {NULL, 0};
    size_t len;
    return jwe->encrypted_key.len == jwe->encryption->cek && jwe->kw_iv.len == GCM_IV &&
           jwe->kw_tag.len == TAG &&
           open_cipher(name, key->secret, jwe->kw_iv, none, jwe->encrypted_key, jwe->kw_tag, cek,
                       &len);
}

static void put_u32(uint8_t *to, size_t value)
{
    to[0] = (uint8_t)(value >> 24);
    to[1] = (uint8_t)(value >> 16);
    to[2] = (uint8_t)(value >> 8);
    to[3] = (uint8_t)value;
}

static size_t put_block(uint8_t *to, struct moon_slice s)
{
    put_u32(to, s.len);
    memcpy(to + 4, bytes_of(s), s.len);
    return 4 + s.len;
}

// Concat KDF with SHA-256 (RFC 7518, 4.6.2): at most two blocks are ever needed.
static bool derive(const uint8_t *secret, size_t secret_len, struct moon_slice name,
                   const struct jose_jwe *jwe, uint8_t *out, size_t need)
{
    uint8_t info[3 * 4 + 32 + 2 * PARTY_MAX + 4], block[EVP_MAX_MD_SIZE], round[4];
    if (jwe->apu.len > PARTY_MAX || jwe->apv.len > PARTY_MAX || name.len > 32) {
        return false;
    }
    size_t n = put_block(info, name);
    n += put_block(info + n, jwe->apu);
    n += put_block(info + n, jwe->apv);
    put_u32(info + n, need * 8);
    n += 4;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_well = context != NULL;
    for (size_t i = 0; is_well && i * 32 < need; i++) {
        unsigned len = 0;
        put_u32(round, i + 1);
        is_well = EVP_DigestInit_ex2(context, jose_md(JOSE_SHA256), NULL) == 1 &&
                  EVP_DigestUpdate(context, round, 4) == 1 &&
                  EVP_DigestUpdate(context, secret, secret_len) == 1 &&
                  EVP_DigestUpdate(context, info, n) == 1 &&
                  EVP_DigestFinal_ex(context, block, &len) == 1;
        memcpy(out + i * 32, block, need - i * 32 < 32 ? need - i * 32 : 32);
    }
    EVP_MD_CTX_free(context);
    OPENSSL_cleanse(block, sizeof block);
    return is_well;
}

static bool agree(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *secret, size_t *len)
{
    EVP_PKEY *peer = jose_peer_key(key, jwe->epk_crv, jwe->epk_x, jwe->epk_y);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    bool is_well = peer != NULL && context != NULL && EVP_PKEY_derive_init(context) == 1 &&
                   EVP_PKEY_derive_set_peer(context, peer) == 1 &&
                   EVP_PKEY_derive(context, secret, len) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    return is_well;
}

static bool unwrap_ecdh(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *cek)
{
    uint8_t secret[72], kek[CEK_MAX];
    size_t len = sizeof secret, wrap = jwe->algorithm->size;
    struct moon_slice name = jwe->enc;
    if (wrap != 0) {
        name = (struct moon_slice){jwe->algorithm->name, strlen(jwe->algorithm->name)};
    }
    bool is_well = agree(key, jwe, secret, &len);
    if (is_well && wrap == 0) {
        is_well = jwe->encrypted_key.len == 0 &&
                  derive(secret, len, name, jwe, cek, jwe->encryption->cek);
    } else if (is_well) {
        is_well = derive(secret, len, name, jwe, kek, wrap) && unwrap_aes(kek, wrap, jwe, cek);
    }
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(kek, sizeof kek);
    return is_well;
}

static bool take_direct(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *cek)
{
    if (jwe->encrypted_key.len != 0 || key->secret_len != jwe->encryption->cek ||
        (key->bound != NULL && key->bound != jwe->encryption)) {
        return false;
    }
    memcpy(cek, key->secret, key->secret_len);
    return true;
}

static bool unwrap(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *cek)
{
    switch (jwe->algorithm->family) {
    case JOSE_FAMILY_RSA_OAEP:
        return unwrap_rsa(key, jwe, cek);
    case JOSE_FAMILY_AES_KW:
        return unwrap_aes(key->secret, key->secret_len, jwe, cek);
    case JOSE_FAMILY_AES_GCMKW:
        return unwrap_gcm(key, jwe, cek);
    case JOSE_FAMILY_DIRECT:
        return take_direct(key, jwe, cek);
    case JOSE_FAMILY_ECDH:
        return unwrap_ecdh(key, jwe, cek);
    case JOSE_FAMILY_HMAC:
    case JOSE_FAMILY_RSA_PKCS1:
    case JOSE_FAMILY_RSA_PSS:
    case JOSE_FAMILY_ECDSA:
    case JOSE_FAMILY_EDDSA:
        break;
    }
    return false;
}

bool jose_decrypt(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *out, size_t *n_out)
{
    uint8_t cek[CEK_MAX + 32];
    bool is_well = (key->allowed >> jwe->algorithm->id & 1) != 0 && unwrap(key, jwe, cek) &&
                   open_content(jwe, cek, out, n_out);
    OPENSSL_cleanse(cek, sizeof cek);
    if (!is_well) {
        ERR_clear_error();
    }
    return is_well;
}
