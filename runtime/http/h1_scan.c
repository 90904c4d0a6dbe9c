/* SPDX-License-Identifier: Apache-2.0 */
#include "http/chars.h"
#include "http/h1_line.h"

size_t moon_h1_skip_empty_lines(struct moon_slice in)
{
    return in.len >= 2 && in.data[0] == '\r' && in.data[1] == '\n' ? 2 : 0;
}

static enum moon_rc scan_refuse(const struct moon_h1_scan *scan, enum moon_rc rc)
{
    return scan->is_response ? MOON_ERR_UPSTREAM_PROTOCOL : rc;
}

// Looks at the first line as far as it has come.
static enum moon_rc scan_first_line(const struct moon_h1_scan *scan, struct moon_slice text,
                                    bool is_whole, const struct moon_h1_limits *limits)
{
    static const char form[] = "HTTP/1.";
    if (scan->is_response) {
        size_t n = moon_min_size(text.len, sizeof(form) - 1);
        bool is_good = memcmp(text.data, form, n) == 0 && (n == sizeof(form) - 1 || !is_whole);
        return is_good ? MOON_OK : MOON_ERR_UPSTREAM_PROTOCOL;
    }
    struct moon_h1_line line;
    enum moon_rc rc = moon_h1_check_line(text, is_whole, limits->uri_bytes, &line);
    return rc == MOON_AGAIN ? MOON_OK : rc;
}

// A control byte that does not end the line. What stood before it in a request line comes first.
static enum moon_rc scan_bad_byte(const struct moon_h1_scan *scan, const char *data,
                                  const struct moon_h1_limits *limits)
{
    if (scan->lines > 0) {
        return scan_refuse(scan, MOON_ERR_BAD_FIELD);
    }
    enum moon_rc rc = scan_first_line(scan, moon_slice(data, scan->at), false, limits);
    return rc != MOON_OK ? rc : scan_refuse(scan, MOON_ERR_BAD_REQUEST_LINE);
}

// The line from line_start to `at` is whole. MOON_EOF: it was the empty one that ends the head.
static enum moon_rc scan_line_end(struct moon_h1_scan *scan, const struct moon_h1_limits *limits)
{
    if (scan->lines == 0) {
        scan->line_len = scan->at;
    } else if (scan->at == scan->line_start) {
        return MOON_EOF;
    } else if (scan->lines > limits->header_count) {
        return scan_refuse(scan, MOON_ERR_HEAD_TOO_LARGE);
    }
    scan->lines++;
    return MOON_OK;
}

// Nothing more in the window.
static enum moon_rc scan_pause(const struct moon_h1_scan *scan, struct moon_slice in,
                               const struct moon_h1_limits *limits)
{
    if (scan->lines == 0) {
        enum moon_rc rc = scan_first_line(scan, moon_slice(in.data, scan->at), false, limits);
        if (rc != MOON_OK) {
            return rc;
        }
    }
    return in.len >= limits->head_bytes ? scan_refuse(scan, MOON_ERR_HEAD_TOO_LARGE) : MOON_AGAIN;
}

static enum moon_rc scan_head(struct moon_h1_scan *scan, struct moon_slice in,
                              const struct moon_h1_limits *limits)
{
    // Bytes past the limit are not looked at, so the answer does not depend on how they arrived.
    const char *data = in.data, *end = data + moon_min_size(in.len, limits->head_bytes);
    while (scan->at < (size_t)(end - data)) {
        const char *at = moon_find_control(data + scan->at, end);
        scan->at = (size_t)(at - data);
        if (at == end || (*at == '\r' && at + 1 == end)) {
            break;
        }
        if (at[0] != '\r' || at[1] != '\n') {
            return scan_bad_byte(scan, data, limits);
        }
        enum moon_rc rc = scan_line_end(scan, limits);
        scan->at += 2;
        if (rc == MOON_EOF) {
            return MOON_OK;
        }
        if (rc != MOON_OK) {
            return rc;
        }
        scan->line_start = scan->at;
    }
    return scan_pause(scan, in, limits);
}

enum moon_rc moon_h1_scan(struct moon_h1_scan *scan, struct moon_slice in,
                          const struct moon_h1_limits *limits, size_t *head_len)
{
    if (in.len == 0) {
        return MOON_AGAIN;
    }
    enum moon_rc rc = scan_head(scan, in, limits);
    bool is_parsed_next = rc == MOON_OK && !scan->is_response;
    if (scan->lines > 0 && !scan->is_line_checked && !is_parsed_next) {
        // Whatever else is wrong, the first line comes first.
        struct moon_slice line = moon_slice(in.data, scan->line_len);
        enum moon_rc line_rc = scan_first_line(scan, line, true, limits);
        scan->is_line_checked = true;
        rc = line_rc != MOON_OK ? line_rc : rc;
    }
    if (rc == MOON_OK) {
        *head_len = scan->at;
    }
    return rc;
}
