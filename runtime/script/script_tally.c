/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.tally: counts in a file that all workers share, for quotas.

#include "base/clock.h"
#include "base/log.h"
#include "script/internal.h"
#include "shared/tally.h"

#include <errno.h>
#include <sys/stat.h>

enum { TALLY_PATH_BYTES = 512 };

// Makes the folders of a path. What fails here fails at opening the file too, with a reason.
static void tally_make_folders(char *path)
{
    for (char *at = strchr(path + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(path, 0700) == -1 && errno != EEXIST)
            moon_log_debug("%s: %s", path, strerror(errno));
        *at = '/';
    }
}

/// tally.open(path) -> tally | nil, reason
///
/// Where a configuration is only checked no file is made, and the tally is good for nothing.
static int tally_open(lua_State *L)
{
    char path[TALLY_PATH_BYTES], error[TALLY_PATH_BYTES + 64] = "";
    struct moon_slice given = moon_check_slice(L, 1);
    struct moon_tally *tally = NULL;
    luaL_argcheck(L, given.len > 0 && given.len < sizeof(path), 1, "is too long");
    memcpy(path, given.data, given.len + 1);
    // What a check by root made here, the workers' user could not open.
    if (moon_script_of(L)->env.is_checking) {
        lua_pushlightuserdata(L, NULL);
        return 1;
    }
    tally_make_folders(path);
    if (moon_tally_open(path, error, sizeof(error), &tally) != MOON_OK) {
        lua_pushnil(L);
        lua_pushstring(L, error);
        return 2;
    }
    lua_pushlightuserdata(L, tally);
    return 1;
}

static int64_t tally_int(lua_State *L, int index, double absent)
{
    double n = luaL_optnumber(L, index, absent);
    if (!(n >= -1 && n <= 9e15))
        luaL_error(L, "tally.add: a count must be -1 to 9e15, got %f", n);
    return (int64_t)n;
}

struct tally_taken {
    struct moon_taken taken; // first
    struct moon_tally *tally;
    struct moon_slice key;
    int64_t calls;
};

static void tally_taken_give_back(struct moon_taken *taken, struct moon_ctx *x)
{
    const struct tally_taken *t = (const struct tally_taken *)taken;
    (void)x;
    moon_tally_give_back(t->tally, t->key, t->calls);
}

// Remembers what was counted of a call. Without room for that, the call stays counted.
static void tally_remember(struct moon_ctx *x, struct moon_tally *tally, struct moon_slice key,
                           int64_t calls)
{
    struct moon_slice own_key;
    struct tally_taken *t = moon_arena_zalloc(x->arena, sizeof(*t));
    if (t == NULL || !moon_arena_copy(x->arena, key, &own_key))
        return;
    *t = (struct tally_taken){.taken = {.next = x->taken, .give_back = tally_taken_give_back},
                              .tally = tally,
                              .key = own_key,
                              .calls = calls};
    x->taken = &t->taken;
}

/// tally.add(tally, key, expires_s, calls, bytes, max_calls = -1, max_bytes = -1)
///   -> allowed, calls, bytes | nil when there is no room for another key
///
/// Calls that were let in, with a limit for them, are given back when another limit refuses the
/// request.
static int tally_add(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
    struct moon_tally *tally = lua_touserdata(L, 1);
    struct moon_tally_count amount = {tally_int(L, 4, 0), tally_int(L, 5, 0)}, now;
    struct moon_slice key = moon_check_slice(L, 2);
    int64_t max_calls = tally_int(L, 6, -1);
    enum moon_rc rc = moon_tally_add(tally, key, tally_int(L, 3, 0), moon_clock_wall_ms() / 1000,
                                     amount, max_calls, tally_int(L, 7, -1), &now);
    if (rc == MOON_ERR_MEMORY)
        return 0;
    struct moon_ctx *x = moon_script_of(L)->current;
    if (rc == MOON_OK && x != NULL && amount.calls > 0 && max_calls >= 0)
        tally_remember(x, tally, key, amount.calls);
    lua_pushboolean(L, rc == MOON_OK);
    lua_pushnumber(L, (lua_Number)now.calls);
    lua_pushnumber(L, (lua_Number)now.bytes);
    return 3;
}

static const luaL_Reg tally_functions[] = {{"open", tally_open}, {"add", tally_add}, {NULL, NULL}};

static int tally_open_module(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, tally_functions);
    return 1;
}

void moon_script_open_tally(lua_State *L)
{
    moon_preload(L, "moongate.tally", tally_open_module);
}
