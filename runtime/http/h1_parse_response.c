/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1_facts.h"

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
static bool response_framing(struct moon_response *response, const struct moon_h1_facts *facts,
                             enum moon_method method)
{
    bool has_bad_coding =
        facts->codings > 0 &&
        (facts->lengths > 0 || !moon_h1_facts_is_chunked(facts) || response->version_minor == 0);
    if (has_bad_coding ||
        (facts->lengths > 0 && !moon_h1_facts_length(facts, &response->content_length))) {
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
static void response_distrust(struct moon_response *response, const struct moon_h1_facts *facts)
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
    struct moon_h1_facts facts = {.is_response = true};
    struct moon_slice line;
    if (!moon_h1_first_line(head, &line) || !parse_status_line(response, line)) {
        return MOON_ERR_UPSTREAM_PROTOCOL;
    }
    enum moon_rc rc = moon_h1_parse_fields(moon_slice_from(head, line.len + 2), &response->fields,
                                           limits, &facts);
    if (rc == MOON_ERR_MEMORY) {
        return rc;
    }
    if (rc != MOON_OK || !response_framing(response, &facts, method)) {
        return MOON_ERR_UPSTREAM_PROTOCOL;
    }
    response_distrust(response, &facts);
    return MOON_OK;
}
