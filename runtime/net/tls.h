/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// TLS contexts (OpenSSL 3): servers with several certificates chosen by SNI and by what the client
/// can verify (RSA, ECDSA), clients that verify by default. A context is built once per worker and
/// shared by all its connections; it is counted, so that a reload can replace it while connections
/// of the old one live on.

#include "base/result.h"
#include "base/slice.h"

struct moon_tls_certificate_conf {
    const char *certificate; // PEM: leaf first, then intermediates
    const char *key;         // PEM
    const char *ocsp;        // DER response to staple; NULL: none
};

enum moon_tls_client_mode {
    MOON_TLS_CLIENT_NONE,
    MOON_TLS_CLIENT_OPTIONAL,
    MOON_TLS_CLIENT_REQUIRED
};

struct moon_tls_server_conf {
    const struct moon_tls_certificate_conf *certificates;
    size_t certificate_count;
    const char
        *preset;   // "modern" (TLS 1.3) or "intermediate" (TLS 1.2 and 1.3); NULL: intermediate
    bool is_http2; // offer h2 by ALPN
    bool has_tickets;
    enum moon_tls_client_mode client_mode;
    const char *client_ca;  // PEM bundle
    const char *client_crl; // PEM; NULL: none
    int client_depth;       // longest chain; 0: OpenSSL's own limit
};

/// Keys of session tickets, shared by all workers: the first encrypts, all decrypt. Lies in shared
/// memory; the supervisor rotates it (moon_tls_ticket_rotate), a sequence lock guards it.
enum { MOON_TLS_TICKET_KEYS = 3 };

struct moon_tls_ticket_key {
    uint8_t name[16];
    uint8_t aes[32];
    uint8_t hmac[32];
};

struct moon_tls_tickets {
    uint32_t sequence; // odd while written
    uint32_t count;
    int64_t rotated_wall_ms;
    struct moon_tls_ticket_key keys[MOON_TLS_TICKET_KEYS];
};

/// Draws a new first key and shifts the others. Process: supervisor.
void moon_tls_ticket_rotate(struct moon_tls_tickets *tickets, int64_t now_wall_ms);

struct moon_tls_server;
struct moon_tls_client;

/// @param tickets  shared keys; NULL: OpenSSL's own
/// @param error    names the file and what is wrong with it
MUST_CHECK enum moon_rc moon_tls_server_new(const struct moon_tls_server_conf *conf,
                                            struct moon_tls_tickets *tickets, char *error,
                                            size_t error_cap, struct moon_tls_server **out);
void moon_tls_server_acquire(struct moon_tls_server *server);
void moon_tls_server_release(struct moon_tls_server *server); // accepts NULL

/// Loads files again that have changed on disk (checked at most once a second by the caller); keeps
/// the old ones where the new ones are broken. @return true when something was replaced
bool moon_tls_server_refresh(struct moon_tls_server *server);

/// Seconds until the first of its certificates expires; negative when it has.
///
/// @param path  its file; borrowed from the server; NULL where nobody asks
int64_t moon_tls_server_expires_in_s(const struct moon_tls_server *server, const char **path);

struct moon_tls_client_conf {
    bool is_verified;              // chain and name; on by default
    const char *ca;                // PEM bundle; NULL: the system's
    const char *certificate, *key; // client certificate; NULL: none
    const char *server_name;       // overrides SNI and the verified name; NULL: the target's host
    bool is_http2;                 // offer h2 by ALPN
    const char *minimum;           // "TLSv1.2" or "TLSv1.3"; NULL: TLSv1.2
};

MUST_CHECK enum moon_rc moon_tls_client_new(const struct moon_tls_client_conf *conf, char *error,
                                            size_t error_cap, struct moon_tls_client **out);
void moon_tls_client_release(struct moon_tls_client *client); // accepts NULL
void moon_tls_client_acquire(struct moon_tls_client *client);

/// Makes a self-signed certificate for development (localhost, *.test) where there is none yet, with
/// its directories; valid for a year. @return MOON_ERR_CONFIG (is logged)
MUST_CHECK enum moon_rc moon_tls_development_certificate(const char *certificate_path,
                                                         const char *key_path);
