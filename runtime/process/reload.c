/* SPDX-License-Identifier: Apache-2.0 */

/// A reload in two phases: a checker loads the new configuration off to the side, all workers load
/// it, and only when all are ready do they serve it. Whatever fails, the old one stays everywhere.

#include "base/clock.h"
#include "base/log.h"
#include "process/notify.h"
#include "process/ready.h"
#include "process/supervisor.h"
#include "process/watch.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { RELOAD_TIMEOUT_MS = 30000, RELOAD_TEXT = 2048, RELOAD_DEATHS_FORGIVEN = 1 };

static void reload_clear(struct moon_supervisor *supervisor)
{
    struct moon_reload *reload = &supervisor->reload;
    moon_timer_stop(&reload->timeout);
    moon_bundle_free(reload->bundle);
    reload->bundle = NULL;
    if (reload->bundle_fd != -1)
        (void)close(reload->bundle_fd);
    reload->bundle_fd = -1;
    reload->state = MOON_RELOAD_IDLE;
    if (reload->checker != 0)
        (void)kill(reload->checker, SIGKILL);
}

// Workers that started with a generation which was replaced while they loaded.
static void reload_catch_up(struct moon_supervisor *supervisor)
{
    for (int i = 0; i < supervisor->worker_count; i++) {
        struct moon_child *child = &supervisor->children[i];
        bool is_behind = child->serving != 0 && child->serving != supervisor->generation;
        if (is_behind && child->loading == 0)
            (void)!moon_child_load(child, supervisor->bundle_fd, &supervisor->facts,
                                   supervisor->generation);
    }
}

static void reload_over(struct moon_supervisor *supervisor, bool is_ok, const char *text)
{
    struct moon_board *board = supervisor->state.board;
    struct moon_reload *reload = &supervisor->reload;
    atomic_fetch_add(is_ok ? &board->reloads_ok : &board->reloads_failed, 1);
    moon_metrics_add(supervisor->state.metrics, is_ok ? reload->metric_ok : reload->metric_failed,
                     1);
    (void)snprintf(board->last_reload_error, sizeof(board->last_reload_error), "%s",
                   is_ok ? "" : text);
    moon_control_tell(supervisor->control, is_ok, text);
    moon_notify("READY=1");
    reload_clear(supervisor);
    reload_catch_up(supervisor);
    if (reload->is_again && reload->checker == 0)
        moon_task_post(supervisor->loop, &reload->next);
}

static void reload_failed(struct moon_supervisor *supervisor, const char *text)
{
    moon_log_error("reload failed, generation %u stays: %s", supervisor->generation, text);
    if (supervisor->reload.state >= MOON_RELOAD_LOADING) {
        for (int i = 0; i < supervisor->worker_count; i++) {
            struct moon_child *child = &supervisor->children[i];
            if (child->loading == supervisor->reload.generation) {
                moon_child_say(child, MOON_MESSAGE_ABORT);
                child->loading = child->loaded = 0;
            }
        }
        moon_sockets_abort(&supervisor->sockets);
    }
    supervisor->sockets.workers = supervisor->worker_count;
    reload_over(supervisor, false, text);
}

static void reload_timed_out(struct moon_timer *timer)
{
    struct moon_supervisor *supervisor = timer->owner;
    char text[RELOAD_TEXT] = "the checker did not come to an end within 30 s";
    for (int i = 0;
         supervisor->reload.state != MOON_RELOAD_CHECKING && i < supervisor->worker_count; i++) {
        const struct moon_child *child = &supervisor->children[i];
        if (child->loading == supervisor->reload.generation)
            (void)snprintf(text, sizeof(text), "worker %d was not ready within 30 s", i);
    }
    reload_failed(supervisor, text);
}

static void reload_start(struct moon_supervisor *supervisor)
{
    struct moon_reload *reload = &supervisor->reload;
    char text[RELOAD_TEXT] = "out of memory";
    reload->is_again = false;
    moon_control_reload_starts(supervisor->control);
    moon_notify_reloading();
    moon_watch_forget(supervisor->watch); // one change, one reload
    if (moon_bundle_read(supervisor->dir, text, sizeof(text), &reload->bundle) != MOON_OK) {
        reload_failed(supervisor, text);
        return;
    }
    reload->bundle_fd = moon_bundle_to_fd(reload->bundle);
    memset(reload->result, 0, sizeof(*reload->result));
    reload->state = MOON_RELOAD_CHECKING;
    moon_timer_set(&reload->timeout, RELOAD_TIMEOUT_MS);
    pid_t pid = moon_supervisor_fork(supervisor, MOON_FORK_CHECKER, NULL);
    if (pid == 0)
        moon_check_run(reload->bundle, reload->result, &supervisor->user);
    if (pid == -1 || reload->bundle_fd == -1) {
        reload_failed(supervisor, "no checker could be started");
        return;
    }
    reload->checker = pid;
}

static void reload_next(struct moon_task *task)
{
    struct moon_supervisor *supervisor = task->owner;
    if (supervisor->reload.state == MOON_RELOAD_IDLE && supervisor->reload.checker == 0)
        reload_start(supervisor);
}

void moon_reload_request(struct moon_supervisor *supervisor, const char *who)
{
    if (supervisor->is_stopping || !supervisor->is_ready) {
        moon_control_refuse(supervisor->control, "the gateway starts or stops just now");
        return;
    }
    moon_log_info("reload, asked for by %s", who);
    if (supervisor->reload.state != MOON_RELOAD_IDLE || supervisor->reload.checker != 0)
        supervisor->reload.is_again = true;
    else
        reload_start(supervisor);
}

static void reload_warn(const char *warnings)
{
    struct moon_slice rest = moon_slice_text(warnings);
    while (rest.len > 0) {
        size_t end = moon_slice_find(rest, '\n');
        if (end > 0)
            moon_log_warn("%.*s", (int)end, rest.data);
        rest = moon_slice_from(rest, end + 1);
    }
}

static void reload_flipped(struct moon_supervisor *supervisor)
{
    char text[96];
    for (int i = 0; i < supervisor->worker_count; i++) {
        const struct moon_child *child = &supervisor->children[i];
        if (child->pid != 0 && child->loaded == supervisor->generation)
            return; // was told to flip
    }
    // Whoever is told that the reload is over meets no worker that serves the old generation.
    for (int i = supervisor->worker_count; i < supervisor->child_count; i++) {
        const struct moon_child *child = &supervisor->children[i];
        if (child->pid != 0 && child->is_leaving && !child->is_draining)
            return;
    }
    atomic_store(&supervisor->state.board->generation, supervisor->generation);
    (void)snprintf(text, sizeof(text), "generation %u is served", supervisor->generation);
    moon_log_info("%s", text);
    reload_over(supervisor, true, text);
}

static void reload_warn_fixed(const struct moon_supervisor *supervisor,
                              const struct moon_facts *next)
{
    const struct moon_facts *now = &supervisor->facts;
    if (next->is_in_process != now->is_in_process)
        moon_log_warn("`workers = 0` is taken over by a restart or `moongate upgrade`");
    if (strcmp(next->user, now->user) != 0 || strcmp(next->error_log, now->error_log) != 0)
        moon_log_warn("a new user or error log is taken over by a restart or `moongate upgrade`");
}

// All are ready: from here on there is no way back, and none is needed.
static void reload_flip(struct moon_supervisor *supervisor)
{
    struct moon_reload *reload = &supervisor->reload;
    reload->state = MOON_RELOAD_FLIPPING;
    supervisor->generation = reload->generation;
    (void)close(supervisor->bundle_fd);
    supervisor->bundle_fd = reload->bundle_fd;
    reload->bundle_fd = -1;
    reload_warn_fixed(supervisor, &reload->result->facts);
    moon_logger_follow(supervisor, &reload->result->facts);
    supervisor->facts = reload->result->facts;
    moon_log_set_level((enum moon_log_level)supervisor->facts.error_log_level);
    for (int i = 0; i < supervisor->worker_count; i++) {
        if (supervisor->children[i].loaded == supervisor->generation)
            moon_child_say(&supervisor->children[i], MOON_MESSAGE_FLIP);
    }
    moon_sockets_commit(&supervisor->sockets);
    if (reload->worker_count != supervisor->worker_count) {
        moon_children_resize(supervisor, reload->worker_count);
    }
    const char *ready_file = supervisor->cli->ready_file;
    if (ready_file != NULL)
        (void)!moon_ready_write(ready_file, &supervisor->facts, &supervisor->sockets,
                                supervisor->worker_count);
}

static void reload_flip_if_ready(struct moon_supervisor *supervisor)
{
    uint32_t generation = supervisor->reload.generation;
    int loaded = 0;
    for (int i = 0; i < supervisor->child_count; i++) {
        const struct moon_child *child = &supervisor->children[i];
        if (child->loading == generation && child->loaded != generation)
            return;
        loaded += child->loading == generation;
    }
    if (loaded > 0)
        reload_flip(supervisor);
}

static int reload_worker_count(const struct moon_supervisor *supervisor,
                               const struct moon_facts *next)
{
    int wanted = moon_facts_workers(next, supervisor->cli->workers);
    if (wanted > supervisor->child_cap) {
        moon_log_warn(
            "%d workers are wanted, and there is room for %d until a restart or `moongate "
            "upgrade`",
            wanted, supervisor->child_cap);
        wanted = supervisor->child_cap;
    }
    return wanted == 0 ? supervisor->worker_count : wanted;
}

static void reload_load(struct moon_supervisor *supervisor)
{
    struct moon_reload *reload = &supervisor->reload;
    char text[RELOAD_TEXT];
    // Where there will be fewer, those that stay take over the others' sockets; where there will be
    // more, theirs are made when there is no way back.
    reload->worker_count = reload_worker_count(supervisor, &reload->result->facts);
    supervisor->sockets.workers = reload->worker_count < supervisor->worker_count
                                      ? reload->worker_count
                                      : supervisor->worker_count;
    if (moon_facts_try_access_log(&reload->result->facts, text, sizeof(text)) != MOON_OK ||
        moon_sockets_prepare(&supervisor->sockets, &reload->result->facts, text, sizeof(text)) !=
            MOON_OK) {
        reload_failed(supervisor, text);
        return;
    }
    reload->state = MOON_RELOAD_LOADING;
    reload->generation = ++supervisor->last_generation;
    reload->deaths = 0;
    int told = 0;
    for (int i = 0; i < supervisor->sockets.workers; i++) {
        struct moon_child *child = &supervisor->children[i];
        bool was_told_to_flip = child->loaded != 0;
        if (child->serving == 0 && !was_told_to_flip)
            continue; // it loads its first one just now, and follows when it has it
        if (moon_child_load(child, reload->bundle_fd, &reload->result->facts, reload->generation) !=
            MOON_OK) {
            reload_failed(supervisor, "a worker does not listen");
            return;
        }
        told++;
    }
    if (told == 0) { // those that start take it over
        reload_flip(supervisor);
        reload_flipped(supervisor);
    }
}

void moon_reload_checked(struct moon_supervisor *supervisor, int status)
{
    struct moon_reload *reload = &supervisor->reload;
    reload->checker = 0;
    if (reload->state != MOON_RELOAD_CHECKING) { // given up
        if (reload->state == MOON_RELOAD_IDLE && reload->is_again)
            moon_task_post(supervisor->loop, &reload->next);
        return;
    }
    if (!moon_check_settle(reload->result, status)) {
        reload_failed(supervisor, reload->result->error);
        return;
    }
    reload_warn(reload->result->warnings);
    reload_load(supervisor);
}

void moon_reload_child_ready(struct moon_child *child, uint32_t generation)
{
    struct moon_supervisor *supervisor = child->supervisor;
    struct moon_reload *reload = &supervisor->reload;
    if (child->loading != generation)
        return; // given up meanwhile
    child->loaded = generation;
    if (generation == supervisor->generation) { // it has started
        moon_child_say(child, MOON_MESSAGE_FLIP);
        // Whoever is told that a reload is over must not meet a worker that serves the old one.
        if (reload->state == MOON_RELOAD_LOADING && child->number < reload->worker_count &&
            moon_child_load(child, reload->bundle_fd, &reload->result->facts, reload->generation) !=
                MOON_OK)
            reload_failed(supervisor, "a worker does not listen");
        return;
    }
    if (reload->state != MOON_RELOAD_LOADING || generation != reload->generation) {
        // It began with what was served then.
        (void)!moon_child_load(child, supervisor->bundle_fd, &supervisor->facts,
                               supervisor->generation);
        return;
    }
    reload_flip_if_ready(supervisor);
}

void moon_reload_child_failed(struct moon_child *child, uint32_t generation, const char *text)
{
    struct moon_supervisor *supervisor = child->supervisor;
    if (child->loading != generation)
        return;
    child->loading = 0;
    if (supervisor->reload.state == MOON_RELOAD_LOADING &&
        generation == supervisor->reload.generation) {
        reload_failed(supervisor, text);
        return;
    }
    moon_log_error("worker %d cannot load generation %u: %s", child->number, generation, text);
    if (!supervisor->is_ready) {
        (void)fprintf(stderr, "moongate: %s\n", text);
        supervisor->exit_code = MOON_EXIT_FAILED;
        moon_supervisor_stop(supervisor);
    } else {
        (void)kill(child->pid, SIGKILL); // started anew, later and later
    }
}

void moon_reload_child_flipped(struct moon_child *child)
{
    struct moon_supervisor *supervisor = child->supervisor;
    moon_supervisor_child_serves(supervisor);
    if (supervisor->reload.state == MOON_RELOAD_FLIPPING)
        reload_flipped(supervisor);
    else if (supervisor->reload.state == MOON_RELOAD_IDLE)
        reload_catch_up(supervisor);
}

void moon_reload_child_drains(struct moon_child *child)
{
    if (child->supervisor->reload.state == MOON_RELOAD_FLIPPING)
        reload_flipped(child->supervisor);
}

void moon_reload_child_died(struct moon_child *child)
{
    struct moon_supervisor *supervisor = child->supervisor;
    bool took_part = child->loading == supervisor->reload.generation && child->loading != 0;
    char text[96];
    child->loading = child->loaded = 0;
    if (supervisor->reload.state == MOON_RELOAD_LOADING && took_part) {
        // Once may have other reasons: the next one in its place loads it, too.
        (void)snprintf(text, sizeof(text), "worker %d died while it loaded", child->number);
        if (++supervisor->reload.deaths <= RELOAD_DEATHS_FORGIVEN) {
            moon_log_warn("%s; the reload goes on", text);
            reload_flip_if_ready(supervisor);
        } else {
            reload_failed(supervisor, text);
        }
    } else if (supervisor->reload.state == MOON_RELOAD_FLIPPING) {
        reload_flipped(supervisor);
    }
}

void moon_reload_init(struct moon_supervisor *supervisor)
{
    struct moon_reload *reload = &supervisor->reload;
    struct moon_metrics *metrics = supervisor->state.metrics;
    static const char family[] = "moongate_reloads_total";
    static const char help[] = "Reloads of the configuration by their outcome.";
    reload->metric_ok =
        moon_metrics_series(metrics, MOON_METRIC_COUNTER, family, help, MOON_S("result=\"ok\""));
    reload->metric_failed = moon_metrics_series(metrics, MOON_METRIC_COUNTER, family, help,
                                                MOON_S("result=\"failed\""));
    moon_task_init(&reload->next, reload_next, supervisor);
    moon_timer_init(&reload->timeout, supervisor->loop, reload_timed_out, supervisor);
}

void moon_reload_fini(struct moon_supervisor *supervisor)
{
    reload_clear(supervisor);
    moon_task_cancel(&supervisor->reload.next);
    moon_check_free(supervisor->reload.result);
    supervisor->reload.result = NULL;
}
