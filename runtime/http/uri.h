/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Request targets and paths. One normal form of the path serves routing, WAF, cache and policies
/// (RFC 3986 §6.2.2); what two readers are known to understand differently is refused.
///
/// | in the target                               | in the normal form                          |
/// |---------------------------------------------|---------------------------------------------|
/// | unreserved, sub-delims, ':', '@'            | as they are                                 |
/// | escape of an unreserved character (%41)     | the character                               |
/// | other escape (%c3%a9, %3a)                  | upper case (%C3%A9, %3A)                    |
/// | `" < > ^ ` { | } [ ]`                       | escaped (%22 ...)                           |
/// | "//"                                        | "/", unless KEEP_SLASHES                    |
/// | "/./", "/../", also as %2e                  | removed with the segment they cancel        |
/// | ".." past the root                          | refused                                     |
/// | %2F                                         | refused, unless ALLOW_ENCODED_SLASH; then   |
/// |                                             | refused beside a dot segment (..%2F)        |
/// | '\', %5C, %00                               | refused                                     |
/// | %25 before two hex digits (a second escape) | refused                                     |
/// | '%' without two hex digits                  | refused                                     |
/// | "..;" and ".;" (path parameters)            | refused: some backends cut at ';' first     |
/// | control, space, byte from 0x80 on, '#'      | refused                                     |
///
/// The normal form of a normal form is itself. The query is never changed.

#include "base/arena.h"
#include "base/result.h"

enum moon_uri_allow {
    MOON_URI_ALLOW_ENCODED_SLASH = 1, // "%2F" stays as it is
    MOON_URI_KEEP_SLASHES = 2,        // "//" stays
};

/// @param raw   path of the request-target, with its leading '/'
/// @param path  normal form; `raw` itself where that is normal already. Arena otherwise.
/// @return MOON_OK or MOON_ERR_BAD_TARGET
MUST_CHECK enum moon_rc moon_uri_normalize_path(struct moon_arena *arena, struct moon_slice raw,
                                                unsigned allow, struct moon_slice *path);

struct moon_authority {
    struct moon_slice host; // as it came; an IPv6 literal without its brackets
    bool is_ip_literal;
    int port; // 0: none given
};

/// host[:port] (RFC 3986 §3.2) without userinfo. @return false when malformed
MUST_CHECK bool moon_uri_parse_authority(struct moon_slice text, struct moon_authority *out);

/// A URL of the configuration or of a policy: scheme, authority, path and query.
struct moon_url {
    struct moon_slice scheme;
    struct moon_authority authority;
    struct moon_slice authority_text;
    struct moon_slice path;  // may be empty
    struct moon_slice query; // without '?'; data NULL when there is none
    int port;                // given or the scheme's
};

MUST_CHECK bool moon_url_parse(struct moon_slice text, struct moon_url *out);

/// Decodes %XX, and '+' as a space where `is_form`; a bad escape stays as it is. Arena, or `in`
/// itself where nothing had to be decoded.
struct moon_slice moon_uri_decode(struct moon_arena *arena, struct moon_slice in, bool is_form);

/// Encodes everything but unreserved characters. Arena.
struct moon_slice moon_uri_encode(struct moon_arena *arena, struct moon_slice in);

/// Takes the next name=value of a query or form body. The slices are raw (still encoded).
bool moon_query_next(struct moon_slice *rest, struct moon_slice *name, struct moon_slice *value);
