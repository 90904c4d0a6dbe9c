/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.sink: where events go. Nothing here waits: what a file, a socket or the store does not take
/// at once is dropped and counted.

#include "script/internal.h"
#include "upstream/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SINK_EVENT_BYTES = 200 * 1024, SINK_REDIS_MS = 1000 };

static const char sink_class[] = "moongate.sink";

struct sink {
    int fd;
};

static double sink_lost; // events that the store did not take, told by its answer

static struct sink *sink_push(lua_State *L)
{
    struct sink *sink = lua_newuserdata(L, sizeof(*sink));
    sink->fd = -1;
    luaL_getmetatable(L, sink_class);
    lua_setmetatable(L, -2);
    return sink;
}

static int sink_fail(lua_State *L, const char *what)
{
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", what, strerror(errno));
    return 2;
}

/// sink.file(path) -> sink | nil, why: lines are appended
static int sink_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct sink *sink = sink_push(L);
    sink->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
    return sink->fd == -1 ? sink_fail(L, path) : 1;
}

static int sink_connect(struct sink *sink, const struct sockaddr *address, socklen_t len)
{
    sink->fd = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return sink->fd == -1 ? -1 : connect(sink->fd, address, len);
}

/// sink.udp(address, port) -> sink | nil, why: `address` is numeric
static int sink_udp(lua_State *L)
{
    const char *address = luaL_checkstring(L, 1);
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    struct sink *sink = sink_push(L);
    if (getaddrinfo(address, luaL_checkstring(L, 2), &hints, &found) != 0) {
        errno = EINVAL;
        return sink_fail(L, address);
    }
    int rc = sink_connect(sink, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return rc == -1 ? sink_fail(L, address) : 1;
}

/// sink.unix(path) -> sink | nil, why: datagrams to a socket that is there
static int sink_unix(lua_State *L)
{
    struct moon_slice path = moon_check_slice(L, 1);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct sink *sink = sink_push(L);
    luaL_argcheck(L, path.len < sizeof(address.sun_path), 1, "is too long");
    memcpy(address.sun_path, path.data, path.len);
    return sink_connect(sink, (struct sockaddr *)&address, sizeof(address)) == -1
               ? sink_fail(L, path.data)
               : 1;
}

/// sink:write(text) -> whether it was taken, whole
static int sink_write(lua_State *L)
{
    const struct sink *sink = luaL_checkudata(L, 1, sink_class);
    struct moon_slice text = moon_check_slice(L, 2);
    ssize_t n =
        sink->fd == -1 || text.len > SINK_EVENT_BYTES ? -1 : write(sink->fd, text.data, text.len);
    lua_pushboolean(L, n == (ssize_t)text.len);
    return 1;
}

static int sink_gc(lua_State *L)
{
    struct sink *sink = luaL_checkudata(L, 1, sink_class);
    if (sink->fd != -1)
        (void)close(sink->fd);
    sink->fd = -1;
    return 0;
}

/// An entry on its way to Redis. It keeps its script, and so the connection, until it is answered.
struct sink_entry {
    struct moon_list link; // in sink_entries
    struct moon_script *script;
    struct moon_redis_command *command;
};

static struct moon_list sink_entries = {&sink_entries, &sink_entries}; // of this process

static void sink_entry_end(struct sink_entry *entry)
{
    struct moon_script *script = entry->script;
    moon_list_remove(&entry->link);
    free(entry);
    moon_errand_end(script->env.errands);
    script->keep(script->keeper, false);
}

void moon_script_end_entries(const struct moon_loop *loop)
{
    MOON_LIST_EACH(at, after, &sink_entries)
    {
        struct sink_entry *entry = MOON_LIST_ENTRY(at, struct sink_entry, link);
        if (entry->script->env.loop != loop)
            continue;
        moon_redis_cancel(entry->command);
        sink_entry_end(entry);
    }
}

static void sink_answered(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    if (rc != MOON_OK || reply->type == MOON_REDIS_ERROR)
        sink_lost++;
    sink_entry_end(owner);
}

/// sink.stream(name, max_entries, text) -> whether it was queued for Redis
static int sink_stream(lua_State *L)
{
    struct moon_script *script = moon_script_of(L);
    struct moon_redis *redis =
        script->env.limits == NULL ? NULL : moon_limits_redis(script->env.limits);
    const char *argv[] = {"XADD", NULL, "MAXLEN", "~", NULL, "*", "event", NULL};
    size_t lens[MOON_COUNT(argv)];
    for (size_t i = 0; i < MOON_COUNT(argv); i++)
        lens[i] = argv[i] == NULL ? 0 : strlen(argv[i]);
    argv[1] = luaL_checklstring(L, 1, &lens[1]);
    argv[4] = luaL_checklstring(L, 2, &lens[4]);
    argv[7] = luaL_checklstring(L, 3, &lens[7]);
    struct sink_entry *entry =
        redis != NULL && lens[7] <= SINK_EVENT_BYTES ? calloc(1, sizeof(*entry)) : NULL;
    bool is_queued = entry != NULL &&
                     moon_redis_command(redis, (int)MOON_COUNT(argv), argv, lens, 1, SINK_REDIS_MS,
                                        sink_answered, entry, &entry->command) == MOON_AGAIN;
    if (is_queued) {
        entry->script = script;
        moon_list_push_back(&sink_entries, &entry->link);
        moon_errand_begin(script->env.errands);
        script->keep(script->keeper, true);
    } else {
        free(entry);
    }
    lua_pushboolean(L, is_queued);
    return 1;
}

/// sink.lost() -> events that the store did not take although they were queued
static int sink_count_lost(lua_State *L)
{
    lua_pushnumber(L, sink_lost);
    return 1;
}

static const luaL_Reg sink_functions[] = {{"file", sink_file},       {"udp", sink_udp},
                                          {"unix", sink_unix},       {"stream", sink_stream},
                                          {"lost", sink_count_lost}, {NULL, NULL}};

static int sink_open(lua_State *L)
{
    luaL_newmetatable(L, sink_class);
    lua_newtable(L);
    lua_pushcfunction(L, sink_write);
    lua_setfield(L, -2, "write");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, sink_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, sink_class);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, sink_functions);
    return 1;
}

void moon_script_open_sink(lua_State *L)
{
    moon_preload(L, "moongate.sink", sink_open);
}
