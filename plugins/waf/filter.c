// SPDX-License-Identifier: Apache-2.0
#include "waf/filter.h"

#include "waf/transform.h"

#include <stdlib.h>

enum {
    FOUR_FROM = 96,   // bytes: from here on a value is read at four places
    LITERAL_MAX = 10, // longer literals are cut: their head is telling enough
    BYTE_SETS = 128,
    STATES_MAX = UINT16_MAX,
    NIBBLES = BYTE_SETS / 4,
    LANES = 4,
    TESTS = LANES * 64, // in one table
    LENGTHS = 64,       // a least length from here on is not told from this one
};

// What a case asks for besides literals.
struct test {
    uint64_t sets[2]; // byte sets that must all have occurred
    uint32_t least;   // bytes
    uint32_t op;      // the operator's bit
};

// A bit for each of up to TESTS tests. Aligned, so that the compiler may take two words at once.
struct lanes {
    _Alignas(16) uint64_t w[LANES];
};

// The tests of cases without literals, all made at once: a value passes those whose bit is set in the
// entry of each nibble of its byte sets, and in that of its length.
struct test_table {
    struct lanes by_nibble[NIBBLES][16];
    struct lanes by_length[LENGTHS + 1];
    uint32_t ops[TESTS];
};

// An AND of clauses, from one case of an operator's need.
struct rule_case {
    struct test test;
    uint32_t literals; // clauses of literals
    uint32_t got;      // of those, met in the running pass
    uint32_t pass;     // the pass that `got` is of
};

struct byte_facts {
    uint64_t sets[2];
    uint32_t marks;
};

struct waf_filter {
    struct byte_facts bytes[256];
    uint16_t column[256];    // byte -> column of the automaton's table
    struct rule_case *cases; // those with literals
    uint32_t case_count;
    struct test_table *tables; // of those without
    uint32_t table_count;
    uint32_t op_count, words;
    uint32_t *clause_case; // clause -> case
    uint32_t *clause_pass;
    uint32_t clause_count;
    uint32_t *hits_start, *hits; // automaton output -> clauses
    uint16_t *next;              // [state << shift | column]; states from `first_hit` on have hits
    uint32_t columns, shift, state_count, first_hit;
    uint32_t *hit_pass; // state with hits -> last pass that came by
    uint32_t pass;
    uint32_t *pending;
    uint64_t *passing; // of the running pass: bit per operator
    uint64_t *everything, *nothing;
    size_t memory;
};

// --- building ----------------------------------------------------------------

struct trie_node {
    uint32_t child, sibling, fail;
    uint32_t literal; // index + 1
    unsigned char byte;
};

struct literal {
    char p[LITERAL_MAX];
    unsigned n;
    uint32_t first_use; // into uses, index + 1
};

struct use {
    uint32_t clause, next;
};

struct waf_filter_builder {
    struct waf_arena arena;
    struct rule_case *cases;
    uint32_t case_count, case_cap;
    uint64_t (*sets)[4];
    uint32_t set_count;
    uint32_t *clause_case;
    uint32_t clause_count, clause_cap;
    struct trie_node *nodes;
    uint32_t node_count, node_cap;
    struct literal *literals;
    uint32_t literal_count, literal_cap;
    struct use *uses;
    uint32_t use_count, use_cap;
    uint32_t op_count;
};

static void *must(void *p)
{
    if (p == NULL) {
        abort();
    }
    return p;
}

#define GROW(b, array, count, cap)                                                                 \
    do {                                                                                           \
        if ((b)->count == (b)->cap) {                                                              \
            (b)->cap = (b)->cap == 0 ? 256 : (b)->cap * 2;                                         \
            (b)->array = must(realloc((b)->array, (b)->cap * sizeof *(b)->array));                 \
        }                                                                                          \
    } while (0)

static uint32_t node_add(struct waf_filter_builder *b, unsigned char byte)
{
    GROW(b, nodes, node_count, node_cap);
    b->nodes[b->node_count] = (struct trie_node){.byte = byte};
    return b->node_count++;
}

struct waf_filter_builder *waf_filter_begin(void)
{
    struct waf_filter_builder *b = must(calloc(1, sizeof *b));
    b->sets = must(calloc(BYTE_SETS, sizeof *b->sets));
    node_add(b, 0);
    return b;
}

// Index of the smallest known set that has all bytes of this one: what must occur in this one must
// occur in that. -1 where none has.
static int superset_index(const struct waf_filter_builder *b, const uint64_t *set)
{
    int best = -1, best_count = 257;
    for (uint32_t i = 0; i < b->set_count; i++) {
        uint64_t missing = 0;
        int count = 0;
        for (unsigned w = 0; w < 4; w++) {
            missing |= set[w] & ~b->sets[i][w];
            count += __builtin_popcountll(b->sets[i][w]);
        }
        if (missing == 0 && count < best_count) {
            best = (int)i;
            best_count = count;
        }
    }
    return best;
}

// Index of a byte set; of one that holds it, or -1, when there are too many of them.
static int set_index(struct waf_filter_builder *b, const uint64_t *set)
{
    for (uint32_t i = 0; i < b->set_count; i++) {
        if (memcmp(b->sets[i], set, sizeof b->sets[i]) == 0) {
            return (int)i;
        }
    }
    if (b->set_count == BYTE_SETS) {
        return superset_index(b, set);
    }
    memcpy(b->sets[b->set_count], set, sizeof b->sets[0]);
    return (int)b->set_count++;
}

static uint32_t trie_step(struct waf_filter_builder *b, uint32_t at, unsigned char byte)
{
    for (uint32_t c = b->nodes[at].child; c != 0; c = b->nodes[c].sibling) {
        if (b->nodes[c].byte == byte) {
            return c;
        }
    }
    uint32_t c = node_add(b, byte);
    b->nodes[c].sibling = b->nodes[at].child;
    b->nodes[at].child = c;
    return c;
}

static void literal_use(struct waf_filter_builder *b, struct waf_str text, uint32_t clause)
{
    uint32_t at = 0;
    size_t n = text.n < LITERAL_MAX ? text.n : LITERAL_MAX;
    for (size_t i = 0; i < n; i++) {
        at = trie_step(b, at, (unsigned char)text.p[i]);
    }
    if (b->nodes[at].literal == 0) {
        GROW(b, literals, literal_count, literal_cap);
        b->literals[b->literal_count++] = (struct literal){.n = (unsigned)n};
        b->nodes[at].literal = b->literal_count;
    }
    struct literal *l = &b->literals[b->nodes[at].literal - 1];
    GROW(b, uses, use_count, use_cap);
    b->uses[b->use_count++] = (struct use){clause, l->first_use};
    l->first_use = b->use_count;
}

static void case_add(struct waf_filter_builder *b, const struct waf_case *c)
{
    GROW(b, cases, case_count, case_cap);
    struct rule_case *k = &b->cases[b->case_count];
    *k = (struct rule_case){.test = {.least = (uint32_t)c->least, .op = b->op_count}};
    for (unsigned i = 0; i < c->n; i++) {
        const struct waf_clause *clause = &c->clauses[i];
        if (clause->is_bytes) {
            int s = set_index(b, clause->bytes);
            if (s >= 0) {
                k->test.sets[s >> 6] |= (uint64_t)1 << (s & 63);
            }
            continue;
        }
        GROW(b, clause_case, clause_count, clause_cap);
        b->clause_case[b->clause_count] = b->case_count;
        for (unsigned t = 0; t < clause->n; t++) {
            literal_use(b, clause->texts[t], b->clause_count);
        }
        b->clause_count++;
        k->literals++;
    }
    b->case_count++;
}

void waf_filter_add(struct waf_filter_builder *b, const struct waf_need *need)
{
    for (unsigned i = 0; i < need->n; i++) {
        case_add(b, &need->cases[i]);
    }
    b->op_count++;
}

static void table_add(struct test_table *t, unsigned at, const struct test *test)
{
    uint64_t bit = (uint64_t)1 << (at & 63);
    unsigned lane = at >> 6;
    for (unsigned i = 0; i < NIBBLES; i++) {
        unsigned want = test->sets[i / 16] >> (i % 16 * 4) & 15;
        for (unsigned has = 0; has < 16; has++) {
            t->by_nibble[i][has].w[lane] |= (want & ~has) == 0 ? bit : 0;
        }
    }
    for (unsigned n = 0; n <= LENGTHS; n++) {
        bool is_long = n >= test->least || n == LENGTHS;
        t->by_length[n].w[lane] |= is_long ? bit : 0;
    }
    t->ops[at] = test->op;
}

// Whether every value that passes `t` passes `other`.
static bool implies(const struct test *t, const struct test *other)
{
    return (other->sets[0] & ~t->sets[0]) == 0 && (other->sets[1] & ~t->sets[1]) == 0 &&
           other->least <= t->least;
}

// Whether another case of the same operator lets through all that this one does. Its cases stand
// together; of two that are equal the first stays.
static bool is_covered(const struct waf_filter_builder *b, uint32_t i)
{
    const struct test *t = &b->cases[i].test;
    uint32_t k = i;
    while (k > 0 && b->cases[k - 1].test.op == t->op) {
        k--;
    }
    for (; k < b->case_count && b->cases[k].test.op == t->op; k++) {
        const struct test *other = &b->cases[k].test;
        if (k != i && b->cases[k].literals == 0 && implies(t, other) &&
            (k < i || !implies(other, t))) {
            return true;
        }
    }
    return false;
}

// Cases without literals go into tables; clauses of the others are told where theirs went.
static void place_cases(struct waf_filter_builder *b, struct waf_filter *f)
{
    uint32_t *moved = must(malloc((b->case_count + 1) * sizeof *moved)), plain = 0;
    f->cases = must(malloc((b->case_count + 1) * sizeof *f->cases));
    f->tables = must(calloc(b->case_count / TESTS + 1, sizeof *f->tables));
    for (uint32_t i = 0; i < b->case_count; i++) {
        if (b->cases[i].literals != 0) {
            moved[i] = f->case_count;
            f->cases[f->case_count++] = b->cases[i];
        } else if (!is_covered(b, i)) {
            table_add(&f->tables[plain / TESTS], plain % TESTS, &b->cases[i].test);
            plain++;
        }
    }
    f->table_count = (plain + TESTS - 1) / TESTS;
    f->clause_case = must(malloc((b->clause_count + 1) * sizeof *f->clause_case));
    f->clause_pass = must(calloc(b->clause_count + 1, sizeof *f->clause_pass));
    f->clause_count = b->clause_count;
    for (uint32_t i = 0; i < b->clause_count; i++) {
        f->clause_case[i] = moved[b->clause_case[i]];
    }
    free(moved);
}

static void fill_bytes(struct waf_filter_builder *b, struct waf_filter *f)
{
    bool used[256] = {false};
    f->columns = 1; // column 0: bytes that no literal has
    for (uint32_t i = 1; i < b->node_count; i++) {
        used[b->nodes[i].byte] = true;
    }
    for (unsigned c = 0; c < 256; c++) {
        struct byte_facts *facts = &f->bytes[c];
        facts->marks = waf_marks_of((unsigned char)c);
        for (uint32_t s = 0; s < b->set_count; s++) {
            if (waf_set_has(b->sets[s], (unsigned char)c)) {
                facts->sets[s >> 6] |= (uint64_t)1 << (s & 63);
            }
        }
        if (used[c]) {
            f->column[c] = (uint16_t)f->columns++;
        }
    }
    for (unsigned c = 'A'; c <= 'Z'; c++) {
        f->column[c] = f->column[c + 32];
    }
}

// Breadth first: fail links, and which nodes have hits (their own or by a fail link).
static uint32_t *trie_order(struct waf_filter_builder *b)
{
    uint32_t *order = must(malloc(b->node_count * sizeof *order)), done = 0, n = 0;
    order[n++] = 0;
    while (done < n) {
        uint32_t at = order[done++];
        for (uint32_t c = b->nodes[at].child; c != 0; c = b->nodes[c].sibling) {
            uint32_t f = b->nodes[at].fail;
            order[n++] = c;
            if (at == 0) {
                continue;
            }
            for (;;) {
                uint32_t k = b->nodes[f].child;
                while (k != 0 && b->nodes[k].byte != b->nodes[c].byte) {
                    k = b->nodes[k].sibling;
                }
                if (k != 0) {
                    b->nodes[c].fail = k;
                    break;
                }
                if (f == 0) {
                    break;
                }
                f = b->nodes[f].fail;
            }
        }
    }
    return order;
}

static uint32_t hit_count(const struct waf_filter_builder *b, uint32_t node)
{
    uint32_t n = 0;
    for (; node != 0; node = b->nodes[node].fail) {
        if (b->nodes[node].literal != 0) {
            uint32_t u = b->literals[b->nodes[node].literal - 1].first_use;
            for (; u != 0; u = b->uses[u - 1].next) {
                n++;
            }
        }
    }
    return n;
}

static void fill_hits(struct waf_filter_builder *b, struct waf_filter *f, const uint32_t *by_state)
{
    uint32_t total = 0, at = 0, count = f->state_count - f->first_hit;
    f->hits_start = must(malloc((count + 1) * sizeof *f->hits_start));
    f->hit_pass = must(calloc(count + 1, sizeof *f->hit_pass));
    for (uint32_t s = f->first_hit; s < f->state_count; s++) {
        // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): clang 14 does not follow how it is set
        total += hit_count(b, by_state[s]);
    }
    f->hits = must(malloc((total + 1) * sizeof *f->hits));
    for (uint32_t s = f->first_hit; s < f->state_count; s++) {
        f->hits_start[s - f->first_hit] = at;
        for (uint32_t node = by_state[s]; node != 0; node = b->nodes[node].fail) {
            uint32_t l = b->nodes[node].literal;
            for (uint32_t u = l == 0 ? 0 : b->literals[l - 1].first_use; u != 0;
                 u = b->uses[u - 1].next) {
                f->hits[at++] = b->uses[u - 1].clause;
            }
        }
    }
    f->hits_start[count] = at;
    f->memory += (total + count) * sizeof *f->hits;
}

static void fill_automaton(struct waf_filter_builder *b, struct waf_filter *f)
{
    uint32_t *order = trie_order(b), n = b->node_count;
    uint32_t *state = must(malloc(n * sizeof *state)), *by_state = must(malloc(n * sizeof *state));
    uint32_t at = 0;
    for (int hits = 0; hits < 2; hits++) {
        for (uint32_t i = 0; i < n; i++) {
            // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): clang 14 does not follow how it is set
            if ((hit_count(b, order[i]) != 0) == (hits != 0)) {
                by_state[at] = order[i];
                state[order[i]] = at++;
            }
        }
        if (hits == 0) {
            f->first_hit = at;
        }
    }
    f->state_count = n;
    while (1u << f->shift < f->columns) {
        f->shift++;
    }
    f->next = must(calloc((size_t)n << f->shift, sizeof *f->next));
    f->memory += ((size_t)n << f->shift) * sizeof *f->next;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t node = order[i];
        uint16_t *row = f->next + ((size_t)state[node] << f->shift);
        if (node != 0) {
            memcpy(row, f->next + ((size_t)state[b->nodes[node].fail] << f->shift),
                   f->columns * sizeof *row);
        }
        for (uint32_t c = b->nodes[node].child; c != 0; c = b->nodes[c].sibling) {
            row[f->column[b->nodes[c].byte]] = (uint16_t)state[c];
        }
        if (i % 64 == 0) {
            waf_pace();
        }
    }
    fill_hits(b, f, by_state);
    free(order);
    free(state);
    free(by_state);
}

// More literals than states have numbers: let every operator through that needs one.
static void drop_literals(struct waf_filter_builder *b)
{
    for (uint32_t i = 0; i < b->case_count; i++) {
        b->cases[i].literals = 0;
    }
    b->clause_count = 0;
    b->node_count = 1;
    b->nodes[0].child = 0;
}

struct waf_filter *waf_filter_finish(struct waf_filter_builder *b)
{
    struct waf_filter *f = must(calloc(1, sizeof *f));
    if (b->node_count > STATES_MAX) {
        drop_literals(b);
    }
    f->op_count = b->op_count;
    f->words = (b->op_count + 63) / 64 + 1;
    place_cases(b, f);
    fill_bytes(b, f);
    fill_automaton(b, f);
    f->pending = must(malloc((f->case_count + 1) * sizeof *f->pending));
    f->passing = must(malloc(f->words * sizeof(uint64_t)));
    f->everything = must(malloc(f->words * sizeof(uint64_t)));
    f->nothing = must(calloc(f->words, sizeof(uint64_t)));
    memset(f->everything, 0xff, f->words * sizeof(uint64_t));
    f->memory += sizeof *f + f->case_count * sizeof *f->cases + f->clause_count * 8u +
                 f->table_count * sizeof *f->tables;
    free(b->cases);
    free(b->sets);
    free(b->clause_case);
    free(b->nodes);
    free(b->literals);
    free(b->uses);
    free(b);
    return f;
}

void waf_filter_free(struct waf_filter *f)
{
    if (f == NULL) {
        return;
    }
    free(f->cases);
    free(f->tables);
    free(f->clause_case);
    free(f->clause_pass);
    free(f->hits_start);
    free(f->hit_pass);
    free(f->hits);
    free(f->next);
    free(f->pending);
    free(f->passing);
    free(f->everything);
    free(f->nothing);
    free(f);
}

unsigned waf_filter_words(const struct waf_filter *f)
{
    return f->words;
}

size_t waf_filter_memory(const struct waf_filter *f)
{
    return f->memory;
}

const uint64_t *waf_filter_everything(const struct waf_filter *f)
{
    return f->everything;
}

const uint64_t *waf_filter_nothing(const struct waf_filter *f)
{
    return f->nothing;
}

// --- the pass ------------------------------------------------------------------

// Notes the clauses of one automaton state. @return cases whose literals are all there, so far
static uint32_t note_hits(struct waf_filter *f, uint32_t state, uint32_t pending)
{
    uint32_t index = state - f->first_hit;
    if (f->hit_pass[index] == f->pass) {
        return pending;
    }
    f->hit_pass[index] = f->pass;
    const uint32_t *h = f->hits + f->hits_start[index];
    const uint32_t *end = f->hits + f->hits_start[index + 1];
    for (; h < end; h++) {
        if (f->clause_pass[*h] == f->pass) {
            continue;
        }
        f->clause_pass[*h] = f->pass;
        struct rule_case *c = &f->cases[f->clause_case[*h]];
        if (c->pass != f->pass) {
            c->pass = f->pass;
            c->got = 0;
        }
        if (++c->got == c->literals) {
            f->pending[pending++] = f->clause_case[*h];
        }
    }
    return pending;
}

static void next_pass(struct waf_filter *f)
{
    if (++f->pass != 0) {
        return;
    }
    memset(f->clause_pass, 0, f->clause_count * sizeof *f->clause_pass);
    memset(f->hit_pass, 0, (f->state_count - f->first_hit) * sizeof *f->hit_pass);
    for (uint32_t i = 0; i < f->case_count; i++) {
        f->cases[i].pass = 0;
    }
    f->pass = 1;
}

// What the reading of a value gathers.
struct reading {
    uint64_t s0, s1;
    uint32_t marks, pending;
};

static inline uint32_t read_byte(struct waf_filter *f, struct reading *r, uint32_t state, char c)
{
    const struct byte_facts *b = &f->bytes[(unsigned char)c];
    r->s0 |= b->sets[0];
    r->s1 |= b->sets[1];
    r->marks |= b->marks;
    return f->next[state << f->shift | f->column[(unsigned char)c]];
}

static uint32_t read_run(struct waf_filter *f, struct reading *out, uint32_t state, const char *p,
                         size_t n)
{
    struct reading r = *out;
    uint32_t first_hit = f->first_hit;
    for (size_t i = 0; i < n; i++) {
        state = read_byte(f, &r, state, p[i]);
        if (__builtin_expect(state >= first_hit, 0)) {
            r.pending = note_hits(f, state, r.pending);
        }
    }
    *out = r;
    return state;
}

// What bytes say of themselves is gathered once for each that occurs.
static void gather(const struct waf_filter *f, struct reading *r, const uint8_t seen[256])
{
    for (unsigned i = 0; i < 256; i += 8) {
        uint64_t eight;
        memcpy(&eight, seen + i, sizeof eight);
        for (; eight != 0; eight &= eight - 1) {
            const struct byte_facts *b = &f->bytes[i + (unsigned)__builtin_ctzll(eight) / 8];
            r->s0 |= b->sets[0];
            r->s1 |= b->sets[1];
            r->marks |= b->marks;
        }
    }
}

// A long value is read at four places in turn, so that the processor need not wait for one look-up
// before it starts the next. Each place starts a literal's length early and from the root, and so
// sees every literal that reaches into its part.
static void read_four(struct waf_filter *f, struct reading *out, struct waf_str v)
{
    uint8_t seen[256] = {0}; // 1: the byte occurs
    size_t part = v.n / 4;
    const char *p0 = v.p, *p1 = p0 + part, *p2 = p1 + part, *p3 = p2 + part;
    uint32_t a = 0, b = read_run(f, out, 0, p1 - LITERAL_MAX, LITERAL_MAX);
    uint32_t c = read_run(f, out, 0, p2 - LITERAL_MAX, LITERAL_MAX);
    uint32_t d = read_run(f, out, 0, p3 - LITERAL_MAX, LITERAL_MAX);
    uint32_t first_hit = f->first_hit, shift = f->shift, pending = out->pending;
    const uint16_t *next = f->next, *column = f->column;
    for (size_t i = 0; i < part; i++) {
        unsigned char b0 = (unsigned char)p0[i], b1 = (unsigned char)p1[i];
        unsigned char b2 = (unsigned char)p2[i], b3 = (unsigned char)p3[i];
        seen[b0] = seen[b1] = seen[b2] = seen[b3] = 1;
        a = next[a << shift | column[b0]];
        b = next[b << shift | column[b1]];
        c = next[c << shift | column[b2]];
        d = next[d << shift | column[b3]];
        if (__builtin_expect(a >= first_hit || b >= first_hit || c >= first_hit || d >= first_hit,
                             0)) {
            const uint32_t states[4] = {a, b, c, d};
            for (int k = 0; k < 4; k++) {
                if (states[k] >= first_hit) {
                    pending = note_hits(f, states[k], pending);
                }
            }
        }
    }
    out->pending = pending;
    gather(f, out, seen);
    (void)read_run(f, out, d, p3 + part, v.n - 4 * part);
}

// Notes the operators whose cases without literals pass. @return whether there are any
static bool pass_table(const struct waf_filter *f, const struct test_table *t,
                       const struct reading *r, size_t n)
{
    struct lanes ok = t->by_length[n < LENGTHS ? n : LENGTHS];
    uint64_t any = 0, sets[2] = {r->s0, r->s1};
    for (unsigned half = 0; half < 2; half++) {
        const struct lanes(*table)[16] = &t->by_nibble[half * NIBBLES / 2];
#pragma GCC unroll 16
        for (unsigned i = 0; i < NIBBLES / 2; i++) {
            const struct lanes *entry = &table[i][sets[half] >> (i * 4) & 15];
            for (unsigned lane = 0; lane < LANES; lane++) {
                ok.w[lane] &= entry->w[lane];
            }
        }
    }
    for (unsigned lane = 0; lane < LANES; lane++) {
        any |= ok.w[lane];
        for (uint64_t left = ok.w[lane]; left != 0; left &= left - 1) {
            uint32_t op = t->ops[lane * 64 + (unsigned)__builtin_ctzll(left)];
            f->passing[op >> 6] |= (uint64_t)1 << (op & 63);
        }
    }
    return any != 0;
}

static bool passes(const struct test *t, const struct reading *r, size_t n)
{
    return ((t->sets[0] & ~r->s0) | (t->sets[1] & ~r->s1)) == 0 && n >= t->least;
}

void waf_filter_scan(struct waf_filter *f, struct waf_arena *a, struct waf_str value,
                     struct waf_facts *out)
{
    struct reading r = {0};
    bool any = false;
    next_pass(f);
    if (value.n >= FOUR_FROM) {
        read_four(f, &r, value);
    } else {
        (void)read_run(f, &r, 0, value.p, value.n);
    }
    memset(f->passing, 0, f->words * sizeof *f->passing);
    for (uint32_t i = 0; i < f->table_count; i++) {
        any |= pass_table(f, &f->tables[i], &r, value.n);
    }
    for (uint32_t i = 0; i < r.pending; i++) {
        const struct test *t = &f->cases[f->pending[i]].test;
        if (passes(t, &r, value.n)) {
            f->passing[t->op >> 6] |= (uint64_t)1 << (t->op & 63);
            any = true;
        }
    }
    out->marks = r.marks;
    out->allowed = f->nothing;
    if (any) {
        out->allowed = memcpy(waf_alloc(a, f->words * sizeof *f->passing), f->passing,
                              f->words * sizeof *f->passing);
    }
}
