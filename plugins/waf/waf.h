// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the parts of the rule engine share: compiled rules, and the state of one transaction.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "waf/arena.h"
#include "waf/filter.h"
#include "waf/transform.h"

#include <pcre2.h>
#include <stdio.h>

enum { WAF_PHASES = 5, WAF_NO_BIT = 0xffff, WAF_CAPTURES = 10 };

// Request values and response values are filtered for different operators.
enum waf_family { WAF_REQUEST, WAF_RESPONSE, WAF_FAMILIES };

enum waf_var {
#define VAR(name, shape, family, part) WAF_VAR_##name,
#include "waf/variable.def"
#undef VAR
    WAF_VARS
};

enum { WAF_STORES = 5 };
enum { WAF_VAR_WORDS = (WAF_VARS + 63) / 64 };

enum waf_shape {
    WAF_SHAPE_ONE,     // a single value, cached
    WAF_SHAPE_MANY,    // named values, cached
    WAF_SHAPE_DYNAMIC, // asked anew each time
    WAF_SHAPE_STORE,   // TX, IP, GLOBAL …: named values that rules write
};

// What of the exchange a variable is read from. BODY: of the request's, or of the path, which httpd
// maps before phase 2, so that it is asked anew there.
enum waf_part_of { WAF_HEAD, WAF_BODY };

struct waf_var_info {
    const char *name;
    enum waf_shape shape;
    enum waf_family family;
    enum waf_part_of part;
};
extern const struct waf_var_info waf_var_table[WAF_VARS];

// --- compiled rules ------------------------------------------------------------

struct waf_target {
    enum waf_var var;
    bool is_count;   // &VAR
    bool is_exclude; // !VAR
    struct waf_str key;
    pcre2_code *key_re; // owned by the rule set; NULL: plain key, or none if key.p is NULL
    int slot;           // TX with a plain key: where it lives
    uint32_t *slots;    // TX with a pattern: those of the known names that match
    uint32_t slot_count;
};

struct waf_part {
    struct waf_str text; // literal; or what the macro says, when `target` is not known
    const struct waf_target *target;
};

struct waf_macro {
    const struct waf_part *parts;
    unsigned n; // 1 part without target: constant
};

enum waf_op_kind {
#define OPERATOR(name, kind, numeric) WAF_OP_##kind,
#include "waf/operator.def"
#undef OPERATOR
    WAF_OPS
};

struct waf_pm;
struct waf_cidr;

struct waf_op {
    enum waf_op_kind kind;
    const char *name;
    struct waf_str param;          // as written
    const struct waf_macro *macro; // param, when it holds macros; else NULL
    pcre2_code *re;
    bool is_jit;
    struct waf_pm *pm;
    struct waf_cidr *cidrs;
    uint32_t cidr_count;
    uint64_t bytes[4]; // validateByteRange: allowed
    long number;
    uint32_t bit[WAF_FAMILIES]; // in the filter; WAF_NO_BIT: always run
    bool never;                 // cannot match here (rbl): see the reference
    struct waf_op *next;
};

// A node of the tree of transformation lists: the list of its parent and one step more.
struct waf_step {
    const struct waf_transform *transform; // NULL: root
    uint32_t which;                        // its number
    uint32_t parent;
    unsigned marks; // a value without any of them goes through unchanged
};

enum waf_assign { WAF_ASSIGN_SET, WAF_ASSIGN_ADD, WAF_ASSIGN_SUB, WAF_ASSIGN_UNSET };

enum waf_action_kind {
    WAF_ACTION_SETVAR,
    WAF_ACTION_EXPIREVAR,
    WAF_ACTION_DEPRECATEVAR,
    WAF_ACTION_INITCOL,
    WAF_ACTION_CTL_RULE_ENGINE,
    WAF_ACTION_CTL_REMOVE,        // rules
    WAF_ACTION_CTL_REMOVE_TARGET, // a target of rules
    WAF_ACTION_CTL_FORCE_BODY,
    WAF_ACTION_CTL_PROCESSOR,
    WAF_ACTION_CTL_REQUEST_BODY,
    WAF_ACTION_CTL_RESPONSE_BODY,
    WAF_ACTION_CTL_REQUEST_LIMIT,
    WAF_ACTION_CTL_RESPONSE_LIMIT,
    WAF_ACTION_SETENV,
    WAF_ACTION_SANITISE, // `target`: "ARGS:x"; empty: what matched
};

enum waf_select { WAF_SELECT_ID, WAF_SELECT_TAG, WAF_SELECT_MSG };

// Which rules a removal means: resolved to a list when all rules are known.
struct waf_selection {
    enum waf_select by;
    struct waf_str what; // ids and ranges, or a pattern
    uint32_t *rules;
    uint32_t n;
};

struct waf_action {
    enum waf_action_kind kind;
    enum waf_assign assign;
    enum waf_var collection;
    int slot;                     // TX with a constant name; else -1
    const struct waf_macro *name; // variable, or key of initcol
    const struct waf_macro *value;
    long number; // limits, modes, switches; seconds
    struct waf_selection select;
    struct waf_str target;              // CTL_REMOVE_TARGET: as written, "ARGS:x"
    const struct waf_target *exclusion; // .. parsed
};

enum waf_disruptive {
    WAF_DISRUPT_UNSET,
    WAF_DISRUPT_PASS,
    WAF_DISRUPT_BLOCK,
    WAF_DISRUPT_DENY,
    WAF_DISRUPT_DROP,
    WAF_DISRUPT_REDIRECT,
    WAF_DISRUPT_ALLOW,
    WAF_DISRUPT_ALLOW_PHASE,
    WAF_DISRUPT_ALLOW_REQUEST,
};

static inline bool waf_is_denial(enum waf_disruptive d)
{
    return d == WAF_DISRUPT_DENY || d == WAF_DISRUPT_DROP || d == WAF_DISRUPT_REDIRECT;
}

struct waf_rule {
    int id; // 0: none
    unsigned index;
    unsigned phase; // 1..5
    const char *file;
    int line;
    struct waf_target *targets; // none: SecAction
    unsigned target_count;
    struct waf_target *excludes;
    unsigned exclude_count;
    struct waf_op *op;
    struct waf_str op_text; // as written, for messages
    bool negated;
    bool capture;
    bool multi_match;
    bool is_chained; // not the first of its chain
    bool is_marker;
    int8_t log; // -1: not said
    int8_t auditlog;
    uint32_t step;                     // transformations
    const struct waf_transform **list; // of this rule, for multiMatch
    unsigned list_count;
    uint32_t *form_steps;   // .. multiMatch: the step after each of them
    bool list_reset;        // t:none seen
    struct waf_rule *chain; // next rule of the chain
    bool wants_chain;
    struct waf_rule *starter; // first rule of the chain; itself if alone
    struct waf_action *actions;
    unsigned action_count, action_cap;
    enum waf_disruptive disruptive;
    int status; // 0: not said
    const struct waf_macro *redirect;
    struct waf_str skip_after; // label
    unsigned skip;
    uint32_t jump;       // place in the phase's program to go on at, UINT32_MAX: none
    uint16_t watch, bit; // see waf_entry
    const struct waf_macro *msg, *logdata;
    struct waf_str msg_text, logdata_text;
    struct waf_str ver, rev, label;
    const char **tags;
    size_t tag_count;
    struct waf_str tags_json; // as reports have them: an array's members
    int severity, maturity, accuracy;
    struct waf_rule *next_loaded;
};

/// What a rule reads, where that is cached values only and after the same transformations: rules
/// with the same watch ask one question of a transaction, so it is answered once.
struct waf_watch {
    const struct waf_target *targets; // the first such rule's
    unsigned target_count;
    uint32_t step;
    bool every_form; // multiMatch: after each of the transformations, and before them
    enum waf_family family;
};

enum { WAF_NO_WATCH = 0xffff };

/// What the walk over a phase needs of a rule to pass it by.
struct waf_entry {
    const struct waf_rule *rule;
    uint32_t index;
    uint16_t watch; // WAF_NO_WATCH: the rule is always tried
    uint16_t bit;   // of its operator, among what may match the watched values
};

struct waf_program {
    struct waf_entry *entries; // chain starters, in order
    uint32_t n;
};

enum { WAF_WEAK_MAX = 8 };

// Rules from `first` to `last` that add at most `most` to a score, at most `told` for what they find
// in a value that speaks of something (waf_is_told).
struct waf_weak {
    int first, last, most, told;
};

struct waf_options {
    int engine; // enum waf_mode
    bool request_body, response_body;
    bool values; // context.c
    struct waf_weak weak[WAF_WEAK_MAX];
    unsigned weak_count;
    size_t request_limit, request_nofiles_limit, response_limit;
    bool request_partial, response_partial;
    size_t json_depth, arguments_limit, file_limit;
    uint32_t match_limit;
    char argument_separator;
    int cookie_format;
    long collection_timeout;
    struct waf_str web_app; // whose collections they are
    struct waf_str *mime_types;
    unsigned mime_count;
    bool mime_set;
};

struct waf_include {
    struct waf_include *next;
    uint64_t hash;
};

struct waf_ruleset {
    unsigned refs;
    struct waf_arena arena;
    struct waf_options options;
    struct waf_rule **rules; // by index; chained ones and markers included
    uint32_t rule_count;
    struct waf_program programs[WAF_PHASES + 1];
    struct waf_watch *watches;
    uint32_t watch_count;
    struct waf_step *steps;
    uint32_t step_count;
    struct waf_filter *filters[WAF_FAMILIES];
    unsigned filter_words[WAF_FAMILIES];   // of what a filter says may match
    const uint64_t *nothing[WAF_FAMILIES]; // .. when it says that nothing may
    struct waf_op *ops;
    struct waf_str *slot_names;
    uint32_t slot_count;
    uint32_t *slot_map; // open addressing, slot + 1
    uint32_t slot_map_size;
    int inbound_scores[2], outbound_scores[2]; // slots: CRS 4's name, CRS 3's
    unsigned char *unicode_map;
    const char *geo_database, *geo_where; // of SecGeoLookupDb; NULL: not said
    pcre2_code **codes;                   // all compiled patterns, to free
    uint32_t code_count, code_cap;
    struct waf_pm **pms;
    uint32_t pm_count, pm_cap;
    uint64_t hash;  // of all sources
    uint64_t print; // names, sizes and times of the sources
    bool has_includes;
    bool wants_request_body_raw;
    uint64_t body_vars[WAF_VAR_WORDS], response_vars[WAF_VAR_WORDS]; // see waf_forget_lists
    struct waf_tx *pool;
    struct waf_ruleset *next_shared;
};

// --- a transaction ----------------------------------------------------------------

// Whether a value speaks of what rules find in it (waf_is_told); not asked for most.
enum waf_telling { WAF_TELLING_UNKNOWN, WAF_TELLING, WAF_TELLING_NOT };

/// A value and what is known of it. Its transformed forms hang below it.
struct waf_text {
    struct waf_str s;
    const uint64_t *allowed; // NULL: not scanned yet
    uint32_t marks;
    uint8_t family;
    uint8_t telling;         // enum waf_telling
    struct waf_text **forms; // by step; NULL until one differs from the value itself
    struct waf_text **after; // by transformation
};

struct waf_val {
    enum waf_var var;
    bool is_count;      // of &VAR: how many there are
    struct waf_str key; // "" for single values
    struct waf_text *text;
};

struct waf_list {
    struct waf_val *v;
    uint32_t n;
    uint32_t marks;           // of all values
    const uint64_t **by_step; // step -> operators that may match any value
};

// How a rule that matches adds to scores: for what it found, for what is told of, the rest of the
// former after the latter, nothing.
enum waf_scoring { WAF_SCORING_FULL, WAF_SCORING_TOLD, WAF_SCORING_REST, WAF_SCORING_NONE };

enum waf_origin { WAF_FROM_QUERY, WAF_FROM_BODY, WAF_FROM_JSON };

struct waf_arg {
    struct waf_text *name, *value;
    enum waf_origin origin;
    bool is_prose; // told apart by SecMoonValues only
};

struct waf_header {
    struct waf_str name, value;
    struct waf_text *name_text, *value_text; // NULL: no rule has asked
};

struct waf_vec {
    void *items;
    uint32_t n, cap;
};

struct waf_cell {
    struct waf_str name; // dynamic names only
    uint32_t hash;
    struct waf_str value;
    struct waf_text *text; // of value, made when wanted
    long number;           // of value, where has_number: most rules compare the same few
    bool is_set, has_number;
};

struct waf_removal {
    struct waf_removal *next;
    struct waf_target exclusion;
};

struct waf_overlay {
    struct waf_arena arena;
    uint64_t *removed;               // bit per rule; NULL: none
    struct waf_removal **exclusions; // by rule; NULL: none
};

enum waf_processor {
    WAF_PROCESSOR_NONE,
    WAF_PROCESSOR_URLENCODED,
    WAF_PROCESSOR_MULTIPART,
    WAF_PROCESSOR_JSON,
    WAF_PROCESSOR_XML,
    WAF_PROCESSOR_UNKNOWN,
};

struct waf_part_file {
    struct waf_text *name;     // form field
    struct waf_text *filename; // as sent
    size_t size;
};

// What the multipart parser found odd: each is a variable of the same name.
struct waf_multipart {
    bool boundary_quoted, boundary_whitespace, data_before, data_after, header_folding, lf_line,
        crlf_lf_lines, missing_semicolon, invalid_quoting, invalid_part, invalid_header_folding,
        file_limit_exceeded, unmatched_boundary, crlf_line;
    int unmatched;
    struct waf_str filename, name;
};

struct waf_record;

struct waf_tx {
    struct waf_arena arena;
    jmp_buf full;
    struct waf_ruleset *rules;
    const struct waf_overlay *overlay;
    enum waf_mode mode;
    bool exhausted, prefilter;
    unsigned phase;
    int64_t started_us;
    int64_t limited_us;   ///< CPU time spent around matches that hit their limit
    int64_t limit_hit_us; ///< thread's CPU clock at the last such match of this phase; 0: none yet
    int64_t now_s;

    struct waf_str client, server, unique_id;
    int client_port, server_port;
    struct waf_str method, uri_raw, protocol, path, query;
    bool has_query;
    struct waf_vec headers, response_headers; // struct waf_header
    struct waf_vec cookies;                   // struct waf_arg; read with the first list of them
    struct waf_vec args;                      // struct waf_arg
    unsigned inner_depth;                     // documents around the one that is read
    bool query_is_unread;                     // no rule has asked for what it holds
    bool cookies_are_read;
    bool args_limited;
    bool urlencoded_error;

    char *body;
    size_t body_n, body_cap;
    bool body_borrowed;
    size_t body_seen; // with what was not kept
    bool body_over_limit;
    bool request_body_access, response_body_access, force_body;
    size_t request_limit, nofiles_limit, response_limit;
    bool request_partial;
    enum waf_processor processor;
    struct waf_str processor_name;
    bool body_error;
    struct waf_str body_error_msg;
    struct waf_multipart multipart;
    struct waf_vec files;        // struct waf_part_file
    struct waf_vec part_headers; // struct waf_arg: part name, "Header: value"
    struct waf_str xml_text;
    struct waf_vec xml_attributes; // struct waf_str
    bool xml_ok;

    int response_status;
    struct waf_str response_protocol;
    char *response;
    size_t response_n, response_cap;
    bool response_over_limit;
    bool inspects_response;

    uint64_t built[WAF_VAR_WORDS]; // which of `lists` are made
    const uint64_t *
        *watched;           // by watch: operators that may match any of its values; NULL: not known
    struct waf_cell *cells; // TX, by slot
    struct waf_vec extra;   // TX names not known at load: struct waf_cell
    struct {
        bool is_open; // by a rule
        struct waf_str key;
        struct waf_record *record; // read when a rule asks for it: most requests' are not
    } stores[WAF_STORES];
    const struct waf_keeper *keeper;
    void *keeper_arg;
    waf_geo_fn geo;
    void *geo_arg;
    struct waf_place *place; // what @geoLookup found last; NULL: nothing yet

    uint64_t *removed; // bit per rule, copied on the first removal
    const uint64_t *removed_now;
    struct waf_removal **exclusions;

    struct waf_val matched;     // last match; .text NULL: none
    struct waf_vec matched_all; // struct waf_val, of the running chain
    const struct waf_rule *rule;
    struct waf_val found; // what the start of the running chain or what follows found, as it came
    const struct waf_rule *acted; // last
    bool acted_told;              // .. and only in values that speak of something
    enum waf_scoring scoring;     // of the rule that acts
    int highest_severity;

    struct waf_vec fired;     // struct waf_fired *
    struct waf_vec sanitised; // struct waf_str: variables that no log may show
    bool intercepted;
    struct waf_verdict verdict;
    unsigned allow_phase; // phase that an allow ended
    bool allowed_all, allowed_request;
    bool pcre_limits_exceeded;
    struct waf_tx *next_free;
    struct waf_list lists[WAF_VARS]; // last: only those that are made hold anything
};

// arena vectors
struct waf_str waf_digits(struct waf_arena *a, long v);
void *waf_push(struct waf_arena *a, struct waf_vec *v, size_t size);
#define WAF_AT(vec, type, i) (&((type *)(vec)->items)[i])

// value.c: values, their forms and what may match them
struct waf_text *waf_text_new(struct waf_tx *tx, struct waf_str s, enum waf_family family);
struct waf_text *waf_text_form(struct waf_tx *tx, struct waf_text *text, uint32_t step);
void waf_text_scan(struct waf_tx *tx, struct waf_text *text);
static inline bool waf_text_may_match(struct waf_tx *tx, struct waf_text *t,
                                      const struct waf_op *op)
{
    uint32_t bit = op->bit[t->family];
    if (bit == WAF_NO_BIT) {
        return true;
    }
    if (t->allowed == NULL) {
        waf_text_scan(tx, t);
    }
    return (t->allowed[bit >> 6] >> (bit & 63) & 1) != 0;
}
const uint64_t *waf_list_may_match(struct waf_tx *tx, struct waf_list *list, uint32_t step,
                                   enum waf_family family);
const uint64_t *waf_watch_may_match(struct waf_tx *tx, uint32_t watch);

// variable.c
struct waf_span {
    const struct waf_val *v;
    uint32_t n;
};
bool waf_geo_has(struct waf_str key); ///< whether GEO has it
bool waf_var_find(struct waf_str name, enum waf_var *out);
struct waf_list *waf_list_make(struct waf_tx *tx, enum waf_var var);
static inline struct waf_list *waf_list_of(struct waf_tx *tx, enum waf_var var)
{
    bool is_made = (tx->built[var / 64] >> (var % 64) & 1) != 0;
    return is_made ? &tx->lists[var] : waf_list_make(tx, var);
}
struct waf_span waf_target_values(struct waf_tx *tx, const struct waf_target *t);
uint32_t waf_target_count(struct waf_tx *tx, const struct waf_target *t);
bool waf_target_covers(const struct waf_target *t, const struct waf_val *v);
struct waf_str waf_val_name(struct waf_tx *tx, const struct waf_val *v);
/// Notes in a rule set which variables are asked anew in which phase.
void waf_vars_of_phases(struct waf_ruleset *rules);
void waf_forget_lists(struct waf_tx *tx, unsigned phase);
struct waf_cell *waf_cell_find(struct waf_tx *tx, struct waf_str name, bool make);
void waf_cell_set(struct waf_tx *tx, struct waf_cell *cell, struct waf_str value);
struct waf_str waf_request_header(const struct waf_tx *tx, const char *name); // .p NULL: none
int waf_slot_of(const struct waf_ruleset *rules, struct waf_str name);

// macro.c
struct waf_str waf_expand(struct waf_tx *tx, const struct waf_macro *m);

// operator.c
bool waf_op_run(struct waf_tx *tx, const struct waf_rule *rule, struct waf_str value);
/// What the operator of a rule that just matched was compared with: for waf_op_describe.
struct waf_str waf_op_operand(struct waf_tx *tx, const struct waf_rule *rule);
struct waf_out;
/// "Pattern match \"…\" at"
void waf_op_describe(struct waf_out *out, const struct waf_rule *rule, struct waf_str operand);
bool waf_op_number(struct waf_tx *tx, const struct waf_op *op, long value);
bool waf_op_is_numeric(enum waf_op_kind kind);
bool waf_re_match(struct waf_tx *tx, const pcre2_code *re, struct waf_str s);
void waf_set_match_limit(uint32_t limit);
struct waf_need waf_op_need(const struct waf_op *op, struct waf_arena *scratch);
/// Opens a regular file to read: a FIFO would be waited for. @return NULL and errno
FILE *waf_open_file(const char *path);
const char *waf_op_prepare(struct waf_ruleset *rules, struct waf_op *op, const char *file,
                           struct waf_arena *scratch); // NULL, or what is wrong
pcre2_code *waf_re_compile(struct waf_ruleset *rules, struct waf_str pattern, uint32_t options,
                           const char **error);

// action.c
void waf_act(struct waf_tx *tx, const struct waf_rule *rule);

// exec.c
void waf_run_phase(struct waf_tx *tx, unsigned phase);
extern bool waf_prefilter_enabled;

// body.c and the processors
void waf_body_process(struct waf_tx *tx);
void waf_body_error(struct waf_tx *tx, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void waf_parse_query(struct waf_tx *tx, struct waf_str s, enum waf_origin origin);
/// Makes arguments of the query, once: for who is about to look at arguments, or to add some.
static inline void waf_read_query(struct waf_tx *tx)
{
    if (tx->query_is_unread) {
        tx->query_is_unread = false;
        waf_parse_query(tx, tx->query, WAF_FROM_QUERY);
    }
}
void waf_read_cookies(struct waf_tx *tx);
void waf_arg_add(struct waf_tx *tx, struct waf_str name, struct waf_str value,
                 enum waf_origin origin);
/// SecMoonValues: what an argument holds once decoded, and whether it is prose; may move `arg`.
void waf_context_arg(struct waf_tx *tx, struct waf_arg *arg);
/// .. segments of the path and values of the application's own header fields, as arguments.
void waf_context_request(struct waf_tx *tx);
/// .. and the document type of an XML body, as `xml.dtd`.
void waf_context_xml(struct waf_tx *tx, struct waf_str body);
/// Whether `list`, small words between spaces, has `word` in any case.
bool waf_is_among(const char *list, size_t n, struct waf_str word);
#define WAF_IS_AMONG(list, word) waf_is_among(list, sizeof(list) - 1, word)
/// Whether people wrote it, code and logs included, or a machine's input stands there.
bool waf_is_prose(struct waf_str s);
/// .. and names nothing that attacks are after and texts need not.
bool waf_has_target(struct waf_str s);
/// The condition of a filter, whole: names compared with values, by any of the usual operators.
bool waf_is_condition(struct waf_str s);
/// A URL or a path with a query; the query's values are left in `parts`.
bool waf_is_reference(struct waf_tx *tx, struct waf_str s, struct waf_vec *parts);
/// A filter of LDAP, whole.
bool waf_is_directory_filter(struct waf_str s);
/// A member or field whose name says that it holds code or text, and whose value begins as one.
bool waf_is_named_text(struct waf_str name, struct waf_str value, enum waf_origin origin);
/// Whether a member of that name is what is said to a language model.
bool waf_is_told_to_model(struct waf_str name);
/// Whether a member or field of that name holds code.
bool waf_holds_code(struct waf_str name);
/// .. or text.
bool waf_holds_text(struct waf_str name);
/// Whether a value speaks of what a rule found in it: words before it, or around it.
bool waf_is_told(struct waf_str name, struct waf_str value, enum waf_origin origin);
/// Where a text begins: behind the marks of a list, a quotation, a heading, a mention.
size_t waf_skip_lead(struct waf_str s);
/// A word of SQL or of a shell, which attacks have as well as texts.
bool waf_is_machine_word(struct waf_str word);
/// A line of commands that begins with a developer's tool.
bool waf_is_command_line(struct waf_str s);
/// So many lines of words at least, that begin as code and configurations do.
bool waf_is_lines(struct waf_str s, size_t lines_least, size_t bytes_least);
/// Code, a configuration or a log of some lines; a table, a page, a line of an access log.
bool waf_is_listing(struct waf_str s);
/// HTML (or XML in a value) of harmless elements and attributes only: no rule for markup needs to
/// see it. Its text, entities decoded, and its attributes' values are left in `parts` (struct
/// waf_str, in the arena).
bool waf_is_harmless_markup(struct waf_tx *tx, struct waf_str s, struct waf_vec *parts);
/// An image as a data: URI, whole.
bool waf_is_data_image(struct waf_str s);
void waf_body_multipart(struct waf_tx *tx, struct waf_str body);
void waf_body_json(struct waf_tx *tx, struct waf_str body);
/// Texts of the documents of JSON that an argument begins with, as arguments named NAME.PATH.
/// @return what is left behind the last whole one
struct waf_str waf_json_inner(struct waf_tx *tx, struct waf_str name, struct waf_str text);
void waf_body_xml(struct waf_tx *tx, struct waf_str body);

// pm.c
struct waf_pm *waf_pm_new(const struct waf_str *phrases, unsigned n); ///< copied
void waf_pm_free(struct waf_pm *pm);
bool waf_pm_find(const struct waf_pm *pm, struct waf_str s, struct waf_str *found);
size_t waf_pm_memory(const struct waf_pm *pm);
unsigned waf_pm_phrases(const struct waf_pm *pm, const struct waf_str **out);

// address.c
struct waf_cidr {
    unsigned char address[16]; // IPv4 as ::ffff:a.b.c.d
    unsigned bits;
};
bool waf_address_parse(struct waf_str s, unsigned char out[16]);
bool waf_cidr_parse(struct waf_str s, struct waf_cidr *out);
bool waf_cidr_holds(const struct waf_cidr *c, const unsigned char address[16]);

// injection.c
bool waf_is_sqli(struct waf_str s, char fingerprint[16]);
bool waf_is_xss(struct waf_str s);
extern const uint64_t waf_sqli_bytes[4]; // a value without any of these bytes is no SQL
extern const uint64_t waf_xss_bytes[4];

// store.c
/// Place of a collection in waf_tx.stores; -1 for TX and GEO.
static inline int waf_store_index(enum waf_var v)
{
    return v == WAF_VAR_GLOBAL     ? 0
           : v == WAF_VAR_IP       ? 1
           : v == WAF_VAR_RESOURCE ? 2
           : v == WAF_VAR_SESSION  ? 3
           : v == WAF_VAR_USER     ? 4
                                   : -1;
}
/// The record of a collection that a rule has opened, as it is when it is first asked for; NULL: none has.
struct waf_record *waf_record_of(struct waf_tx *tx, enum waf_var collection);
/// Gives what has changed to the keeper; what others have added meanwhile stays.
void waf_record_close(struct waf_tx *tx, struct waf_record *r);
bool waf_record_get(struct waf_record *r, struct waf_str name, int64_t now_s, struct waf_str *out);
void waf_record_set(struct waf_tx *tx, struct waf_record *r, struct waf_str name,
                    struct waf_str value);
void waf_record_add(struct waf_tx *tx, struct waf_record *r, struct waf_str name, long by);
void waf_record_unset(struct waf_record *r, struct waf_str name);
void waf_record_expire(struct waf_record *r, struct waf_str name, int64_t at_s);
/// Takes off "AMOUNT/SECONDS" for each period since the record was changed last.
void waf_record_deprecate(struct waf_tx *tx, struct waf_record *r, struct waf_str name,
                          struct waf_str by);
/// CREATE_TIME, IS_NEW and the like. @return false: it has no such thing
bool waf_record_fact(const struct waf_record *r, struct waf_str name, const struct waf_tx *tx,
                     long *out);
size_t waf_record_count(const struct waf_record *r);
bool waf_record_at(const struct waf_record *r, size_t i, int64_t now_s, struct waf_str *name,
                   struct waf_str *value);

// secrecy.c
bool waf_is_secret(struct waf_str name); ///< by its name
bool waf_hides(const struct waf_tx *tx, const struct waf_fired *f);
bool waf_is_whole(enum waf_var var);
/// Keeps a variable's value out of the log; an empty name: of what matched.
void waf_sanitise(struct waf_tx *tx, struct waf_str what);

// log.c
/// Notes for the log that the chain of `tested`, its last rule, matched.
void waf_fire(struct waf_tx *tx, const struct waf_rule *tested, bool denied);
/// ModSecurity's line for one such note, without the newline.
void waf_error_line(struct waf_out *out, const struct waf_tx *tx, const struct waf_fired *f);
extern const char *const waf_severities[8];
