/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// JOSE for gateways: keys that were checked once, verifying (JWS) and decrypting (JWE) compact
/// tokens. No Lua here. One thread; contexts and digests are made once and used again.

#include "moongate/types.h"

#include <openssl/evp.h>

/// No token is longer; what is longer is refused before it is looked at.
#define JOSE_TOKEN_MAX 32768

enum jose_family {
    JOSE_FAMILY_HMAC,
    JOSE_FAMILY_RSA_PKCS1,
    JOSE_FAMILY_RSA_PSS,
    JOSE_FAMILY_ECDSA,
    JOSE_FAMILY_EDDSA,
    JOSE_FAMILY_RSA_OAEP,
    JOSE_FAMILY_AES_KW,
    JOSE_FAMILY_AES_GCMKW,
    JOSE_FAMILY_DIRECT,
    JOSE_FAMILY_ECDH,
};

enum jose_digest { JOSE_SHA1, JOSE_SHA256, JOSE_SHA384, JOSE_SHA512, JOSE_DIGESTS };

enum jose_algorithm_id {
#define ALGORITHM(id, name, family, digest, size) JOSE_##id,
#include "jwt/algorithms.def"
#undef ALGORITHM
    JOSE_ALGORITHMS
};

struct jose_algorithm {
    enum jose_algorithm_id id;
    const char *name;
    enum jose_family family;
    enum jose_digest digest;
    size_t size;
};

/// The algorithm of that name; NULL when there is none.
const struct jose_algorithm *jose_find_algorithm(struct moon_slice name);

/// All algorithms, JOSE_ALGORITHMS of them.
extern const struct jose_algorithm jose_algorithms[];

/// A digest fetched by `jose_open`.
const EVP_MD *jose_md(enum jose_digest digest);

/// Its name as OpenSSL has it.
const char *jose_md_name(enum jose_digest digest);

/// Fetches what the others use. False: OpenSSL lacks it.
MUST_CHECK bool jose_open(void);
void jose_close(void);

/// Signs.
///
/// @param out  room for JOSE_SIGNATURE_MAX bytes
/// @return     false when the key does not allow the algorithm or has no private part
#define JOSE_SIGNATURE_MAX 2048
struct jose_key;
MUST_CHECK bool jose_sign(struct jose_key *key, const struct jose_algorithm *algorithm,
                          struct moon_slice input, uint8_t *out, size_t *n_out);

struct jose_encryption; // of contents: A128GCM and its like

enum jose_kty { JOSE_KTY_OCT, JOSE_KTY_RSA, JOSE_KTY_EC, JOSE_KTY_OKP };

enum jose_curve {
    JOSE_CURVE_NONE,
    JOSE_P256,
    JOSE_P384,
    JOSE_P521,
    JOSE_ED25519,
    JOSE_ED448,
    JOSE_X25519,
    JOSE_X448,
};

/// The members of a JWK that matter; `data` is NULL where one is absent.
struct jose_jwk {
    struct moon_slice kty, kid, alg, use, crv;
    struct moon_slice n, e, d, p, q, dp, dq, qi; // RSA; `d` also of EC and OKP
    struct moon_slice x, y;                      // EC and OKP
    struct moon_slice k;                         // oct, base64url
    struct moon_slice value;                     // oct, the bytes themselves
    bool has_key_ops, may_verify, may_decrypt;   // what key_ops allows
};

struct jose_key {
    enum jose_kty kty;
    enum jose_curve curve;
    EVP_PKEY *pkey;  // NULL for oct
    uint8_t *secret; // oct only
    size_t secret_len;
    char *kid; // NULL: none
    size_t kid_len;
    uint32_t allowed;                    // one bit for each algorithm that this key may serve
    const struct jose_encryption *bound; // oct whose alg names an encryption: `dir` with it only
    bool has_private;

    EVP_PKEY_CTX *verify[JOSE_ALGORITHMS]; // made at first use, kept
    EVP_MAC_CTX *mac[JOSE_DIGESTS];
};

/// Builds a key. `key` is zeroed first; `_fini` it in any case.
///
/// @param allowed  bits of the algorithms that were listed
/// @return         NULL, or why it cannot be used (static text)
MUST_CHECK const char *jose_key_from_jwk(struct jose_key *key, const struct jose_jwk *jwk,
                                         uint32_t allowed);

/// Builds a key of a PEM text: a public key, a private one, or a certificate. Otherwise as above;
/// `names` gives kid, alg and use.
MUST_CHECK const char *jose_key_from_pem(struct jose_key *key, struct moon_slice pem,
                                         const struct jose_jwk *names, uint32_t allowed);

void jose_key_fini(struct jose_key *key);

/// Makes the public key that an `epk` describes, of the same curve as `mine`; NULL when it is wrong.
EVP_PKEY *jose_peer_key(const struct jose_key *mine, struct moon_slice crv, struct moon_slice x,
                        struct moon_slice y);

/// True when `signature` is what `key` makes of `input` by `algorithm`, which the key allows.
MUST_CHECK bool jose_verify(struct jose_key *key, const struct jose_algorithm *algorithm,
                            struct moon_slice input, struct moon_slice signature);

/// A content encryption, by its name in `enc`; NULL when it is unknown.
const struct jose_encryption *jose_find_encryption(struct moon_slice name);

/// What a JWE says beside its header; decoded, lent.
struct jose_jwe {
    const struct jose_algorithm *algorithm;
    const struct jose_encryption *encryption;
    struct moon_slice enc; // the name of the encryption
    struct moon_slice aad; // the header as it was sent
    struct moon_slice encrypted_key, iv, ciphertext, tag;
    struct moon_slice kw_iv, kw_tag;                   // of AES-GCM key wrapping
    struct moon_slice epk_crv, epk_x, epk_y, apu, apv; // of ECDH-ES
};

/// Decrypts.
///
/// @param out    room for the ciphertext's length and 16 more
/// @return false for whatever reason, told apart neither in the result nor by it
MUST_CHECK bool jose_decrypt(struct jose_key *key, const struct jose_jwe *jwe, uint8_t *out,
                             size_t *n_out);
