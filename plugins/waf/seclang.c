// SPDX-License-Identifier: Apache-2.0
// SecLang as httpd reads it: lines, words, includes, directives.
#include "waf/compile.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { WORDS_MAX = 16, INCLUDE_DEPTH = 20 };

bool waf_fail(struct waf_compiler *c, const char *format, ...)
{
    if (c->failed) {
        return false; // the first error is the one to mend
    }
    c->failed = true;
    int n = 0; // directives of the configuration have no file, and one alone no line
    if (c->file != NULL) {
        n = snprintf(c->error->text, sizeof c->error->text, "%s:%d: ", c->file, c->line);
    } else if (c->line > 0) {
        n = snprintf(c->error->text, sizeof c->error->text, "line %d: ", c->line);
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->error->text + n, sizeof c->error->text - (size_t)n, format, args);
    va_end(args);
    return false;
}

// --- words ---------------------------------------------------------------------------

// The next word as ap_getword_conf has it: in quotes, a backslash takes a quote or a backslash with
// it; bare, up to a blank. @return false at the end
static bool next_word(struct waf_compiler *c, const char **at, const char *end, struct waf_str *out)
{
    const char *p = *at;
    while (p < end && waf_is_space((unsigned char)*p)) {
        p++;
    }
    if (p == end) {
        return false;
    }
    char quote = *p == '"' || *p == '\'' ? *p++ : '\0';
    char *buf = waf_alloc(&c->scratch, (size_t)(end - p) + 1), *d = buf;
    while (p < end && (quote != '\0' ? *p != quote : !waf_is_space((unsigned char)*p))) {
        if (*p == '\\' && end - p > 1 && (p[1] == '\\' || (quote != '\0' && p[1] == quote))) {
            p++;
        }
        *d++ = *p++;
    }
    if (quote != '\0' && p < end) {
        p++;
    }
    *at = p;
    *out = (struct waf_str){buf, (size_t)(d - buf)};
    buf[out->n] = '\0';
    return true;
}

// --- directives ------------------------------------------------------------------------

typedef bool (*directive_fn)(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg);

static bool read_file(struct waf_compiler *c, const char *path);

static bool d_rule(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)arg;
    return waf_compile_rule(c, w[0], w[1], n > 2 ? w[2] : WAF_LIT(""), true);
}

static bool d_action(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    return waf_compile_rule(c, WAF_LIT(""), WAF_LIT(""), w[0], false);
}

static bool d_marker(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    return waf_compile_marker(c, w[0]);
}

static bool d_default(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    return waf_compile_default(c, w[0]);
}

static bool d_accept(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)c, (void)w, (void)n, (void)arg;
    return true;
}

static bool d_web_app(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    c->rules->options.web_app = waf_dup(&c->rules->arena, w[0]);
    return true;
}

static bool d_geo_database(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    if (w[0].n == 0 || memchr(w[0].p, '\0', w[0].n) != NULL) {
        return waf_fail(c, "SecGeoLookupDb takes a file");
    }
    c->rules->geo_database = waf_dup(&c->rules->arena, w[0]).p;
    c->rules->geo_where = waf_printf(&c->rules->arena, "%s:%d", c->file, c->line).p;
    return true;
}

static void mark_removed(struct waf_compiler *c, uint32_t rule)
{
    if (rule / 64 >= c->removed_words) {
        size_t words = (size_t)rule / 64 * 2 + 16;
        uint64_t *more = waf_zalloc(&c->scratch, words * sizeof *more);
        if (c->removed_words != 0) {
            memcpy(more, c->removed, c->removed_words * sizeof *more);
        }
        c->removed = more;
        c->removed_words = words;
    }
    c->removed[rule >> 6] |= (uint64_t)1 << (rule & 63);
}

static bool d_remove(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    for (unsigned i = 0; i < n; i++) {
        struct waf_selection s = {.by = (enum waf_select)arg, .what = w[i]};
        if (!waf_select_rules(c, &s)) {
            return false;
        }
        for (uint32_t k = 0; k < s.n; k++) {
            mark_removed(c, s.rules[k]);
        }
    }
    return true;
}

static void overlay_exclude(struct waf_compiler *c, uint32_t rule, const struct waf_target *t)
{
    struct waf_overlay *o = c->into;
    if (o->exclusions == NULL) {
        o->exclusions = waf_zalloc(&o->arena, sizeof(void *) * (c->loaded.n + 1));
    }
    struct waf_removal *r = waf_alloc(&o->arena, sizeof *r);
    *r = (struct waf_removal){.next = o->exclusions[rule], .exclusion = *t};
    o->exclusions[rule] = r;
}

// "ID:N": the rule N places down the chain. @return NULL when the chain is shorter
static struct waf_rule *down_the_chain(struct waf_rule *r, struct waf_str selector)
{
    const char *colon = selector.n == 0 ? NULL : memchr(selector.p, ':', selector.n);
    for (long k = colon == NULL ? 0 : strtol(colon + 1, NULL, 10); k > 0 && r != NULL; k--) {
        r = r->chain;
    }
    return r;
}

static bool same_target(const struct waf_target *a, const struct waf_target *b)
{
    return a->var == b->var && a->is_count == b->is_count && a->key.n == b->key.n &&
           waf_ieq(a->key, b->key);
}

// Takes out of the rule what the third word of an update names. @return whether it was there
static bool drop_targets(struct waf_rule *r, const struct waf_vec *old)
{
    unsigned n = 0, had = r->target_count;
    for (unsigned i = 0; i < had; i++) {
        bool goes = false;
        for (uint32_t k = 0; k < old->n; k++) {
            goes |= same_target(&r->targets[i], WAF_AT(old, struct waf_target, k));
        }
        if (!goes) {
            r->targets[n++] = r->targets[i];
        }
    }
    r->target_count = n;
    return n < had;
}

static bool d_update_target(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    struct waf_vec in = {0}, out = {0}, old = {0}, none = {0};
    struct waf_selection s = {.by = (enum waf_select)arg, .what = w[0]};
    const char *colon = w[0].n == 0 ? NULL : memchr(w[0].p, ':', w[0].n);
    struct waf_str place = s.by == WAF_SELECT_ID ? w[0] : WAF_LIT("");
    bool replaces = n > 2, has_replaced = false;
    if (s.by == WAF_SELECT_ID && colon != NULL) {
        s.what.n = (size_t)(colon - w[0].p);
    }
    if (!waf_parse_targets(c, w[1], &in, &out) || !waf_select_rules(c, &s) ||
        (replaces && !waf_parse_targets(c, w[2], &old, &none))) {
        return false;
    }
    if (c->overlay && (in.n != 0 || replaces)) {
        return waf_fail(c, "only targets with '!' can be updated here");
    }
    for (uint32_t k = 0; k < s.n; k++) {
        struct waf_rule *r =
            down_the_chain(((struct waf_rule **)c->loaded.items)[s.rules[k]], place);
        if (r == NULL || (replaces && !drop_targets(r, &old))) {
            continue;
        }
        has_replaced |= replaces;
        for (uint32_t i = 0; i < in.n + out.n; i++) {
            const struct waf_target *t = i < in.n ? WAF_AT(&in, struct waf_target, i)
                                                  : WAF_AT(&out, struct waf_target, i - in.n);
            if (c->overlay) {
                overlay_exclude(c, r->index, t);
            } else {
                waf_exclude_target(c, r, t);
            }
        }
    }
    return !replaces || has_replaced ||
           waf_fail(c, "no rule '%.*s' before this line has '%.*s' to replace", (int)w[0].n, w[0].p,
                    (int)w[2].n, w[2].p);
}

static bool d_update_action(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    struct waf_rule *r = down_the_chain(waf_rule_by_id(c, (int)waf_to_long(w[0])), w[0]);
    if (r == NULL) {
        return waf_fail(c, "no rule '%.*s' before this line", (int)w[0].n, w[0].p);
    }
    int id = r->id;
    unsigned phase = r->phase;
    enum waf_disruptive was = r->disruptive;
    if (!waf_parse_actions(c, r, w[1])) {
        return false;
    }
    if (r->id != id || r->phase != phase) {
        return waf_fail(c, "SecRuleUpdateActionById cannot change id or phase");
    }
    r->disruptive = r->disruptive == WAF_DISRUPT_BLOCK ? was : r->disruptive;
    return true;
}

// SecMoonCorroborate FIRST LAST POINTS [TOLD]: a rule from FIRST to LAST adds at most POINTS to a
// score, at most TOLD for what it finds in a value that speaks of something.
static bool d_corroborate(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    struct waf_options *o = &c->rules->options;
    struct waf_weak r = {.first = (int)waf_to_long(w[0]),
                         .last = (int)waf_to_long(w[1]),
                         .most = (int)waf_to_long(w[2])};
    (void)arg;
    r.told = n > 3 ? (int)waf_to_long(w[3]) : r.most;
    if (r.first <= 0 || r.last < r.first || r.most <= 0 || r.told < 0 || r.told > r.most ||
        o->weak_count == WAF_WEAK_MAX) {
        return waf_fail(c, "SecMoonCorroborate wants the first rule, the last, and points");
    }
    o->weak[o->weak_count++] = r;
    return true;
}

static bool d_engine(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    struct waf_options *o = &c->rules->options;
    if (waf_ieq(w[0], WAF_LIT("On"))) {
        o->engine = WAF_MODE_PREVENTION;
    } else if (waf_ieq(w[0], WAF_LIT("Off"))) {
        o->engine = WAF_MODE_OFF;
    } else if (waf_ieq(w[0], WAF_LIT("DetectionOnly"))) {
        o->engine = WAF_MODE_DETECTION;
    } else {
        return waf_fail(c, "On, Off or DetectionOnly wanted, got '%s'", w[0].p);
    }
    return true;
}

enum option {
    OPT_REQUEST_BODY,
    OPT_RESPONSE_BODY,
    OPT_REQUEST_LIMIT,
    OPT_REQUEST_NOFILES,
    OPT_RESPONSE_LIMIT,
    OPT_REQUEST_ACTION,
    OPT_RESPONSE_ACTION,
    OPT_JSON_DEPTH,
    OPT_ARGUMENTS,
    OPT_FILES,
    OPT_MATCH_LIMIT,
    OPT_SEPARATOR,
    OPT_COOKIES,
    OPT_TIMEOUT,
    OPT_VALUES,
};

static bool option_switch(struct waf_compiler *c, struct waf_str w, bool *out)
{
    *out = waf_ieq(w, WAF_LIT("On"));
    return *out || waf_ieq(w, WAF_LIT("Off")) || waf_fail(c, "On or Off wanted, got '%s'", w.p);
}

static bool option_action(struct waf_compiler *c, struct waf_str w, bool *partial)
{
    *partial = waf_ieq(w, WAF_LIT("ProcessPartial"));
    return *partial || waf_ieq(w, WAF_LIT("Reject")) ||
           waf_fail(c, "Reject or ProcessPartial wanted, got '%s'", w.p);
}

static bool d_option(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    struct waf_options *o = &c->rules->options;
    long v = waf_to_long(w[0]);
    bool number = w[0].n != 0 && waf_is_digit((unsigned char)w[0].p[0]);
    (void)n;
    switch ((enum option)arg) {
    case OPT_REQUEST_BODY:
        return option_switch(c, w[0], &o->request_body);
    case OPT_RESPONSE_BODY:
        return option_switch(c, w[0], &o->response_body);
    case OPT_VALUES:
        return option_switch(c, w[0], &o->values);
    case OPT_REQUEST_ACTION:
        return option_action(c, w[0], &o->request_partial);
    case OPT_RESPONSE_ACTION:
        return option_action(c, w[0], &o->response_partial);
    case OPT_SEPARATOR:
        o->argument_separator = w[0].p[0];
        return w[0].n == 1 || waf_fail(c, "one character wanted, got '%s'", w[0].p);
    case OPT_REQUEST_LIMIT:
        o->request_limit = (size_t)v;
        break;
    case OPT_REQUEST_NOFILES:
        o->request_nofiles_limit = (size_t)v;
        break;
    case OPT_RESPONSE_LIMIT:
        o->response_limit = (size_t)v;
        break;
    case OPT_JSON_DEPTH:
        o->json_depth = v > 10000 ? 10000 : (size_t)v;
        break;
    case OPT_ARGUMENTS:
        o->arguments_limit = (size_t)v;
        break;
    case OPT_FILES:
        o->file_limit = (size_t)v;
        break;
    case OPT_MATCH_LIMIT:
        o->match_limit = (uint32_t)v;
        break;
    case OPT_COOKIES:
        o->cookie_format = (int)v;
        number &= v <= 1;
        break;
    case OPT_TIMEOUT:
        o->collection_timeout = v;
        break;
    }
    return number || waf_fail(c, "a number wanted, got '%s'", w[0].p);
}

static bool d_mime(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    struct waf_options *o = &c->rules->options;
    (void)arg;
    unsigned had = o->mime_set ? o->mime_count : 0;
    struct waf_str *more = waf_alloc(&c->rules->arena, sizeof *more * (had + n));
    memcpy(more, o->mime_types, sizeof *more * had);
    for (unsigned i = 0; i < n; i++) {
        more[had + i] = waf_dup(&c->rules->arena, w[i]);
    }
    o->mime_types = more;
    o->mime_count = had + n;
    o->mime_set = true;
    return true;
}

static bool d_mime_clear(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)w, (void)n, (void)arg;
    c->rules->options.mime_count = 0;
    c->rules->options.mime_set = true;
    return true;
}

static const char *beside(struct waf_compiler *c, struct waf_str path)
{
    const char *slash = c->file == NULL ? NULL : strrchr(c->file, '/');
    if (path.p[0] == '/' || slash == NULL) {
        return waf_dup(&c->scratch, path).p;
    }
    return waf_printf(&c->scratch, "%.*s%.*s", (int)(slash + 1 - c->file), c->file, (int)path.n,
                      path.p)
        .p;
}

// Lines of "(page) name" and of "XXXX:YY" pairs; we take the pairs of one code page.
static bool d_unicode_map(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    (void)n, (void)arg;
    FILE *f = waf_open_file(beside(c, w[0]));
    if (f == NULL) {
        return waf_fail(c, "cannot open '%s': %s", w[0].p, strerror(errno));
    }
    char *line = NULL;
    size_t cap = 0;
    bool in_page = false;
    c->rules->unicode_map = waf_zalloc(&c->rules->arena, 65536);
    while (getline(&line, &cap, f) > 0) {
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        if (strchr(line, '(') != NULL) {
            in_page =
                strncmp(line, w[1].p, w[1].n) == 0 && !waf_is_digit((unsigned char)line[w[1].n]);
            continue;
        }
        char *end = line;
        while (in_page && *end != '\0') {
            unsigned long from = strtoul(end, &end, 16);
            if (*end != ':') {
                break;
            }
            unsigned long to = strtoul(end + 1, &end, 16);
            if (from < 65536 && to < 256) {
                c->rules->unicode_map[from] = (unsigned char)to;
            }
            while (*end == ' ' || *end == '\n' || *end == '\r') {
                end++;
            }
        }
    }
    free(line);
    (void)fclose(f);
    return true;
}

static bool d_include(struct waf_compiler *c, const struct waf_str *w, unsigned n, int arg)
{
    glob_t found;
    (void)n;
    c->rules->has_includes |= c->depth > 0 || c->in_text;
    const char *pattern = beside(c, w[0]);
    int rc = glob(pattern, 0, NULL, &found);
    if (rc != 0) {
        return (rc == GLOB_NOMATCH && arg == 1) ||
               waf_fail(c, "cannot include '%s': no such file", pattern);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < found.gl_pathc; i++) {
        ok = read_file(c, found.gl_pathv[i]);
    }
    globfree(&found);
    return ok;
}

static const struct directive {
    const char *name;
    directive_fn fn;
    int arg;
    unsigned least, most; // words
    bool in_overlay;
} directives[] = {
    {"SecRule", d_rule, 0, 2, 3, false},
    {"SecAction", d_action, 0, 1, 1, false},
    {"SecMarker", d_marker, 0, 1, 1, false},
    {"SecDefaultAction", d_default, 0, 1, 1, false},
    {"SecRuleRemoveById", d_remove, WAF_SELECT_ID, 1, WORDS_MAX, true},
    {"SecRuleRemoveByTag", d_remove, WAF_SELECT_TAG, 1, 1, true},
    {"SecRuleRemoveByMsg", d_remove, WAF_SELECT_MSG, 1, 1, true},
    {"SecRuleUpdateTargetById", d_update_target, WAF_SELECT_ID, 2, 3, true},
    {"SecRuleUpdateTargetByTag", d_update_target, WAF_SELECT_TAG, 2, 3, true},
    {"SecRuleUpdateTargetByMsg", d_update_target, WAF_SELECT_MSG, 2, 3, true},
    {"SecRuleUpdateActionById", d_update_action, 0, 2, 2, false},
    {"SecRuleEngine", d_engine, 0, 1, 1, false},
    {"SecRequestBodyAccess", d_option, OPT_REQUEST_BODY, 1, 1, false},
    {"SecResponseBodyAccess", d_option, OPT_RESPONSE_BODY, 1, 1, false},
    {"SecMoonCorroborate", d_corroborate, 0, 3, 4, false}, // ours: action.c
    {"SecMoonValues", d_option, OPT_VALUES, 1, 1, false},  // ours: context.c
    {"SecRequestBodyLimit", d_option, OPT_REQUEST_LIMIT, 1, 1, false},
    {"SecRequestBodyNoFilesLimit", d_option, OPT_REQUEST_NOFILES, 1, 1, false},
    {"SecRequestBodyInMemoryLimit", d_accept, 0, 1, 1, false},
    {"SecRequestBodyLimitAction", d_option, OPT_REQUEST_ACTION, 1, 1, false},
    {"SecRequestBodyJsonDepthLimit", d_option, OPT_JSON_DEPTH, 1, 1, false},
    {"SecArgumentsLimit", d_option, OPT_ARGUMENTS, 1, 1, false},
    {"SecUploadFileLimit", d_option, OPT_FILES, 1, 1, false},
    {"SecResponseBodyLimit", d_option, OPT_RESPONSE_LIMIT, 1, 1, false},
    {"SecResponseBodyLimitAction", d_option, OPT_RESPONSE_ACTION, 1, 1, false},
    {"SecResponseBodyMimeType", d_mime, 0, 1, WORDS_MAX, false},
    {"SecResponseBodyMimeTypesClear", d_mime_clear, 0, 0, 0, false},
    {"SecPcreMatchLimit", d_option, OPT_MATCH_LIMIT, 1, 1, false},
    {"SecPcreMatchLimitRecursion", d_accept, 0, 1, 1, false},
    {"SecCollectionTimeout", d_option, OPT_TIMEOUT, 1, 1, false},
    {"SecArgumentSeparator", d_option, OPT_SEPARATOR, 1, 1, false},
    {"SecCookieFormat", d_option, OPT_COOKIES, 1, 1, false},
    {"SecUnicodeMapFile", d_unicode_map, 0, 2, 2, false},
    {"SecWebAppId", d_web_app, 0, 1, 1, false},
    {"SecGeoLookupDb", d_geo_database, 0, 1, 1, false},
    {"Include", d_include, 0, 1, 1, false},
    {"IncludeOptional", d_include, 1, 1, 1, false},
    // What follows says where ModSecurity writes, or what it tells of itself: not ours to do.
    {"SecComponentSignature", d_accept, 0, 1, 1, false},
    {"SecServerSignature", d_accept, 0, 1, 1, false},
    {"SecAuditEngine", d_accept, 0, 1, 1, false},
    {"SecAuditLog", d_accept, 0, 1, 1, false},
    {"SecAuditLog2", d_accept, 0, 1, 1, false},
    {"SecAuditLogDirMode", d_accept, 0, 1, 1, false},
    {"SecAuditLogFileMode", d_accept, 0, 1, 1, false},
    {"SecAuditLogFormat", d_accept, 0, 1, 1, false},
    {"SecAuditLogParts", d_accept, 0, 1, 1, false},
    {"SecAuditLogRelevantStatus", d_accept, 0, 1, 1, false},
    {"SecAuditLogStorageDir", d_accept, 0, 1, 1, false},
    {"SecAuditLogType", d_accept, 0, 1, 1, false},
    {"SecDebugLog", d_accept, 0, 1, 1, false},
    {"SecDebugLogLevel", d_accept, 0, 1, 1, false},
    {"SecDataDir", d_accept, 0, 1, 1, false},
    {"SecTmpDir", d_accept, 0, 1, 1, false},
    {"SecUploadDir", d_accept, 0, 1, 1, false},
    {"SecUploadFileMode", d_accept, 0, 1, 1, false},
    {"SecUploadKeepFiles", d_accept, 0, 1, 1, false},
    {"SecTmpSaveUploadedFiles", d_accept, 0, 1, 1, false},
    {"SecStatusEngine", d_accept, 0, 1, 1, false},
    {"SecConnEngine", d_accept, 0, 1, 1, false},
    {"SecSensorId", d_accept, 0, 1, 1, false},
    {"SecHttpBlKey", d_accept, 0, 1, 1, false},
    {"SecInterceptOnError", d_accept, 0, 1, 1, false},
    {"SecXmlExternalEntity", d_accept, 0, 1, 1, false},
    {"SecDisableBackendCompression", d_accept, 0, 1, 1, false},
};

// <IfModule x>, <IfDefine x>, <IfVersion …>: a module of that name is "there" if it is ours.
static bool section_line(struct waf_compiler *c, struct waf_str line)
{
    struct waf_str l = line;
    if (l.n >= 4 && l.p[1] == '/' && (l.p[2] | 32) == 'i' && (l.p[3] | 32) == 'f') {
        if (c->open_blocks == 0) {
            return waf_fail(c, "%.*s closes nothing", (int)l.n, l.p);
        }
        c->open_blocks--;
        c->skip_blocks -= c->skip_blocks > 0;
        return true;
    }
    if (l.n < 10 || !waf_ieq((struct waf_str){l.p, 9}, WAF_LIT("<IfModule"))) {
        return waf_fail(c, "unknown section '%.*s'", (int)l.n, l.p);
    }
    bool negated = memchr(l.p, '!', l.n) != NULL;
    bool ours = waf_find(l, WAF_LIT("security2")) >= 0 || waf_find(l, WAF_LIT("unique_id")) >= 0;
    c->open_blocks++;
    if (c->skip_blocks > 0 || ours == negated) {
        c->skip_blocks++;
    }
    return true;
}

static bool run_directive(struct waf_compiler *c, const struct directive *d,
                          const struct waf_str *w, unsigned n)
{
    if (c->overlay && !d->in_overlay) {
        return waf_fail(c, "%s is not allowed here", d->name);
    }
    if (n < d->least || n > d->most) {
        return waf_fail(c, "%s wants %u to %u words, got %u", d->name, d->least, d->most, n);
    }
    if (c->chain != NULL && d->fn != d_rule && d->fn != d_accept) {
        return waf_fail(c, "the chain before %s has no next rule", d->name);
    }
    return d->fn(c, w, n, d->arg);
}

static bool read_line(struct waf_compiler *c, struct waf_str line)
{
    struct waf_str name, words[WORDS_MAX + 1];
    const char *at = line.p, *end = line.p + line.n;
    unsigned n = 0;
    while (at < end && waf_is_space((unsigned char)*at)) {
        at++;
    }
    if (at == end || *at == '#') {
        return true;
    }
    if (*at == '<') {
        return section_line(c, (struct waf_str){at, (size_t)(end - at)});
    }
    if (c->skip_blocks > 0) {
        return true;
    }
    (void)next_word(c, &at, end, &name);
    while (n <= WORDS_MAX && next_word(c, &at, end, &words[n])) {
        n++;
    }
    for (size_t i = 0; i < sizeof directives / sizeof directives[0]; i++) {
        if (waf_ieq(name, waf_cstr(directives[i].name))) {
            return run_directive(c, &directives[i], words, n);
        }
    }
    return waf_fail(c, "unknown directive '%.*s'", (int)name.n, name.p);
}

static void (*pace_fn)(void);

void waf_set_pace(void (*pace)(void))
{
    pace_fn = pace;
}

void waf_pace(void)
{
    if (pace_fn != NULL) {
        pace_fn();
    }
}

// A line ends at a newline that no backslash stands before.
static bool read_text(struct waf_compiler *c, struct waf_str text)
{
    size_t i = 0;
    c->line = 0;
    int next = 1;
    // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): clang 14 does not follow how it is set
    while (i < text.n && !c->failed) {
        char *buf = waf_alloc(&c->scratch, 256);
        size_t n = 0, cap = 256;
        c->line = next;
        for (bool more = true; more && i < text.n;) {
            const char *nl = memchr(text.p + i, '\n', text.n - i);
            size_t len = nl == NULL ? text.n - i : (size_t)(nl - text.p) - i;
            struct waf_str part = {text.p + i, len};
            i += len + 1;
            next++;
            if (part.n != 0 && part.p[part.n - 1] == '\r') {
                part.n--;
            }
            more = part.n != 0 && part.p[part.n - 1] == '\\';
            part.n -= more;
            if (n + part.n > cap) {
                cap = (n + part.n) * 2;
                char *bigger = waf_alloc(&c->scratch, cap);
                memcpy(bigger, buf, n);
                buf = bigger;
            }
            if (part.n != 0) {
                memcpy(buf + n, part.p, part.n);
            }
            n += part.n;
        }
        c->rules->hash = (c->rules->hash ^ waf_ihash((struct waf_str){buf, n})) * 1099511628211ull;
        if (!read_line(c, (struct waf_str){buf, n})) {
            return false;
        }
        waf_pace();
    }
    return !c->failed;
}

static bool read_whole(struct waf_compiler *c, const char *path, struct waf_str *out)
{
    FILE *f = waf_open_file(path);
    if (f == NULL) {
        return waf_fail(c, "cannot open '%s': %s", path, strerror(errno));
    }
    size_t n = 0, cap = 64 * 1024, got;
    char *buf = waf_alloc(&c->scratch, cap);
    while ((got = fread(buf + n, 1, cap - n, f)) != 0) {
        n += got;
        if (n == cap) {
            char *bigger = waf_alloc(&c->scratch, cap * 2);
            memcpy(bigger, buf, n);
            buf = bigger;
            cap *= 2;
        }
    }
    bool bad = ferror(f) != 0;
    (void)fclose(f);
    *out = (struct waf_str){buf, n};
    return !bad || waf_fail(c, "cannot read '%s'", path);
}

static bool read_file(struct waf_compiler *c, const char *path)
{
    struct waf_str text;
    const char *outer = c->file;
    int outer_line = c->line;
    if (c->depth == INCLUDE_DEPTH) {
        return waf_fail(c, "includes are more than %d deep", INCLUDE_DEPTH);
    }
    if (!read_whole(c, path, &text)) {
        return false;
    }
    c->depth++;
    c->file = waf_dup(&c->rules->arena, waf_cstr(path)).p;
    int open = c->open_blocks;
    bool ok = read_text(c, text);
    if (ok && c->open_blocks != open) {
        ok = waf_fail(c, "a section is not closed");
    }
    c->depth--;
    if (ok) {
        c->file = outer;
        c->line = outer_line;
    }
    return ok;
}

// --- rule sets ------------------------------------------------------------------------------

static void set_defaults(struct waf_options *o)
{
    static struct waf_str types[] = {{"text/plain", 10}, {"text/html", 9}};
    *o = (struct waf_options){.engine = WAF_MODE_PREVENTION,
                              .request_limit = 128 * 1024 * 1024,
                              .request_nofiles_limit = 1024 * 1024,
                              .response_limit = 512 * 1024,
                              .json_depth = 512,
                              .arguments_limit = 1000,
                              .file_limit = 100,
                              .match_limit = 20000,
                              .argument_separator = '&',
                              .collection_timeout = 3600,
                              .web_app = {"default", 7},
                              .mime_types = types,
                              .mime_count = 2};
}

static void ruleset_free(struct waf_ruleset *r);

static struct waf_ruleset *ruleset_new(void)
{
    struct waf_ruleset *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->refs = 1;
    waf_arena_init(&r->arena, 256 * 1024, SIZE_MAX / 2);
    r->hash = 14695981039346656037ull;
    set_defaults(&r->options);
    r->slot_map_size = 512;
    r->slot_map = waf_zalloc(&r->arena, sizeof *r->slot_map * r->slot_map_size);
    r->slot_names = waf_alloc(&r->arena, sizeof *r->slot_names * r->slot_map_size);
    // NOLINTNEXTLINE(bugprone-too-small-loop-variable): a false alarm
    for (char d = '0'; d <= '9'; d++) { // slots 0 to 9: what a match captured
        (void)waf_slot_intern(r, (struct waf_str){&d, 1});
    }
    r->steps = calloc(1, sizeof *r->steps);
    r->step_count = 1;
    if (r->steps == NULL) {
        ruleset_free(r);
        return NULL;
    }
    return r;
}

struct waf_ruleset *waf_ruleset_load(const struct waf_source *sources, size_t n,
                                     struct waf_error *error)
{
    struct waf_compiler c = {.error = error, .rules = ruleset_new()};
    bool ok = c.rules != NULL;
    error->text[0] = '\0';
    if (!ok) {
        (void)snprintf(error->text, sizeof error->text, "out of memory");
        return NULL;
    }
    waf_arena_init(&c.scratch, 1024 * 1024, SIZE_MAX / 2);
    for (size_t i = 0; ok && i < n; i++) {
        c.file = waf_dup(&c.rules->arena, waf_cstr(sources[i].name)).p;
        c.line = 0;
        if (sources[i].kind == WAF_SOURCE_TEXT) {
            c.in_text = true;
            ok = read_text(&c, waf_cstr(sources[i].text));
            c.in_text = false;
        } else {
            struct waf_str path = waf_cstr(sources[i].name);
            c.file = NULL;
            ok = d_include(&c, &path, 1, 0);
        }
    }
    ok = ok && waf_link(&c);
    waf_arena_fini(&c.scratch);
    if (!ok) {
        waf_ruleset_release(c.rules);
        return NULL;
    }
    return c.rules;
}

static void ruleset_free(struct waf_ruleset *r)
{
    while (r->pool != NULL) {
        struct waf_tx *tx = r->pool;
        r->pool = tx->next_free;
        waf_arena_fini(&tx->arena);
        free(tx);
    }
    for (uint32_t i = 0; i < r->code_count; i++) {
        pcre2_code_free(r->codes[i]);
    }
    for (uint32_t i = 0; i < r->pm_count; i++) {
        waf_pm_free(r->pms[i]);
    }
    for (int f = 0; f < WAF_FAMILIES; f++) {
        waf_filter_free(r->filters[f]);
    }
    free(r->codes);
    free(r->pms);
    free(r->steps);
    waf_arena_fini(&r->arena);
    free(r);
}

static struct waf_ruleset *shared; // those that waf_ruleset_shared gave out, by key

static uint64_t mix(uint64_t h, struct waf_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        h = (h ^ (unsigned char)s.p[i]) * 1099511628211ull;
    }
    return (h ^ 0xff) * 1099511628211ull;
}

struct waf_ruleset *waf_ruleset_retain(struct waf_ruleset *rules)
{
    rules->refs++;
    return rules;
}

void waf_ruleset_release(struct waf_ruleset *rules)
{
    if (rules == NULL || --rules->refs != 0) {
        return;
    }
    for (struct waf_ruleset **at = &shared; *at != NULL; at = &(*at)->next_shared) {
        if (*at == rules) {
            *at = rules->next_shared;
            break;
        }
    }
    ruleset_free(rules);
}

// Name, size and time of every file in the folder of `path`: data files count, too.
static uint64_t folder_print(uint64_t h, const char *path)
{
    const char *slash = strrchr(path, '/');
    char name[4096];
    (void)snprintf(name, sizeof name, "%.*s", slash == NULL ? 1 : (int)(slash - path),
                   slash == NULL ? "." : path);
    DIR *dir = opendir(name);
    struct dirent *entry;
    uint64_t sum = 0; // the order of a folder is nobody's promise
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
            uint64_t one = mix(14695981039346656037ull, waf_cstr(entry->d_name));
            one = mix(one, (struct waf_str){(const char *)&st.st_size, sizeof st.st_size});
            one = mix(one, (struct waf_str){(const char *)&st.st_mtim, sizeof st.st_mtim});
            sum += one;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return mix(h, (struct waf_str){(const char *)&sum, sizeof sum});
}

// Tells, without reading them, whether sources are those of a rule set that we have. Files that
// files include are not looked at: such a rule set is loaded and compared instead.
static uint64_t sources_print(const struct waf_source *sources, size_t n)
{
    uint64_t h = 14695981039346656037ull;
    for (size_t i = 0; i < n; i++) {
        glob_t found;
        h = mix(h, waf_cstr(sources[i].name));
        if (sources[i].kind == WAF_SOURCE_TEXT) {
            h = mix(h, waf_cstr(sources[i].text));
            continue;
        }
        if (glob(sources[i].name, 0, NULL, &found) != 0) {
            continue;
        }
        for (size_t k = 0; k < found.gl_pathc; k++) {
            h = mix(h, waf_cstr(found.gl_pathv[k]));
        }
        h = folder_print(h, found.gl_pathv[0]);
        globfree(&found);
    }
    return h;
}

struct waf_ruleset *waf_ruleset_shared(const struct waf_source *sources, size_t n,
                                       struct waf_error *error)
{
    uint64_t print = sources_print(sources, n);
    for (struct waf_ruleset *r = shared; r != NULL; r = r->next_shared) {
        if (r->print == print && !r->has_includes) {
            return waf_ruleset_retain(r);
        }
    }
    struct waf_ruleset *fresh = waf_ruleset_load(sources, n, error);
    if (fresh == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        fresh->hash = mix(fresh->hash, waf_cstr(sources[i].name));
    }
    for (struct waf_ruleset *r = shared; r != NULL; r = r->next_shared) {
        if (r->hash == fresh->hash && r->rule_count == fresh->rule_count) {
            waf_ruleset_release(fresh);
            r->print = print;
            return waf_ruleset_retain(r);
        }
    }
    fresh->print = print;
    fresh->next_shared = shared;
    shared = fresh;
    return fresh;
}

bool waf_ruleset_asks_places(const struct waf_ruleset *rules)
{
    const struct waf_op *op = rules->ops;
    while (op != NULL && op->kind != WAF_OP_GEO_LOOKUP) {
        op = op->next;
    }
    return op != NULL;
}

const char *waf_ruleset_geo_database(const struct waf_ruleset *rules, const char **where)
{
    *where = rules->geo_where;
    return rules->geo_database;
}

size_t waf_ruleset_holders(const struct waf_ruleset *rules)
{
    return rules->refs;
}

size_t waf_ruleset_rule_count(const struct waf_ruleset *rules)
{
    size_t n = 0;
    for (unsigned p = 1; p <= WAF_PHASES; p++) {
        n += rules->programs[p].n;
    }
    return n;
}

size_t waf_ruleset_memory(const struct waf_ruleset *rules)
{
    size_t n = sizeof *rules + rules->arena.total;
    for (int f = 0; f < WAF_FAMILIES; f++) {
        n += waf_filter_memory(rules->filters[f]);
    }
    for (uint32_t i = 0; i < rules->pm_count; i++) {
        n += waf_pm_memory(rules->pms[i]);
    }
    return n;
}

// --- overlays -------------------------------------------------------------------------------

struct waf_overlay *waf_overlay_new(struct waf_ruleset *rules, const char *text,
                                    struct waf_error *error)
{
    struct waf_overlay *o = calloc(1, sizeof *o);
    error->text[0] = '\0';
    if (o == NULL) {
        (void)snprintf(error->text, sizeof error->text, "out of memory");
        return NULL;
    }
    waf_arena_init(&o->arena, 4096, SIZE_MAX / 2);
    struct waf_compiler c = {
        .error = error, .rules = rules, .overlay = true, .into = o, .file = "exclusions"};
    waf_arena_init(&c.scratch, 64 * 1024, SIZE_MAX / 2);
    c.loaded = (struct waf_vec){rules->rules, rules->rule_count, rules->rule_count};
    o->removed = waf_zalloc(&o->arena, sizeof *o->removed * ((rules->rule_count + 63) / 64 + 1));
    c.removed = o->removed;
    c.removed_words = (rules->rule_count + 63) / 64 + 1;
    uint64_t hash = rules->hash; // an overlay is not part of the rule set
    bool ok = read_text(&c, waf_cstr(text));
    rules->hash = hash;
    waf_arena_fini(&c.scratch);
    if (!ok) {
        waf_overlay_free(o);
        return NULL;
    }
    return o;
}

void waf_overlay_free(struct waf_overlay *overlay)
{
    if (overlay != NULL) {
        waf_arena_fini(&overlay->arena);
        free(overlay);
    }
}
