/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.text: texts made without Lua.

#include "script/ctx_internal.h"
#include "script/text.h"

static const char text_name[] = "moongate.text";

#define TEXT_MARK UINT64_C(0x6d6f6f6e74657874)

enum { TEXT_PARTS = 16 };

enum text_place {
    TEXT_LITERAL,
    TEXT_ID,
    TEXT_SITE,
    TEXT_ROUTE,
    TEXT_API,
    TEXT_OPERATION,
    TEXT_PRODUCT,
    TEXT_SUBSCRIPTION_ID,
    TEXT_SUBSCRIPTION_NAME,
    TEXT_METHOD,
    TEXT_SCHEME,
    TEXT_HOST,
    TEXT_PATH,
    TEXT_CLIENT_IP,
    TEXT_REQUEST_HEADER,
    TEXT_RESPONSE_HEADER,
    TEXT_QUERY,
    TEXT_PARAM,
    TEXT_CLAIM,
};

/// How an expression calls a place: `ctx.of.name`; NULL name: any, which is the part's own.
static const struct {
    const char *of, *name;
    enum text_place place;
} text_places[] = {
    {"id", "", TEXT_ID},
    {"site", "", TEXT_SITE},
    {"route", "", TEXT_ROUTE},
    {"api", "id", TEXT_API},
    {"api", "name", TEXT_API},
    {"operation", "id", TEXT_OPERATION},
    {"operation", "name", TEXT_OPERATION},
    {"product", "id", TEXT_PRODUCT},
    {"product", "name", TEXT_PRODUCT},
    {"subscription", "id", TEXT_SUBSCRIPTION_ID},
    {"subscription", "name", TEXT_SUBSCRIPTION_NAME},
    {"request", "method", TEXT_METHOD},
    {"request", "scheme", TEXT_SCHEME},
    {"request", "host", TEXT_HOST},
    {"request", "path", TEXT_PATH},
    {"request", "client_ip", TEXT_CLIENT_IP},
    {"request.headers", NULL, TEXT_REQUEST_HEADER},
    {"response.headers", NULL, TEXT_RESPONSE_HEADER},
    {"request.query", NULL, TEXT_QUERY},
    {"request.params", NULL, TEXT_PARAM},
    {"jwt", NULL, TEXT_CLAIM},
};

struct text_part {
    enum text_place place;
    struct moon_slice text; // the literal, or the name that is looked for
};

/// The texts of its parts lie behind it.
struct moon_text {
    uint64_t mark; // TEXT_MARK
    size_t count;
    struct text_part parts[];
};

// ---- made --------------------------------------------------------------------------------------

static enum moon_text_kind text_is(struct moon_slice found, struct moon_slice *out)
{
    *out = found;
    return found.data == NULL ? MOON_TEXT_NONE : MOON_TEXT_FOUND;
}

// A name of the configuration: one that is empty is not there.
static enum moon_text_kind text_is_name(struct moon_slice found, struct moon_slice *out)
{
    *out = found;
    return found.len == 0 ? MOON_TEXT_NONE : MOON_TEXT_FOUND;
}

// Of a thing that is not there, Lua says that it cannot be looked into.
static enum moon_text_kind text_of_thing(struct moon_slice thing, struct moon_slice *out)
{
    *out = thing;
    return thing.len == 0 ? MOON_TEXT_OTHER : MOON_TEXT_FOUND;
}

static enum moon_text_kind text_of_subscription(enum text_place place, struct moon_ctx *x,
                                                struct moon_slice *out)
{
    moon_ctx_find_subscription(x);
    const struct moon_subscription *subscription = x->subscription;
    if (subscription == NULL)
        return MOON_TEXT_OTHER;
    switch (place) {
    case TEXT_PRODUCT:
        return text_of_thing(subscription->product, out);
    case TEXT_SUBSCRIPTION_ID:
        return text_is_name(subscription->id, out);
    default:
        return text_is_name(subscription->name, out);
    }
}

static enum moon_text_kind text_of_request(enum text_place place, const struct moon_ctx *x,
                                           struct moon_slice *out)
{
    const struct moon_request *request = x->request;
    switch (place) {
    case TEXT_METHOD:
        return text_is(request->method_name, out);
    case TEXT_SCHEME:
        return text_is(request->scheme, out);
    case TEXT_HOST:
        return text_is(request->host, out);
    case TEXT_PATH:
        return text_is(request->path, out);
    default: // the exchange may outlive the connection
        *out = moon_slice(x->client->ip_text, x->client->ip_len);
        return moon_arena_copy(x->arena, *out, out) ? MOON_TEXT_FOUND : MOON_TEXT_OTHER;
    }
}

static enum moon_text_kind text_of_param(const struct moon_ctx *x, struct moon_slice name,
                                         struct moon_slice *out)
{
    const struct moon_param *param = moon_ctx_find_param(x, name);
    if (param == NULL)
        return MOON_TEXT_NONE;
    *out = param->value;
    return MOON_TEXT_FOUND;
}

// Once a policy has had ctx.jwt in its hands, it may be another. The text outlives the claims, whose
// place those of a second token may take.
static enum moon_text_kind text_of_claim(const struct moon_ctx *x, struct moon_slice name,
                                         struct moon_slice *out)
{
    if (x->claims == NULL || moon_ctx_is_in_lua(x, MOON_SLOT_JWT))
        return MOON_TEXT_OTHER;
    enum moon_text_kind kind = x->claims->find(x->claims, name, out);
    if (kind == MOON_TEXT_FOUND && !moon_arena_copy(x->arena, *out, out))
        return MOON_TEXT_OTHER;
    return kind;
}

static enum moon_text_kind text_of_part(const struct text_part *part, struct moon_ctx *x,
                                        struct moon_slice *out)
{
    const struct moon_leaf *leaf = x->leaf;
    switch (part->place) {
    case TEXT_LITERAL:
        *out = part->text;
        return MOON_TEXT_FOUND;
    case TEXT_ID:
        return text_is(x->id, out);
    case TEXT_SITE:
        return text_is(leaf->site, out);
    case TEXT_ROUTE:
        return text_is(leaf->route, out);
    case TEXT_API:
        return text_of_thing(leaf->api, out);
    case TEXT_OPERATION:
        return text_of_thing(leaf->operation, out);
    case TEXT_PRODUCT:
    case TEXT_SUBSCRIPTION_ID:
    case TEXT_SUBSCRIPTION_NAME:
        return text_of_subscription(part->place, x, out);
    case TEXT_METHOD:
    case TEXT_SCHEME:
    case TEXT_HOST:
    case TEXT_PATH:
    case TEXT_CLIENT_IP:
        return text_of_request(part->place, x, out);
    case TEXT_REQUEST_HEADER:
        return text_is(moon_fields_joined(&x->request->fields, part->text), out);
    case TEXT_RESPONSE_HEADER:
        if (x->response == NULL)
            return MOON_TEXT_OTHER;
        return text_is(moon_fields_joined(&x->response->fields, part->text), out);
    case TEXT_QUERY:
        *out = moon_ctx_query_value(x, part->text);
        return out->data == NULL ? MOON_TEXT_OTHER : MOON_TEXT_FOUND; // it may lack its '=' only
    case TEXT_PARAM:
        return text_of_param(x, part->text, out);
    case TEXT_CLAIM:
        return text_of_claim(x, part->text, out);
    }
    return MOON_TEXT_OTHER;
}

enum moon_text_kind moon_text_make(const struct moon_text *text, struct moon_ctx *x,
                                   struct moon_slice *out)
{
    struct moon_slice made[TEXT_PARTS];
    if (text->count == 1)
        return text_of_part(&text->parts[0], x, out);
    for (size_t i = 0; i < text->count; i++) {
        switch (text_of_part(&text->parts[i], x, &made[i])) {
        case MOON_TEXT_FOUND:
            break;
        case MOON_TEXT_NONE: // stands for nothing among others
            made[i] = MOON_S("");
            break;
        case MOON_TEXT_OTHER:
            return MOON_TEXT_OTHER;
        }
    }
    return moon_arena_join(x->arena, made, text->count, out) ? MOON_TEXT_FOUND : MOON_TEXT_OTHER;
}

// ---- moongate.text -----------------------------------------------------------------------------

const struct moon_text *moon_text_read(lua_State *L, int index)
{
    const struct moon_text *text =
        lua_objlen(L, index) >= sizeof(*text) ? lua_touserdata(L, index) : NULL;
    return text != NULL && text->mark == TEXT_MARK ? text : NULL;
}

// Reads the field `name` of the table on top. Lent: while the table lives.
static struct moon_slice text_field(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name);
    struct moon_slice text = lua_isnil(L, -1) ? MOON_S("") : moon_check_slice(L, -1);
    lua_pop(L, 1);
    return text;
}

// The part on top of the stack: a text, or { of =, name = }. @return false when there is no such place
static bool text_read_part(lua_State *L, struct text_part *part)
{
    if (lua_type(L, -1) == LUA_TSTRING) {
        *part = (struct text_part){TEXT_LITERAL, moon_check_slice(L, -1)};
        return true;
    }
    if (!lua_istable(L, -1))
        return false;
    struct moon_slice of = text_field(L, "of"), name = text_field(L, "name");
    for (size_t i = 0; i < MOON_COUNT(text_places); i++) {
        if (!moon_slice_is(of, moon_slice_text(text_places[i].of)))
            continue;
        if (text_places[i].name == NULL
                ? name.len > 0
                : moon_slice_is(name, moon_slice_text(text_places[i].name))) {
            *part = (struct text_part){text_places[i].place, name};
            return true;
        }
    }
    return false;
}

/// text.program(parts) -> program | nil where Lua has to make the text
///
/// A part is a literal text, or { of = "request.headers", name = "Accept" } for
/// `ctx.request.headers["Accept"]`, { of = "id" } for `ctx.id`.
static int text_program(lua_State *L)
{
    struct text_part parts[TEXT_PARTS];
    size_t bytes = 0, count;
    luaL_checktype(L, 1, LUA_TTABLE);
    count = lua_objlen(L, 1);
    if (count == 0 || count > TEXT_PARTS)
        return 0;
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 1, (int)i + 1);
        if (!text_read_part(L, &parts[i]))
            return 0;
        bytes += parts[i].text.len;
        lua_pop(L, 1);
    }
    struct moon_text *text = lua_newuserdata(L, sizeof(*text) + count * sizeof(parts[0]) + bytes);
    char *at = (char *)&text->parts[count];
    text->mark = TEXT_MARK;
    text->count = count;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, parts[i].text.data, parts[i].text.len);
        text->parts[i] = (struct text_part){parts[i].place, moon_slice(at, parts[i].text.len)};
        at += parts[i].text.len;
    }
    luaL_getmetatable(L, text_name);
    lua_setmetatable(L, -2);
    return 1;
}

static int text_open(lua_State *L)
{
    luaL_newmetatable(L, text_name);
    lua_pushliteral(L, "text");
    lua_setfield(L, -2, "__metatable"); // nobody takes another object for one
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, text_program);
    lua_setfield(L, -2, "program");
    return 1;
}

void moon_script_open_text(lua_State *L)
{
    moon_preload(L, "moongate.text", text_open);
}
