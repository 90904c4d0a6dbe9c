/* SPDX-License-Identifier: Apache-2.0 */
#include "process/testkit.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "script/embedded.h"
#include "script/internal.h"

#include <sys/mman.h>
#include <unistd.h>

static const char testkit_name[] = "moongate.testkit";

static struct moon_list testkit_open;

/// What config.load is told to replace.
struct testkit_patch {
    struct moon_testkit *kit;
    lua_State *L;
    int backends; // index of the table, 0: none
};

// A turn counts as no longer than it may wait, and this: what a loaded machine takes besides is nobody's
// timeout. Far longer than any turn's own work.
enum { TESTKIT_TURN_US = 20000 };

void moon_testkit_turn(int max_wait_ms)
{
    int64_t most_us = INT64_C(1000) * max_wait_ms + TESTKIT_TURN_US;
    MOON_LIST_EACH(at, after, &testkit_open)
    {
        struct moon_testkit *kit = MOON_LIST_ENTRY(at, struct moon_testkit, link);
        bool is_last = after == &testkit_open;
        moon_loop_turn(kit->worker.loop, is_last ? max_wait_ms : 0);
        int64_t now = moon_clock_real_us();
        if (is_last && now > kit->real_us)
            moon_clock_advance_us(now - kit->real_us < most_us ? now - kit->real_us : most_us);
        kit->real_us = now;
    }
    MOON_LIST_EACH(at, after, &testkit_open)
    moon_loop_catch_up(MOON_LIST_ENTRY(at, struct moon_testkit, link)->worker.loop);
}

struct moon_testkit *moon_testkit_check(lua_State *L, int index)
{
    struct moon_testkit **box = luaL_checkudata(L, index, testkit_name);
    if (*box == NULL)
        luaL_error(L, "this gateway is closed");
    return *box;
}

uint16_t moon_testkit_port(struct moon_testkit *kit, const char *name)
{
    const struct moon_plan *plan = kit->worker.gateway.generation->plan;
    for (size_t i = 0; i < kit->worker.gateway.listener_count; i++) {
        const struct moon_gateway_listener *listener = &kit->worker.gateway.listeners[i];
        struct moon_slice wanted = moon_slice_text(name);
        bool is_it = name == NULL || moon_slice_is(plan->listeners[listener->index].name, wanted) ||
                     (listener->is_management && moon_slice_is(wanted, MOON_S("management")));
        if (is_it)
            return moon_listen_port(listener->fd);
    }
    return 0;
}

// The function on top of the stack answers in the target's place.
static bool testkit_patch_target(struct testkit_patch *patch, struct moon_plan *plan,
                                 struct moon_target_conf *target)
{
    struct moon_test_origin *origin =
        moon_test_origin_new(patch->kit, patch->L, lua_gettop(patch->L));
    if (origin == NULL)
        return false;
    target->host = MOON_S("127.0.0.1");
    target->port = moon_test_origin_port(origin);
    target->is_tls = target->is_srv = false;
    target->identity = moon_arena_printf(&plan->arena, "http://127.0.0.1:%d", target->port);
    target->authority = moon_arena_printf(&plan->arena, "127.0.0.1:%d", target->port);
    target->url = target->identity;
    return true;
}

// Every target of a backend that the spec answers becomes that origin; probes are left out.
static void testkit_patch_backend(struct testkit_patch *patch, struct moon_plan *plan,
                                  struct moon_backend_conf *backend)
{
    struct moon_target_conf *target = moon_arena_zalloc(&plan->arena, sizeof(*target));
    if (target == NULL || !testkit_patch_target(patch, plan, target))
        return;
    target->weight = 1;
    if (backend->target_count > 0)
        target->path = backend->targets[0].path;
    backend->targets = target;
    backend->target_count = 1;
    backend->sink_status = 0;
    backend->probe.path = moon_slice(NULL, 0);
}

// One function for each target: weights, priorities and probes stay as configured.
static void testkit_patch_targets(struct testkit_patch *patch, struct moon_plan *plan,
                                  struct moon_backend_conf *backend)
{
    for (size_t i = 0; i < backend->target_count; i++) {
        lua_rawgeti(patch->L, -1, (int)i + 1);
        if (lua_isfunction(patch->L, -1))
            (void)testkit_patch_target(patch, plan, &backend->targets[i]);
        lua_pop(patch->L, 1);
    }
}

static void testkit_patch_plan(struct moon_plan *plan, void *arg)
{
    struct testkit_patch *patch = arg;
    lua_State *L = patch->L;
    if (patch->backends == 0)
        return;
    for (size_t i = 0; i < plan->backend_count; i++) {
        lua_pushlstring(L, plan->backends[i].name.data, plan->backends[i].name.len);
        lua_rawget(L, patch->backends);
        if (lua_isfunction(L, -1))
            testkit_patch_backend(patch, plan, &plan->backends[i]);
        else if (lua_istable(L, -1))
            testkit_patch_targets(patch, plan, &plan->backends[i]);
        lua_pop(L, 1);
    }
}

static void testkit_free(struct moon_testkit *kit)
{
    if (kit == NULL)
        return;
    moon_list_remove(&kit->link);
    MOON_LIST_EACH(at, after, &kit->origins)
    moon_test_origin_free(moon_test_origin_of(at));
    if (kit->worker.loop != NULL) {
        int fds[MOON_GATEWAY_LISTENERS];
        size_t n = kit->worker.gateway.listener_count;
        for (size_t i = 0; i < n; i++)
            fds[i] = kit->worker.gateway.listeners[i].fd;
        moon_worker_fini(&kit->worker);
        for (size_t i = 0; i < n; i++)
            (void)close(fds[i]);
    }
    moon_state_free(&kit->state);
    free(kit);
}

// Loads DIR. @return false with a message pushed
static bool testkit_load(struct moon_testkit *kit, lua_State *L, const char *dir, int backends)
{
    char text[512] = "";
    char *error = NULL;
    struct moon_bundle *bundle;
    struct testkit_patch patch = {kit, L, backends};
    if (moon_bundle_read(dir, text, sizeof(text), &bundle) != MOON_OK) {
        lua_pushstring(L, text);
        return false;
    }
    kit->worker.env.patch_plan = testkit_patch_plan;
    kit->worker.env.patch_arg = &patch;
    enum moon_rc rc = moon_worker_load(&kit->worker, bundle, ++kit->generation, &error);
    kit->worker.env.patch_plan = NULL;
    moon_bundle_free(bundle);
    if (rc != MOON_OK) {
        lua_pushstring(L, error == NULL ? moon_rc_text(rc) : error);
        free(error);
        return false;
    }
    moon_worker_flip(&kit->worker);
    return true;
}

static bool testkit_listen(struct moon_testkit *kit, lua_State *L)
{
    const struct moon_plan *plan = kit->worker.gateway.generation->plan;
    struct moon_listen_address address;
    char error[256] = "";
    for (size_t i = 0; i < plan->listener_count; i++) {
        int fd;
        if (moon_listen_address_parse("127.0.0.1:0", &address) != MOON_OK ||
            moon_listen_bind(&address, 1024, false, error, sizeof(error), &fd) != MOON_OK) {
            lua_pushstring(L, error);
            return false;
        }
        if (moon_gateway_listen(&kit->worker.gateway, (int)i, fd) != MOON_OK) {
            (void)close(fd);
            lua_pushliteral(L, "out of memory");
            return false;
        }
    }
    return true;
}

/// core.gateway(dir, backends?) -> gateway | nil, error
static int testkit_gateway(lua_State *L)
{
    const char *dir = luaL_checkstring(L, 1);
    int backends = lua_istable(L, 2) ? 2 : 0;
    struct moon_testkit **box = lua_newuserdata(L, sizeof(struct moon_testkit *));
    *box = NULL;
    luaL_getmetatable(L, testkit_name);
    lua_setmetatable(L, -2);
    struct moon_testkit *kit = calloc(1, sizeof(*kit));
    if (kit == NULL)
        return luaL_error(L, "out of memory");
    moon_list_init(&kit->link);
    moon_list_init(&kit->origins);
    *box = kit;
    moon_clock_freeze(true);
    if (moon_state_new(1, 0, &kit->state) != MOON_OK ||
        moon_worker_init(&kit->worker, &kit->state, 0) != MOON_OK)
        return luaL_error(L, "out of memory");
    moon_upstreams_init(&kit->clients, kit->worker.loop, kit->worker.dns, kit->state.healths);
    kit->log_fd = memfd_create("access-log", MFD_CLOEXEC);
    kit->worker.gateway.access_log = moon_access_log_new(kit->log_fd);
    kit->real_us = moon_clock_real_us();
    if (!testkit_load(kit, L, dir, backends) || !testkit_listen(kit, L)) {
        *box = NULL;
        testkit_free(kit);
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    moon_list_push_back(&testkit_open, &kit->link);
    return 1;
}

/// gw:reload(dir) -> true | nil, error: as a reload does, the old generation stays when it fails
static int testkit_reload(lua_State *L)
{
    struct moon_testkit *kit = moon_testkit_check(L, 1);
    int backends = lua_istable(L, 3) ? 3 : 0;
    if (!testkit_load(kit, L, luaL_checkstring(L, 2), backends)) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

/// gw:advance(seconds): moves the clock and fires what has become due, in order
static int testkit_advance(lua_State *L)
{
    (void)moon_testkit_check(L, 1);
    double seconds = luaL_checknumber(L, 2);
    luaL_argcheck(L, seconds >= 0 && seconds < 1e9, 2, "must not be negative");
    moon_clock_advance_us((int64_t)(seconds * 1e6));
    MOON_LIST_EACH(at, after, &testkit_open)
    moon_loop_catch_up(MOON_LIST_ENTRY(at, struct moon_testkit, link)->worker.loop);
    moon_testkit_turn(0);
    return 0;
}

/// gw:turn(ms?): lets things happen
static int testkit_turn(lua_State *L)
{
    (void)moon_testkit_check(L, 1);
    moon_testkit_turn((int)luaL_optinteger(L, 2, 0));
    return 0;
}

/// gw:port(listener?) -> port
static int testkit_port(lua_State *L)
{
    lua_pushinteger(L, moon_testkit_port(moon_testkit_check(L, 1), luaL_optstring(L, 2, NULL)));
    return 1;
}

/// gw:log_text() -> the access log so far
static int testkit_log_text(lua_State *L)
{
    struct moon_testkit *kit = moon_testkit_check(L, 1);
    luaL_Buffer out;
    char chunk[4096];
    off_t at = 0;
    ssize_t n;
    moon_access_log_flush(kit->worker.gateway.access_log);
    luaL_buffinit(L, &out);
    while ((n = pread(kit->log_fd, chunk, sizeof(chunk), at)) > 0) {
        luaL_addlstring(&out, chunk, (size_t)n);
        at += n;
    }
    luaL_pushresult(&out);
    return 1;
}

/// gw:connections() -> client connections open now
static int testkit_connections(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)moon_testkit_check(L, 1)->worker.gateway.session_count);
    return 1;
}

/// gw:close()
static int testkit_close(lua_State *L)
{
    struct moon_testkit **box = luaL_checkudata(L, 1, testkit_name);
    testkit_free(*box);
    *box = NULL;
    return 0;
}

static const luaL_Reg testkit_methods[] = {
    {"reload", testkit_reload},
    {"advance", testkit_advance},
    {"turn", testkit_turn},
    {"port", testkit_port},
    {"log_text", testkit_log_text},
    {"connections", testkit_connections},
    {"close", testkit_close},
    {"request", moon_test_request},
    {"raw", moon_test_raw},
    {"__gc", testkit_close},
    {NULL, NULL},
};

static const luaL_Reg testkit_functions[] = {{"gateway", testkit_gateway}, {NULL, NULL}};

static int testkit_open_module(lua_State *L)
{
    luaL_newmetatable(L, testkit_name);
    luaL_register(L, NULL, testkit_methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, testkit_functions);
    return 1;
}

// The runtime's Lua modules come from inside the binary, after those on disk.
static const char testkit_boot[] =
    "local embedded = ...\n"
    "table.insert(package.loaders, 2, function(name)\n"
    "  local text, path = embedded(name)\n"
    "  if text then return assert(loadstring(text, '@' .. path)) end\n"
    "end)\n"
    "require('busted.runner')({ standalone = false })\n";

/// embedded(module) -> text, path
static int testkit_embedded(lua_State *L)
{
    char path[256];
    const char *name = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/");
    bool is_policy = strncmp(name, "policies/", 9) == 0;
    (void)snprintf(path, sizeof(path), "%s%s.lua", is_policy ? "" : "lua/", name);
    for (const struct moon_embedded *file = moon_embedded_files; file->path != NULL; file++) {
        if (strcmp(file->path, path) == 0) {
            lua_pushlstring(L, file->text, file->len);
            lua_pushstring(L, file->path);
            return 2;
        }
    }
    return 0;
}

int moon_test_main(int argc, char **argv)
{
    lua_State *L = luaL_newstate();
    if (L == NULL)
        return 2;
    moon_list_init(&testkit_open);
    moon_script_open_libraries(L);
    moon_preload(L, testkit_name, testkit_open_module);
    moon_script_open_plugins(L);
    moon_script_open_clock(L);
    moon_script_open_net(L);
    lua_newtable(L);
    lua_pushliteral(L, "busted");
    lua_rawseti(L, -2, 0);
    lua_pushliteral(L, "--ignore-lua"); // .busted may name an interpreter; this one is it
    lua_rawseti(L, -2, 1);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
    int rc = luaL_loadbuffer(L, testkit_boot, sizeof(testkit_boot) - 1, "=moongate test");
    MOON_ASSERT(rc == 0);
    lua_pushcfunction(L, testkit_embedded);
    if (lua_pcall(L, 1, 0, 0) != 0) {
        (void)fprintf(stderr, "moongate test: %s\n", lua_tostring(L, -1));
        lua_close(L);
        return 2;
    }
    lua_close(L); // busted ends the process itself in the usual case
    return 0;
}
