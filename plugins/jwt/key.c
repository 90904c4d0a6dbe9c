/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/base64.h"
#include "jwt/jose.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define MEMBER_MAX 2732 // base64url of a number of 16,384 bits
#define NUMBER_MAX 2052
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 16384

static const char NO_MEMORY[] = "OpenSSL cannot make the key";

struct curve {
    enum jose_curve id;
    enum jose_kty kty;
    const char *crv;     // as a JWK names it
    const char *openssl; // as OpenSSL does
    size_t size;         // bytes of a coordinate, or of the key
};

static const struct curve CURVES[] = {{JOSE_P256, JOSE_KTY_EC, "P-256", "prime256v1", 32},
                                      {JOSE_P384, JOSE_KTY_EC, "P-384", "secp384r1", 48},
                                      {JOSE_P521, JOSE_KTY_EC, "P-521", "secp521r1", 66},
                                      {JOSE_ED25519, JOSE_KTY_OKP, "Ed25519", "ED25519", 32},
                                      {JOSE_ED448, JOSE_KTY_OKP, "Ed448", "ED448", 57},
                                      {JOSE_X25519, JOSE_KTY_OKP, "X25519", "X25519", 32},
                                      {JOSE_X448, JOSE_KTY_OKP, "X448", "X448", 56}};

static bool is_text(struct moon_slice s, const char *text)
{
    return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static const struct curve *find_curve(struct moon_slice crv)
{
    for (size_t i = 0; i < sizeof CURVES / sizeof CURVES[0]; i++) {
        if (is_text(crv, CURVES[i].crv)) {
            return &CURVES[i];
        }
    }
    return NULL;
}

// Which algorithms the key could serve by its type, size and curve.
static uint32_t possible(const struct jose_key *key)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < JOSE_ALGORITHMS; i++) {
        const struct jose_algorithm *a = &jose_algorithms[i];
        bool fits = false;
        switch (a->family) {
        case JOSE_FAMILY_HMAC:
            fits = key->kty == JOSE_KTY_OCT && key->secret_len >= a->size;
            break;
        case JOSE_FAMILY_AES_KW:
        case JOSE_FAMILY_AES_GCMKW:
            fits = key->kty == JOSE_KTY_OCT && key->secret_len == a->size;
            break;
        case JOSE_FAMILY_DIRECT:
            fits = key->kty == JOSE_KTY_OCT && key->secret_len >= 16;
            break;
        case JOSE_FAMILY_RSA_PKCS1:
        case JOSE_FAMILY_RSA_PSS:
            fits = key->kty == JOSE_KTY_RSA;
            break;
        case JOSE_FAMILY_RSA_OAEP:
            fits = key->kty == JOSE_KTY_RSA && key->has_private;
            break;
        case JOSE_FAMILY_ECDSA:
            fits = (a->id == JOSE_ES256 && key->curve == JOSE_P256) ||
                   (a->id == JOSE_ES384 && key->curve == JOSE_P384) ||
                   (a->id == JOSE_ES512 && key->curve == JOSE_P521);
            break;
        case JOSE_FAMILY_EDDSA:
            fits = key->curve == JOSE_ED25519 || key->curve == JOSE_ED448;
            break;
        case JOSE_FAMILY_ECDH:
            fits = key->has_private && (key->kty == JOSE_KTY_EC || key->curve == JOSE_X25519 ||
                                        key->curve == JOSE_X448);
            break;
        }
        mask |= fits ? 1U << i : 0;
    }
    return mask;
}

#define SIGNING ((1U << JOSE_RSA_OAEP) - 1)

static const char *bind_algorithm(struct jose_key *key, struct moon_slice alg, uint32_t *mask)
{
    const struct jose_algorithm *a = jose_find_algorithm(alg);
    if (a != NULL) {
        *mask &= 1U << a->id;
        return NULL;
    }
    if (key->kty == JOSE_KTY_OCT && jose_find_encryption(alg) != NULL) {
        *mask &= 1U << JOSE_DIR;
        key->bound = jose_find_encryption(alg);
        return NULL;
    }
    return "its alg is not known";
}

// What kid, alg, use and key_ops say, against what was listed.
static const char *restrict_key(struct jose_key *key, const struct jose_jwk *jwk, uint32_t allowed)
{
    uint32_t mask = possible(key);
    if (mask == 0) {
        return key->kty == JOSE_KTY_OCT ? "it is too short for any algorithm"
                                        : "it fits no algorithm";
    }
    if (jwk->alg.data != NULL) {
        const char *error = bind_algorithm(key, jwk->alg, &mask);
        if (error != NULL) {
            return error;
        }
        if (mask == 0) {
            return "it is too short or of the wrong kind for its alg";
        }
    }
    if (jwk->use.data != NULL) {
        mask &= is_text(jwk->use, "sig") ? SIGNING : is_text(jwk->use, "enc") ? ~SIGNING : 0;
    }
    if (jwk->has_key_ops) {
        mask &= (jwk->may_verify ? SIGNING : 0) | (jwk->may_decrypt ? ~SIGNING : 0);
    }
    if (mask == 0) {
        return "its use or key_ops forbid what it would be used for";
    }
    key->allowed = mask & allowed;
    if (key->allowed == 0) {
        return key->kty == JOSE_KTY_OCT && (allowed & possible(key)) == 0
                   ? "it is too short for the algorithms listed, or of another kind"
                   : "none of the algorithms listed may use it";
    }
    if (jwk->kid.data != NULL) {
        key->kid = malloc(jwk->kid.len + 1);
        if (key->kid == NULL) {
            return NO_MEMORY;
        }
        memcpy(key->kid, jwk->kid.data, jwk->kid.len);
        key->kid_len = jwk->kid.len;
    }
    return NULL;
}

static bool decode(struct moon_slice text, uint8_t *out, size_t room, size_t *len)
{
    return text.data != NULL && text.len > 0 && text.len <= MEMBER_MAX &&
           MOON_BASE64_DECODED_MAX(text.len) <= room + 3 &&
           moon_base64_decode(MOON_BASE64_URL, text, out, len) && *len <= room;
}

static BIGNUM *number(struct moon_slice text)
{
    uint8_t bytes[NUMBER_MAX + 3];
    size_t len;
    if (!decode(text, bytes, NUMBER_MAX, &len)) {
        return NULL;
    }
    BIGNUM *n = BN_bin2bn(bytes, (int)len, NULL);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return n;
}

// The mark of keys made by Infineon's faulty library (ROCA, CVE-2017-15361): modulo every small
// prime the modulus is a power of 65537. Of sound keys less than one in 2^27 looks so.
static bool is_roca(const BIGNUM *n)
{
    static const uint8_t PRIMES[] = {
        3,  5,  7,  11, 13, 17,  19,  23,  29,  31,  37,  41,  43,  47,  53,  59,  61,  67,  71,
        73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167};
    for (size_t i = 0; i < sizeof PRIMES; i++) {
        unsigned prime = PRIMES[i], residue = (unsigned)BN_mod_word(n, prime);
        unsigned power = 1;
        bool is_power = false;
        for (unsigned k = 0; k < prime && !is_power; k++) {
            is_power = power == residue;
            power = power * (65537 % prime) % prime;
        }
        if (!is_power) {
            return false;
        }
    }
    return true;
}

static const char *check_rsa(const BIGNUM *n, const BIGNUM *e)
{
    int bits = BN_num_bits(n);
    if (bits < RSA_BITS_MIN) {
        return "an RSA key must have 2048 bits or more";
    }
    if (bits > RSA_BITS_MAX) {
        return "an RSA key must not have more than 16384 bits";
    }
    if (!BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e) || BN_num_bits(e) > 256) {
        return "the RSA key's modulus or exponent is not sound";
    }
    return is_roca(n) ? "the RSA key was made by a faulty generator (ROCA)" : NULL;
}

static EVP_PKEY *from_params(const char *type, int selection, OSSL_PARAM_BLD *builder)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (params == NULL || context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &pkey, selection, params) != 1) {
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(params);
    return pkey;
}

static const char *make_rsa(struct jose_key *key, const struct jose_jwk *jwk)
{
    static const char *const NAMES[] = {
        OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
        OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,
        OSSL_PKEY_PARAM_RSA_FACTOR2,   OSSL_PKEY_PARAM_RSA_EXPONENT1,
        OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1};
    const struct moon_slice members[8] = {jwk->n, jwk->e,  jwk->d,  jwk->p,
                                          jwk->q, jwk->dp, jwk->dq, jwk->qi};
    BIGNUM *numbers[8] = {NULL};
    const char *error = "an RSA key must have n and e in base64url";
    bool has_all = jwk->d.data != NULL && jwk->p.data != NULL && jwk->q.data != NULL &&
                   jwk->dp.data != NULL && jwk->dq.data != NULL && jwk->qi.data != NULL;
    int used = has_all ? 8 : jwk->d.data != NULL ? 3 : 2;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    bool is_well = builder != NULL;
    for (int i = 0; is_well && i < used; i++) {
        numbers[i] = number(members[i]);
        is_well = numbers[i] != NULL && OSSL_PARAM_BLD_push_BN(builder, NAMES[i], numbers[i]) == 1;
    }
    if (is_well) {
        error = check_rsa(numbers[0], numbers[1]);
    }
    if (is_well && error == NULL) {
        key->has_private = used > 2;
        key->pkey =
            from_params("RSA", key->has_private ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, builder);
        error = key->pkey == NULL ? "the RSA key is not sound" : NULL;
    }
    for (int i = 0; i < used; i++) {
        BN_clear_free(numbers[i]);
    }
    OSSL_PARAM_BLD_free(builder);
    return error;
}

static bool is_sound(EVP_PKEY *pkey)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool is_well = context != NULL && EVP_PKEY_public_check(context) == 1;
    EVP_PKEY_CTX_free(context);
    return is_well;
}

static EVP_PKEY *make_ec(const struct curve *curve, struct moon_slice x, struct moon_slice y,
                         struct moon_slice d)
{
    uint8_t point[1 + 2 * (66 + 3)];
    size_t x_len, y_len;
    point[0] = 4; // uncompressed
    if (!decode(x, point + 1, curve->size, &x_len) || x_len != curve->size ||
        !decode(y, point + 1 + curve->size, curve->size, &y_len) || y_len != curve->size) {
        return NULL;
    }
    BIGNUM *secret = d.data != NULL ? number(d) : NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY *pkey = NULL;
    if (builder != NULL && (d.data == NULL || secret != NULL) &&
        OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve->openssl, 0) &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point,
                                         1 + 2 * curve->size) &&
        (secret == NULL || OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, secret))) {
        pkey = from_params("EC", secret != NULL ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, builder);
    }
    OSSL_PARAM_BLD_free(builder);
    BN_clear_free(secret);
    if (pkey != NULL && !is_sound(pkey)) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    return pkey;
}

static EVP_PKEY *make_okp(const struct curve *curve, struct moon_slice bytes, bool is_private)
{
    uint8_t raw[57 + 3];
    size_t len;
    if (!decode(bytes, raw, curve->size, &len) || len != curve->size) {
        return NULL;
    }
    EVP_PKEY *pkey = is_private
                         ? EVP_PKEY_new_raw_private_key_ex(NULL, curve->openssl, NULL, raw, len)
                         : EVP_PKEY_new_raw_public_key_ex(NULL, curve->openssl, NULL, raw, len);
    OPENSSL_cleanse(raw, sizeof raw);
    return pkey;
}

static const char *make_curve(struct jose_key *key, const struct jose_jwk *jwk)
{
    const struct curve *curve = find_curve(jwk->crv);
    if (curve == NULL || curve->kty != key->kty) {
        return "its curve is not known for its kty";
    }
    key->curve = curve->id;
    key->has_private = jwk->d.data != NULL;
    if (key->kty == JOSE_KTY_EC) {
        key->pkey = make_ec(curve, jwk->x, jwk->y, jwk->d);
    } else {
        key->pkey = make_okp(curve, key->has_private ? jwk->d : jwk->x, key->has_private);
    }
    return key->pkey == NULL ? "its point is not one of its curve" : NULL;
}

static const char *make_secret(struct jose_key *key, const struct jose_jwk *jwk)
{
    if ((jwk->k.data != NULL) == (jwk->value.data != NULL)) {
        return "an oct key has either k (base64url) or value (the secret itself)";
    }
    size_t room = jwk->k.data != NULL ? MOON_BASE64_DECODED_MAX(jwk->k.len) : jwk->value.len;
    if (room == 0 || room > 8192) {
        return "a secret has 1 to 8192 bytes";
    }
    key->secret = malloc(room);
    if (key->secret == NULL) {
        return NO_MEMORY;
    }
    key->secret_len = room;
    if (jwk->value.data != NULL) {
        memcpy(key->secret, jwk->value.data, room);
        return NULL;
    }
    size_t len;
    if (!moon_base64_decode(MOON_BASE64_URL, jwk->k, key->secret, &len)) {
        return "k is not base64url";
    }
    key->secret_len = len;
    return len == 0 ? "a secret has 1 to 8192 bytes" : NULL;
}

const char *jose_key_from_jwk(struct jose_key *key, const struct jose_jwk *jwk, uint32_t allowed)
{
    const char *error;
    memset(key, 0, sizeof *key);
    if (is_text(jwk->kty, "oct")) {
        key->kty = JOSE_KTY_OCT;
        error = make_secret(key, jwk);
    } else if (is_text(jwk->kty, "RSA")) {
        key->kty = JOSE_KTY_RSA;
        error = make_rsa(key, jwk);
    } else if (is_text(jwk->kty, "EC")) {
        key->kty = JOSE_KTY_EC;
        error = make_curve(key, jwk);
    } else if (is_text(jwk->kty, "OKP")) {
        key->kty = JOSE_KTY_OKP;
        error = make_curve(key, jwk);
    } else {
        error = "its kty is not oct, RSA, EC or OKP";
    }
    if (error == NULL) {
        error = restrict_key(key, jwk, allowed);
    }
    ERR_clear_error();
    return error;
}

static EVP_PKEY *read_pem(struct moon_slice pem, bool *is_private)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *pkey = NULL;
    *is_private = false;
    if (bio == NULL) {
        return NULL;
    }
    if (memmem(pem.data, pem.len, "PRIVATE KEY-----", 16) != NULL) {
        *is_private = true;
        pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t) "");
    } else if (memmem(pem.data, pem.len, "CERTIFICATE-----", 16) != NULL) {
        X509 *x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        pkey = x509 != NULL ? X509_get_pubkey(x509) : NULL;
        X509_free(x509);
    } else {
        pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    }
    BIO_free(bio);
    return pkey;
}

static const char *identify(struct jose_key *key)
{
    char group[32];
    BIGNUM *n = NULL, *e = NULL;
    const char *error = "the key is of a kind that tokens do not use";
    if (EVP_PKEY_is_a(key->pkey, "RSA")) {
        key->kty = JOSE_KTY_RSA;
        error = NO_MEMORY;
        if (EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_N, &n) == 1 &&
            EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_E, &e) == 1) {
            error = check_rsa(n, e);
        }
        BN_free(n);
        BN_free(e);
        return error;
    }
    bool is_ec = EVP_PKEY_is_a(key->pkey, "EC") == 1;
    if (is_ec && EVP_PKEY_get_group_name(key->pkey, group, sizeof group, NULL) != 1) {
        return error;
    }
    for (size_t i = 0; i < sizeof CURVES / sizeof CURVES[0]; i++) {
        const struct curve *c = &CURVES[i];
        if (is_ec ? strcmp(group, c->openssl) == 0 : EVP_PKEY_is_a(key->pkey, c->openssl) == 1) {
            key->kty = c->kty;
            key->curve = c->id;
            return is_sound(key->pkey) ? NULL : "the key is not sound";
        }
    }
    return error;
}

const char *jose_key_from_pem(struct jose_key *key, struct moon_slice pem,
                              const struct jose_jwk *names, uint32_t allowed)
{
    memset(key, 0, sizeof *key);
    if (pem.len > 65536) {
        return "a PEM file has at most 64 KiB";
    }
    key->pkey = read_pem(pem, &key->has_private);
    const char *error = key->pkey == NULL ? "the PEM text cannot be read" : identify(key);
    if (error == NULL) {
        error = restrict_key(key, names, allowed);
    }
    ERR_clear_error();
    return error;
}

EVP_PKEY *jose_peer_key(const struct jose_key *mine, struct moon_slice crv, struct moon_slice x,
                        struct moon_slice y)
{
    const struct curve *curve = find_curve(crv);
    if (curve == NULL || curve->id != mine->curve) {
        return NULL;
    }
    return curve->kty == JOSE_KTY_EC ? make_ec(curve, x, y, (struct moon_slice){NULL, 0})
                                     : make_okp(curve, x, false);
}

void jose_key_fini(struct jose_key *key)
{
    for (size_t i = 0; i < JOSE_ALGORITHMS; i++) {
        EVP_PKEY_CTX_free(key->verify[i]);
    }
    for (size_t i = 0; i < JOSE_DIGESTS; i++) {
        EVP_MAC_CTX_free(key->mac[i]);
    }
    EVP_PKEY_free(key->pkey);
    if (key->secret != NULL) {
        OPENSSL_cleanse(key->secret, key->secret_len);
    }
    free(key->secret);
    free(key->kid);
    memset(key, 0, sizeof *key);
}
