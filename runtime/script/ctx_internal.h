/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the files that make up `ctx` share.

#include "script/internal.h"

struct ctx_name {
    const char *name;
    int key;
};

/// Makes a metatable: `names` are fields (their key is what moon_ctx_key answers), `methods` are
/// functions called with a colon.
void moon_ctx_new_class(lua_State *L, struct moon_script *script, enum moon_handle_kind kind,
                        const struct ctx_name *names, const luaL_Reg *methods, lua_CFunction index,
                        lua_CFunction newindex);

/// Index functions of ctx, ctx.request and ctx.response are called for what is not at hand (see
/// ctx_new_handle): in place of the table that was asked first, the userdata comes to index 1.
void moon_ctx_self(lua_State *L);

/// The field behind the key at index 2. @return 0 for a method or an unknown name, with that method
/// or nil pushed
int moon_ctx_key(lua_State *L);

/// Ends an index function whose moon_ctx_key found no field: answers with the method on top.
/// @lua-raises "ctx.request has no field 'heders'; did you mean \"headers\"?"
int moon_ctx_method(lua_State *L, enum moon_handle_kind kind);

/// For assignments: raises that the field cannot be set, or that there is none.
int moon_ctx_raise_unset(lua_State *L, enum moon_handle_kind kind);

/// Pushes the metatable for tables of facts that `what` names, made once a state: of these names nil is the answer where they are not there,
/// any other raises.
void moon_ctx_push_facts_class(lua_State *L, const char *what, const char *const names[], size_t n);

/// "ctx.request"
const char *moon_handle_name(enum moon_handle_kind kind);

/// Pushes another part of the ctx that the userdata at index 1 belongs to.
void moon_ctx_push_part(lua_State *L, int part);

/// A parameter of the path, or NULL.
const struct moon_param *moon_ctx_find_param(const struct moon_ctx *x, struct moon_slice name);

/// header_names, header_values and add_header of either message.
int moon_ctx_fields_push_names(lua_State *L, const struct moon_fields *fields);
int moon_ctx_fields_push_values(lua_State *L, const struct moon_fields *fields);
enum moon_rc moon_ctx_fields_add(lua_State *L, struct moon_ctx *x, struct moon_fields *fields);

/// Whether a field is the connection's own, which no policy sets.
bool moon_ctx_field_is_fixed(enum moon_field_id id);

/// Adds `json` (and `form`) to a class that has `body`.
void moon_ctx_add_body_methods(lua_State *L, struct moon_script *script,
                               enum moon_handle_kind kind);
void moon_ctx_cancel_body(void *op);

/// Raises in the policy that wanted a body why there is none. Where the peer is the cause, the exchange
/// ends with that once the section has ended.
int moon_ctx_body_raise(lua_State *L, struct moon_ctx *x, const char *what, enum moon_rc rc);

/// `replace` of both: a list of { from, to } at index 2, whether they are links at 3.
int moon_ctx_body_replace(lua_State *L, struct moon_ctx *x, bool is_request);

void moon_ctx_open_request(lua_State *L, struct moon_script *script);
void moon_ctx_open_response(lua_State *L, struct moon_script *script);
void moon_ctx_open_fields(lua_State *L, struct moon_script *script);
void moon_ctx_open_query(lua_State *L, struct moon_script *script);
