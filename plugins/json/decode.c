/* SPDX-License-Identifier: Apache-2.0 */
#include "json/value.h"

#include <lauxlib.h>

enum { DECODE_PACE = 256 };

struct decoder {
    struct moon_json_reader *reader;
    bool refuse_duplicates;
    int array_mt;                             // stack index of the arrays' metatable
    uint32_t counts[MOON_JSON_MAX_DEPTH + 1]; // items so far of each open container; 0: of none
};

static const char *push_name(lua_State *L, struct decoder *d)
{
    lua_pushlstring(L, d->reader->name.data, d->reader->name.len);
    if (!d->refuse_duplicates) {
        return NULL;
    }
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    bool is_known = !lua_isnil(L, -1);
    lua_pop(L, 1);
    return is_known ? "duplicate member" : NULL;
}

static void push_container(lua_State *L, struct decoder *d, bool is_object)
{
    lua_newtable(L);
    if (!is_object) {
        lua_pushvalue(L, d->array_mt);
        (void)lua_setmetatable(L, -2);
    }
    d->counts[d->reader->depth] = 0;
}

static void push_scalar(lua_State *L, const struct moon_json_reader *r, enum moon_json_token token)
{
    if (token == MOON_JSON_STRING) {
        lua_pushlstring(L, r->text.data, r->text.len);
    } else if (token == MOON_JSON_NUMBER) {
        lua_pushnumber(L, r->number);
    } else if (token == MOON_JSON_NULL) {
        lua_pushlightuserdata(L, NULL);
    } else {
        lua_pushboolean(L, token == MOON_JSON_TRUE);
    }
}

// The value on top goes into what is open: `table value` for arrays, `table name value` for objects.
static void attach(lua_State *L, struct decoder *d)
{
    const struct moon_json_reader *r = d->reader;
    if (r->closer == '}') {
        lua_rawset(L, -3);
    } else if (r->closer == ']') {
        lua_rawseti(L, -2, (int)++d->counts[r->depth]);
    } // else: the outermost value is the result
}

static const char *step(lua_State *L, struct decoder *d, enum moon_json_token token)
{
    struct moon_json_reader *r = d->reader;
    if (token == MOON_JSON_ERROR) {
        return r->error;
    }
    if (token >= MOON_JSON_OBJECT && r->name.data != NULL) {
        const char *error = push_name(L, d);
        if (error != NULL) {
            return error;
        }
    }
    if (token == MOON_JSON_OBJECT || token == MOON_JSON_ARRAY) {
        push_container(L, d, token == MOON_JSON_OBJECT);
        return lua_checkstack(L, 6) != 0 ? NULL : "nested too deeply";
    }
    if (token >= MOON_JSON_OBJECT) {
        push_scalar(L, r, token);
    }
    attach(L, d);
    return NULL;
}

const char *json_push(lua_State *L, struct moon_json_reader *r, bool refuse_duplicates,
                      void (*pace)(void))
{
    luaL_checkstack(L, 8, "JSON");
    int base = lua_gettop(L);
    (void)luaL_newmetatable(L, MOON_JSON_ARRAY_MT);
    struct decoder d = {.reader = r, .refuse_duplicates = refuse_duplicates, .array_mt = base + 1};
    for (unsigned count = 1;; count++) {
        if (pace != NULL && count % DECODE_PACE == 0) {
            pace();
        }
        enum moon_json_token token = json_next(r);
        if (token == MOON_JSON_DONE) {
            lua_replace(L, base + 1); // the value takes the metatable's place
            return NULL;
        }
        const char *error = step(L, &d, token);
        if (error != NULL) {
            lua_settop(L, base);
            return error;
        }
    }
}
