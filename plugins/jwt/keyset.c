/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt/keyset.h"

#include "json/value.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (1U << 20)

// Where a key came from, and what is known of it beside its text.
struct source {
    const char *place;     // "keys[2]"
    bool is_lenient;       // of a JWK Set: a key that cannot be used is left out
    struct jose_jwk names; // kid, alg and use that stand beside a PEM text or a file
};

struct keyset *jwt_keyset_check(lua_State *L, int index, const char *method)
{
    void *p = lua_touserdata(L, index);
    bool is_keyset = p != NULL && lua_getmetatable(L, index) != 0;
    if (is_keyset) {
        luaL_getmetatable(L, KEYSET_TYPE);
        is_keyset = lua_rawequal(L, -1, -2) != 0;
        lua_pop(L, 2);
    }
    if (!is_keyset) {
        (void)luaL_error(L, "keyset:%s: self must be a keyset, got %s", method,
                         luaL_typename(L, index));
    }
    return p;
}

int jwt_keyset_gc(lua_State *L)
{
    struct keyset *set = lua_touserdata(L, 1);
    for (size_t i = 0; i < set->count; i++) {
        jose_key_fini(set->keys[i]);
        free(set->keys[i]);
        set->keys[i] = NULL;
    }
    set->count = 0;
    return 0;
}

// A string member of the table at `index`; the string stays on the table, so the slice is lent by
// it. Anything but a string is as if absent, except that `*is_wrong` is set.
static struct moon_slice member(lua_State *L, int index, const char *name, bool *is_wrong)
{
    struct moon_slice s = {NULL, 0};
    lua_getfield(L, index, name);
    if (lua_type(L, -1) == LUA_TSTRING) {
        s.data = lua_tolstring(L, -1, &s.len);
    } else if (!lua_isnil(L, -1)) {
        *is_wrong = true;
    }
    lua_pop(L, 1);
    return s;
}

static void read_key_ops(lua_State *L, int index, struct jose_jwk *jwk)
{
    lua_getfield(L, index, "key_ops");
    if (lua_istable(L, -1)) {
        jwk->has_key_ops = true;
        for (int i = 1; i <= 16; i++) {
            lua_rawgeti(L, -1, i);
            const char *op = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
            jwk->may_verify |= strcmp(op, "verify") == 0 || strcmp(op, "sign") == 0;
            jwk->may_decrypt |= strcmp(op, "decrypt") == 0 || strcmp(op, "unwrapKey") == 0 ||
                                strcmp(op, "deriveKey") == 0 || strcmp(op, "deriveBits") == 0;
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static bool read_jwk(lua_State *L, int index, struct jose_jwk *jwk)
{
    bool is_wrong = false;
    memset(jwk, 0, sizeof *jwk);
    struct {
        const char *name;
        struct moon_slice *into;
    } members[] = {{"kty", &jwk->kty}, {"kid", &jwk->kid},    {"alg", &jwk->alg},
                   {"use", &jwk->use}, {"crv", &jwk->crv},    {"n", &jwk->n},
                   {"e", &jwk->e},     {"d", &jwk->d},        {"p", &jwk->p},
                   {"q", &jwk->q},     {"dp", &jwk->dp},      {"dq", &jwk->dq},
                   {"qi", &jwk->qi},   {"x", &jwk->x},        {"y", &jwk->y},
                   {"k", &jwk->k},     {"value", &jwk->value}};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        *members[i].into = member(L, index, members[i].name, &is_wrong);
    }
    read_key_ops(L, index, jwk);
    return !is_wrong;
}

// Pushes an error and returns false: the form of every failure below.
static bool refuse(lua_State *L, const struct source *from, const char *why)
{
    lua_pushfstring(L, "%s: %s", from->place, why);
    return false;
}

static bool is_same_kid(const struct jose_key *a, const struct jose_key *b)
{
    return a->kid != NULL && b->kid != NULL && a->kid_len == b->kid_len &&
           memcmp(a->kid, b->kid, a->kid_len) == 0;
}

static bool keep(lua_State *L, struct keyset *set, struct jose_key *key, const char *error,
                 const struct source *from)
{
    for (size_t i = 0; error == NULL && i < set->count; i++) {
        if (is_same_kid(set->keys[i], key) && (set->keys[i]->allowed & key->allowed) != 0) {
            jose_key_fini(key);
            free(key);
            return refuse(L, from, "two keys for the same algorithm have the same kid");
        }
    }
    if (error == NULL && set->is_public_only && from->is_lenient && key->kty == JOSE_KTY_OCT) {
        error = "a secret among published keys";
    }
    if (error == NULL && set->count == KEYSET_MAX) {
        error = "there are more than 64 keys";
    }
    if (error != NULL) {
        jose_key_fini(key);
        free(key);
        set->skipped++;
        return from->is_lenient || refuse(L, from, error);
    }
    set->keys[set->count++] = key;
    return true;
}

static bool add_jwk(lua_State *L, struct keyset *set, int index, const struct source *from)
{
    struct jose_jwk jwk;
    if (!read_jwk(L, index, &jwk)) {
        set->skipped++;
        return from->is_lenient || refuse(L, from, "a member of the key is not a string");
    }
    struct jose_key *key = malloc(sizeof *key);
    if (key == NULL) {
        return refuse(L, from, "no memory");
    }
    const char *error = jose_key_from_jwk(key, &jwk, set->allowed);
    return keep(L, set, key, error, from);
}

static bool add_pem(lua_State *L, struct keyset *set, struct moon_slice pem,
                    const struct source *from)
{
    struct jose_key *key = malloc(sizeof *key);
    if (key == NULL) {
        return refuse(L, from, "no memory");
    }
    const char *error = jose_key_from_pem(key, pem, &from->names, set->allowed);
    return keep(L, set, key, error, from);
}

// A JWK Set whose secrets and public keys lie side by side invites to take the one for the other.
static bool is_mixed(const struct keyset *set, size_t first)
{
    for (size_t i = first + 1; i < set->count; i++) {
        if ((set->keys[i]->kty == JOSE_KTY_OCT) != (set->keys[first]->kty == JOSE_KTY_OCT)) {
            return true;
        }
    }
    return false;
}

// Whether a key with the same kid, kty, use and alg was seen before, in the table at `seen`.
static bool is_repeated(lua_State *L, int index, int seen)
{
    static const char *const NAMES[] = {"kid", "kty", "use", "alg"};
    bool is_wrong = false;
    if (member(L, index, "kid", &is_wrong).data == NULL) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        struct moon_slice s = member(L, index, NAMES[i], &is_wrong);
        lua_pushlstring(L, s.data != NULL ? s.data : "", s.len);
        lua_pushlstring(L, "", 1);
    }
    lua_concat(L, 8);
    lua_pushvalue(L, -1);
    lua_rawget(L, seen);
    bool is_known = !lua_isnil(L, -1);
    lua_pop(L, 1);
    lua_pushboolean(L, true);
    lua_rawset(L, seen);
    return is_known;
}

// The array of keys at `index`.
static bool add_set(lua_State *L, struct keyset *set, int index, const struct source *from)
{
    struct source lenient = *from;
    size_t first = set->count;
    lenient.is_lenient = true;
    lua_newtable(L);
    int seen = lua_gettop(L);
    for (int i = 1; i <= 1024; i++) {
        lua_rawgeti(L, index, i);
        if (lua_isnil(L, -1)) {
            break;
        }
        if (lua_istable(L, -1) && is_repeated(L, seen + 1, seen)) {
            return refuse(L, from, "two keys of one kind have the same kid");
        }
        if (lua_istable(L, -1) && !add_jwk(L, set, seen + 1, &lenient)) {
            return false;
        }
        lua_settop(L, seen);
    }
    lua_settop(L, seen - 1);
    if (first < set->count && is_mixed(set, first)) {
        return refuse(L, from, "the set mixes secrets and public keys");
    }
    return true;
}

// A JWK or a JWK Set as a table.
static bool add_table(lua_State *L, struct keyset *set, int index, const struct source *from)
{
    lua_getfield(L, index, "keys");
    bool is_set = lua_istable(L, -1);
    bool is_well = is_set ? add_set(L, set, lua_gettop(L), from) : true;
    if (!is_well) {
        return false;
    }
    lua_pop(L, 1);
    return is_set || add_jwk(L, set, index, from);
}

static bool add_json(lua_State *L, struct keyset *set, struct moon_slice text,
                     const struct source *from)
{
    struct moon_json_reader reader;
    json_reader_init(&reader, text, lua_newuserdata(L, text.len + 1), 32);
    const char *error = json_push(L, &reader, true, NULL);
    if (error != NULL) {
        lua_pushfstring(L, "%s: not a PEM text, and not JSON: %s", from->place, error);
        return false;
    }
    if (!lua_istable(L, -1)) {
        return refuse(L, from, "not a JWK or a JWK Set");
    }
    if (!add_table(L, set, lua_gettop(L), from)) {
        return false;
    }
    lua_pop(L, 2);
    return true;
}

static bool add_text(lua_State *L, struct keyset *set, struct moon_slice text,
                     const struct source *from)
{
    if (text.len > TEXT_MAX) {
        return refuse(L, from, "longer than 1 MiB");
    }
    return memmem(text.data, text.len, "-----BEGIN", 10) != NULL ? add_pem(L, set, text, from)
                                                                 : add_json(L, set, text, from);
}

static bool add_file(lua_State *L, struct keyset *set, struct moon_slice path,
                     const struct source *from)
{
    struct moon_slice text;
    if (!jwt_host()->read_file(L, path.data, &text)) {
        lua_pushfstring(L, "%s: cannot read %s", from->place, path.data);
        return false;
    }
    return add_text(L, set, text, from);
}

// One entry of `keys`: a text, or a table of one of the forms.
static bool add_entry(lua_State *L, struct keyset *set, int index, struct source *from)
{
    bool is_wrong = false;
    struct moon_slice text;
    if (lua_type(L, index) == LUA_TSTRING) {
        text.data = lua_tolstring(L, index, &text.len);
        return add_text(L, set, text, from);
    }
    if (!lua_istable(L, index)) {
        return refuse(L, from, "expected a JWK, a PEM text, or a table with file or pem");
    }
    (void)read_jwk(L, index, &from->names);
    text = member(L, index, "file", &is_wrong);
    if (text.data != NULL) {
        return add_file(L, set, text, from);
    }
    text = member(L, index, "pem", &is_wrong);
    if (text.data != NULL) {
        return add_pem(L, set, text, from);
    }
    return !is_wrong ? add_table(L, set, index, from) : refuse(L, from, "not a string");
}

// Which algorithms the list at `index` names, as bits. 0: an error was pushed.
static uint32_t read_algorithms(lua_State *L, int index)
{
    uint32_t mask = 0;
    if (!lua_istable(L, index) || lua_objlen(L, index) == 0) {
        lua_pushliteral(L, "algorithms: a list of the algorithms that are accepted is required");
        return 0;
    }
    for (int i = 1; i <= (int)lua_objlen(L, index); i++) {
        lua_rawgeti(L, index, i);
        struct moon_slice name = {"", 0};
        if (lua_type(L, -1) == LUA_TSTRING) {
            name.data = lua_tolstring(L, -1, &name.len);
        }
        const struct jose_algorithm *a = jose_find_algorithm(name);
        if (a == NULL) {
            lua_pushfstring(L, "algorithms[%d]: there is no algorithm %s", i, name.data);
            return 0;
        }
        mask |= 1U << a->id;
        lua_pop(L, 1);
    }
    return mask;
}

static bool add_entries(lua_State *L, struct keyset *set, int index)
{
    char place[32] = "keys[";
    int count = (int)lua_objlen(L, index);
    if (count == 0) {
        struct source from = {.place = "keys"}; // one key, or a whole set, without a list around it
        return lua_next(L, (lua_pushnil(L), index)) == 0 ||
               (lua_pop(L, 2), add_entry(L, set, index, &from));
    }
    for (int i = 1; i <= count && i <= 1024; i++) {
        struct source from = {.place = lua_pushfstring(L, "%s%d]", place, i)};
        lua_rawgeti(L, index, i);
        if (!add_entry(L, set, lua_gettop(L), &from)) {
            return false;
        }
        lua_pop(L, 2);
    }
    return true;
}

static bool build(lua_State *L, struct keyset *set)
{
    lua_getfield(L, 1, "algorithms");
    set->allowed = read_algorithms(L, lua_gettop(L));
    if (set->allowed == 0) {
        return false;
    }
    lua_getfield(L, 1, "require_signed");
    set->requires_signature = lua_isnil(L, -1) || lua_toboolean(L, -1);
    lua_getfield(L, 1, "public_only");
    set->is_public_only = lua_toboolean(L, -1);
    lua_getfield(L, 1, "keys");
    if (lua_istable(L, -1) && !add_entries(L, set, lua_gettop(L))) {
        return false;
    }
    lua_getfield(L, 1, "jwks");
    if (lua_type(L, -1) == LUA_TSTRING) {
        struct source from = {.place = "jwks", .is_lenient = true};
        struct moon_slice text;
        text.data = lua_tolstring(L, -1, &text.len);
        if (text.len > TEXT_MAX) {
            return refuse(L, &from, "longer than 1 MiB");
        }
        if (!add_json(L, set, text, &from)) {
            return false;
        }
    }
    if (set->count == 0) {
        lua_pushfstring(L, "no key can be used (%d left out)", (int)set->skipped);
        return false;
    }
    return true;
}

int jwt_keyset_new(lua_State *L)
{
    if (!lua_istable(L, 1)) {
        return luaL_error(L, "jwt.keyset: options must be a table, got %s", luaL_typename(L, 1));
    }
    lua_settop(L, 1);
    luaL_checkstack(L, 64, "jwt.keyset");
    struct keyset *set = lua_newuserdata(L, sizeof *set);
    memset(set, 0, sizeof *set);
    luaL_getmetatable(L, KEYSET_TYPE);
    lua_setmetatable(L, -2);
    if (!build(L, set)) {
        lua_pushnil(L);
        lua_insert(L, -2); // nil, error
        return 2;
    }
    lua_settop(L, 2);
    return 1;
}
