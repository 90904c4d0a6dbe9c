/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "process/supervisor.h"
#include "process/worker_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CHILD_DEATHS_FORGIVEN = 3, // in short order; then its starts wait, longer and longer
    CHILD_BACKOFF_LEAST_MS = 50,
    CHILD_BACKOFF_SERVED_MS = 100, // at most, where it had served
    CHILD_BACKOFF_MOST_MS = 1000,
    CHILD_LONG_LIFE_MS = 10000,
    CHILD_PIPE_BYTES = 1 << 20,
};

// A listener whose sockets outnumber the workers (after an upgrade) goes to one worker repeatedly.
static void child_add_sockets(struct moon_child *child, const struct moon_facts *facts,
                              struct moon_message *message, int *fds)
{
    struct moon_sockets *sockets = &child->supervisor->sockets;
    for (size_t i = 0; i < facts->listener_count; i++) {
        const struct moon_socket *socket = moon_sockets_find(sockets, facts->listeners[i].key);
        for (int n = 0; socket != NULL && message->socket_count < MOON_MESSAGE_SOCKETS; n++) {
            int at = moon_socket_of_worker(sockets, socket, child->number, n);
            if (at == -1)
                break;
            fds[1 + message->socket_count] = socket->fds[at];
            message->sockets[message->socket_count++] = (struct moon_message_socket){
                .id = (socket->id << 8) | (uint32_t)(at & 0xff), .index = (int32_t)i};
        }
    }
}

enum moon_rc moon_child_load(struct moon_child *child, int bundle_fd,
                             const struct moon_facts *facts, uint32_t generation)
{
    struct moon_message message = {.kind = MOON_MESSAGE_LOAD, .generation = generation};
    int fds[MOON_MESSAGE_FDS] = {bundle_fd};
    message.has_access_log = facts->access_log[0] != '\0';
    child_add_sockets(child, facts, &message, fds);
    child->loading = generation;
    child->loaded = 0;
    child->loading_since_ms = moon_clock_ms();
    enum moon_rc rc = moon_message_send(child->channel, &message, fds, message.socket_count + 1);
    if (rc != MOON_OK)
        moon_log_error("worker %d cannot be told to load: %m", child->number);
    return rc;
}

void moon_child_say(struct moon_child *child, enum moon_message_kind kind)
{
    if (child->channel != -1 && moon_message_say(child->channel, kind, 0) != MOON_OK)
        moon_log_error("worker %d does not listen: %m", child->number);
}

void moon_children_say(struct moon_supervisor *supervisor, enum moon_message_kind kind)
{
    for (int i = 0; i < supervisor->child_count; i++)
        moon_child_say(&supervisor->children[i], kind);
}

int moon_children_running(const struct moon_supervisor *supervisor)
{
    int n = 0;
    for (int i = 0; i < supervisor->child_count; i++)
        n += supervisor->children[i].pid != 0;
    return n;
}

static void child_heard(struct moon_child *child, const struct moon_message *message)
{
    switch ((enum moon_message_kind)message->kind) {
    case MOON_MESSAGE_READY:
        moon_reload_child_ready(child, message->generation);
        break;
    case MOON_MESSAGE_FAILED:
        moon_reload_child_failed(child, message->generation, message->text);
        break;
    case MOON_MESSAGE_FLIPPED:
        child->serving = message->generation;
        if (child->loading == message->generation) // else the next one is on its way already
            child->loaded = child->loading = 0;
        moon_reload_child_flipped(child);
        break;
    case MOON_MESSAGE_DRAINS:
        child->is_draining = true;
        moon_reload_child_drains(child);
        break;
    case MOON_MESSAGE_RELOAD:
        moon_reload_request(child->supervisor, "the management API");
        break;
    case MOON_MESSAGE_LOAD:
    case MOON_MESSAGE_FLIP:
    case MOON_MESSAGE_ABORT:
    case MOON_MESSAGE_DRAIN:
    case MOON_MESSAGE_END:
    case MOON_MESSAGE_REOPEN:
        break; // ours to say
    }
}

static void child_hang_up(struct moon_child *child)
{
    moon_io_stop(&child->io);
    if (child->channel != -1)
        (void)close(child->channel);
    child->channel = -1;
}

static void child_readable(struct moon_io *io, int events)
{
    (void)events;
    struct moon_child *child = io->owner;
    struct moon_message message;
    int fds[MOON_MESSAGE_FDS];
    size_t fd_count;
    enum moon_rc rc = moon_message_receive(child->channel, &message, fds, &fd_count);
    for (size_t i = 0; i < fd_count; i++)
        (void)close(fds[i]); // none are expected
    if (rc == MOON_OK)
        child_heard(child, &message);
    else if (rc != MOON_AGAIN)
        child_hang_up(child); // its death follows
}

static void child_clear_slot(struct moon_child *child)
{
    struct moon_board_slot *slot = &child->supervisor->state.board->slots[child->number];
    atomic_store(&slot->pid, 0);
    atomic_store(&slot->beat_us, 0);
    atomic_store(&slot->generation, 0);
    atomic_store(&slot->is_draining, 0);
    atomic_store(&slot->section_started_us, 0);
    atomic_store(&slot->connections, 0);
    atomic_store(&slot->exchanges, 0);
    atomic_store(&slot->lua_bytes, 0);
    atomic_store(&slot->requests, 0);
    atomic_store(&slot->busy_us, 0);
    atomic_store(&slot->lag_us, 0);
    atomic_store(&slot->longest_us, 0);
    child->rate = (struct moon_child_rate){0};
    child->loading = child->loaded = child->serving = 0;
    child->placed_beat_us = child->warned_beat_us = child->asked_beat_us = 0;
}

static int child_main(struct moon_child *child, int channel)
{
    struct moon_supervisor *supervisor = child->supervisor;
    struct moon_worker_start start = {
        .state = &supervisor->state,
        .number = child->number,
        .channel = channel,
        .access_log = child->log_pipe[1],
        .supervisor = getppid(),
        .user = &supervisor->user,
        .dumps_core = supervisor->cli->dumps_core,
    };
    return moon_worker_process(&start);
}

static void child_spawn_later(struct moon_child *child, bool has_served)
{
    int64_t most_ms = has_served ? CHILD_BACKOFF_SERVED_MS : CHILD_BACKOFF_MOST_MS;
    child->backoff_ms = child->backoff_ms == 0 ? CHILD_BACKOFF_LEAST_MS : child->backoff_ms * 2;
    if (child->backoff_ms > most_ms)
        child->backoff_ms = most_ms;
    moon_timer_set(&child->spawn, child->backoff_ms);
}

void moon_child_spawn(struct moon_child *child)
{
    struct moon_supervisor *supervisor = child->supervisor;
    int pair[2];
    child_clear_slot(child);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1) {
        moon_log_error("worker %d cannot be started: %m", child->number);
        child_spawn_later(child, false);
        return;
    }
    pid_t pid = moon_supervisor_fork(supervisor, MOON_FORK_WORKER, child);
    if (pid == 0) {
        (void)close(pair[0]);
        exit(child_main(child, pair[1])); // NOLINT(concurrency-mt-unsafe)
    }
    (void)close(pair[1]);
    if (pid == -1) {
        moon_log_error("worker %d cannot be started: %m", child->number);
        (void)close(pair[0]);
        child_spawn_later(child, false);
        return;
    }
    child->pid = pid;
    child->channel = pair[0];
    child->started_ms = moon_clock_ms();
    atomic_store(&supervisor->state.board->slots[child->number].pid, (int)pid);
    moon_io_init(&child->io, supervisor->loop, child->channel, child_readable, child);
    moon_io_watch(&child->io, MOON_IO_READ);
    if (moon_child_load(child, supervisor->bundle_fd, &supervisor->facts, supervisor->generation) !=
        MOON_OK)
        (void)kill(pid, SIGKILL);
}

static void child_spawn_due(struct moon_timer *timer)
{
    struct moon_child *child = timer->owner;
    if (!child->supervisor->is_stopping && child->number < child->supervisor->worker_count)
        moon_child_spawn(child);
}

static void child_log_death(const struct moon_child *child, int status)
{
    if (WIFSIGNALED(status)) {
        moon_log_error("worker %d (%d) died by signal %d (SIG%s)%s", child->number, (int)child->pid,
                       WTERMSIG(status), sigabbrev_np(WTERMSIG(status)),
                       WCOREDUMP(status) ? ", core dumped" : "");
    } else if (WEXITSTATUS(status) != 0) {
        moon_log_error("worker %d (%d) ended with status %d", child->number, (int)child->pid,
                       WEXITSTATUS(status));
    } else {
        moon_log_info("worker %d (%d) has ended", child->number, (int)child->pid);
    }
}

void moon_child_died(struct moon_child *child, int status)
{
    struct moon_supervisor *supervisor = child->supervisor;
    bool has_served = child->serving != 0;
    child_log_death(child, status);
    child_hang_up(child);
    child->pid = 0;
    // A line that it left half written ends here; the logger passes over what is not whole.
    (void)!write(child->log_pipe[1], "\n", 1);
    moon_reload_child_died(child);
    moon_state_forget_worker(&supervisor->state, child->number);
    child_clear_slot(child);
    bool was_to_end = child->is_leaving;
    child->is_leaving = child->is_draining = false;
    if (supervisor->is_stopping || child->number >= supervisor->worker_count)
        return;
    if (was_to_end) { // and is wanted again meanwhile
        moon_child_spawn(child);
        return;
    }
    atomic_fetch_add(&supervisor->state.board->slots[child->number].restarts, 1);
    moon_metrics_add(supervisor->state.metrics, supervisor->metric_restarts, 1);
    if (moon_clock_ms() - child->started_ms >= CHILD_LONG_LIFE_MS)
        child->deaths = child->backoff_ms = 0;
    if (++child->deaths > CHILD_DEATHS_FORGIVEN)
        child_spawn_later(child, has_served);
    else
        moon_child_spawn(child);
}

/// Makes places for `count` children, with their pipes to the logger.
static bool children_reach(struct moon_supervisor *supervisor, int count)
{
    while (supervisor->child_count < count) {
        int number = supervisor->child_count;
        struct moon_child *child = &supervisor->children[number];
        child->supervisor = supervisor;
        child->number = number;
        child->channel = -1;
        if (pipe2(child->log_pipe, O_CLOEXEC | O_NONBLOCK) == -1) {
            moon_log_error("no pipe for the access log of worker %d: %m", number);
            return false;
        }
        // The default is smaller, but will do.
        (void)fcntl(child->log_pipe[1], F_SETPIPE_SZ, CHILD_PIPE_BYTES);
        moon_timer_init(&child->spawn, supervisor->loop, child_spawn_due, child);
        supervisor->child_count++;
    }
    return true;
}

bool moon_children_new(struct moon_supervisor *supervisor)
{
    supervisor->metric_restarts = moon_metrics_series(
        supervisor->state.metrics, MOON_METRIC_COUNTER, "moongate_worker_restarts_total",
        "Workers that were replaced because they died or were stuck.", moon_slice("", 0));
    supervisor->children = calloc((size_t)supervisor->child_cap, sizeof(*supervisor->children));
    return supervisor->children != NULL && children_reach(supervisor, supervisor->worker_count);
}

void moon_children_resize(struct moon_supervisor *supervisor, int count)
{
    int before = supervisor->worker_count, had_pipes = supervisor->child_count;
    if (count > had_pipes && !children_reach(supervisor, count))
        count = supervisor->child_count;
    moon_log_info("%d workers, where %d were", count, before);
    supervisor->worker_count = count;
    moon_sockets_widen(&supervisor->sockets, &supervisor->facts, count);
    if (supervisor->child_count > had_pipes)
        moon_logger_restart(supervisor);
    for (int i = before; i < count; i++) {
        if (supervisor->children[i].pid == 0) // else it drains still, and is started when it ends
            moon_child_spawn(&supervisor->children[i]);
    }
    for (int i = count; i < before; i++) {
        struct moon_child *child = &supervisor->children[i];
        child->is_leaving = true;
        moon_timer_stop(&child->spawn);
        moon_child_say(child, MOON_MESSAGE_DRAIN);
    }
}

void moon_children_free(struct moon_supervisor *supervisor)
{
    for (int i = 0; i < supervisor->child_count; i++) {
        struct moon_child *child = &supervisor->children[i];
        moon_timer_stop(&child->spawn);
        child_hang_up(child);
        for (int k = 0; k < 2; k++) {
            if (child->log_pipe[k] != -1)
                (void)close(child->log_pipe[k]);
        }
    }
    free(supervisor->children);
    supervisor->children = NULL;
    supervisor->child_count = 0;
}
