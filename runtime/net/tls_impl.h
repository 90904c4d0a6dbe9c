/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The inside of TLS, shared by the tls_*.c files and stream_tls.c; nobody else includes it, and
/// so nobody else sees OpenSSL.

#include "net/ja4.h"
#include "net/stream.h"
#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

/// The TLS side of one stream; OpenSSL's callbacks find it as the app data of the SSL.
struct moon_stream_tls {
    SSL *ssl;
    struct moon_tls_server *server;     // acquired; NULL for a client
    struct moon_tls_client *client;     // acquired; NULL for a server
    struct moon_tls_identity *identity; // made on demand
    char *session_key;                  // client: whose sessions may be reused
    char ja4[MOON_JA4_BYTES + 1];
    bool has_seen_eof;
    bool is_starved; // what lies in OpenSSL's buffer is no complete record
};

/// What moon_stream_tls answers, and the memory it lies in.
struct moon_tls_identity;
struct moon_tls_identity *moon_tls_identity_new(const struct moon_stream_tls *tls);
void moon_tls_identity_free(struct moon_tls_identity *identity); // accepts NULL
const struct moon_tls_info *moon_tls_identity_info(const struct moon_tls_identity *identity);
struct moon_slice moon_tls_identity_pem(struct moon_tls_identity *identity, SSL *ssl);

/// A PEM certificate with its chain and key, checked to belong together.
struct moon_tls_pair {
    X509 *leaf;
    STACK_OF(X509) * chain; // without the leaf
    EVP_PKEY *key;
};

/// @param error  names the file and what is wrong with it
MUST_CHECK enum moon_rc moon_tls_pair_load(const char *certificate, const char *key,
                                           struct moon_tls_pair *out, char *error,
                                           size_t error_cap);
void moon_tls_pair_fini(struct moon_tls_pair *pair);

/// Reads all of a small file. The caller frees. @return NULL, with the reason in `error`
MUST_CHECK char *moon_tls_read_file(const char *path, size_t *len, char *error, size_t error_cap);

/// The reason of the newest error in OpenSSL's queue, which is then empty.
const char *moon_tls_reason(void);

/// Errors that others left behind would be taken for ours.
static inline void moon_tls_clear_errors(void)
{
    if (MOON_UNLIKELY(ERR_peek_error() != 0))
        ERR_clear_error();
}

/// Milliseconds since 1970. @return INT64_MAX when it cannot be read
int64_t moon_tls_time_ms(const ASN1_TIME *time);

/// Settings that servers and clients share.
void moon_tls_context_defaults(SSL_CTX *context);

/// Makes and opens tickets by the shared keys of the stream's server.
MUST_CHECK bool moon_tls_tickets_install(SSL_CTX *context);
const struct moon_tls_tickets *moon_tls_server_tickets(const struct moon_tls_server *server);

/// A new SSL in accept state. @return NULL when out of memory
SSL *moon_tls_server_ssl(struct moon_tls_server *server);

/// A new SSL in connect state with name, verification and a session to resume. Fills
/// `tls->session_key`. @return MOON_ERR_CONFIG (no name to verify), MOON_ERR_MEMORY
MUST_CHECK enum moon_rc moon_tls_client_ssl(struct moon_tls_client *client, const char *name,
                                            const struct sockaddr *address, socklen_t address_len,
                                            struct moon_stream_tls *tls);
