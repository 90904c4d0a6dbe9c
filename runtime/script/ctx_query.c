/* SPDX-License-Identifier: Apache-2.0 */

/// `ctx.request.query`: parameters by name. Where they lie in the query is found once; what policies
/// do not touch stays as the client wrote it.

#include "http/uri.h"
#include "script/ctx_internal.h"

/// A parameter: `name` or `name=value`.
struct query_pair {
    uint32_t at, name_len, len; // of the query's bytes
    bool is_escaped;            // the name has to be decoded
};

/// Those of one query. Arena.
struct moon_query_pairs {
    struct moon_slice query; // whose they are; another one is looked through again
    size_t count;
    struct query_pair pairs[];
};

static bool query_name_is_escaped(struct moon_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '%' || name.data[i] == '+')
            return true;
    }
    return false;
}

static size_t query_count_most(struct moon_slice query)
{
    size_t count = 1;
    for (size_t i = 0; i < query.len; i++)
        count += query.data[i] == '&';
    return count;
}

static struct moon_query_pairs *query_look_through(struct moon_ctx *x)
{
    struct moon_slice query = x->request->query, rest = query, name, value;
    size_t most = query_count_most(query);
    struct moon_query_pairs *found =
        moon_arena_alloc(x->arena, sizeof(*found) + most * sizeof(found->pairs[0]));
    if (found == NULL)
        return NULL;
    found->query = query;
    found->count = 0;
    while (moon_query_next(&rest, &name, &value)) {
        found->pairs[found->count++] = (struct query_pair){
            .at = (uint32_t)(name.data - query.data),
            .name_len = (uint32_t)name.len,
            .len = (uint32_t)(name.len + (value.data != NULL ? value.len + 1 : 0)), // with the '='
            .is_escaped = query_name_is_escaped(name),
        };
    }
    x->query_pairs = found;
    return found;
}

// NULL when the arena is full.
static struct moon_query_pairs *query_pairs(struct moon_ctx *x)
{
    struct moon_slice query = x->request->query;
    struct moon_query_pairs *known = x->query_pairs;
    if (known != NULL && known->query.data == query.data && known->query.len == query.len)
        return known;
    return query_look_through(x);
}

static const struct moon_query_pairs *query_check_pairs(lua_State *L, struct moon_ctx *x)
{
    const struct moon_query_pairs *all = query_pairs(x);
    if (all == NULL)
        moon_raise_full(L);
    return all;
}

static struct moon_slice query_name(const struct moon_query_pairs *all,
                                    const struct query_pair *pair)
{
    MOON_ASSERT(all->query.data != NULL); // an empty query has no pairs
    return moon_slice(all->query.data + pair->at, pair->name_len);
}

// NULL data where no '=' follows the name.
static struct moon_slice query_value(const struct moon_query_pairs *all,
                                     const struct query_pair *pair)
{
    size_t before = (size_t)pair->name_len + 1;
    return pair->len < before ? moon_slice(NULL, 0)
                              : moon_slice(all->query.data + pair->at + before, pair->len - before);
}

// Whether a parameter's name says `wanted` when it is decoded, which makes it no longer.
static bool query_is(const struct moon_ctx *x, const struct moon_query_pairs *all,
                     const struct query_pair *pair, struct moon_slice wanted)
{
    if (pair->name_len < wanted.len)
        return false;
    if (MOON_UNLIKELY(pair->is_escaped))
        return moon_slice_is(moon_uri_decode(x->arena, query_name(all, pair), true), wanted);
    return moon_slice_is(query_name(all, pair), wanted);
}

// The place of the first one, from `from` on; the count when there is none.
static size_t query_find(const struct moon_ctx *x, const struct moon_query_pairs *all, size_t from,
                         struct moon_slice wanted)
{
    while (from < all->count && !query_is(x, all, &all->pairs[from], wanted))
        from++;
    return from;
}

/// query[name] -> first value, decoded | nil
static int query_index(lua_State *L)
{
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_QUERY);
    const struct moon_query_pairs *all = query_check_pairs(L, x);
    size_t i = query_find(x, all, 0, moon_check_slice(L, 2));
    if (i == all->count)
        return 0;
    moon_push_slice(L, moon_uri_decode(x->arena, query_value(all, &all->pairs[i]), true));
    return 1;
}

static void query_append(lua_State *L, struct moon_buf *out, struct moon_slice name,
                         struct moon_slice value)
{
    enum moon_rc rc = moon_buf_len(out) > 0 ? moon_buf_append(out, MOON_S("&")) : MOON_OK;
    if (rc == MOON_OK)
        rc = moon_buf_append(out, name);
    if (rc == MOON_OK && value.data != NULL)
        rc = moon_buf_append(out, MOON_S("="));
    if (rc == MOON_OK)
        rc = moon_buf_append(out, value);
    if (rc != MOON_OK) {
        moon_buf_fini(out);
        moon_raise_full(L);
    }
}

// Appends the new values of the parameter: a string, or each of a table.
static void query_append_new(lua_State *L, struct moon_ctx *x, struct moon_buf *out,
                             struct moon_slice wanted)
{
    struct moon_slice name = moon_uri_encode(x->arena, wanted);
    if (!lua_istable(L, 3)) {
        query_append(L, out, name, moon_uri_encode(x->arena, moon_check_slice(L, 3)));
        return;
    }
    size_t n = lua_objlen(L, 3);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, 3, (int)i);
        struct moon_slice value = moon_slice(NULL, 0);
        if (lua_isstring(L, -1))
            value = moon_uri_encode(x->arena, moon_check_slice(L, -1));
        query_append(L, out, name, value);
        lua_pop(L, 1);
    }
}

struct moon_slice moon_ctx_query_value(struct moon_ctx *x, struct moon_slice wanted)
{
    const struct moon_query_pairs *all = query_pairs(x);
    size_t i = all == NULL ? 0 : query_find(x, all, 0, wanted);
    if (all == NULL || i == all->count)
        return moon_slice(NULL, 0);
    return moon_uri_decode(x->arena, query_value(all, &all->pairs[i]), true);
}

// What is left takes no more room than before, and is looked through already.
bool moon_ctx_remove_query(struct moon_ctx *x, struct moon_slice wanted)
{
    struct moon_query_pairs *all = query_pairs(x);
    if (all == NULL)
        return false;
    if (query_find(x, all, 0, wanted) == all->count)
        return true;
    char *left = moon_arena_alloc(x->arena, all->query.len);
    if (left == NULL)
        return false;
    size_t len = 0, kept = 0;
    for (size_t i = 0; i < all->count; i++) {
        struct query_pair pair = all->pairs[i];
        if (query_is(x, all, &pair, wanted))
            continue;
        if (len > 0)
            left[len++] = '&';
        memcpy(left + len, all->query.data + pair.at, pair.len);
        pair.at = (uint32_t)len;
        len += pair.len;
        all->pairs[kept++] = pair;
    }
    all->count = kept;
    all->query = moon_slice(len > 0 ? left : NULL, len);
    x->request->query = all->query;
    x->is_path_rewritten = true;
    return true;
}

/// query[name] = value | { values } | nil; the others stay as the client wrote them.
static int query_newindex(lua_State *L)
{
    struct moon_ctx *x = moon_handle_own(L, 1, MOON_HANDLE_QUERY);
    struct moon_slice wanted = moon_check_slice(L, 2);
    if (lua_isnil(L, 3)) {
        return moon_ctx_remove_query(x, wanted) ? 0 : moon_raise_full(L);
    }
    if (!lua_istable(L, 3))
        (void)luaL_checkstring(L, 3);
    struct moon_buf out;
    const struct moon_query_pairs *all = query_check_pairs(L, x);
    moon_buf_init(&out, 65536);
    bool is_placed = false;
    for (size_t i = 0; i < all->count; i++) {
        const struct query_pair *pair = &all->pairs[i];
        if (!query_is(x, all, pair, wanted)) {
            query_append(L, &out, query_name(all, pair), query_value(all, pair));
        } else if (!is_placed) {
            query_append_new(L, x, &out, wanted);
            is_placed = true;
        }
    }
    if (!is_placed)
        query_append_new(L, x, &out, wanted);
    struct moon_slice query = moon_slice(NULL, 0);
    bool is_full =
        moon_buf_len(&out) > 0 && !moon_arena_copy(x->arena, moon_buf_slice(&out), &query);
    moon_buf_fini(&out);
    if (is_full)
        return moon_raise_full(L);
    x->request->query = query;
    x->is_path_rewritten = true;
    return 0;
}

void moon_ctx_open_query(lua_State *L, struct moon_script *script)
{
    moon_ctx_new_class(L, script, MOON_HANDLE_QUERY, NULL, NULL, query_index, query_newindex);
}
