/* SPDX-License-Identifier: Apache-2.0 */
#include "moongate/plugin.h"

#include "json/value.h"
#include "jsonschema/set.h"

#include <stdlib.h>
#include <string.h>

#define SET_MT "moongate.jsonschema.set"
#define SCHEMA_MT "moongate.jsonschema.schema"
#define DEPTH_DEFAULT 128
#define MISTAKES_DEFAULT 8
#define KEPT_BYTES ((size_t)4 << 20) // of the tape, between calls

struct validator {
    const struct jsc_set *set; // kept alive by the environment
    const struct jsc_schema *schema;
};

struct fetch {
    lua_State *L;
    int resolve; // stack index of the function, 0: none
};

static const struct moon_host *host;
static struct jsc_tape tape; // of the value being judged; kept between calls

static struct moon_slice fetch_by_lua(void *context, struct moon_slice uri)
{
    struct fetch *f = context;
    lua_State *L = f->L;
    struct moon_slice text = {NULL, 0};
    if (f->resolve == 0 || lua_checkstack(L, 4) == 0) {
        return text;
    }
    lua_pushvalue(L, f->resolve);
    lua_pushlstring(L, uri.data, uri.len);
    if (lua_pcall(L, 1, 1, 0) != 0) {
        lua_pop(L, 1);
        return text;
    }
    if (lua_istable(L, -1) && json_write(L, -1, MOON_JSON_MAX_DEPTH) == NULL) {
        lua_replace(L, -2);
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        text.data = lua_tolstring(L, -1, &text.len);
        lua_replace(L, f->resolve + 1); // kept until the next
    } else {
        lua_pop(L, 1);
    }
    return text;
}

static bool read_draft(const char *name, struct jsc_dialect *dialect)
{
    static const struct {
        const char *name;
        enum jsc_draft draft;
    } DRAFTS[] = {{"4", JSC_DRAFT_4},
                  {"draft4", JSC_DRAFT_4},
                  {"6", JSC_DRAFT_7},
                  {"draft6", JSC_DRAFT_7},
                  {"7", JSC_DRAFT_7},
                  {"draft7", JSC_DRAFT_7},
                  {"2019-09", JSC_DRAFT_2019},
                  {"2020-12", JSC_DRAFT_2020},
                  {"openapi-3.0", JSC_OPENAPI_30},
                  {"openapi-3.1", JSC_DRAFT_2020}};
    for (size_t i = 0; i < sizeof DRAFTS / sizeof *DRAFTS; i++) {
        if (strcmp(DRAFTS[i].name, name) == 0) {
            dialect->draft = DRAFTS[i].draft;
            return true;
        }
    }
    return false;
}

static void read_options(lua_State *L, int index, struct jsc_set *set)
{
    set->dialect = (struct jsc_dialect){JSC_DRAFT_2020, true, false};
    if (!lua_istable(L, index)) {
        return;
    }
    lua_getfield(L, index, "draft");
    const char *draft = lua_tostring(L, -1);
    if (draft != NULL && !read_draft(draft, &set->dialect)) {
        (void)luaL_error(L,
                         "jsonschema: draft must be \"4\", \"7\", \"2019-09\", \"2020-12\", "
                         "\"openapi-3.0\" or \"openapi-3.1\", got \"%s\"",
                         draft);
    }
    lua_getfield(L, index, "formats");
    set->asserts_formats = lua_toboolean(L, -1) != 0;
    set->dialect.asserts_formats = set->asserts_formats;
    lua_getfield(L, index, "definition");
    set->is_definition = lua_toboolean(L, -1) != 0;
    lua_pop(L, 3);
}

/// jsonschema.set({draft = "2020-12", formats = false, definition = false, resolve = fn(uri)}?) -> set
/// Several schemas out of the same documents. `definition`: they are OpenAPI's, whose schemas stand
/// wherever a reference says.
static int jsonschema_set(lua_State *L)
{
    lua_settop(L, 1);
    struct jsc_set *set = lua_newuserdata(L, sizeof *set);
    memset(set, 0, sizeof *set);
    luaL_getmetatable(L, SET_MT);
    lua_setmetatable(L, -2);
    read_options(L, 1, set);
    lua_newtable(L);
    if (lua_istable(L, 1)) {
        lua_getfield(L, 1, "resolve");
        lua_setfield(L, -2, "resolve");
    }
    lua_setfenv(L, -2);
    return 1;
}

static int set_gc(lua_State *L)
{
    struct jsc_set *set = luaL_checkudata(L, 1, SET_MT);
    jsc_set_fini(set);
    return 0;
}

// Pushes the resolver of the set at 1, and room for what it gives.
static void begin_fetch(lua_State *L, struct jsc_set *set, struct fetch *f)
{
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "resolve");
    lua_pushnil(L);
    f->L = L;
    f->resolve = lua_isfunction(L, -2) ? lua_gettop(L) - 1 : 0;
    set->fetch = fetch_by_lua;
    set->fetch_context = f;
}

static int fail(lua_State *L, const char *error)
{
    lua_pushnil(L);
    lua_pushstring(L, error);
    return 2;
}

// The text at `index`, of which a table is made one. Returns NULL, or why it cannot.
static const char *as_text(lua_State *L, int index, struct moon_slice *text)
{
    int type = lua_type(L, index);
    if (type == LUA_TTABLE || type == LUA_TBOOLEAN) {
        const char *error = json_write(L, index, MOON_JSON_MAX_DEPTH);
        if (error != NULL) {
            return error;
        }
        lua_replace(L, index);
    } else if (type != LUA_TSTRING) {
        (void)luaL_error(L, "jsonschema: a schema must be a text or a table, got %s",
                         luaL_typename(L, index));
    }
    text->data = lua_tolstring(L, index, &text->len);
    return NULL;
}

/// set:add(uri, text | table) -> true | nil, error
static int set_add(lua_State *L)
{
    struct jsc_set *set = luaL_checkudata(L, 1, SET_MT);
    struct moon_slice uri, text;
    uri.data = luaL_checklstring(L, 2, &uri.len);
    lua_settop(L, 3);
    const char *error = as_text(L, 3, &text);
    if (error != NULL) {
        return fail(L, error);
    }
    host->charge(L, (uint32_t)(text.len / 4) + 10);
    struct fetch f;
    begin_fetch(L, set, &f);
    int document = jsc_set_add(set, uri, text);
    set->fetch = NULL;
    if (document < 0) {
        return fail(L, set->error);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static enum jsc_direction direction_at(lua_State *L, int index)
{
    const char *name = luaL_optstring(L, index, "any");
    if (strcmp(name, "request") == 0) {
        return JSC_REQUEST;
    }
    return strcmp(name, "response") == 0 ? JSC_RESPONSE : JSC_ANY;
}

static int push_schema(lua_State *L, int set_index, struct moon_slice reference,
                       enum jsc_direction direction)
{
    struct jsc_set *set = lua_touserdata(L, set_index);
    struct validator *v = lua_newuserdata(L, sizeof *v);
    *v = (struct validator){set, NULL};
    luaL_getmetatable(L, SCHEMA_MT);
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_pushvalue(L, set_index);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    int result = lua_gettop(L);
    lua_pushvalue(L, set_index);
    lua_insert(L, 1); // where begin_fetch looks
    struct fetch f;
    begin_fetch(L, set, &f);
    v->schema = jsc_set_compile(set, reference, direction);
    set->fetch = NULL;
    if (v->schema == NULL) {
        return fail(L, set->error);
    }
    lua_pushvalue(L, result + 1);
    return 1;
}

/// set:compile(reference, "request" | "response"?) -> schema | nil, error
static int set_compile(lua_State *L)
{
    (void)luaL_checkudata(L, 1, SET_MT);
    struct moon_slice reference;
    reference.data = luaL_checklstring(L, 2, &reference.len);
    return push_schema(L, 1, reference, direction_at(L, 3));
}

/// jsonschema.compile(text | table, {draft, base, resolve, formats, direction}?) -> schema | nil, error
static int jsonschema_compile(lua_State *L)
{
    struct moon_slice text, base = {"", 0};
    lua_settop(L, 2);
    const char *error = as_text(L, 1, &text);
    if (error != NULL) {
        return fail(L, error);
    }
    lua_pushcfunction(L, jsonschema_set);
    lua_pushvalue(L, 2);
    lua_call(L, 1, 1);
    struct jsc_set *set = lua_touserdata(L, 3);
    enum jsc_direction direction = JSC_ANY;
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "base");
        if (lua_type(L, -1) == LUA_TSTRING) {
            base.data = lua_tolstring(L, -1, &base.len);
        }
        lua_getfield(L, 2, "direction");
        direction = direction_at(L, lua_gettop(L));
    }
    host->charge(L, (uint32_t)(text.len / 4) + 10);
    lua_pushvalue(L, 3);
    lua_insert(L, 1);
    struct fetch f;
    begin_fetch(L, set, &f);
    int document = jsc_set_add(set, base, text);
    set->fetch = NULL;
    if (document < 0) {
        return fail(L, set->error);
    }
    return push_schema(L, 1, (struct moon_slice){"", 0}, direction);
}

static void push_mistakes(lua_State *L, const struct jsc_report *report)
{
    lua_createtable(L, (int)report->count, 0);
    for (uint32_t i = 0; i < report->count; i++) {
        const struct jsc_mistake *m = &report->mistakes[i];
        lua_createtable(L, 0, 3);
        lua_pushstring(L, m->path);
        lua_setfield(L, -2, "path");
        lua_pushstring(L, m->keyword);
        lua_setfield(L, -2, "keyword");
        lua_pushstring(L, m->message);
        lua_setfield(L, -2, "message");
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void push_text_mistake(lua_State *L, const char *error, size_t at)
{
    lua_createtable(L, 1, 0);
    lua_createtable(L, 0, 3);
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "path");
    lua_pushliteral(L, "json");
    lua_setfield(L, -2, "keyword");
    lua_pushfstring(L, "%s at byte %d", error, (int)at + 1);
    lua_setfield(L, -2, "message");
    lua_rawseti(L, -2, 1);
}

static uint32_t bound_at(lua_State *L, int index, const char *name, int otherwise, int max)
{
    if (lua_isnoneornil(L, index)) {
        return (uint32_t)otherwise;
    }
    lua_Number value = lua_tonumber(L, index);
    if (!(value >= 1 && value <= max)) {
        (void)luaL_error(L, "schema:validate: %s must be 1 to %d", name, max);
    }
    return (uint32_t)value;
}

/// schema:validate(text, depth = 128, errors = 8) -> true | nil, { {path, keyword, message}, … }
/// A text that is no JSON has one mistake, of keyword "json". Keyword "limit": it was given up.
static int schema_validate(lua_State *L)
{
    const struct validator *v = luaL_checkudata(L, 1, SCHEMA_MT);
    struct moon_slice text;
    if (lua_type(L, 2) != LUA_TSTRING) {
        return luaL_error(L, "schema:validate: text must be a string, got %s", luaL_typename(L, 2));
    }
    if (v->schema == NULL) {
        return luaL_error(L, "schema:validate: it was not compiled");
    }
    struct jsc_mistake mistakes[JSC_MISTAKES_MAX];
    struct jsc_report report = {.mistakes = mistakes};
    text.data = lua_tolstring(L, 2, &text.len);
    unsigned depth = bound_at(L, 3, "depth", DEPTH_DEFAULT, MOON_JSON_MAX_DEPTH);
    report.max = bound_at(L, 4, "errors", MISTAKES_DEFAULT, JSC_MISTAKES_MAX);
    char *scratch = NULL;
    if (memchr(text.data, '\\', text.len) != NULL) {
        scratch = lua_newuserdata(L, text.len);
    }
    size_t at = 0;
    const char *error = jsc_tape_read(&tape, text, scratch, depth, &at);
    bool is_valid = error == NULL && jsc_validate(v->set, v->schema, tape.nodes, &report);
    if (tape.cap * sizeof *tape.nodes > KEPT_BYTES) {
        jsc_tape_fini(&tape);
    }
    host->charge(L, (uint32_t)(text.len / 4 + report.steps) + 10);
    if (is_valid) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    if (error != NULL) {
        push_text_mistake(L, error, at);
    } else {
        push_mistakes(L, &report);
    }
    return 2;
}

static const luaL_Reg set_methods[] = {{"add", set_add}, {"compile", set_compile}, {NULL, NULL}};
static const luaL_Reg schema_methods[] = {{"validate", schema_validate}, {NULL, NULL}};

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
    (void)luaL_newmetatable(L, name);
    lua_newtable(L);
    for (const luaL_Reg *m = methods; m->name != NULL; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    lua_setfield(L, -2, "__index");
    if (gc != NULL) {
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

static void jsonschema_attach(lua_State *L)
{
    make_class(L, SET_MT, set_methods, set_gc);
    make_class(L, SCHEMA_MT, schema_methods, NULL);
}

static int jsonschema_open(const struct moon_host *given)
{
    host = given;
    if (!jsc_pattern_open()) {
        host->log(MOON_LOG_ERROR, "jsonschema: no memory is left");
        return -1;
    }
    return 0;
}

static void jsonschema_close(void)
{
    jsc_tape_fini(&tape);
    jsc_pattern_close();
}

static const luaL_Reg jsonschema_functions[] = {
    {"compile", jsonschema_compile}, {"set", jsonschema_set}, {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "jsonschema",
                                                          .functions = jsonschema_functions,
                                                          .open = jsonschema_open,
                                                          .close = jsonschema_close,
                                                          .attach = jsonschema_attach};
