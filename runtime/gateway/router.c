/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/router.h"

#include "base/hash.h"
#include "base/pace.h"
#include "http/uri.h"

enum {
    ROUTER_ARENA_BYTES = 1 << 30,
    ROUTER_STACK = 160, // alternatives left to try; bounded by the segments that are looked at
    ROUTER_SEGMENTS = 64,
};

/// A leaf under a node; in the order of the plan.
struct router_entry {
    struct router_entry *next;
    const struct moon_leaf *leaf;
};

struct router_node {
    struct moon_slice segment;    // literal that leads here
    struct router_node *next;     // in its bucket
    struct router_node **buckets; // literal children; bucket_count is a power of two
    size_t bucket_count, child_count;
    struct router_node *param;  // child for `{name}`
    struct router_entry *exact; // leaves whose pattern ends here
    struct router_entry *tail;  // leaves whose pattern goes on with `*`
};

struct router_host {
    struct moon_slice name; // "api.example.test"; "*.example.test" without its star; "*" is empty
    struct router_node *root;
};

struct moon_router {
    struct moon_arena arena;
    const struct moon_plan *plan;
    struct router_host *hosts;
    size_t host_count;
    struct router_host **exact; // open addressing
    size_t exact_slots, exact_count;
    struct router_host **wildcards; // longest first
    size_t wildcard_count;
    struct router_host *any;
};

static struct router_node *node_new(struct moon_router *router, struct moon_slice segment)
{
    struct router_node *node = moon_arena_zalloc(&router->arena, sizeof(*node));
    if (node != NULL)
        node->segment = segment;
    return node;
}

static struct router_node *node_child(const struct router_node *node, struct moon_slice segment)
{
    if (node->child_count == 0)
        return NULL;
    struct router_node *child = node->buckets[moon_hash(segment) & (node->bucket_count - 1)];
    while (child != NULL && !moon_slice_is(child->segment, segment))
        child = child->next;
    return child;
}

static bool node_grow(struct moon_router *router, struct router_node *node)
{
    size_t count = node->bucket_count == 0 ? 4 : node->bucket_count * 2;
    struct router_node **buckets = moon_arena_zalloc(&router->arena, count * sizeof(*buckets));
    if (buckets == NULL)
        return false;
    for (size_t i = 0; i < node->bucket_count; i++) {
        struct router_node *child = node->buckets[i];
        while (child != NULL) {
            struct router_node *next = child->next;
            size_t at = moon_hash(child->segment) & (count - 1);
            child->next = buckets[at];
            buckets[at] = child;
            child = next;
        }
    }
    node->buckets = buckets;
    node->bucket_count = count;
    return true;
}

static struct router_node *node_add_child(struct moon_router *router, struct router_node *node,
                                          struct moon_slice segment)
{
    struct router_node *child = node_child(node, segment);
    if (child != NULL)
        return child;
    if (node->child_count >= node->bucket_count && !node_grow(router, node))
        return NULL;
    child = node_new(router, segment);
    if (child == NULL)
        return NULL;
    size_t at = moon_hash(segment) & (node->bucket_count - 1);
    child->next = node->buckets[at];
    node->buckets[at] = child;
    node->child_count++;
    return child;
}

static bool segment_is_param(struct moon_slice segment)
{
    return segment.len >= 2 && segment.data[0] == '{' && segment.data[segment.len - 1] == '}';
}

// Takes the segment after the slash at the start of `rest`.
static struct moon_slice segment_take(struct moon_slice *rest)
{
    struct moon_slice s = moon_slice_from(*rest, 1);
    size_t n = moon_slice_find(s, '/');
    *rest = moon_slice_from(s, n);
    return moon_slice(s.data, n);
}

static bool router_add_entry(struct moon_router *router, struct router_entry **list,
                             const struct moon_leaf *leaf)
{
    struct router_entry *entry = moon_arena_zalloc(&router->arena, sizeof(*entry));
    if (entry == NULL)
        return false;
    entry->leaf = leaf;
    // Leaves for some networks only stand before those for all.
    bool is_special = leaf->networks != NULL;
    while (*list != NULL && (!is_special || (*list)->leaf->networks != NULL))
        list = &(*list)->next;
    entry->next = *list;
    *list = entry;
    return true;
}

static bool router_add_leaf(struct moon_router *router, struct router_node *node,
                            const struct moon_leaf *leaf)
{
    struct moon_slice rest = leaf->path;
    while (rest.len > 0) {
        struct moon_slice segment = segment_take(&rest);
        if (rest.len == 0 && moon_slice_is(segment, MOON_S("*")))
            return router_add_entry(router, &node->tail, leaf);
        if (segment_is_param(segment)) {
            if (node->param == NULL)
                node->param = node_new(router, segment);
            node = node->param;
        } else {
            node = node_add_child(router, node, segment);
        }
        if (node == NULL)
            return false;
    }
    return router_add_entry(router, &node->exact, leaf);
}

static struct router_host *router_find_host(struct moon_router *router, struct moon_slice name)
{
    for (size_t i = router->host_count; i > 0; i--) {
        if (moon_slice_is(router->hosts[i - 1].name, name))
            return &router->hosts[i - 1];
    }
    return NULL;
}

static struct router_host *router_add_host(struct moon_router *router, struct moon_slice name)
{
    // Leaves come grouped by host, so the last one is the usual answer.
    struct router_host *host = router_find_host(router, name);
    if (host != NULL)
        return host;
    host = &router->hosts[router->host_count++];
    host->name = name;
    host->root = node_new(router, moon_slice(NULL, 0));
    return host;
}

static int router_order_wildcards(const void *a, const void *b)
{
    size_t left = (*(struct router_host *const *)a)->name.len;
    size_t right = (*(struct router_host *const *)b)->name.len;
    return left < right ? 1 : left > right ? -1 : 0;
}

static bool router_index_hosts(struct moon_router *router)
{
    router->exact_slots = 16;
    while (router->exact_slots < router->host_count * 2)
        router->exact_slots *= 2;
    router->exact = moon_arena_zalloc(&router->arena, router->exact_slots * sizeof(*router->exact));
    router->wildcards =
        moon_arena_zalloc(&router->arena, (router->host_count + 1) * sizeof(*router->wildcards));
    if (router->exact == NULL || router->wildcards == NULL)
        return false;
    for (size_t i = 0; i < router->host_count; i++) {
        struct router_host *host = &router->hosts[i];
        if (moon_slice_is(host->name, MOON_S("*"))) {
            router->any = host;
        } else if (moon_slice_starts(host->name, MOON_S("*."))) {
            router->wildcards[router->wildcard_count++] = host;
        } else {
            size_t at = moon_hash(host->name) & (router->exact_slots - 1);
            while (router->exact[at] != NULL)
                at = (at + 1) & (router->exact_slots - 1);
            router->exact[at] = host;
            router->exact_count++;
        }
    }
    qsort(router->wildcards, router->wildcard_count, sizeof(*router->wildcards),
          router_order_wildcards);
    return true;
}

struct moon_router *moon_router_new(const struct moon_plan *plan)
{
    struct moon_router *router = calloc(1, sizeof(*router));
    if (router == NULL)
        return NULL;
    moon_arena_init(&router->arena, ROUTER_ARENA_BYTES);
    router->plan = plan;
    size_t most = 0; // distinct hosts: leaves of one host stand together
    for (size_t i = 0; i < plan->leaf_count; i++) {
        if (i == 0 || !moon_slice_is(plan->leaves[i].host, plan->leaves[i - 1].host))
            most++;
    }
    router->hosts = moon_arena_zalloc(&router->arena, (most + 1) * sizeof(*router->hosts));
    if (router->hosts == NULL)
        goto fail;
    for (size_t i = 0; i < plan->leaf_count; i++) {
        struct router_host *host = router_add_host(router, plan->leaves[i].host);
        if (host->root == NULL || !router_add_leaf(router, host->root, &plan->leaves[i]))
            goto fail;
        moon_pace();
    }
    if (!router_index_hosts(router))
        goto fail;
    return router;
fail:
    moon_router_free(router);
    return NULL;
}

void moon_router_free(struct moon_router *router)
{
    if (router == NULL)
        return;
    moon_arena_reset(&router->arena);
    free(router);
}

static const struct router_host *router_match_host(const struct moon_router *router,
                                                   struct moon_slice host)
{
    if (host.len > 0) {
        size_t at = router->exact_count == 0 ? 0 : moon_hash(host) & (router->exact_slots - 1);
        for (; router->exact[at] != NULL; at = (at + 1) & (router->exact_slots - 1)) {
            if (moon_slice_is(router->exact[at]->name, host))
                return router->exact[at];
        }
        for (size_t i = 0; i < router->wildcard_count; i++) {
            struct moon_slice suffix = moon_slice_from(router->wildcards[i]->name, 1);
            if (host.len > suffix.len && moon_slice_ends(host, suffix))
                return router->wildcards[i];
        }
    }
    return router->any;
}

static bool leaf_takes_client(const struct moon_plan *plan, const struct moon_leaf *leaf,
                              const struct moon_client *client)
{
    bool is_from_network = leaf->networks == NULL;
    for (size_t i = 0; !is_from_network && i < leaf->network_count; i++)
        is_from_network = leaf->networks[i] >= 0 &&
                          moon_ipset_has(plan->networks[leaf->networks[i]].set, &client->ip);
    bool is_on_listener = leaf->listeners == NULL;
    for (size_t i = 0; !is_on_listener && i < leaf->listener_count; i++)
        is_on_listener = leaf->listeners[i] == client->listener;
    return is_from_network && is_on_listener;
}

static const struct moon_leaf *router_pick(const struct moon_router *router,
                                           const struct router_entry *entry,
                                           const struct moon_ctx *x)
{
    const struct moon_leaf *any_method = NULL;
    for (; entry != NULL; entry = entry->next) {
        const struct moon_leaf *leaf = entry->leaf;
        if (!leaf_takes_client(router->plan, leaf, x->client))
            continue;
        if (moon_slice_is(leaf->method, x->request->method_name))
            return leaf;
        if (any_method == NULL && moon_slice_is(leaf->method, MOON_S("*")))
            any_method = leaf;
    }
    return any_method;
}

/// An alternative that has not been tried.
struct router_step {
    const struct router_node *node;
    struct moon_slice rest;
    size_t depth; // segments before `rest`
    bool is_tail;
};

/// The segments that were taken by params, by depth.
struct router_walk {
    struct router_step stack[ROUTER_STACK];
    size_t n;
};

static void router_push(struct router_walk *walk, const struct router_node *node,
                        struct moon_slice rest, size_t depth, bool is_tail)
{
    if (walk->n < ROUTER_STACK)
        walk->stack[walk->n++] = (struct router_step){node, rest, depth, is_tail};
}

static const struct moon_leaf *router_walk_path(const struct moon_router *router,
                                                const struct router_node *root,
                                                const struct moon_ctx *x)
{
    struct router_walk walk;
    walk.n = 0;
    router_push(&walk, root, x->request->path, 0, false);
    while (walk.n > 0) {
        struct router_step step = walk.stack[--walk.n];
        const struct moon_leaf *leaf = NULL;
        if (step.is_tail || step.rest.len == 0)
            leaf = router_pick(router, step.is_tail ? step.node->tail : step.node->exact, x);
        if (leaf != NULL)
            return leaf;
        if (step.is_tail)
            continue;
        if (step.node->tail != NULL)
            router_push(&walk, step.node, step.rest, step.depth, true);
        if (step.rest.len == 0 || step.depth >= ROUTER_SEGMENTS)
            continue;
        struct moon_slice segment = segment_take(&step.rest);
        if (step.node->param != NULL && segment.len > 0)
            router_push(&walk, step.node->param, step.rest, step.depth + 1, false);
        const struct router_node *child = node_child(step.node, segment);
        if (child != NULL)
            router_push(&walk, child, step.rest, step.depth + 1, false);
    }
    return NULL;
}

static size_t router_count_params(struct moon_slice pattern)
{
    size_t count = pattern.data[pattern.len - 1] == '*';
    for (size_t i = 0; i < pattern.len; i++)
        count += pattern.data[i] == '{';
    return moon_min_size(count, MOON_CTX_PARAMS);
}

// Lays the leaf's pattern beside the path and takes the params out.
static enum moon_rc router_take_params(struct moon_ctx *x)
{
    struct moon_slice pattern = x->leaf->path, path = x->request->path;
    size_t most = router_count_params(pattern);
    x->param_count = 0;
    if (most == 0)
        return MOON_OK;
    x->params = moon_arena_alloc(x->arena, most * sizeof(*x->params));
    if (x->params == NULL)
        return MOON_ERR_MEMORY;
    while (pattern.len > 0 && path.len > 0 && x->param_count < most) {
        struct moon_slice wanted = segment_take(&pattern);
        struct moon_slice whole = path;
        struct moon_slice segment = segment_take(&path);
        struct moon_param *param = &x->params[x->param_count];
        if (pattern.len == 0 && moon_slice_is(wanted, MOON_S("*"))) {
            param->name = MOON_S("*");
            param->raw = param->value = moon_slice_from(whole, 1);
            x->param_count++;
        } else if (segment_is_param(wanted)) {
            param->name = moon_slice(wanted.data + 1, wanted.len - 2);
            param->raw = segment;
            param->value = moon_uri_decode(x->arena, segment, false);
            x->param_count++;
        }
    }
    return MOON_OK;
}

enum moon_rc moon_router_match(const struct moon_router *router, struct moon_ctx *x)
{
    const struct router_host *host = router_match_host(router, x->request->host);
    const struct moon_leaf *leaf = NULL;
    if (host != NULL)
        leaf = router_walk_path(router, host->root, x);
    if (leaf == NULL && router->any != NULL && host != router->any) {
        // A site's leaves may all be bound to other listeners: the catch-all site is next.
        leaf = router_walk_path(router, router->any->root, x);
    }
    if (leaf == NULL)
        return host == NULL ? MOON_ERR_UNKNOWN_HOST : MOON_ERR_NO_ROUTE;
    x->leaf = leaf;
    return router_take_params(x);
}
