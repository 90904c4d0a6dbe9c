// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The SecLang compiler's own state: gone when a rule set is loaded.
#include "waf/waf.h"

struct waf_defaults {
    bool set;
    struct waf_rule *rule; // its actions
};

struct waf_compiler {
    struct waf_ruleset *rules;
    struct waf_arena scratch;
    struct waf_error *error;
    bool failed;
    const char *file; // of the line being read; in the rule set's arena
    int line;
    int depth;       // of includes
    bool in_text;    // a source given as text
    int skip_blocks; // within so many <If…> that do not hold
    int open_blocks;
    struct waf_defaults defaults[WAF_PHASES + 1];
    struct waf_vec loaded;  // struct waf_rule *, in order
    struct waf_rule *chain; // last rule that wants one more, or NULL
    uint64_t *removed;      // by index in `loaded`
    size_t removed_words;
    bool overlay; // only removals and target updates are allowed
    struct waf_overlay *into;
    uint32_t *ids; // open addressing: index in loaded + 1
    uint32_t id_size, id_count;
};

/// Notes "FILE:LINE: …" and returns false.
bool waf_fail(struct waf_compiler *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// seclang_rule.c
bool waf_compile_rule(struct waf_compiler *c, struct waf_str targets, struct waf_str op,
                      struct waf_str actions, bool has_op);
bool waf_compile_marker(struct waf_compiler *c, struct waf_str label);
bool waf_compile_default(struct waf_compiler *c, struct waf_str actions);
bool waf_parse_targets(struct waf_compiler *c, struct waf_str s, struct waf_vec *in,
                       struct waf_vec *out);
bool waf_parse_actions(struct waf_compiler *c, struct waf_rule *rule, struct waf_str s);
const struct waf_macro *waf_parse_macro(struct waf_compiler *c, struct waf_str s);
int waf_slot_intern(struct waf_ruleset *rules, struct waf_str name);
bool waf_parse_target(struct waf_compiler *c, struct waf_str s, struct waf_target *t);

// link.c
bool waf_select_rules(struct waf_compiler *c, struct waf_selection *s);
void waf_exclude_target(struct waf_compiler *c, struct waf_rule *r, const struct waf_target *t);
bool waf_link(struct waf_compiler *c);
struct waf_rule *waf_rule_by_id(const struct waf_compiler *c, int id);
bool waf_note_id(struct waf_compiler *c, struct waf_rule *rule);
uint32_t waf_step_of(struct waf_ruleset *rules, const struct waf_transform *const *list,
                     unsigned n);
