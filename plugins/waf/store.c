// SPDX-License-Identifier: Apache-2.0
// Persistent collections (IP, GLOBAL …): kept in the memory of this process, bounded, each record
// dropped when it has not been touched for its timeout.
#include "waf/waf.h"

#include <stdlib.h>

enum { BUCKETS = 4096, RECORDS_MAX = 65536, VARS_MAX = 64, NAME_MAX_BYTES = 256, VALUE_MAX = 4096 };

struct var {
    char *name, *value;
    size_t name_n, value_n;
    int64_t expires_s; // 0: with the record
};

struct waf_record {
    struct waf_record *next;
    enum waf_var collection;
    char *key;
    size_t key_n;
    uint32_t hash;
    int64_t expires_s;
    struct var vars[VARS_MAX];
    size_t n;
};

struct waf_store {
    struct waf_record *buckets[BUCKETS];
    size_t n;
    size_t sweep; // bucket to clean next
};

struct waf_store *waf_store_new(void)
{
    return calloc(1, sizeof(struct waf_store));
}

static void record_free(struct waf_record *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->vars[i].name);
        free(r->vars[i].value);
    }
    free(r->key);
    free(r);
}

void waf_store_free(struct waf_store *s)
{
    for (size_t i = 0; s != NULL && i < BUCKETS; i++) {
        while (s->buckets[i] != NULL) {
            struct waf_record *r = s->buckets[i];
            s->buckets[i] = r->next;
            record_free(r);
        }
    }
    free(s);
}

static void bucket_clean(struct waf_store *s, struct waf_record **at, int64_t now_s, bool all)
{
    while (*at != NULL) {
        struct waf_record *r = *at;
        if (r->expires_s > now_s && !all) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        record_free(r);
        s->n--;
    }
}

static struct waf_record *record_new(struct waf_store *s, enum waf_var collection,
                                     struct waf_str key, uint32_t hash)
{
    struct waf_record *r = calloc(1, sizeof *r);
    char *copy = malloc(key.n + 1);
    if (r == NULL || copy == NULL) {
        free(r);
        free(copy);
        return NULL;
    }
    if (key.n != 0) {
        memcpy(copy, key.p, key.n);
    }
    *r = (struct waf_record){.collection = collection, .key = copy, .key_n = key.n, .hash = hash};
    r->next = s->buckets[hash % BUCKETS];
    s->buckets[hash % BUCKETS] = r;
    s->n++;
    return r;
}

struct waf_record *waf_store_find(struct waf_store *s, enum waf_var collection, struct waf_str key,
                                  int64_t now_s, bool make, long timeout_s)
{
    uint32_t hash = waf_ihash(key) ^ (uint32_t)collection * 2654435761u;
    struct waf_record **bucket = &s->buckets[hash % BUCKETS];
    bucket_clean(s, bucket, now_s, false);
    struct waf_record *r = *bucket;
    while (r != NULL && !(r->hash == hash && r->collection == collection &&
                          waf_eq((struct waf_str){r->key, r->key_n}, key))) {
        r = r->next;
    }
    if (r == NULL && make) {
        // Full: the oldest buckets in turn make room, live or not.
        for (int i = 0; i < BUCKETS && s->n >= RECORDS_MAX; i++) {
            s->sweep = (s->sweep + 1) % BUCKETS;
            bucket_clean(s, &s->buckets[s->sweep], now_s, true);
        }
        r = record_new(s, collection, key, hash);
    }
    if (r != NULL && make) {
        r->expires_s = now_s + timeout_s;
    }
    return r;
}

static struct var *var_find(struct waf_record *r, struct waf_str name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (waf_ieq((struct waf_str){r->vars[i].name, r->vars[i].name_n}, name)) {
            return &r->vars[i];
        }
    }
    return NULL;
}

bool waf_record_get(struct waf_record *r, struct waf_str name, int64_t now_s, struct waf_str *out)
{
    struct var *v = var_find(r, name);
    if (v == NULL || (v->expires_s != 0 && v->expires_s <= now_s)) {
        return false;
    }
    *out = (struct waf_str){v->value, v->value_n};
    return true;
}

static char *copy_of(struct waf_str s)
{
    char *p = malloc(s.n + 1);
    if (p != NULL && s.n != 0) {
        memcpy(p, s.p, s.n);
    }
    return p;
}

void waf_record_set(struct waf_record *r, struct waf_str name, struct waf_str value)
{
    struct var *v = var_find(r, name);
    value.n = value.n > VALUE_MAX ? VALUE_MAX : value.n;
    char *text = copy_of(value);
    if (text == NULL || (v == NULL && (r->n == VARS_MAX || name.n > NAME_MAX_BYTES))) {
        free(text);
        return;
    }
    if (v == NULL) {
        char *copy = copy_of(name);
        if (copy == NULL) {
            free(text);
            return;
        }
        v = &r->vars[r->n++];
        *v = (struct var){.name = copy, .name_n = name.n};
    }
    free(v->value);
    v->value = text;
    v->value_n = value.n;
    v->expires_s = 0;
}

void waf_record_unset(struct waf_record *r, struct waf_str name)
{
    struct var *v = var_find(r, name);
    if (v != NULL) {
        free(v->name);
        free(v->value);
        *v = r->vars[--r->n];
    }
}

void waf_record_expire(struct waf_record *r, struct waf_str name, int64_t at_s)
{
    struct var *v = var_find(r, name);
    if (v != NULL) {
        v->expires_s = at_s;
        r->expires_s = at_s > r->expires_s ? at_s : r->expires_s;
    }
}

size_t waf_record_count(const struct waf_record *r)
{
    return r->n;
}

bool waf_record_at(struct waf_record *r, size_t i, int64_t now_s, struct waf_str *name,
                   struct waf_str *value)
{
    struct var *v = &r->vars[i];
    if (v->expires_s != 0 && v->expires_s <= now_s) {
        return false;
    }
    *name = (struct waf_str){v->name, v->name_n};
    *value = (struct waf_str){v->value, v->value_n};
    return true;
}
