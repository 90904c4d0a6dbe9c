/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1.h"
#include "http/target.h"

// The next line without its end; lines may end in LF alone here.
static bool glimpse_line(struct moon_slice *rest, struct moon_slice *line)
{
    if (rest->len == 0)
        return false;
    size_t len = moon_slice_find(*rest, '\n');
    *line = moon_slice(rest->data, len);
    *rest = len < rest->len ? moon_slice_from(*rest, len + 1) : moon_slice(NULL, 0);
    if (len > 0 && line->data[len - 1] == '\r')
        line->len--;
    return true;
}

static void glimpse_version(struct moon_request *request, struct moon_slice text)
{
    bool is_named = text.len == 8 && moon_slice_starts(text, MOON_S("HTTP/")) &&
                    text.data[5] >= '0' && text.data[5] <= '9' && text.data[7] >= '0' &&
                    text.data[7] <= '9';
    request->version_major = is_named ? text.data[5] - '0' : 0;
    request->version_minor = is_named ? text.data[7] - '0' : 0;
}

// METHOD TARGET VERSION; the target is what stands between the first space and the last.
static void glimpse_request_line(struct moon_request *request, struct moon_slice line)
{
    size_t first = moon_slice_find(line, ' '), last = line.len;
    request->line = line;
    request->method_name = moon_slice(line.data, first);
    request->method = moon_method_parse(request->method_name);
    if (first == line.len)
        return;
    while (line.data[last - 1] != ' ')
        last--;
    bool has_version = last - 1 > first;
    struct moon_slice target = moon_slice_from(line, first + 1);
    if (has_version) {
        target = moon_slice(line.data + first + 1, last - first - 2);
        glimpse_version(request, moon_slice_from(line, last));
    }
    request->target = moon_slice_trim(target);
}

void moon_h1_glimpse(struct moon_request *request, struct moon_slice head)
{
    struct moon_slice rest = head, line = {NULL, 0};
    if (!glimpse_line(&rest, &line))
        return;
    request->scheme = MOON_S("http");
    glimpse_request_line(request, line);
    while (glimpse_line(&rest, &line) && line.len > 0) {
        size_t colon = moon_slice_find(line, ':');
        struct moon_slice name = moon_slice_trim(moon_slice(line.data, colon));
        if (colon == line.len || name.len == 0)
            continue;
        if (moon_fields_add(&request->fields, name,
                            moon_slice_trim(moon_slice_from(line, colon + 1))) != MOON_OK)
            break;
    }
    if (moon_fields_find_id(&request->fields, MOON_FIELD_TRANSFER_ENCODING) != NULL)
        moon_fields_remove(&request->fields, MOON_S("Content-Length")); // RFC 9112 §6.3: overridden
    const struct moon_field *host = moon_fields_find_id(&request->fields, MOON_FIELD_HOST);
    moon_target_glimpse(request, host != NULL ? host->value : moon_slice(NULL, 0));
}
