/* SPDX-License-Identifier: Apache-2.0 */

/// A small host for the native plugins, so that their specs run in a plain LuaJIT: every built-in
/// plugin that was built can be opened through `luaopen_moongate_testhost`, whose functions also move
/// the clock and read the meters.

#include "moongate/plugin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t clock_offset_ms;
static int64_t fixed_ms = -1; // >= 0: the clock stands here
static uint64_t charged;
static char log_text[1024]; // the last line

static void test_log(enum moon_log_level level, const char *fmt, ...)
{
    (void)level;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(log_text, sizeof log_text, fmt, args);
    va_end(args);
}

static const struct moon_exchange_view *test_exchange(lua_State *L, int index)
{
    (void)L;
    (void)index;
    return NULL;
}

static void *test_attach(lua_State *L, int ctx_index, const char *plugin, void *object,
                         void (*free_object)(void *))
{
    (void)L;
    (void)ctx_index;
    (void)plugin;
    if (object != NULL && free_object != NULL) {
        free_object(object);
    }
    return NULL;
}

static void test_charge(lua_State *L, uint32_t units)
{
    (void)L;
    charged += units;
}

static int64_t test_wall_ms(void)
{
    struct timespec now;
    if (fixed_ms >= 0) {
        return fixed_ms + clock_offset_ms;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + clock_offset_ms;
}

static bool test_read_file(lua_State *L, const char *path, struct moon_slice *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0) {
        luaL_addlstring(&buffer, chunk, n);
    }
    (void)fclose(file);
    luaL_pushresult(&buffer);
    out->data = lua_tolstring(L, -1, &out->len);
    return true;
}

static void test_log_object(enum moon_log_level level, const char *message, const char *name,
                            struct moon_slice object)
{
    test_log(level, "%s %s=%.*s", message, name, (int)object.len, object.data);
}

// A spec's ctx is a table: ctx.request.headers[name], as the spec writes the name.
static bool test_request_field(lua_State *L, int index, struct moon_slice name,
                               struct moon_slice *value)
{
    int top = lua_gettop(L);
    value->data = NULL;
    lua_getfield(L, index, "request");
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "headers");
        lua_pushlstring(L, name.data, name.len);
        lua_rawget(L, -2);
        value->data = lua_tolstring(L, -1, &value->len);
    }
    lua_settop(L, top);
    return value->data != NULL;
}

static void test_note(lua_State *L, int index, const char *name, double number)
{
    (void)L;
    (void)index;
    (void)name;
    (void)number;
}

// Acts are called by the runtime only.
static void test_act_register(lua_State *L, moon_act_fn *run)
{
    (void)L;
    (void)run;
}

static size_t test_record_read(lua_State *L, struct moon_slice name, int64_t now_s, char *into)
{
    (void)L;
    (void)name;
    (void)now_s;
    (void)into;
    return 0;
}

static void test_record_change(lua_State *L, struct moon_slice name, int64_t now_s,
                               size_t (*change)(void *arg, char *bytes, size_t len,
                                                int64_t *expires_s),
                               void *arg)
{
    (void)L;
    (void)name;
    (void)now_s;
    (void)change;
    (void)arg;
}

static const struct moon_host test_host = {.abi = MOON_PLUGIN_ABI,
                                           .log = test_log,
                                           .log_object = test_log_object,
                                           .exchange = test_exchange,
                                           .attach = test_attach,
                                           .charge = test_charge,
                                           .wall_ms = test_wall_ms,
                                           .read_file = test_read_file,
                                           .request_field = test_request_field,
                                           .note = test_note,
                                           .act_register = test_act_register,
                                           .record_read = test_record_read,
                                           .record_change = test_record_change};

static int open_plugin(lua_State *L, const struct moon_plugin *plugin, bool *is_open)
{
    if (!*is_open && (plugin->abi != MOON_PLUGIN_ABI || plugin->open(&test_host) != 0)) {
        return luaL_error(L, "plugin %s does not open: %s", plugin->name, log_text);
    }
    *is_open = true;
    lua_newtable(L);
    for (const luaL_Reg *f = plugin->functions; f->name != NULL; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    if (plugin->attach != NULL) {
        plugin->attach(L);
    }
    return 1;
}

#define PLUGIN(name)                                                                               \
    extern const struct moon_plugin moon_plugin_##name;                                            \
    static int open_##name(lua_State *L)                                                           \
    {                                                                                              \
        static bool is_open;                                                                       \
        return open_plugin(L, &moon_plugin_##name, &is_open);                                      \
    }
#include "plugins.def"
#undef PLUGIN

/// testhost.set(seconds | nil): the clock stands at it, or runs again
static int host_set(lua_State *L)
{
    fixed_ms = lua_isnoneornil(L, 1) ? -1 : (int64_t)(luaL_checknumber(L, 1) * 1000);
    clock_offset_ms = 0;
    return 0;
}

static int host_advance(lua_State *L)
{
    clock_offset_ms += (int64_t)(luaL_checknumber(L, 1) * 1000);
    return 0;
}

/// testhost.charged() -> units charged since the last call
static int host_charged(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)charged);
    charged = 0;
    return 1;
}

/// testhost.log() -> the last line logged, which is then forgotten
static int host_log(lua_State *L)
{
    lua_pushstring(L, log_text);
    log_text[0] = '\0';
    return 1;
}

static const luaL_Reg host_functions[] = {{"set", host_set},
                                          {"advance", host_advance},
                                          {"charged", host_charged},
                                          {"log", host_log},
                                          {NULL, NULL}};

static const luaL_Reg plugins[] = {
#define PLUGIN(name) {#name, open_##name},
#include "plugins.def"
#undef PLUGIN
    {NULL, NULL}};

/// Returns the host's table and, as `open`, a function for every plugin that opens it.
int luaopen_moongate_testhost(lua_State *L);
MOON_EXPORT int luaopen_moongate_testhost(lua_State *L)
{
    lua_newtable(L);
    for (const luaL_Reg *f = host_functions; f->name != NULL; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_newtable(L);
    for (const luaL_Reg *f = plugins; f->name != NULL; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_setfield(L, -2, "open");
    return 1;
}
