/* SPDX-License-Identifier: Apache-2.0 */
#include "json/value.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTPUT_MAX ((size_t)16 << 20)

// The text grows in a userdata on the Lua stack, so that an error raised by Lua leaks nothing.
struct out {
    lua_State *L;
    int slot;
    char *data;
    size_t len; // <= cap
    size_t cap;
    const char *error;
};

struct frame {
    int table; // stack index
    int count; // items of an array; -1: an object, whose last key lies above the table
    int next;
};

static bool reserve(struct out *o, size_t more)
{
    if (o->cap - o->len >= more) {
        return true;
    }
    size_t cap = o->cap * 2 > o->len + more ? o->cap * 2 : o->len + more;
    if (cap > OUTPUT_MAX) {
        o->error = "the text would be longer than 16 MiB";
        return false;
    }
    char *grown = lua_newuserdata(o->L, cap);
    if (o->len > 0) {
        memcpy(grown, o->data, o->len);
    }
    lua_replace(o->L, o->slot);
    o->data = grown;
    o->cap = cap;
    return true;
}

static bool put(struct out *o, const char *bytes, size_t len)
{
    if (!reserve(o, len)) {
        return false;
    }
    memcpy(o->data + o->len, bytes, len);
    o->len += len;
    return true;
}

static bool put_escaped(struct out *o, unsigned char c)
{
    static const char SHORT[] = "btnvfr"; // 0x08 to 0x0D; \v has no short form
    char text[8];
    if (c == '"' || c == '\\') {
        text[0] = '\\';
        text[1] = (char)c;
        return put(o, text, 2);
    }
    if (c >= 0x08 && c <= 0x0D && c != 0x0B) {
        text[0] = '\\';
        text[1] = SHORT[c - 0x08];
        return put(o, text, 2);
    }
    int n = snprintf(text, sizeof text, "\\u%04x", c);
    return put(o, text, (size_t)n);
}

// The end of the run that needs no escape; NULL: not UTF-8.
static const char *plain_end(const char *s, const char *end)
{
    while (s < end) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == '"' || c == '\\') {
            break;
        }
        size_t n = c < 0x80 ? 1 : json_utf8(s, end);
        if (n == 0) {
            return NULL;
        }
        s += n;
    }
    return s;
}

static bool put_string(struct out *o, const char *s, size_t len)
{
    const char *end = s + len;
    bool is_well = put(o, "\"", 1);
    while (is_well && s < end) {
        const char *stop = plain_end(s, end);
        if (stop == NULL) {
            o->error = "a string is not UTF-8";
            return false;
        }
        is_well = put(o, s, (size_t)(stop - s));
        s = stop;
        if (is_well && s < end) {
            is_well = put_escaped(o, (unsigned char)*s++);
        }
    }
    return is_well && put(o, "\"", 1);
}

static bool put_number(struct out *o, double value)
{
    char text[40];
    int n;
    if (!isfinite(value)) {
        o->error = "a number is not finite";
        return false;
    }
    if (value == floor(value) && fabs(value) < 1e15) {
        n = snprintf(text, sizeof text, "%.0f", value);
        return put(o, text, (size_t)n);
    }
    for (int digits = 15;; digits++) {
        n = snprintf(text, sizeof text, "%.*g", digits, value);
        if (digits == 17 || strtod(text, NULL) == value) {
            return put(o, text, (size_t)n);
        }
    }
}

static bool is_marked_array(lua_State *L, int index)
{
    if (lua_getmetatable(L, index) == 0) {
        return false;
    }
    luaL_getmetatable(L, MOON_JSON_ARRAY_MT);
    bool is_marked = lua_rawequal(L, -1, -2) != 0;
    lua_pop(L, 2);
    return is_marked;
}

// The number of items when the table is an array, -1 when it is an object, -2 when it is neither.
static int classify(lua_State *L, int index)
{
    size_t items = lua_objlen(L, index);
    bool is_marked = is_marked_array(L, index);
    if (items == 0 && !is_marked) {
        return -1; // a table without items is an object; its keys are checked as they are written
    }
    size_t keys = 0;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TNUMBER || ++keys > items) {
            lua_pop(L, 1);
            return -2;
        }
    }
    return keys == items && items < (1U << 30) ? (int)items : -2;
}

static bool put_scalar(struct out *o, int index)
{
    lua_State *L = o->L;
    size_t len;
    const char *s;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, index, &len);
        return put_string(o, s, len);
    case LUA_TNUMBER:
        return put_number(o, lua_tonumber(L, index));
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? put(o, "true", 4) : put(o, "false", 5);
    case LUA_TNIL:
        return put(o, "null", 4);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index) == NULL) {
            return put(o, "null", 4);
        }
        break;
    default:
        break;
    }
    o->error = "a value that JSON does not have";
    return false;
}

// The value on top: a container is opened as a frame and stays there; anything else is written and
// popped.
static bool begin(struct out *o, struct frame *frames, unsigned *depth, unsigned max_depth)
{
    lua_State *L = o->L;
    int top = lua_gettop(L);
    if (!lua_istable(L, top)) {
        bool is_written = put_scalar(o, top);
        lua_settop(L, top - 1);
        return is_written;
    }
    if (*depth >= max_depth || lua_checkstack(L, 8) == 0) {
        o->error = "nested too deeply";
        return false;
    }
    int count = classify(L, top);
    if (count == -2) {
        o->error = "a table is neither a list nor a table of names";
        return false;
    }
    frames[(*depth)++] = (struct frame){.table = top, .count = count, .next = 1};
    if (count == -1) {
        lua_pushnil(L);
    }
    return put(o, count == -1 ? "{" : "[", 1);
}

// Pushes the frame's next item, with its name written; *has_item is false where there is none.
static bool advance(struct out *o, struct frame *f, bool *has_item)
{
    lua_State *L = o->L;
    bool is_first = f->next++ == 1;
    if (f->count >= 0) {
        *has_item = f->next - 1 <= f->count;
        if (*has_item) {
            lua_rawgeti(L, f->table, f->next - 1);
        }
        return !*has_item || is_first || put(o, ",", 1);
    }
    *has_item = lua_next(L, f->table) != 0;
    if (!*has_item) {
        return true;
    }
    if (lua_type(L, -2) != LUA_TSTRING) {
        o->error = "a table is neither a list nor a table of names";
        return false;
    }
    size_t len;
    const char *name = lua_tolstring(L, -2, &len);
    return (is_first || put(o, ",", 1)) && put_string(o, name, len) && put(o, ":", 1);
}

const char *json_write(lua_State *L, int index, unsigned max_depth)
{
    struct frame frames[MOON_JSON_MAX_DEPTH];
    unsigned depth = 0;
    luaL_checkstack(L, 8, "JSON");
    if (max_depth > MOON_JSON_MAX_DEPTH) {
        max_depth = MOON_JSON_MAX_DEPTH;
    }
    int base = lua_gettop(L);
    if (index < 0 && index > LUA_REGISTRYINDEX) {
        index = base + index + 1;
    }
    struct out o = {.L = L, .slot = base + 1, .cap = 256};
    o.data = lua_newuserdata(L, o.cap);
    lua_pushvalue(L, index);
    bool is_well = begin(&o, frames, &depth, max_depth);
    while (is_well && depth > 0) {
        struct frame *f = &frames[depth - 1];
        bool has_item = false;
        is_well = advance(&o, f, &has_item);
        if (!is_well) {
            break;
        }
        if (has_item) {
            is_well = begin(&o, frames, &depth, max_depth);
        } else {
            is_well = put(&o, f->count == -1 ? "}" : "]", 1);
            lua_settop(L, f->table - 1);
            depth--;
        }
    }
    if (!is_well) {
        lua_settop(L, base);
        return o.error;
    }
    lua_pushlstring(L, o.data, o.len);
    lua_replace(L, base + 1);
    lua_settop(L, base + 1);
    return NULL;
}
