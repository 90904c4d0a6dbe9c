/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The response cache of an exchange (RFC 9111): looked up where the policy `cache` stands in
/// inbound, filled with what the backend answers before outbound policies see it, so that these
/// work alike on answers of both origins.
///
/// Fields and body of a hit are not copied: they are sent out of shared memory, which stays pinned
/// until the exchange ends.

#include "http/cache_control.h"
#include "http/freshness.h"
#include "script/cache_rule.h"
#include "script/flights.h"
#include "shared/store.h"
#include "upstream/cache_tier.h"

struct moon_exchange;
struct moon_gateway;
struct moon_ctx;

enum { MOON_CACHE_VARY_BYTES = 1024 }; // a longer list is not kept: it is looked at under a lock

/// What is kept in moon_store_info.facts.
struct moon_cache_facts {
    struct moon_freshness fresh;
    int status;
};

/// Why the backend was asked (RFC 9211 §2.2).
enum moon_cache_forward {
    MOON_CACHE_FWD_NONE,
    MOON_CACHE_FWD_BYPASS,
    MOON_CACHE_FWD_METHOD,
    MOON_CACHE_FWD_URI_MISS,
    MOON_CACHE_FWD_VARY_MISS,
    MOON_CACHE_FWD_REQUEST,
    MOON_CACHE_FWD_STALE,
    MOON_CACHE_FWD_PARTIAL,
};

/// What came of a look-up; the most frequent first.
enum moon_cache_outcome {
    MOON_CACHE_HIT,
    MOON_CACHE_MISS,
    MOON_CACHE_STALE,
    MOON_CACHE_BYPASS,
    MOON_CACHE_REVALIDATED,
    MOON_CACHE_STALE_IF_ERROR,
    MOON_CACHE_REFUSED,
    MOON_CACHE_OUTCOMES, // none yet
};

/// What the client's conditions and ranges were, before the cache changed them.
struct moon_cache_conditions {
    struct moon_slice if_none_match, if_modified_since, range, if_range;
};

/// Asking the second tier.
struct moon_cache_remote {
    struct moon_cache_tier_query *query; // NULL: none under way
    uint64_t position;                   // of the purges known, when the backend was asked
    int64_t known_ms; // when what we have came; only what came later is of use. 0: we have nothing
    bool is_asked;    // once a request
    bool is_vary_known;
    bool is_hit;
};

/// Of an exchange that met a cache policy.
struct moon_cache_state {
    struct moon_cache_state *next;      // among unused ones
    const struct moon_cache_rule *rule; // NULL: none
    struct moon_store_key key;
    struct moon_slice own_key;     // in place of the URI; data NULL: none
    struct moon_slice path, query; // at the look-up
    struct moon_cache_tag name;    // what it is purged by; once the backend is asked
    struct moon_cache_control request_cc;
    struct moon_cache_conditions client;
    struct moon_fields asked; // the request's fields at the look-up, before later policies
    enum moon_cache_forward forward;
    struct moon_store_cursor cursor;
    uint64_t left; // bytes of the body to be sent
    struct moon_flight_wait wait;
    struct moon_cache_remote remote;
    struct moon_slice key_text; // what the key is made of, as all nodes write it
    int64_t arrived_ms;         // wall time of the look-up
    int64_t now_ms;             // wall time of the last thing that happened
    int64_t asked_ms;           // when the backend was asked
    int64_t wait_until_ms;      // monotonic
    bool has_waited;
    bool has_flight; // we fill for others
    bool may_store;
    bool is_serving;   // the body comes out of `served`
    bool is_collapsed; // waited for another request's answer
    bool is_stored;
    bool is_other_variant; // `stale` answers another request of the same URI
    bool is_marked;        // what came last for this was not kept
    const char *detail;    // why it was not kept, or what follows; for Cache-Status; static
    enum moon_cache_outcome outcome;

    // Large, and not cleared but for their first members.
    struct moon_store_object stale;  // being validated
    struct moon_store_object served; // being sent
    struct moon_store_writer writer;
    struct moon_store_info
        info; // of what is being written; tags: as they were when it was asked for
    char room[MOON_STORE_ROOM_BYTES]; // where a small object lies that was found
};

/// The state of all exchanges that have none: zero, and not to be written to.
extern struct moon_cache_state *const moon_cache_none;

/// Gives the exchange a state of its own where it has none. Taken back by moon_cache_end.
MUST_CHECK bool moon_cache_take_state(struct moon_exchange *x);

/// Frees the unused states.
void moon_cache_trim(struct moon_gateway *gateway);

/// moon_ctx_ops.
enum moon_cache_answer moon_cache_lookup(struct moon_ctx *ctx, const struct moon_cache_rule *rule,
                                         const struct moon_cache_key_parts *parts);
void moon_cache_cancel(void *ctx);

/// Before the backend is asked: the store's validators take the place of the client's.
MUST_CHECK enum moon_rc moon_cache_before_call(struct moon_exchange *x);

/// The backend's head is in x->response: stores it, frees from the store what it makes invalid, or
/// answers out of the store in its place.
void moon_cache_on_response(struct moon_exchange *x);

/// The backend gave no answer. @return true when a stored one stands in
bool moon_cache_on_failure(struct moon_exchange *x);

/// More of the backend's body.
void moon_cache_on_body(struct moon_exchange *x, struct moon_slice data, bool is_done);

/// The next run of a served body.
/// @return MOON_OK, MOON_ERR_UPSTREAM_TRUNCATED when the store was dropped under it
MUST_CHECK enum moon_rc moon_cache_read(struct moon_exchange *x, struct moon_slice *data,
                                        bool *is_done);

/// As logs and metrics call them.
extern const char *const moon_cache_outcome_names[MOON_CACHE_OUTCOMES];

/// Counts the exchange's outcome.
void moon_cache_count(const struct moon_exchange *x);

/// Gives back what the exchange holds of the store; whoever waits for it goes on.
void moon_cache_end(struct moon_exchange *x);

/// Ends what is renewed in the background, before the gateway goes.
void moon_cache_end_renewals(struct moon_gateway *gateway);

// ---- inside (cache*.c) -------------------------------------------------------------------------

struct moon_cache_tier *moon_cache_tier(const struct moon_exchange *x); // NULL: there is none
struct moon_store_seat *moon_cache_seat(const struct moon_exchange *x); // NULL: there is no store
const struct moon_cache_facts *moon_cache_facts(const struct moon_store_object *object);

/// What a response says to this cache, under the exchange's rule.
void moon_cache_read_control(const struct moon_exchange *x, const struct moon_response *response,
                             struct moon_cache_control *cc);

/// moon_store_match_fn: the object answers the exchange `arg`.
bool moon_cache_match(const struct moon_store_info *info, struct moon_slice head, void *arg);

/// Answers the exchange out of an object. @param object  taken
enum moon_cache_answer moon_cache_answer_from(struct moon_exchange *x,
                                              struct moon_store_object *object,
                                              enum moon_cache_outcome outcome);

/// Begins to store x->response. @return false when there is no room, or it must not be
bool moon_cache_begin(struct moon_exchange *x, const struct moon_cache_control *cc,
                      int64_t body_bytes);

/// What was begun is there for others.
void moon_cache_commit(struct moon_exchange *x);

/// The stored response that was asked about holds on, with the fields of x->response: answers.
void moon_cache_freshen(struct moon_exchange *x);

/// Whether x->response, to a HEAD, speaks of the stored response (RFC 9111 §4.3.5).
bool moon_cache_head_holds(struct moon_exchange *x);

/// Frees from the store what a successful unsafe request makes invalid (RFC 9111 §4.4).
void moon_cache_invalidate(struct moon_exchange *x);

/// Whether the answer to a POST is what a GET of its URI would get (RFC 9110 §9.3.3).
bool moon_cache_post_is_get(struct moon_exchange *x);

/// Key of the request under a rule. @return false when memory is short
bool moon_cache_make_key(struct moon_exchange *x, const struct moon_cache_rule *rule,
                         const struct moon_cache_key_parts *parts, struct moon_store_key *key);

/// What the object is purged by, beside its tags: the URI, or the rule's own key.
struct moon_cache_tag moon_cache_name(struct moon_exchange *x);

/// Host and port of the request as keys have them. Arena.
struct moon_slice moon_cache_authority(struct moon_exchange *x);

/// Hash of what the request says for the fields that `names` lists.
uint64_t moon_cache_variant(const struct moon_fields *request, struct moon_slice names);

/// Puts status and fields into one run of bytes. Arena. @param vary  names, as they are matched
bool moon_cache_pack(struct moon_exchange *x, const struct moon_response *response,
                     struct moon_slice vary, struct moon_slice *head);

/// Names of the Vary fields, lower case, in one list. Arena. Empty where there are none.
bool moon_cache_vary(struct moon_exchange *x, const struct moon_fields *fields,
                     struct moon_slice *names);

/// False when a field of Vary was changed between the look-up and the backend: what it answered
/// would be given to others than it is meant for.
bool moon_cache_vary_is_sound(const struct moon_exchange *x, struct moon_slice names);

/// Whether the request that was noted brings fields that backends may take for its method, URL or
/// host, and that no key has: the answer to it is nobody else's.
bool moon_cache_is_steered(const struct moon_exchange *x);

/// Whether X-Forwarded-* of the client went to the backend as they came.
bool moon_cache_is_forwarded_as_is(const struct moon_exchange *x);

/// The Vary names of a packed head.
struct moon_slice moon_cache_packed_vary(struct moon_slice head);

/// Whether a stored 200 may be asked about for another request of its URI: it has a strong ETag, no
/// content coding, and does not depend on who asks.
bool moon_cache_is_comparable(struct moon_slice head);

/// Fills `response` with slices into the head. @return false when memory is short
bool moon_cache_unpack(struct moon_slice head, struct moon_response *response);

/// The name of the request in the second tier. @param vary  of the response; empty: none, or not
/// known. @return false when memory is short
MUST_CHECK bool moon_cache_remote_name(struct moon_exchange *x, const struct moon_fields *request,
                                       struct moon_slice vary,
                                       uint8_t name[MOON_CACHE_TIER_NAME_BYTES]);

/// Asks the second tier; moon_cache_resume follows. @param known_ms  see struct moon_cache_remote
/// @return false when it is not asked
bool moon_cache_remote_ask(struct moon_exchange *x, int64_t known_ms);

/// Puts there what this exchange has just stored.
void moon_cache_remote_fill(struct moon_exchange *x);

/// Whether a packed head that came from elsewhere may be unpacked.
bool moon_cache_head_is_sound(struct moon_slice head);

/// Looks again, after a wait.
void moon_cache_resume(struct moon_exchange *x);

/// What the exchange's object is purged by, as it holds now; appended.
void moon_cache_fill_tags(struct moon_exchange *x, struct moon_store_info *info);
int64_t moon_cache_keep_until(const struct moon_freshness *fresh);

/// Answers out of x->cache->served: conditions, ranges, Age, Cache-Status.
void moon_cache_serve(struct moon_exchange *x);

/// An answer without an object: 504.
void moon_cache_refuse(struct moon_exchange *x);

/// Adds our member to Cache-Status.
void moon_cache_add_status(struct moon_exchange *x);

/// Renews x->cache's object while the client has the old one; takes the flight over.
void moon_cache_renew(struct moon_exchange *x);
