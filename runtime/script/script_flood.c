/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.flood: guards of sites against floods; what they know is shared by all workers.

#include "base/clock.h"
#include "script/internal.h"
#include "shared/flood.h"
#include "upstream/flood_share.h"

static const char flood_guard_name[] = "moongate.flood.guard";

enum {
    FLOOD_REPORT_MS = 5000, // how often the gauges are brought up to date
    FLOOD_NAME_BYTES = 256, // a longer name's site tells other nodes nothing
};

enum flood_gauge { FLOOD_BOXED, FLOOD_RATE, FLOOD_THRESHOLD, FLOOD_GAUGES };

struct flood_guard {
    int site;
    char name[FLOOD_NAME_BYTES]; // of the site, as other nodes know it
    size_t name_len;
    struct moon_flood_conf conf;
    int held, refused; // series
    int gauges[FLOOD_GAUGES];
    int64_t reported_ms;
};

static double flood_number(lua_State *L, const char *name, double absent)
{
    lua_getfield(L, 1, name);
    double value = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : absent;
    lua_pop(L, 1);
    return value;
}

static void flood_make_series(struct moon_metrics *metrics, struct flood_guard *guard,
                              struct moon_slice name)
{
    static const char *const families[FLOOD_GAUGES][2] = {
        {"moongate_flood_box_addresses", "Addresses in the penalty box."},
        {"moongate_flood_usual_rate", "Requests per second that are usual at the site."},
        {"moongate_flood_threshold", "Requests per second from which the site is under flood."}};
    struct moon_buf labels;
    moon_buf_init(&labels, 4096);
    if (moon_metrics_label(&labels, "site", name) == MOON_OK) {
        struct moon_slice text = moon_buf_slice(&labels);
        guard->held = moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_flood_held_total",
                                          "Addresses put into the penalty box.", text);
        guard->refused =
            moon_metrics_series(metrics, MOON_METRIC_COUNTER, "moongate_flood_refused_total",
                                "Requests of addresses in the penalty box.", text);
        for (int i = 0; i < FLOOD_GAUGES; i++)
            guard->gauges[i] = moon_metrics_series(metrics, MOON_METRIC_GAUGE, families[i][0],
                                                   families[i][1], text);
    }
    moon_buf_fini(&labels);
}

/// flood.guard{ name=, sensitivity= "low"|"medium"|"high", minimum_rate=, minimum_client=,
///   threshold=, learn_s=, penalty_s= } -> guard
/// @lua-raises "flood.guard: there are too many sites"
static int flood_guard(lua_State *L)
{
    static const char *const levels[] = {"low", "medium", "high", NULL};
    struct moon_script *script = moon_script_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    struct flood_guard *guard = lua_newuserdata(L, sizeof(*guard));
    *guard = (struct flood_guard){.site = -1, .held = -1};
    luaL_getmetatable(L, flood_guard_name);
    lua_setmetatable(L, -2);
    lua_getfield(L, 1, "sensitivity");
    guard->conf = (struct moon_flood_conf){
        .sensitivity = (enum moon_flood_sensitivity)luaL_checkoption(L, -1, "medium", levels),
        .minimum_rate = flood_number(L, "minimum_rate", 50),
        .minimum_client = flood_number(L, "minimum_client", 5),
        .threshold = flood_number(L, "threshold", 0),
        .learn_ms = (int64_t)(flood_number(L, "learn_s", 3600) * 1000),
        .penalty_ms = (int64_t)(flood_number(L, "penalty_s", 900) * 1000),
    };
    lua_getfield(L, 1, "name");
    struct moon_slice name = moon_check_slice(L, -1);
    if (script->env.flood != NULL) {
        guard->site = moon_flood_site(script->env.flood, name);
        if (guard->site < 0)
            return luaL_error(L, "flood.guard: there are too many sites");
    }
    if (moon_slice_copy_text(name, guard->name, sizeof(guard->name)))
        guard->name_len = name.len;
    if (script->env.metrics != NULL)
        flood_make_series(script->env.metrics, guard, name);
    lua_pop(L, 2);
    return 1;
}

// One worker at a time tells, so that the sum over workers is the number itself.
static void flood_tell(const struct moon_script *script, struct flood_guard *guard, int64_t now_ms)
{
    struct moon_flood_report report;
    if (guard->held < 0 || now_ms - guard->reported_ms < FLOOD_REPORT_MS)
        return;
    guard->reported_ms = now_ms;
    if (!moon_flood_is_teller(script->env.flood, guard->site, script->env.slot, now_ms)) {
        for (int i = 0; i < FLOOD_GAUGES; i++)
            moon_metrics_set(script->env.metrics, guard->gauges[i], 0);
        return;
    }
    moon_flood_read(script->env.flood, guard->site, now_ms, &report);
    const int64_t values[FLOOD_GAUGES] = {(int64_t)report.boxed, (int64_t)report.usual,
                                          (int64_t)report.threshold};
    for (int i = 0; i < FLOOD_GAUGES; i++)
        moon_metrics_set(script->env.metrics, guard->gauges[i], values[i]);
}

/// guard:check(ip, is_suspect) -> "pass" | "held" | "boxed", retry_after_s
static int guard_check(lua_State *L)
{
    static const char *const verdicts[] = {"pass", "held", "boxed"};
    struct moon_script *script = moon_script_of(L);
    struct flood_guard *guard = luaL_checkudata(L, 1, flood_guard_name);
    struct moon_ip ip;
    int64_t retry_ms = 0, now_ms = moon_clock_ms();
    if (guard->site < 0 || !moon_ip_parse(moon_check_slice(L, 2), &ip)) {
        lua_pushstring(L, verdicts[MOON_FLOOD_PASS]);
        return 1;
    }
    enum moon_flood_verdict verdict =
        moon_flood_check(script->env.flood, guard->site, &guard->conf, &ip,
                         lua_toboolean(L, 3) != 0, now_ms, moon_clock_wall_ms(), &retry_ms);
    moon_flood_sweep(script->env.flood, now_ms);
    flood_tell(script, guard, now_ms);
    if (verdict == MOON_FLOOD_HELD && script->env.flood_share != NULL && guard->name_len > 0)
        moon_flood_share_tell(script->env.flood_share, moon_slice(guard->name, guard->name_len),
                              &ip, retry_ms);
    if (verdict == MOON_FLOOD_HELD && guard->held >= 0)
        moon_metrics_add(script->env.metrics, guard->held, 1);
    if (verdict != MOON_FLOOD_PASS && guard->held >= 0)
        moon_metrics_add(script->env.metrics, guard->refused, 1);
    lua_pushstring(L, verdicts[verdict]);
    // NOLINTNEXTLINE(bugprone-integer-division): whole units are meant
    lua_pushnumber(L, (lua_Number)((retry_ms + 999) / 1000));
    return 2;
}

/// guard:report() -> { rate=, usual=, threshold=, client_usual=, flooded=, boxed=, held=, refused= }
static int guard_report(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    struct flood_guard *guard = luaL_checkudata(L, 1, flood_guard_name);
    struct moon_flood_report r = {0};
    if (guard->site >= 0)
        moon_flood_read(script->env.flood, guard->site, moon_clock_ms(), &r);
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"rate", r.rate},
                   {"usual", r.usual},
                   {"threshold", r.threshold},
                   {"client_usual", r.client_usual},
                   {"boxed", (double)r.boxed},
                   {"held", (double)r.held},
                   {"refused", (double)r.refused}};
    lua_createtable(L, 0, (int)MOON_COUNT(numbers) + 1);
    for (size_t i = 0; i < MOON_COUNT(numbers); i++) {
        lua_pushnumber(L, numbers[i].value);
        lua_setfield(L, -2, numbers[i].name);
    }
    lua_pushboolean(L, r.is_flooded);
    lua_setfield(L, -2, "flooded");
    return 1;
}

static const luaL_Reg flood_functions[] = {{"guard", flood_guard}, {NULL, NULL}};
static const luaL_Reg guard_methods[] = {
    {"check", guard_check}, {"report", guard_report}, {NULL, NULL}};

static int flood_open(lua_State *L)
{
    luaL_newmetatable(L, flood_guard_name);
    lua_newtable(L);
    luaL_register(L, NULL, guard_methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "guard");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, flood_functions);
    return 1;
}

void moon_script_open_flood(lua_State *L)
{
    moon_preload(L, "moongate.flood", flood_open);
}
