/* SPDX-License-Identifier: Apache-2.0 */
#include "jwt/claims.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static void claims_free(lua_State *L, struct moon_claims *shared)
{
    struct jwt_claims *claims = (struct jwt_claims *)shared;
    luaL_unref(L, LUA_REGISTRYINDEX, claims->value_ref);
    free(claims);
}

static enum moon_text_kind claims_find(const struct moon_claims *shared, struct moon_slice name,
                                       struct moon_slice *text)
{
    const struct jwt_claims *claims = (const struct jwt_claims *)shared;
    for (size_t i = 0; i < claims->count; i++) {
        const struct jwt_claim *claim = &claims->list[i];
        if (claim->name.len == name.len && memcmp(claim->name.data, name.data, name.len) == 0) {
            *text = claim->text;
            return text->data == NULL ? MOON_TEXT_OTHER : MOON_TEXT_FOUND;
        }
    }
    return MOON_TEXT_NONE;
}

static void claims_push(lua_State *L, const struct moon_claims *shared)
{
    jwt_claims_push_value(L, (const struct jwt_claims *)shared);
    lua_getfield(L, -1, "unfold");
    lua_insert(L, -2);
    lua_call(L, 1, 1);
}

void jwt_claims_push_value(lua_State *L, const struct jwt_claims *claims)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, claims->value_ref);
}

// The string at `index`; NULL data for any other value, which stays as it is.
static struct moon_slice claims_text(lua_State *L, int index)
{
    struct moon_slice text = {NULL, 0};
    if (lua_type(L, index) == LUA_TSTRING) {
        text.data = lua_tolstring(L, index, &text.len);
    }
    return text;
}

// How many members with a name there are, and how many bytes their texts have.
static size_t claims_measure(lua_State *L, int claims, size_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    for (lua_pushnil(L); lua_next(L, claims) != 0; lua_pop(L, 1)) {
        struct moon_slice name = claims_text(L, -2);
        if (name.data != NULL) {
            *bytes += name.len + claims_text(L, -1).len;
            count++;
        }
    }
    return count;
}

static struct moon_slice claims_keep(struct moon_slice text, char **at)
{
    if (text.data == NULL) {
        return text;
    }
    struct moon_slice kept = {memcpy(*at, text.data, text.len), text.len};
    *at += text.len;
    return kept;
}

struct jwt_claims *jwt_claims_new(lua_State *L, int value, int claims)
{
    size_t bytes;
    size_t count = claims_measure(L, claims, &bytes);
    struct jwt_claims *made = malloc(sizeof(*made) + count * sizeof(made->list[0]) + bytes);
    if (made == NULL) {
        return NULL;
    }
    *made = (struct jwt_claims){
        .shared = {.uses = 1, .free = claims_free, .push = claims_push, .find = claims_find},
    };
    char *at = (char *)&made->list[count];
    for (lua_pushnil(L); lua_next(L, claims) != 0; lua_pop(L, 1)) {
        struct moon_slice name = claims_text(L, -2);
        if (name.data != NULL) {
            made->list[made->count].name = claims_keep(name, &at);
            made->list[made->count++].text = claims_keep(claims_text(L, -1), &at);
        }
    }
    lua_pushvalue(L, value);
    made->value_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return made;
}
