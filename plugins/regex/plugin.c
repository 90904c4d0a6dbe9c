/* SPDX-License-Identifier: Apache-2.0 */
#include "regex/module.h"

#include <string.h>

#define CACHE_KEY "moongate.regex.cache"
#define OUTPUT_MAX ((size_t)16 << 20)
#define LIMIT_UNITS 50000 // what a match that gave up has cost

static const struct moon_host *host;

struct regex_box {
    struct pattern *pattern;
};

const struct moon_host *regex_host(void)
{
    return host;
}

struct moon_slice regex_check_string(lua_State *L, int index, const char *what)
{
    struct moon_slice s;
    if (lua_type(L, index) != LUA_TSTRING) {
        (void)luaL_error(L, "regex.%s must be a string, got %s", what, luaL_typename(L, index));
    }
    s.data = lua_tolstring(L, index, &s.len);
    return s;
}

void *regex_check_object(lua_State *L, int index, const char *what)
{
    void *box = lua_touserdata(L, index);
    bool is_ours = box != NULL && lua_getmetatable(L, index) != 0;
    if (is_ours) {
        is_ours = lua_rawequal(L, -1, lua_upvalueindex(1)) != 0;
        lua_pop(L, 1);
    }
    if (!is_ours) {
        (void)luaL_error(L, "%s: self must be one, got %s", what, luaL_typename(L, index));
    }
    return box;
}

void regex_new_class(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction gc)
{
    if (luaL_newmetatable(L, type) != 0) {
        lua_newtable(L);
        for (const luaL_Reg *m = methods; m->name != NULL; m++) {
            lua_pushvalue(L, -2);
            lua_pushcclosure(L, m->func, 1);
            lua_setfield(L, -2, m->name);
        }
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
        lua_pushstring(L, type);
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
}

// Pushes the table of compiled patterns, whose values are weak: a pattern that nobody holds goes.
static void push_cache(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, CACHE_KEY);
    if (!lua_isnil(L, -1)) {
        return;
    }
    lua_pop(L, 1);
    lua_newtable(L);
    lua_newtable(L);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, CACHE_KEY);
}

/// regex.new(pattern, flags?) -> regex
/// Flags: i caseless, m multiline, s dot takes newlines, x extended, u UTF-8, a anchored, D, U.
/// The same pattern is compiled once.
/// @lua-raises "regex.new: missing closing parenthesis at byte 3"
static int regex_new(lua_State *L)
{
    struct moon_slice text = regex_check_string(L, 1, "new: pattern");
    const char *flags = lua_isnoneornil(L, 2) ? "" : regex_check_string(L, 2, "new: flags").data;
    char error[256];
    lua_settop(L, 2);
    push_cache(L);
    lua_pushfstring(L, "%s/", flags);
    lua_pushvalue(L, 1);
    lua_concat(L, 2);
    lua_pushvalue(L, -1);
    lua_rawget(L, 3);
    if (!lua_isnil(L, -1)) {
        return 1;
    }
    lua_pop(L, 1);
    host->charge(L, (uint32_t)text.len * 20 + 1000);
    struct regex_box *box = lua_newuserdata(L, sizeof *box);
    box->pattern = NULL;
    luaL_getmetatable(L, REGEX_TYPE);
    lua_setmetatable(L, -2);
    box->pattern = regex_pattern_new(text, flags, error, sizeof error);
    if (box->pattern == NULL) {
        return luaL_error(L, "regex.new: %s", error);
    }
    lua_pushvalue(L, 4);
    lua_pushvalue(L, -2);
    lua_rawset(L, 3);
    return 1;
}

static int regex_gc(lua_State *L)
{
    struct regex_box *box = lua_touserdata(L, 1);
    regex_pattern_free(box->pattern);
    box->pattern = NULL;
    return 0;
}

struct call {
    const struct pattern *pattern;
    struct moon_slice subject;
    size_t from; // <= subject.len
};

// regex, subject, and a place to begin at, from 1 as Lua counts (from the end where negative).
static struct call check_call(lua_State *L, const char *method, const char *what)
{
    struct regex_box *box = regex_check_object(L, 1, method);
    struct call c = {.pattern = box->pattern};
    c.subject = regex_check_string(L, 2, what);
    if (!lua_isnoneornil(L, 3)) {
        if (lua_type(L, 3) != LUA_TNUMBER) {
            (void)luaL_error(L, "regex.%s: init must be a number, got %s", method,
                             luaL_typename(L, 3));
        }
        lua_Number init = lua_tonumber(L, 3), len = (lua_Number)c.subject.len;
        init = init < 0 ? len + init : init - 1;
        c.from = init > len ? c.subject.len : init > 0 ? (size_t)init : 0;
    }
    host->charge(L, (uint32_t)((c.subject.len - c.from) / 8) + 10);
    return c;
}

static int push_limit(lua_State *L)
{
    host->charge(L, LIMIT_UNITS);
    lua_pushnil(L);
    lua_pushliteral(L, "match limit reached");
    return 2;
}

static void push_span(lua_State *L, struct moon_slice subject, const size_t *offsets, uint32_t n,
                      size_t group)
{
    if (group >= n || offsets[2 * group] == PATTERN_UNSET ||
        offsets[2 * group] > offsets[2 * group + 1]) {
        lua_pushboolean(L, 0); // took no part (or \K in a lookahead turned it round)
        return;
    }
    lua_pushlstring(L, subject.data + offsets[2 * group],
                    offsets[2 * group + 1] - offsets[2 * group]);
}

// Pushes the groups, or the whole match where there are none.
static int push_captures(lua_State *L, const struct pattern *p, struct moon_slice subject,
                         const size_t *offsets, uint32_t n)
{
    uint32_t groups = regex_pattern_groups(p);
    luaL_checkstack(L, (int)groups + 4, "captures");
    if (groups == 0) {
        push_span(L, subject, offsets, n, 0);
        return 1;
    }
    for (uint32_t g = 1; g <= groups; g++) {
        push_span(L, subject, offsets, n, g);
    }
    return (int)groups;
}

// Matches. @return 0, or how many values it has pushed as the call's result: there is no match
static int call_match(lua_State *L, const struct call *c, const size_t **offsets, uint32_t *n)
{
    switch (regex_pattern_match(c->pattern, c->subject, c->from, offsets, n)) {
    case PATTERN_LIMIT:
        return push_limit(L);
    case PATTERN_NO:
        lua_pushnil(L);
        return 1;
    case PATTERN_YES:
        break;
    }
    return 0;
}

/// regex:test(subject, init?) -> whether it matches; false, "match limit reached" when it gave up
static int regex_test(lua_State *L)
{
    struct call c = check_call(L, "regex:test", "test: subject");
    const size_t *offsets;
    uint32_t n;
    enum pattern_result result = regex_pattern_match(c.pattern, c.subject, c.from, &offsets, &n);
    if (result == PATTERN_LIMIT) {
        (void)push_limit(L);
        lua_pushboolean(L, 0);
        lua_replace(L, -3);
        return 2;
    }
    lua_pushboolean(L, result == PATTERN_YES);
    return 1;
}

/// regex:match(subject, init?) -> the groups (false: took no part), or the whole match where the
/// pattern has none | nil, error?
static int regex_match(lua_State *L)
{
    struct call c = check_call(L, "regex:match", "match: subject");
    const size_t *offsets;
    uint32_t n;
    int missed = call_match(L, &c, &offsets, &n);
    if (missed > 0) {
        return missed;
    }
    return push_captures(L, c.pattern, c.subject, offsets, n);
}

/// regex:find(subject, init?) -> first, last, groups... | nil, error?
static int regex_find(lua_State *L)
{
    struct call c = check_call(L, "regex:find", "find: subject");
    const size_t *offsets;
    uint32_t n;
    int missed = call_match(L, &c, &offsets, &n);
    if (missed > 0) {
        return missed;
    }
    lua_pushinteger(L, (lua_Integer)offsets[0] + 1);
    lua_pushinteger(L, (lua_Integer)offsets[1]);
    return regex_pattern_groups(c.pattern) == 0
               ? 2
               : 2 + push_captures(L, c.pattern, c.subject, offsets, n);
}

struct naming {
    lua_State *L;
    int table;
};

static void add_name(void *arg, const char *name, uint32_t group)
{
    struct naming *naming = arg;
    lua_rawgeti(naming->L, naming->table, (int)group);
    if (lua_toboolean(naming->L, -1)) { // of groups with one name, the one that took part
        lua_setfield(naming->L, naming->table, name);
    } else {
        lua_pop(naming->L, 1);
    }
}

/// regex:exec(subject, init?) -> {[0] = whole, first group, ..., name = group} | nil, error?
static int regex_exec(lua_State *L)
{
    struct call c = check_call(L, "regex:exec", "exec: subject");
    const size_t *offsets;
    uint32_t n, groups = regex_pattern_groups(c.pattern);
    int missed = call_match(L, &c, &offsets, &n);
    if (missed > 0) {
        return missed;
    }
    lua_createtable(L, (int)groups, 1);
    struct naming naming = {.L = L, .table = lua_gettop(L)};
    for (uint32_t g = 0; g <= groups; g++) {
        push_span(L, c.subject, offsets, n, g);
        lua_rawseti(L, naming.table, (int)g);
    }
    regex_pattern_names(c.pattern, add_name, &naming);
    return 1;
}

// The text that replaces grows in a userdata at stack index `slot`: nothing is lost when Lua raises.
struct output {
    lua_State *L;
    int slot;
    char *data;
    size_t len, cap;
};

static void put(struct output *o, const char *bytes, size_t len)
{
    if (len > OUTPUT_MAX - o->len) {
        (void)luaL_error(o->L, "regex.gsub: the result would be longer than 16 MiB");
    }
    if (o->cap - o->len < len) {
        size_t cap = o->cap * 2 > o->len + len ? o->cap * 2 : o->len + len;
        char *grown = lua_newuserdata(o->L, cap);
        memcpy(grown, o->data, o->len);
        lua_replace(o->L, o->slot);
        o->data = grown;
        o->cap = cap;
    }
    if (len > 0) {
        memcpy(o->data + o->len, bytes, len);
    }
    o->len += len;
}

static void put_group(struct output *o, struct moon_slice subject, const size_t *offsets,
                      uint32_t n, size_t group)
{
    if (group < n && offsets[2 * group] != PATTERN_UNSET &&
        offsets[2 * group] <= offsets[2 * group + 1]) {
        put(o, subject.data + offsets[2 * group], offsets[2 * group + 1] - offsets[2 * group]);
    }
}

// After "${": the group of that name or number. Returns where it goes on.
static const char *put_named(struct output *o, const struct call *c, const size_t *offsets,
                             uint32_t n, const char *at, const char *end)
{
    char name[64];
    const char *stop = memchr(at, '}', (size_t)(end - at));
    if (stop == NULL || (size_t)(stop - at) >= sizeof name) {
        (void)luaL_error(o->L, "regex.gsub: \"${\" in the replacement has no end");
        return end;
    }
    memcpy(name, at, (size_t)(stop - at));
    name[stop - at] = '\0';
    uint32_t group = 0;
    bool is_number = stop > at && strspn(name, "0123456789") == (size_t)(stop - at);
    if (is_number) {
        for (const char *d = name; *d != '\0' && group < 1000; d++) {
            group = group * 10 + (uint32_t)(*d - '0');
        }
    } else {
        group = regex_pattern_group(c->pattern, name);
    }
    if (group > regex_pattern_groups(c->pattern) || (group == 0 && !is_number)) {
        (void)luaL_error(o->L, "regex.gsub: the pattern has no group \"%s\"", name);
    }
    put_group(o, c->subject, offsets, n, group);
    return stop + 1;
}

// "$0" to "$9", "${name}", "$$".
static void put_template(struct output *o, const struct call *c, const size_t *offsets, uint32_t n,
                         struct moon_slice with)
{
    const char *at = with.data, *end = with.data + with.len;
    while (at < end) {
        const char *dollar = memchr(at, '$', (size_t)(end - at));
        put(o, at, (size_t)((dollar != NULL ? dollar : end) - at));
        if (dollar == NULL) {
            return;
        }
        at = dollar + 1;
        if (at < end && *at >= '0' && *at <= '9') {
            put_group(o, c->subject, offsets, n, (uint32_t)(*at++ - '0'));
        } else if (at < end && *at == '{') {
            at = put_named(o, c, offsets, n, at + 1, end);
        } else if (at < end && *at == '$') {
            put(o, "$", 1);
            at++;
        } else {
            (void)luaL_error(o->L, "regex.gsub: write \"$$\" for a dollar in the replacement");
        }
    }
}

static void put_replacement(struct output *o, const struct call *c, const size_t *offsets,
                            uint32_t n)
{
    lua_State *L = o->L;
    struct moon_slice text;
    size_t whole[2] = {offsets[0], offsets[1]}; // the callback may match on its own
    if (lua_type(L, 3) == LUA_TSTRING) {
        text.data = lua_tolstring(L, 3, &text.len);
        put_template(o, c, offsets, n, text);
        return;
    }
    lua_pushvalue(L, 3);
    lua_call(L, push_captures(L, c->pattern, c->subject, offsets, n), 1);
    if (lua_type(L, -1) == LUA_TSTRING || lua_type(L, -1) == LUA_TNUMBER) {
        text.data = lua_tolstring(L, -1, &text.len);
        put(o, text.data, text.len);
    } else if (!lua_toboolean(L, -1)) {
        put(o, c->subject.data + whole[0], whole[1] - whole[0]);
    } else {
        (void)luaL_error(L, "regex.gsub: the function must return a string, got %s",
                         luaL_typename(L, -1));
    }
    lua_pop(L, 1);
}

/// regex:gsub(subject, replacement, max?) -> text, count | nil, error
/// replacement: a text with $1, ${name}, $$, or a function of the groups (nil or false: left as it
/// is) that must not wait. The result has at most 16 MiB.
static int regex_gsub(lua_State *L)
{
    struct regex_box *box = regex_check_object(L, 1, "regex:gsub");
    struct call c = {.pattern = box->pattern};
    c.subject = regex_check_string(L, 2, "gsub: subject");
    int kind = lua_type(L, 3);
    if (kind != LUA_TSTRING && kind != LUA_TFUNCTION) {
        return luaL_error(L, "regex.gsub: replacement must be a string or a function, got %s",
                          luaL_typename(L, 3));
    }
    lua_Number max = lua_isnoneornil(L, 4) ? 1e9 : lua_tonumber(L, 4);
    lua_settop(L, 4);
    struct output o = {.L = L, .slot = 5, .cap = c.subject.len + 64};
    o.data = lua_newuserdata(L, o.cap);
    size_t done = 0, count = 0; // `done`: what stands before it has been written
    while ((lua_Number)count < max && c.from <= c.subject.len) {
        const size_t *offsets;
        uint32_t n;
        host->charge(L, 20);
        enum pattern_result result =
            regex_pattern_match(c.pattern, c.subject, c.from, &offsets, &n);
        if (result == PATTERN_LIMIT) {
            return push_limit(L);
        }
        if (result == PATTERN_NO || offsets[0] > offsets[1] || offsets[0] < done) {
            break;
        }
        size_t first = offsets[0], last = offsets[1];
        put(&o, c.subject.data + done, first - done);
        put_replacement(&o, &c, offsets, n);
        done = last;
        c.from = last > first ? last : last + 1; // an empty match: one byte on
        count++;
    }
    put(&o, c.subject.data + done, c.subject.len - done);
    host->charge(L, (uint32_t)(o.len / 8) + 10);
    lua_pushlstring(L, o.data, o.len);
    lua_pushinteger(L, (lua_Integer)count);
    return 2;
}

static void regex_attach(lua_State *L)
{
    static const luaL_Reg METHODS[] = {{"test", regex_test}, {"match", regex_match},
                                       {"find", regex_find}, {"exec", regex_exec},
                                       {"gsub", regex_gsub}, {NULL, NULL}};
    regex_new_class(L, REGEX_TYPE, METHODS, regex_gc);
    regex_attach_sets(L);
}

static int regex_open(const struct moon_host *given)
{
    host = given;
    if (!regex_pattern_open()) {
        host->log(MOON_LOG_ERROR, "regex: no memory");
        regex_pattern_close();
        return -1;
    }
    return 0;
}

static void regex_close(void)
{
    regex_pattern_close();
}

static const luaL_Reg regex_functions[] = {
    {"new", regex_new}, {"set", regex_set}, {"literals", regex_literals}, {NULL, NULL}};

extern const struct moon_plugin moon_plugin_entry;
MOON_EXPORT const struct moon_plugin moon_plugin_entry = {.abi = MOON_PLUGIN_ABI,
                                                          .name = "regex",
                                                          .functions = regex_functions,
                                                          .open = regex_open,
                                                          .close = regex_close,
                                                          .attach = regex_attach};
