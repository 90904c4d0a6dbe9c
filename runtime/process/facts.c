/* SPDX-License-Identifier: Apache-2.0 */
#include "process/facts.h"

#include "base/log.h"

#include <sched.h>
#include <unistd.h>

static bool facts_has_name(const char *names, struct moon_slice name)
{
    struct moon_slice rest = moon_slice_text(names);
    struct moon_slice element;
    while (moon_slice_next_element(&rest, &element)) {
        if (moon_slice_is(element, name))
            return true;
    }
    return false;
}

static void facts_add_name(char *names, size_t cap, struct moon_slice name)
{
    size_t len = strlen(names);
    if (name.len == 0 || len + name.len + 8 > cap || facts_has_name(names, name))
        return;
    (void)snprintf(names + len, cap - len, "%s%.*s", len == 0 ? "" : ", ", MOON_SLICE_ARG(name));
}

// A port that the system chooses is told apart by the listener's name.
static void facts_make_key(struct moon_listener_facts *facts, size_t index)
{
    struct moon_listen_address address;
    if (moon_listen_address_parse(facts->address, &address) != MOON_OK)
        (void)snprintf(facts->key, sizeof(facts->key), "%s", facts->address);
    else if (!moon_slice_ends(moon_slice_text(address.text), MOON_S(":0")))
        (void)snprintf(facts->key, sizeof(facts->key), "%s", address.text);
    else if (facts->name[0] != '\0')
        (void)snprintf(facts->key, sizeof(facts->key), "%s %s", address.text, facts->name);
    else
        (void)snprintf(facts->key, sizeof(facts->key), "%s #%zu", address.text, index);
}

static bool facts_listener(const struct moon_listener_conf *conf, size_t index,
                           struct moon_listener_facts *facts)
{
    if (!moon_slice_copy_text(conf->name, facts->name, sizeof(facts->name)) ||
        !moon_slice_copy_text(conf->address, facts->address, sizeof(facts->address)))
        return false;
    if (conf->is_management && facts->name[0] == '\0')
        (void)snprintf(facts->name, sizeof(facts->name), "management");
    (void)snprintf(facts->place, sizeof(facts->place), "%.*s", MOON_SLICE_ARG(conf->place));
    facts->backlog = conf->backlog;
    facts->mode = conf->mode;
    facts->is_management = conf->is_management;
    facts->has_tls = conf->has_tls;
    facts->is_http2 = conf->is_http2;
    facts_make_key(facts, index);
    return true;
}

static int facts_level(struct moon_slice name)
{
    if (moon_slice_is(name, MOON_S("debug")))
        return MOON_LOG_DEBUG;
    if (moon_slice_is(name, MOON_S("warning")))
        return MOON_LOG_WARN;
    return moon_slice_is(name, MOON_S("error")) ? MOON_LOG_ERROR : MOON_LOG_INFO;
}

// Log files are below the configuration where their path is relative.
static bool facts_path(const struct moon_plan *plan, struct moon_slice path, char *into, size_t cap)
{
    bool is_whole = path.len == 0 || path.data[0] == '/' || moon_slice_is(path, MOON_S("-"));
    if (is_whole)
        return moon_slice_copy_text(path, into, cap);
    int n = snprintf(into, cap, "%.*s/%.*s", MOON_SLICE_ARG(plan->dir), MOON_SLICE_ARG(path));
    return n > 0 && (size_t)n < cap;
}

enum moon_rc moon_facts_of(const struct moon_plan *plan, struct moon_facts *facts)
{
    memset(facts, 0, sizeof(*facts));
    if (plan->listener_count > MOON_GATEWAY_LISTENERS)
        return MOON_ERR_LIMIT;
    facts->listener_count = plan->listener_count;
    for (size_t i = 0; i < plan->listener_count; i++) {
        if (!facts_listener(&plan->listeners[i], i, &facts->listeners[i]))
            return MOON_ERR_LIMIT;
    }
    facts->workers = plan->workers;
    facts->is_in_process = plan->is_in_process;
    facts->error_log_level = facts_level(plan->error_log_level);
    facts->drain_timeout_ms = plan->limits.drain_timeout_ms;
    facts->connections = plan->limits.connections;
    facts->route_count = plan->leaf_count;
    facts->cache_bytes = plan->shared_cache_bytes;
    for (size_t i = 0; i < plan->leaf_count; i++) {
        facts_add_name(facts->sites, sizeof(facts->sites), plan->leaves[i].site);
        facts_add_name(facts->apis, sizeof(facts->apis), plan->leaves[i].api);
    }
    bool is_copied =
        moon_slice_copy_text(plan->name, facts->name, sizeof(facts->name)) &&
        moon_slice_copy_text(plan->user, facts->user, sizeof(facts->user)) &&
        facts_path(plan, plan->access_log.path, facts->access_log, sizeof(facts->access_log)) &&
        facts_path(plan, plan->error_log, facts->error_log, sizeof(facts->error_log));
    return is_copied ? MOON_OK : MOON_ERR_LIMIT;
}

int moon_facts_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == -1)
        return 1;
    return CPU_COUNT(&set);
}

int moon_facts_workers(const struct moon_facts *facts, int wanted)
{
    int workers = wanted;
    if (wanted < 0)
        workers = facts->is_in_process ? 0
                  : facts->workers > 0 ? facts->workers
                                       : moon_facts_cores();
    return workers > MOON_BOARD_WORKERS ? MOON_BOARD_WORKERS : workers;
}

bool moon_facts_open_log(const struct moon_facts *facts)
{
    moon_log_set_level((enum moon_log_level)facts->error_log_level);
    if (moon_log_open(facts->error_log[0] == '\0' ? NULL : facts->error_log))
        return true;
    moon_log_error("error log %s: %m", facts->error_log);
    return false;
}

enum moon_rc moon_facts_try_access_log(const struct moon_facts *facts, char *error,
                                       size_t error_cap)
{
    const char *path = facts->access_log;
    if (path[0] == '\0' || strcmp(path, "-") == 0)
        return MOON_OK;
    int fd = open(path, MOON_LOG_FILE_FLAGS, MOON_LOG_FILE_MODE);
    if (fd == -1) {
        (void)snprintf(error, error_cap,
                       "gateway.lua: access_log.path: expected a file that can be written, got "
                       "\"%s\": %m",
                       path);
        return MOON_ERR_SYSTEM;
    }
    (void)close(fd);
    return MOON_OK;
}
