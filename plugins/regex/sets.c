/* SPDX-License-Identifier: Apache-2.0 */
#include "regex/literals.h"
#include "regex/module.h"

#include <stdlib.h>
#include <string.h>

#define LITERALS_TYPE "moongate.regex.literals"
#define SET_TYPE "moongate.regex.set"
#define LITERALS_MAX 100000
#define PATTERNS_MAX 4096
#define BRANCHES_MAX 16
#define FOUND_MAX 1000000 // occurrences that one call looks at

struct literals_box {
    struct literals *set;
    size_t count;
};

// Patterns that are tried together. One automaton looks for what they must hold; only those whose
// piece was found, and those of which no piece is known, are matched.
struct set_box {
    struct pattern **patterns;
    size_t count;
    struct literals *filter; // NULL: no pattern has a piece
    uint32_t *owner;         // of a piece of the filter: the pattern it belongs to
    uint8_t *is_always;      // of a pattern: it must always be tried
    uint8_t *is_candidate;   // of a pattern, while one subject is matched
    uint32_t steps;          // pieces found in that subject
};

// The texts of the list at `index`, lent by it; freed by the caller. Raises when it is no such list.
static struct moon_slice *check_texts(lua_State *L, int index, const char *what, size_t max,
                                      size_t *count)
{
    if (!lua_istable(L, index)) {
        (void)luaL_error(L, "regex.%s must be a list, got %s", what, luaL_typename(L, index));
    }
    size_t n = lua_objlen(L, index);
    if (n == 0 || n > max) {
        (void)luaL_error(L, "regex.%s must have 1 to %d items, got %d", what, (int)max, (int)n);
    }
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING || lua_objlen(L, -1) == 0) {
            (void)luaL_error(L, "regex.%s: item %d must be a string that is not empty", what,
                             (int)i + 1);
        }
        lua_pop(L, 1);
    }
    struct moon_slice *texts = lua_newuserdata(L, n * sizeof *texts);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        texts[i].data = lua_tolstring(L, -1, &texts[i].len);
        lua_pop(L, 1);
    }
    *count = n;
    return texts;
}

/// regex.literals{"curl/", "python-requests"} -> literals, looked for all at once in any case
/// @lua-raises "regex.literals: texts must be a list, got nil"
int regex_literals(lua_State *L)
{
    size_t count;
    struct moon_slice *texts = check_texts(L, 1, "literals: texts", LITERALS_MAX, &count);
    struct literals_box *box = lua_newuserdata(L, sizeof *box);
    box->set = NULL;
    box->count = count;
    luaL_getmetatable(L, LITERALS_TYPE);
    lua_setmetatable(L, -2);
    box->set = regex_literals_new(texts, count);
    if (box->set == NULL) {
        return luaL_error(L, "regex.literals: the texts are too many or too long");
    }
    return 1;
}

static int literals_gc(lua_State *L)
{
    struct literals_box *box = lua_touserdata(L, 1);
    regex_literals_free(box->set);
    box->set = NULL;
    return 0;
}

static bool take_first(void *arg, uint32_t number)
{
    *(uint32_t *)arg = number + 1;
    return false;
}

static struct moon_slice check_subject(lua_State *L, const char *what)
{
    struct moon_slice subject = regex_check_string(L, 2, what);
    regex_host()->charge(L, (uint32_t)(subject.len / 4) + 5);
    return subject;
}

/// literals:test(subject) -> whether any of them occurs
static int literals_lua_test(lua_State *L)
{
    struct literals_box *box = regex_check_object(L, 1, "literals:test");
    lua_pushboolean(L, regex_literals_test(box->set, check_subject(L, "literals:test: subject")));
    return 1;
}

/// literals:match(subject) -> the place in the list of the one that ends first, or nil
static int literals_lua_match(lua_State *L)
{
    struct literals_box *box = regex_check_object(L, 1, "literals:match");
    uint32_t number = 0;
    regex_literals_scan(box->set, check_subject(L, "literals:match: subject"), take_first, &number);
    if (number == 0) {
        return 0;
    }
    lua_pushinteger(L, (lua_Integer)number);
    return 1;
}

struct collector {
    lua_State *L;
    int table;
    uint32_t count;
    uint32_t steps;
};

static bool collect(void *arg, uint32_t number)
{
    struct collector *c = arg;
    if (++c->steps > FOUND_MAX) {
        return luaL_error(c->L, "literals:all: more than %d occurrences", FOUND_MAX) != 0;
    }
    lua_rawgeti(c->L, c->table + 1, (int)number + 1); // known already?
    bool is_known = !lua_isnil(c->L, -1);
    lua_pop(c->L, 1);
    if (!is_known) {
        lua_pushboolean(c->L, 1);
        lua_rawseti(c->L, c->table + 1, (int)number + 1);
        lua_pushinteger(c->L, (lua_Integer)number + 1);
        lua_rawseti(c->L, c->table, (int)++c->count);
    }
    return true;
}

/// literals:all(subject) -> the places of all that occur, in the order in which they end
static int literals_lua_all(lua_State *L)
{
    struct literals_box *box = regex_check_object(L, 1, "literals:all");
    struct moon_slice subject = check_subject(L, "literals:all: subject");
    lua_settop(L, 2);
    lua_newtable(L);
    lua_newtable(L);
    struct collector c = {.L = L, .table = 3};
    regex_literals_scan(box->set, subject, collect, &c);
    lua_settop(L, 3);
    return 1;
}

static int set_gc(lua_State *L)
{
    struct set_box *box = lua_touserdata(L, 1);
    for (size_t i = 0; box->patterns != NULL && i < box->count; i++) {
        regex_pattern_free(box->patterns[i]);
    }
    free(box->patterns);
    regex_literals_free(box->filter);
    free(box->owner);
    free(box->is_always);
    free(box->is_candidate);
    memset(box, 0, sizeof *box);
    return 0;
}

// Builds the automaton of the pieces that the patterns must hold.
static bool build_filter(struct set_box *box, const struct moon_slice *texts, const char *flags)
{
    size_t room = box->count * BRANCHES_MAX, used = 0;
    char(*pieces)[64] = malloc(room * sizeof *pieces);
    struct moon_slice *slices = malloc(room * sizeof *slices);
    box->owner = malloc(room * sizeof *box->owner);
    bool is_well = pieces != NULL && slices != NULL && box->owner != NULL;
    for (size_t i = 0; is_well && i < box->count; i++) {
        size_t n = regex_pattern_required(texts[i], flags, pieces + used, BRANCHES_MAX);
        box->is_always[i] = n == 0;
        for (size_t j = 0; j < n; j++, used++) {
            slices[used] = (struct moon_slice){pieces[used], strlen(pieces[used])};
            box->owner[used] = (uint32_t)i;
        }
    }
    if (is_well && used > 0) {
        box->filter = regex_literals_new(slices, used);
        is_well = box->filter != NULL;
    }
    free(pieces);
    free(slices);
    return is_well;
}

static void compile_all(lua_State *L, struct set_box *box, const struct moon_slice *texts,
                        const char *flags)
{
    char error[256];
    size_t n = box->count;
    box->patterns = calloc(n, sizeof(struct pattern *));
    box->is_always = calloc(n, 1);
    box->is_candidate = calloc(n, 1);
    if (box->patterns == NULL || box->is_always == NULL || box->is_candidate == NULL) {
        (void)luaL_error(L, "regex.set: no memory");
        return; // not reached
    }
    for (size_t i = 0; i < n; i++) {
        box->patterns[i] = regex_pattern_new(texts[i], flags, error, sizeof error);
        if (box->patterns[i] == NULL) {
            (void)luaL_error(L, "regex.set: item %d: %s", (int)i + 1, error);
        }
    }
    if (!build_filter(box, texts, flags)) {
        (void)luaL_error(L, "regex.set: no memory");
    }
}

/// regex.set({"^curl/", "bot\\b"}, flags?) -> set of patterns that are tried together
/// @lua-raises "regex.set: item 2: missing closing parenthesis at byte 7"
int regex_set(lua_State *L)
{
    size_t count;
    const char *flags = lua_isnoneornil(L, 2) ? "" : regex_check_string(L, 2, "set: flags").data;
    struct moon_slice *texts = check_texts(L, 1, "set: patterns", PATTERNS_MAX, &count);
    struct set_box *box = lua_newuserdata(L, sizeof *box);
    memset(box, 0, sizeof *box);
    luaL_getmetatable(L, SET_TYPE);
    lua_setmetatable(L, -2);
    box->count = count;
    compile_all(L, box, texts, flags);
    return 1;
}

static bool mark(void *arg, uint32_t piece)
{
    struct set_box *box = arg;
    if (++box->steps > FOUND_MAX) {
        memset(box->is_candidate, 1, box->count); // a filter that costs more than it saves
        return false;
    }
    box->is_candidate[box->owner[piece]] = 1;
    return true;
}

static void find_candidates(struct set_box *box, struct moon_slice subject)
{
    box->steps = 0;
    memcpy(box->is_candidate, box->is_always, box->count);
    if (box->filter != NULL) {
        regex_literals_scan(box->filter, subject, mark, box);
    }
}

// The next pattern from `from` on that matches; the count where none does. A pattern that gives up
// is reported by `*is_limited`.
static size_t next_match(lua_State *L, struct set_box *box, struct moon_slice subject, size_t from,
                         bool *is_limited)
{
    const size_t *offsets;
    uint32_t n;
    for (size_t i = from; i < box->count; i++) {
        if (box->is_candidate[i] == 0) {
            continue;
        }
        enum pattern_result result =
            regex_pattern_match(box->patterns[i], subject, 0, &offsets, &n);
        if (result == PATTERN_YES) {
            return i;
        }
        if (result == PATTERN_LIMIT) {
            *is_limited = true;
            regex_host()->charge(L, 50000);
        }
    }
    return box->count;
}

/// set:match(subject) -> the place of the first pattern that matches | nil, error?
static int set_match(lua_State *L)
{
    struct set_box *box = regex_check_object(L, 1, "set:match");
    struct moon_slice subject = check_subject(L, "set:match: subject");
    bool is_limited = false;
    find_candidates(box, subject);
    size_t i = next_match(L, box, subject, 0, &is_limited);
    if (i < box->count) {
        lua_pushinteger(L, (lua_Integer)i + 1);
        return 1;
    }
    lua_pushnil(L);
    if (is_limited) {
        lua_pushliteral(L, "match limit reached");
    }
    return is_limited ? 2 : 1;
}

/// set:test(subject) -> whether any pattern matches, error?
static int set_test(lua_State *L)
{
    int n = set_match(L);
    lua_pushboolean(L, !lua_isnil(L, -n));
    lua_replace(L, -n - 1);
    return n;
}

/// set:all(subject) -> the places of all patterns that match, error?
static int set_all(lua_State *L)
{
    struct set_box *box = regex_check_object(L, 1, "set:all");
    struct moon_slice subject = check_subject(L, "set:all: subject");
    bool is_limited = false;
    int count = 0;
    lua_newtable(L);
    find_candidates(box, subject);
    for (size_t i = 0; i < box->count; i++) {
        i = next_match(L, box, subject, i, &is_limited);
        if (i < box->count) {
            lua_pushinteger(L, (lua_Integer)i + 1);
            lua_rawseti(L, -2, ++count);
        }
    }
    if (is_limited) {
        lua_pushliteral(L, "match limit reached");
    }
    return is_limited ? 2 : 1;
}

void regex_attach_sets(lua_State *L)
{
    static const luaL_Reg LITERALS[] = {{"test", literals_lua_test},
                                        {"match", literals_lua_match},
                                        {"all", literals_lua_all},
                                        {NULL, NULL}};
    static const luaL_Reg SET[] = {
        {"test", set_test}, {"match", set_match}, {"all", set_all}, {NULL, NULL}};
    regex_new_class(L, LITERALS_TYPE, LITERALS, literals_gc);
    regex_new_class(L, SET_TYPE, SET, set_gc);
}
