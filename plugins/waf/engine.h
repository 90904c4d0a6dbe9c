// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The rule engine: SecLang rules compiled once, transactions run against them.
///
/// A `waf_ruleset` is immutable once loaded and counted; a `waf_tx` inspects one exchange and lives
/// in an arena of its own, taken from a pool of the rule set. Nothing here does I/O while a
/// transaction runs. Semantics are those of mod_security2 (httpd).
/// Thread: any one at a time; the engine keeps no lock.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waf_ruleset;
struct waf_rule;
struct waf_overlay;
struct waf_tx;

/// A borrowed run of bytes; not terminated.
struct waf_str {
    const char *p;
    size_t n;
};

enum waf_source_kind {
    WAF_SOURCE_FILE, ///< a path; may hold wildcards
    WAF_SOURCE_TEXT, ///< SecLang text
};

struct waf_source {
    enum waf_source_kind kind;
    const char *name; ///< path, or what errors call the text
    const char *text; ///< WAF_SOURCE_TEXT only
};

struct waf_error {
    char text[1024]; ///< "FILE:LINE: what was wanted, and what came"
};

/// What `@geoLookup` finds of an address; empty where it is not known.
struct waf_place {
    char country[3], continent[3]; ///< two letters and NUL
    char city[64];
};

/// Fills `place`, whose fields are empty before. @return false: nothing is known of the address
typedef bool (*waf_geo_fn)(void *arg, struct waf_str address, struct waf_place *place);

/// Calls `pace` again and again while sources are compiled, which may take a tenth of a second: other
/// rule sets are used meanwhile. NULL: nobody is called.
void waf_set_pace(void (*pace)(void));

/// Compiles the sources in order. @return counted reference, NULL with `error` filled on failure.
struct waf_ruleset *waf_ruleset_load(const struct waf_source *sources, size_t n,
                                     struct waf_error *error);

/// As waf_ruleset_load, but hands out one rule set per process for equal sources (contents of all
/// files that were read included).
struct waf_ruleset *waf_ruleset_shared(const struct waf_source *sources, size_t n,
                                       struct waf_error *error);
struct waf_ruleset *waf_ruleset_retain(struct waf_ruleset *rules);
void waf_ruleset_release(struct waf_ruleset *rules);           ///< accepts NULL
bool waf_ruleset_asks_places(const struct waf_ruleset *rules); ///< whether a rule has `@geoLookup`
/// The file that SecGeoLookupDb names, `where` ("FILE:LINE") being where it does; NULL: none. Lent.
const char *waf_ruleset_geo_database(const struct waf_ruleset *rules, const char **where);
size_t waf_ruleset_holders(const struct waf_ruleset *rules); ///< references held
size_t waf_ruleset_rule_count(const struct waf_ruleset *rules);
size_t waf_ruleset_memory(const struct waf_ruleset *rules); ///< bytes, PCRE2 code not included

/// Rules and targets taken out for one route, on top of a shared rule set: only
/// SecRuleRemoveById/ByTag/ByMsg and SecRuleUpdateTargetById/ByTag lines are allowed in `text`.
struct waf_overlay *waf_overlay_new(struct waf_ruleset *rules, const char *text,
                                    struct waf_error *error);
void waf_overlay_free(struct waf_overlay *overlay); ///< accepts NULL

enum waf_mode { WAF_MODE_AS_CONFIGURED, WAF_MODE_OFF, WAF_MODE_DETECTION, WAF_MODE_PREVENTION };

/// Turns the prefilter off (false) or on for transactions made from now on: for comparison only,
/// verdicts are the same.
void waf_set_prefilter(bool enabled);

/// Borrowed: `overlay` (may be NULL) must outlive the transaction. Holds a reference to `rules`.
struct waf_tx *waf_tx_new(struct waf_ruleset *rules, const struct waf_overlay *overlay);
void waf_tx_free(struct waf_tx *tx); ///< accepts NULL

// All strings that go in must stay valid until waf_tx_free, unless "copied" is said.
void waf_tx_set_mode(struct waf_tx *tx, enum waf_mode mode);
/// Sets `tx.NAME` before any rule runs. Copied.
void waf_tx_set_var(struct waf_tx *tx, struct waf_str name, struct waf_str value);
/// Overrides the limits of the rules: 0 leaves one as it is. `partial`: what is over the limit is
/// inspected in part; else it is refused with 413.
void waf_tx_set_limits(struct waf_tx *tx, size_t request_bytes, bool partial,
                       size_t response_bytes);
enum { WAF_RECORD_BYTES = 992 }; ///< of a persistent collection, as mod_security2 has it

/// Makes of what a record holds what it is to hold, in place; never waits, allocates or asks for another.
///
/// @param n          bytes that are there; 0: none
/// @param expires_s  to be set
/// @return bytes that are to stay
typedef size_t waf_change_fn(void *arg, char *bytes, size_t n, int64_t *expires_s);

/// Where persistent collections are kept between exchanges.
struct waf_keeper {
    /// @param into  WAF_RECORD_BYTES. @return bytes of the record; 0: there is none
    size_t (*read)(void *arg, struct waf_str name, int64_t now_s, char *into);
    void (*change)(void *arg, struct waf_str name, int64_t now_s, waf_change_fn *change,
                   void *change_arg);
};
/// In the memory of this process: what a transaction has that is told of no other.
extern const struct waf_keeper waf_process_keeper;
void waf_tx_set_keeper(struct waf_tx *tx, const struct waf_keeper *keeper, void *arg);
/// Without it `@geoLookup` never matches.
void waf_tx_set_geo(struct waf_tx *tx, waf_geo_fn fn, void *arg);
/// The server's address is copied.
void waf_tx_connection(struct waf_tx *tx, struct waf_str client, int client_port,
                       struct waf_str server, int server_port);
void waf_tx_unique_id(struct waf_tx *tx, struct waf_str id);
void waf_tx_request_line(struct waf_tx *tx, struct waf_str method, struct waf_str uri,
                         struct waf_str protocol);
void waf_tx_request_header(struct waf_tx *tx, struct waf_str name, struct waf_str value);

struct waf_verdict {
    int status;              ///< 0: go on; else the status to answer with
    int rule_id;             ///< which rule decided
    bool drop;               ///< close the connection instead of answering
    struct waf_str redirect; ///< location, when the action was redirect
    struct waf_str reason;   ///< why, where a limit decided and no rule; a literal
};

/// Each returns true when the exchange is to be stopped; `out` then says how. Phases 1 to 5.
bool waf_tx_request_headers(struct waf_tx *tx, struct waf_verdict *out);
/// True from the end of phase 1 on when the rules want to see the body.
bool waf_tx_wants_request_body(const struct waf_tx *tx);
/// The body will not be shown: phase 2 runs as it does after `SecRequestBodyAccess Off`.
void waf_tx_ignore_request_body(struct waf_tx *tx);
/// Copied. Bytes past the inspection limit are counted and dropped (ProcessPartial), or decide the
/// exchange with 413 (Reject).
bool waf_tx_request_body(struct waf_tx *tx, struct waf_str bytes, struct waf_verdict *out);
/// Lends the whole body instead, without a copy.
bool waf_tx_request_body_whole(struct waf_tx *tx, struct waf_str body, struct waf_verdict *out);
bool waf_tx_request_body_end(struct waf_tx *tx, struct waf_verdict *out);
void waf_tx_response_line(struct waf_tx *tx, int status, struct waf_str protocol);
void waf_tx_response_header(struct waf_tx *tx, struct waf_str name, struct waf_str value);
bool waf_tx_response_headers(struct waf_tx *tx, struct waf_verdict *out);
bool waf_tx_wants_response_body(const struct waf_tx *tx);
bool waf_tx_response_body(struct waf_tx *tx, struct waf_str bytes, struct waf_verdict *out);
bool waf_tx_response_body_end(struct waf_tx *tx, struct waf_verdict *out);
/// Phase 5, whether the exchange was refused or not; then collections are given to their keeper.
///
/// @param status  of what the client gets; 0: not known
void waf_tx_logging(struct waf_tx *tx, int status);

/// One line of the log: a rule that matched and says so. Lent until waf_tx_free.
struct waf_fired {
    int id;
    int phase;
    int severity; ///< 0 (emergency) to 7; -1: none
    int line;
    bool denied; ///< this match stopped the exchange
    const char *file;
    const char *const *tags;
    size_t tag_count;
    const struct waf_rule *tested; ///< whose operator matched: the end of the chain
    struct waf_str operand;        ///< what it was compared with, macros expanded
    struct waf_str msg;
    struct waf_str logdata;
    struct waf_str variable; ///< "ARGS:x"
    struct waf_str value;    ///< what the operator saw, transformed
    struct waf_str ver, rev;
    int maturity, accuracy; ///< 0: none
    int status;
    struct waf_str origin; ///< what the chain began with, where `variable` derives from it
    bool is_whole;         ///< a text with names and values in it, as a query is
};

/// Memory that lives as long as the transaction; NULL when there is no more.
void *waf_tx_alloc(struct waf_tx *tx, size_t bytes);
/// True when a rule allowed the exchange: no rule looks at it any more.
bool waf_tx_is_allowed(const struct waf_tx *tx);
/// True when a rule or a limit stopped the exchange.
bool waf_tx_stopped(const struct waf_tx *tx);
size_t waf_tx_fired_count(const struct waf_tx *tx);
const struct waf_fired *waf_tx_fired(const struct waf_tx *tx, size_t i);
/// ModSecurity's error-log line without the trailing newline. Lent until the next is asked for.
struct waf_str waf_tx_error_log(const struct waf_tx *tx, size_t i);
/// Value of `tx.NAME`; .p is NULL if unset.
struct waf_str waf_tx_get_var(struct waf_tx *tx, struct waf_str name);
/// The anomaly scores of request and response, by the names that CRS 4 or 3 has for them; 0 if unset.
long waf_tx_inbound_score(const struct waf_tx *tx);
long waf_tx_outbound_score(const struct waf_tx *tx);
/// True when the transaction ran out of its memory or regex budget: the rest was not inspected, and in
/// prevention the request was refused with 403.
bool waf_tx_exhausted(const struct waf_tx *tx);
