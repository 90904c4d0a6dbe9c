/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.path: paths with `{name}` in them, filled in from a request's path parameters without
/// building anything in Lua.

#include "script/ctx_internal.h"

static const char path_template_name[] = "moongate.path.template";

enum { PATH_PARTS = 64 };

#define PATH_MARK UINT64_C(0x6d6f6f6e70617468)

/// "a{b}c" as alternating literals and names; the texts are kept by the userdata's environment.
struct path_template {
    uint64_t mark; // PATH_MARK
    bool drops_query;
    size_t count;
    struct moon_slice parts[PATH_PARTS];
};

/// path.template({ "/v2/orders/", "id", "" }, drops_query) -> template: literals and names in turns
///
/// As an act (script/plan.h) it does what `apply` does, and takes the query off the request where that
/// is wanted.
/// @lua-raises "path.template: at most 64 parts"
static int path_template(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    size_t n = lua_objlen(L, 1);
    if (n == 0 || n > PATH_PARTS)
        return luaL_error(L, "path.template: at most %d parts", PATH_PARTS);
    struct path_template *template = lua_newuserdata(L, sizeof(*template));
    template->mark = PATH_MARK;
    template->drops_query = lua_toboolean(L, 2);
    template->count = n;
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 1, (int)i + 1);
        template->parts[i] = moon_check_slice(L, -1);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfenv(L, -2);
    luaL_getmetatable(L, path_template_name);
    lua_setmetatable(L, -2);
    return 1;
}

static struct moon_slice path_param(const struct moon_ctx *x, struct moon_slice name)
{
    const struct moon_param *param = moon_ctx_find_param(x, name);
    return param != NULL ? param->value : moon_slice("", 0);
}

// RFC 3986 §3.3: what may stand in a segment as it is.
static bool path_is_plain(char c)
{
    bool is_alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_alnum || (c != '\0' && strchr("-._~!$&'()*+,;=:@", c) != NULL);
}

static char *path_put(char *at, struct moon_slice text, bool is_encoded)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (!is_encoded || path_is_plain((char)c)) {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    return at;
}

// A parameter that is not there takes its segment with it: runs of slashes become one, and the last
// one goes.
static size_t path_shorten(char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '/' || n == 0 || text[n - 1] != '/')
            text[n++] = text[i];
    }
    return n > 1 && text[n - 1] == '/' ? n - 1 : n;
}

// @return false when the arena is full
static bool path_fill(const struct path_template *template, struct moon_ctx *x)
{
    struct moon_slice values[PATH_PARTS];
    bool is_short = false;
    size_t most = 0;
    for (size_t i = 0; i < template->count; i++) {
        bool is_name = i % 2 == 1;
        values[i] = is_name ? path_param(x, template->parts[i]) : template->parts[i];
        is_short = is_short || (is_name && values[i].len == 0);
        most += values[i].len * (is_name ? 3 : 1);
    }
    char *text = moon_arena_alloc(x->arena, most + 1);
    if (text == NULL)
        return false;
    char *at = text;
    for (size_t i = 0; i < template->count; i++)
        at = path_put(at, values[i], i % 2 == 1);
    size_t len = (size_t)(at - text);
    x->request->path = moon_slice(text, is_short ? path_shorten(text, len) : len);
    x->is_path_rewritten = true;
    return true;
}

/// template:apply(ctx.request): the request to the backend gets this path
static int path_apply(lua_State *L)
{
    const struct path_template *template =
        moon_check_object(L, 1, sizeof(*template), PATH_MARK, path_template_name);
    struct moon_ctx *x = moon_handle_check(L, 2, MOON_HANDLE_REQUEST);
    return path_fill(template, x) ? 0 : moon_raise_full(L);
}

static enum moon_act_answer path_act(struct moon_ctx *x, const void *object)
{
    const struct path_template *template = object;
    if (!path_fill(template, x))
        return MOON_ACT_DECLINES;
    if (template->drops_query)
        x->request->query = moon_slice("", 0);
    return MOON_ACT_GO_ON;
}

static const luaL_Reg path_functions[] = {{"template", path_template}, {NULL, NULL}};
static const luaL_Reg path_methods[] = {{"apply", path_apply}, {NULL, NULL}};

static int path_open(lua_State *L)
{
    luaL_newmetatable(L, path_template_name);
    lua_newtable(L);
    luaL_register(L, NULL, path_methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "path template");
    lua_setfield(L, -2, "__metatable");
    moon_act_register(L, path_act);
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, path_functions);
    return 1;
}

void moon_script_open_path(lua_State *L)
{
    moon_preload(L, "moongate.path", path_open);
}
