/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the files of runtime/script share with one another and with nobody else.

#include "script/async.h"
#include "script/embedded.h"
#include "script/script.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/// The parts of `ctx` that are userdata.
enum moon_handle_kind {
    MOON_HANDLE_CTX,
    MOON_HANDLE_REQUEST,
    MOON_HANDLE_RESPONSE,
    MOON_HANDLE_REQUEST_HEADERS,
    MOON_HANDLE_RESPONSE_HEADERS,
    MOON_HANDLE_QUERY,
    MOON_HANDLE_COOKIES,
    MOON_HANDLE_PARAMS,
    MOON_HANDLE_TLS,
    MOON_HANDLE_COUNT,
};

/// Values that are kept with the ctx until its request ends.
enum moon_ctx_slot {
    MOON_SLOT_VARS = 1,
    MOON_SLOT_JWT,
    MOON_SLOT_USER,
    MOON_SLOT_GEO,
    MOON_SLOT_COUNT,
};

/// A coroutine with the ctx objects that go with it; pooled. Held from an exchange's first section
/// to its end, so that `ctx` and `ctx.vars` are the same objects in all sections.
struct moon_runner {
    struct moon_runner *next; // in the pool
    lua_State *co;
    int co_ref;                       // keeps the coroutine
    int ctx_ref;                      // the `ctx` userdata
    int part_refs[MOON_HANDLE_COUNT]; // its parts, by kind
    int slots_ref; // what `ctx` answers with at once: its parts, and what a request keeps
    int shown_ref, hidden_ref; // metatables of `ctx`: with `slots` in front, and without
    bool is_hidden;            // has the latter
    struct moon_ctx *x;        // NULL: the objects belong to no request now
    uint32_t used_slots;       // a bit each
    bool is_dead;              // the coroutine raised; it is not used again
};

/// What every userdata of ours starts with.
struct moon_handle {
    uint64_t magic; // MOON_HANDLE_MAGIC ^ kind
    struct moon_runner *runner;
};

#define MOON_HANDLE_MAGIC UINT64_C(0x6d6f6f6e63747800)

/// A subscription key that was looked up: found again by a keyed hash, without a digest.
enum { MOON_KEY_MEMOS = 64 };

struct moon_key_memo {
    uint64_t hash[2];                             // 0, 0: free
    const struct moon_subscription *subscription; // NULL: no such key
};

/// Names of fields that policies have set: checked once, and their bytes at hand for messages.
enum { MOON_NAME_MEMOS = 128, MOON_NAME_MEMO_BYTES = 46 };

struct moon_name_memo {
    uint8_t len; // 0: free
    uint8_t id;  // enum moon_field_id
    char text[MOON_NAME_MEMO_BYTES];
};

struct moon_script {
    lua_State *L;
    struct moon_script_env env;
    struct moon_plan *plan;
    struct moon_bundle *bundle; // own copy
    struct moon_runner *idle_runners;
    size_t idle_runner_count;
    struct moon_key_memo key_memo[MOON_KEY_MEMOS]; // subscription keys seen lately
    struct moon_name_memo name_memo[MOON_NAME_MEMOS];
    struct moon_ctx *current; // whose section runs now
    lua_State *acting; // the chain that has acts done; NULL: the runtime has, and nothing may raise
    struct moon_runner *shown; // whose `ctx` answers at once: that of `current`, or of the last one
    int handle_metatables[MOON_HANDLE_COUNT]; // registry references
    int slot_keys[MOON_SLOT_COUNT];           // the same; ctx.c
    lua_CFunction handle_index[MOON_HANDLE_COUNT];
    int describe_ref;                    // moongate.chain.describe
    struct moon_place_memo *place_memos; // what it has told (run.c), the last one first
    size_t place_memo_count;
    int unknown_ref; // moongate.near.unknown

    // Which policy runs (script_place.c).
    lua_State *place_L; // holds the table that chains note it in
    char **places;      // by number, from 1
    size_t place_count;

    char *warnings;

    // Fuel (script_fuel.c) and memory (state.c).
    int32_t fuel;
    int64_t deadline_us; // real time at which the running section has used up its budget
    int64_t load_cpu_us; // while a configuration is loaded: CPU time at which that has, too
    bool is_spent;
    bool is_limited; // a coroutine runs, which can be ended: no memory past the limit
    size_t lua_bytes;
    uint32_t allocations; // while it is loaded
    size_t memory_floor;  // after loading; the limit counts from here
    size_t memory_limit;
    bool is_memory_spent;
    void *(*real_alloc)(void *ud, void *ptr, size_t osize, size_t nsize);
    void *real_alloc_ud;

    struct moon_backend **backends;           // of the generation, as in the plan; borrowed
    struct moon_list dynamic_backends;        // of ctx.http to URLs (script_http.c)
    void (*keep)(void *keeper, bool is_kept); // moon_script_set_keeper
    void *keeper;
};

enum { MOON_FUEL_QUANTUM = 10000, MOON_FUEL_PORTION = 500 }; // as lua/moongate/fuel.lua has them

/// The script that owns a state; NULL where none does (specs have states of their own).
struct moon_script *moon_script_of(lua_State *L);

/// Gives way (base/pace.h) while the configuration is loaded; that time is not taken off its budget.
void moon_script_pace(struct moon_script *script);

/// Registers the modules that C gives: one function per file.
void moon_script_open_fuel(lua_State *L);
void moon_script_open_place(lua_State *L);
void moon_script_open_reply(lua_State *L);
void moon_script_open_net(lua_State *L);
void moon_script_open_dns(lua_State *L);
void moon_script_open_flood(lua_State *L);
void moon_script_open_path(lua_State *L);
void moon_script_open_text(lua_State *L);
void moon_script_open_header(lua_State *L);
void moon_script_open_libraries(lua_State *L); // first of all
void moon_script_open_clock(lua_State *L);
void moon_script_open_log(lua_State *L);
void moon_script_open_http(lua_State *L);
void moon_script_open_counters(lua_State *L);
void moon_script_open_subscriptions(lua_State *L);
void moon_script_open_cache(lua_State *L);

/// Adds the functions on values to moongate.cache, which lies on top of the stack.
void moon_cache_register_values(lua_State *L);
struct moon_store_key moon_cache_value_key(lua_State *L, int index);

/// Raises a Lua error where there is no store.
struct moon_store_seat *moon_cache_need_seat(lua_State *L);
void moon_script_open_leases(lua_State *L);
void moon_script_open_sink(lua_State *L);
void moon_script_open_tally(lua_State *L);
void moon_script_open_metrics(lua_State *L);
void moon_script_open_plugins(lua_State *L);
void moon_script_close_http(struct moon_script *script);
void moon_script_close_place(struct moon_script *script);

/// Pushes that `what` has no field of a name, and which one was meant.
/// @param name, known  indexes: the name, and a table whose keys are those that there are
const char *moon_ctx_push_unknown(lua_State *L, const char *what, int name, int known);

/// A section ended without a reply though one was made: says so, once for each place in the sources.
void moon_reply_warn_lost(struct moon_ctx *x);

/// Lua of the request's section is run, or goes on after it waited: by its budget, and the supervisor is told.
/// @return what moon_section_leave gives back
struct moon_script *moon_section_enter(struct moon_ctx *x);
void moon_section_leave(struct moon_ctx *x, struct moon_script *outer, bool is_waiting);

/// The part of that which says what policy runs. @return what moon_place_end gives back
struct moon_script *moon_place_begin(struct moon_script *script, const struct moon_ctx *x);
void moon_place_end(struct moon_script *script, struct moon_ctx *x, struct moon_script *outer,
                    bool is_waiting);

/// Makes the metatables of ctx and its parts.
void moon_ctx_open(lua_State *L, struct moon_script *script);

/// Forgets what a request has kept in its ctx: vars, jwt ...
void moon_ctx_forget(lua_State *L, const struct moon_script *script, struct moon_runner *runner);

/// A section of the runner's request is about to run: its `ctx` answers at once. The `ctx` of the one before
/// does not from here on: a policy that has kept it must not read there what that request keeps.
void moon_ctx_show(struct moon_script *script, struct moon_runner *runner);

/// A parameter's first value, decoded; NULL data where there is none, or the arena is full.
struct moon_slice moon_ctx_query_value(struct moon_ctx *x, struct moon_slice wanted);

/// Takes a parameter, all of that name, out of the request's query. @return false when the arena is full
MUST_CHECK bool moon_ctx_remove_query(struct moon_ctx *x, struct moon_slice wanted);

/// Sets ctx.vars[name] to `text`, or to `number` where that is NULL. Builds nothing that no policy asks
/// for. Raises a Lua error where the arena is full.
///
/// @param name, text  static
void moon_ctx_note(lua_State *L, struct moon_ctx *x, const char *name, const char *text,
                   double number);

/// The same for acts. @return false where Lua has to do it, or the arena is full
MUST_CHECK bool moon_ctx_keep_note(struct moon_ctx *x, const char *name, const char *text,
                                   double number);

/// Whether what is kept in Lua for a slot is more than C has: a policy has asked for it, or set it.
static inline bool moon_ctx_is_in_lua(const struct moon_ctx *x, enum moon_ctx_slot slot)
{
    return x->runner != NULL && (x->runner->used_slots >> slot & 1) != 0;
}

/// Pushes new userdata for a runner's ctx, with all its parts.
void moon_ctx_push_new(lua_State *L, struct moon_script *script, struct moon_runner *runner);

/// Whose request's handle it is. NULL: of one that is over, and perhaps of another by now; only the one
/// whose section runs uses its own.
static inline struct moon_ctx *moon_handle_ctx(const struct moon_handle *handle)
{
    struct moon_ctx *x = handle->runner == NULL ? NULL : handle->runner->x;
    return MOON_LIKELY(x != NULL && x->script->current == x) ? x : NULL;
}

/// The exchange behind a handle; raises a Lua error when it is none, or its request is over.
struct moon_ctx *moon_handle_check(lua_State *L, int index, enum moon_handle_kind kind);

/// The same for __index and __newindex, which only the virtual machine calls: what is at `index` is
/// known to be of the right kind.
struct moon_ctx *moon_handle_own(lua_State *L, int index, enum moon_handle_kind kind);
bool moon_handle_is(lua_State *L, int index, enum moon_handle_kind kind);

/// Ends what a loop's scripts have on its way to Redis without waiting for it (script_sink.c).
void moon_script_end_entries(const struct moon_loop *loop);

/// Reads the reply table at `index` into x->reply. @return false with a message pushed
bool moon_reply_read(lua_State *L, int index, struct moon_ctx *x);

static inline void moon_push_slice(lua_State *L, struct moon_slice s)
{
    lua_pushlstring(L, s.data == NULL ? "" : s.data, s.len);
}

/// A userdata argument that each request asks something of: it starts with a number that says what it
/// is, so that no names have to be looked up. Raises as luaL_checkudata does.
static inline void *moon_check_object(lua_State *L, int index, size_t least_size, uint64_t mark,
                                      const char *type)
{
    uint64_t *object = lua_objlen(L, index) >= least_size ? lua_touserdata(L, index) : NULL;
    if (MOON_LIKELY(object != NULL && *object == mark))
        return object;
    return luaL_checkudata(L, index, type); // raises
}

/// The bytes of a string argument. Lent: while the string is on the stack.
static inline struct moon_slice moon_check_slice(lua_State *L, int index)
{
    size_t len;
    const char *data = luaL_checklstring(L, index, &len);
    return moon_slice(data, len);
}

/// A copy of a string argument in the exchange's arena; raises where it is full.
struct moon_slice moon_check_copy(lua_State *L, int index, struct moon_ctx *x);

/// Raises "out of memory for this request".
int moon_raise_full(lua_State *L);

/// Reads the plan table at `index` into C (plan.c). @return NULL with `*error` (heap) set
struct moon_plan *moon_plan_read(lua_State *L, int index, const char *dir, char **error);
void moon_plan_free(struct moon_plan *plan); // accepts NULL

/// ctx:parallel, and going on with those of its functions that wait for an operation: a body may be
/// waited for by several. @return false where none does
int moon_ctx_parallel(lua_State *L);
bool moon_parallel_resume(struct moon_ctx *x, moon_async_push_fn *push, void *op);

/// Cancels its functions: nobody waits for them any more.
void moon_parallel_abandon(struct moon_ctx *x);

/// ctx:forward and ctx:drop_response (ctx_forward.c).
int moon_ctx_forward(lua_State *L);
int moon_ctx_drop_response(lua_State *L);

/// Makes objects of a metatable, which is on top of the stack, acts of policies.
void moon_act_register(lua_State *L, moon_act_fn *run);

/// The same for acts that may wait, or end their section: they are done at the front of a chain only.
void moon_act_register_waiting(lua_State *L, moon_act_fn *run);

/// Adds what chains need of acts to moongate.chain.core, which lies on top of the stack.
void moon_acts_register(lua_State *L);

/// Reads the act on top of the stack: { object =, product = name | nil }. Lent: the name, as the object, while
/// the table lives. Raises where it is none.
void moon_act_read_entry(lua_State *L, struct moon_act *act);

/// Whether an act is for the exchange's caller, too.
bool moon_act_is_meant(const struct moon_act *act, struct moon_ctx *x);

/// Makes a metatable whose objects are acts and nothing else.
void moon_act_new_class(lua_State *L, const char *name, moon_act_fn *run);

/// Keeps the values at 1 to `count` alive as long as the userdata on top of the stack.
void moon_keep_with(lua_State *L, int count);

/// What is at `index` as an act. @return false when it is none
bool moon_act_read(lua_State *L, int index, struct moon_act *act);

/// Frees what run.c keeps of places.
void moon_script_forget_places(struct moon_script *script);

/// "inbound", "on_error" ...: as configurations and logs call it.
const char *moon_section_name(enum moon_section section);

/// Registers a preload module.
void moon_preload(lua_State *L, const char *name, lua_CFunction open);

/// Sets up and ends the CPU budget of a run (script_fuel.c). @return the real time it began at
int64_t moon_fuel_begin(struct moon_script *script, struct moon_ctx *x);
void moon_fuel_end(struct moon_script *script, struct moon_ctx *x);

/// Runs a coroutine of a section, or goes on with it, within the limit on memory. @return as lua_resume
int moon_fuel_resume(struct moon_script *script, lua_State *co, int args);
