/* SPDX-License-Identifier: Apache-2.0 */
#include "process/sharing.h"

#include "net/digest.h"
#include "net/tls.h"
#include "upstream/flood_share.h"
#include "upstream/limits.h"
#include "upstream/redis.h"

#include <sys/stat.h>

enum { SHARING_KEY_CEILING = 1 << 20 };

struct moon_sharing {
    struct moon_list link; // of its worker
    uint8_t key[MOON_DIGEST_BYTES];
    size_t users; // generations
    struct moon_redis *redis;
    struct moon_limits *limits;
    struct moon_cache_tier *tier;
    struct moon_flood_share *flood;
};

static void sharing_free(struct moon_sharing *sharing)
{
    moon_list_remove(&sharing->link);
    moon_limits_free(sharing->limits);
    moon_cache_tier_free(sharing->tier);
    moon_flood_share_free(sharing->flood);
    moon_redis_free(sharing->redis);
    free(sharing);
}

// ---- identity ----------------------------------------------------------------------------------

// With its length in front, no two lists of texts look alike.
static enum moon_rc key_add(struct moon_buf *key, struct moon_slice text)
{
    enum moon_rc rc = moon_buf_printf(key, "%zu:", text.len);
    return rc == MOON_OK ? moon_buf_append(key, text) : rc;
}

// A file counts by its name and by which one it is: a renewed certificate is another one.
static enum moon_rc key_add_file(struct moon_buf *key, const char *path)
{
    struct stat info = {0};
    if (path != NULL && stat(path, &info) == -1)
        info = (struct stat){0}; // opening it will tell why
    enum moon_rc rc = key_add(key, moon_slice_text(path != NULL ? path : ""));
    if (rc != MOON_OK)
        return rc;
    return moon_buf_printf(key, "%lld,%lld,%lld.%ld;", (long long)info.st_ino,
                           (long long)info.st_size, (long long)info.st_mtim.tv_sec,
                           info.st_mtim.tv_nsec);
}

static enum moon_rc sharing_key(const struct moon_plan *plan, uint8_t digest[MOON_DIGEST_BYTES])
{
    const struct moon_tls_client_conf *tls = &plan->redis_tls;
    const struct moon_slice texts[] = {
        plan->redis_url,      plan->redis_user,
        plan->redis_password, plan->redis_sentinel_password,
        plan->redis_prefix,   moon_slice_text(tls->server_name != NULL ? tls->server_name : ""),
    };
    const char *const files[] = {tls->ca, tls->certificate, tls->key};
    struct moon_buf key;
    moon_buf_init(&key, SHARING_KEY_CEILING);
    enum moon_rc rc = moon_buf_printf(&key, "%lld,%lld,%zu,%d;", (long long)plan->redis_timeout_ms,
                                      (long long)plan->redis_connect_ms,
                                      plan->shared_cache_object_bytes, (int)tls->is_verified);
    for (size_t i = 0; rc == MOON_OK && i < MOON_COUNT(texts); i++)
        rc = key_add(&key, texts[i]);
    for (size_t i = 0; rc == MOON_OK && i < MOON_COUNT(files); i++)
        rc = key_add_file(&key, files[i]);
    if (rc == MOON_OK)
        moon_digest_sha256(moon_buf_slice(&key), digest);
    moon_buf_fini(&key);
    return rc;
}

static struct moon_sharing *sharing_find(struct moon_worker *worker,
                                         const uint8_t key[MOON_DIGEST_BYTES])
{
    MOON_LIST_EACH(at, after, &worker->sharings)
    {
        struct moon_sharing *sharing = MOON_LIST_ENTRY(at, struct moon_sharing, link);
        if (memcmp(sharing->key, key, MOON_DIGEST_BYTES) == 0)
            return sharing;
    }
    return NULL;
}

// ---- opening -----------------------------------------------------------------------------------

static enum moon_rc sharing_conf(const struct moon_plan *plan, char *error, size_t error_cap,
                                 struct moon_redis_conf *conf)
{
    struct {
        struct moon_slice from;
        char *into;
        size_t cap;
    } texts[] = {
        {plan->redis_user, conf->user, sizeof(conf->user)},
        {plan->redis_password, conf->password, sizeof(conf->password)},
        {plan->redis_sentinel_password, conf->sentinel_password, sizeof(conf->sentinel_password)},
    };
    moon_redis_conf_init(conf);
    enum moon_rc rc = moon_redis_conf_url(conf, plan->redis_url, error, error_cap);
    for (size_t i = 0; rc == MOON_OK && i < MOON_COUNT(texts); i++) {
        if (texts[i].from.len > 0 &&
            !moon_slice_copy_text(texts[i].from, texts[i].into, texts[i].cap))
            rc = MOON_ERR_CONFIG;
    }
    conf->deadline_ms = plan->redis_timeout_ms;
    conf->connect_ms = plan->redis_connect_ms;
    conf->reply_bytes = moon_max_size(conf->reply_bytes, plan->shared_cache_object_bytes + 4096);
    if (rc == MOON_OK && conf->is_tls)
        rc = moon_tls_client_new(&plan->redis_tls, error, error_cap, &conf->tls);
    return rc;
}

static enum moon_rc sharing_open(struct moon_sharing *sharing, struct moon_worker *worker,
                                 const struct moon_plan *plan, char *error, size_t error_cap)
{
    struct moon_limits_options options;
    moon_limits_options_init(&options);
    if (plan->redis_url.len > 0) {
        struct moon_redis_conf conf;
        enum moon_rc rc = sharing_conf(plan, error, error_cap, &conf);
        if (rc != MOON_OK)
            return rc;
        options.deadline_ms = plan->redis_timeout_ms;
        if (plan->redis_prefix.len > 0)
            options.prefix = plan->redis_prefix;
        sharing->redis = moon_redis_new(worker->loop, worker->dns, &conf);
        moon_tls_client_release(conf.tls);
        if (sharing->redis == NULL)
            return MOON_ERR_MEMORY;
        sharing->flood = moon_flood_share_new(worker->loop, sharing->redis, worker->state->flood,
                                              worker->env.slot, options.prefix);
        if (sharing->flood == NULL)
            return MOON_ERR_MEMORY;
        if (worker->seat != NULL) {
            sharing->tier =
                moon_cache_tier_new(worker->loop, sharing->redis, worker->seat, plan->redis_url,
                                    options.prefix, plan->shared_cache_object_bytes);
            if (sharing->tier == NULL)
                return MOON_ERR_MEMORY;
        }
    }
    sharing->limits = moon_limits_new(worker->loop, sharing->redis, worker->state->counters,
                                      worker->state->limits_board, &options);
    if (sharing->limits == NULL)
        return MOON_ERR_MEMORY;
    moon_limits_set_telling(sharing->limits, false); // until the configuration is the present one
    return MOON_OK;
}

enum moon_rc moon_sharing_acquire(struct moon_worker *worker, const struct moon_plan *plan,
                                  char *error, size_t error_cap, struct moon_sharing **out)
{
    uint8_t key[MOON_DIGEST_BYTES];
    enum moon_rc rc = sharing_key(plan, key);
    if (rc != MOON_OK)
        return rc;
    struct moon_sharing *sharing = sharing_find(worker, key);
    if (sharing == NULL) {
        sharing = calloc(1, sizeof(*sharing));
        if (sharing == NULL)
            return MOON_ERR_MEMORY;
        memcpy(sharing->key, key, sizeof(key));
        moon_list_push_back(&worker->sharings, &sharing->link);
        rc = sharing_open(sharing, worker, plan, error, error_cap);
        if (rc != MOON_OK) {
            sharing_free(sharing);
            return rc;
        }
    }
    sharing->users++;
    *out = sharing;
    return MOON_OK;
}

void moon_sharing_release(struct moon_sharing *sharing)
{
    MOON_ASSERT(sharing->users > 0);
    sharing->users--;
}

struct moon_limits *moon_sharing_limits(const struct moon_sharing *sharing)
{
    return sharing->limits;
}

struct moon_cache_tier *moon_sharing_tier(const struct moon_sharing *sharing)
{
    return sharing->tier;
}

struct moon_flood_share *moon_sharing_flood(const struct moon_sharing *sharing)
{
    return sharing->flood;
}

void moon_sharing_lead(struct moon_worker *worker, struct moon_sharing *sharing)
{
    MOON_LIST_EACH(at, after, &worker->sharings)
    {
        struct moon_sharing *other = MOON_LIST_ENTRY(at, struct moon_sharing, link);
        if (other != sharing)
            moon_limits_set_telling(other->limits, false);
    }
    moon_limits_set_telling(sharing->limits, true);
}

void moon_sharing_trim(struct moon_worker *worker)
{
    MOON_LIST_EACH(at, after, &worker->sharings)
    {
        struct moon_sharing *sharing = MOON_LIST_ENTRY(at, struct moon_sharing, link);
        if (sharing->users == 0)
            sharing_free(sharing);
    }
}
