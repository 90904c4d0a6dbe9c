/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Which certificates serve which name: exact names before wildcards (one label deep, RFC 6125
/// §6.4.3), and for each kind of key (RSA, ECDSA, Ed25519 ...) the first that covers the name.
///
/// Part of tls_server.c.

#include "net/tls_impl.h"

enum { TLS_KINDS = 5 }; // as many keys as one SSL_CTX can hold

struct moon_tls_set {
    int pair[TLS_KINDS]; // index of the certificate; -1: none of this kind
};

struct moon_tls_name {
    char *name; // lower case; "*.example.com" for a wildcard
    int pair;
    struct moon_tls_set set;
    SSL_CTX *context; // lent by the server's state
};

struct moon_tls_names {
    struct moon_tls_name *at; // sorted by name, then pair
    size_t count;
    size_t cap;
};

/// The kind of a key, or -1 when OpenSSL cannot serve with it.
int moon_tls_kind(const EVP_PKEY *key);

/// Adds the names of a certificate (DNS names; the common name only where there are none).
MUST_CHECK bool moon_tls_names_add(struct moon_tls_names *names, const X509 *leaf, int pair);

/// Sorts, and fills in each name's set.
void moon_tls_names_seal(struct moon_tls_names *names, const int *kind_of_pair);

/// @return NULL when no certificate covers the name
const struct moon_tls_name *moon_tls_names_find(const struct moon_tls_names *names,
                                                struct moon_slice name);
void moon_tls_names_fini(struct moon_tls_names *names);
