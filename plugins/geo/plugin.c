/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/database.h"

#include <string.h>

#define DATABASE_TYPE "moongate.geo.database"
#define UNITS 40 // of one look-up

static const struct moon_host *host;

struct database_box {
    struct database *db; // NULL: closed
};

static struct database *check_database(lua_State *L, int index, const char *method)
{
    struct database_box *box = lua_touserdata(L, index);
    bool is_ours = box != NULL && lua_getmetatable(L, index) != 0;
    if (is_ours) {
        luaL_getmetatable(L, DATABASE_TYPE);
        is_ours = lua_rawequal(L, -1, -2) != 0;
        lua_pop(L, 2);
    }
    if (!is_ours || box->db == NULL) {
        (void)luaL_error(L, "db:%s: self must be an open database, got %s", method,
                         luaL_typename(L, index));
        return NULL; // not reached
    }
    host->charge(L, UNITS);
    geo_database_refresh(host, box->db);
    return box->db;
}

static struct moon_slice check_ip(lua_State *L, int index, const char *method)
{
    struct moon_slice ip;
    if (lua_type(L, index) != LUA_TSTRING) {
        (void)luaL_error(L, "db:%s: ip must be a string, got %s", method, luaL_typename(L, index));
    }
    ip.data = lua_tolstring(L, index, &ip.len);
    return ip;
}

// Pushes a database, or nil and an error.
static int open_database(lua_State *L, const char *path)
{
    const char *error = NULL;
    struct database_box *box = lua_newuserdata(L, sizeof *box);
    box->db = NULL;
    luaL_getmetatable(L, DATABASE_TYPE);
    lua_setmetatable(L, -2);
    box->db = geo_database_acquire(host, path, &error);
    if (box->db != NULL) {
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, error);
    return 2;
}

/// geo.open(path) -> db | nil, error
/// The file is read again when it is replaced; what is no database leaves the old one in place.
/// @lua-raises "geo.open: path must be a string, got nil"
static int geo_open_database(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING) {
        return luaL_error(L, "geo.open: path must be a string, got %s", luaL_typename(L, 1));
    }
    return open_database(L, lua_tostring(L, 1));
}

static int database_gc(lua_State *L)
{
    struct database_box *box = lua_touserdata(L, 1);
    geo_database_release(box->db);
    box->db = NULL;
    return 0;
}

static void set_text(lua_State *L, const char *name, struct moon_slice text)
{
    if (text.len > 0) {
        lua_pushlstring(L, text.data, text.len);
        lua_setfield(L, -2, name);
    }
}

// Adds what the place has to the table on top.
static void set_place(lua_State *L, const struct place *place)
{
    set_text(L, "country", place->country);
    set_text(L, "registered_country", place->registered_country);
    set_text(L, "continent", place->continent);
    set_text(L, "city", place->city);
    set_text(L, "org", place->org);
    if (place->asn != 0) {
        lua_pushnumber(L, (lua_Number)place->asn);
        lua_setfield(L, -2, "asn");
    }
    if (place->is_anonymous) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "is_anonymous");
    }
}

/// db:lookup(ip) -> {country=, registered_country=, continent=, city=, asn=, org=, is_anonymous=} |
/// nil when nothing is known of the address
static int database_lua_lookup(lua_State *L)
{
    struct database *db = check_database(L, 1, "lookup");
    struct place place;
    if (!geo_database_find(db, check_ip(L, 2, "lookup"), &place)) {
        return 0;
    }
    lua_createtable(L, 0, 4);
    set_place(L, &place);
    return 1;
}

/// db:country(ip) -> "DE" | nil
static int database_lua_country(lua_State *L)
{
    struct database *db = check_database(L, 1, "country");
    char code[2];
    if (!geo_database_country(db, check_ip(L, 2, "country"), code)) {
        return 0;
    }
    lua_pushlstring(L, code, 2);
    return 1;
}

/// db:info() -> {type=, built_at=}
static int database_lua_info(lua_State *L)
{
    struct database *db = check_database(L, 1, "info");
    lua_createtable(L, 0, 2);
    lua_pushstring(L, geo_database_type(db));
    lua_setfield(L, -2, "type");
    lua_pushnumber(L, (lua_Number)geo_database_built_at(db));
    lua_setfield(L, -2, "built_at");
    return 1;
}

static int locate(lua_State *L)
{
    struct moon_slice ip = check_ip(L, 1, "locate");
    struct place place;
    bool is_known = false;
    lua_settop(L, 1);
    lua_createtable(L, 0, 6);
    for (int i = 1; i <= 2; i++) {
        if (!lua_isuserdata(L, lua_upvalueindex(i))) {
            continue;
        }
        struct database *db = check_database(L, lua_upvalueindex(i), "locate");
        if (geo_database_find(db, ip, &place)) {
            set_place(L, &place);
            is_known = true;
        }
    }
    return is_known ? 1 : 0;
}

/// geo.locator{country = path, asn = path} -> function(ip) -> table | nil | nil, error
/// What db:lookup of both knows, in one table: `ctx.geo`.
static int geo_locator(lua_State *L)
{
    static const char *const NAMES[] = {"asn", "country"}; // the country database has the last word
    if (!lua_istable(L, 1)) {
        return luaL_error(L, "geo.locator: options must be a table, got %s", luaL_typename(L, 1));
    }
    lua_settop(L, 1);
    for (int i = 0; i < 2; i++) {
        lua_getfield(L, 1, NAMES[i]);
        if (lua_type(L, -1) == LUA_TSTRING && open_database(L, lua_tostring(L, -1)) == 2) {
            return 2;
        }
        lua_replace(L, i + 2);
        lua_settop(L, i + 2);
    }
    lua_pushcclosure(L, locate, 2);
    return 1;
}

static void geo_attach(lua_State *L)
{
    static const luaL_Reg METHODS[] = {{"lookup", database_lua_lookup},
                                       {"country", database_lua_country},
                                       {"info", database_lua_info},
                                       {NULL, NULL}};
    if (luaL_newmetatable(L, DATABASE_TYPE) != 0) {
        lua_newtable(L);
        for (const luaL_Reg *m = METHODS; m->name != NULL; m++) {
            lua_pushcfunction(L, m->func);
            lua_setfield(L, -2, m->name);
        }
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, database_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "geo.database");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
}

static int geo_open(const struct moon_host *given)
{
    host = given;
    return 0;
}

static void geo_close(void)
{
}

static const luaL_Reg geo_functions[] = {
    {"open", geo_open_database}, {"locator", geo_locator}, {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "geo",
                                                          .functions = geo_functions,
                                                          .open = geo_open,
                                                          .close = geo_close,
                                                          .attach = geo_attach};
