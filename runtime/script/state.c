/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "base/pace.h"
#include "script/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    STATE_LOOK = 32, // allocations between two looks at the clock
    // Iterations after which LuaJIT compiles a loop: what is run once, to load a configuration, pays
    // less for being interpreted than for being compiled.
    STATE_HOT_LOADING = 1000,
    STATE_HOT = 56, // LuaJIT's own
};

// Counts what the state holds. Past the policies' limit the fuel runs out at once, which ends the
// running section cleanly; twice as much is refused outright. What C does before and after a section is
// refused nothing: it could not be told.
static void *state_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct moon_script *script = ud;
    if (nsize > osize && script->memory_limit > 0 && script->is_limited) {
        size_t after = script->lua_bytes + (nsize - osize);
        if (after > script->memory_floor + script->memory_limit) {
            script->is_memory_spent = true;
            script->fuel = 0;
        }
        if (after > script->memory_floor + script->memory_limit * 2)
            return NULL;
    }
    void *p = script->real_alloc(script->real_alloc_ud, ptr, osize, nsize);
    if (p != NULL || nsize == 0)
        script->lua_bytes += nsize - osize;
    return p;
}

void moon_script_pace(struct moon_script *script)
{
    if (!moon_pace_is_due())
        return;
    int64_t began_us = moon_clock_real_us(), began_cpu_us = moon_clock_cpu_us();
    moon_pace();
    if (script->deadline_us != 0) {
        script->deadline_us += moon_clock_real_us() - began_us;
        script->load_cpu_us += moon_clock_cpu_us() - began_cpu_us;
    }
}

static void state_give_way(lua_State *L, lua_Debug *at)
{
    (void)at;
    (void)lua_sethook(L, NULL, 0, 0);
    moon_script_pace(moon_script_of(L));
}

// While the configuration is loaded: whatever Lua does, it allocates. Here it is seen that a portion
// is used up; it is ended by a hook before Lua's next instruction, where no C function is half done.
static void *state_alloc_loading(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct moon_script *script = ud;
    if (++script->allocations % STATE_LOOK == 0 && moon_pace_is_due())
        (void)lua_sethook(script->L, state_give_way, LUA_MASKCOUNT, 1);
    return state_alloc(ud, ptr, osize, nsize);
}

// A state allocates from its script, and so knows it. NULL: it is no script's, but a spec's own.
struct moon_script *moon_script_of(lua_State *L)
{
    void *script;
    lua_Alloc alloc = lua_getallocf(L, &script);
    return alloc == state_alloc || alloc == state_alloc_loading ? script : NULL;
}

// A whole collection, in steps.
static void state_collect(lua_State *L)
{
    for (int cycle = 0; cycle < 2; cycle++) { // the first one may be half done already
        while (lua_gc(L, LUA_GCSTEP, 1) == 0)
            moon_pace();
    }
}

void moon_preload(lua_State *L, const char *name, lua_CFunction open)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

static const struct moon_embedded *state_find_embedded(const char *path)
{
    for (const struct moon_embedded *file = moon_embedded_files; file->path != NULL; file++) {
        if (strcmp(file->path, path) == 0)
            return file;
    }
    return NULL;
}

// Pushes the chunk, or what is wrong. What another LuaJIT has compiled is refused: a library that was
// exchanged since the build compiles the text.
static int state_load_embedded(lua_State *L, const struct moon_embedded *file)
{
    char name[260];
    (void)snprintf(name, sizeof(name), "@%s", file->path);
    if (file->code_len > 0) {
        if (luaL_loadbuffer(L, file->code, file->code_len, name) == 0)
            return 0;
        lua_pop(L, 1);
    }
    return luaL_loadbuffer(L, file->text, file->len, name);
}

/// Searcher for require: the modules inside the binary.
static int state_search_embedded(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    char path[256];
    bool is_policy = strncmp(name, "policies.", 9) == 0;
    size_t n = 0;
    if (strlen(name) > 200)
        return 0;
    n = (size_t)snprintf(path, sizeof(path), "%s", is_policy ? "" : "lua/");
    for (const char *at = name; *at != '\0'; at++)
        path[n++] = *at == '.' ? '/' : *at;
    (void)snprintf(path + n, sizeof(path) - n, ".lua");
    const struct moon_embedded *file = state_find_embedded(path);
    if (file == NULL) {
        (void)snprintf(path + n, sizeof(path) - n, "/init.lua");
        file = state_find_embedded(path);
    }
    if (file == NULL) {
        lua_pushfstring(L, "\n\tno file %s inside the binary", path);
        return 1;
    }
    if (state_load_embedded(L, file) != 0)
        return lua_error(L);
    return 1;
}

// Modules come from preload and from inside the binary, from nowhere else.
static void state_set_searchers(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders");
    lua_pushcfunction(L, state_search_embedded);
    lua_rawseti(L, -2, 2);
    for (int i = 3; i <= 8; i++) {
        lua_pushnil(L);
        lua_rawseti(L, -2, i);
    }
    lua_pop(L, 2);
}

// @return false and errno where it cannot be read
static bool state_read_disk(const struct moon_bundle *bundle, const char *path,
                            struct moon_buf *out)
{
    char full[PATH_MAX];
    int n = path[0] == '/' ? snprintf(full, sizeof(full), "%s", path)
                           : snprintf(full, sizeof(full), "%s/%s", moon_bundle_dir(bundle), path);
    errno = ENAMETOOLONG;
    if (n < 0 || (size_t)n >= sizeof(full))
        return false;
    struct stat st;
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO would be waited for
    if (fd == -1)
        return false;
    int why = EFBIG;
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        why = EINVAL;
    while (why == EFBIG) {
        char *room;
        size_t left;
        if (moon_buf_room(out, 65536, &room, &left) != MOON_OK)
            break;
        ssize_t got = read(fd, room, left);
        if (got <= 0) {
            why = got == 0 ? 0 : errno;
            break;
        }
        moon_buf_wrote(out, (size_t)got);
    }
    (void)close(fd);
    errno = why;
    return why == 0;
}

/// source.read(path) -> text | nil, reason
static int source_read(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    const char *path = luaL_checkstring(L, 1);
    struct moon_slice text;
    if (moon_bundle_find(script->bundle, moon_slice_text(path), &text)) {
        moon_push_slice(L, text);
        return 1;
    }
    struct moon_buf bytes;
    moon_buf_init(&bytes, 32 << 20);
    if (state_read_disk(script->bundle, path, &bytes)) {
        moon_push_slice(L, moon_buf_slice(&bytes));
        moon_buf_fini(&bytes);
        return 1;
    }
    const char *why = errno == EINVAL ? "is no regular file" : strerrordesc_np(errno);
    moon_buf_fini(&bytes);
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/// source.list(dir) -> names | nil
static int source_list(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    struct moon_slice dir = moon_check_slice(L, 1);
    int n = 0;
    lua_newtable(L);
    for (size_t i = 0; i < moon_bundle_count(script->bundle); i++) {
        struct moon_slice path = moon_bundle_path(script->bundle, i);
        bool is_below =
            path.len > dir.len + 1 && moon_slice_starts(path, dir) && path.data[dir.len] == '/';
        struct moon_slice name = moon_slice_from(path, dir.len + 1);
        if (!is_below || moon_slice_find(name, '/') < name.len)
            continue;
        moon_push_slice(L, name);
        lua_rawseti(L, -2, ++n);
    }
    if (n == 0)
        lua_pushnil(L);
    return 1;
}

/// source.paths() -> all files, relative to the directory
static int source_paths(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    size_t n = moon_bundle_count(script->bundle);
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        moon_push_slice(L, moon_bundle_path(script->bundle, i));
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/// source.env(name) -> value | nil
static int source_env(lua_State *L)
{
    const char *value = getenv(luaL_checkstring(L, 1)); // NOLINT(concurrency-mt-unsafe)
    lua_pushstring(L, value);
    return 1;
}

/// source.builtin(name) -> chunk | nil
static int source_builtin(lua_State *L)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "policies/%s.lua", luaL_checkstring(L, 1));
    const struct moon_embedded *file = state_find_embedded(path);
    if (file == NULL)
        return 0;
    if (state_load_embedded(L, file) != 0)
        return lua_error(L);
    return 1;
}

/// source.builtin_list() -> names
static int source_builtin_list(lua_State *L)
{
    int n = 0;
    lua_newtable(L);
    for (const struct moon_embedded *file = moon_embedded_files; file->path != NULL; file++) {
        struct moon_slice path = moon_slice_text(file->path);
        if (!moon_slice_starts(path, MOON_S("policies/")) || !moon_slice_ends(path, MOON_S(".lua")))
            continue;
        lua_pushlstring(L, path.data + 9, path.len - 13);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const luaL_Reg source_functions[] = {
    {"read", source_read}, {"list", source_list},       {"paths", source_paths},
    {"env", source_env},   {"builtin", source_builtin}, {"builtin_list", source_builtin_list},
    {NULL, NULL},
};

static void state_push_source(lua_State *L, const struct moon_script *script)
{
    lua_newtable(L);
    luaL_register(L, NULL, source_functions);
    lua_pushstring(L, moon_bundle_dir(script->bundle));
    lua_setfield(L, -2, "dir");
}

static void state_push_options(lua_State *L, const struct moon_script *script)
{
    lua_newtable(L);
    if (script->env.load_budget_ms > 0) {
        lua_pushnumber(L, script->env.load_budget_ms / 1000.0);
        lua_setfield(L, -2, "budget_s");
    }
}

/// The traceback of a failure of our own Lua code, for the log.
static int state_traceback(lua_State *L)
{
    lua_getglobal(L, "debug");
    lua_getfield(L, -1, "traceback");
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 2);
    lua_call(L, 2, 1);
    return 1;
}

static void state_open_libraries(struct moon_script *script)
{
    lua_State *L = script->L;
    moon_script_open_libraries(L);
    moon_pace();
    state_set_searchers(L);
    moon_script_open_fuel(L);
    moon_script_open_place(L);
    moon_script_open_reply(L);
    moon_script_open_net(L);
    moon_script_open_dns(L);
    moon_script_open_flood(L);
    moon_script_open_path(L);
    moon_script_open_text(L);
    moon_script_open_header(L);
    moon_script_open_clock(L);
    moon_script_open_log(L);
    moon_script_open_http(L);
    moon_script_open_counters(L);
    moon_script_open_subscriptions(L);
    moon_script_open_cache(L);
    moon_script_open_leases(L);
    moon_script_open_sink(L);
    moon_script_open_tally(L);
    moon_script_open_metrics(L);
    moon_script_open_plugins(L);
    moon_ctx_open(L, script);
}

static void state_set_hot(lua_State *L, int iterations)
{
    int top = lua_gettop(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "jit.opt");
    if (lua_pcall(L, 1, 1, 0) == 0) {
        lua_getfield(L, -1, "start");
        lua_pushfstring(L, "hotloop=%d", iterations);
        (void)lua_pcall(L, 1, 0, 0); // a LuaJIT without its compiler has no such parameter
    }
    lua_settop(L, top);
}

static char *state_take_text(lua_State *L, int index)
{
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    return text == NULL ? strdup("(no message)") : strndup(text, len);
}

// Calls moongate.config's format_errors on the table at `index`.
static char *state_format(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moongate.config");
    if (lua_pcall(L, 1, 1, 0) != 0)
        return state_take_text(L, -1);
    lua_getfield(L, -1, "format_errors");
    lua_pushvalue(L, -3);
    (void)lua_pcall(L, 1, 1, 0);
    char *text = state_take_text(L, -1);
    lua_pop(L, 3);
    return text;
}

static enum moon_rc state_read_plan(struct moon_script *script, char **error)
{
    lua_State *L = script->L;
    int plan = lua_gettop(L);
    script->plan = moon_plan_read(L, plan, moon_bundle_dir(script->bundle), error);
    if (script->plan == NULL)
        return MOON_ERR_CONFIG;
    if (script->env.patch_plan != NULL)
        script->env.patch_plan(script->plan, script->env.patch_arg);
    lua_getfield(L, plan, "warnings");
    if (lua_istable(L, -1) && lua_objlen(L, -1) > 0)
        script->warnings = state_format(L, lua_gettop(L));
    lua_pop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "moongate.plan");
    return MOON_OK;
}

// The parts of ctx that lua/moongate/runtime.lua gives, and the look-up of countries.
static enum moon_rc state_install_runtime(struct moon_script *script, char **error)
{
    lua_State *L = script->L;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moongate.runtime");
    if (lua_pcall(L, 1, 1, 0) != 0)
        goto fail;
    lua_getfield(L, -1, "install");
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->handle_metatables[MOON_HANDLE_CTX]);
    lua_getfield(L, -1, "methods");
    lua_remove(L, -2);
    lua_getfield(L, LUA_REGISTRYINDEX, "moongate.plan");
    state_push_source(L, script);
    if (lua_pcall(L, 3, 1, 0) != 0)
        goto fail;
    lua_setfield(L, LUA_REGISTRYINDEX, "moongate.geo_lookup");
    lua_pushcfunction(L, source_read);
    lua_setfield(L, LUA_REGISTRYINDEX, "moongate.source_read");
    lua_settop(L, 0);
    return MOON_OK;
fail:
    *error = state_take_text(L, -1);
    return MOON_ERR_CONFIG;
}

// A function of a Lua module that words what goes wrong. @return LUA_NOREF where it is not there
static int state_find_function(lua_State *L, const char *module, const char *name)
{
    int ref = LUA_NOREF;
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    if (lua_pcall(L, 1, 1, 0) == 0) {
        lua_getfield(L, -1, name);
        ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_pop(L, 1);
    return ref;
}

static enum moon_rc state_load_config(struct moon_script *script, char **error)
{
    lua_State *L = script->L;
    lua_pushcfunction(L, state_traceback);
    int handler = lua_gettop(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moongate.config");
    if (lua_pcall(L, 1, 1, handler) != 0) {
        *error = state_take_text(L, -1);
        return MOON_ERR_CONFIG;
    }
    lua_getfield(L, -1, "load");
    state_push_source(L, script);
    state_push_options(L, script);
    if (lua_pcall(L, 2, 2, handler) != 0) {
        *error = state_take_text(L, -1);
        return MOON_ERR_CONFIG;
    }
    if (!lua_istable(L, -2)) {
        *error = lua_istable(L, -1) ? state_format(L, lua_gettop(L)) : state_take_text(L, -1);
        return MOON_ERR_CONFIG;
    }
    lua_pop(L, 1);
    enum moon_rc rc = state_read_plan(script, error);
    lua_settop(L, 0);
    return rc;
}

// The modules lie side by side in the binary, and are in the state by now: their pages are given
// back, and read again from the file when the next generation wants them.
static void state_release_embedded(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = UINTPTR_MAX, last = 0;
    for (const struct moon_embedded *file = moon_embedded_files; file->path != NULL; file++) {
        uintptr_t text = (uintptr_t)file->text, code = (uintptr_t)file->code;
        uintptr_t from = text < code ? text : code;
        uintptr_t end = text < code ? code + file->code_len : text + file->len;
        first = from < first ? from : first;
        last = end > last ? end : last;
    }
    first = (first + page - 1) / page * page;
    last = last / page * page;
    if (first < last)
        (void)madvise((void *)first, last - first, MADV_DONTNEED); // a hint
}

static enum moon_rc state_copy_bundle(const struct moon_bundle *bundle, struct moon_bundle **out)
{
    int fd = moon_bundle_to_fd(bundle);
    if (fd == -1)
        return MOON_ERR_SYSTEM;
    enum moon_rc rc = moon_bundle_from_fd(fd, out);
    (void)close(fd);
    return rc;
}

enum moon_rc moon_script_load(const struct moon_script_env *env, const struct moon_bundle *bundle,
                              char **error, struct moon_script **out)
{
    struct moon_script *script = calloc(1, sizeof(*script));
    *error = NULL;
    if (script == NULL)
        return MOON_ERR_MEMORY;
    script->env = *env;
    script->fuel = MOON_FUEL_QUANTUM;
    script->describe_ref = script->unknown_ref = LUA_NOREF;
    moon_list_init(&script->dynamic_backends);
    enum moon_rc rc = state_copy_bundle(bundle, &script->bundle);
    if (rc != MOON_OK)
        goto fail;
    rc = MOON_ERR_MEMORY;
    script->L = luaL_newstate();
    if (script->L == NULL)
        goto fail;
    script->real_alloc = lua_getallocf(script->L, &script->real_alloc_ud);
    lua_setallocf(script->L, state_alloc_loading, script);
    (void)lua_gc(script->L, LUA_GCSETPAUSE, 400); // what a load makes stays, for the most part
    state_open_libraries(script);
    state_set_hot(script->L, STATE_HOT_LOADING);
    moon_pace();
    rc = state_load_config(script, error);
    if (rc == MOON_OK)
        rc = state_install_runtime(script, error);
    if (rc != MOON_OK)
        goto fail;
    script->describe_ref = state_find_function(script->L, "moongate.chain", "describe");
    script->unknown_ref = state_find_function(script->L, "moongate.near", "unknown");
    state_set_hot(script->L, STATE_HOT);
    state_collect(script->L);
    lua_gc(script->L, LUA_GCSETPAUSE, 250);
    (void)lua_sethook(script->L, NULL, 0, 0);
    lua_setallocf(script->L, state_alloc, script);
    state_release_embedded();
    script->memory_floor = script->lua_bytes;
    script->memory_limit = script->plan->limits.policy_memory_bytes;
    *out = script;
    return MOON_OK;
fail:
    moon_script_free(script);
    return rc;
}

// Takes out of a table what is ours: references, modules, the plan. Metatables of what has a
// finalizer stay, which looks them up by their names.
static void state_forget(lua_State *L, int index)
{
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        bool is_ours = lua_type(L, -2) == LUA_TNUMBER;
        if (lua_type(L, -2) == LUA_TSTRING) {
            struct moon_slice key = moon_slice_text(lua_tostring(L, -2));
            is_ours = moon_slice_starts(key, MOON_S("moongate.")) ||
                      moon_slice_starts(key, MOON_S("policies."));
        }
        if (is_ours && lua_istable(L, -1)) {
            lua_pushliteral(L, "__gc");
            lua_rawget(L, -2);
            is_ours = lua_isnil(L, -1);
            lua_pop(L, 1);
        }
        if (is_ours) {
            lua_pushvalue(L, -2);
            lua_pushnil(L);
            lua_rawset(L, index);
        }
    }
}

// lua_close frees all objects in one piece: nearly all of them are collected before, in steps.
static void state_close(struct moon_script *script)
{
    lua_State *L = script->L;
    lua_settop(L, 0);
    lua_pushvalue(L, LUA_REGISTRYINDEX);
    lua_getfield(L, 1, "_LOADED");
    if (lua_istable(L, 2))
        state_forget(L, 2);
    state_forget(L, 1);
    lua_settop(L, 0);
    state_collect(L);
    lua_setallocf(L, script->real_alloc, script->real_alloc_ud);
    lua_close(L);
}

void moon_script_free(struct moon_script *script)
{
    if (script == NULL)
        return;
    moon_script_close_http(script);
    script->memory_limit = 0;
    while (script->idle_runners != NULL) {
        struct moon_runner *runner = script->idle_runners;
        script->idle_runners = runner->next;
        free(runner);
    }
    if (script->L != NULL)
        state_close(script);
    moon_script_close_place(script);
    moon_plan_free(script->plan);
    moon_bundle_free(script->bundle);
    free(script->warnings);
    moon_script_forget_places(script);
    free(script);
}

const struct moon_plan *moon_script_plan(const struct moon_script *script)
{
    return script->plan;
}

struct moon_plan *moon_script_plan_mutable(struct moon_script *script)
{
    return script->plan;
}

const char *moon_script_warnings(const struct moon_script *script)
{
    return script->warnings == NULL ? "" : script->warnings;
}

const struct moon_script_env *moon_script_env(const struct moon_script *script)
{
    return &script->env;
}

void moon_script_set_keeper(struct moon_script *script, void (*keep)(void *keeper, bool is_kept),
                            void *keeper)
{
    script->keep = keep;
    script->keeper = keeper;
}

void moon_script_set_backends(struct moon_script *script, struct moon_backend **backends)
{
    script->backends = backends;
}

void moon_script_set_tier(struct moon_script *script, struct moon_cache_tier *tier)
{
    script->env.tier = tier;
}

void moon_script_set_flood_share(struct moon_script *script, struct moon_flood_share *share)
{
    script->env.flood_share = share;
}

void moon_script_set_limits(struct moon_script *script, void *limits)
{
    script->env.limits = limits;
}

size_t moon_script_memory(const struct moon_script *script)
{
    return script->lua_bytes;
}

void moon_script_idle(struct moon_script *script)
{
    (void)lua_gc(script->L, LUA_GCSTEP, 8);
}

// Calls moongate.json's encode on the value on top.
static char *state_encode(lua_State *L)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moongate.json");
    if (lua_pcall(L, 1, 1, 0) != 0)
        return state_take_text(L, -1);
    lua_getfield(L, -1, "encode");
    lua_pushvalue(L, -3);
    (void)lua_pcall(L, 1, 1, 0);
    return state_take_text(L, -1);
}

char *moon_script_explain(struct moon_script *script, const char *method, const char *url,
                          const char *const networks[], int network_count, bool is_json,
                          bool *is_explained)
{
    lua_State *L = script->L;
    int top = lua_gettop(L);
    *is_explained = false;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moongate.explain");
    bool is_run = lua_pcall(L, 1, 1, 0) == 0;
    if (is_run) {
        lua_getfield(L, -1, "explain");
        lua_getfield(L, LUA_REGISTRYINDEX, "moongate.plan");
        lua_pushstring(L, method);
        lua_pushstring(L, url);
        lua_newtable(L);
        lua_createtable(L, network_count, 0);
        for (int i = 0; i < network_count; i++) {
            lua_pushstring(L, networks[i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "networks");
        is_run = lua_pcall(L, 4, 2, 0) == 0;
    }
    // Text and details; or nil and what is wrong; or what was raised.
    *is_explained = is_run && lua_isstring(L, -2);
    char *text =
        *is_explained && is_json ? state_encode(L) : state_take_text(L, *is_explained ? -2 : -1);
    lua_settop(L, top);
    return text;
}

char *moon_script_document(struct moon_script *script, const char *what, const char *name,
                           bool is_json, bool *is_written)
{
    lua_State *L = script->L;
    int top = lua_gettop(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moongate.docs");
    bool is_run = lua_pcall(L, 1, 1, 0) == 0;
    if (is_run) {
        lua_getfield(L, -1, "document");
        lua_pushstring(L, what);
        lua_pushstring(L, name);
        (void)source_builtin_list(L);
        lua_getglobal(L, "require");
        lua_pushboolean(L, is_json);
        is_run = lua_pcall(L, 5, 2, 0) == 0;
    }
    *is_written = is_run && lua_isstring(L, -2);
    char *text = state_take_text(L, *is_written ? -2 : -1);
    lua_settop(L, top);
    return text;
}
