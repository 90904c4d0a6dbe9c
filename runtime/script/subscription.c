/* SPDX-License-Identifier: Apache-2.0 */

/// Which subscription a request's key belongs to. Keys are kept as SHA-256 digests: the table is
/// found by a digest's first bytes, and digests are compared in constant time.

#include "base/hash.h"
#include "http/uri.h"
#include "net/digest.h"
#include "script/internal.h"

static struct moon_slice subscription_from_query(struct moon_ctx *x, struct moon_slice wanted)
{
    struct moon_slice rest = x->request->query, name, value;
    while (moon_query_next(&rest, &name, &value)) {
        if (moon_slice_is(moon_uri_decode(x->arena, name, true), wanted))
            return moon_uri_decode(x->arena, value, true);
    }
    return moon_slice(NULL, 0);
}

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
    return subscription_from_query(x, query);
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
