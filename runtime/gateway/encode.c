/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/encode.h"

#include "http/compress.h"

enum { ENCODE_CEILING_BYTES = 64 << 20 }; // far above a run; a ceiling against bugs

static struct moon_slice encode_media_type(const struct moon_response *response)
{
    const struct moon_field *type = moon_fields_find_id(&response->fields, MOON_FIELD_CONTENT_TYPE);
    if (type == NULL)
        return moon_slice(NULL, 0);
    return moon_slice_trim(moon_slice(type->value.data, moon_slice_find(type->value, ';')));
}

// "text/*", "application/json", "*/*+json" ...: a star stands for anything.
static bool encode_matches(struct moon_slice pattern, struct moon_slice type)
{
    size_t star = moon_slice_find(pattern, '*');
    if (star == pattern.len)
        return moon_slice_is_nocase(pattern, type);
    struct moon_slice before = moon_slice(pattern.data, star);
    struct moon_slice behind = moon_slice_from(pattern, star + 1);
    return type.len >= before.len + behind.len && moon_slice_starts_nocase(type, before) &&
           moon_slice_is_nocase(moon_slice_from(type, type.len - behind.len), behind);
}

static bool encode_is_type(const struct moon_compression_conf *conf, struct moon_slice type)
{
    if (moon_slice_is_nocase(type, MOON_S("text/event-stream")))
        return false; // a stream: each event is on its way at once, and small
    for (size_t i = 0; i < conf->type_count; i++) {
        if (encode_matches(conf->types[i], type))
            return true;
    }
    return false;
}

static bool encode_has(const struct moon_fields *fields, const char *name)
{
    return moon_fields_find(fields, moon_slice_text(name)) != NULL;
}

// Whether this representation is one that is compressed for clients that want it.
static bool encode_is_fit(const struct moon_exchange *x, const struct moon_compression_conf *conf)
{
    const struct moon_response *response = &x->response;
    const struct moon_fields *fields = &response->fields;
    int status = response->status;
    if (x->is_tunnel || x->is_grpc || status < 200 || status == 204 || status == 206 ||
        status == 304)
        return false;
    if (encode_has(fields, "Content-Encoding") || encode_has(fields, "Content-Range") ||
        encode_has(fields, "Content-Digest") || encode_has(fields, "Repr-Digest") ||
        encode_has(fields, "Digest"))
        return false;
    if (response->content_length >= 0 && response->content_length < (int64_t)conf->min_bytes)
        return false;
    if (moon_slice_has_token(moon_fields_joined(fields, MOON_S("Cache-Control")),
                             MOON_S("no-transform")))
        return false;
    return encode_is_type(conf, encode_media_type(response));
}

static enum moon_rc encode_add_vary(struct moon_exchange *x)
{
    struct moon_fields *fields = &x->response.fields;
    struct moon_slice old = moon_fields_joined(fields, MOON_S("Vary"));
    if (old.len == 0)
        return moon_fields_set(fields, MOON_S("Vary"), MOON_S("Accept-Encoding"));
    if (moon_slice_has_token(old, MOON_S("Accept-Encoding")) ||
        moon_slice_has_token(old, MOON_S("*")))
        return MOON_OK;
    struct moon_slice parts[2] = {old, MOON_S(", Accept-Encoding")}, joined;
    if (!moon_arena_join(&x->arena, parts, 2, &joined))
        return MOON_ERR_MEMORY;
    return moon_fields_set(fields, MOON_S("Vary"), joined);
}

// Other bytes than the origin's cannot have its strong validator (RFC 9110 §8.8.1).
static enum moon_rc encode_weaken(struct moon_exchange *x)
{
    struct moon_fields *fields = &x->response.fields;
    const struct moon_field *etag = moon_fields_find(fields, MOON_S("ETag"));
    if (etag == NULL || moon_slice_starts(etag->value, MOON_S("W/")))
        return MOON_OK;
    struct moon_slice parts[2] = {MOON_S("W/"), etag->value}, weak;
    if (!moon_arena_join(&x->arena, parts, 2, &weak))
        return MOON_ERR_MEMORY;
    return moon_fields_set(fields, MOON_S("ETag"), weak);
}

static enum moon_coding encode_choose(const struct moon_exchange *x,
                                      const struct moon_compression_conf *conf)
{
    enum moon_coding offered[2];
    size_t n = 0;
    if (conf->has_brotli)
        offered[n++] = MOON_CODING_BROTLI;
    if (conf->has_gzip)
        offered[n++] = MOON_CODING_GZIP;
    struct moon_slice accept = x->accept_encoding;
    if (accept.data == NULL)
        accept = moon_fields_joined(&x->request.fields, MOON_S("Accept-Encoding"));
    return moon_coding_choose(accept, offered, n);
}

static enum moon_rc encode_tell(struct moon_exchange *x, enum moon_coding coding)
{
    enum moon_rc rc = encode_weaken(x);
    return rc != MOON_OK ? rc
                         : moon_fields_set(&x->response.fields, MOON_S("Content-Encoding"),
                                           moon_coding_name(coding));
}

// What held of the bytes before they were compressed.
static void encode_forget(struct moon_exchange *x)
{
    (void)moon_fields_remove(&x->response.fields, MOON_S("Accept-Ranges"));
    (void)moon_fields_remove(&x->response.fields, MOON_S("Content-MD5"));
}

// HEAD is told what GET would be (RFC 9110 §9.3.2), but no length: nobody has compressed it, and that
// of the origin would not be true (§8.6). Without one, GET may be too short to be compressed.
static void encode_tell_head(struct moon_exchange *x, enum moon_coding coding)
{
    if (x->response.content_length < 0 || encode_tell(x, coding) != MOON_OK)
        return;
    encode_forget(x);
    x->response.content_length = -1;
}

// A body that is here whole is compressed whole, so that its length can be told.
static enum moon_rc encode_kept(struct moon_exchange *x)
{
    struct moon_slice data = moon_buf_slice(&x->response_body);
    enum moon_rc rc = moon_encode_run(x, &data, true);
    if (rc == MOON_OK) {
        struct moon_buf whole = x->encoded;
        x->encoded = x->response_body;
        x->response_body = whole;
        x->response.framing = MOON_FRAMING_LENGTH;
        x->response.content_length = (int64_t)moon_buf_len(&x->response_body);
    }
    moon_encode_end(x);
    return rc;
}

// A client that asks by the tag of what was compressed for it must not be given the origin's strong one,
// by which it could join parts of the two (RFC 9110 §15.4.5).
static void encode_not_modified(struct moon_exchange *x)
{
    const struct moon_field *etag = moon_fields_find(&x->response.fields, MOON_S("ETag"));
    struct moon_slice asked = moon_fields_joined(&x->request.fields, MOON_S("If-None-Match"));
    struct moon_slice one;
    while (etag != NULL && moon_slice_next_element(&asked, &one)) {
        if (!moon_slice_starts(one, MOON_S("W/")) ||
            !moon_slice_is(moon_slice_from(one, 2), etag->value))
            continue;
        (void)(encode_add_vary(x) == MOON_OK && encode_weaken(x) == MOON_OK);
        return;
    }
}

void moon_encode_start(struct moon_exchange *x)
{
    const struct moon_compression_conf *conf =
        x->ctx.leaf == NULL ? NULL : &x->ctx.leaf->compression;
    if (conf != NULL && conf->is_on && x->response.status == 304)
        encode_not_modified(x);
    if (conf == NULL || !conf->is_on || !encode_is_fit(x, conf) || encode_add_vary(x) != MOON_OK)
        return;
    enum moon_coding coding = encode_choose(x, conf);
    if (coding == MOON_CODING_NONE)
        return;
    if (x->request.client_method == MOON_METHOD_HEAD) {
        encode_tell_head(x, coding);
        return;
    }
    moon_encode_end(x); // of an answer that was given up
    x->compress = moon_compress_new(coding, coding == MOON_CODING_GZIP ? conf->gzip_level
                                                                       : conf->brotli_quality);
    moon_buf_init(&x->encoded, ENCODE_CEILING_BYTES);
    if (x->compress == NULL || encode_tell(x, coding) != MOON_OK) {
        moon_encode_end(x);
        return;
    }
    if (x->is_response_kept && encode_kept(x) != MOON_OK) {
        (void)moon_fields_remove(&x->response.fields, MOON_S("Content-Encoding"));
        moon_encode_end(x);
        return;
    }
    encode_forget(x);
    if (!x->is_response_kept) {
        x->response.framing = MOON_FRAMING_CHUNKED;
        x->response.content_length = -1;
    }
}

enum moon_rc moon_encode_run(struct moon_exchange *x, struct moon_slice *data, bool is_last)
{
    if (x->compress == NULL)
        return MOON_OK;
    moon_buf_clear(&x->encoded);
    enum moon_rc rc = moon_compress_run(x->compress, *data, is_last, &x->encoded);
    if (rc == MOON_OK)
        *data = moon_buf_slice(&x->encoded);
    return rc;
}

void moon_encode_end(struct moon_exchange *x)
{
    moon_compress_free(x->compress);
    x->compress = NULL;
    moon_buf_fini(&x->encoded);
}
