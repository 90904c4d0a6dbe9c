/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A LuaJIT state with one loaded configuration (a generation's scripting half), and running the
/// sections of its policy chains in pooled coroutines. A section that never waits costs one resume.
///
/// Thread: one worker.

#include "base/errands.h"
#include "net/dns.h"
#include "script/bundle.h"
#include "script/ctx.h"
#include "script/flights.h"
#include "script/plan.h"
#include "shared/board.h"
#include "shared/counters.h"
#include "shared/flood.h"
#include "shared/leases.h"
#include "shared/metrics.h"
#include "shared/records.h"
#include "upstream/upstream.h"

struct lua_State;

/// What outlives generations. One per worker.
struct moon_script_env {
    struct moon_loop *loop;
    struct moon_upstreams *upstreams;
    struct moon_dns *dns;
    struct moon_counters *counters;
    struct moon_flights *flights; // with the worker's seat at the store; NULL in the checker
    struct moon_metrics *metrics;
    struct moon_flood *flood;             // NULL in the checker
    struct moon_records *records;         // NULL in the checker
    struct moon_board_slot *slot;         // NULL in the checker
    struct moon_leases *leases;           // NULL in the checker
    struct moon_errands *errands;         // NULL in the checker, which handles no request
    int worker;                           // number of this worker
    struct moon_cache_tier *tier;         // of the cache (upstream/cache_tier.h); NULL: none
    struct moon_flood_share *flood_share; // upstream/flood_share.h; NULL: none
    void *limits;                         // struct moon_limits: limits shared by nodes; NULL: none
    void (*patch_plan)(struct moon_plan *plan,
                       void *arg); // specs: changes what was loaded; or NULL
    void *patch_arg;
    int load_budget_ms; // CPU time that loading may take; 0: ten seconds
    bool is_checking;   // only checks the configuration: nothing is connected
};

/// Loads a configuration: runs it in the sandbox, checks it, builds chains.
///
/// @param error  every mistake with file, line, field, on lines of their own; heap, freed by the
///               caller; written on MOON_ERR_CONFIG
MUST_CHECK enum moon_rc moon_script_load(const struct moon_script_env *env,
                                         const struct moon_bundle *bundle, char **error,
                                         struct moon_script **out);
void moon_script_free(struct moon_script *script); // accepts NULL; no ctx may be in use

const struct moon_plan *moon_script_plan(const struct moon_script *script);
struct moon_plan *moon_script_plan_mutable(struct moon_script *script);

/// Writes to the worker's slot on the board which policy runs now, if one does. For a signal handler.
void moon_script_say_place(void);

/// Warnings of the load, on lines of their own; empty when there are none.
const char *moon_script_warnings(const struct moon_script *script);
const struct moon_script_env *moon_script_env(const struct moon_script *script);
size_t moon_script_memory(const struct moon_script *script);

/// Who keeps the script and its backends as long as anybody uses them. `keep` is told when a request that
/// no exchange waits for begins (true) and when it has ended (false).
void moon_script_set_keeper(struct moon_script *script, void (*keep)(void *keeper, bool is_kept),
                            void *keeper);

/// Ends the requests and events of a loop's scripts that no exchange waits for.
void moon_script_end_sends(const struct moon_loop *loop);

/// The generation's backends, for requests of policies. Borrowed: as long as the script.
void moon_script_set_backends(struct moon_script *script, struct moon_backend **backends);

/// The limits that policies count by (upstream/limits.h). Borrowed: as long as the script.
void moon_script_set_limits(struct moon_script *script, void *limits);

/// Whom floods by other nodes are heard from. Borrowed: as long as the script; NULL: nobody.
void moon_script_set_flood_share(struct moon_script *script, struct moon_flood_share *share);

/// The cache's second tier; NULL: there is none. Borrowed: as long as the script.
void moon_script_set_tier(struct moon_script *script, struct moon_cache_tier *tier);

/// The backend for a URL's origin, for requests to where no backend is configured. Made once per
/// generation. Borrowed: as long as the script. NULL when there are too many.
struct moon_url;
struct moon_backend *moon_script_origin(struct moon_script *script, const struct moon_url *url,
                                        const struct moon_backend_tls_conf *tls);

/// `moongate explain`: text for people, or JSON. Heap, freed by the caller; NULL on failure.
///
/// @param networks      names of networks that the client is in
/// @param is_explained  false: the text says what is wrong with the method or URL
char *moon_script_explain(struct moon_script *script, const char *method, const char *url,
                          const char *const networks[], int network_count, bool is_json,
                          bool *is_explained);

/// Writes about the configuration and the built-in policies, out of their schemas.
///
/// @param what  "list", "show" (the policy `name`), "policies", "configuration"
/// @param is_written  false: the text says what is wrong
/// @return heap, freed by the caller; NULL on failure
char *moon_script_document(struct moon_script *script, const char *what, const char *name,
                           bool is_json, bool *is_written);

/// `moongate import`: an API file, or a policy document, out of somebody else's format.
///
/// @param kind   "openapi" or "apim"
/// @param out    where to write it; NULL: it is the answer
/// @param notes  what somebody should look at, a line each; heap, freed by the caller
/// @param is_done  false: the text says what is wrong
/// @return heap, freed by the caller; NULL when no memory is left
char *moon_script_import(struct moon_script *script, const char *kind, const char *file,
                         const char *out, bool is_forced, char **notes, bool *is_done);

enum moon_run {
    MOON_RUN_DONE,   // go on
    MOON_RUN_REPLY,  // x->reply is the answer (is_refusal: through on_error)
    MOON_RUN_ERROR,  // x->error says what was raised
    MOON_RUN_WAIT,   // ops->resume follows; then moon_script_resume
    MOON_RUN_CACHED, // the cache has made x->response
};

/// Runs a section of the ctx's leaf. At once MOON_RUN_DONE where the chain is empty.
MUST_CHECK enum moon_run moon_script_run(struct moon_ctx *x, enum moon_section section);

/// Goes on with a section that waited.
MUST_CHECK enum moon_run moon_script_resume(struct moon_ctx *x);

/// A step of garbage collection, for idle moments of the loop.
void moon_script_idle(struct moon_script *script);
