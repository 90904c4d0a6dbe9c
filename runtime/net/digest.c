/* SPDX-License-Identifier: Apache-2.0 */
#include "net/digest.h"

#include <openssl/evp.h>

void moon_digest_sha256(struct moon_slice bytes, uint8_t out[MOON_DIGEST_BYTES])
{
    static EVP_MD *sha256; // fetched once: EVP_sha256() looks its implementation up at every use
    static EVP_MD_CTX *context;
    unsigned n = 0;
    if (sha256 == NULL) {
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        context = EVP_MD_CTX_new();
    }
    bool is_done = sha256 != NULL && context != NULL &&
                   EVP_DigestInit_ex2(context, sha256, NULL) == 1 &&
                   EVP_DigestUpdate(context, bytes.data, bytes.len) == 1 &&
                   EVP_DigestFinal_ex(context, out, &n) == 1;
    MOON_ASSERT(is_done && n == MOON_DIGEST_BYTES);
}

bool moon_digest_websocket(struct moon_slice key, char accept[MOON_WEBSOCKET_ACCEPT_BYTES + 1])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t sha1[20];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool is_done = context != NULL && EVP_DigestInit_ex(context, EVP_sha1(), NULL) == 1 &&
                   EVP_DigestUpdate(context, key.data, key.len) == 1 &&
                   EVP_DigestUpdate(context, guid, sizeof(guid) - 1) == 1 &&
                   EVP_DigestFinal_ex(context, sha1, NULL) == 1;
    EVP_MD_CTX_free(context);
    if (is_done)
        (void)EVP_EncodeBlock((unsigned char *)accept, sha1, sizeof(sha1));
    return is_done;
}

void moon_digest_prepare(void)
{
    uint8_t unused[MOON_DIGEST_BYTES];
    moon_digest_sha256(moon_slice("", 0), unused);
}
