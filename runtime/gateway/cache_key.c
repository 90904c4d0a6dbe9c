/* SPDX-License-Identifier: Apache-2.0 */

/// What tells cached responses apart: keys, URIs, Vary.

#include "base/hash.h"
#include "gateway/exchange.h"
#include "http/uri.h"

enum { KEY_PARTS = 32, KEY_SEED = 0x6b65 };

/// Parts of a key. Its members are set as they are used: there is a kilobyte of them.
struct key_parts {
    struct moon_slice slices[KEY_PARTS];
    size_t count;
    bool is_full; // something did not fit: the key would not tell requests apart
};

static void key_add(struct key_parts *parts, struct moon_slice s)
{
    if (parts->count == KEY_PARTS)
        parts->is_full = true;
    else
        parts->slices[parts->count++] = s;
}

// What a trusted proxy says of the URL that the client asked for: the backend is told.
static void key_add_proxied(struct key_parts *parts, struct moon_exchange *x)
{
    static const enum moon_field_id ids[] = {
        MOON_FIELD_X_FORWARDED_PROTO, MOON_FIELD_X_FORWARDED_HOST, MOON_FIELD_X_FORWARDED_PORT};
    for (size_t i = 0; x->client->is_trusted_proxy && i < MOON_COUNT(ids); i++) {
        const struct moon_field *field = moon_fields_find_id(&x->request.fields, ids[i]);
        key_add(parts, field == NULL ? moon_slice(NULL, 0) : field->value);
    }
}

// Decoded; where memory is short the key cannot tell requests apart.
static struct moon_slice key_decoded(struct key_parts *parts, struct moon_exchange *x,
                                     struct moon_slice text)
{
    struct moon_slice decoded = moon_uri_decode(&x->arena, text, true);
    parts->is_full |= decoded.data == NULL && text.len > 0;
    return decoded;
}

// The named parameters, in the order in which the rule names them.
static void key_add_query(struct key_parts *parts, struct moon_exchange *x,
                          const struct moon_cache_rule *rule)
{
    for (size_t i = 0; i < rule->vary_query_count; i++) {
        struct moon_slice rest = x->request.query, name, value;
        while (moon_query_next(&rest, &name, &value)) {
            if (moon_slice_is(key_decoded(parts, x, name), rule->vary_query[i])) {
                key_add(parts, rule->vary_query[i]);
                key_add(parts, key_decoded(parts, x, value));
            }
        }
    }
}

// "api.test:8080": with a port that is not the scheme's own, as most write it, it is what it comes to.
static bool key_is_authority(struct moon_slice authority, struct moon_slice host, int usual)
{
    if (!moon_slice_starts(authority, host))
        return false;
    struct moon_slice rest = moon_slice_from(authority, host.len);
    bool is_port =
        rest.len >= 2 && rest.data[0] == ':' && rest.data[1] >= '1' && rest.data[1] <= '9';
    return is_port && !moon_slice_is(rest, usual == 443 ? MOON_S(":443") : MOON_S(":80"));
}

struct moon_slice moon_cache_authority(struct moon_exchange *x)
{
    struct moon_authority authority;
    if (moon_slice_is(x->request.authority, x->request.host))
        return x->request.host;
    int usual = moon_slice_is(x->request.scheme, MOON_S("https")) ? 443 : 80;
    if (key_is_authority(x->request.authority, x->request.host, usual))
        return x->request.authority;
    if (!moon_uri_parse_authority(x->request.authority, &authority))
        return x->request.host;
    if (authority.port == 0 || authority.port == usual)
        return x->request.host;
    char digits[MOON_NUMBER_TEXT_BYTES];
    // "[::1]:8080" is another host than "[::1:8080]".
    struct moon_slice open = authority.is_ip_literal ? MOON_S("[") : MOON_S("");
    struct moon_slice parts[4] = {open, x->request.host,
                                  authority.is_ip_literal ? MOON_S("]:") : MOON_S(":"),
                                  moon_slice_of_number(digits, authority.port)};
    struct moon_slice text;
    return moon_arena_join(&x->arena, parts, 4, &text) ? text : x->request.host;
}

// One text, alike on all nodes: each part with its length before it, so that no two lists of parts are
// alike.
static bool key_text(struct moon_exchange *x, const struct key_parts *parts)
{
    struct moon_slice slices[2 * KEY_PARTS];
    uint32_t lengths[KEY_PARTS];
    for (size_t i = 0; i < parts->count; i++) {
        struct moon_slice part = parts->slices[i];
        lengths[i] = part.data == NULL ? UINT32_MAX : (uint32_t)part.len;
        slices[2 * i] = moon_slice((const char *)&lengths[i], sizeof(lengths[i]));
        slices[2 * i + 1] = part;
    }
    return moon_arena_join(&x->arena, slices, 2 * parts->count, &x->cache->key_text);
}

bool moon_cache_make_key(struct moon_exchange *x, const struct moon_cache_rule *rule,
                         const struct moon_cache_key_parts *given, struct moon_store_key *key)
{
    struct key_parts parts;
    uint64_t hash[2], variants[MOON_CACHE_RULE_NAMES];
    parts.count = 0;
    parts.is_full = false;
    key_add(&parts, moon_slice((const char *)&rule->flavour, sizeof(rule->flavour)));
    if (given->key.data != NULL) {
        key_add(&parts, given->key);
    } else {
        key_add(&parts, x->request.scheme);
        key_add(&parts, moon_cache_authority(x));
        key_add(&parts, x->request.path);
        key_add_proxied(&parts, x);
        if (rule->is_query_picked)
            key_add_query(&parts, x, rule);
        else
            key_add(&parts, x->request.query);
    }
    key_add(&parts, given->caller);
    if (rule->is_tiered && !key_text(x, &parts))
        return false;
    for (size_t i = 0; i < rule->vary_header_count; i++) { // these are hashed with this node's key
        variants[i] = moon_cache_variant(&x->request.fields, rule->vary_headers[i]);
        key_add(&parts, moon_slice((const char *)&variants[i], sizeof(variants[i])));
    }
    if (parts.is_full)
        return false;
    moon_hash128_list(KEY_SEED ^ rule->flavour, parts.slices + 1, parts.count - 1, hash);
    *key = (struct moon_store_key){hash[0], hash[1]};
    return true;
}

struct moon_cache_tag moon_cache_name(struct moon_exchange *x)
{
    if (x->cache->own_key.data != NULL)
        return moon_cache_tag(&x->arena, MOON_S("key"), x->cache->own_key);
    return moon_cache_uri_tag(&x->arena, x->request.scheme, moon_cache_authority(x), x->cache->path,
                              x->cache->query);
}

// ---- Vary --------------------------------------------------------------------------------------

// Fields whose elements mean the same in any order and case.
static bool variant_is_loose(struct moon_slice name)
{
    switch ((int)moon_field_id(name)) {
    case MOON_FIELD_ACCEPT:
    case MOON_FIELD_ACCEPT_CHARSET:
    case MOON_FIELD_ACCEPT_ENCODING:
    case MOON_FIELD_ACCEPT_LANGUAGE:
        return true;
    default:
        return false;
    }
}

// Without the spaces that mean nothing: "en ; q=0.5" and "en;q=0.5" are one.
static uint64_t variant_element(struct moon_slice element, bool is_loose)
{
    char text[256];
    size_t n = 0;
    if (element.len > sizeof(text) || moon_slice_find(element, '"') < element.len)
        return moon_hash(element);
    for (size_t i = 0; i < element.len; i++) {
        char c = element.data[i];
        if (is_loose && (c == ' ' || c == '\t'))
            continue;
        text[n++] = is_loose ? moon_lower(c) : c;
    }
    return moon_hash(moon_slice(text, n));
}

// All lines of one name, as one list (RFC 9111 §4.1). 1: there is none.
static uint64_t variant_of(const struct moon_fields *request, struct moon_slice name)
{
    bool is_loose = variant_is_loose(name), is_there = false;
    bool is_single = (moon_field_flags(moon_field_id(name)) & MOON_FIELD_SINGLE) != 0;
    uint64_t sum = 0;
    size_t at = 0;
    const struct moon_field *field;
    while ((field = moon_fields_next(request, name, &at)) != NULL) {
        struct moon_slice rest = field->value, element;
        is_there = true;
        if (is_single)
            sum = sum * 31 + moon_hash(field->value);
        while (!is_single && moon_slice_next_element(&rest, &element)) {
            uint64_t h = moon_hash_mix(variant_element(element, is_loose));
            sum = is_loose ? sum + h : moon_hash_mix(sum * 31 + h);
        }
    }
    return is_there ? moon_hash_mix(sum + 2) : 1;
}

uint64_t moon_cache_variant(const struct moon_fields *request, struct moon_slice names)
{
    struct moon_slice name;
    uint64_t h = 0;
    while (moon_slice_next_element(&names, &name))
        h += moon_hash_mix(moon_hash(name) ^ variant_of(request, name));
    return h;
}

static bool variant_put(struct moon_buf *out, struct moon_slice text, bool is_lower, char end)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = is_lower ? moon_lower(text.data[i]) : text.data[i];
        if (moon_buf_append(out, moon_slice(&c, 1)) != MOON_OK)
            return false;
    }
    return moon_buf_append(out, moon_slice(&end, 1)) == MOON_OK;
}

// One line of a field: its elements, each with a comma behind it; a field that is no list is one.
static bool variant_put_line(struct moon_buf *out, struct moon_slice name, struct moon_slice value)
{
    struct moon_slice element;
    bool is_loose = variant_is_loose(name);
    if ((moon_field_flags(moon_field_id(name)) & MOON_FIELD_SINGLE) != 0)
        return variant_put(out, value, false, ',');
    while (moon_slice_next_element(&value, &element)) {
        if (!variant_put(out, element, is_loose, ','))
            return false;
    }
    return true;
}

// What a request says for the names, as one text that all nodes write alike. No field holds the
// bytes that end its parts.
static bool variant_text(const struct moon_fields *request, struct moon_slice names,
                         struct moon_buf *out)
{
    struct moon_slice name;
    while (moon_slice_next_element(&names, &name)) {
        const struct moon_field *field;
        size_t at = 0;
        bool is_there = false;
        if (!variant_put(out, name, true, '\n'))
            return false;
        while ((field = moon_fields_next(request, name, &at)) != NULL) {
            is_there = true;
            if (!variant_put_line(out, name, field->value))
                return false;
        }
        if (!variant_put(out, is_there ? MOON_S("") : MOON_S("\r"), false, '\n'))
            return false;
    }
    return true;
}

bool moon_cache_remote_name(struct moon_exchange *x, const struct moon_fields *request,
                            struct moon_slice vary, uint8_t name[MOON_CACHE_TIER_NAME_BYTES])
{
    const struct moon_cache_rule *rule = x->cache->rule;
    struct moon_buf text;
    moon_buf_init(&text, 65536);
    bool is_good = moon_buf_append(&text, MOON_S(" ")) == MOON_OK;
    for (size_t i = 0; is_good && i < rule->vary_header_count; i++)
        is_good = variant_text(request, rule->vary_headers[i], &text);
    is_good = is_good && moon_buf_append(&text, MOON_S("\n\n")) == MOON_OK &&
              variant_text(request, vary, &text);
    struct moon_slice parts[3] = {x->cache->key_text, moon_buf_slice(&text), vary};
    is_good = is_good && moon_cache_digest(&x->arena, parts, MOON_COUNT(parts), name);
    moon_buf_fini(&text);
    return is_good;
}

// Fields that frameworks and servers take for the method, URL or host in place of the request's own:
// an answer to such a request is not what others get for the URL.
static const struct moon_slice key_steering[] = {
    {"x-http-method-override", 22},
    {"x-http-method", 13},
    {"x-method-override", 17},
    {"x-original-url", 14},
    {"x-rewrite-url", 13},
    {"x-original-host", 15},
    {"x-host", 6},
    {"x-forwarded-server", 18},
    {"x-forwarded-scheme", 18},
    {"x-forwarded-prefix", 18},
    {"x-forwarded-path", 16},
    {"x-forwarded-uri", 15},
};

static bool key_has_header(const struct moon_cache_rule *rule, struct moon_slice name)
{
    for (size_t i = 0; i < rule->vary_header_count; i++) {
        if (moon_slice_is(rule->vary_headers[i], name))
            return true;
    }
    return false;
}

bool moon_cache_is_steered(const struct moon_exchange *x)
{
    size_t at;
    for (size_t i = 0; i < MOON_COUNT(key_steering); i++) {
        at = 0;
        if (moon_fields_next(&x->cache->asked, key_steering[i], &at) != NULL &&
            !key_has_header(x->cache->rule, key_steering[i]))
            return true;
    }
    return false;
}

bool moon_cache_is_forwarded_as_is(const struct moon_exchange *x)
{
    static const enum moon_field_id ids[] = {MOON_FIELD_X_FORWARDED_HOST, MOON_FIELD_FORWARDED,
                                             MOON_FIELD_X_FORWARDED_PROTO,
                                             MOON_FIELD_X_FORWARDED_PORT};
    if (x->call.backend == NULL || x->call.backend->conf->is_forwarded)
        return false; // they are the gateway's own
    for (size_t i = 0; i < MOON_COUNT(ids); i++) {
        if (moon_fields_find_id(&x->cache->asked, ids[i]) != NULL)
            return true;
    }
    return false;
}

bool moon_cache_vary_is_sound(const struct moon_exchange *x, struct moon_slice names)
{
    struct moon_slice name;
    while (moon_slice_next_element(&names, &name)) {
        enum moon_field_id id = moon_field_id(name);
        // These follow from what is in the key.
        bool is_keyed = id == MOON_FIELD_HOST || id == MOON_FIELD_X_FORWARDED_HOST ||
                        id == MOON_FIELD_X_FORWARDED_PROTO;
        if (id == MOON_FIELD_ACCEPT_ENCODING && x->accept_encoding.data != NULL)
            is_keyed = true; // none was asked for, which suits every client
        if (!is_keyed && variant_of(&x->cache->asked, name) != variant_of(&x->request.fields, name))
            return false;
    }
    return true;
}

bool moon_cache_vary(struct moon_exchange *x, const struct moon_fields *fields,
                     struct moon_slice *names)
{
    struct moon_slice all = moon_fields_joined(fields, MOON_S("vary"));
    char *text;
    *names = moon_slice("", 0);
    if (all.len == 0)
        return true;
    text = moon_arena_alloc(&x->arena, all.len);
    if (text == NULL)
        return false;
    for (size_t i = 0; i < all.len; i++)
        text[i] = moon_lower(all.data[i]);
    *names = moon_slice(text, all.len);
    return true;
}

// ---- heads -------------------------------------------------------------------------------------

/// A packed head: this, the Vary names, then the fields, each with its lengths before it.
struct packed_head {
    uint16_t status, field_count;
    uint32_t vary_len;
};

struct packed_field {
    uint16_t id;
    uint16_t name_len;
    uint32_t value_len;
};

static bool pack_skips(const struct moon_response *response, size_t i, bool has_qualified)
{
    enum moon_field_id id = (enum moon_field_id)response->fields.ids[i];
    if (id == MOON_FIELD_AGE || id == MOON_FIELD_CONTENT_LENGTH ||
        moon_slice_is_nocase(response->fields.items[i].name, MOON_S("cache-status")) ||
        (moon_field_flags(id) & MOON_FIELD_HOP) != 0)
        return true;
    return has_qualified &&
           moon_cache_control_names(&response->fields, response->fields.items[i].name);
}

static char *pack_put(char *at, const void *bytes, size_t n)
{
    if (n > 0)
        memcpy(at, bytes, n);
    return at + n;
}

bool moon_cache_pack(struct moon_exchange *x, const struct moon_response *response,
                     struct moon_slice vary, struct moon_slice *head)
{
    const struct moon_fields *fields = &response->fields;
    struct packed_head start = {(uint16_t)response->status, 0, (uint32_t)vary.len};
    struct moon_cache_control cc;
    moon_cache_control_read(&cc, fields, false);
    bool has_qualified = (cc.flags & (MOON_CC_NO_CACHE_FIELDS | MOON_CC_PRIVATE_FIELDS)) != 0;
    size_t total = sizeof(start) + vary.len;
    for (size_t i = 0; i < fields->count; i++)
        total +=
            sizeof(struct packed_field) + fields->items[i].name.len + fields->items[i].value.len;
    char *bytes = moon_arena_alloc(&x->arena, total);
    if (bytes == NULL)
        return false;
    char *at = pack_put(bytes + sizeof(start), vary.data, vary.len);
    for (size_t i = 0; i < fields->count; i++) {
        if (pack_skips(response, i, has_qualified))
            continue;
        struct moon_slice name = fields->items[i].name, value = fields->items[i].value;
        struct packed_field field = {fields->ids[i], (uint16_t)name.len, (uint32_t)value.len};
        at = pack_put(at, &field, sizeof(field));
        at = pack_put(at, name.data, name.len);
        at = pack_put(at, value.data, value.len);
        start.field_count++;
    }
    memcpy(bytes, &start, sizeof(start));
    *head = moon_slice(bytes, (size_t)(at - bytes));
    return true;
}

struct moon_slice moon_cache_packed_vary(struct moon_slice head)
{
    struct packed_head start;
    if (head.len < sizeof(start))
        return moon_slice(NULL, 0);
    memcpy(&start, head.data, sizeof(start));
    return moon_slice(head.data + sizeof(start), start.vary_len);
}

// @return where the next one begins
static const char *packed_take(const char *at, struct packed_field *field, struct moon_slice *name,
                               struct moon_slice *value)
{
    memcpy(field, at, sizeof(*field));
    at += sizeof(*field);
    *name = moon_slice(at, field->name_len);
    at += field->name_len;
    *value = moon_slice(at, field->value_len);
    return at + field->value_len;
}

bool moon_cache_head_is_sound(struct moon_slice head)
{
    struct packed_head start;
    struct packed_field field;
    if (head.len < sizeof(start))
        return false;
    memcpy(&start, head.data, sizeof(start));
    struct moon_slice rest = moon_slice_from(head, sizeof(start));
    if (start.vary_len > rest.len || start.status < 200 || start.status > 999)
        return false;
    rest = moon_slice_from(rest, start.vary_len);
    for (size_t i = 0; i < start.field_count; i++) {
        if (rest.len < sizeof(field))
            return false;
        memcpy(&field, rest.data, sizeof(field));
        rest = moon_slice_from(rest, sizeof(field));
        if (field.name_len == 0 || field.name_len > rest.len ||
            field.value_len > rest.len - field.name_len)
            return false;
        struct moon_slice name = moon_slice(rest.data, field.name_len);
        struct moon_slice value = moon_slice(rest.data + field.name_len, field.value_len);
        if (field.id != moon_field_id(name) || field.id == MOON_FIELD_CONTENT_LENGTH ||
            (moon_field_flags((enum moon_field_id)field.id) & MOON_FIELD_HOP) != 0 ||
            !moon_field_name_is_valid(name) || !moon_field_value_is_valid(value))
            return false;
        rest = moon_slice_from(rest, (size_t)field.name_len + field.value_len);
    }
    return rest.len == 0;
}

bool moon_cache_is_comparable(struct moon_slice head)
{
    struct packed_head start;
    struct packed_field field;
    struct moon_slice name, value, vary = moon_cache_packed_vary(head);
    bool has_strong = false;
    memcpy(&start, head.data, sizeof(start));
    const char *at = head.data + sizeof(start) + start.vary_len;
    for (size_t i = 0; i < start.field_count; i++) {
        at = packed_take(at, &field, &name, &value);
        if (field.id == MOON_FIELD_CONTENT_ENCODING)
            return false;
        if (field.id == MOON_FIELD_ETAG)
            has_strong = moon_slice_starts(value, MOON_S("\""));
    }
    return has_strong && start.status == 200 && !moon_slice_has_token(vary, MOON_S("cookie")) &&
           !moon_slice_has_token(vary, MOON_S("authorization"));
}

bool moon_cache_unpack(struct moon_slice head, struct moon_response *response)
{
    struct packed_head start;
    struct packed_field field;
    struct moon_slice name, value;
    memcpy(&start, head.data, sizeof(start));
    const char *at = head.data + sizeof(start) + start.vary_len;
    response->status = start.status;
    for (size_t i = 0; i < start.field_count; i++) {
        at = packed_take(at, &field, &name, &value);
        if (moon_fields_add_known(&response->fields, (enum moon_field_id)field.id, name, value) !=
            MOON_OK)
            return false;
    }
    return true;
}
