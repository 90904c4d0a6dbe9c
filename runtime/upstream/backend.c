/* SPDX-License-Identifier: Apache-2.0 */

/// Backends of one generation: their targets, and the load that outlives them.

#include "upstream/auth.h"
#include "upstream/call_internal.h"
#include "upstream/probe.h"
#include "upstream/service.h"
#include "upstream/upstream.h"

static struct moon_group *group_find(struct moon_upstreams *upstreams, struct moon_slice name)
{
    MOON_LIST_EACH(at, after, &upstreams->groups)
    {
        struct moon_group *group = MOON_LIST_ENTRY(at, struct moon_group, link);
        if (moon_slice_is(moon_slice_text(group->name), name))
            return group;
    }
    return NULL;
}

static struct moon_group *group_acquire(struct moon_upstreams *upstreams,
                                        const struct moon_backend_conf *conf)
{
    struct moon_group *group = group_find(upstreams, conf->name);
    if (group == NULL) {
        group = calloc(1, sizeof(*group));
        char *name = conf->name.len > 0 ? strndup(conf->name.data, conf->name.len) : strdup("");
        if (group == NULL || name == NULL) {
            free(group);
            free(name);
            return NULL;
        }
        group->name = name;
        moon_list_push_back(&upstreams->groups, &group->link);
    }
    if (conf->breaker.is_on && group->circuit == NULL)
        group->circuit = moon_circuit_get(moon_healths_circuits(upstreams->healths), conf->name);
    group->users++;
    return group;
}

static void group_release(struct moon_group *group)
{
    if (group == NULL || --group->users > 0)
        return;
    moon_list_remove(&group->link);
    free(group->name);
    free(group);
}

static enum moon_rc members_add(struct moon_backend *backend, struct moon_members *members,
                                const struct moon_target_conf *conf, char *error, size_t error_cap)
{
    struct moon_target *target = &members->targets[members->count];
    enum moon_rc rc =
        moon_pool_acquire(backend->upstreams, backend->conf, conf, error, error_cap, &target->pool);
    if (rc != MOON_OK)
        return rc;
    target->conf = conf;
    moon_list_init(&target->calls);
    target->is_unix = moon_slice_starts(conf->host, MOON_S("unix:"));
    target->is_literal = !target->is_unix && moon_ip_parse(conf->host, &target->ip);
    target->key = moon_balance_hash(conf->identity);
    members->count++;
    return MOON_OK;
}

enum moon_rc moon_members_new(struct moon_backend *backend, const struct moon_target_conf *confs,
                              size_t count, struct moon_arena *arena, char *error, size_t error_cap,
                              struct moon_members **out)
{
    enum moon_rc rc = MOON_ERR_MEMORY;
    struct moon_members *members = calloc(1, sizeof(*members));
    if (members == NULL)
        return rc;
    members->users = 1;
    moon_arena_init(&members->arena, 1);
    members->targets = calloc(count + 1, sizeof(*members->targets));
    if (members->targets == NULL)
        goto fail;
    for (size_t i = 0; i < count; i++) {
        rc = members_add(backend, members, &confs[i], error, error_cap);
        if (rc != MOON_OK)
            goto fail;
    }
    if (arena != NULL)
        members->arena = *arena;
    *out = members;
    return MOON_OK;
fail:
    moon_members_release(members);
    return rc;
}

void moon_members_release(struct moon_members *members)
{
    if (members == NULL || --members->users > 0)
        return;
    for (size_t i = 0; i < members->count; i++)
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): clang 14 does not follow how it is set
        moon_pool_leave(members->targets[i].pool);
    moon_arena_reset(&members->arena);
    free(members->maglev);
    free(members->targets);
    free(members);
}

size_t moon_members_ejected(const struct moon_members *members, int64_t now_us)
{
    size_t n = 0;
    for (size_t i = 0; i < members->count; i++) {
        const struct moon_health *health = members->targets[i].pool->health;
        if (health != NULL && atomic_load(&health->ejected_until_us) > now_us)
            n++;
    }
    return n;
}

enum moon_rc moon_backend_new(struct moon_upstreams *upstreams,
                              const struct moon_backend_conf *conf, char *error, size_t error_cap,
                              struct moon_backend **out)
{
    struct moon_backend *backend = calloc(1, sizeof(*backend));
    if (backend == NULL)
        return MOON_ERR_MEMORY;
    backend->conf = conf;
    backend->upstreams = upstreams;
    backend->target_count = conf->target_count;
    enum moon_rc rc = MOON_ERR_MEMORY;
    backend->group = group_acquire(upstreams, conf);
    if (backend->group == NULL)
        goto fail;
    rc = moon_service_start(backend);
    if (rc == MOON_OK && backend->members == NULL)
        rc = moon_members_new(backend, conf->targets, conf->target_count, NULL, error, error_cap,
                              &backend->members);
    if (rc == MOON_OK)
        rc = moon_auth_start(backend, error, error_cap);
    if (rc == MOON_OK)
        rc = moon_probe_start(backend);
    if (rc != MOON_OK)
        goto fail;
    *out = backend;
    return MOON_OK;
fail:
    moon_backend_free(backend);
    return rc;
}

static bool backend_has_target(const struct moon_backend_conf *confs, size_t count,
                               struct moon_slice identity)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < confs[i].target_count; k++) {
            if (moon_slice_is(confs[i].targets[k].identity, identity))
                return true;
        }
    }
    return false;
}

void moon_backend_drain(struct moon_backend *backend, const struct moon_backend_conf *newer,
                        size_t count)
{
    if (backend->conf->drain_ms == 0 || backend->service != NULL)
        return;
    int64_t until = moon_loop_now_ms(backend->upstreams->loop) + backend->conf->drain_ms;
    for (size_t i = 0; i < backend->members->count; i++) {
        struct moon_target *target = &backend->members->targets[i];
        if (backend_has_target(newer, count, target->conf->identity))
            continue;
        target->drain_until_ms = until;
        MOON_LIST_EACH(at, after, &target->calls)
        call_drain(MOON_LIST_ENTRY(at, struct moon_call, of_target));
    }
}

void moon_backend_free(struct moon_backend *backend)
{
    if (backend == NULL)
        return;
    moon_probe_stop(backend);
    moon_auth_stop(backend);
    moon_service_stop(backend);
    moon_members_release(backend->members);
    group_release(backend->group);
    free(backend);
}
