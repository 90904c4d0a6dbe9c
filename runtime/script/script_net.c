/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.net: sets of networks, given or read from files.

#include "base/ip.h"
#include "script/internal.h"
#include "script/listfile.h"

static const char net_set_name[] = "moongate.net.cidrset";
static const char net_list_name[] = "moongate.net.listfile";

struct net_set {
    struct moon_ipset *set;
};

static struct moon_ipset *net_check(lua_State *L)
{
    struct net_set *box = luaL_checkudata(L, 1, net_set_name);
    return box->set;
}

/// net.cidrset({ "10.0.0.0/8", ... }) -> set
/// @lua-raises "net.cidrset: \"10.0.0.1/8\" is no network (an address, CIDR, or first-last)"
static int net_cidrset(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct net_set *box = lua_newuserdata(L, sizeof(*box));
    box->set = moon_ipset_new();
    luaL_getmetatable(L, net_set_name);
    lua_setmetatable(L, -2);
    if (box->set == NULL)
        return luaL_error(L, "net.cidrset: out of memory");
    size_t n = lua_objlen(L, 1);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, (int)i);
        if (moon_ipset_add(box->set, moon_check_slice(L, -1)) != MOON_OK) {
            return luaL_error(L,
                              "net.cidrset: \"%s\" is no network (an address, a CIDR without host "
                              "bits, or first-last)",
                              lua_tostring(L, -1));
        }
        lua_pop(L, 1);
    }
    moon_ipset_seal(box->set);
    return 1;
}

/// set:contains(ip) -> boolean; false for what is no address
static int net_contains(lua_State *L)
{
    struct moon_ipset *set = net_check(L);
    struct moon_ip ip;
    bool is_in = moon_ip_parse(moon_check_slice(L, 2), &ip) && moon_ipset_has(set, &ip);
    lua_pushboolean(L, is_in);
    return 1;
}

/// set:count() -> ranges after joining
static int net_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)moon_ipset_count(net_check(L)));
    return 1;
}

static int net_gc(lua_State *L)
{
    struct net_set *box = luaL_checkudata(L, 1, net_set_name);
    moon_ipset_free(box->set);
    box->set = NULL;
    return 0;
}

/// net.is_ip(text) -> boolean
static int net_is_ip(lua_State *L)
{
    struct moon_ip ip;
    lua_pushboolean(L, moon_ip_parse(moon_check_slice(L, 1), &ip));
    return 1;
}

// ---- files -------------------------------------------------------------------------------------

struct net_list {
    struct moon_listfile *list; // NULL: closed
};

static struct moon_listfile *net_check_list(lua_State *L)
{
    struct net_list *box = luaL_checkudata(L, 1, net_list_name);
    if (box->list == NULL)
        luaL_error(L, "net.listfile: the list is closed");
    return box->list;
}

/// net.listfile(path) -> list | nil, error; a path that is not absolute is below the configuration
///
/// The file is read again when it is replaced; see script/listfile.h.
static int net_listfile(lua_State *L)
{
    char error[256];
    const char *path = luaL_checkstring(L, 1);
    struct net_list *box = lua_newuserdata(L, sizeof(*box));
    box->list = NULL;
    luaL_getmetatable(L, net_list_name);
    lua_setmetatable(L, -2);
    if (path[0] != '/') {
        lua_pushfstring(L, "%s/%s", moon_bundle_dir(moon_script_of(L)->bundle), path);
        lua_replace(L, 1);
    }
    if (moon_listfile_acquire(moon_check_slice(L, 1), error, sizeof(error), &box->list) == MOON_OK)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, error);
    return 2;
}

/// list:contains(ip) -> boolean; false for what is no address
static int net_list_contains(lua_State *L)
{
    struct moon_listfile *list = net_check_list(L);
    struct moon_ip ip;
    bool is_in = moon_ip_parse(moon_check_slice(L, 2), &ip) && moon_listfile_has(list, &ip);
    lua_pushboolean(L, is_in);
    return 1;
}

/// list:count() -> ranges after joining
static int net_list_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)moon_listfile_count(net_check_list(L)));
    return 1;
}

/// list:loads() -> how often the file has been read
static int net_list_loads(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)moon_listfile_loads(net_check_list(L)));
    return 1;
}

static int net_list_gc(lua_State *L)
{
    struct net_list *box = luaL_checkudata(L, 1, net_list_name);
    moon_listfile_release(box->list);
    box->list = NULL;
    return 0;
}

static const luaL_Reg net_functions[] = {
    {"cidrset", net_cidrset}, {"listfile", net_listfile}, {"is_ip", net_is_ip}, {NULL, NULL}};

static const luaL_Reg net_list_methods[] = {{"contains", net_list_contains},
                                            {"count", net_list_count},
                                            {"loads", net_list_loads},
                                            {NULL, NULL}};

static const luaL_Reg net_methods[] = {
    {"contains", net_contains}, {"count", net_count}, {NULL, NULL}};

static void net_make_type(lua_State *L, const char *type, const char *shown,
                          const luaL_Reg *methods, lua_CFunction gc)
{
    luaL_newmetatable(L, type);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, shown);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

static int net_open(lua_State *L)
{
    net_make_type(L, net_set_name, "cidrset", net_methods, net_gc);
    net_make_type(L, net_list_name, "listfile", net_list_methods, net_list_gc);
    lua_newtable(L);
    luaL_register(L, NULL, net_functions);
    return 1;
}

void moon_script_open_net(lua_State *L)
{
    moon_preload(L, "moongate.net", net_open);
}
