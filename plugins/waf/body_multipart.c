// SPDX-License-Identifier: Apache-2.0
// multipart/form-data bodies. What a lenient and a strict parser would read differently is not
// repaired but told, by the MULTIPART_* variables.
#include "waf/waf.h"

enum {
    CONTENT_TYPE_MAX = 1024,
    BOUNDARY_MAX = 70 + 186,
    PART_HEADER_MAX = 4096,
    PARTS_MAX = 100000
};

struct part {
    struct waf_str name, filename;
    bool has_name, has_filename, has_disposition;
    uint32_t first_header; // in tx->part_headers
    const char *content;
};

struct reader {
    struct waf_tx *tx;
    struct waf_multipart *m;
    struct waf_str boundary;
    const char *p, *end;
    bool seen_crlf, seen_lf;
    bool in_headers, in_part, is_final;
    struct part part;
    const char *line_end_before; // end of the line before this one, its line end included
    unsigned parts;
};

static bool fail(struct reader *r, const char *what)
{
    waf_body_error(r->tx, "Multipart parsing error: Multipart: %s", what);
    return false;
}

static ptrdiff_t find_folded(struct waf_str s, const char *what, size_t from)
{
    size_t n = strlen(what);
    for (size_t i = from; i + n <= s.n; i++) {
        if (waf_ieq((struct waf_str){s.p + i, n}, (struct waf_str){what, n})) {
            return (ptrdiff_t)i;
        }
    }
    return -1;
}

static bool boundary_bytes_ok(struct waf_str b)
{
    for (size_t i = 0; i < b.n; i++) {
        unsigned char c = (unsigned char)b.p[i];
        bool ok = waf_is_alnum(c) || (c != 0 && strchr("'()+_,-./:=? ", c) != NULL);
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool read_boundary_value(struct reader *r, struct waf_str v)
{
    while (v.n != 0 && waf_is_space((unsigned char)v.p[v.n - 1])) {
        v.n--;
        r->m->boundary_whitespace = true;
    }
    if (v.n >= 1 && v.p[0] == '"') {
        r->m->boundary_quoted = true;
        if (v.n < 2 || v.p[v.n - 1] != '"') {
            return fail(r, "Invalid boundary in C-T (quote).");
        }
        v = (struct waf_str){v.p + 1, v.n - 2};
    } else {
        const char *semi = v.n == 0 ? NULL : memchr(v.p, ';', v.n);
        if (semi != NULL) {
            v.n = (size_t)(semi - v.p);
        }
    }
    if (v.n == 0) {
        return fail(r, "Invalid boundary in C-T (empty).");
    }
    if (v.n > BOUNDARY_MAX || !boundary_bytes_ok(v) || memchr(v.p, '"', v.n) != NULL) {
        return fail(r, "Invalid boundary in C-T (characters).");
    }
    r->boundary = v;
    return true;
}

static bool read_boundary(struct reader *r)
{
    struct waf_str ct = waf_request_header(r->tx, "Content-Type");
    static const char lead[] = "multipart/form-data";
    if (ct.p == NULL) {
        return fail(r, "Content-Type header not available.");
    }
    if (ct.n > CONTENT_TYPE_MAX) {
        return fail(r, "Invalid boundary in C-T (length).");
    }
    if (find_folded(ct, lead, 0) != 0) {
        return fail(r, "Invalid MIME type.");
    }
    ptrdiff_t at = find_folded(ct, "boundary", 0);
    if (at < 0) {
        return fail(r, "Boundary not found in C-T.");
    }
    if (find_folded(ct, "boundary=", (size_t)at + 9) >= 0) {
        return fail(r, "Multiple boundary parameters in C-T.");
    }
    if (memcmp(ct.p + at, "boundary", 8) != 0) {
        return fail(r, "Invalid boundary in C-T (case sensitivity).");
    }
    r->m->missing_semicolon = memchr(ct.p, ';', (size_t)at) == NULL;
    size_t i = (size_t)at + 8;
    while (i < ct.n && waf_is_space((unsigned char)ct.p[i])) {
        r->m->boundary_whitespace = true;
        i++;
    }
    if (i >= ct.n || ct.p[i] != '=') {
        return fail(r, "Invalid boundary in C-T (parameter).");
    }
    i++;
    while (i < ct.n && waf_is_space((unsigned char)ct.p[i])) {
        r->m->boundary_whitespace = true;
        i++;
    }
    return read_boundary_value(r, (struct waf_str){ct.p + i, ct.n - i});
}

// --- part headers ------------------------------------------------------------------

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

// One value of a parameter, quoted or a token. @return what follows it
static const char *param_value(struct reader *r, const char *p, const char *end,
                               struct waf_str *out)
{
    if (p < end && (*p == '"' || *p == '\'')) {
        char quote = *p;
        if (quote == '\'') {
            r->m->invalid_quoting = true;
        }
        char *buf = waf_alloc(&r->tx->arena, (size_t)(end - p) + 1), *d = buf;
        for (p++; p < end && *p != quote; p++) {
            if (*p == '\\') {
                if (end - p > 1 && (p[1] == '\\' || p[1] == quote)) {
                    p++;
                } else if (end - p <= 1) {
                    r->m->invalid_quoting = true;
                }
            }
            *d++ = *p;
        }
        if (p < end) {
            p++;
        } else {
            r->m->invalid_quoting = true;
        }
        *out = (struct waf_str){buf, (size_t)(d - buf)};
        return p;
    }
    const char *start = p;
    while (p < end && *p != ';' && !waf_is_space((unsigned char)*p)) {
        p++;
    }
    *out = (struct waf_str){start, (size_t)(p - start)};
    return p;
}

// As mod_security2 has it, there are two; a third (filename*) may be the name that the application
// takes.
static bool read_param(struct reader *r, struct waf_str name, struct waf_str value)
{
    struct part *part = &r->part;
    if (waf_eq(name, WAF_LIT("name"))) {
        if (part->has_name) {
            return fail(r, "Duplicate Content-Disposition name.");
        }
        part->has_name = true;
        part->name = value;
        r->m->name = value;
    } else if (waf_eq(name, WAF_LIT("filename"))) {
        if (part->has_filename) {
            return fail(r, "Duplicate Content-Disposition filename.");
        }
        part->has_filename = true;
        part->filename = value;
        r->m->filename = value;
    } else {
        return fail(r, "Invalid Content-Disposition header (-11)");
    }
    return true;
}

// "form-data; name="x"; filename="y""
static bool read_disposition(struct reader *r, struct waf_str v)
{
    const char *p = v.p, *end = v.p + v.n;
    r->part.has_disposition = true;
    if (find_folded(v, "form-data", 0) != 0) {
        return fail(r, "Invalid Content-Disposition header (-1)");
    }
    p += 9;
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    if (p < end && *p != ';') {
        return fail(r, "Invalid Content-Disposition header (-2)");
    }
    while (p < end) {
        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }
        if (p < end && *p != ';') {
            r->m->missing_semicolon = true;
        } else {
            p++;
        }
        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }
        if (p >= end) {
            break;
        }
        const char *start = p;
        while (p < end && *p != '=' && *p != ' ' && *p != '\t' && *p != ';') {
            p++;
        }
        struct waf_str name = {start, (size_t)(p - start)}, value;
        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }
        if (p >= end || *p != '=' || name.n == 0) {
            return fail(r, "Invalid Content-Disposition header (-4)");
        }
        p++;
        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }
        p = param_value(r, p, end, &value);
        if (!read_param(r, name, value)) {
            return false;
        }
    }
    return true;
}

// A header that goes on in the next line: both may hold any byte, NUL too.
static struct waf_str unfold(struct waf_arena *arena, struct waf_str first, struct waf_str more)
{
    struct waf_str whole = {waf_alloc(arena, first.n + 1 + more.n), first.n + 1 + more.n};
    char *to = (char *)(uintptr_t)whole.p;
    memcpy(to, first.p, first.n);
    to[first.n] = ' ';
    memcpy(to + first.n + 1, more.p, more.n);
    return whole;
}

static bool read_header(struct reader *r, struct waf_str line)
{
    const char *colon = line.n == 0 ? NULL : memchr(line.p, ':', line.n);
    if (line.n > PART_HEADER_MAX) {
        return fail(r, "Part header line over 4096 bytes long");
    }
    if (line.p[0] == ' ' || line.p[0] == '\t') {
        r->m->header_folding = true;
        if (r->part.first_header == r->tx->part_headers.n) {
            r->m->invalid_header_folding = true;
            return fail(r, "Invalid part header (folding error).");
        }
        struct waf_arg *last =
            WAF_AT(&r->tx->part_headers, struct waf_arg, r->tx->part_headers.n - 1);
        last->value->s = unfold(&r->tx->arena, last->value->s, trim(line));
        return true;
    }
    if (colon == NULL) {
        return fail(r, "Invalid part header (colon missing).");
    }
    if (colon == line.p) {
        return fail(r, "Invalid part header (header name missing).");
    }
    struct waf_arg *h = waf_push(&r->tx->arena, &r->tx->part_headers, sizeof *h);
    *h = (struct waf_arg){.name = waf_text_new(r->tx, WAF_LIT(""), WAF_REQUEST),
                          .value = waf_text_new(r->tx, line, WAF_REQUEST)};
    return true;
}

// The blank line: what the headers said.
static bool end_headers(struct reader *r)
{
    struct waf_tx *tx = r->tx;
    for (uint32_t i = r->part.first_header; i < tx->part_headers.n; i++) {
        struct waf_str line = WAF_AT(&tx->part_headers, struct waf_arg, i)->value->s;
        size_t n = (size_t)((const char *)memchr(line.p, ':', line.n) - line.p);
        struct waf_str name = {line.p, n}, value = {line.p + n + 1, line.n - n - 1};
        if (waf_ieq(name, WAF_LIT("Content-Disposition")) && !read_disposition(r, trim(value))) {
            return false;
        }
    }
    if (!r->part.has_disposition) {
        r->m->invalid_part = true;
        return fail(r, "Part missing Content-Disposition header.");
    }
    if (!r->part.has_name) {
        r->m->invalid_part = true;
        return fail(r, "Invalid Content-Disposition header (-14)");
    }
    struct waf_text *key = waf_text_new(tx, r->part.name, WAF_REQUEST);
    for (uint32_t i = r->part.first_header; i < tx->part_headers.n; i++) {
        WAF_AT(&tx->part_headers, struct waf_arg, i)->name = key;
    }
    r->in_headers = false;
    r->part.content = r->p;
    return true;
}

// --- lines ---------------------------------------------------------------------------

// A part ends where the line end before its boundary starts.
static void end_part(struct reader *r, const char *boundary_line)
{
    struct waf_tx *tx = r->tx;
    const char *stop = boundary_line;
    if (r->in_headers) {
        r->m->invalid_part = true;
        fail(r, "Part headers not finished.");
        return;
    }
    if (stop > r->part.content && stop[-1] == '\n') {
        stop--;
        bool is_crlf = stop > r->part.content && stop[-1] == '\r';
        r->seen_crlf |= is_crlf; // the line end is the boundary's, not the content's
        r->seen_lf |= !is_crlf;
        stop -= is_crlf;
    }
    struct waf_str content = {r->part.content, (size_t)(stop - r->part.content)};
    if (!r->part.has_filename) {
        waf_arg_add(tx, r->part.name, content, WAF_FROM_BODY);
        return;
    }
    if (tx->files.n >= tx->rules->options.file_limit) {
        r->m->file_limit_exceeded = true;
        return;
    }
    struct waf_part_file *f = waf_push(&tx->arena, &tx->files, sizeof *f);
    *f = (struct waf_part_file){.name = waf_text_new(tx, r->part.name, WAF_REQUEST),
                                .filename = waf_text_new(tx, r->part.filename, WAF_REQUEST),
                                .size = content.n};
}

// @return 0: an ordinary line, 1: boundary, 2: last boundary, -1: neither, but near
static int boundary_kind(const struct reader *r, struct waf_str line)
{
    size_t n = r->boundary.n;
    if (line.n < n + 2 || line.p[0] != '-' || line.p[1] != '-' ||
        memcmp(line.p + 2, r->boundary.p, n) != 0) {
        return 0;
    }
    struct waf_str rest = {line.p + 2 + n, line.n - 2 - n};
    if (rest.n == 0) {
        return 1;
    }
    return rest.n == 2 && rest.p[0] == '-' && rest.p[1] == '-' ? 2 : -1;
}

static bool start_part(struct reader *r)
{
    if (++r->parts > PARTS_MAX) {
        return fail(r, "Too many parts.");
    }
    r->part = (struct part){.first_header = r->tx->part_headers.n};
    r->in_part = r->in_headers = true;
    return true;
}

static bool read_line(struct reader *r, const char *start, struct waf_str line, bool has_end)
{
    int kind = boundary_kind(r, line);
    if (r->is_final) {
        if (line.n != 0) {
            r->m->data_after = true;
        }
        return true;
    }
    bool is_cut = !has_end && r->tx->body_over_limit;
    if (kind < 0 && is_cut) {
        return true;
    }
    if (kind < 0) {
        return fail(r, "Invalid boundary (final, or something after it).");
    }
    if (kind != 0) {
        if (r->in_part) {
            end_part(r, start);
        }
        r->in_part = false;
        if (kind == 2) {
            r->is_final = true;
            return true;
        }
        return start_part(r);
    }
    if (line.n >= 2 && line.p[0] == '-' && line.p[1] == '-' && r->m->unmatched == 0) {
        r->m->unmatched = 1; // looks like a boundary, of another
    }
    if (!r->in_part) {
        r->m->data_before = true;
        return true;
    }
    if (!r->in_headers) {
        return true;
    }
    if (!has_end) {
        return is_cut || fail(r, "Part header line incomplete.");
    }
    return line.n == 0 ? end_headers(r) : read_header(r, line);
}

void waf_body_multipart(struct waf_tx *tx, struct waf_str body)
{
    struct reader r = {.tx = tx, .m = &tx->multipart, .p = body.p, .end = body.p + body.n};
    if (body.n == 0 || !read_boundary(&r)) { // nothing was sent: there is nothing to read
        return;
    }
    bool ok = true;
    while (ok && r.p < r.end) {
        const char *start = r.p, *nl = memchr(r.p, '\n', (size_t)(r.end - r.p));
        struct waf_str line = {start, (size_t)((nl == NULL ? r.end : nl) - start)};
        r.p = nl == NULL ? r.end : nl + 1;
        bool crlf = nl != NULL && line.n != 0 && line.p[line.n - 1] == '\r';
        if (crlf) {
            line.n--;
        }
        // Line ends count where they mean something: not within content.
        if (nl != NULL && (!r.in_part || r.in_headers || boundary_kind(&r, line) > 0)) {
            r.seen_crlf |= crlf;
            r.seen_lf |= !crlf;
        }
        ok = read_line(&r, start, line, nl != NULL);
    }
    r.m->lf_line = r.seen_lf;
    r.m->crlf_lf_lines = r.seen_lf && r.seen_crlf;
    if (ok && !r.is_final) {
        if (r.in_part && !r.in_headers) {
            end_part(&r, r.end);
        }
        if (!tx->body_over_limit) { // else it is behind what is inspected
            fail(&r, "Final boundary missing.");
        }
    }
}
