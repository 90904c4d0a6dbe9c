// SPDX-License-Identifier: Apache-2.0
// HTML that editors send, told from markup that runs: as a sanitizer would, by lists of what is
// harmless. Anything that is not understood, or that browsers could read otherwise, is not harmless.
#include "waf/waf.h"

#include <stdio.h>

enum {
    TAG_NAME_MAX = 32,
    CALL_MAX = 80, // bytes of a handler that calls what its page has
};

struct markup {
    struct waf_tx *tx;
    const char *at, *end;
    struct waf_vec *parts;
    char *text; // of all elements, one after another
    size_t text_n;
    size_t tags;
};

static const char ELEMENTS[] =
    " html head body title p br hr div span a b i u s em strong small sub sup mark del ins code "
    "pre kbd samp var blockquote q cite ul ol li dl dt dd h1 h2 h3 h4 h5 h6 table thead tbody "
    "tfoot "
    "tr th td caption colgroup col img figure figcaption picture source video audio track abbr "
    "time "
    "address article aside section header footer main nav details summary center strike tt big "
    "label font iframe wbr dfn form input textarea button select option optgroup fieldset legend "
    "meta "
    "link noscript dialog progress meter slot template svg g path rect circle ellipse line "
    "polyline polygon text tspan defs "
    "lineargradient radialgradient stop clippath mask desc symbol use image marker pattern filter "
    "animate animatetransform animatemotion mpath fegaussianblur feoffset femerge femergenode "
    "feflood "
    "fecolormatrix feblend fecomposite fedropshadow ";

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == ':';
}

static struct waf_str name_at(struct markup *m)
{
    const char *start = m->at;
    while (m->at < m->end && is_name_byte(*m->at)) {
        m->at++;
    }
    return (struct waf_str){start, (size_t)(m->at - start)};
}

// Elements of HTML by the list; those of a vocabulary by their prefix, "saml:Issuer", but none that
// borrows a name which runs.
static bool is_harmless_element(struct waf_str name)
{
    static const char RUNS[] =
        " script style foreignobject animate set use handler link object include ";
    const char *colon = memchr(name.p, ':', name.n);
    if (colon == NULL) {
        return WAF_IS_AMONG(ELEMENTS, name);
    }
    struct waf_str local = {colon + 1, (size_t)(name.p + name.n - colon - 1)};
    return local.n > 0 && !WAF_IS_AMONG(RUNS, local);
}

static bool begins(struct waf_str s, const char *with)
{
    size_t n = strlen(with);
    return s.n >= n && waf_ieq((struct waf_str){s.p, n}, (struct waf_str){with, n});
}

// A reference to somewhere: by http, mail, telephone, or within the site. Entities but &amp; could
// spell another scheme.
static bool is_harmless_reference(struct waf_str v)
{
    static const char *const SCHEMES[] = {"http://", "https://", "mailto:", "tel:", "cid:", "//"};
    for (size_t i = 0; i < v.n; i++) {
        struct waf_str rest = {v.p + i, v.n - i};
        if ((unsigned char)v.p[i] < 0x20 || v.p[i] == '\\' ||
            (v.p[i] == '&' && !begins(rest, "&amp;") && memchr(rest.p, ';', rest.n) != NULL)) {
            return false;
        }
    }
    if (waf_is_data_image(v)) {
        return true;
    }
    for (size_t i = 0; i < sizeof SCHEMES / sizeof SCHEMES[0]; i++) {
        if (begins(v, SCHEMES[i])) {
            return true;
        }
    }
    const char *colon = memchr(v.p, ':', v.n);
    const char *slash = memchr(v.p, '/', v.n);
    return colon == NULL || (slash != NULL && slash < colon);
}

static bool is_harmless_style(struct waf_str v)
{
    static const char *const BAD[] = {"url(",     "expression", "import",
                                      "behavior", "-moz-",      "script"};
    if (memchr(v.p, '\\', v.n) != NULL || memchr(v.p, '&', v.n) != NULL ||
        memmem(v.p, v.n, "/*", 2) != NULL) {
        return false;
    }
    for (size_t i = 0; i < v.n; i++) {
        for (size_t k = 0; k < sizeof BAD / sizeof BAD[0]; k++) {
            if (begins((struct waf_str){v.p + i, v.n - i}, BAD[k])) {
                return false;
            }
        }
    }
    return true;
}

// The end of a text in quotes that begins at `i`, of letters, digits and the marks of ids, paths and
// selectors; 0 where it is none.
static size_t plain_quotation_end(struct waf_str v, size_t i)
{
    char quote = v.p[i++];
    while (i < v.n && (is_name_byte(v.p[i]) || memchr(" ./#,", v.p[i], 5) != NULL)) {
        i++;
    }
    return i < v.n && v.p[i] == quote ? i : 0;
}

// What a handler of a page does: calls of the page's own functions and of methods, with plain
// arguments: "toggle(this, 'menu'); return false". What is injected has no function there to call,
// and reaches for one that every browser has.
static bool is_page_call(struct waf_str v)
{
    static const char REACHES[] =
        " alert confirm prompt eval fetch import function location cookie domain constructor atob "
        "settimeout setinterval setimmediate write writeln open innerhtml outerhtml srcdoc src "
        "href "
        "insertadjacenthtml append appendchild prepend createelement setattribute xmlhttprequest "
        "sendbeacon websocket postmessage execscript execcommand call apply bind throw new with in "
        "of delete localstorage sessionstorage navigate assign replace submit name load ajax get "
        "getscript post html string fromcharcode reflect object array if else while for do var let "
        "const typeof instanceof await async ";
    if (v.n == 0 || v.n > CALL_MAX) {
        return false;
    }
    for (size_t i = 0; i < v.n;) {
        size_t start = i;
        while (i < v.n && (is_name_byte(v.p[i]) && v.p[i] != '-' && v.p[i] != ':')) {
            i++;
        }
        if (i > start) {
            if (WAF_IS_AMONG(REACHES, ((struct waf_str){v.p + start, i - start}))) {
                return false;
            }
            continue;
        }
        if (v.p[i] == '\'' || v.p[i] == '"') {
            i = plain_quotation_end(v, i);
            if (i == 0) {
                return false;
            }
        } else if (memchr("(),.; ", v.p[i], 6) == NULL) {
            return false;
        }
        i++;
    }
    return true;
}

static bool is_own_script(struct waf_str v)
{
    static const struct waf_str ENDING = {".js", 3};
    bool is_elsewhere = v.n < 4 || (v.p[0] == '/' && v.p[1] == '/');
    for (size_t i = 0; i < v.n; i++) {
        is_elsewhere |= !is_name_byte(v.p[i]) && v.p[i] != '/' && v.p[i] != '.';
        is_elsewhere |= v.p[i] == ':' || (v.p[i] == '.' && i + 1 < v.n && v.p[i + 1] == '.');
    }
    return !is_elsewhere && waf_ieq((struct waf_str){v.p + v.n - 3, 3}, ENDING);
}

static void keep(struct markup *m, struct waf_str part)
{
    if (part.n > 0) {
        *(struct waf_str *)waf_push(&m->tx->arena, m->parts, sizeof part) = part;
    }
}

static bool is_harmless_attribute(struct markup *m, struct waf_str element, struct waf_str name,
                                  struct waf_str value)
{
    static const char REFERENCES[] = " href src cite poster longdesc background xlink:href action ";
    static const char LINKS[] = " icon canonical alternate author license next prev help index up "
                                "start chapter contents home search top bookmark ";
    static const char RUNS[] = " srcdoc srcset formaction data code codebase archive classid ping "
                               "dynsrc lowsrc ";
    static const char MOVES[] = " attributename values to from by ";
    if (WAF_IS_AMONG(MOVES, name)) { // of what is drawn, not of where it leads
        return begins(element, "animate") && !begins(value, "on") && !begins(value, "href") &&
               memchr(value.p, ':', value.n) == NULL && memchr(value.p, '&', value.n) == NULL;
    }
    if (waf_ieq(element, WAF_LIT("use")) && WAF_IS_AMONG(REFERENCES, name)) {
        return begins(value, "#");
    }
    if (waf_ieq(name, WAF_LIT("http-equiv"))) {
        return waf_ieq(value, WAF_LIT("content-type")) ||
               waf_ieq(value, WAF_LIT("x-ua-compatible")) ||
               waf_ieq(value, WAF_LIT("content-language"));
    }
    if (waf_ieq(element, WAF_LIT("link")) && waf_ieq(name, WAF_LIT("rel"))) {
        return WAF_IS_AMONG(LINKS, value) || waf_ieq(value, WAF_LIT("shortcut icon"));
    }
    if (waf_ieq(element, WAF_LIT("script")) && waf_ieq(name, WAF_LIT("src"))) {
        return is_own_script(value);
    }
    if (WAF_IS_AMONG(RUNS, name)) {
        return false;
    }
    if (begins(name, "on")) {
        return is_page_call(value);
    }
    if (waf_ieq(name, WAF_LIT("style"))) {
        return is_harmless_style(value);
    }
    if (WAF_IS_AMONG(REFERENCES, name)) {
        if (waf_ieq(element, WAF_LIT("iframe")) && !begins(value, "https://")) {
            return false;
        }
        if (waf_ieq(element, WAF_LIT("a")) && begins(value, "javascript:")) {
            struct waf_str code = {value.p + 11, value.n - 11};
            return is_page_call(code);
        }
        if (!is_harmless_reference(value)) {
            return false;
        }
        keep(m, waf_is_data_image(value) ? WAF_LIT("") : value);
        return true;
    }
    if (!waf_ieq(name, WAF_LIT("class")) && !waf_ieq(name, WAF_LIT("d")) &&
        !begins(name, "xmlns")) {
        keep(m, value);
    }
    return true;
}

static bool skip_space(struct markup *m)
{
    const char *start = m->at;
    while (m->at < m->end && waf_is_space((unsigned char)*m->at)) {
        m->at++;
    }
    return m->at > start;
}

static bool read_value(struct markup *m, struct waf_str *value)
{
    const char *start = m->at;
    if (m->at < m->end && (*m->at == '"' || *m->at == '\'')) {
        const char *close = memchr(m->at + 1, *m->at, (size_t)(m->end - m->at - 1));
        if (close == NULL) {
            return false;
        }
        *value = (struct waf_str){start + 1, (size_t)(close - start - 1)};
        m->at = close + 1;
        return true;
    }
    while (m->at < m->end && (is_name_byte(*m->at) || strchr("#%./", *m->at) != NULL)) {
        m->at++;
    }
    *value = (struct waf_str){start, (size_t)(m->at - start)};
    return value->n > 0;
}

// From behind the name of the element to behind its '>'.
static bool read_attributes(struct markup *m, struct waf_str element)
{
    for (;;) {
        bool has_gap = skip_space(m);
        if (m->at < m->end && *m->at == '/') {
            m->at++;
            return m->at < m->end && *m->at++ == '>';
        }
        if (m->at < m->end && *m->at == '>') {
            m->at++;
            return true;
        }
        struct waf_str name = name_at(m), value = {m->at, 0};
        if (!has_gap || name.n == 0) {
            return false;
        }
        const char *behind = m->at;
        skip_space(m);
        if (m->at < m->end && *m->at == '=') {
            m->at++;
            skip_space(m);
            if (!read_value(m, &value)) {
                return false;
            }
        } else {
            m->at = behind; // no value
        }
        if (!is_harmless_attribute(m, element, name, value)) {
            return false;
        }
    }
}

// A comment, a document type, the declaration of XML: up to its end, without a tag inside.
static bool read_declaration(struct markup *m)
{
    struct waf_str rest = {m->at, (size_t)(m->end - m->at)};
    bool is_comment = begins(rest, "<!--");
    if (!is_comment && !begins(rest, "<!doctype html") && !begins(rest, "<?xml ")) {
        return false;
    }
    const char *close =
        is_comment ? memmem(rest.p + 4, rest.n - 4, "-->", 3) : memchr(rest.p, '>', rest.n);
    if (close == NULL || memchr(rest.p + 1, '<', (size_t)(close - rest.p - 1)) != NULL ||
        memchr(rest.p, '>', (size_t)(close - rest.p)) != NULL) {
        return false;
    }
    m->at = close + (is_comment ? 3 : 1);
    return true;
}

// What a template's engine puts in its place, "<%= user.name %>": a part, to be judged by itself.
static bool read_insertion(struct markup *m)
{
    static const char *const MARKS[][2] = {{"<%", "%>"}, {"<?php ", "?>"}, {"<?=", "?>"}};
    struct waf_str rest = {m->at, (size_t)(m->end - m->at)};
    for (size_t i = 0; i < sizeof MARKS / sizeof MARKS[0]; i++) {
        const char *close =
            begins(rest, MARKS[i][0]) ? memmem(rest.p, rest.n, MARKS[i][1], 2) : NULL;
        if (close != NULL) {
            keep(m, (struct waf_str){rest.p, (size_t)(close + 2 - rest.p)});
            m->at = close + 2;
            return true;
        }
    }
    return false;
}

// Up to the end tag: a style sheet that loads nothing.
static bool read_content(struct markup *m, struct waf_str name)
{
    char close[TAG_NAME_MAX + 3];
    (void)snprintf(close, sizeof close, "</%.*s", (int)name.n, name.p);
    for (const char *p = m->at; p < m->end; p++) {
        struct waf_str rest = {p, (size_t)(m->end - p)};
        if (*p == '<' && begins(rest, close)) {
            struct waf_str inside = {m->at, (size_t)(p - m->at)};
            m->at = p;
            return is_harmless_style(inside);
        }
        if (*p == '<') {
            return false;
        }
    }
    return false;
}

// The end of a script that holds nothing: what it is stands elsewhere.
static bool read_empty_end(struct markup *m)
{
    static const char END[] = "</script>";
    bool is_here = begins((struct waf_str){m->at, (size_t)(m->end - m->at)}, END);
    m->at += is_here ? sizeof END - 1 : 0;
    return is_here;
}

static bool read_tag(struct markup *m)
{
    char next = m->at + 1 < m->end ? m->at[1] : ' ';
    if ((next == '%' || next == '?') && read_insertion(m)) {
        return true;
    }
    if (next == '!' || next == '?') {
        return read_declaration(m);
    }
    bool is_end = next == '/';
    m->at += is_end ? 2 : 1;
    struct waf_str name = name_at(m);
    bool is_style = waf_ieq(name, WAF_LIT("style"));
    bool is_script = !is_end && waf_ieq(name, WAF_LIT("script"));
    if (!is_style && !is_script && !is_harmless_element(name)) {
        return false;
    }
    m->tags++;
    m->text[m->text_n++] = ' ';
    if (is_end) {
        skip_space(m);
        return m->at < m->end && *m->at++ == '>';
    }
    return read_attributes(m, name) && (!is_style || read_content(m, name)) &&
           (!is_script || read_empty_end(m));
}

// Text: an entity of the five that markup needs as what it stands for, but an angle as a gap: one
// that is written so opens no tag.
static void read_text(struct markup *m)
{
    static const struct {
        const char *name;
        char byte;
    } ENTITIES[] = {{"&amp;", '&'}, {"&lt;", ' '}, {"&gt;", ' '}, {"&quot;", '"'}, {"&#39;", '\''}};
    struct waf_str rest = {m->at, (size_t)(m->end - m->at)};
    for (size_t i = 0; *m->at == '&' && i < sizeof ENTITIES / sizeof ENTITIES[0]; i++) {
        if (begins(rest, ENTITIES[i].name)) {
            m->text[m->text_n++] = ENTITIES[i].byte;
            m->at += strlen(ENTITIES[i].name);
            return;
        }
    }
    m->text[m->text_n++] = *m->at++;
}

bool waf_is_harmless_markup(struct waf_tx *tx, struct waf_str s, struct waf_vec *parts)
{
    if (s.n < 4 || memchr(s.p, '<', s.n) == NULL || memchr(s.p, '>', s.n) == NULL) {
        return false;
    }
    struct markup m = {.tx = tx, .at = s.p, .end = s.p + s.n, .parts = parts};
    m.text = waf_alloc(&tx->arena, s.n + 1);
    while (m.at < m.end) {
        bool is_tag = *m.at == '<' && m.at + 1 < m.end && !waf_is_space((unsigned char)m.at[1]) &&
                      !waf_is_digit((unsigned char)m.at[1]) && m.at[1] != '=';
        if (!is_tag) {
            read_text(&m);
        } else if (!read_tag(&m)) {
            return false;
        }
    }
    size_t lead = 0;
    while (lead < m.text_n && waf_is_space((unsigned char)m.text[lead])) {
        lead++;
    }
    keep(&m, (struct waf_str){m.text + lead, m.text_n - lead});
    return m.tags > 0;
}

bool waf_is_data_image(struct waf_str s)
{
    static const char *const TYPES[] = {"png", "jpeg", "jpg", "gif", "webp", "avif", "bmp"};
    if (!begins(s, "data:image/")) {
        return false;
    }
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
        struct waf_str rest = {s.p + 11, s.n - 11};
        size_t n = strlen(TYPES[i]);
        if (!begins(rest, TYPES[i]) || rest.n < n + 8 || memcmp(rest.p + n, ";base64,", 8) != 0) {
            continue;
        }
        for (size_t k = n + 8; k < rest.n; k++) {
            char c = rest.p[k];
            if (!is_name_byte(c) && c != '+' && c != '/' && c != '=' && c != ' ') {
                return false;
            }
        }
        return true;
    }
    return false;
}
