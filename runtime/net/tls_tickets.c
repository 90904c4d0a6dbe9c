/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "net/tls_impl.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

enum { TICKET_READ_TRIES = 1000 }; // a writer that died in between leaves the sequence odd

// This process's copy, refreshed when the sequence has moved.
struct ticket_keys {
    uint32_t sequence;
    uint32_t count;
    struct moon_tls_ticket_key keys[MOON_TLS_TICKET_KEYS];
};

void moon_tls_ticket_rotate(struct moon_tls_tickets *tickets, int64_t now_wall_ms)
{
    struct moon_tls_ticket_key fresh;
    moon_random_bytes(&fresh, sizeof(fresh));
    uint32_t sequence = __atomic_load_n(&tickets->sequence, __ATOMIC_RELAXED) | 1;
    __atomic_store_n(&tickets->sequence, sequence, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memmove(&tickets->keys[1], &tickets->keys[0],
            (MOON_TLS_TICKET_KEYS - 1) * sizeof(tickets->keys[0]));
    tickets->keys[0] = fresh;
    tickets->count += tickets->count < MOON_TLS_TICKET_KEYS;
    tickets->rotated_wall_ms = now_wall_ms;
    __atomic_store_n(&tickets->sequence, sequence + 1, __ATOMIC_RELEASE);
    OPENSSL_cleanse(&fresh, sizeof(fresh));
}

static bool tickets_read_once(const struct moon_tls_tickets *shared, struct ticket_keys *copy)
{
    uint32_t before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
    if ((before & 1) != 0)
        return false;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): clang 14 does not follow how it is set
    copy->count = shared->count;
    memcpy(copy->keys, shared->keys, sizeof(copy->keys));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    copy->sequence = before;
    return __atomic_load_n(&shared->sequence, __ATOMIC_RELAXED) == before &&
           copy->count <= MOON_TLS_TICKET_KEYS;
}

/// Lent: until the next call. @return NULL when there are none to be had
static const struct ticket_keys *tickets_keys(SSL *ssl)
{
    static struct ticket_keys copy;
    static const struct moon_tls_tickets *copied_from;
    const struct moon_stream_tls *tls = SSL_get_app_data(ssl);
    const struct moon_tls_tickets *shared = moon_tls_server_tickets(tls->server);
    uint32_t sequence = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
    if (copied_from == shared && sequence == copy.sequence)
        return &copy;
    struct ticket_keys fresh;
    bool is_read = false;
    for (int i = 0; i < TICKET_READ_TRIES && !is_read; i++)
        is_read = tickets_read_once(shared, &fresh);
    if (is_read) {
        copy = fresh;
        copied_from = shared;
    }
    return copied_from == shared && copy.count > 0 ? &copy : NULL;
}

static EVP_CIPHER *tickets_cipher(void)
{
    static EVP_CIPHER *cipher; // fetched once
    if (cipher == NULL)
        cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    return cipher;
}

static bool tickets_set_mac(EVP_MAC_CTX *mac, const struct moon_tls_ticket_key *key)
{
    char digest[] = "SHA256";
    uint8_t secret[sizeof(key->hmac)];
    memcpy(secret, key->hmac, sizeof(secret)); // the parameter takes no const
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, secret, sizeof(secret)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end()};
    bool is_set = EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(secret, sizeof(secret));
    return is_set;
}

static int tickets_seal(const struct ticket_keys *keys, unsigned char *name, unsigned char *iv,
                        EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    const struct moon_tls_ticket_key *key = &keys->keys[0];
    memcpy(name, key->name, sizeof(key->name));
    if (RAND_bytes(iv, 16) != 1 ||
        EVP_EncryptInit_ex(cipher, tickets_cipher(), NULL, key->aes, iv) != 1)
        return -1;
    return tickets_set_mac(mac, key) ? 1 : -1;
}

/// @return 1: opened; 2: opened, and a new ticket is to follow; 0: unknown, a full handshake
static int tickets_open(const SSL *ssl, const struct ticket_keys *keys, const unsigned char *name,
                        const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        const struct moon_tls_ticket_key *key = &keys->keys[i];
        if (memcmp(name, key->name, sizeof(key->name)) != 0)
            continue;
        if (EVP_DecryptInit_ex(cipher, tickets_cipher(), NULL, key->aes, iv) != 1 ||
            !tickets_set_mac(mac, key))
            return -1;
        // TLS 1.3 clients use a ticket once (RFC 8446 §C.4).
        return i == 0 && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
    }
    return 0;
}

static int tickets_callback(SSL *ssl, unsigned char *name, unsigned char *iv,
                            EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int is_sealing)
{
    const struct ticket_keys *keys = tickets_keys(ssl);
    if (keys == NULL)
        return 0;
    return is_sealing ? tickets_seal(keys, name, iv, cipher, mac)
                      : tickets_open(ssl, keys, name, iv, cipher, mac);
}

bool moon_tls_tickets_install(SSL_CTX *context)
{
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(context, tickets_callback) == 1;
}
