// SPDX-License-Identifier: Apache-2.0
// Rules of SecLang: targets, operator, actions.
#include "waf/compile.h"

#include <stdio.h>
#include <stdlib.h>

static struct waf_str trim(struct waf_str s)
{
    while (s.n != 0 && waf_is_space((unsigned char)s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n != 0 && waf_is_space((unsigned char)s.p[s.n - 1])) {
        s.n--;
    }
    return s;
}

static struct waf_str keep(struct waf_compiler *c, struct waf_str s)
{
    return waf_dup(&c->rules->arena, s);
}

// --- names of TX ------------------------------------------------------------------------

int waf_slot_of(const struct waf_ruleset *rules, struct waf_str name)
{
    uint32_t mask = rules->slot_map_size - 1;
    for (uint32_t i = waf_ihash(name) & mask; rules->slot_map[i] != 0; i = (i + 1) & mask) {
        uint32_t slot = rules->slot_map[i] - 1;
        if (waf_ieq(rules->slot_names[slot], name)) {
            return (int)slot;
        }
    }
    return -1;
}

static void slot_map_put(struct waf_ruleset *rules, uint32_t slot)
{
    uint32_t mask = rules->slot_map_size - 1;
    uint32_t i = waf_ihash(rules->slot_names[slot]) & mask;
    while (rules->slot_map[i] != 0) {
        i = (i + 1) & mask;
    }
    rules->slot_map[i] = slot + 1;
}

int waf_slot_intern(struct waf_ruleset *rules, struct waf_str name)
{
    int slot = waf_slot_of(rules, name);
    if (slot >= 0) {
        return slot;
    }
    if (rules->slot_count * 2 >= rules->slot_map_size) {
        uint32_t size = rules->slot_map_size * 2;
        struct waf_str *names = waf_alloc(&rules->arena, sizeof *names * size);
        memcpy(names, rules->slot_names, sizeof *names * rules->slot_count);
        rules->slot_names = names;
        rules->slot_map = waf_zalloc(&rules->arena, sizeof *rules->slot_map * size);
        rules->slot_map_size = size;
        for (uint32_t i = 0; i < rules->slot_count; i++) {
            slot_map_put(rules, i);
        }
    }
    rules->slot_names[rules->slot_count] = waf_dup(&rules->arena, name);
    slot_map_put(rules, rules->slot_count);
    return (int)rules->slot_count++;
}

// --- targets ------------------------------------------------------------------------------

static bool is_pattern(struct waf_str s)
{
    return s.n >= 2 && s.p[0] == '/' && s.p[s.n - 1] == '/';
}

static bool xml_target(struct waf_compiler *c, struct waf_str path, struct waf_target *t)
{
    if (waf_eq(path, WAF_LIT("//@*"))) {
        t->var = WAF_VAR_XML_ATTRIBUTES;
    } else if (path.n != 0 && !waf_eq(path, WAF_LIT("/*"))) {
        return waf_fail(c, "XML takes /* or //@*, got '%.*s'", (int)path.n, path.p);
    }
    return true;
}

// "NAME", "NAME:key", "NAME:/pattern/"; what stands before the name is the caller's.
bool waf_parse_target(struct waf_compiler *c, struct waf_str s, struct waf_target *t)
{
    const char *error, *colon = s.n == 0 ? NULL : memchr(s.p, ':', s.n);
    struct waf_str name = {s.p, colon == NULL ? s.n : (size_t)(colon - s.p)}, key = {NULL, 0};
    if (colon == NULL && (colon = s.n == 0 ? NULL : memchr(s.p, '.', s.n)) != NULL) {
        name.n = (size_t)(colon - s.p); // macros write tx.name
    }
    *t = (struct waf_target){.slot = -1};
    if (waf_ieq(name, WAF_LIT("MULTIPART_INVALID_LF_LINE"))) {
        name = WAF_LIT("MULTIPART_LF_LINE");
    }
    if (!waf_var_find(name, &t->var)) {
        return waf_fail(c, "unknown variable '%.*s'", (int)name.n, name.p);
    }
    if (colon != NULL) {
        key = (struct waf_str){colon + 1, s.n - name.n - 1};
        if (key.n >= 2 && key.p[0] == '\'' && key.p[key.n - 1] == '\'') {
            key = (struct waf_str){key.p + 1, key.n - 2};
        }
    }
    if (t->var == WAF_VAR_XML) {
        return xml_target(c, key, t);
    }
    if (key.n == 0) {
        return true;
    }
    t->key = keep(c, key);
    if (waf_var_table[t->var].shape == WAF_SHAPE_ONE) {
        return waf_fail(c, "%.*s is one value and has no ':%.*s'", (int)name.n, name.p, (int)key.n,
                        key.p);
    }
    if (is_pattern(key)) {
        struct waf_str pattern = {key.p + 1, key.n - 2};
        t->key_re = waf_re_compile(c->rules, keep(c, pattern), PCRE2_CASELESS, &error);
        return t->key_re != NULL || waf_fail(c, "%s", error);
    }
    if (t->var == WAF_VAR_GEO && !waf_geo_has(key)) {
        return waf_fail(c, "GEO has COUNTRY_CODE, COUNTRY_CONTINENT and CITY, not '%.*s'",
                        (int)key.n, key.p);
    }
    if (t->var == WAF_VAR_TX) {
        t->slot = c->overlay ? -1 : waf_slot_intern(c->rules, key);
    }
    return true;
}

// Splits at '|', not within quotes nor within /…/.
bool waf_parse_targets(struct waf_compiler *c, struct waf_str s, struct waf_vec *in,
                       struct waf_vec *out)
{
    size_t i = 0;
    while (i < s.n) {
        struct waf_target t;
        bool count = false, exclude = false, quoted = false, pattern = false;
        while (i < s.n && (waf_is_space((unsigned char)s.p[i]) || s.p[i] == '|' || s.p[i] == ',')) {
            i++;
        }
        if (i == s.n) {
            break;
        }
        while (i < s.n && (s.p[i] == '!' || s.p[i] == '&')) {
            count |= s.p[i] == '&';
            exclude |= s.p[i++] == '!';
        }
        size_t start = i;
        for (; i < s.n; i++) {
            char ch = s.p[i], before = i > start ? s.p[i - 1] : '\0';
            if (ch == '\'' && before != '\\') {
                quoted = !quoted;
            } else if (!quoted && ch == '/' && before == ':' && !pattern) {
                const char *close = memchr(s.p + i + 1, '/', s.n - i - 1);
                pattern = close != NULL && s.p[i + 1] != '*' && s.p[i + 1] != '/';
            } else if (pattern && ch == '/' && before != '\\') {
                pattern = false;
            } else if (!quoted && !pattern && (ch == '|' || ch == ',')) {
                break;
            }
        }
        if (!waf_parse_target(c, trim((struct waf_str){s.p + start, i - start}), &t)) {
            return false;
        }
        t.is_count = count;
        t.is_exclude = exclude;
        *(struct waf_target *)waf_push(&c->scratch, exclude ? out : in, sizeof t) = t;
    }
    return true;
}

// --- macros ---------------------------------------------------------------------------------

const struct waf_macro *waf_parse_macro(struct waf_compiler *c, struct waf_str s)
{
    struct waf_vec parts = {0};
    struct waf_arena *a = &c->rules->arena;
    size_t from = 0;
    for (size_t i = 0; i + 2 < s.n && parts.n < 29;) {
        const char *close = NULL;
        if (s.p[i] == '%' && s.p[i + 1] == '{') {
            close = memchr(s.p + i, '}', s.n - i);
        }
        if (close == NULL) {
            i++;
            continue;
        }
        if (i > from) {
            struct waf_part *lit = waf_push(&c->scratch, &parts, sizeof *lit);
            *lit = (struct waf_part){.text = keep(c, (struct waf_str){s.p + from, i - from})};
        }
        struct waf_str name = {s.p + i + 2, (size_t)(close - s.p) - i - 2};
        struct waf_target *t = waf_alloc(a, sizeof *t);
        struct waf_part *part = waf_push(&c->scratch, &parts, sizeof *part);
        *part = (struct waf_part){.text = WAF_LIT("")};
        if (!waf_parse_target(c, name, t)) {
            return NULL;
        }
        part->target = t;
        i = from = (size_t)(close - s.p) + 1;
    }
    if (from < s.n || parts.n == 0) {
        struct waf_part *lit = waf_push(&c->scratch, &parts, sizeof *lit);
        *lit = (struct waf_part){.text = keep(c, (struct waf_str){s.p + from, s.n - from})};
    }
    struct waf_macro *m = waf_alloc(a, sizeof *m);
    struct waf_part *copy = waf_alloc(a, sizeof *copy * parts.n);
    memcpy(copy, parts.items, sizeof *copy * parts.n);
    *m = (struct waf_macro){copy, parts.n};
    return m;
}

static bool is_constant(const struct waf_macro *m)
{
    return m->n == 1 && m->parts[0].target == NULL;
}

// --- actions --------------------------------------------------------------------------------

static struct waf_action *action_add(struct waf_compiler *c, struct waf_rule *rule,
                                     enum waf_action_kind kind)
{
    if (rule->action_count == rule->action_cap) {
        unsigned cap = rule->action_cap == 0 ? 4 : rule->action_cap * 2;
        struct waf_action *more = waf_alloc(&c->rules->arena, sizeof *more * cap);
        if (rule->action_count != 0) {
            memcpy(more, rule->actions, sizeof *more * rule->action_count);
        }
        rule->actions = more;
        rule->action_cap = cap;
    }
    struct waf_action *a = &rule->actions[rule->action_count++];
    *a = (struct waf_action){.kind = kind, .slot = -1};
    return a;
}

// "collection.name" of setvar and its kin.
static bool variable_name(struct waf_compiler *c, struct waf_action *a, struct waf_str s)
{
    const char *dot = s.n == 0 ? NULL : memchr(s.p, '.', s.n);
    struct waf_str collection = {s.p, dot == NULL ? 0 : (size_t)(dot - s.p)}, name;
    if (dot == NULL || !waf_var_find(collection, &a->collection) ||
        waf_var_table[a->collection].shape != WAF_SHAPE_STORE || a->collection == WAF_VAR_GEO) {
        return waf_fail(c, "a variable to set is COLLECTION.NAME, got '%.*s'", (int)s.n, s.p);
    }
    name = (struct waf_str){dot + 1, s.n - collection.n - 1};
    a->name = waf_parse_macro(c, name);
    if (a->name != NULL && is_constant(a->name) && a->collection == WAF_VAR_TX) {
        a->slot = waf_slot_intern(c->rules, name);
    }
    return a->name != NULL;
}

static bool action_setvar(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    struct waf_action *a = action_add(c, rule, WAF_ACTION_SETVAR);
    struct waf_str value = WAF_LIT("1");
    if (v.n != 0 && v.p[0] == '!') {
        a->assign = WAF_ASSIGN_UNSET;
        v.p++;
        v.n--;
    }
    const char *eq = v.n == 0 ? NULL : memchr(v.p, '=', v.n);
    if (eq != NULL) {
        value = (struct waf_str){eq + 1, v.n - (size_t)(eq - v.p) - 1};
        v.n = (size_t)(eq - v.p);
        if (value.n != 0 && (value.p[0] == '+' || value.p[0] == '-')) {
            a->assign = value.p[0] == '+' ? WAF_ASSIGN_ADD : WAF_ASSIGN_SUB;
            value.p++;
            value.n--;
        }
    }
    a->value = waf_parse_macro(c, value);
    return a->value != NULL && variable_name(c, a, v);
}

static bool action_expirevar(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v,
                             enum waf_action_kind kind)
{
    struct waf_action *a = action_add(c, rule, kind);
    const char *eq = v.n == 0 ? NULL : memchr(v.p, '=', v.n);
    struct waf_str value =
        eq == NULL ? WAF_LIT("1") : (struct waf_str){eq + 1, v.n - (size_t)(eq - v.p) - 1};
    a->value = waf_parse_macro(c, value);
    v.n = eq == NULL ? v.n : (size_t)(eq - v.p);
    return a->value != NULL && variable_name(c, a, v);
}

static bool action_initcol(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    struct waf_action *a = action_add(c, rule, WAF_ACTION_INITCOL);
    const char *eq = v.n == 0 ? NULL : memchr(v.p, '=', v.n);
    struct waf_str name = {v.p, eq == NULL ? 0 : (size_t)(eq - v.p)};
    if (eq == NULL || !waf_var_find(name, &a->collection) || waf_store_index(a->collection) < 0) {
        return waf_fail(c, "initcol wants COLLECTION=KEY, got '%.*s'", (int)v.n, v.p);
    }
    a->value = waf_parse_macro(c, (struct waf_str){eq + 1, v.n - name.n - 1});
    return a->value != NULL;
}

static bool on_off(struct waf_compiler *c, struct waf_str v, long *out)
{
    if (!waf_ieq(v, WAF_LIT("on")) && !waf_ieq(v, WAF_LIT("off"))) {
        return waf_fail(c, "On or Off wanted, got '%.*s'", (int)v.n, v.p);
    }
    *out = v.n == 2;
    return true;
}

static bool ctl_remove_target(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v,
                              enum waf_select by)
{
    struct waf_action *a = action_add(c, rule, WAF_ACTION_CTL_REMOVE_TARGET);
    const char *semi = v.n == 0 ? NULL : memchr(v.p, ';', v.n);
    if (semi == NULL) {
        return waf_fail(c, "RULES;TARGET wanted, got '%.*s'", (int)v.n, v.p);
    }
    struct waf_target *t = waf_alloc(&c->rules->arena, sizeof *t);
    a->select = (struct waf_selection){
        .by = by, .what = keep(c, (struct waf_str){v.p, (size_t)(semi - v.p)})};
    a->target = keep(c, (struct waf_str){semi + 1, v.n - a->select.what.n - 1});
    a->exclusion = t;
    return waf_parse_target(c, a->target, t);
}

static bool ctl_remove(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v,
                       enum waf_select by)
{
    struct waf_action *a = action_add(c, rule, WAF_ACTION_CTL_REMOVE);
    a->select = (struct waf_selection){.by = by, .what = keep(c, v)};
    return true;
}

static bool ctl_switch(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v,
                       enum waf_action_kind kind)
{
    long on = 0;
    if (!on_off(c, v, &on)) {
        return false;
    }
    action_add(c, rule, kind)->number = on;
    return true;
}

static bool ctl_limit(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v,
                      enum waf_action_kind kind)
{
    long n = waf_to_long(v);
    if (n <= 0) {
        return waf_fail(c, "a limit above 0 wanted, got '%.*s'", (int)v.n, v.p);
    }
    action_add(c, rule, kind)->number = n;
    return true;
}

static bool ctl_engine(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    struct waf_action *a = action_add(c, rule, WAF_ACTION_CTL_RULE_ENGINE);
    if (waf_ieq(v, WAF_LIT("DetectionOnly"))) {
        a->number = WAF_MODE_DETECTION;
        return true;
    }
    if (!on_off(c, v, &a->number)) {
        return false;
    }
    a->number = a->number != 0 ? WAF_MODE_PREVENTION : WAF_MODE_OFF;
    return true;
}

static bool action_ctl(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    const char *eq = v.n == 0 ? NULL : memchr(v.p, '=', v.n);
    if (eq == NULL) {
        return waf_fail(c, "ctl wants OPTION=VALUE, got '%.*s'", (int)v.n, v.p);
    }
    struct waf_str name = {v.p, (size_t)(eq - v.p)}, value = {eq + 1, v.n - name.n - 1};
#define IS(s) waf_ieq(name, WAF_LIT(s))
    if (IS("ruleEngine")) {
        return ctl_engine(c, rule, value);
    }
    if (IS("ruleRemoveById") || IS("ruleRemoveByTag") || IS("ruleRemoveByMsg")) {
        enum waf_select by = IS("ruleRemoveById")    ? WAF_SELECT_ID
                             : IS("ruleRemoveByTag") ? WAF_SELECT_TAG
                                                     : WAF_SELECT_MSG;
        return ctl_remove(c, rule, value, by);
    }
    if (IS("ruleRemoveTargetById") || IS("ruleRemoveTargetByTag") || IS("ruleRemoveTargetByMsg")) {
        enum waf_select by = IS("ruleRemoveTargetById")    ? WAF_SELECT_ID
                             : IS("ruleRemoveTargetByTag") ? WAF_SELECT_TAG
                                                           : WAF_SELECT_MSG;
        return ctl_remove_target(c, rule, value, by);
    }
    if (IS("forceRequestBodyVariable")) {
        return ctl_switch(c, rule, value, WAF_ACTION_CTL_FORCE_BODY);
    }
    if (IS("requestBodyAccess")) {
        return ctl_switch(c, rule, value, WAF_ACTION_CTL_REQUEST_BODY);
    }
    if (IS("responseBodyAccess")) {
        return ctl_switch(c, rule, value, WAF_ACTION_CTL_RESPONSE_BODY);
    }
    if (IS("requestBodyLimit")) {
        return ctl_limit(c, rule, value, WAF_ACTION_CTL_REQUEST_LIMIT);
    }
    if (IS("responseBodyLimit")) {
        return ctl_limit(c, rule, value, WAF_ACTION_CTL_RESPONSE_LIMIT);
    }
    if (IS("requestBodyProcessor")) {
        struct waf_action *a = action_add(c, rule, WAF_ACTION_CTL_PROCESSOR);
        a->value = waf_parse_macro(c, value);
        return a->value != NULL;
    }
    if (IS("auditEngine") || IS("auditLogParts") || IS("debugLogLevel")) {
        return true; // the audit log is the policy's: it has no parts to choose
    }
#undef IS
    return waf_fail(c, "unknown ctl option '%.*s'", (int)name.n, name.p);
}

static bool action_phase(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    rule->phase = waf_ieq(v, WAF_LIT("request"))    ? 2
                  : waf_ieq(v, WAF_LIT("response")) ? 4
                  : waf_ieq(v, WAF_LIT("logging"))  ? 5
                                                    : (unsigned)waf_to_long(v);
    return (rule->phase >= 1 && rule->phase <= WAF_PHASES) ||
           waf_fail(c, "phase is 1 to 5, got '%.*s'", (int)v.n, v.p);
}

static bool action_severity(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    static const char *const names[] = {"EMERGENCY", "ALERT",  "CRITICAL", "ERROR",
                                        "WARNING",   "NOTICE", "INFO",     "DEBUG"};
    for (int i = 0; i < 8; i++) {
        if (waf_ieq(v, waf_cstr(names[i]))) {
            rule->severity = i;
            return true;
        }
    }
    rule->severity = (int)waf_to_long(v);
    return (v.n != 0 && waf_is_digit((unsigned char)v.p[0]) && rule->severity < 8) ||
           waf_fail(c, "unknown severity '%.*s'", (int)v.n, v.p);
}

static bool action_transform(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    if (waf_ieq(v, WAF_LIT("none"))) {
        rule->list_count = 0;
        rule->list_reset = true;
        return true;
    }
    const struct waf_transform *t = waf_transform_find(v);
    if (t == NULL) {
        return waf_fail(c, "unknown transformation '%.*s'", (int)v.n, v.p);
    }
    const struct waf_transform **more =
        waf_alloc(&c->rules->arena, sizeof *more * (rule->list_count + 1));
    if (rule->list_count != 0) {
        memcpy(more, rule->list, sizeof *more * rule->list_count);
    }
    more[rule->list_count++] = t;
    rule->list = more;
    return true;
}

static bool action_tag(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    const char **more = waf_alloc(&c->rules->arena, sizeof *more * (rule->tag_count + 1));
    if (rule->tag_count != 0) {
        memcpy(more, rule->tags, sizeof *more * rule->tag_count);
    }
    more[rule->tag_count++] = keep(c, v).p;
    rule->tags = more;
    return true;
}

static bool action_allow(struct waf_compiler *c, struct waf_rule *rule, struct waf_str v)
{
    rule->disruptive = v.n == 0                         ? WAF_DISRUPT_ALLOW
                       : waf_ieq(v, WAF_LIT("phase"))   ? WAF_DISRUPT_ALLOW_PHASE
                       : waf_ieq(v, WAF_LIT("request")) ? WAF_DISRUPT_ALLOW_REQUEST
                                                        : WAF_DISRUPT_UNSET;
    return rule->disruptive != WAF_DISRUPT_UNSET ||
           waf_fail(c, "allow takes phase or request, got '%.*s'", (int)v.n, v.p);
}

// @return false: it is another action
static bool action_sanitise(struct waf_compiler *c, struct waf_rule *rule, struct waf_str name,
                            struct waf_str v)
{
    static const struct {
        const char *action, *variable; // NULL: what matched, its bytes or all of it
    } table[] = {
        {"sanitiseArg", "ARGS"},
        {"sanitiseRequestHeader", "REQUEST_HEADERS"},
        {"sanitiseResponseHeader", "RESPONSE_HEADERS"},
        {"sanitiseMatched", NULL},
        {"sanitiseMatchedBytes", NULL},
        {"sanitizeArg", "ARGS"},
        {"sanitizeRequestHeader", "REQUEST_HEADERS"},
        {"sanitizeResponseHeader", "RESPONSE_HEADERS"},
        {"sanitizeMatched", NULL},
        {"sanitizeMatchedBytes", NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (waf_ieq(name, waf_cstr(table[i].action)) && (v.n != 0 || table[i].variable == NULL)) {
            action_add(c, rule, WAF_ACTION_SANITISE)->target =
                table[i].variable == NULL
                    ? WAF_LIT("")
                    : waf_printf(&c->rules->arena, "%s:%.*s", table[i].variable, (int)v.n, v.p);
            return true;
        }
    }
    return false;
}

static bool action_value(struct waf_compiler *c, struct waf_rule *rule, struct waf_str name,
                         struct waf_str v)
{
#define IS(s) waf_ieq(name, WAF_LIT(s))
    if (IS("t")) {
        return action_transform(c, rule, v);
    }
    if (IS("tag")) {
        return action_tag(c, rule, v);
    }
    if (IS("setvar")) {
        return action_setvar(c, rule, v);
    }
    if (IS("ctl")) {
        return action_ctl(c, rule, v);
    }
    if (IS("expirevar") || IS("deprecatevar")) {
        return action_expirevar(c, rule, v,
                                IS("expirevar") ? WAF_ACTION_EXPIREVAR : WAF_ACTION_DEPRECATEVAR);
    }
    if (IS("initcol")) {
        return action_initcol(c, rule, v);
    }
    if (IS("setenv")) {
        action_add(c, rule, WAF_ACTION_SETENV);
        return true;
    }
    if (IS("phase")) {
        return action_phase(c, rule, v);
    }
    if (IS("severity")) {
        return action_severity(c, rule, v);
    }
    if (IS("msg")) {
        rule->msg_text = keep(c, v);
        return (rule->msg = waf_parse_macro(c, v)) != NULL;
    }
    if (IS("logdata")) {
        rule->logdata_text = keep(c, v);
        return (rule->logdata = waf_parse_macro(c, v)) != NULL;
    }
    if (IS("redirect")) {
        rule->disruptive = WAF_DISRUPT_REDIRECT;
        return (rule->redirect = waf_parse_macro(c, v)) != NULL;
    }
    if (IS("id")) {
        rule->id = (int)waf_to_long(v);
        return rule->id > 0 || waf_fail(c, "id is a number above 0, got '%.*s'", (int)v.n, v.p);
    }
    if (IS("ver")) {
        rule->ver = keep(c, v);
    } else if (IS("rev")) {
        rule->rev = keep(c, v);
    } else if (IS("status")) {
        rule->status = (int)waf_to_long(v);
        return (rule->status >= 100 && rule->status <= 599) ||
               waf_fail(c, "status is 100 to 599, got '%.*s'", (int)v.n, v.p);
    } else if (IS("skipAfter")) {
        rule->skip_after = keep(c, v);
    } else if (IS("skip")) {
        rule->skip = (unsigned)waf_to_long(v);
    } else if (IS("maturity")) {
        rule->maturity = (int)waf_to_long(v);
    } else if (IS("accuracy")) {
        rule->accuracy = (int)waf_to_long(v);
    } else if (!IS("xmlns") && !action_sanitise(c, rule, name, v)) {
        return waf_fail(c, "unknown action '%.*s'", (int)name.n, name.p);
    }
#undef IS
    return true;
}

static bool action_word(struct waf_compiler *c, struct waf_rule *rule, struct waf_str name)
{
#define IS(s) waf_ieq(name, WAF_LIT(s))
    if (IS("pass")) {
        rule->disruptive = WAF_DISRUPT_PASS;
    } else if (IS("block")) {
        rule->disruptive = WAF_DISRUPT_BLOCK;
    } else if (IS("deny")) {
        rule->disruptive = WAF_DISRUPT_DENY;
    } else if (IS("drop")) {
        rule->disruptive = WAF_DISRUPT_DROP;
    } else if (IS("allow")) {
        return action_allow(c, rule, WAF_LIT(""));
    } else if (IS("log")) {
        rule->log = 1;
    } else if (IS("nolog")) {
        rule->log = rule->auditlog = 0;
    } else if (IS("auditlog")) {
        rule->auditlog = 1;
    } else if (IS("noauditlog")) {
        rule->auditlog = 0;
    } else if (IS("capture")) {
        rule->capture = true;
    } else if (IS("multiMatch")) {
        rule->multi_match = true;
    } else if (IS("chain")) {
        rule->wants_chain = true;
    } else if (!action_sanitise(c, rule, name, WAF_LIT(""))) {
        return waf_fail(c, "unknown action '%.*s'", (int)name.n, name.p);
    }
#undef IS
    return true;
}

// 'quoted, with \' inside' or bare up to a comma. @return what follows
static size_t action_text(struct waf_compiler *c, struct waf_str s, size_t i, struct waf_str *out)
{
    while (i < s.n && waf_is_space((unsigned char)s.p[i])) {
        i++;
    }
    if (i >= s.n || s.p[i] != '\'') {
        size_t start = i;
        while (i < s.n && s.p[i] != ',') {
            i++;
        }
        *out = trim((struct waf_str){s.p + start, i - start});
        return i;
    }
    char *buf = waf_alloc(&c->scratch, s.n - i), *d = buf;
    for (i++; i < s.n && s.p[i] != '\''; i++) {
        if (s.p[i] == '\\' && i + 1 < s.n && s.p[i + 1] == '\'') {
            i++;
        }
        *d++ = s.p[i];
    }
    *out = (struct waf_str){buf, (size_t)(d - buf)};
    if (i >= s.n) {
        waf_fail(c, "missing ' at the end of an action's value");
    }
    return i + 1;
}

bool waf_parse_actions(struct waf_compiler *c, struct waf_rule *rule, struct waf_str s)
{
    size_t i = 0;
    while (!c->failed) {
        while (i < s.n && (waf_is_space((unsigned char)s.p[i]) || s.p[i] == ',')) {
            i++;
        }
        if (i >= s.n) {
            break;
        }
        size_t start = i;
        while (i < s.n && s.p[i] != ':' && s.p[i] != ',') {
            i++;
        }
        struct waf_str name = trim((struct waf_str){s.p + start, i - start}), value;
        if (i >= s.n || s.p[i] == ',') {
            (void)action_word(c, rule, name);
            continue;
        }
        i = action_text(c, s, i + 1, &value);
        if (c->failed) {
            break;
        }
        if (waf_ieq(name, WAF_LIT("allow"))) {
            (void)action_allow(c, rule, value);
        } else {
            (void)action_value(c, rule, name, value);
        }
        if (!c->failed) {
            while (i < s.n && waf_is_space((unsigned char)s.p[i])) {
                i++;
            }
            if (i < s.n && s.p[i] != ',') {
                return waf_fail(c, "a comma wanted after action '%.*s'", (int)name.n, name.p);
            }
        }
    }
    return !c->failed;
}

// --- operators ------------------------------------------------------------------------------

static bool op_kind(struct waf_str name, enum waf_op_kind *kind, const char **as)
{
    static const char *const names[] = {
#define OPERATOR(name, kind, numeric) #name,
#include "waf/operator.def"
#undef OPERATOR
    };
    for (int i = 0; i < WAF_OPS; i++) {
        if (waf_ieq(name, waf_cstr(names[i]))) {
            *kind = (enum waf_op_kind)i;
            *as = names[i];
            return true;
        }
    }
    return false;
}

static bool reads_file(enum waf_op_kind k)
{
    return k == WAF_OP_PM_FILE || k == WAF_OP_PM_FILE2 || k == WAF_OP_IP_MATCH_FILE ||
           k == WAF_OP_IP_MATCH_FILE2;
}

static bool has_macro(struct waf_str s)
{
    return waf_find(s, WAF_LIT("%{")) >= 0;
}

static struct waf_op *op_new(struct waf_compiler *c, enum waf_op_kind kind, const char *name,
                             struct waf_str param)
{
    for (struct waf_op *o = c->rules->ops; o != NULL && !reads_file(kind); o = o->next) {
        if (o->kind == kind && waf_eq(o->param, param)) {
            return o;
        }
    }
    struct waf_op *op = waf_zalloc(&c->rules->arena, sizeof *op);
    op->kind = kind;
    op->name = name;
    op->param = keep(c, param);
    op->bit[0] = op->bit[1] = WAF_NO_BIT;
    bool expands = kind != WAF_OP_PM && !reads_file(kind) && kind != WAF_OP_IP_MATCH;
    if (expands && has_macro(param) && (op->macro = waf_parse_macro(c, param)) == NULL) {
        return NULL;
    }
    const char *error = waf_op_prepare(c->rules, op, c->file, &c->scratch);
    if (error != NULL) {
        waf_fail(c, "@%s: %s", name, error);
        return NULL;
    }
    op->next = c->rules->ops;
    c->rules->ops = op;
    return op;
}

static bool parse_op(struct waf_compiler *c, struct waf_rule *rule, struct waf_str s)
{
    enum waf_op_kind kind = WAF_OP_RX;
    const char *as = "rx";
    rule->op_text = keep(c, s);
    if (s.n != 0 && s.p[0] == '!') {
        rule->negated = true;
        s.p++;
        s.n--;
        while (s.n != 0 && waf_is_space((unsigned char)s.p[0])) {
            s.p++;
            s.n--;
        }
    }
    if (s.n != 0 && s.p[0] == '@') {
        size_t n = 1;
        while (n < s.n && !waf_is_space((unsigned char)s.p[n])) {
            n++;
        }
        struct waf_str name = {s.p + 1, n - 1};
        if (!op_kind(name, &kind, &as)) {
            return waf_fail(c, "unknown operator '@%.*s'", (int)name.n, name.p);
        }
        while (n < s.n && waf_is_space((unsigned char)s.p[n])) {
            n++;
        }
        s = (struct waf_str){s.p + n, s.n - n};
    }
    rule->op = op_new(c, kind, as, s);
    return rule->op != NULL;
}

// --- rules ----------------------------------------------------------------------------------

static struct waf_rule *rule_new(struct waf_compiler *c)
{
    struct waf_rule *r = waf_zalloc(&c->rules->arena, sizeof *r);
    r->file = c->file;
    r->line = c->line;
    r->log = r->auditlog = -1;
    r->severity = -1;
    r->jump = UINT32_MAX;
    r->starter = r;
    return r;
}

static void rule_load(struct waf_compiler *c, struct waf_rule *r)
{
    r->index = c->loaded.n;
    *(struct waf_rule **)waf_push(&c->scratch, &c->loaded, sizeof(struct waf_rule *)) = r;
}

static void take_targets(struct waf_compiler *c, struct waf_rule *r, const struct waf_vec *in,
                         const struct waf_vec *out)
{
    r->targets = waf_alloc(&c->rules->arena, sizeof *r->targets * (in->n + 1));
    r->excludes = waf_alloc(&c->rules->arena, sizeof *r->excludes * (out->n + 1));
    if (in->n != 0) {
        memcpy(r->targets, in->items, sizeof *r->targets * in->n);
    }
    if (out->n != 0) {
        memcpy(r->excludes, out->items, sizeof *r->excludes * out->n);
    }
    r->target_count = in->n;
    r->exclude_count = out->n;
}

// What tells of one rule alone. @return NULL: nothing
static const char *metadata_of(const struct waf_rule *r)
{
    bool tells = r->id != 0 || r->severity >= 0 || r->maturity != 0 || r->accuracy != 0 ||
                 r->msg != NULL || r->logdata != NULL || r->rev.p != NULL || r->ver.p != NULL;
    return tells ? "id, msg, logdata, severity, rev, ver, maturity or accuracy" : NULL;
}

// What only the first rule of a chain may say; in another it would do nothing.
static const char *starters_own(const struct waf_rule *r)
{
    if (r->disruptive != WAF_DISRUPT_UNSET) {
        return "a disruptive action";
    }
    if (r->phase != 0) {
        return "a phase";
    }
    if (r->skip != 0 || r->skip_after.p != NULL) {
        return "skip or skipAfter";
    }
    return metadata_of(r);
}

bool waf_compile_rule(struct waf_compiler *c, struct waf_str targets, struct waf_str op,
                      struct waf_str actions, bool has_op)
{
    struct waf_rule *r = rule_new(c);
    struct waf_vec in = {0}, out = {0};
    if (has_op) {
        if (!waf_parse_targets(c, targets, &in, &out) || !parse_op(c, r, op)) {
            return false;
        }
        if (in.n == 0) {
            return waf_fail(c, "SecRule wants a variable");
        }
        take_targets(c, r, &in, &out);
    }
    if (!waf_parse_actions(c, r, actions)) {
        return false;
    }
    if (c->chain != NULL) {
        const char *own = starters_own(r);
        if (own != NULL) {
            return waf_fail(c, "only the first rule of a chain may have %s", own);
        }
        r->is_chained = true;
        r->starter = c->chain->starter;
        r->phase = r->starter->phase;
        c->chain->chain = r;
    } else {
        r->phase = r->phase == 0 ? 2 : r->phase;
        if (r->phase == WAF_PHASES && waf_is_denial(r->disruptive)) {
            return waf_fail(c, "phase 5 comes after the answer: nothing can be refused there");
        }
        if (r->id == 0) {
            return waf_fail(c, "a rule wants an id");
        }
        if (!waf_note_id(c, r)) {
            return waf_fail(c, "another rule has id %d", r->id);
        }
    }
    const struct waf_rule *def = c->defaults[r->phase].rule;
    if (!r->list_reset && def != NULL && def->list_count != 0) {
        const struct waf_transform **all =
            waf_alloc(&c->rules->arena, sizeof *all * (def->list_count + r->list_count));
        memcpy(all, def->list, sizeof *all * def->list_count);
        memcpy(all + def->list_count, r->list, sizeof *all * r->list_count);
        r->list = all;
        r->list_count += def->list_count;
    }
    if (!r->is_chained) {
        r->log = r->log >= 0 ? r->log : def != NULL && def->log >= 0 ? def->log : 1;
        if (r->disruptive == WAF_DISRUPT_UNSET || r->disruptive == WAF_DISRUPT_BLOCK) {
            r->disruptive = def != NULL && def->disruptive != WAF_DISRUPT_UNSET ? def->disruptive
                                                                                : WAF_DISRUPT_PASS;
            r->redirect = def != NULL ? def->redirect : NULL;
            r->status = r->status == 0 && def != NULL ? def->status : r->status;
        }
    }
    c->chain = r->wants_chain ? r : NULL;
    rule_load(c, r);
    return true;
}

bool waf_compile_marker(struct waf_compiler *c, struct waf_str label)
{
    struct waf_rule *r = rule_new(c);
    if (c->chain != NULL) {
        return waf_fail(c, "a chain ends in SecMarker");
    }
    r->is_marker = true;
    r->label = keep(c, label);
    rule_load(c, r);
    return true;
}

bool waf_compile_default(struct waf_compiler *c, struct waf_str actions)
{
    struct waf_rule *r = rule_new(c);
    if (!waf_parse_actions(c, r, actions)) {
        return false;
    }
    if (r->phase == 0) {
        return waf_fail(c, "SecDefaultAction wants a phase");
    }
    const char *tells = metadata_of(r);
    if (tells != NULL) {
        return waf_fail(c, "SecDefaultAction cannot have %s", tells);
    }
    if (r->disruptive == WAF_DISRUPT_UNSET || r->disruptive == WAF_DISRUPT_BLOCK) {
        return waf_fail(c, "SecDefaultAction wants a disruptive action other than block");
    }
    c->defaults[r->phase] = (struct waf_defaults){true, r};
    return true;
}
