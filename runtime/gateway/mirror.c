/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/mirror.h"

#include "base/hash.h"

enum {
    MIRROR_ARENA_BYTES = 8 << 20,
    MIRROR_MOST = 256, // under way, each worker
};

struct mirror {
    struct moon_list link;
    struct moon_gateway *gateway;
    struct moon_generation *generation; // counted
    struct moon_arena arena;
    struct moon_request request;
    struct moon_call call;
};

static void mirror_end(struct mirror *mirror)
{
    moon_call_end(&mirror->call);
    moon_list_remove(&mirror->link);
    mirror->gateway->mirror_count--;
    moon_errand_end(&mirror->gateway->errands);
    moon_arena_reset(&mirror->arena);
    moon_generation_release(mirror->generation);
    free(mirror);
}

static void mirror_drop_body(void *owner)
{
    struct mirror *mirror = owner;
    struct moon_slice data;
    bool is_done = false;
    enum moon_rc rc;
    do {
        rc = moon_call_read(&mirror->call, &data, &is_done);
    } while (rc == MOON_OK && !is_done);
    if (rc != MOON_AGAIN)
        mirror_end(mirror);
}

static void mirror_writable(void *owner)
{
    (void)owner; // the body went out with the head
}

static void mirror_failed(void *owner, enum moon_rc rc)
{
    (void)rc; // the target's health has it
    mirror_end(owner);
}

static const struct moon_call_events mirror_events = {mirror_drop_body, mirror_drop_body,
                                                      mirror_writable, mirror_failed, NULL};

static bool mirror_set_host(struct mirror *mirror, const struct moon_backend_conf *conf)
{
    struct moon_fields *fields = &mirror->request.fields;
    moon_fields_remove_id(fields, MOON_FIELD_HOST);
    if (conf->host_mode == MOON_HOST_TARGET)
        return true;
    struct moon_slice host =
        conf->host_mode == MOON_HOST_FIXED ? conf->host_fixed : mirror->request.authority;
    return moon_fields_add_id(fields, MOON_FIELD_HOST, host) == MOON_OK;
}

// Everything is copied: the exchange may be over before the copy is sent.
static bool mirror_copy(struct mirror *mirror, const struct moon_request *from,
                        struct moon_slice *target, struct moon_slice *body)
{
    struct moon_request *to = &mirror->request;
    struct moon_arena *arena = &mirror->arena;
    *to = *from;
    moon_fields_init(&to->fields, arena);
    moon_fields_init(&to->trailers, arena);
    bool is_good = moon_arena_copy(arena, from->method_name, &to->method_name) &&
                   moon_arena_copy(arena, from->authority, &to->authority) &&
                   moon_arena_copy(arena, *target, target) && moon_arena_copy(arena, *body, body);
    for (size_t i = 0; is_good && i < from->fields.count; i++) {
        struct moon_slice name, value;
        is_good = moon_arena_copy(arena, from->fields.items[i].name, &name) &&
                  moon_arena_copy(arena, from->fields.items[i].value, &value) &&
                  moon_fields_add_known(&to->fields, (enum moon_field_id)from->fields.ids[i], name,
                                        value) == MOON_OK;
    }
    if (to->framing != MOON_FRAMING_NONE) {
        to->framing = MOON_FRAMING_LENGTH;
        to->content_length = (int64_t)body->len;
    }
    return is_good;
}

static bool mirror_is_drawn(double percent)
{
    return (double)(moon_random_fast() % 1000000) < percent * 10000;
}

void moon_mirror_send(struct moon_exchange *x, const struct moon_mirror_conf *conf,
                      struct moon_slice target, struct moon_slice body, bool is_whole)
{
    struct moon_gateway *gateway = x->gateway;
    bool has_body = x->request.framing != MOON_FRAMING_NONE;
    struct moon_backend *backend = x->generation->backends[conf->backend];
    if ((has_body && !is_whole) || body.len > conf->body_bytes || x->request.wants_upgrade ||
        backend->target_count == 0 || !mirror_is_drawn(conf->percent))
        return;
    struct mirror *mirror = NULL;
    if (gateway->mirror_count < MIRROR_MOST)
        mirror = calloc(1, sizeof(*mirror));
    if (mirror == NULL) {
        moon_metrics_add(gateway->env.metrics, gateway->metrics.mirrors_dropped, 1);
        return;
    }
    mirror->gateway = gateway;
    mirror->generation = x->generation;
    moon_generation_acquire(x->generation);
    moon_arena_init(&mirror->arena, MIRROR_ARENA_BYTES + body.len);
    moon_list_push_back(&gateway->mirrors, &mirror->link);
    gateway->mirror_count++;
    moon_errand_begin(&gateway->errands);
    moon_call_init(&mirror->call, gateway->env.upstreams, &mirror->arena, &mirror_events, mirror);
    bool is_good =
        mirror_copy(mirror, &x->request, &target, &body) &&
        mirror_set_host(mirror, backend->conf) &&
        moon_call_start(&mirror->call, backend, &mirror->request, target, body, true) == MOON_OK;
    if (!is_good)
        mirror_end(mirror);
}

void moon_mirror_end_all(struct moon_gateway *gateway)
{
    MOON_LIST_EACH(at, after, &gateway->mirrors)
    mirror_end(MOON_LIST_ENTRY(at, struct mirror, link));
}
