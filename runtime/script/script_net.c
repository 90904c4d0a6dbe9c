/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.net: sets of networks.

#include "base/ip.h"
#include "script/internal.h"

static const char net_set_name[] = "moongate.net.cidrset";

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
        if (moon_ipset_add(box->set, moon_check_slice(L, -1)) != MOON_OK)
            return luaL_error(L,
                              "net.cidrset: \"%s\" is no network (an address, a CIDR without host "
                              "bits, or first-last)",
                              lua_tostring(L, -1));
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

static const luaL_Reg net_functions[] = {
    {"cidrset", net_cidrset}, {"is_ip", net_is_ip}, {NULL, NULL}};

static const luaL_Reg net_methods[] = {
    {"contains", net_contains}, {"count", net_count}, {NULL, NULL}};

static int net_open(lua_State *L)
{
    luaL_newmetatable(L, net_set_name);
    lua_newtable(L);
    luaL_register(L, NULL, net_methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, net_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushliteral(L, "cidrset");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, net_functions);
    return 1;
}

void moon_script_open_net(lua_State *L)
{
    moon_preload(L, "moongate.net", net_open);
}
