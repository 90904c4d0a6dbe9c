/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The PROXY protocol (HAProxy's specification, versions 1 and 2): who the client was, told by a
/// balancer in front of us, or by us to a backend. Bytes to struct and back; no I/O. Whether the
/// peer may tell is the caller's decision.

#include "base/ip.h"

enum {
    MOON_PROXY_V1_BYTES = 107,  // the longest line, CR LF included
    MOON_PROXY_V2_BYTES = 4096, // what we accept with its extensions
    MOON_PROXY_WRITE_BYTES = 128,
};

struct moon_proxy_header {
    int version;        // 1 or 2
    bool has_addresses; // false: LOCAL, UNKNOWN or a UNIX socket; the connection's own count
    struct moon_ip source, destination;
    uint16_t source_port, destination_port;
    // Extensions of version 2. Lent: as long as the parsed bytes. Empty where not sent.
    struct moon_slice alpn, authority, unique_id, azure_endpoint;
    bool is_tls; // the client came by TLS
};

/// Reads a header from the front of `bytes`.
///
/// @param consumed  how long it is; written on MOON_OK
/// @return MOON_OK, MOON_AGAIN (more bytes are needed), MOON_ERR_BAD_REQUEST (there is none, or it
///         is malformed)
MUST_CHECK enum moon_rc moon_proxy_parse(struct moon_slice bytes, struct moon_proxy_header *out,
                                         size_t *consumed);

/// Writes a header of `header->version`; extensions are not written. Addresses of two families are
/// told as IPv6. @return its length
size_t moon_proxy_write(const struct moon_proxy_header *header, char into[MOON_PROXY_WRITE_BYTES]);
