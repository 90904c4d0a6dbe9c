/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1_line.h"

#include "http/chars.h"

enum { H1_METHOD_BYTES = 64 }; // a longer one is no method that anybody implements (RFC 9112 §3)

static enum moon_rc line_more(bool is_whole)
{
    return is_whole ? MOON_ERR_BAD_REQUEST_LINE : MOON_AGAIN;
}

static enum moon_rc line_method(const char **at, const char *end, bool is_whole,
                                struct moon_slice *method)
{
    const char *start = *at;
    const char *limit = end - start > H1_METHOD_BYTES ? start + H1_METHOD_BYTES + 1 : end;
    const char *stop = moon_find_no_token(start, limit);
    if (stop - start > H1_METHOD_BYTES) {
        return MOON_ERR_METHOD;
    }
    if (stop == end) {
        return line_more(is_whole);
    }
    if (*stop != ' ' || stop == start) {
        return MOON_ERR_BAD_REQUEST_LINE;
    }
    *method = moon_slice(start, (size_t)(stop - start));
    *at = stop + 1;
    return MOON_OK;
}

static enum moon_rc line_target(const char **at, const char *end, bool is_whole, size_t uri_bytes,
                                struct moon_slice *target)
{
    const char *start = *at;
    const char *limit = (size_t)(end - start) > uri_bytes ? start + uri_bytes + 1 : end;
    const char *stop = moon_find_invisible(start, limit);
    if ((size_t)(stop - start) > uri_bytes) {
        return MOON_ERR_URI_TOO_LONG;
    }
    if (stop == end) {
        return line_more(is_whole);
    }
    if ((unsigned char)*stop >= 0x80) {
        return MOON_ERR_BAD_TARGET;
    }
    if (*stop != ' ' || stop == start) {
        return MOON_ERR_BAD_REQUEST_LINE;
    }
    *target = moon_slice(start, (size_t)(stop - start));
    *at = stop + 1;
    return MOON_OK;
}

// "HTTP/1.x", exactly: the name is case-sensitive, each number one digit (RFC 9112 §2.3). A higher
// minor version is read as 1.1 (RFC 9110 §2.5).
static enum moon_rc line_version(const char *at, const char *end, bool is_whole, int *minor)
{
    static const char form[] = "HTTP/0.0"; // '0' stands for a digit
    size_t len = (size_t)(end - at);
    if (MOON_LIKELY(is_whole && len == sizeof(form) - 1 && memcmp(at, "HTTP/1.1", len) == 0)) {
        *minor = 1;
        return MOON_OK;
    }
    for (size_t i = 0; i < len; i++) {
        if (i >= sizeof(form) - 1) {
            return MOON_ERR_BAD_REQUEST_LINE;
        }
        bool is_digit = at[i] >= '0' && at[i] <= '9';
        if (form[i] == '0' ? !is_digit : at[i] != form[i]) {
            return MOON_ERR_BAD_REQUEST_LINE;
        }
    }
    if (len < sizeof(form) - 1) {
        return line_more(is_whole);
    }
    if (!is_whole) {
        return MOON_AGAIN;
    }
    if (at[5] == '0') {
        return MOON_ERR_BAD_REQUEST_LINE; // HTTP/0.9 had no version in its line
    }
    if (at[5] != '1') {
        return MOON_ERR_BAD_VERSION;
    }
    *minor = at[7] == '0' ? 0 : 1;
    return MOON_OK;
}

enum moon_rc moon_h1_check_line(struct moon_slice text, bool is_whole, size_t uri_bytes,
                                struct moon_h1_line *line)
{
    const char *at = text.data, *end = text.data + text.len;
    enum moon_rc rc = line_method(&at, end, is_whole, &line->method);
    if (rc == MOON_OK) {
        rc = line_target(&at, end, is_whole, uri_bytes, &line->target);
    }
    if (rc == MOON_OK) {
        rc = line_version(at, end, is_whole, &line->minor);
    }
    return rc;
}
