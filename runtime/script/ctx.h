/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The exchange as policies see it: `ctx` in Lua. The gateway embeds a struct moon_ctx in each of
/// its exchanges, fills in what is known, and runs sections (script/script.h). Lua reads and writes
/// through the C API; nothing is built before a policy asks for it.

#include "http/message.h"
#include "http/replace.h"
#include "net/stream.h"
#include "script/cache_rule.h"
#include "script/plan.h"

struct lua_State;
struct moon_script;
struct moon_runner;
struct moon_ctx;

enum { MOON_CTX_PARAMS = 16 };

/// One `{name}` of the matched path.
struct moon_param {
    struct moon_slice name, value, raw; // value percent-decoded, raw as it stands in the path
};

/// Who is at the other end. Lives as long as the connection.
struct moon_client {
    struct moon_ip ip; // after trusted proxies
    uint16_t port;
    char ip_text[MOON_IP_TEXT_BYTES];
    size_t ip_len;
    struct moon_ip peer_ip; // of the socket
    bool is_tls;
    bool is_trusted_proxy;
    const struct moon_tls_info *tls; // NULL: plain
    struct moon_stream *stream;      // set as long as `tls` is
    struct moon_ip server_ip;
    uint16_t server_port;
    int listener; // index
    bool is_unix;
};

/// What a policy answers, instead of going on or as the end of a refusal. Arena.
struct moon_reply {
    int status;
    struct moon_fields fields;
    struct moon_slice body;
    bool is_refusal;
    struct moon_slice reason, message; // of a refusal
};

/// Why on_error runs; slices in the arena or static.
struct moon_ctx_error {
    bool is_set;
    int status;
    struct moon_slice source;  // policy's name, or "gateway"
    struct moon_slice reason;  // "RateLimitExceeded"
    struct moon_slice message; // for the log and for on_error; a raised error's text stays inside
    struct moon_slice section, scope, policy; // policy: its id
    struct moon_slice path;                   // in its scope: "inbound[2].policies[1]"
    struct moon_slice where;                  // "apis/orders.lua:14"
};

/// An object that a native plugin keeps with the exchange. Arena.
struct moon_attachment {
    struct moon_attachment *next;
    const char *plugin; // static
    void *object;
    void (*free_object)(void *object);
};

/// What a limit counted of an exchange, for the case that another one refuses it. Arena.
struct moon_taken {
    struct moon_taken *next;
    bool is_given_back;
    void (*give_back)(struct moon_taken *taken, struct moon_ctx *x);
};

/// What ctx.vars holds once somebody asks for it: most requests' is never built. Arena.
struct moon_note {
    struct moon_note *next;
    const char *name; // static
    const char *text; // static; NULL: `number`
    double number;
};

/// One function of ctx:parallel (script/parallel.c). Arena.
struct moon_branch {
    void *owner;
    struct lua_State *co;
    int co_ref;
    bool is_over;
    void (*cancel)(void *op); // of what it waits for; NULL: it does not wait
    void *op;
};

/// What the exchange does for its ctx.
struct moon_ctx_ops {
    /// Body of the request, whole, in memory. MOON_AGAIN: moon_ctx_body_ready follows.
    /// @return MOON_OK, MOON_AGAIN, MOON_ERR_BODY_TOO_LARGE, or how reading it failed
    enum moon_rc (*request_body)(struct moon_ctx *x, struct moon_slice *body);
    enum moon_rc (*response_body)(struct moon_ctx *x, struct moon_slice *body);
    /// Replaces a body; the bytes lie in the arena.
    enum moon_rc (*set_request_body)(struct moon_ctx *x, struct moon_slice body);
    enum moon_rc (*set_response_body)(struct moon_ctx *x, struct moon_slice body);
    /// Replaces texts in a body, in one that streams while it passes; the rules lie in the arena.
    enum moon_rc (*replace_request)(struct moon_ctx *x, const struct moon_replace_rule *rules,
                                    size_t count);
    enum moon_rc (*replace_response)(struct moon_ctx *x, const struct moon_replace_rule *rules,
                                     size_t count);
    /// Calls the backend, in place of the gateway itself; an answer before is forgotten.
    /// @param timeout_ms  until the response's head; 0: the backend's own deadlines
    /// @return MOON_AGAIN (moon_ctx_forward_done follows), or why it cannot be
    enum moon_rc (*forward)(struct moon_ctx *x, int64_t timeout_ms);
    /// Bytes of the two bodies so far.
    void (*count_bytes)(const struct moon_ctx *x, int64_t *request, int64_t *response);
    /// Forgets the backend's answer and ends the call.
    void (*drop_response)(struct moon_ctx *x);
    /// An asynchronous operation ended: go on with the section.
    void (*resume)(struct moon_ctx *x);
    /// Looks the request up in the response cache. After MOON_CACHE_WAITS, moon_async_done follows
    /// with the ctx as its operation; cache_cancel ends the wait.
    enum moon_cache_answer (*cache_lookup)(struct moon_ctx *x, const struct moon_cache_rule *rule,
                                           const struct moon_cache_key_parts *parts);
    void (*cache_cancel)(void *ctx);
};

struct moon_ctx {
    struct moon_script *script; // of the generation the request began with
    struct moon_runner *runner; // from the first section to the end of the exchange
    const struct moon_ctx_ops *ops;
    struct moon_arena *arena;
    struct moon_request *request;
    struct moon_response *response; // NULL before there is one
    const struct moon_client *client;
    const struct moon_leaf *leaf; // NULL before routing
    struct moon_param *params;    // of the arena; param_count of them, MOON_CTX_PARAMS at most
    size_t param_count;
    struct moon_slice id;
    int64_t started_us;

    const struct moon_subscription *subscription;
    bool is_subscription_known; // looked up
    bool is_subscription_given; // a key came, good or not
    struct moon_claims *claims; // of the token that an act has accepted; held; NULL: none

    int backend;                   // index in the plan; -1: none
    struct moon_slice backend_url; // set_backend_service with a URL; empty: `backend`
    int certificate;               // of the policies', shown to the backend: 1 on; 0: its own
    enum moon_rc forward_rc;       // how the last ctx:forward ended
    enum moon_rc body_rc;          // how a body broke that a policy read, whatever it caught
    enum moon_section section;     // running now
    size_t acts_begun;             // of the section's; the last one may wait
    bool is_act_waiting;
    bool is_path_rewritten;
    bool is_background; // nobody waits for the answer: the cache renews an object
    bool is_cached;     // the response is out of the cache: the section ends
    struct moon_ctx_error error;
    struct moon_reply reply;
    struct moon_slice reply_source; // where this section made a reply that it may forget to return
    int reply_line;                 // 0: nowhere

    int64_t cpu_left_us; // of the policies' budget
    size_t place;        // number of the policy that a section waits in (script_place.c); 0: none
    bool is_budget_spent;
    int64_t lua_us;       // time spent in sections, waiting left out
    int64_t ran_until_us; // when it was routed, or the last section ended or began to wait

    struct moon_branch *branches; // of ctx:parallel, while it runs; NULL: none
    size_t branch_count;

    // A wait in progress (script/async.h).
    void (*cancel)(void *op);
    void *op;
    int (*push_results)(struct moon_ctx *x, struct lua_State *co, void *op);

    struct moon_taken *taken; // what limits have counted of it, last one first; NULL: nothing
    bool is_refused_by_limit; // what limits have counted of it was given back
    struct moon_note *notes;  // for ctx.vars, as long as it is not built
    struct moon_query_pairs
        *query_pairs; // of the query as it was last looked through; NULL: it was not

    // Objects that native plugins keep with the exchange.
    struct moon_attachment *attachments;

    struct moon_slice trace_parent;
};

void moon_ctx_init(struct moon_ctx *x, struct moon_script *script, const struct moon_ctx_ops *ops,
                   struct moon_arena *arena);

/// Another limit refuses the exchange: what those before counted is given back.
void moon_ctx_give_back(struct moon_ctx *x);

/// Gives the runner back, cancels a wait, frees attachments.
void moon_ctx_fini(struct moon_ctx *x);

/// The body that ops->request_body or response_body answered MOON_AGAIN for is whole. Whoever waited
/// for it may do so no longer.
void moon_ctx_body_ready(struct moon_ctx *x, bool is_request);

/// The call that ops->forward began has its head, or has failed.
void moon_ctx_forward_done(struct moon_ctx *x, enum moon_rc rc);

/// Finds the subscription of the request's key, once: header first, then query.
void moon_ctx_find_subscription(struct moon_ctx *x);
