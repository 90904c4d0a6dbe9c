/* SPDX-License-Identifier: Apache-2.0 */
#include "http/target.h"

#include "http/uri.h"

enum moon_rc moon_target_set_host(struct moon_request *request, struct moon_slice host)
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

void moon_target_split(struct moon_request *request, struct moon_slice rest)
{
    size_t question = moon_slice_find(rest, '?');
    request->path_raw = moon_slice(rest.data, question);
    if (question < rest.len) {
        request->query = moon_slice(rest.data + question + 1, rest.len - question - 1);
    }
}

enum moon_rc moon_target_set_path(struct moon_request *request)
{
    if (request->path_raw.len > 0 && request->path_raw.data[0] == '/') {
        unsigned allow = request->keeps_escaped_slash ? MOON_URI_ALLOW_ENCODED_SLASH : 0;
        return moon_uri_normalize_path(request->fields.arena, request->path_raw, allow,
                                       &request->path);
    }
    request->path = request->path_raw; // "*", or nothing for CONNECT
    return MOON_OK;
}

void moon_target_glimpse(struct moon_request *request, struct moon_slice text)
{
    struct moon_authority authority;
    if (moon_uri_parse_authority(text, &authority)) {
        request->authority = text;
        if (moon_target_set_host(request, authority.host) != MOON_OK) {
            request->host = moon_slice(NULL, 0);
        }
    }
    if (request->target.len > 0 && request->target.data[0] == '/') {
        moon_target_split(request, request->target);
    }
    if (request->path_raw.len == 0 || moon_target_set_path(request) != MOON_OK) {
        request->path = MOON_S("/");
    }
}
