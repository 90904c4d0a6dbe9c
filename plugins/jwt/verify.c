/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt/jose.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <string.h>

// A context with the key already scheduled; EVP_MAC_init without a key begins again with it.
static EVP_MAC_CTX *mac_context(struct jose_key *key, enum jose_digest digest)
{
    if (key->mac[digest] != NULL) {
        return EVP_MAC_init(key->mac[digest], NULL, 0, NULL) == 1 ? key->mac[digest] : NULL;
    }
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac); // the context holds its own reference
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(
                               OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)jose_md_name(digest), 0),
                           OSSL_PARAM_construct_end()};
    if (context == NULL || EVP_MAC_init(context, key->secret, key->secret_len, params) != 1) {
        EVP_MAC_CTX_free(context);
        return NULL;
    }
    key->mac[digest] = context;
    return context;
}

static bool verify_hmac(struct jose_key *key, const struct jose_algorithm *algorithm,
                        struct moon_slice input, struct moon_slice signature)
{
    uint8_t expected[EVP_MAX_MD_SIZE];
    size_t len = 0;
    EVP_MAC_CTX *context = mac_context(key, algorithm->digest);
    return context != NULL &&
           EVP_MAC_update(context, (const uint8_t *)input.data, input.len) == 1 &&
           EVP_MAC_final(context, expected, &len, sizeof expected) == 1 && len == signature.len &&
           CRYPTO_memcmp(expected, signature.data, len) == 0;
}

// Sets a new context up for one algorithm.
static bool prepare(EVP_PKEY_CTX *context, const struct jose_algorithm *algorithm)
{
    const EVP_MD *md = jose_md(algorithm->digest);
    if (EVP_PKEY_verify_init(context) != 1) {
        return false;
    }
    if (algorithm->family == JOSE_FAMILY_RSA_PKCS1 &&
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) != 1) {
        return false;
    }
    if (algorithm->family == JOSE_FAMILY_RSA_PSS &&
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) != 1) {
        return false;
    }
    if (EVP_PKEY_CTX_set_signature_md(context, md) != 1) {
        return false;
    }
    return algorithm->family != JOSE_FAMILY_RSA_PSS ||
           (EVP_PKEY_CTX_set_rsa_mgf1_md(context, md) == 1 &&
            EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) == 1);
}

static EVP_PKEY_CTX *verify_context(struct jose_key *key, const struct jose_algorithm *algorithm)
{
    EVP_PKEY_CTX **kept = &key->verify[algorithm->id];
    if (*kept == NULL) {
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
        if (context == NULL || !prepare(context, algorithm)) {
            EVP_PKEY_CTX_free(context);
            return NULL;
        }
        *kept = context;
    }
    return *kept;
}

// r and s as they stand in a token become the DER that OpenSSL reads. Returns its length, 0: failed.
static size_t ecdsa_der(struct moon_slice signature, uint8_t *der, size_t room)
{
    int half = (int)(signature.len / 2);
    const uint8_t *bytes = (const uint8_t *)signature.data;
    BIGNUM *r = BN_bin2bn(bytes, half, NULL), *s = BN_bin2bn(bytes + half, half, NULL);
    ECDSA_SIG *sig = ECDSA_SIG_new();
    int len = 0;
    if (r != NULL && s != NULL && sig != NULL && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL; // taken
        len = i2d_ECDSA_SIG(sig, NULL);
        if (len > 0 && (size_t)len <= room) {
            len = i2d_ECDSA_SIG(sig, &der);
        } else {
            len = 0;
        }
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return len > 0 ? (size_t)len : 0;
}

static bool verify_digest(struct jose_key *key, const struct jose_algorithm *algorithm,
                          struct moon_slice input, struct moon_slice signature)
{
    uint8_t hash[EVP_MAX_MD_SIZE], der[160];
    unsigned hash_len = 0;
    const uint8_t *bytes = (const uint8_t *)signature.data;
    size_t len = signature.len;
    if (algorithm->family == JOSE_FAMILY_ECDSA) {
        len = signature.len == algorithm->size ? ecdsa_der(signature, der, sizeof der) : 0;
        bytes = der;
    } else if (len != (size_t)EVP_PKEY_get_size(key->pkey)) {
        return false;
    }
    EVP_PKEY_CTX *context = len > 0 ? verify_context(key, algorithm) : NULL;
    if (context == NULL ||
        EVP_Digest(input.data, input.len, hash, &hash_len, jose_md(algorithm->digest), NULL) != 1) {
        return false;
    }
    return EVP_PKEY_verify(context, bytes, len, hash, hash_len) == 1;
}

static bool verify_eddsa(struct jose_key *key, struct moon_slice input, struct moon_slice signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_valid =
        context != NULL &&
        EVP_DigestVerifyInit_ex(context, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
        EVP_DigestVerify(context, (const uint8_t *)signature.data, signature.len,
                         (const uint8_t *)input.data, input.len) == 1;
    EVP_MD_CTX_free(context);
    return is_valid;
}

bool jose_verify(struct jose_key *key, const struct jose_algorithm *algorithm,
                 struct moon_slice input, struct moon_slice signature)
{
    if ((key->allowed >> algorithm->id & 1) == 0 || signature.len == 0) {
        return false;
    }
    bool is_valid = false;
    if (algorithm->family == JOSE_FAMILY_HMAC) {
        is_valid = verify_hmac(key, algorithm, input, signature);
    } else if (algorithm->family == JOSE_FAMILY_EDDSA) {
        is_valid = verify_eddsa(key, input, signature);
    } else if (algorithm->family <= JOSE_FAMILY_ECDSA) {
        is_valid = verify_digest(key, algorithm, input, signature);
    }
    if (!is_valid) {
        ERR_clear_error(); // a wrong signature is no event for the next user of this thread's queue
    }
    return is_valid;
}
