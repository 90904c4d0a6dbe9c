/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.header: header fields set without Lua.

#include "script/ctx_internal.h"
#include "script/text.h"

static const char header_setter_name[] = "moongate.header.setter";

enum header_action { HEADER_OVERRIDE, HEADER_SKIP, HEADER_APPEND, HEADER_DELETE };

/// What the policy `set_header` does. Its environment keeps the texts.
struct header_setter {
    enum header_action action;
    bool is_of_response;
    enum moon_field_id id;
    struct moon_slice name;
    const struct moon_text *value; // NULL: none, with HEADER_DELETE
};

static enum moon_rc header_put(const struct header_setter *setter, struct moon_fields *fields,
                               struct moon_slice value)
{
    if (setter->action == HEADER_APPEND)
        return moon_fields_add_known(fields, setter->id, setter->name, value);
    return moon_fields_set_known(fields, setter->id, setter->name, value);
}

// What may not stand in a field is the policy's to raise.
static enum moon_act_answer header_act(struct moon_ctx *x, const void *object)
{
    const struct header_setter *setter = object;
    struct moon_slice value;
    if (setter->is_of_response && x->response == NULL)
        return MOON_ACT_DECLINES;
    struct moon_fields *fields =
        setter->is_of_response ? &x->response->fields : &x->request->fields;
    if (setter->action == HEADER_SKIP && moon_fields_find(fields, setter->name) != NULL)
        return MOON_ACT_GO_ON;
    enum moon_text_kind kind =
        setter->action == HEADER_DELETE ? MOON_TEXT_NONE : moon_text_make(setter->value, x, &value);
    if (kind == MOON_TEXT_OTHER)
        return MOON_ACT_DECLINES;
    if (kind == MOON_TEXT_NONE) {
        if (setter->action != HEADER_APPEND)
            (void)moon_fields_remove_known(fields, setter->id, setter->name);
        return MOON_ACT_GO_ON;
    }
    value = moon_slice_trim(value);
    bool is_set = moon_field_value_is_valid(value) && header_put(setter, fields, value) == MOON_OK;
    return is_set ? MOON_ACT_GO_ON : MOON_ACT_DECLINES;
}

/// header.setter(name, action, value, is_of_response) -> act | nil where Lua has to do it
///
/// `action` is "override", "skip", "append" or "delete"; `value` a text program (moongate.text), or nil
/// with "delete".
static int header_setter(lua_State *L)
{
    static const char *const actions[] = {"override", "skip", "append", "delete", NULL};
    struct moon_slice name = moon_check_slice(L, 1);
    int action = luaL_checkoption(L, 2, NULL, actions);
    const struct moon_text *value = moon_text_read(L, 3);
    if (!moon_field_name_is_valid(name) || moon_ctx_field_is_fixed(moon_field_id(name)) ||
        (value == NULL && action != HEADER_DELETE))
        return 0;
    lua_settop(L, 4);
    struct header_setter *setter = lua_newuserdata(L, sizeof(*setter));
    *setter = (struct header_setter){
        .action = (enum header_action)action,
        .is_of_response = lua_toboolean(L, 4),
        .id = moon_field_id(name),
        .name = name,
        .value = value,
    };
    moon_keep_with(L, 3);
    luaL_getmetatable(L, header_setter_name);
    lua_setmetatable(L, -2);
    return 1;
}

static int header_open(lua_State *L)
{
    moon_act_new_class(L, header_setter_name, header_act);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, header_setter);
    lua_setfield(L, -2, "setter");
    return 1;
}

void moon_script_open_header(lua_State *L)
{
    moon_preload(L, "moongate.header", header_open);
}
