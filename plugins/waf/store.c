// SPDX-License-Identifier: Apache-2.0
// Persistent collections (IP, GLOBAL …) as one transaction sees them: read when a rule opens one, changed
// in its arena, and joined with what others have changed meanwhile when the exchange ends. Where they
// are kept is the host's affair; without one, in the memory of this process.
#include "waf/waf.h"

#include <stdlib.h>

enum { VARS_MAX = 64, NAME_MAX_BYTES = 128 };

enum state { VAR_READ, VAR_ADDED, VAR_SET, VAR_GONE };

struct var {
    struct waf_str name, value;
    int64_t expires_s; // 0: with the record
    long delta;        // VAR_ADDED: what was added to what was read
    enum state state;
    bool expires_anew;
};

// What a record begins with. Its variables follow, each: lengths, time of expiry, name, value.
struct head {
    int64_t created_s, updated_s;
    uint32_t updates, count;
};

struct waf_record {
    struct waf_str name; // of the collection and of the key
    struct head head;
    bool is_new, is_changed;
    struct var vars[VARS_MAX];
    size_t n;
};

// --- records as bytes -----------------------------------------------------------------------

struct stored {
    uint16_t name_n, value_n;
    int64_t expires_s;
    struct waf_str name, value;
};

enum { STORED_HEAD_BYTES = 12 };

// Reads the variable at `*at`. @return false at the end
static bool next_stored(const char **at, const char *end, struct stored *out)
{
    if (end - *at < STORED_HEAD_BYTES) {
        return false;
    }
    memcpy(&out->name_n, *at, 2);
    memcpy(&out->value_n, *at + 2, 2);
    memcpy(&out->expires_s, *at + 4, 8);
    const char *text = *at + STORED_HEAD_BYTES;
    out->name = (struct waf_str){text, out->name_n};
    out->value = (struct waf_str){text + out->name_n, out->value_n};
    *at = text + out->name_n + out->value_n;
    return *at <= end;
}

struct writer {
    char *at, *end;
    uint32_t count;
};

// What does not fit is left out: a record is as large as mod_security2's.
static void write_var(struct writer *w, struct waf_str name, struct waf_str value,
                      int64_t expires_s)
{
    size_t need = STORED_HEAD_BYTES + name.n + value.n;
    if (need > (size_t)(w->end - w->at)) {
        return;
    }
    uint16_t name_n = (uint16_t)name.n, value_n = (uint16_t)value.n;
    memcpy(w->at, &name_n, 2);
    memcpy(w->at + 2, &value_n, 2);
    memcpy(w->at + 4, &expires_s, 8);
    char *text = mempcpy(w->at + STORED_HEAD_BYTES, name.p, name.n);
    if (value.n != 0) {
        memcpy(text, value.p, value.n);
    }
    w->at += need;
    w->count++;
}

// --- the record of a transaction ---------------------------------------------------------------

// A key may hold any byte; it comes last.
static struct waf_str name_of(struct waf_tx *tx, enum waf_var collection, struct waf_str key)
{
    struct waf_str head = waf_printf(&tx->arena, "%.*s %s ", (int)tx->rules->options.web_app.n,
                                     tx->rules->options.web_app.p, waf_var_table[collection].name);
    char *p = waf_alloc(&tx->arena, head.n + key.n + 1), *d = mempcpy(p, head.p, head.n);
    if (key.n != 0) {
        memcpy(d, key.p, key.n);
    }
    return (struct waf_str){p, head.n + key.n};
}

static struct waf_record *record_read(struct waf_tx *tx, enum waf_var collection,
                                      struct waf_str key)
{
    char bytes[WAF_RECORD_BYTES];
    struct waf_record *r = waf_alloc(&tx->arena, sizeof *r);
    memset(r, 0, offsetof(struct waf_record, vars));
    r->n = 0;
    r->name = name_of(tx, collection, key);
    size_t n = tx->keeper->read(tx->keeper_arg, r->name, tx->now_s, bytes);
    r->is_new = n < sizeof r->head;
    if (r->is_new) {
        r->head = (struct head){.created_s = tx->now_s, .updated_s = tx->now_s};
        return r;
    }
    memcpy(&r->head, bytes, sizeof r->head);
    const char *at = bytes + sizeof r->head;
    struct stored s;
    while (r->n < VARS_MAX && next_stored(&at, bytes + n, &s)) {
        r->vars[r->n++] = (struct var){.name = waf_dup(&tx->arena, s.name),
                                       .value = waf_dup(&tx->arena, s.value),
                                       .expires_s = s.expires_s};
    }
    return r;
}

struct waf_record *waf_record_of(struct waf_tx *tx, enum waf_var collection)
{
    int at = waf_store_index(collection);
    if (at < 0 || !tx->stores[at].is_open) {
        return NULL;
    }
    if (tx->stores[at].record == NULL) {
        tx->stores[at].record = record_read(tx, collection, tx->stores[at].key);
    }
    return tx->stores[at].record;
}

static struct var *var_find(struct waf_record *r, struct waf_str name)
{
    for (size_t i = 0; i < r->n; i++) {
        if (waf_ieq(r->vars[i].name, name)) {
            return &r->vars[i];
        }
    }
    return NULL;
}

static bool is_there(const struct var *v, int64_t now_s)
{
    return v->state != VAR_GONE && (v->expires_s == 0 || v->expires_s > now_s);
}

bool waf_record_get(struct waf_record *r, struct waf_str name, int64_t now_s, struct waf_str *out)
{
    struct var *v = var_find(r, name);
    if (v == NULL || !is_there(v, now_s)) {
        return false;
    }
    *out = v->value;
    return true;
}

// The variable to change; NULL: the record is full.
static struct var *var_make(struct waf_tx *tx, struct waf_record *r, struct waf_str name)
{
    struct var *v = var_find(r, name);
    if (v == NULL && r->n < VARS_MAX && name.n <= NAME_MAX_BYTES) {
        v = &r->vars[r->n++];
        *v = (struct var){.name = waf_dup(&tx->arena, name)};
    }
    return v;
}

void waf_record_set(struct waf_tx *tx, struct waf_record *r, struct waf_str name,
                    struct waf_str value)
{
    struct var *v = var_make(tx, r, name);
    if (v == NULL) {
        return;
    }
    v->value = value.n > WAF_RECORD_BYTES ? (struct waf_str){value.p, WAF_RECORD_BYTES} : value;
    v->expires_s = is_there(v, tx->now_s) ? v->expires_s : 0;
    v->state = VAR_SET;
    r->is_changed = true;
}

void waf_record_add(struct waf_tx *tx, struct waf_record *r, struct waf_str name, long by)
{
    struct var *v = var_make(tx, r, name);
    long old = 0, now;
    if (v == NULL) {
        return;
    }
    if (is_there(v, tx->now_s)) {
        old = waf_to_long(v->value);
    } else {
        v->expires_s = 0;
        v->state = v->state == VAR_READ ? VAR_READ : VAR_SET; // it was taken out before
    }
    if (__builtin_add_overflow(old, by, &now)) {
        now = old;
    }
    now = now < 0 ? 0 : now;
    v->delta += v->state == VAR_SET ? 0 : now - old;
    v->state = v->state == VAR_SET ? VAR_SET : VAR_ADDED;
    v->value = waf_digits(&tx->arena, now);
    r->is_changed = true;
}

void waf_record_unset(struct waf_record *r, struct waf_str name)
{
    struct var *v = var_find(r, name);
    if (v != NULL) {
        v->state = VAR_GONE;
        r->is_changed = true;
    }
}

void waf_record_expire(struct waf_record *r, struct waf_str name, int64_t at_s)
{
    struct var *v = var_find(r, name);
    if (v != NULL) {
        v->expires_s = at_s;
        v->expires_anew = true;
        r->is_changed = true;
    }
}

void waf_record_deprecate(struct waf_tx *tx, struct waf_record *r, struct waf_str name,
                          struct waf_str by)
{
    const char *slash = by.n == 0 ? NULL : memchr(by.p, '/', by.n);
    struct waf_str per = {slash == NULL ? NULL : slash + 1,
                          slash == NULL ? 0 : (size_t)(by.p + by.n - slash) - 1};
    long amount = waf_to_long(by), period = waf_to_long(per);
    int64_t passed = tx->now_s - r->head.updated_s;
    struct waf_str value;
    if (amount <= 0 || period <= 0 || passed < period ||
        !waf_record_get(r, name, tx->now_s, &value)) {
        return;
    }
    long times = (long)(passed / period), had = waf_to_long(value);
    waf_record_add(tx, r, name, times > had / amount ? -had : -amount * times);
}

bool waf_record_fact(const struct waf_record *r, struct waf_str name, const struct waf_tx *tx,
                     long *out)
{
    int64_t age_s = tx->now_s - r->head.created_s;
    if (waf_ieq(name, WAF_LIT("IS_NEW"))) {
        *out = 1;
        return r->is_new;
    }
    const struct {
        struct waf_str name;
        long value;
    } facts[] = {
        {WAF_LIT("CREATE_TIME"), (long)r->head.created_s},
        {WAF_LIT("LAST_UPDATE_TIME"), (long)r->head.updated_s},
        {WAF_LIT("TIMEOUT"), tx->rules->options.collection_timeout},
        {WAF_LIT("UPDATE_COUNTER"), (long)r->head.updates},
        {WAF_LIT("UPDATE_RATE"), age_s <= 0 ? 0 : (long)r->head.updates * 60 / (long)age_s},
    };
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (waf_ieq(name, facts[i].name)) {
            *out = facts[i].value;
            return true;
        }
    }
    return false;
}

size_t waf_record_count(const struct waf_record *r)
{
    return r->n;
}

bool waf_record_at(const struct waf_record *r, size_t i, int64_t now_s, struct waf_str *name,
                   struct waf_str *value)
{
    *name = r->vars[i].name;
    *value = r->vars[i].value;
    return is_there(&r->vars[i], now_s);
}

// --- joining it with what is kept --------------------------------------------------------------

struct joining {
    struct waf_record *record;
    int64_t now_s;
    long timeout_s;
};

// What others added meanwhile stays; what was set is what was set last.
static void join_var(struct writer *w, struct var *mine, const struct stored *theirs,
                     int64_t *expires_s)
{
    char digits[WAF_DIGITS_MAX];
    struct waf_str value = mine->value;
    int64_t at_s = mine->expires_anew || theirs == NULL ? mine->expires_s : theirs->expires_s;
    if (mine->state == VAR_GONE) {
        return;
    }
    if (mine->state == VAR_ADDED) {
        long sum = (theirs == NULL ? 0 : waf_to_long(theirs->value)) + mine->delta;
        value = waf_format_long(digits, sum < 0 ? 0 : sum);
    } else if (mine->state == VAR_READ) {
        if (theirs == NULL) {
            return;
        }
        value = theirs->value;
    } else {
        at_s = mine->expires_s;
    }
    write_var(w, mine->name, value, at_s);
    *expires_s = at_s > *expires_s ? at_s : *expires_s;
}

static size_t join(void *arg, char *bytes, size_t n, int64_t *expires_s)
{
    const struct joining *j = arg;
    struct waf_record *r = j->record;
    char old[WAF_RECORD_BYTES];
    bool is_joined[VARS_MAX] = {false};
    struct head head = {.created_s = r->head.created_s};
    struct writer w = {bytes + sizeof head, bytes + WAF_RECORD_BYTES, 0};
    memcpy(old, bytes, n);
    const char *at = old + sizeof head;
    struct stored s;
    if (n >= sizeof head) {
        memcpy(&head, old, sizeof head);
    }
    *expires_s = j->now_s + j->timeout_s;
    while (n >= sizeof head && next_stored(&at, old + n, &s)) {
        struct var *mine = var_find(r, s.name);
        bool is_over = s.expires_s != 0 && s.expires_s <= j->now_s;
        if (mine != NULL) {
            is_joined[mine - r->vars] = true;
            join_var(&w, mine, is_over ? NULL : &s, expires_s);
        } else if (!is_over) {
            write_var(&w, s.name, s.value, s.expires_s);
            *expires_s = s.expires_s > *expires_s ? s.expires_s : *expires_s;
        }
    }
    for (size_t i = 0; i < r->n; i++) {
        if (!is_joined[i]) {
            join_var(&w, &r->vars[i], NULL, expires_s);
        }
    }
    head.updated_s = j->now_s;
    head.updates++;
    head.count = w.count;
    memcpy(bytes, &head, sizeof head);
    return (size_t)(w.at - bytes);
}

void waf_record_close(struct waf_tx *tx, struct waf_record *r)
{
    struct joining j = {r, tx->now_s, tx->rules->options.collection_timeout};
    if (r->is_changed) {
        r->is_changed = false;
        tx->keeper->change(tx->keeper_arg, r->name, tx->now_s, join, &j);
    }
}

// --- without a host ------------------------------------------------------------------------------

enum { PLACES = 1024 };

static struct place {
    char *name;
    size_t name_n, n;
    int64_t expires_s;
    char bytes[WAF_RECORD_BYTES];
} * places; // one for each hash: who comes later takes it

static struct place *place_of(struct waf_str name, int64_t now_s)
{
    if (places == NULL && (places = calloc(PLACES, sizeof *places)) == NULL) {
        return NULL;
    }
    struct place *p = &places[waf_ihash(name) % PLACES];
    bool is_theirs = p->name == NULL || !waf_eq((struct waf_str){p->name, p->name_n}, name);
    if (is_theirs || p->expires_s <= now_s) {
        p->n = 0;
    }
    return p;
}

static size_t process_read(void *arg, struct waf_str name, int64_t now_s, char *into)
{
    (void)arg;
    const struct place *p = place_of(name, now_s);
    if (p == NULL) {
        return 0;
    }
    memcpy(into, p->bytes, p->n);
    return p->n;
}

static void process_change(void *arg, struct waf_str name, int64_t now_s, waf_change_fn *change,
                           void *change_arg)
{
    (void)arg;
    struct place *p = place_of(name, now_s);
    char *copy = malloc(name.n + 1);
    if (p == NULL || copy == NULL) {
        free(copy);
        return;
    }
    memcpy(copy, name.p, name.n);
    free(p->name);
    p->name = copy;
    p->name_n = name.n;
    p->n = change(change_arg, p->bytes, p->n, &p->expires_s);
}

const struct waf_keeper waf_process_keeper = {process_read, process_change};
