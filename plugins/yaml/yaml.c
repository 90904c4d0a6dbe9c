/* SPDX-License-Identifier: Apache-2.0 */
#include "yaml/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define OUTPUT_MAX ((size_t)32 << 20)
#define DEPTH_MAX 200
#define ANCHORS_MAX 4096
#define YAML_PACE 128

struct anchor {
    char *name;
    size_t begin, end; // in the output
};

struct level {
    bool is_mapping;
    bool expects_value; // of a mapping: a key has been written
    bool has_items;
    int anchor; // -1: none
};

struct writer {
    char *data;
    size_t len, cap; // len <= cap <= OUTPUT_MAX
    struct level levels[DEPTH_MAX + 1];
    unsigned depth;
    struct anchor *anchors;
    int anchor_count;
    const char *error;
    bool has_value;
};

static bool put(struct writer *w, const char *bytes, size_t len)
{
    if (w->cap - w->len < len) {
        size_t cap = w->cap * 2 > w->len + len ? w->cap * 2 : w->len + len + 4096;
        char *grown = cap <= OUTPUT_MAX ? realloc(w->data, cap) : NULL;
        if (grown == NULL) {
            w->error = "the text is too large";
            return false;
        }
        w->data = grown;
        w->cap = cap;
    }
    // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): its length is 0 where it is NULL
    memcpy(w->data + w->len, bytes, len);
    w->len += len;
    return true;
}

static bool put_string(struct writer *w, const char *s, size_t len)
{
    bool is_put = put(w, "\"", 1);
    size_t run = 0;
    for (size_t i = 0; i < len && is_put; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        char text[8];
        int n = c < 0x20 ? snprintf(text, sizeof text, "\\u%04x", c)
                         : snprintf(text, sizeof text, "\\%c", c);
        is_put = put(w, s + run, i - run) && put(w, text, (size_t)n);
        run = i + 1;
    }
    return is_put && put(w, s + run, len - run) && put(w, "\"", 1);
}

static bool is_one_of(const char *s, size_t len, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strlen(*words) == len && memcmp(*words, s, len) == 0) {
            return true;
        }
    }
    return false;
}

static size_t digits(const char *s, size_t len, size_t at)
{
    size_t begin = at;
    while (at < len && s[at] >= '0' && s[at] <= '9') {
        at++;
    }
    return at - begin;
}

// Writes a plain scalar that is a number of the core schema. False: it is none.
static bool put_number(struct writer *w, const char *s, size_t len)
{
    char text[340];
    size_t at = 0, n = 0;
    if (len == 0 || len > 300) {
        return false;
    }
    if (len > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'o')) {
        memcpy(text, s + 2, len - 2);
        text[len - 2] = '\0';
        char *end;
        unsigned long long value = strtoull(text, &end, s[1] == 'x' ? 16 : 8);
        if (*end != '\0' || text[0] == '-' || text[0] == '+' || len > 17) {
            return false;
        }
        int written = snprintf(text, sizeof text, "%llu", value);
        return put(w, text, (size_t)written);
    }
    if (s[at] == '-') {
        text[n++] = '-';
    }
    at += s[at] == '-' || s[at] == '+';
    size_t whole = digits(s, len, at), skip = 0;
    while (skip + 1 < whole && s[at + skip] == '0') {
        skip++; // 007 is 7
    }
    if (whole == 0) {
        text[n++] = '0';
    }
    memcpy(text + n, s + at + skip, whole - skip);
    n += whole - skip;
    at += whole;
    size_t fraction = 0;
    if (at < len && s[at] == '.') {
        fraction = digits(s, len, at + 1);
        if (fraction > 0) {
            memcpy(text + n, s + at, fraction + 1);
            n += fraction + 1;
        }
        at += fraction + 1;
    }
    if (whole + fraction == 0) {
        return false;
    }
    if (at < len && (s[at] == 'e' || s[at] == 'E')) {
        size_t begin = at++;
        at += at < len && (s[at] == '-' || s[at] == '+');
        size_t power = digits(s, len, at);
        if (power == 0) {
            return false;
        }
        at += power;
        memcpy(text + n, s + begin, at - begin);
        n += at - begin;
    }
    return at == len && put(w, text, n);
}

static bool put_scalar(struct writer *w, const yaml_event_t *event, bool is_key)
{
    static const char *const NULLS[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const TRUES[] = {"true", "True", "TRUE", NULL};
    static const char *const FALSES[] = {"false", "False", "FALSE", NULL};
    const char *s = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    const char *tag = (const char *)event->data.scalar.tag;
    bool is_text = is_key || event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE ||
                   (tag != NULL && strcmp(tag, YAML_STR_TAG) == 0);
    if (is_text) {
        return put_string(w, s, len);
    }
    if (is_one_of(s, len, NULLS)) {
        return put(w, "null", 4);
    }
    if (is_one_of(s, len, TRUES)) {
        return put(w, "true", 4);
    }
    if (is_one_of(s, len, FALSES)) {
        return put(w, "false", 5);
    }
    return put_number(w, s, len) || (w->error == NULL && put_string(w, s, len));
}

// Writes what stands before a node. False where the node may not stand here.
static bool begin_node(struct writer *w, bool is_scalar, bool *is_key)
{
    struct level *l = &w->levels[w->depth];
    *is_key = false;
    if (w->depth == 0) {
        if (w->has_value) {
            w->error = "more than one document";
            return false;
        }
        w->has_value = true;
        return true;
    }
    if (l->is_mapping && !l->expects_value) {
        if (!is_scalar) {
            w->error = "a name that is no text";
            return false;
        }
        *is_key = true;
        l->expects_value = true;
    } else if (l->is_mapping) {
        l->expects_value = false;
        return put(w, ":", 1);
    }
    bool is_first = !l->has_items;
    l->has_items = true;
    return is_first || put(w, ",", 1);
}

static int add_anchor(struct writer *w, const yaml_char_t *name)
{
    if (name == NULL) {
        return -1;
    }
    if (w->anchor_count == ANCHORS_MAX) {
        w->error = "too many anchors";
        return -1;
    }
    if (w->anchors == NULL) {
        w->anchors = calloc(ANCHORS_MAX, sizeof *w->anchors);
    }
    char *copy = strdup((const char *)name);
    if (w->anchors == NULL || copy == NULL) {
        free(copy);
        w->error = "no memory is left";
        return -1;
    }
    w->anchors[w->anchor_count] = (struct anchor){copy, w->len, 0};
    return w->anchor_count++;
}

static bool put_alias(struct writer *w, const char *name)
{
    for (int i = w->anchor_count - 1; i >= 0; i--) {
        struct anchor a = w->anchors[i];
        if (strcmp(a.name, name) != 0) {
            continue;
        }
        if (a.end == 0) {
            w->error = "an alias within what it stands for";
            return false;
        }
        // Room first: the bytes copied lie in the buffer that may move.
        size_t len = a.end - a.begin, before = w->len;
        for (size_t done = 0; done < len;) {
            char chunk[4096];
            size_t part = len - done < sizeof chunk ? len - done : sizeof chunk;
            memcpy(chunk, w->data + a.begin + done, part);
            if (!put(w, chunk, part)) {
                return false;
            }
            done += part;
        }
        return w->len == before + len;
    }
    w->error = "an alias of nothing";
    return false;
}

static bool open_level(struct writer *w, bool is_mapping, const yaml_char_t *anchor)
{
    bool is_key;
    if (w->depth == DEPTH_MAX) {
        w->error = "nested too deeply";
        return false;
    }
    if (!begin_node(w, false, &is_key)) {
        return false;
    }
    int index = add_anchor(w, anchor);
    w->levels[++w->depth] = (struct level){is_mapping, false, false, index};
    return w->error == NULL && put(w, is_mapping ? "{" : "[", 1);
}

static bool close_level(struct writer *w)
{
    struct level *l = &w->levels[w->depth--];
    bool is_put = put(w, l->is_mapping ? "}" : "]", 1);
    if (l->anchor >= 0) {
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): clang 14 does not follow how it is set
        w->anchors[l->anchor].end = w->len;
    }
    return is_put;
}

static bool on_event(struct writer *w, const yaml_event_t *event)
{
    bool is_key;
    switch (event->type) {
    case YAML_SCALAR_EVENT: {
        if (!begin_node(w, true, &is_key)) {
            return false;
        }
        if (is_key && event->data.scalar.length == 2 &&
            memcmp(event->data.scalar.value, "<<", 2) == 0) {
            w->error = "merge keys are not part of YAML 1.2";
            return false;
        }
        int index = add_anchor(w, event->data.scalar.anchor);
        bool is_put = w->error == NULL && put_scalar(w, event, is_key);
        if (index >= 0) {
            w->anchors[index].end = w->len;
        }
        return is_put;
    }
    case YAML_SEQUENCE_START_EVENT:
        return open_level(w, false, event->data.sequence_start.anchor);
    case YAML_MAPPING_START_EVENT:
        return open_level(w, true, event->data.mapping_start.anchor);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return close_level(w);
    case YAML_ALIAS_EVENT:
        return begin_node(w, false, &is_key) &&
               put_alias(w, (const char *)event->data.alias.anchor);
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return true;
}

static void describe(const yaml_parser_t *parser, char *error)
{
    (void)snprintf(error, YAML_ERROR_BYTES, "line %zu: %s", parser->problem_mark.line + 1,
                   parser->problem != NULL ? parser->problem : "not YAML");
}

bool yaml_to_json(struct moon_slice text, void (*pace)(void), char **out, size_t *len, char *error)
{
    yaml_parser_t parser;
    struct writer w = {0};
    bool is_well = true, is_over = false;
    if (yaml_parser_initialize(&parser) == 0) {
        (void)snprintf(error, YAML_ERROR_BYTES, "no memory is left");
        return false;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.len > 0 ? text.data : ""),
                                 text.len);
    for (unsigned count = 1; is_well && !is_over; count++) {
        yaml_event_t event;
        if (pace != NULL && count % YAML_PACE == 0) {
            pace();
        }
        if (yaml_parser_parse(&parser, &event) == 0) {
            describe(&parser, error);
            is_well = false;
            break;
        }
        is_over = event.type == YAML_STREAM_END_EVENT;
        is_well = on_event(&w, &event);
        if (!is_well) {
            (void)snprintf(error, YAML_ERROR_BYTES, "line %zu: %s", event.start_mark.line + 1,
                           w.error);
        }
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    for (int i = 0; i < w.anchor_count; i++) {
        free(w.anchors[i].name);
    }
    free(w.anchors);
    is_well = is_well && (w.has_value || put(&w, "null", 4)) && put(&w, "", 1);
    if (!is_well) {
        free(w.data);
        return false;
    }
    *out = w.data;
    *len = w.len - 1;
    return true;
}
