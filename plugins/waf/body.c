// SPDX-License-Identifier: Apache-2.0
// Request bodies: choice of a processor, and the urlencoded one (queries and cookies too).
#include "waf/waf.h"

#include <stdarg.h>
#include <stdio.h>

void waf_body_error(struct waf_tx *tx, const char *format, ...)
{
    char text[256];
    va_list args;
    if (tx->body_error) {
        return; // the first one tells most
    }
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tx->body_error = true;
    tx->body_error_msg = waf_dup(&tx->arena, waf_cstr(text));
}

void waf_arg_add(struct waf_tx *tx, struct waf_str name, struct waf_str value,
                 enum waf_origin origin)
{
    if (tx->args.n >= tx->rules->options.arguments_limit) {
        if (!tx->args_limited) {
            tx->args_limited = true;
            waf_body_error(tx, "SecArgumentsLimit exceeded");
        }
        return;
    }
    struct waf_arg *a = waf_push(&tx->arena, &tx->args, sizeof *a);
    a->name = waf_text_new(tx, name, WAF_REQUEST);
    a->value = waf_text_new(tx, value, WAF_REQUEST);
    a->origin = origin;
    a->is_prose = false;
    if (tx->rules->options.values) {
        waf_context_arg(tx, a);
    }
}

// '+' and %XX; a percent sign that starts no escape stays, and is told.
static struct waf_str decode(struct waf_tx *tx, struct waf_str s)
{
    size_t i = 0;
    while (i < s.n && s.p[i] != '%' && s.p[i] != '+') {
        i++;
    }
    if (i == s.n) {
        return s;
    }
    char *p = waf_alloc(&tx->arena, s.n + 1), *d = p + i;
    memcpy(p, s.p, i);
    for (; i < s.n; i++) {
        char c = s.p[i];
        if (c == '%') {
            int hi = i + 2 < s.n ? waf_hex((unsigned char)s.p[i + 1]) : -1;
            int lo = hi >= 0 ? waf_hex((unsigned char)s.p[i + 2]) : -1;
            if (lo >= 0) {
                c = (char)(hi * 16 + lo);
                i += 2;
            } else {
                tx->urlencoded_error = true;
            }
        } else if (c == '+') {
            c = ' ';
        }
        *d++ = c;
    }
    return (struct waf_str){p, (size_t)(d - p)};
}

void waf_parse_query(struct waf_tx *tx, struct waf_str s, enum waf_origin origin)
{
    char separator = tx->rules->options.argument_separator;
    for (size_t i = 0; i < s.n && !tx->args_limited;) {
        const char *end = memchr(s.p + i, separator, s.n - i);
        size_t n = end == NULL ? s.n - i : (size_t)(end - s.p) - i;
        const char *eq = memchr(s.p + i, '=', n);
        size_t name_n = eq == NULL ? n : (size_t)(eq - s.p) - i;
        struct waf_str name = {s.p + i, name_n}, value = WAF_LIT("");
        if (eq != NULL) {
            value = (struct waf_str){eq + 1, n - name_n - 1};
        }
        waf_arg_add(tx, decode(tx, name), decode(tx, value), origin);
        i += n + 1;
    }
}

static void parse_cookies(struct waf_tx *tx, struct waf_str header)
{
    for (size_t i = 0; i < header.n;) {
        const char *end = memchr(header.p + i, ';', header.n - i);
        size_t stop = end == NULL ? header.n : (size_t)(end - header.p);
        while (i < stop && waf_is_space((unsigned char)header.p[i])) {
            i++;
        }
        struct waf_str name = {header.p + i, stop - i}, value = WAF_LIT("");
        const char *eq = name.n == 0 ? NULL : memchr(name.p, '=', name.n);
        if (eq != NULL) {
            value = (struct waf_str){eq + 1, (size_t)(name.p + name.n - eq) - 1};
            name.n = (size_t)(eq - name.p);
        }
        if (name.n != 0 && tx->cookies.n < tx->rules->options.arguments_limit) {
            struct waf_arg *c = waf_push(&tx->arena, &tx->cookies, sizeof *c);
            c->name = waf_text_new(tx, name, WAF_REQUEST);
            c->value = waf_text_new(tx, value, WAF_REQUEST);
        }
        i = stop + 1;
    }
}

void waf_read_cookies(struct waf_tx *tx)
{
    for (uint32_t i = 0; i < tx->headers.n && !tx->cookies_are_read; i++) {
        const struct waf_header *h = WAF_AT(&tx->headers, struct waf_header, i);
        if (waf_ieq(h->name, WAF_LIT("Cookie"))) {
            parse_cookies(tx, h->value);
        }
    }
    tx->cookies_are_read = true;
}

void waf_body_process(struct waf_tx *tx)
{
    if (tx->processor != WAF_PROCESSOR_NONE) {
        waf_read_query(tx); // its arguments come first, and count for the limit
    }
    struct waf_str body = {tx->body != NULL ? tx->body : "", tx->body_n};
    switch (tx->processor) {
    case WAF_PROCESSOR_NONE:
        break;
    case WAF_PROCESSOR_URLENCODED:
        waf_parse_query(tx, body, WAF_FROM_BODY);
        break;
    case WAF_PROCESSOR_MULTIPART:
        waf_body_multipart(tx, body);
        break;
    case WAF_PROCESSOR_JSON:
        waf_body_json(tx, body);
        break;
    case WAF_PROCESSOR_XML:
        if (tx->rules->options.values) {
            waf_context_xml(tx, body);
        }
        waf_body_xml(tx, body);
        break;
    case WAF_PROCESSOR_UNKNOWN:
        waf_body_error(tx, "Unknown request body processor: %.*s", (int)tx->processor_name.n,
                       tx->processor_name.p);
        break;
    }
}
