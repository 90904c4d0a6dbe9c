/* SPDX-License-Identifier: Apache-2.0 */
#include "http/cache_control.h"

#include "http/chars.h"
#include "http/structured.h"

enum { DELTA_MAX = INT32_MAX };

void moon_cache_control_init(struct moon_cache_control *cc)
{
    *cc = (struct moon_cache_control){
        .max_age_s = MOON_CC_ABSENT,
        .s_maxage_s = MOON_CC_ABSENT,
        .stale_while_revalidate_s = MOON_CC_ABSENT,
        .stale_if_error_s = MOON_CC_ABSENT,
        .min_fresh_s = MOON_CC_ABSENT,
        .max_stale_s = MOON_CC_ABSENT,
    };
}

bool moon_delta_seconds(struct moon_slice text, int64_t *seconds)
{
    int64_t value = 0;
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        if (value <= DELTA_MAX)
            value = value * 10 + (text.data[i] - '0');
    }
    *seconds = value > DELTA_MAX ? INT64_C(2147483648) : value;
    return true;
}

static size_t token_length(struct moon_slice s)
{
    size_t n = 0;
    while (n < s.len && s.data[n] != '=' && s.data[n] != ',' && s.data[n] != ' ' &&
           s.data[n] != '\t' && s.data[n] != '"')
        n++;
    return n;
}

// Up to the closing quote, which a backslash may hide. @return where the text goes on
static size_t quoted_length(struct moon_slice s)
{
    for (size_t at = 1; at < s.len; at++) {
        if (s.data[at] == '\\')
            at++;
        else if (s.data[at] == '"')
            return at;
    }
    return s.len;
}

bool moon_cache_control_next(struct moon_slice *rest, struct moon_slice *name,
                             struct moon_slice *argument, bool *is_quoted)
{
    struct moon_slice s = *rest;
    while (s.len > 0 && (s.data[0] == ',' || s.data[0] == ' ' || s.data[0] == '\t'))
        s = moon_slice_from(s, 1);
    if (s.len == 0)
        return false;
    size_t n = token_length(s);
    *name = moon_slice(s.data, n);
    *argument = moon_slice(NULL, 0);
    *is_quoted = false;
    s = moon_slice_from(s, n);
    if (s.len > 0 && s.data[0] == '=') {
        s = moon_slice_from(s, 1);
        if (s.len > 0 && s.data[0] == '"') {
            size_t end = quoted_length(s);
            *argument = moon_slice(s.data + 1, end > 0 ? end - 1 : 0);
            *is_quoted = true;
            s = moon_slice_from(s, moon_min_size(end + 1, s.len));
        } else {
            n = token_length(s);
            *argument = moon_slice(s.data, n);
            s = moon_slice_from(s, n);
        }
    }
    // What stands between here and the comma spoils the argument: "1 2", "1=2", `"1"2`.
    bool is_spoilt = false;
    while (s.len > 0 && s.data[0] != ',') {
        if (s.data[0] == '"') {
            s = moon_slice_from(s, moon_min_size(quoted_length(s) + 1, s.len));
            is_spoilt = true;
            continue;
        }
        is_spoilt = is_spoilt || (s.data[0] != ' ' && s.data[0] != '\t');
        s = moon_slice_from(s, 1);
    }
    if (is_spoilt)
        *argument = argument->data != NULL ? moon_slice("", 0) : *argument;
    *rest = s;
    return true;
}

static bool is_name(struct moon_slice name, const char *wanted)
{
    return moon_slice_is_nocase(name, moon_slice_text(wanted));
}

// The shorter of two lifetimes; one that is no number is 0: stale (RFC 9111 §4.2.1).
static void cc_lifetime(int64_t *into, struct moon_slice argument)
{
    int64_t seconds = 0;
    if (!moon_delta_seconds(argument, &seconds))
        seconds = 0;
    if (*into == MOON_CC_ABSENT || seconds < *into)
        *into = seconds;
}

// Allowances count only when they can be read.
static void cc_allowance(int64_t *into, struct moon_slice argument)
{
    int64_t seconds;
    if (moon_delta_seconds(argument, &seconds) && (*into == MOON_CC_ABSENT || seconds < *into))
        *into = seconds;
}

static const struct {
    const char *name;
    unsigned flag;
} cc_flags[] = {
    {"no-store", MOON_CC_NO_STORE},
    {"public", MOON_CC_PUBLIC},
    {"must-revalidate", MOON_CC_MUST_REVALIDATE},
    {"proxy-revalidate", MOON_CC_PROXY_REVALIDATE},
    {"must-understand", MOON_CC_MUST_UNDERSTAND},
    {"no-transform", MOON_CC_NO_TRANSFORM},
    {"only-if-cached", MOON_CC_ONLY_IF_CACHED},
    {"immutable", MOON_CC_IMMUTABLE},
};

static void cc_directive(struct moon_cache_control *cc, struct moon_slice name,
                         struct moon_slice argument)
{
    for (size_t i = 0; i < MOON_COUNT(cc_flags); i++) {
        if (is_name(name, cc_flags[i].name)) {
            cc->flags |= cc_flags[i].flag;
            return;
        }
    }
    bool has_fields = moon_slice_trim(argument).len > 0;
    if (is_name(name, "no-cache")) {
        cc->flags |= has_fields ? MOON_CC_NO_CACHE_FIELDS : MOON_CC_NO_CACHE;
    } else if (is_name(name, "private")) {
        cc->flags |= has_fields ? MOON_CC_PRIVATE_FIELDS : MOON_CC_PRIVATE;
    } else if (is_name(name, "max-age")) {
        cc_lifetime(&cc->max_age_s, argument);
    } else if (is_name(name, "s-maxage")) {
        cc_lifetime(&cc->s_maxage_s, argument);
    } else if (is_name(name, "stale-while-revalidate")) {
        cc_allowance(&cc->stale_while_revalidate_s, argument);
    } else if (is_name(name, "stale-if-error")) {
        cc_allowance(&cc->stale_if_error_s, argument);
    } else if (is_name(name, "min-fresh")) {
        cc_allowance(&cc->min_fresh_s, argument);
    } else if (is_name(name, "max-stale")) {
        if (argument.data == NULL)
            cc->max_stale_s = INT64_MAX;
        else
            cc_allowance(&cc->max_stale_s, argument);
    }
}

void moon_cache_control_add(struct moon_cache_control *cc, struct moon_slice value)
{
    struct moon_slice name, argument;
    bool is_quoted;
    cc->flags |= MOON_CC_ANY;
    while (moon_cache_control_next(&value, &name, &argument, &is_quoted))
        cc_directive(cc, name, argument);
}

void moon_cache_control_read(struct moon_cache_control *cc, const struct moon_fields *fields,
                             bool is_request)
{
    moon_cache_control_init(cc);
    for (size_t i = 0; i < fields->count; i++) {
        if (fields->ids[i] == MOON_FIELD_CACHE_CONTROL)
            moon_cache_control_add(cc, fields->items[i].value);
    }
    if (!is_request || (cc->flags & MOON_CC_ANY) != 0)
        return;
    const struct moon_field *pragma = moon_fields_find_id(fields, MOON_FIELD_PRAGMA);
    if (pragma != NULL && moon_slice_has_token(pragma->value, MOON_S("no-cache")))
        cc->flags |= MOON_CC_NO_CACHE;
}

// ---- targeted fields ---------------------------------------------------------------------------

// A directive whose value is of the wrong type is passed over (RFC 9213 §2.1); one that would have
// named fields holds for the whole response.
static void cc_member(struct moon_cache_control *cc, const struct moon_structured_member *member)
{
    switch (member->type) {
    case MOON_STRUCTURED_TRUE:
        cc_directive(cc, member->key, moon_slice(NULL, 0));
        return;
    case MOON_STRUCTURED_INTEGER:
        if (member->integer >= 0)
            cc_directive(cc, member->key, member->value);
        return;
    case MOON_STRUCTURED_STRING:
    case MOON_STRUCTURED_TOKEN:
        if (is_name(member->key, "no-cache") || is_name(member->key, "private"))
            cc_directive(cc, member->key, moon_slice(NULL, 0));
        return;
    case MOON_STRUCTURED_FALSE:
    case MOON_STRUCTURED_DECIMAL:
    case MOON_STRUCTURED_OTHER:
        return;
    }
}

// @return the number of members, -1 when it is no dictionary
static int cc_dictionary(struct moon_cache_control *cc, struct moon_slice value)
{
    struct moon_structured_member member;
    int count = 0;
    enum moon_rc rc;
    while ((rc = moon_structured_next(&value, &member)) == MOON_OK) {
        cc_member(cc, &member);
        count++;
    }
    return rc == MOON_EOF ? count : -1;
}

// "directive=value;target": what names a target is for that one alone (Edge Architecture §2.2).
static bool cc_is_for_us(struct moon_slice *text)
{
    size_t n = moon_slice_find(*text, ';');
    if (n == text->len)
        return true;
    bool is_ours = moon_slice_is_nocase(moon_slice_trim(moon_slice_from(*text, n + 1)),
                                        MOON_S(MOON_CC_SURROGATE));
    *text = moon_slice(text->data, n);
    return is_ours;
}

// @return the number of directives that are for this cache
static int cc_surrogate(struct moon_cache_control *cc, struct moon_slice value)
{
    struct moon_slice name, argument;
    bool is_quoted;
    int count = 0;
    while (moon_cache_control_next(&value, &name, &argument, &is_quoted)) {
        if (!cc_is_for_us(&name) || (argument.data != NULL && !cc_is_for_us(&argument)))
            continue;
        // max-age=3600+600: fresh, and then stale.
        size_t plus = argument.data == NULL ? 0 : moon_slice_find(argument, '+');
        if (is_name(name, "max-age") && argument.data != NULL && plus < argument.len) {
            cc_allowance(&cc->stale_while_revalidate_s, moon_slice_from(argument, plus + 1));
            argument = moon_slice(argument.data, plus);
        }
        if (!is_name(name, "max-age") && !is_name(name, "no-store"))
            continue;
        cc_directive(cc, name, argument);
        count++;
    }
    return count;
}

// @return whether the field is there, can be read, and says something
static bool cc_read_targeted(struct moon_cache_control *cc, const struct moon_fields *fields,
                             struct moon_slice name)
{
    bool is_surrogate = moon_slice_is(name, MOON_S("surrogate-control"));
    const struct moon_field *field;
    size_t at = 0;
    int count = 0;
    moon_cache_control_init(cc);
    while ((field = moon_fields_next(fields, name, &at)) != NULL) {
        int n = is_surrogate ? cc_surrogate(cc, field->value) : cc_dictionary(cc, field->value);
        if (n < 0)
            return false;
        count += n;
    }
    cc->flags |= MOON_CC_ANY | MOON_CC_TARGETED;
    return count > 0;
}

void moon_cache_control_read_response(struct moon_cache_control *cc,
                                      const struct moon_fields *fields,
                                      const struct moon_cache_targets *targets)
{
    for (size_t i = 0; i < targets->count; i++) {
        if (cc_read_targeted(cc, fields, targets->names[i]))
            return;
    }
    moon_cache_control_read(cc, fields, false);
}

bool moon_cache_control_names(const struct moon_fields *fields, struct moon_slice wanted)
{
    for (size_t i = 0; i < fields->count; i++) {
        struct moon_slice rest = fields->items[i].value, name, argument;
        bool is_quoted;
        if (fields->ids[i] != MOON_FIELD_CACHE_CONTROL)
            continue;
        while (moon_cache_control_next(&rest, &name, &argument, &is_quoted)) {
            if ((is_name(name, "no-cache") || is_name(name, "private")) &&
                moon_slice_has_token(argument, wanted))
                return true;
        }
    }
    return false;
}
