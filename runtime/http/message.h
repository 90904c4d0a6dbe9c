/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Requests and responses as the gateway handles them, whatever protocol version they came by. All
/// slices lie in the exchange's arena.

#include "http/fields.h"

enum moon_method {
    MOON_METHOD_OTHER, // any other token; allowed, forwarded as it is
    MOON_METHOD_GET,
    MOON_METHOD_HEAD,
    MOON_METHOD_POST,
    MOON_METHOD_PUT,
    MOON_METHOD_DELETE,
    MOON_METHOD_CONNECT,
    MOON_METHOD_OPTIONS,
    MOON_METHOD_TRACE,
    MOON_METHOD_PATCH,
};

/// How the end of a body is told.
enum moon_framing {
    MOON_FRAMING_NONE,    // there is no body
    MOON_FRAMING_LENGTH,  // content_length bytes
    MOON_FRAMING_CHUNKED, // chunked coding; in HTTP/2: until END_STREAM, no length given
    MOON_FRAMING_CLOSE,   // until the connection closes (responses only)
};

enum moon_target_form { // RFC 9112 §3.2
    MOON_TARGET_ORIGIN,
    MOON_TARGET_ABSOLUTE,
    MOON_TARGET_AUTHORITY,
    MOON_TARGET_ASTERISK,
};

struct moon_request {
    enum moon_method method;
    enum moon_method client_method; // as it came; policies change the other two
    struct moon_slice method_name;
    enum moon_target_form target_form;
    struct moon_slice target;    // as it came
    struct moon_slice line;      // the request line as it came, without CRLF (HTTP/1.x)
    struct moon_slice scheme;    // "http" or "https": of the connection, or of the absolute form
    struct moon_slice authority; // host[:port] of the absolute form or of Host; empty in HTTP/1.0
    struct moon_slice host;      // lower case, without port and without the final dot
    struct moon_slice path_raw;  // as it came, "/" where the target had none
    struct moon_slice path;      // normal form (http/uri.h): what routing, WAF and policies see
    struct moon_slice query;     // as it came, without '?'; data is NULL when there was no '?'
    int version_major, version_minor;
    struct moon_fields fields;
    struct moon_fields trailers;
    enum moon_framing framing;
    int64_t content_length; // -1 unless framing is LENGTH
    bool is_keep_alive;     // what the client asks for
    bool expects_continue;
    bool wants_upgrade;  // Connection: upgrade with an Upgrade field
    bool wants_trailers; // TE: trailers
    bool
        keeps_escaped_slash; // "%2F" in its path is none of the form's mistakes; set by who reads it
};

struct moon_response {
    int status;
    struct moon_slice reason; // may be empty
    int version_major, version_minor;
    struct moon_fields fields;
    struct moon_fields trailers;
    enum moon_framing framing;
    int64_t content_length; // -1 unless known; known also for HEAD and 304
    bool is_keep_alive;
};

void moon_request_init(struct moon_request *request, struct moon_arena *arena);
void moon_response_init(struct moon_response *response, struct moon_arena *arena);

enum moon_method moon_method_parse(struct moon_slice name);

/// RFC 9110 §9.2.2.
bool moon_method_is_idempotent(enum moon_method method);
bool moon_method_is_safe(enum moon_method method);

/// The usual reason phrase, or an empty slice.
struct moon_slice moon_status_reason(int status);

/// True where a response with this status to this method has no body (RFC 9110 §6.4.1).
bool moon_response_is_bodiless(enum moon_method method, int status);

/// Takes out what must not be forwarded: hop-by-hop fields and those that Connection names
/// (RFC 9110 §7.6.1). Content-Length, Host and end-to-end fields named there are kept.
void moon_fields_remove_hop_by_hop(struct moon_fields *fields);
