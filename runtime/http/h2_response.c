/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h2_internal.h"

#include <stdlib.h>
#include <string.h>

// Known names in lower case, and those that no HTTP/2 message may have or that are made here.
static struct {
    char name[32];
    uint8_t len;
    bool is_skipped;
} response_names[MOON_FIELD_COUNT];

__attribute__((constructor)) static void response_build_names(void)
{
    for (unsigned id = 1; id < MOON_FIELD_COUNT; id++) {
        struct moon_slice name = moon_field_name((enum moon_field_id)id);
        MOON_ASSERT(name.len < sizeof(response_names[id].name));
        for (size_t i = 0; i < name.len; i++)
            response_names[id].name[i] = moon_lower(name.data[i]);
        response_names[id].len = (uint8_t)name.len;
        response_names[id].is_skipped =
            (moon_field_flags((enum moon_field_id)id) & MOON_FIELD_HOP) != 0 ||
            id == MOON_FIELD_CONTENT_LENGTH || id == MOON_FIELD_HOST;
    }
}

static void response_set(nghttp2_nv *nv, struct moon_slice name, struct moon_slice value,
                         uint8_t flags)
{
    nv->name = (uint8_t *)(uintptr_t)name.data;
    nv->namelen = name.len;
    nv->value = (uint8_t *)(uintptr_t)value.data;
    nv->valuelen = value.len;
    nv->flags = flags;
}

static struct moon_slice response_known(enum moon_field_id id)
{
    return moon_slice(response_names[id].name, response_names[id].len);
}

size_t h2_response_add(nghttp2_nv *nva, size_t room, const struct moon_fields *fields)
{
    size_t n = 0;
    for (size_t i = 0; i < fields->count && n < room; i++) {
        enum moon_field_id id = (enum moon_field_id)fields->ids[i];
        const struct moon_field *field = &fields->items[i];
        if (id == MOON_FIELD_OTHER) // nghttp2 copies it, in lower case
            response_set(&nva[n++], field->name, field->value, NGHTTP2_NV_FLAG_NONE);
        else if (!response_names[id].is_skipped) {
            response_set(&nva[n++], response_known(id), field->value,
                         (uint8_t)(NGHTTP2_NV_FLAG_NO_COPY_NAME |
                                   ((moon_field_flags(id) & MOON_FIELD_SECRET) != 0
                                        ? NGHTTP2_NV_FLAG_NO_INDEX
                                        : 0)));
        }
    }
    return n;
}

static bool response_has_length(const struct moon_response *response, enum moon_method method)
{
    int status = response->status;
    if (response->content_length < 0 || status < 200 || status == 204)
        return false;
    return response->framing == MOON_FRAMING_LENGTH || moon_response_is_bodiless(method, status);
}

static struct moon_slice response_digits(uint64_t value, char into[20])
{
    size_t at = 20;
    do {
        into[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return moon_slice(into + at, 20 - at);
}

size_t h2_response_fields(nghttp2_nv nva[H2_MOST_FIELDS], const struct moon_response *response,
                          enum moon_method method, char status[4], char digits[20])
{
    size_t n = 0;
    if (response->fields.count > H2_MOST_FIELDS - 2)
        return 0;
    status[0] = (char)('0' + response->status / 100 % 10);
    status[1] = (char)('0' + response->status / 10 % 10);
    status[2] = (char)('0' + response->status % 10);
    response_set(&nva[n++], MOON_S(":status"), moon_slice(status, 3), NGHTTP2_NV_FLAG_NO_COPY_NAME);
    n += h2_response_add(nva + n, H2_MOST_FIELDS - 2, &response->fields);
    if (response_has_length(response, method))
        response_set(&nva[n++], response_known(MOON_FIELD_CONTENT_LENGTH),
                     response_digits((uint64_t)response->content_length, digits),
                     NGHTTP2_NV_FLAG_NO_COPY_NAME);
    return n;
}

struct moon_h2_trailers *h2_response_trailers(const struct moon_fields *fields)
{
    size_t bytes = sizeof(struct moon_h2_trailers) + fields->count * sizeof(nghttp2_nv);
    for (size_t i = 0; i < fields->count; i++)
        bytes += fields->items[i].name.len + fields->items[i].value.len;
    struct moon_h2_trailers *trailers = malloc(bytes);
    if (trailers == NULL)
        return NULL;
    trailers->count = h2_response_add(trailers->items, fields->count, fields);
    char *at = (char *)&trailers->items[fields->count];
    for (size_t i = 0; i < trailers->count; i++) {
        nghttp2_nv *nv = &trailers->items[i];
        if ((nv->flags & NGHTTP2_NV_FLAG_NO_COPY_NAME) == 0) {
            memcpy(at, nv->name, nv->namelen);
            nv->name = (uint8_t *)at;
            at += nv->namelen;
        }
        if (nv->valuelen > 0)
            memcpy(at, nv->value, nv->valuelen);
        nv->value = (uint8_t *)at;
        at += nv->valuelen;
    }
    return trailers;
}
