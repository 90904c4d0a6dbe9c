/* SPDX-License-Identifier: Apache-2.0 */

/// Native plugins: the host table they get, and their Lua modules.

#include "moongate/plugin.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/pace.h"
#include "script/internal.h"

#define PLUGIN(name) extern const struct moon_plugin moon_plugin_##name;
#include "plugins.def"
#undef PLUGIN

static const struct moon_plugin *const plugins_builtin[] = {
#define PLUGIN(name) &moon_plugin_##name,
#include "plugins.def"
#undef PLUGIN
    NULL,
};

static bool plugins_are_open;

// As text; lent until another address is asked for, and it seldom is another.
static struct moon_slice host_address_text(const struct moon_ip *ip)
{
    static char text[MOON_IP_TEXT_BYTES];
    static struct moon_ip of;
    static size_t len;
    if (len == 0 || memcmp(&of, ip, sizeof(of)) != 0) {
        of = *ip;
        len = moon_ip_format(ip, text);
    }
    return moon_slice(text, len);
}

// The exchange behind the ctx at `index`; NULL where the value is none, or its request is over.
static struct moon_ctx *host_ctx(lua_State *L, int index)
{
    if (!moon_handle_is(L, index, MOON_HANDLE_CTX))
        return NULL;
    return moon_handle_ctx(lua_touserdata(L, index));
}

static const struct moon_exchange_view *host_exchange(lua_State *L, int index)
{
    static struct moon_exchange_view view;
    struct moon_ctx *x = host_ctx(L, index);
    if (x == NULL)
        return NULL;
    const struct moon_request *request = x->request;
    view = (struct moon_exchange_view){
        .method = request->method_name,
        .target = request->target,
        .path = request->path,
        .query = request->query,
        .host = request->authority,
        .scheme = request->scheme,
        .version_major = request->version_major,
        .version_minor = request->version_minor,
        .request_line = request->line,
        .request_fields = request->fields.items,
        .request_field_count = request->fields.count,
        .client_ip = moon_slice(x->client->ip_text, x->client->ip_len),
        .client_port = x->client->port,
        .server_ip = host_address_text(&x->client->server_ip),
        .server_port = x->client->server_port,
        .id = x->id,
    };
    if (x->leaf != NULL && x->leaf->needs_request_body)
        view.is_request_body_complete = x->ops->request_body(x, &view.request_body) == MOON_OK;
    if (x->response != NULL) {
        view.status = x->response->status;
        view.reason = x->response->reason;
        view.response_fields = x->response->fields.items;
        view.response_field_count = x->response->fields.count;
        if (x->leaf != NULL && x->leaf->needs_response_body)
            view.is_response_body_complete =
                x->ops->response_body(x, &view.response_body) == MOON_OK;
    }
    return &view;
}

static void *host_attach(lua_State *L, int ctx_index, const char *plugin, void *object,
                         void (*free_object)(void *))
{
    struct moon_ctx *x = moon_handle_check(L, ctx_index, MOON_HANDLE_CTX);
    for (struct moon_attachment *at = x->attachments; at != NULL; at = at->next) {
        if (strcmp(at->plugin, plugin) == 0)
            return at->object;
    }
    if (object == NULL)
        return NULL;
    struct moon_attachment *attachment = moon_arena_alloc(x->arena, sizeof(*attachment));
    if (attachment == NULL)
        return NULL;
    *attachment = (struct moon_attachment){x->attachments, plugin, object, free_object};
    x->attachments = attachment;
    return object;
}

static void host_charge(lua_State *L, uint32_t units)
{
    struct moon_script *script = moon_script_of(L);
    if (script == NULL)
        return; // a spec's own state
    int32_t charge = units / 10 > 1000000 ? 1000000 : (int32_t)(units / 10);
    script->fuel -= charge;
}

static bool host_read_file(lua_State *L, const char *path, struct moon_slice *out)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "moongate.source_read");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    lua_pushstring(L, path);
    lua_call(L, 1, 1); // the text stays on the stack until the caller returns
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (text == NULL)
        return false;
    *out = moon_slice(text, len);
    return true;
}

static bool host_act_field(const struct moon_ctx *x, struct moon_slice name,
                           struct moon_slice *value)
{
    *value = moon_fields_joined(&x->request->fields, name);
    return value->data != NULL;
}

static bool host_request_field(lua_State *L, int index, struct moon_slice name,
                               struct moon_slice *value)
{
    const struct moon_ctx *x = host_ctx(L, index);
    return x != NULL && host_act_field(x, name, value);
}

static void host_note(lua_State *L, int index, const char *name, double number)
{
    moon_ctx_note(L, moon_handle_check(L, index, MOON_HANDLE_CTX), name, NULL, number);
}

static void host_act_remove_field(struct moon_ctx *x, struct moon_slice name)
{
    (void)moon_fields_remove(&x->request->fields, name);
}

static bool host_act_jwt(struct moon_ctx *x, struct moon_claims *claims)
{
    if (moon_ctx_is_in_lua(x, MOON_SLOT_JWT))
        return false;
    claims->uses++;
    moon_claims_release(x->script->L, x->claims);
    x->claims = claims;
    return true;
}

_Static_assert((int)MOON_PLUGIN_RECORD_BYTES == (int)MOON_RECORD_BYTES, "one size");

static struct moon_records *host_records(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    return script == NULL ? NULL : script->env.records;
}

static size_t host_record_read(lua_State *L, struct moon_slice name, int64_t now_s, char *into)
{
    struct moon_records *records = host_records(L);
    return records == NULL ? 0 : moon_records_read(records, name, now_s, into);
}

static void host_record_change(lua_State *L, struct moon_slice name, int64_t now_s,
                               moon_record_change_fn *change, void *arg)
{
    struct moon_records *records = host_records(L);
    if (records != NULL)
        moon_records_change(records, name, now_s, change, arg);
}

static const struct moon_host plugins_host = {
    .abi = MOON_PLUGIN_ABI,
    .log = moon_log,
    .log_object = moon_log_object,
    .exchange = host_exchange,
    .attach = host_attach,
    .charge = host_charge,
    .wall_ms = moon_clock_wall_ms,
    .read_file = host_read_file,
    .pace = moon_pace,
    .request_field = host_request_field,
    .note = host_note,
    .act_register = moon_act_register,
    .act_ctx = host_ctx,
    .act_field = host_act_field,
    .act_remove_field = host_act_remove_field,
    .act_jwt = host_act_jwt,
    .record_read = host_record_read,
    .record_change = host_record_change,
};

static void plugins_open_all(void)
{
    if (plugins_are_open)
        return;
    plugins_are_open = true;
    for (size_t i = 0; plugins_builtin[i] != NULL; i++) {
        const struct moon_plugin *plugin = plugins_builtin[i];
        MOON_ASSERT(plugin->abi == MOON_PLUGIN_ABI);
        if (plugin->open != NULL && plugin->open(&plugins_host) != 0)
            moon_log_error("plugin %s did not open", plugin->name);
    }
}

/// The loader of a plugin's module; upvalue: its registration.
static int plugins_load(lua_State *L)
{
    const struct moon_plugin *plugin = lua_touserdata(L, lua_upvalueindex(1));
    lua_newtable(L);
    luaL_register(L, NULL, plugin->functions);
    if (plugin->attach != NULL)
        plugin->attach(L);
    return 1;
}

void moon_script_open_plugins(lua_State *L)
{
    plugins_open_all();
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    for (size_t i = 0; plugins_builtin[i] != NULL; i++) {
        lua_pushfstring(L, "moongate.%s", plugins_builtin[i]->name);
        lua_pushlightuserdata(L, (void *)(uintptr_t)plugins_builtin[i]);
        lua_pushcclosure(L, plugins_load, 1);
        lua_rawset(L, -3);
    }
    lua_pop(L, 2);
}
