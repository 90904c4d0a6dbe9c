/* SPDX-License-Identifier: Apache-2.0 */

/// Which subscription a request's key belongs to. Keys are kept as SHA-256 digests: the table is
/// found by a digest's first bytes, and digests are compared in constant time.

#include "base/hash.h"
#include "http/uri.h"
#include "net/digest.h"
#include "script/internal.h"

// The query is looked at only where the header is absent (API Management's order).
static struct moon_slice subscription_key(struct moon_ctx *x)
{
    const struct moon_leaf *leaf = x->leaf;
    struct moon_slice header = leaf != NULL && leaf->subscription_header.len > 0
                                   ? leaf->subscription_header
                                   : MOON_S("Ocp-Apim-Subscription-Key");
    struct moon_slice query = leaf != NULL && leaf->subscription_query.len > 0
                                  ? leaf->subscription_query
                                  : MOON_S("subscription-key");
    const struct moon_field *field = moon_fields_find(&x->request->fields, header);
    if (field != NULL)
        return field->value;
    return moon_ctx_query_value(x, query);
}

static const struct moon_subscription *subscription_of_key(const struct moon_plan *plan,
                                                           struct moon_slice key)
{
    uint8_t digest[MOON_DIGEST_BYTES];
    uint64_t at;
    moon_digest_sha256(key, digest);
    memcpy(&at, digest, sizeof(at));
    struct moon_slice wanted = moon_slice((const char *)digest, sizeof(digest));
    for (;; at++) {
        uint32_t slot = plan->key_slots[at & (plan->key_slot_count - 1)];
        if (slot == 0)
            return NULL;
        const struct moon_subscription *subscription =
            &plan->subscriptions[(slot - 1) / MOON_SUBSCRIPTION_KEYS];
        const uint8_t *kept = subscription->keys[(slot - 1) % MOON_SUBSCRIPTION_KEYS];
        if (moon_slice_is_constant_time(wanted, moon_slice((const char *)kept, sizeof(digest))))
            return subscription;
    }
}

// The same few keys come again and again: a keyed hash of 128 bits stands for the key, so that the
// digest is made once for each.
static const struct moon_subscription *subscription_recall(struct moon_script *script,
                                                           struct moon_slice key)
{
    uint64_t hash[2];
    moon_hash128(0, key, hash);
    struct moon_key_memo *memo = &script->key_memo[hash[0] & (MOON_KEY_MEMOS - 1)];
    if (memo->hash[0] != hash[0] || memo->hash[1] != hash[1]) {
        memo->subscription = subscription_of_key(script->plan, key);
        memo->hash[0] = hash[0];
        memo->hash[1] = hash[1];
    }
    return memo->subscription;
}

static bool subscription_covers(const struct moon_subscription *subscription, struct moon_slice api)
{
    if (subscription->api.len > 0)
        return moon_slice_is(subscription->api, api);
    if (subscription->product.len == 0)
        return true;
    for (size_t i = 0; i < subscription->api_count; i++) {
        if (moon_slice_is(subscription->apis[i], api))
            return true;
    }
    return false;
}

void moon_ctx_find_subscription(struct moon_ctx *x)
{
    if (x->is_subscription_known)
        return;
    x->is_subscription_known = true;
    struct moon_slice key = subscription_key(x);
    x->is_subscription_given = key.len > 0;
    if (key.len == 0)
        return;
    const struct moon_subscription *found = subscription_recall(x->script, key);
    bool is_active =
        found != NULL && (found->state.len == 0 || moon_slice_is(found->state, MOON_S("active")));
    struct moon_slice api = x->leaf == NULL ? moon_slice(NULL, 0) : x->leaf->api;
    if (is_active && subscription_covers(found, api))
        x->subscription = found;
}

// ---- moongate.subscriptions --------------------------------------------------------------------

static const char subscription_gate_name[] = "moongate.subscriptions.gate";

#define SUBSCRIPTION_GATE_MARK UINT64_C(0x6d6f6f6e67617465)

/// What the policy `subscription` lets in. Its texts lie behind it.
struct subscription_gate {
    uint64_t mark; // SUBSCRIPTION_GATE_MARK
    bool is_required, strips;
    enum moon_field_id header_id;
    struct moon_slice header, query, api;
    size_t product_count;
    struct moon_slice products[];
};

static bool subscription_opens(const struct subscription_gate *gate,
                               const struct moon_subscription *subscription)
{
    if (subscription->state.len > 0 && !moon_slice_is(subscription->state, MOON_S("active")))
        return false;
    if (subscription->product.len == 0)
        return subscription->api.len == 0 || moon_slice_is(subscription->api, gate->api);
    for (size_t i = 0; i < gate->product_count; i++) {
        if (moon_slice_is(gate->products[i], subscription->product))
            return true;
    }
    return false;
}

static const struct subscription_gate *subscription_check_gate(lua_State *L)
{
    return moon_check_object(L, 1, sizeof(struct subscription_gate), SUBSCRIPTION_GATE_MARK,
                             subscription_gate_name);
}

// What is wrong with the caller's key; NULL when the caller may go on.
static const char *subscription_fault(const struct subscription_gate *gate, struct moon_ctx *x)
{
    moon_ctx_find_subscription(x);
    if (x->subscription == NULL && !x->is_subscription_given)
        return gate->is_required ? "missing" : NULL;
    return x->subscription != NULL && subscription_opens(gate, x->subscription) ? NULL : "invalid";
}

// Takes the key off the request. @return false when the arena is full
static bool subscription_strip(const struct subscription_gate *gate, struct moon_ctx *x)
{
    if (!gate->strips)
        return true;
    if (!moon_ctx_remove_query(x, gate->query))
        return false;
    (void)moon_fields_remove_known(&x->request->fields, gate->header_id, gate->header);
    return true;
}

/// gate:admit(ctx) -> nothing when the caller may go on, else "missing" or "invalid"
///
/// The key is taken off the request of who may, where the gate says so.
static int subscription_gate_admit(lua_State *L)
{
    const struct subscription_gate *gate = subscription_check_gate(L);
    struct moon_ctx *x = moon_handle_check(L, 2, MOON_HANDLE_CTX);
    const char *fault = subscription_fault(gate, x);
    if (fault == NULL)
        return subscription_strip(gate, x) ? 0 : moon_raise_full(L);
    lua_pushstring(L, fault);
    return 1;
}

// The same as an act. Who is not let in hears so from the policy.
static enum moon_act_answer subscription_act(struct moon_ctx *x, const void *gate)
{
    bool is_open = subscription_fault(gate, x) == NULL && subscription_strip(gate, x);
    return is_open ? MOON_ACT_GO_ON : MOON_ACT_DECLINES;
}

// Copies the string at `index` to *at and moves that on.
static struct moon_slice subscription_keep(lua_State *L, int index, char **at)
{
    struct moon_slice text = moon_check_slice(L, index);
    char *copy = *at;
    memcpy(copy, text.data, text.len + 1);
    *at += text.len + 1;
    return moon_slice(copy, text.len);
}

/// subscriptions.gate(header, query, is_required, strips, api, products) -> gate
///
/// `api` is the API's name, or ""; `products` the list of those that hold it.
static int subscription_gate_new(lua_State *L)
{
    luaL_checktype(L, 6, LUA_TTABLE);
    size_t count = lua_objlen(L, 6);
    size_t bytes =
        moon_check_slice(L, 1).len + moon_check_slice(L, 2).len + moon_check_slice(L, 5).len + 3;
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, 6, (int)i);
        bytes += moon_check_slice(L, -1).len + 1;
        lua_pop(L, 1);
    }
    struct subscription_gate *gate;
    gate = lua_newuserdata(L, sizeof(*gate) + count * sizeof(gate->products[0]) + bytes);
    char *at = (char *)&gate->products[count];
    gate->mark = SUBSCRIPTION_GATE_MARK;
    gate->header = subscription_keep(L, 1, &at);
    gate->header_id = moon_field_id(gate->header);
    gate->query = subscription_keep(L, 2, &at);
    gate->is_required = lua_toboolean(L, 3);
    gate->strips = lua_toboolean(L, 4);
    gate->api = subscription_keep(L, 5, &at);
    gate->product_count = count;
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 6, (int)i + 1);
        gate->products[i] = subscription_keep(L, -1, &at);
        lua_pop(L, 1);
    }
    luaL_getmetatable(L, subscription_gate_name);
    lua_setmetatable(L, -2);
    return 1;
}

static int subscription_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"admit", subscription_gate_admit}, {NULL, NULL}};
    luaL_newmetatable(L, subscription_gate_name);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "gate");
    lua_setfield(L, -2, "__metatable");
    moon_act_register(L, subscription_act);
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, subscription_gate_new);
    lua_setfield(L, -2, "gate");
    return 1;
}

void moon_script_open_subscriptions(lua_State *L)
{
    moon_preload(L, "moongate.subscriptions", subscription_open);
}
