/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The border between the runtime and native plugins. ABI version 7.
///
/// A plugin is a folder with one registration. It links to nothing of the runtime: what it needs of
/// the host comes through `struct moon_host`, given to `open`. Its functions become the Lua module
/// `moongate.<name>`. Nothing here blocks and nothing is called from another thread.
///
/// Version 1: log, exchange views, budgets, completions.
/// Version 2: log_object.
/// Version 3: pace.
/// Version 4: request_field.
/// Version 5: note.
/// Version 6: acts.
/// Version 7: record_read, record_change.

#include "moongate/act.h"
#include "moongate/plugin_log.h"
#include "moongate/types.h"

#include <lauxlib.h>
#include <lua.h>

#define MOON_PLUGIN_ABI 7

enum { MOON_PLUGIN_RECORD_BYTES = 992 };

/// One request and its response as a plugin sees them. Lent: valid until the calling Lua function
/// returns. Slices lie in the exchange's arena.
struct moon_exchange_view {
    struct moon_slice method;
    struct moon_slice target; // request-target as it came, before normalisation
    struct moon_slice path;   // normalised path, percent-decoded where that is safe
    struct moon_slice query;  // raw, without '?'
    struct moon_slice host;   // authority as it came
    struct moon_slice scheme; // "http" or "https"
    int version_major, version_minor;
    struct moon_slice request_line; // as received (HTTP/1.x) or rebuilt (HTTP/2)
    const struct moon_field *request_fields;
    size_t request_field_count;
    struct moon_slice request_body; // what has been read; empty unless the route buffers it
    bool is_request_body_complete;

    struct moon_slice client_ip; // text form, after trusted proxies
    uint16_t client_port;
    struct moon_slice server_ip;
    uint16_t server_port;
    struct moon_slice id; // the exchange's id

    int status; // 0 while there is no response
    struct moon_slice reason;
    const struct moon_field *response_fields;
    size_t response_field_count;
    struct moon_slice response_body;
    bool is_response_body_complete;
};

/// What the runtime offers. Lives as long as the process.
struct moon_host {
    uint32_t abi;

    /// Writes one line to the error log.
    void (*log)(enum moon_log_level level, const char *fmt, ...) MOON_PRINTF(2, 3);

    /// Writes one line with an event as the member `name`; `object` is JSON, of any length. Borrowed.
    void (*log_object)(enum moon_log_level level, const char *message, const char *name,
                       struct moon_slice object);

    /// Reads the exchange behind the `ctx` at `index`; NULL when the value is no ctx or its
    /// request is over.
    const struct moon_exchange_view *(*exchange)(lua_State *L, int index);

    /// Keeps `object` with the exchange of `ctx`: `free_object` is called when the exchange ends.
    /// One object per plugin name; NULL `object` reads. Returns the object kept, or NULL.
    void *(*attach)(lua_State *L, int ctx_index, const char *plugin, void *object,
                    void (*free_object)(void *));

    /// Charges work done in C to the running section's CPU budget (`units`: roughly 10 ns each).
    void (*charge)(lua_State *L, uint32_t units);

    /// Wall-clock milliseconds since the epoch; follows the specs' virtual clock.
    int64_t (*wall_ms)(void);

    /// Reads a file through the generation's snapshot of the configuration directory, else from
    /// disk. Lent until the calling Lua function returns; false when it cannot be read.
    bool (*read_file)(lua_State *L, const char *path, struct moon_slice *out);

    /// Called every hundred microseconds or so by what takes long while a configuration is loaded:
    /// requests of the generation before are served meanwhile, by this plugin, too. NULL: nobody waits.
    void (*pace)(void);

    /// The value of a request field of the `ctx` at `index`, several lines joined by ", ". Lent: until
    /// the exchange ends, or a policy changes the field. False when there is none, or the value is no
    /// ctx.
    bool (*request_field)(lua_State *L, int index, struct moon_slice name,
                          struct moon_slice *value);

    /// Sets ctx.vars[name] of the `ctx` at `index` to a number, and builds nothing that nobody asks for.
    /// `name` is static. Raises a Lua error when the value is no ctx of a live exchange.
    void (*note)(lua_State *L, int index, const char *name, double number);

    /// Makes userdata of the metatable on top of the stack acts: `native` in what a policy prepares may
    /// name them.
    void (*act_register)(lua_State *L, moon_act_fn *run);

    /// For acts: the exchange behind the `ctx` at `index`, or NULL; as request_field; taking a field out
    /// of the request; and `ctx.jwt`, which holds on to the claims until the exchange ends. That fails
    /// where a policy has set it, or has had it in its hands.
    struct moon_ctx *(*act_ctx)(lua_State *L, int index);
    bool (*act_field)(const struct moon_ctx *x, struct moon_slice name, struct moon_slice *value);
    void (*act_remove_field)(struct moon_ctx *x, struct moon_slice name);
    bool (*act_jwt)(struct moon_ctx *x, struct moon_claims *claims);

    /// Small records by name, which all workers of the node share and reloads keep. `into` has room for
    /// MOON_PLUGIN_RECORD_BYTES. @return the record's length; 0: there is none
    size_t (*record_read)(lua_State *L, struct moon_slice name, int64_t now_s, char *into);

    /// Has `change` make of a record (`len` 0: of nothing) what it is to hold, in place, and say when it is
    /// worthless; 0 takes it out. Nobody else changes it meanwhile: nothing is allocated, waited for or
    /// asked of Lua in it. Does nothing where the configuration is only checked.
    void (*record_change)(lua_State *L, struct moon_slice name, int64_t now_s,
                          size_t (*change)(void *arg, char *bytes, size_t len, int64_t *expires_s),
                          void *arg);
};

struct moon_plugin {
    uint32_t abi;     // MOON_PLUGIN_ABI
    const char *name; // the module is "moongate.<name>"
    const luaL_Reg *functions;

    /// Called once per process, after the fork. Returns 0, or -1 after logging why not.
    int (*open)(const struct moon_host *host);
    void (*close)(void);

    /// Called once per Lua state, with the module table on top of the stack; may add metatables.
    /// May be NULL.
    void (*attach)(lua_State *L);
};

/// Built into the binary, which is the only form that the runtime loads, a plugin exports
/// `moon_plugin_<name>`: the build defines MOON_PLUGIN_SYMBOL so. As a shared object, for specs
/// (spec/plugins/host.c), it exports `moon_plugin_entry`.
#ifdef MOON_PLUGIN_SYMBOL
#define moon_plugin_entry MOON_PLUGIN_SYMBOL
#endif
