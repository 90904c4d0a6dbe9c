/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1_facts.h"
#include "http/h1_line.h"
#include "http/target.h"
#include "http/uri.h"

// Codings before a final "chunked" are well-formed, and not for us (RFC 9112 §6.1: 501). Without
// it, or with more than one, nobody can tell where the body ends (§6.3: 400).
static enum moon_rc refuse_coding(const struct moon_h1_facts *facts)
{
    struct moon_slice list = facts->coding, coding = {NULL, 0};
    size_t codings = 0, chunked = 0;
    bool is_last_chunked = false;
    while (moon_slice_next_element(&list, &coding)) {
        is_last_chunked = moon_slice_is_nocase(coding, MOON_S("chunked"));
        chunked += is_last_chunked;
        codings++;
    }
    bool is_well_formed = facts->codings == 1 && is_last_chunked && chunked == 1 && codings > 1;
    return is_well_formed ? MOON_ERR_UNKNOWN_CODING : MOON_ERR_BAD_LENGTH;
}

// RFC 9112 §6.3.
static enum moon_rc request_framing(struct moon_request *request, const struct moon_h1_facts *facts)
{
    if (facts->codings > 0) {
        if (facts->lengths > 0 || request->version_minor == 0) {
            return MOON_ERR_BAD_LENGTH;
        }
        if (!moon_h1_facts_is_chunked(facts)) {
            return refuse_coding(facts);
        }
        request->framing = MOON_FRAMING_CHUNKED;
    } else if (facts->lengths > 0) {
        if (!moon_h1_facts_length(facts, &request->content_length)) {
            return MOON_ERR_BAD_LENGTH;
        }
        request->framing = MOON_FRAMING_LENGTH;
    }
    return MOON_OK;
}

static enum moon_rc request_connection(struct moon_request *request,
                                       const struct moon_h1_facts *facts)
{
    bool is_1_1 = request->version_minor > 0;
    // What follows CONNECT may be meant for the tunnel that it does not get.
    request->is_keep_alive = !facts->has_close && (is_1_1 || facts->has_keep_alive) &&
                             request->method != MOON_METHOD_CONNECT;
    if (!is_1_1) {
        return MOON_OK; // Expect and Upgrade are ignored (RFC 9110 §7.8, §10.1.1)
    }
    if (facts->has_other_expect) {
        return MOON_ERR_EXPECTATION;
    }
    bool has_body = request->framing == MOON_FRAMING_CHUNKED || request->content_length > 0;
    request->expects_continue = facts->has_expect && has_body;
    request->wants_upgrade = facts->has_upgrade && facts->upgrades > 0;
    request->wants_trailers = facts->has_te_trailers;
    return MOON_OK;
}

// RFC 9112 §3.2: exactly one well-formed Host, also where the absolute form overrides it.
static enum moon_rc request_authority(struct moon_request *request,
                                      const struct moon_h1_facts *facts)
{
    struct moon_authority authority = {.host = {NULL, 0}};
    if (facts->hosts > 1 || (facts->hosts == 0 && request->version_minor > 0)) {
        return MOON_ERR_BAD_HOST;
    }
    struct moon_field *host = facts->hosts == 0 ? NULL : &request->fields.items[facts->host_at];
    if (host != NULL && !moon_uri_parse_authority(host->value, &authority)) {
        return MOON_ERR_BAD_HOST;
    }
    if (request->target_form == MOON_TARGET_ABSOLUTE ||
        request->target_form == MOON_TARGET_AUTHORITY) {
        if (!moon_uri_parse_authority(request->authority, &authority)) {
            return MOON_ERR_BAD_TARGET;
        }
        if (host != NULL) {
            host->value = request->authority;
        }
    } else if (host != NULL) {
        request->authority = host->value;
    }
    return moon_target_set_host(request, authority.host);
}

// "http://host/path?query". An https target over a plain connection is not ours to answer
// (RFC 9110 §7.4).
static enum moon_rc target_absolute(struct moon_request *request, bool is_tls)
{
    struct moon_slice target = request->target;
    if (moon_slice_starts_nocase(target, MOON_S("http://"))) {
        request->scheme = MOON_S("http");
    } else if (moon_slice_starts_nocase(target, MOON_S("https://"))) {
        request->scheme = MOON_S("https");
    } else {
        return MOON_ERR_BAD_TARGET;
    }
    if (request->scheme.len == 5 && !is_tls) {
        return MOON_ERR_MISDIRECTED;
    }
    struct moon_slice rest = moon_slice_from(target, request->scheme.len + 3);
    size_t len = 0;
    while (len < rest.len && rest.data[len] != '/' && rest.data[len] != '?') {
        len++;
    }
    request->target_form = MOON_TARGET_ABSOLUTE;
    request->authority = moon_slice(rest.data, len);
    moon_target_split(request, moon_slice_from(rest, len));
    // An empty path is "/", but OPTIONS of one asks about the server (RFC 9112 §3.2.4).
    if (request->path_raw.len == 0) {
        request->path_raw = request->method == MOON_METHOD_OPTIONS && request->query.data == NULL
                                ? MOON_S("*")
                                : MOON_S("/");
    }
    return MOON_OK;
}

static enum moon_rc target_authority(struct moon_request *request)
{
    struct moon_authority authority;
    if (!moon_uri_parse_authority(request->target, &authority) || authority.port == 0) {
        return MOON_ERR_BAD_TARGET;
    }
    request->target_form = MOON_TARGET_AUTHORITY;
    request->authority = request->target;
    request->path_raw = MOON_S("");
    return MOON_OK;
}

static enum moon_rc request_target(struct moon_request *request, bool is_tls)
{
    struct moon_slice target = request->target;
    request->scheme = is_tls ? MOON_S("https") : MOON_S("http");
    if (request->method == MOON_METHOD_CONNECT) {
        return target_authority(request);
    }
    if (moon_slice_find(target, '#') != target.len) {
        return MOON_ERR_BAD_TARGET;
    }
    if (target.data[0] == '/') {
        request->target_form = MOON_TARGET_ORIGIN;
        moon_target_split(request, target);
        return MOON_OK;
    }
    if (!moon_slice_is(target, MOON_S("*"))) {
        return target_absolute(request, is_tls);
    }
    request->target_form = MOON_TARGET_ASTERISK;
    request->path_raw = target;
    return request->method == MOON_METHOD_OPTIONS ? MOON_OK : MOON_ERR_BAD_TARGET;
}

enum moon_rc moon_h1_parse_request(struct moon_request *request, struct moon_slice head,
                                   const struct moon_h1_limits *limits, bool is_tls)
{
    struct moon_h1_line line;
    struct moon_h1_facts facts = {.hosts = 0};
    if (!moon_h1_first_line(head, &request->line)) {
        return MOON_ERR_BAD_REQUEST_LINE;
    }
    enum moon_rc rc = moon_h1_check_line(request->line, true, limits->uri_bytes, &line);
    if (rc != MOON_OK) {
        return rc;
    }
    request->version_major = 1;
    request->version_minor = line.minor;
    request->method_name = line.method;
    request->method = request->client_method = moon_method_parse(line.method);
    request->target = line.target;
    rc = moon_h1_parse_fields(moon_slice_from(head, request->line.len + 2), &request->fields,
                              limits, &facts);
    if (rc == MOON_OK) {
        rc = request_target(request, is_tls);
    }
    if (rc == MOON_OK) {
        rc = request_authority(request, &facts);
    }
    if (rc == MOON_OK) {
        rc = request_framing(request, &facts);
    }
    if (rc == MOON_OK) {
        rc = request_connection(request, &facts);
    }
    if (rc == MOON_OK) {
        rc = moon_target_set_path(request);
    }
    return rc;
}
