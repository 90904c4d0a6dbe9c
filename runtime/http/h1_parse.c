/* SPDX-License-Identifier: Apache-2.0 */
#include "http/chars.h"
#include "http/h1_line.h"
#include "http/uri.h"

// What the fields say about framing and the connection, gathered while they are read.
struct head_facts {
    unsigned hosts, lengths, codings, upgrades;  // lines of each
    size_t host_at;                              // index of the first Host
    struct moon_slice length, coding;            // values of the first lines
    bool has_close, has_keep_alive, has_upgrade; // options of Connection
    bool has_expect, has_other_expect;
    bool is_response;
};

static void facts_add_connection(struct head_facts *facts, struct moon_slice list)
{
    struct moon_slice option;
    while (moon_slice_next_element(&list, &option)) {
        if (moon_slice_is_nocase(option, MOON_S("close"))) {
            facts->has_close = true;
        } else if (moon_slice_is_nocase(option, MOON_S("keep-alive"))) {
            facts->has_keep_alive = true;
        } else if (moon_slice_is_nocase(option, MOON_S("upgrade"))) {
            facts->has_upgrade = true;
        }
    }
}

static void facts_add_expect(struct head_facts *facts, struct moon_slice list)
{
    struct moon_slice expectation;
    while (moon_slice_next_element(&list, &expectation)) {
        if (moon_slice_is_nocase(expectation, MOON_S("100-continue"))) {
            facts->has_expect = true;
        } else {
            facts->has_other_expect = true;
        }
    }
}

static void facts_add(struct head_facts *facts, enum moon_field_id id, struct moon_slice value,
                      size_t index)
{
    switch ((int)id) {
    case MOON_FIELD_HOST:
        if (facts->hosts++ == 0) {
            facts->host_at = index;
        }
        break;
    case MOON_FIELD_CONTENT_LENGTH:
        if (facts->lengths++ == 0) {
            facts->length = value;
        }
        break;
    case MOON_FIELD_TRANSFER_ENCODING:
        if (facts->codings++ == 0) {
            facts->coding = value;
        }
        break;
    case MOON_FIELD_CONNECTION:
        facts_add_connection(facts, value);
        break;
    case MOON_FIELD_EXPECT:
        facts_add_expect(facts, value);
        break;
    case MOON_FIELD_UPGRADE:
        facts->upgrades++;
        break;
    default: // the others decide nothing here
        break;
    }
}

// The colon behind a name that ends at `at`, or NULL. A proxy takes white space between them out of
// responses, and refuses it in requests (RFC 9112 §5.1).
static const char *parse_colon(const char *at, const char *end, bool is_response)
{
    while (is_response && at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    return at < end && *at == ':' ? at : NULL;
}

// One line, "name: value" CRLF. What has no name (a folded line, §5.2) is refused.
static enum moon_rc parse_field(const char **at, const char *end, struct moon_fields *fields,
                                struct head_facts *facts)
{
    const char *name_end = moon_find_no_token(*at, end);
    const char *colon = parse_colon(name_end, end, facts->is_response);
    if (MOON_UNLIKELY(name_end == *at || colon == NULL)) {
        return MOON_ERR_BAD_FIELD;
    }
    struct moon_slice name = moon_slice(*at, (size_t)(name_end - *at));
    const char *start = colon + 1;
    const char *stop = moon_find_control(start, end);
    if (MOON_UNLIKELY(end - stop < 2 || stop[0] != '\r' || stop[1] != '\n')) {
        return MOON_ERR_BAD_FIELD;
    }
    *at = stop + 2;
    struct moon_slice value = moon_slice_trim(moon_slice(start, (size_t)(stop - start)));
    enum moon_field_id id = moon_field_id(name);
    facts_add(facts, id, value, fields->count);
    return moon_fields_add_known(fields, id, name, value);
}

// Field lines up to the empty line, which must end the head.
static enum moon_rc parse_fields(const char *at, const char *end, struct moon_fields *fields,
                                 const struct moon_h1_limits *limits, struct head_facts *facts)
{
    while (at < end && *at != '\r') {
        if (fields->count >= limits->header_count) {
            return MOON_ERR_HEAD_TOO_LARGE;
        }
        enum moon_rc rc = parse_field(&at, end, fields, facts);
        if (rc != MOON_OK) {
            return rc;
        }
    }
    return end - at == 2 && at[0] == '\r' && at[1] == '\n' ? MOON_OK : MOON_ERR_BAD_FIELD;
}

// First line without its CRLF. @return false when there is none
static bool split_first_line(struct moon_slice head, struct moon_slice *line)
{
    const char *stop = moon_find_control(head.data, head.data + head.len);
    size_t len = (size_t)(stop - head.data);
    if (head.len - len < 2 || stop[0] != '\r' || stop[1] != '\n') {
        return false;
    }
    *line = moon_slice(head.data, len);
    return true;
}

// One line, one element: even equal repeats are refused (RFC 9110 §8.6 leaves it to us).
static bool facts_length(const struct head_facts *facts, int64_t *length)
{
    return facts->lengths == 1 && moon_slice_number(facts->length, length);
}

static bool facts_is_chunked(const struct head_facts *facts)
{
    return facts->codings == 1 && moon_slice_is_nocase(facts->coding, MOON_S("chunked"));
}

// Codings before a final "chunked" are well-formed, and not for us (RFC 9112 §6.1: 501). Without
// it, or with more than one, nobody can tell where the body ends (§6.3: 400).
static enum moon_rc refuse_coding(const struct head_facts *facts)
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
static enum moon_rc request_framing(struct moon_request *request, const struct head_facts *facts)
{
    if (facts->codings > 0) {
        if (facts->lengths > 0 || request->version_minor == 0) {
            return MOON_ERR_BAD_LENGTH;
        }
        if (!facts_is_chunked(facts)) {
            return refuse_coding(facts);
        }
        request->framing = MOON_FRAMING_CHUNKED;
    } else if (facts->lengths > 0) {
        if (!facts_length(facts, &request->content_length)) {
            return MOON_ERR_BAD_LENGTH;
        }
        request->framing = MOON_FRAMING_LENGTH;
    }
    return MOON_OK;
}

static enum moon_rc request_connection(struct moon_request *request, const struct head_facts *facts)
{
    bool is_1_1 = request->version_minor > 0;
    request->is_keep_alive = !facts->has_close && (is_1_1 || facts->has_keep_alive);
    if (!is_1_1) {
        return MOON_OK; // Expect and Upgrade are ignored (RFC 9110 §7.8, §10.1.1)
    }
    if (facts->has_other_expect) {
        return MOON_ERR_EXPECTATION;
    }
    bool has_body = request->framing == MOON_FRAMING_CHUNKED || request->content_length > 0;
    request->expects_continue = facts->has_expect && has_body;
    request->wants_upgrade = facts->has_upgrade && facts->upgrades > 0;
    return MOON_OK;
}

// Lower case, without port and final dot; a copy only where that changes bytes.
static enum moon_rc request_host(struct moon_request *request, struct moon_slice host)
{
    if (host.len > 1 && host.data[host.len - 1] == '.') {
        host.len--;
    }
    request->host = host;
    for (size_t i = 0; i < host.len; i++) {
        if (moon_lower(host.data[i]) == host.data[i]) {
            continue;
        }
        char *lower = moon_arena_alloc(request->fields.arena, host.len);
        if (lower == NULL) {
            return MOON_ERR_MEMORY;
        }
        for (size_t k = 0; k < host.len; k++) {
            lower[k] = moon_lower(host.data[k]);
        }
        request->host.data = lower;
        break;
    }
    return MOON_OK;
}

// RFC 9112 §3.2: exactly one well-formed Host, also where the absolute form overrides it.
static enum moon_rc request_authority(struct moon_request *request, const struct head_facts *facts)
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
    return request_host(request, authority.host);
}

static void split_query(struct moon_request *request, struct moon_slice rest)
{
    size_t question = moon_slice_find(rest, '?');
    request->path_raw = moon_slice(rest.data, question);
    if (question < rest.len) {
        request->query = moon_slice(rest.data + question + 1, rest.len - question - 1);
    }
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
    split_query(request, moon_slice_from(rest, len));
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
        split_query(request, target);
        return MOON_OK;
    }
    if (!moon_slice_is(target, MOON_S("*"))) {
        return target_absolute(request, is_tls);
    }
    request->target_form = MOON_TARGET_ASTERISK;
    request->path_raw = target;
    return request->method == MOON_METHOD_OPTIONS ? MOON_OK : MOON_ERR_BAD_TARGET;
}

static enum moon_rc request_path(struct moon_request *request)
{
    if (request->path_raw.len > 0 && request->path_raw.data[0] == '/') {
        return moon_uri_normalize_path(request->fields.arena, request->path_raw, 0, &request->path);
    }
    request->path = request->path_raw; // "*", or nothing for CONNECT
    return MOON_OK;
}

enum moon_rc moon_h1_parse_request(struct moon_request *request, struct moon_slice head,
                                   const struct moon_h1_limits *limits, bool is_tls)
{
    struct moon_h1_line line;
    struct head_facts facts = {.hosts = 0};
    if (!split_first_line(head, &request->line)) {
        return MOON_ERR_BAD_REQUEST_LINE;
    }
    enum moon_rc rc = moon_h1_check_line(request->line, true, limits->uri_bytes, &line);
    if (rc != MOON_OK) {
        return rc;
    }
    request->version_major = 1;
    request->version_minor = line.minor;
    request->method_name = line.method;
    request->method = moon_method_parse(line.method);
    request->target = line.target;
    rc = parse_fields(head.data + request->line.len + 2, head.data + head.len, &request->fields,
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
        rc = request_path(request);
    }
    return rc;
}

// "HTTP/1.1 200 OK"; the space before an empty reason may be missing, as many servers leave it out.
static bool parse_status_line(struct moon_response *response, struct moon_slice line)
{
    const char *s = line.data;
    if (line.len < 12 || memcmp(s, "HTTP/1.", 7) != 0 || s[7] < '0' || s[7] > '9' || s[8] != ' ') {
        return false;
    }
    for (size_t i = 9; i < 12; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return false;
        }
    }
    if (line.len > 12 && s[12] != ' ') {
        return false;
    }
    response->version_major = 1;
    response->version_minor = s[7] == '0' ? 0 : 1;
    response->status = (s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0');
    response->reason = moon_slice_from(line, 13);
    return response->status >= 100 && response->status <= 599;
}

// RFC 9112 §6.3.
static bool response_framing(struct moon_response *response, const struct head_facts *facts,
                             enum moon_method method)
{
    bool has_bad_coding = facts->codings > 0 && (facts->lengths > 0 || !facts_is_chunked(facts) ||
                                                 response->version_minor == 0);
    if (has_bad_coding || (facts->lengths > 0 && !facts_length(facts, &response->content_length))) {
        return false;
    }
    response->is_keep_alive =
        !facts->has_close && (response->version_minor > 0 || facts->has_keep_alive);
    if (moon_response_is_bodiless(method, response->status)) {
        response->framing = MOON_FRAMING_NONE;
        return true;
    }
    if (facts->codings > 0) {
        response->framing = MOON_FRAMING_CHUNKED;
    } else if (facts->lengths > 0) {
        response->framing = MOON_FRAMING_LENGTH;
    } else {
        response->framing = MOON_FRAMING_CLOSE;
        response->is_keep_alive = false;
    }
    return true;
}

// 1xx and 204 may not announce a body (RFC 9110 §8.6). One that does is believed not to follow, and
// the connection is not used again, should it follow after all.
static void response_distrust(struct moon_response *response, const struct head_facts *facts)
{
    if (response->status >= 200 && response->status != 204) {
        return;
    }
    if (facts->codings > 0 || response->content_length > 0) {
        response->is_keep_alive = false;
    }
    response->content_length = -1;
}

enum moon_rc moon_h1_parse_response(struct moon_response *response, struct moon_slice head,
                                    enum moon_method method, const struct moon_h1_limits *limits)
{
    struct head_facts facts = {.is_response = true};
    struct moon_slice line;
    if (!split_first_line(head, &line) || !parse_status_line(response, line)) {
        return MOON_ERR_UPSTREAM_PROTOCOL;
    }
    enum moon_rc rc = parse_fields(head.data + line.len + 2, head.data + head.len,
                                   &response->fields, limits, &facts);
    if (rc == MOON_ERR_MEMORY) {
        return rc;
    }
    if (rc != MOON_OK || !response_framing(response, &facts, method)) {
        return MOON_ERR_UPSTREAM_PROTOCOL;
    }
    response_distrust(response, &facts);
    return MOON_OK;
}
