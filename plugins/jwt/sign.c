/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt/jose.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <string.h>

static bool sign_hmac(struct jose_key *key, const struct jose_algorithm *algorithm,
                      struct moon_slice input, uint8_t *out, size_t *n_out)
{
    unsigned len = 0;
    bool is_done = HMAC(jose_md(algorithm->digest), key->secret, (int)key->secret_len,
                        (const uint8_t *)input.data, input.len, out, &len) != NULL;
    *n_out = len;
    return is_done;
}

// DER becomes r and s side by side, each as long as the curve's numbers are.
static bool flatten(const uint8_t *der, size_t der_len, size_t size, uint8_t *out)
{
    const BIGNUM *r, *s;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)der_len);
    if (sig == NULL) {
        return false;
    }
    ECDSA_SIG_get0(sig, &r, &s);
    int half = (int)(size / 2);
    bool is_done = BN_bn2binpad(r, out, half) == half && BN_bn2binpad(s, out + half, half) == half;
    ECDSA_SIG_free(sig);
    return is_done;
}

static bool sign_pkey(struct jose_key *key, const struct jose_algorithm *algorithm,
                      struct moon_slice input, uint8_t *out, size_t *n_out)
{
    EVP_PKEY_CTX *setup = NULL; // lent by the digest's context
    const char *md =
        algorithm->family == JOSE_FAMILY_EDDSA ? NULL : jose_md_name(algorithm->digest);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_done = context != NULL &&
                   EVP_DigestSignInit_ex(context, &setup, md, NULL, NULL, key->pkey, NULL) == 1;
    if (is_done && algorithm->family == JOSE_FAMILY_RSA_PSS) {
        is_done = EVP_PKEY_CTX_set_rsa_padding(setup, RSA_PKCS1_PSS_PADDING) == 1 &&
                  EVP_PKEY_CTX_set_rsa_pss_saltlen(setup, RSA_PSS_SALTLEN_DIGEST) == 1;
    }
    *n_out = JOSE_SIGNATURE_MAX;
    is_done =
        is_done && EVP_DigestSign(context, out, n_out, (const uint8_t *)input.data, input.len) == 1;
    EVP_MD_CTX_free(context);
    return is_done;
}

bool jose_sign(struct jose_key *key, const struct jose_algorithm *algorithm,
               struct moon_slice input, uint8_t *out, size_t *n_out)
{
    uint8_t der[JOSE_SIGNATURE_MAX];
    size_t len = 0;
    bool is_done = false;
    if ((key->allowed >> algorithm->id & 1) == 0) {
        return false;
    }
    if (algorithm->family == JOSE_FAMILY_HMAC) {
        return sign_hmac(key, algorithm, input, out, n_out);
    }
    if (!key->has_private || algorithm->family > JOSE_FAMILY_EDDSA) {
        return false;
    }
    if (algorithm->family == JOSE_FAMILY_ECDSA) {
        is_done =
            sign_pkey(key, algorithm, input, der, &len) && flatten(der, len, algorithm->size, out);
        *n_out = algorithm->size;
    } else {
        is_done = sign_pkey(key, algorithm, input, out, n_out);
    }
    if (!is_done) {
        ERR_clear_error();
    }
    return is_done;
}
