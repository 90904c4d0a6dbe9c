/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.metrics: series of policies. Labels are bounded by the series cap of shared/metrics.h.

#include "script/internal.h"

// Pairs of the table at `index`, by sorted name, so that equal labels give equal series.
static enum moon_rc metrics_labels(lua_State *L, int index, struct moon_buf *out)
{
    const char *names[16];
    size_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING || n == MOON_COUNT(names))
            return MOON_ERR_LIMIT;
        size_t at = n++;
        const char *name = lua_tostring(L, -1);
        for (; at > 0 && strcmp(names[at - 1], name) > 0; at--)
            names[at] = names[at - 1];
        names[at] = name;
    }
    for (size_t i = 0; i < n; i++) {
        lua_getfield(L, index, names[i]);
        size_t len;
        const char *value = lua_tolstring(L, -1, &len);
        enum moon_rc rc = moon_metrics_label(
            out, names[i], moon_slice(value == NULL ? "" : value, value == NULL ? 0 : len));
        lua_pop(L, 1);
        if (rc != MOON_OK)
            return rc;
    }
    return MOON_OK;
}

/// metrics.add(name, value, labels)
/// @lua-raises "metrics.add: there is no room for name_total, or it is none of policies' counters", and
///             where the value is none from 0 to 9e15
static int metrics_add(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    const char *name = luaL_checkstring(L, 1);
    double value = luaL_optnumber(L, 2, 1);
    struct moon_buf labels;
    if (!(value >= 0 && value <= 9e15))
        return luaL_error(L, "metrics.add: the value must be 0 to 9e15, got %f", value);
    if (script->env.metrics == NULL)
        return 0;
    moon_buf_init(&labels, 4096);
    if (lua_istable(L, 3) && metrics_labels(L, 3, &labels) != MOON_OK) {
        moon_buf_fini(&labels);
        return luaL_error(L, "metrics.add: at most 16 labels with names and short values");
    }
    int id = moon_metrics_series(script->env.metrics, MOON_METRIC_COUNTER, name,
                                 "Counted by a policy.", moon_buf_slice(&labels));
    moon_buf_fini(&labels);
    if (id < 0)
        return luaL_error(
            L, "metrics.add: there is no room for %s, or it is none of policies' counters", name);
    moon_metrics_add(script->env.metrics, id, (int64_t)value);
    return 0;
}

static const luaL_Reg metrics_functions[] = {{"add", metrics_add}, {NULL, NULL}};

static int metrics_open(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, metrics_functions);
    return 1;
}

void moon_script_open_metrics(lua_State *L)
{
    moon_preload(L, "moongate.metrics", metrics_open);
}
