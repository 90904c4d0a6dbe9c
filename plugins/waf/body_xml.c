// SPDX-License-Identifier: Apache-2.0
// XML bodies, by libxml2's push parser: the text of the root element and all attribute values.
// Entities are never expanded and nothing is ever fetched: a declared one stands for nothing.
#include "moongate/xml_bounds.h"

#include "waf/waf.h"

#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/xmlerror.h>
#include <stdlib.h>

enum { DEPTH_MAX = 256, TEXT_MAX = 16 * 1024 * 1024 };

// libxml2 calls us back, so nothing in here may leave by the arena's longjmp: malloc is used.
struct reader {
    char *text;
    size_t n, cap;
    char *attributes; // values, each with a NUL after it
    size_t attributes_n, attributes_cap;
    unsigned depth;
    int namespaces[DEPTH_MAX + 1], namespaces_open; // declared at each depth, and at all
    bool bad;
    bool is_split; // a NUL after the text of each element
};

static bool append(char **p, size_t *n, size_t *cap, const void *from, size_t add)
{
    if (*n + add + 1 > *cap) {
        size_t more = (*n + add + 1) * 2;
        char *bigger = more > TEXT_MAX ? NULL : realloc(*p, more);
        if (bigger == NULL) {
            return false;
        }
        *p = bigger;
        *cap = more;
    }
    memcpy(*p + *n, from, add);
    *n += add;
    return true;
}

static void stop(xmlParserCtxtPtr ctxt, struct reader *r)
{
    r->bad = true;
    xmlStopParser(ctxt);
}

static struct reader *reader_of(void *ctx)
{
    return ((xmlParserCtxtPtr)ctx)->_private;
}

// The text so far was one value.
static bool split(struct reader *r)
{
    return !r->is_split || r->n == 0 || r->text[r->n - 1] == '\0' ||
           append(&r->text, &r->n, &r->cap, "", 1);
}

static void on_start(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                     int namespaces, const xmlChar **ns, int count, int defaulted,
                     const xmlChar **attributes)
{
    struct reader *r = reader_of(ctx);
    (void)name, (void)prefix, (void)uri, (void)ns, (void)defaulted;
    if (++r->depth > DEPTH_MAX || !split(r)) {
        stop(ctx, r);
        return;
    }
    r->namespaces[r->depth] = namespaces;
    r->namespaces_open += namespaces;
    if (r->namespaces_open > MOON_XML_NAMESPACES) {
        stop(ctx, r);
        return;
    }
    for (int i = 0; i < count; i++) {
        const char *from = (const char *)attributes[i * 5 + 3];
        const char *to = (const char *)attributes[i * 5 + 4];
        if (!append(&r->attributes, &r->attributes_n, &r->attributes_cap, from,
                    (size_t)(to - from)) ||
            !append(&r->attributes, &r->attributes_n, &r->attributes_cap, "", 1)) {
            stop(ctx, r);
            return;
        }
    }
}

static void on_end(void *ctx, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    struct reader *r = reader_of(ctx);
    (void)name, (void)prefix, (void)uri;
    r->namespaces_open -= r->namespaces[r->depth];
    r->depth--;
    if (!split(r)) {
        stop(ctx, r);
    }
}

static void on_text(void *ctx, const xmlChar *text, int n)
{
    struct reader *r = reader_of(ctx);
    if (!append(&r->text, &r->n, &r->cap, text, (size_t)n)) {
        stop(ctx, r);
    }
}

static xmlEntityPtr on_entity(void *ctx, const xmlChar *name)
{
    xmlEntityPtr known = xmlGetPredefinedEntity(name);
    return known != NULL ? known : xmlSAX2GetEntity(ctx, name);
}

static void on_entity_declared(void *ctx, const xmlChar *name, int type, const xmlChar *public_id,
                               const xmlChar *system_id, xmlChar *content)
{
    static xmlChar nothing[1] = {0};
    (void)public_id, (void)system_id, (void)content;
    bool parameter = type == XML_INTERNAL_PARAMETER_ENTITY || type == XML_EXTERNAL_PARAMETER_ENTITY;
    xmlSAX2EntityDecl(ctx, name,
                      parameter ? XML_INTERNAL_PARAMETER_ENTITY : XML_INTERNAL_GENERAL_ENTITY, NULL,
                      NULL, nothing);
}

static xmlParserInputPtr no_outside(void *ctx, const xmlChar *public_id, const xmlChar *system_id)
{
    (void)ctx, (void)public_id, (void)system_id;
    return NULL;
}

static void quiet(void *ctx, const char *format, ...)
{
    (void)ctx, (void)format;
}

static void quiet_structured(void *ctx, xmlErrorPtr error)
{
    (void)ctx, (void)error;
}

static void sax_init(xmlSAXHandler *sax)
{
    xmlSAXVersion(sax, 2);
    sax->startElementNs = on_start;
    sax->endElementNs = on_end;
    sax->characters = on_text;
    sax->ignorableWhitespace = on_text;
    sax->cdataBlock = on_text;
    sax->comment = NULL;
    sax->processingInstruction = NULL;
    sax->reference = NULL;
    sax->getEntity = on_entity;
    sax->entityDecl = on_entity_declared;
    sax->resolveEntity = no_outside;
    sax->externalSubset = NULL;
    sax->warning = quiet;
    sax->error = quiet;
    sax->fatalError = quiet;
    sax->serror = quiet_structured;
}

// In attributes libxml2 writes an ampersand, however it came, as "&#38;".
static struct waf_str plain(struct waf_arena *a, struct waf_str s)
{
    struct waf_str out = waf_dup(a, s);
    char *p = (char *)(uintptr_t)out.p;
    size_t n = 0;
    for (size_t i = 0; i < s.n; n++) {
        bool amp = s.n - i >= 5 && memcmp(s.p + i, "&#38;", 5) == 0;
        p[n] = s.p[i];
        i += amp ? 5 : 1;
    }
    return (struct waf_str){p, n};
}

static bool is_blank(struct waf_str s)
{
    size_t i = 0;
    while (i < s.n && waf_is_space((unsigned char)s.p[i])) {
        i++;
    }
    return i == s.n;
}

// Each of `n` bytes' texts, a NUL after each, as an argument.
static void take_values(struct waf_tx *tx, const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = strnlen(p + i, n - i);
        struct waf_str value = {p + i, len};
        if (!is_blank(value)) {
            waf_arg_add(tx, WAF_LIT("xml"), plain(&tx->arena, value), WAF_FROM_BODY);
        }
        i += len + 1;
    }
}

static void take(struct waf_tx *tx, const struct reader *r)
{
    if (r->is_split) {
        take_values(tx, r->text, r->n);
        take_values(tx, r->attributes, r->attributes_n);
        tx->xml_text = WAF_LIT("");
        tx->xml_ok = true;
        return;
    }
    tx->xml_text = waf_dup(&tx->arena, (struct waf_str){r->text, r->n});
    for (size_t i = 0; i < r->attributes_n;) {
        struct waf_str value = waf_cstr(r->attributes + i);
        struct waf_str *v = waf_push(&tx->arena, &tx->xml_attributes, sizeof *v);
        *v = plain(&tx->arena, value);
        i += value.n + 1;
    }
    tx->xml_ok = true;
}

void waf_body_xml(struct waf_tx *tx, struct waf_str body)
{
    xmlSAXHandler sax;
    struct reader r = {.is_split = tx->rules->options.values};
    if (body.n == 0) {
        return;
    }
    if (!moon_xml_is_bounded(body.p, body.n)) {
        waf_body_error(tx, "XML parsing error: XML: an element or a DTD has too many attributes.");
        return;
    }
    sax_init(&sax);
    xmlParserCtxtPtr ctxt = xmlCreatePushParserCtxt(&sax, NULL, NULL, 0, NULL);
    if (ctxt == NULL) {
        waf_body_error(tx, "XML: out of memory");
        return;
    }
    ctxt->_private = &r;
    xmlCtxtUseOptions(ctxt, XML_PARSE_NONET);
    bool fits = body.n <= INT32_MAX;
    bool ok = fits && xmlParseChunk(ctxt, body.p, (int)body.n, 0) == XML_ERR_OK;
    bool ends = fits && xmlParseChunk(ctxt, NULL, 0, 1) == XML_ERR_OK && ctxt->wellFormed;
    ok = ok && !r.bad && (ends || tx->body_over_limit); // a body that was cut off ends nowhere
    if (ctxt->myDoc != NULL) {
        xmlFreeDoc(ctxt->myDoc);
    }
    xmlFreeParserCtxt(ctxt);
    // From here on the arena may run full: what we hold goes first, or is taken along.
    jmp_buf full, *outer = tx->arena.full;
    if (setjmp(full) != 0) {
        free(r.text);
        free(r.attributes);
        tx->arena.full = outer;
        longjmp(*outer, 1);
    }
    tx->arena.full = &full;
    if (ok) {
        take(tx, &r);
    }
    tx->arena.full = outer;
    free(r.text);
    free(r.attributes);
    if (!ok) {
        waf_body_error(tx, "XML parsing error: XML: Failed to parse document.");
    }
}
