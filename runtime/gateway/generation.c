/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/pace.h"
#include "gateway/gateway.h"

// "place.field: what"; a heap text.
static char *generation_error(struct moon_slice place, const char *field, const char *what)
{
    size_t n = place.len + strlen(field) + strlen(what) + 3;
    char *text = malloc(n);
    if (text != NULL)
        (void)snprintf(text, n, "%.*s%s: %s", MOON_SLICE_ARG(place), field, what);
    return text;
}

static enum moon_rc generation_make_tls(struct moon_generation *generation,
                                        struct moon_tls_tickets *tickets, char **error)
{
    const struct moon_plan *plan = generation->plan;
    char text[512] = "";
    for (size_t i = 0; i < plan->listener_count; i++) {
        if (!plan->listeners[i].has_tls)
            continue;
        moon_pace();
        enum moon_rc rc = moon_tls_server_new(&plan->listeners[i].tls, tickets, text, sizeof(text),
                                              &generation->tls[i]);
        if (rc != MOON_OK) {
            *error = generation_error(plan->listeners[i].place, ".tls", text);
            return rc;
        }
    }
    return MOON_OK;
}

static enum moon_rc generation_make_backend(const struct moon_script_env *env,
                                            const struct moon_backend_conf *conf, char **error,
                                            struct moon_backend **out)
{
    char text[512] = "";
    enum moon_rc rc = moon_backend_new(env->upstreams, conf, text, sizeof(text), out);
    if (rc != MOON_OK) {
        *error = generation_error(conf->place, "", text);
    }
    return rc;
}

// The backends, and behind them those that are called with a policy's client certificate.
static enum moon_rc generation_make_backends(struct moon_generation *generation,
                                             const struct moon_script_env *env, char **error)
{
    const struct moon_plan *plan = generation->plan;
    size_t n = plan->backend_count, disguised = n * plan->certificate_count;
    generation->backends = calloc(n + disguised + 1, sizeof(struct moon_backend *));
    if (generation->backends == NULL)
        return MOON_ERR_MEMORY;
    generation->backend_count = n + disguised;
    for (size_t i = 0; i < n + disguised; i++) {
        const struct moon_backend_conf *conf = i < n ? &plan->backends[i] : &plan->disguises[i - n];
        if (i >= n && conf->target_count == 0)
            continue; // it speaks no TLS, so there is nothing to show a certificate to
        moon_pace();
        enum moon_rc rc = generation_make_backend(env, conf, error, &generation->backends[i]);
        if (rc != MOON_OK)
            return rc;
    }
    return MOON_OK;
}

static void generation_keep(void *keeper, bool is_kept)
{
    if (is_kept)
        moon_generation_acquire(keeper);
    else
        moon_generation_release(keeper);
}

enum moon_rc moon_generation_new(const struct moon_script_env *env,
                                 const struct moon_bundle *bundle, uint32_t number,
                                 struct moon_tls_tickets *tickets, char **error,
                                 struct moon_generation **out)
{
    struct moon_generation *generation = calloc(1, sizeof(*generation));
    *error = NULL;
    if (generation == NULL)
        return MOON_ERR_MEMORY;
    generation->users = 1;
    generation->number = number;
    enum moon_rc rc = moon_script_load(env, bundle, error, &generation->script);
    if (rc != MOON_OK)
        goto fail;
    generation->plan = moon_script_plan(generation->script);
    rc = MOON_ERR_CONFIG;
    if (generation->plan->listener_count > MOON_GATEWAY_LISTENERS) {
        *error = generation_error(MOON_S("gateway.lua: listeners"), "", "at most 63 are possible");
        goto fail;
    }
    rc = generation_make_tls(generation, tickets, error);
    if (rc != MOON_OK)
        goto fail;
    rc = generation_make_backends(generation, env, error);
    if (rc != MOON_OK)
        goto fail;
    moon_script_set_backends(generation->script, generation->backends);
    moon_script_set_keeper(generation->script, generation_keep, generation);
    moon_pace();
    generation->router = moon_router_new(generation->plan);
    rc = MOON_ERR_MEMORY;
    if (generation->router == NULL)
        goto fail;
    *out = generation;
    return MOON_OK;
fail:
    if (*error == NULL)
        *error = strdup(moon_rc_text(rc));
    moon_generation_release(generation);
    return rc;
}

void moon_generation_acquire(struct moon_generation *generation)
{
    generation->users++;
}

static void generation_free(struct moon_job *job)
{
    struct moon_generation *generation = MOON_CONTAINER_OF(job, struct moon_generation, freeing);
    for (size_t i = 0; i < MOON_GATEWAY_LISTENERS; i++)
        moon_tls_server_release(generation->tls[i]);
    for (size_t i = 0; generation->backends != NULL && i < generation->backend_count; i++) {
        moon_backend_free(generation->backends[i]);
        moon_pace();
    }
    free(generation->backends);
    moon_router_free(generation->router);
    moon_pace();
    moon_script_free(generation->script);
    if (generation->on_free != NULL)
        generation->on_free(generation);
    free(generation);
}

void moon_generation_release(struct moon_generation *generation)
{
    if (generation == NULL || --generation->users > 0)
        return;
    generation->freeing.run = generation_free;
    if (generation->background != NULL)
        moon_background_post(generation->background, &generation->freeing);
    else
        generation_free(&generation->freeing);
}
