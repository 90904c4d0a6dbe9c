// SPDX-License-Identifier: Apache-2.0
// The Lua module moongate.waf: rule sets, guards (a rule set as one route uses it), and the checks
// that a policy makes of an exchange.
#include "moongate/plugin.h"

#include "waf/arena.h"
#include "waf/engine.h"
#include "waf/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GUARD_TYPE "moongate.waf.guard"
enum { SOURCES_MAX = 64, VARS_MAX = 32, UNITS_PER_KIB = 400, UNITS_BASE = 3000 };

static const struct moon_host *host;

struct guard {
    struct waf_ruleset *rules;
    struct waf_overlay *overlay;
    enum waf_mode mode;
    size_t request_bytes, response_bytes;
    bool partial;
    struct waf_str names[VARS_MAX], values[VARS_MAX]; // copied
    unsigned var_count;
    int log_fd; // -1: the host's log
    bool log_modsecurity;
    bool knows_places; // the environment holds a function, at 1, that finds addresses
};

// What an exchange keeps: a transaction per guard that looked at it.
struct inspection {
    struct inspection *next;
    const struct guard *guard;
    struct waf_tx *tx;
    lua_State *L; // of the call that runs rules now, the guard at 1
    bool logged;
};

static struct waf_str from_slice(struct moon_slice s)
{
    return (struct waf_str){s.data, s.len};
}

// --- making guards -----------------------------------------------------------------------

// For methods, which have the metatable as their upvalue: no name is looked up.
static struct guard *check_guard(lua_State *L, const char *method)
{
    struct guard *g = lua_touserdata(L, 1);
    bool is_ours = g != NULL && lua_getmetatable(L, 1) != 0;
    if (is_ours) {
        is_ours = lua_rawequal(L, -1, lua_upvalueindex(1)) != 0;
        lua_pop(L, 1);
    }
    if (!is_ours || g->rules == NULL) {
        (void)luaL_error(L, "guard:%s: self must be a guard, got %s", method, luaL_typename(L, 1));
    }
    return g;
}

static struct waf_str copy_text(lua_State *L, int index)
{
    size_t n;
    const char *s = lua_tolstring(L, index, &n);
    char *p = malloc(n + 1);
    if (p == NULL) {
        (void)luaL_error(L, "waf: out of memory");
    }
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): its length is 0 where it is NULL
    memcpy(p, s, n + 1);
    return (struct waf_str){p, n};
}

// Reads options.sources: {file = path} or {text = …, name = …}. @return how many
static size_t read_sources(lua_State *L, struct waf_source *out)
{
    size_t n = 0;
    lua_getfield(L, 1, "sources");
    if (!lua_istable(L, -1)) {
        (void)luaL_error(L, "waf.guard: sources must be a table, got %s", luaL_typename(L, -1));
    }
    size_t count = lua_objlen(L, -1);
    if (count > SOURCES_MAX) {
        (void)luaL_error(L, "waf.guard: at most %d sources, got %d", SOURCES_MAX, (int)count);
    }
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, (int)i);
        if (!lua_istable(L, -1)) {
            (void)luaL_error(L, "waf.guard: sources[%d] must be a table, got %s", (int)i,
                             luaL_typename(L, -1));
        }
        lua_getfield(L, -1, "file");
        lua_getfield(L, -2, "text");
        lua_getfield(L, -3, "name");
        const char *file = lua_tostring(L, -3), *text = lua_tostring(L, -2);
        const char *name = lua_tostring(L, -1);
        if ((file == NULL) == (text == NULL)) {
            (void)luaL_error(L, "waf.guard: sources[%d] wants file or text", (int)i);
        }
        // The strings stay with the options, which stay on the stack.
        out[n++] = file != NULL
                       ? (struct waf_source){WAF_SOURCE_FILE, file, NULL}
                       : (struct waf_source){WAF_SOURCE_TEXT, name != NULL ? name : "rules", text};
        lua_pop(L, 4);
    }
    lua_pop(L, 1);
    return n;
}

static void read_vars(lua_State *L, struct guard *g)
{
    lua_getfield(L, 1, "vars");
    if (lua_istable(L, -1)) {
        lua_pushnil(L);
        while (lua_next(L, -2) != 0) {
            if (g->var_count == VARS_MAX || lua_type(L, -2) != LUA_TSTRING ||
                !lua_isstring(L, -1)) {
                (void)luaL_error(L, "waf.guard: vars holds at most %d names with texts", VARS_MAX);
            }
            lua_pushvalue(L, -1); // a number must not be turned into a text in the table
            g->values[g->var_count] = copy_text(L, -1);
            g->names[g->var_count++] = copy_text(L, -3);
            lua_pop(L, 2);
        }
    }
    lua_pop(L, 1);
}

static size_t read_bytes(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    lua_Number n = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return n > 0 && n < 1e15 ? (size_t)n : 0;
}

static const char *read_text(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    const char *s = lua_tostring(L, -1);
    lua_pop(L, 1); // stays with the options
    return s;
}

static int fail(lua_State *L, const char *text)
{
    lua_pushnil(L);
    lua_pushstring(L, text);
    return 2;
}

// Asks options.places for what finds addresses, where rules ask for places or name a database.
// @return false with the reason at the top
static bool read_places(lua_State *L, struct guard *g)
{
    const char *where, *path = waf_ruleset_geo_database(g->rules, &where);
    lua_getfield(L, 1, "places");
    if (!lua_isfunction(L, -1) || (path == NULL && !waf_ruleset_asks_places(g->rules))) {
        lua_pop(L, 1);
        return true;
    }
    lua_pushstring(L, path); // nil for NULL
    lua_call(L, 1, 2);
    g->knows_places = lua_isfunction(L, -2);
    if (g->knows_places) {
        lua_createtable(L, 1, 0);
        lua_pushvalue(L, -3);
        lua_rawseti(L, -2, 1);
        lua_setfenv(L, 2);
    } else if (path != NULL) {
        const char *why = lua_tostring(L, -1);
        lua_pushfstring(L, "%s: SecGeoLookupDb wants an MMDB file, got %s: %s", where, path,
                        why == NULL ? "nothing knows of places here" : why);
        return false;
    }
    lua_pop(L, 2);
    return true;
}

/// waf.guard{sources=, mode=, vars=, exclusions=, max_body_bytes=, partial=, max_response_bytes=,
///           places=, log_file=, log_format=} -> guard | nil, error
/// Rule sets are compiled once per process and shared by all guards with equal sources. `places(path)`
/// gives a function that finds an address in the database that SecGeoLookupDb names, or, with nil, in the
/// gateway's own: nil | {country=, continent=, city=}.
/// @lua-raises "waf.guard: options must be a table, got nil"
static int waf_guard(lua_State *L)
{
    struct waf_source sources[SOURCES_MAX];
    struct waf_error error;
    if (!lua_istable(L, 1)) {
        return luaL_error(L, "waf.guard: options must be a table, got %s", luaL_typename(L, 1));
    }
    lua_settop(L, 1);
    struct guard *g = lua_newuserdata(L, sizeof *g);
    *g = (struct guard){.log_fd = -1};
    luaL_getmetatable(L, GUARD_TYPE);
    lua_setmetatable(L, -2);
    const char *mode = read_text(L, "mode"), *exclusions = read_text(L, "exclusions");
    const char *file = read_text(L, "log_file"), *format = read_text(L, "log_format");
    g->mode =
        mode != NULL && strcmp(mode, "detection") == 0 ? WAF_MODE_DETECTION : WAF_MODE_PREVENTION;
    g->request_bytes = read_bytes(L, "max_body_bytes");
    g->response_bytes = read_bytes(L, "max_response_bytes");
    g->log_modsecurity = format != NULL && strcmp(format, "modsecurity") == 0;
    lua_getfield(L, 1, "partial");
    g->partial = lua_toboolean(L, -1) != 0;
    lua_pop(L, 1);
    read_vars(L, g);
    size_t n = read_sources(L, sources);
    g->rules = waf_ruleset_shared(sources, n, &error);
    if (g->rules == NULL) {
        return fail(L, error.text);
    }
    if (!read_places(L, g)) {
        return fail(L, lua_tostring(L, -1));
    }
    if (exclusions != NULL && exclusions[0] != '\0') {
        g->overlay = waf_overlay_new(g->rules, exclusions, &error);
        if (g->overlay == NULL) {
            return fail(L, error.text);
        }
    }
    if (file != NULL) {
        g->log_fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (g->log_fd == -1) {
            lua_pushnil(L);
            lua_pushfstring(L, "cannot open %s: %s", file, strerror(errno));
            return 2;
        }
    }
    return 1;
}

static int guard_gc(lua_State *L)
{
    struct guard *g = lua_touserdata(L, 1);
    waf_overlay_free(g->overlay);
    waf_ruleset_release(g->rules);
    for (unsigned i = 0; i < g->var_count; i++) {
        free((char *)(uintptr_t)g->names[i].p);
        free((char *)(uintptr_t)g->values[i].p);
    }
    if (g->log_fd != -1) {
        (void)close(g->log_fd);
    }
    g->rules = NULL;
    g->overlay = NULL;
    g->var_count = 0;
    g->log_fd = -1;
    return 0;
}

// --- inspecting ---------------------------------------------------------------------------

static void inspections_free(void *object)
{
    struct inspection *i = object, *next;
    for (; i != NULL; i = next) {
        next = i->next;
        waf_tx_free(i->tx); // and `i` with it
    }
}

static struct inspection *inspection_in(struct inspection *i, const struct guard *g)
{
    while (i != NULL && i->guard != g) {
        i = i->next;
    }
    return i;
}

static struct inspection *inspection_of(lua_State *L, const struct guard *g)
{
    struct inspection *i = inspection_in(host->attach(L, 2, "waf", NULL, NULL), g);
    if (i != NULL) {
        i->L = L;
    }
    return i;
}

// A text member of the table on top. Longer ones are cut off.
static void read_member(lua_State *L, const char *name, char *into, size_t size)
{
    lua_getfield(L, -1, name);
    const char *s = lua_tostring(L, -1);
    (void)snprintf(into, size, "%s", s == NULL ? "" : s);
    lua_pop(L, 1);
}

// What the function of the guard's environment knows of an address: a waf_geo_fn.
static bool find_place(void *arg, struct waf_str address, struct waf_place *place)
{
    lua_State *L = ((const struct inspection *)arg)->L;
    int top = lua_gettop(L);
    if (lua_checkstack(L, 4) == 0) {
        return false;
    }
    lua_getfenv(L, 1);
    lua_rawgeti(L, -1, 1);
    lua_pushlstring(L, address.p, address.n);
    bool is_known = lua_pcall(L, 1, 1, 0) == 0 && lua_istable(L, -1);
    if (is_known) {
        read_member(L, "country", place->country, sizeof place->country);
        read_member(L, "continent", place->continent, sizeof place->continent);
        read_member(L, "city", place->city, sizeof place->city);
    }
    lua_settop(L, top);
    return is_known;
}

static const struct moon_exchange_view *view_of(lua_State *L, const char *method)
{
    const struct moon_exchange_view *x = host->exchange(L, 2);
    if (x == NULL) {
        (void)luaL_error(L, "guard:%s: ctx must be a live exchange, got %s", method,
                         luaL_typename(L, 2));
    }
    return x;
}

// The protocol as it was named; a malformed request may name any, or none (0.0).
static struct waf_str protocol_of(const struct moon_exchange_view *x)
{
    size_t n = x->request_line.len;
    switch (x->version_major * 10 + x->version_minor) {
    case 0:
        return WAF_LIT("");
    case 10:
        return WAF_LIT("HTTP/1.0");
    case 11:
        return WAF_LIT("HTTP/1.1");
    case 20:
        return WAF_LIT("HTTP/2.0");
    default:
        return n < 8 ? WAF_LIT("") : (struct waf_str){x->request_line.data + n - 8, 8};
    }
}

static void tell_request(struct waf_tx *tx, const struct moon_exchange_view *x)
{
    bool has_host = false;
    waf_tx_connection(tx, from_slice(x->client_ip), x->client_port, from_slice(x->server_ip),
                      x->server_port);
    waf_tx_unique_id(tx, from_slice(x->id));
    waf_tx_request_line(tx, from_slice(x->method), from_slice(x->target), protocol_of(x));
    for (size_t i = 0; i < x->request_field_count; i++) {
        struct waf_str name = from_slice(x->request_fields[i].name);
        has_host |= waf_ieq(name, WAF_LIT("Host"));
        waf_tx_request_header(tx, name, from_slice(x->request_fields[i].value));
    }
    if (!has_host && x->host.len != 0 && x->version_major >= 2) {
        waf_tx_request_header(tx, WAF_LIT("Host"), from_slice(x->host));
    }
}

// Collections are kept by the host; `arg` is the inspection.
static size_t keeper_read(void *arg, struct waf_str name, int64_t now_s, char *into)
{
    const struct inspection *i = arg;
    return host->record_read(i->L, (struct moon_slice){name.p, name.n}, now_s, into);
}

static void keeper_change(void *arg, struct waf_str name, int64_t now_s, waf_change_fn *change,
                          void *change_arg)
{
    const struct inspection *i = arg;
    host->record_change(i->L, (struct moon_slice){name.p, name.n}, now_s, change, change_arg);
}

static const struct waf_keeper host_keeper = {keeper_read, keeper_change};
_Static_assert((int)WAF_RECORD_BYTES == (int)MOON_PLUGIN_RECORD_BYTES, "one size");

// `first`: of the exchange, NULL if there is none.
static struct inspection *inspect(lua_State *L, const struct guard *g,
                                  const struct moon_exchange_view *x, struct inspection *first)
{
    struct waf_tx *tx = waf_tx_new(g->rules, g->overlay);
    struct inspection *i = tx == NULL ? NULL : waf_tx_alloc(tx, sizeof *i);
    if (i == NULL) {
        waf_tx_free(tx);
        (void)luaL_error(L, "guard: out of memory");
        return NULL;
    }
    *i = (struct inspection){.guard = g, .tx = tx, .L = L};
    if (first == NULL) {
        if (host->attach(L, 2, "waf", i, inspections_free) == NULL) {
            inspections_free(i);
            (void)luaL_error(L, "guard: the exchange keeps nothing more");
        }
    } else {
        i->next = first->next;
        first->next = i;
    }
    waf_tx_set_mode(tx, g->mode);
    waf_tx_set_limits(tx, g->request_bytes, g->partial, g->response_bytes);
    for (unsigned v = 0; v < g->var_count; v++) {
        waf_tx_set_var(tx, g->names[v], g->values[v]);
    }
    if (g->knows_places) {
        waf_tx_set_geo(tx, find_place, i);
    }
    waf_tx_set_keeper(tx, &host_keeper, i);
    tell_request(tx, x);
    return i;
}

static void push_str(lua_State *L, const char *name, struct waf_str s)
{
    if (s.p != NULL) {
        lua_pushlstring(L, s.p, s.n);
        lua_setfield(L, -2, name);
    }
}

static int push_verdict(lua_State *L, bool stop, const struct waf_verdict *v)
{
    if (!stop) {
        return 0;
    }
    lua_createtable(L, 0, 4);
    lua_pushnumber(L, v->status);
    lua_setfield(L, -2, "status");
    lua_pushnumber(L, v->rule_id);
    lua_setfield(L, -2, "rule_id");
    lua_pushboolean(L, v->drop);
    lua_setfield(L, -2, "drop");
    push_str(L, "redirect", v->redirect);
    return 1;
}

static void charge_bytes(lua_State *L, size_t n)
{
    host->charge(L, (uint32_t)(UNITS_BASE + n / 1024 * UNITS_PER_KIB));
}

// Sets `tx.NAME` for each text of the table at `index`, where there is one.
static void set_vars(lua_State *L, int index, struct waf_tx *tx)
{
    if (!lua_istable(L, index)) {
        return;
    }
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        struct moon_slice name = {0}, value = {0};
        if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
            name.data = lua_tolstring(L, -2, &name.len);
            value.data = lua_tolstring(L, -1, &value.len);
            waf_tx_set_var(tx, from_slice(name), from_slice(value));
        }
        lua_pop(L, 1);
    }
}

static int inspect_body(lua_State *L, struct waf_tx *tx, struct moon_slice body)
{
    struct waf_verdict v = {0};
    charge_bytes(L, body.len);
    bool stop = waf_tx_request_body(tx, from_slice(body), &v) || waf_tx_request_body_end(tx, &v);
    return push_verdict(L, stop, &v);
}

/// guard:request(ctx, vars, reads_body) -> nil | {status=, rule_id=, redirect=, drop=}, wants_body
/// Phase 1; then phase 2, unless `reads_body`, the rules want the body, and it is not there yet:
/// `wants_body` is true then, and guard:request_body is to follow. `vars`, nil or a table, holds texts
/// that rules read as tx.NAME.
static int guard_request(lua_State *L)
{
    struct guard *g = check_guard(L, "request");
    const struct moon_exchange_view *x = view_of(L, "request");
    struct waf_verdict v = {0};
    struct inspection *first = host->attach(L, 2, "waf", NULL, NULL);
    struct inspection *i = inspection_in(first, g);
    if (i != NULL) {
        i->L = L;
    } else {
        i = inspect(L, g, x, first);
        set_vars(L, 3, i->tx);
    }
    charge_bytes(L, 0);
    if (waf_tx_request_headers(i->tx, &v)) {
        return push_verdict(L, true, &v);
    }
    if (lua_toboolean(L, 4) == 0) {
        waf_tx_ignore_request_body(i->tx);
    }
    bool wants = waf_tx_wants_request_body(i->tx);
    if (wants && !x->is_request_body_complete) {
        lua_pushnil(L);
        lua_pushboolean(L, 1);
        return 2;
    }
    return inspect_body(L, i->tx, wants ? x->request_body : (struct moon_slice){0});
}

/// guard:request_body(ctx) -> nil | verdict
/// Phase 2, on what has been read of the body.
static int guard_request_body(lua_State *L)
{
    struct inspection *i = inspection_of(L, check_guard(L, "request_body"));
    const struct moon_exchange_view *x = view_of(L, "request_body");
    if (i == NULL) {
        return luaL_error(L, "guard:request_body: request comes first");
    }
    return inspect_body(L, i->tx, x->request_body);
}

/// guard:response_headers(ctx) -> nil | verdict
static int guard_response_headers(lua_State *L)
{
    struct inspection *i = inspection_of(L, check_guard(L, "response_headers"));
    const struct moon_exchange_view *x = view_of(L, "response_headers");
    struct waf_verdict v = {0};
    if (i == NULL) {
        return 0;
    }
    waf_tx_response_line(i->tx, x->status, WAF_LIT("HTTP/1.1"));
    for (size_t k = 0; k < x->response_field_count; k++) {
        waf_tx_response_header(i->tx, from_slice(x->response_fields[k].name),
                               from_slice(x->response_fields[k].value));
    }
    charge_bytes(L, 0);
    return push_verdict(L, waf_tx_response_headers(i->tx, &v), &v);
}

/// guard:wants_response_body(ctx) -> boolean
static int guard_wants_response_body(lua_State *L)
{
    struct inspection *i = inspection_of(L, check_guard(L, "wants_response_body"));
    lua_pushboolean(L, i != NULL && waf_tx_wants_response_body(i->tx));
    return 1;
}

/// guard:response_body(ctx) -> nil | verdict
static int guard_response_body(lua_State *L)
{
    struct inspection *i = inspection_of(L, check_guard(L, "response_body"));
    const struct moon_exchange_view *x = view_of(L, "response_body");
    struct waf_verdict v = {0};
    if (i == NULL) {
        return 0;
    }
    charge_bytes(L, x->response_body.len);
    bool stop = waf_tx_response_body(i->tx, from_slice(x->response_body), &v) ||
                waf_tx_response_body_end(i->tx, &v);
    return push_verdict(L, stop, &v);
}

static void write_report(const struct guard *g, struct waf_str text)
{
    if (g->log_fd == -1) {
        host->log_object(MOON_LOG_INFO, "waf: rules matched", "waf",
                         (struct moon_slice){text.p, text.n});
        return;
    }
    // One write a report: lines of several workers do not mix.
    ssize_t n = write(g->log_fd, text.p, text.n);
    if (n != (ssize_t)text.n) {
        host->log(MOON_LOG_WARN, "waf: the audit log took %zd of %zu bytes", n, text.n);
    }
}

/// guard:is_allowed(ctx) -> boolean
/// Whether a rule let the exchange pass by all that follow.
static int guard_is_allowed(lua_State *L)
{
    struct inspection *i = inspection_of(L, check_guard(L, "is_allowed"));
    lua_pushboolean(L, i != NULL && waf_tx_is_allowed(i->tx));
    return 1;
}

/// guard:var(ctx, name) -> string | nil
/// `tx.NAME`, as rules have set it.
static int guard_var(lua_State *L)
{
    struct inspection *i = inspection_of(L, check_guard(L, "var"));
    struct waf_str name = {0};
    name.p = luaL_checklstring(L, 3, &name.n);
    struct waf_str value = {0};
    if (i != NULL) {
        value = waf_tx_get_var(i->tx, name);
    }
    if (value.p == NULL) {
        return 0;
    }
    lua_pushlstring(L, value.p, value.n);
    return 1;
}

// Phase 5, and the report where there is something to say. @return false: it was done before
static bool finish(const struct guard *g, struct inspection *i, int status, const char *action)
{
    if (i->logged) {
        return false;
    }
    i->logged = true;
    waf_tx_logging(i->tx, status);
    if (waf_tx_fired_count(i->tx) != 0 || waf_tx_exhausted(i->tx) || waf_tx_stopped(i->tx)) {
        struct waf_report r = {.mode = g->mode == WAF_MODE_DETECTION ? "detection" : "prevention",
                               .status = status,
                               .action = action,
                               .wall_ms = host->wall_ms()};
        struct waf_str text = g->log_modsecurity ? waf_report_modsecurity(i->tx, &r)
                                                 : waf_report_json(i->tx, &r, g->log_fd != -1);
        if (text.n != 0) {
            write_report(g, text);
        }
    }
    return true;
}

/// guard:finish(ctx, response_status, action?)
/// Phase 5; writes the log. `action`: what was done about it, where that was not the engine's doing.
static int guard_finish(lua_State *L)
{
    struct guard *g = check_guard(L, "finish");
    struct inspection *i = inspection_of(L, g);
    lua_settop(L, 4);
    if (i != NULL) {
        (void)finish(g, i, (int)lua_tonumber(L, 3), lua_tostring(L, 4));
    }
    return 0;
}

/// guard:conclude(ctx)
/// As finish, with the status of the response; leaves ctx.vars["waf.fired"], how many rules matched and
/// say so, and ctx.vars["waf.score"].
static int guard_conclude(lua_State *L)
{
    struct guard *g = check_guard(L, "conclude");
    struct inspection *i = inspection_of(L, g);
    if (i != NULL && finish(g, i, view_of(L, "conclude")->status, NULL)) {
        host->note(L, 2, "waf.fired", (double)waf_tx_fired_count(i->tx));
        host->note(L, 2, "waf.score", (double)waf_tx_inbound_score(i->tx));
    }
    return 0;
}

/// guard:info() -> {rules=, bytes=, holders=}
/// `holders`: how many guards and exchanges share the compiled set.
static int guard_info(lua_State *L)
{
    struct guard *g = check_guard(L, "info");
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, (lua_Number)waf_ruleset_rule_count(g->rules));
    lua_setfield(L, -2, "rules");
    lua_pushnumber(L, (lua_Number)waf_ruleset_memory(g->rules));
    lua_setfield(L, -2, "bytes");
    lua_pushnumber(L, (lua_Number)waf_ruleset_holders(g->rules));
    lua_setfield(L, -2, "holders");
    return 1;
}

/// waf.exists(path) -> boolean
/// Whether a file or folder of rules is there to be read.
static int waf_exists(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING) {
        return luaL_error(L, "waf.exists: path must be a string, got %s", luaL_typename(L, 1));
    }
    lua_pushboolean(L, access(lua_tostring(L, 1), R_OK) == 0);
    return 1;
}

static void waf_attach(lua_State *L)
{
    static const luaL_Reg METHODS[] = {{"request", guard_request},
                                       {"request_body", guard_request_body},
                                       {"response_headers", guard_response_headers},
                                       {"wants_response_body", guard_wants_response_body},
                                       {"response_body", guard_response_body},
                                       {"finish", guard_finish},
                                       {"conclude", guard_conclude},
                                       {"is_allowed", guard_is_allowed},
                                       {"var", guard_var},
                                       {"info", guard_info},
                                       {NULL, NULL}};
    if (luaL_newmetatable(L, GUARD_TYPE) != 0) {
        lua_newtable(L);
        for (const luaL_Reg *m = METHODS; m->name != NULL; m++) {
            lua_pushvalue(L, -2);
            lua_pushcclosure(L, m->func, 1);
            lua_setfield(L, -2, m->name);
        }
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, guard_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "waf.guard");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
}

static int waf_open(const struct moon_host *given)
{
    host = given;
    waf_set_pace(host->pace);
    return 0;
}

static void waf_close(void)
{
    waf_report_fini();
}

static const luaL_Reg FUNCTIONS[] = {{"guard", waf_guard}, {"exists", waf_exists}, {NULL, NULL}};

MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "waf",
                                                          .functions = FUNCTIONS,
                                                          .open = waf_open,
                                                          .close = waf_close,
                                                          .attach = waf_attach};
