/* SPDX-License-Identifier: Apache-2.0 */
#include "process/supervisor.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/digest.h"
#include "process/control_path.h"
#include "process/notify.h"
#include "process/ready.h"
#include "process/serve.h"
#include "process/trim.h"
#include "process/watch.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SUPERVISOR_KILL_GRACE_MS = 2000, // over the workers' own drain_timeout
    SUPERVISOR_END_MS = 1000,
    SUPERVISOR_TICKETS_MS = 12 * 3600 * 1000,
    SUPERVISOR_ROOM_LEAST = 8, // workers that reloads may grow to without a restart
};

// Children

static void supervisor_leave(struct moon_supervisor *supervisor, enum moon_fork what,
                             const struct moon_child *self)
{
    int kept_log = self == NULL ? -1 : self->log_pipe[1];
    for (int i = 0; i < supervisor->child_count; i++) {
        struct moon_child *child = &supervisor->children[i];
        if (child->channel != -1)
            (void)close(child->channel);
        if (child->log_pipe[1] != -1 && child->log_pipe[1] != kept_log)
            (void)close(child->log_pipe[1]);
        if (child->log_pipe[0] != -1 && what != MOON_FORK_LOGGER)
            (void)close(child->log_pipe[0]);
    }
    if (what != MOON_FORK_UPGRADE)
        moon_sockets_fini(&supervisor->sockets, false);
    if (supervisor->bundle_fd != -1)
        (void)close(supervisor->bundle_fd);
    if (supervisor->reload.bundle_fd != -1)
        (void)close(supervisor->reload.bundle_fd);
    if (supervisor->upgrade_ready != -1)
        (void)close(supervisor->upgrade_ready);
    moon_control_free(supervisor->control, false);
    moon_watch_free(supervisor->watch);
    moon_loop_free(supervisor->loop); // gives the signals back, too
    supervisor->control = NULL;
    supervisor->watch = NULL;
    supervisor->loop = NULL;
}

pid_t moon_supervisor_fork(struct moon_supervisor *supervisor, enum moon_fork what,
                           const struct moon_child *child)
{
    sigset_t all, before;
    (void)fflush(NULL);
    (void)sigfillset(&all);
    // A signal must not meet the supervisor's handlers in the child.
    (void)sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        supervisor_leave(supervisor, what, child);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

static void supervisor_buried(struct moon_supervisor *supervisor, pid_t pid, int status)
{
    if (pid == supervisor->reload.checker) {
        moon_reload_checked(supervisor, status);
    } else if (pid == supervisor->logger) {
        moon_logger_died(supervisor);
    } else if (pid == supervisor->upgrade) {
        moon_upgrade_died(supervisor, status);
    }
    for (int i = 0; i < supervisor->child_count; i++) {
        if (supervisor->children[i].pid == pid) {
            moon_child_died(&supervisor->children[i], status);
            break;
        }
    }
    if (supervisor->is_stopping && moon_children_running(supervisor) == 0)
        moon_loop_stop(supervisor->loop);
}

static void supervisor_bury(struct moon_supervisor *supervisor)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        supervisor_buried(supervisor, pid, status);
}

// Stopping

static void supervisor_kill(struct moon_timer *timer)
{
    struct moon_supervisor *supervisor = timer->owner;
    for (int i = 0; i < supervisor->child_count; i++) {
        const struct moon_child *child = &supervisor->children[i];
        if (child->pid != 0) {
            moon_log_error("worker %d does not end: it is killed", i);
            (void)kill(child->pid, SIGKILL);
        }
    }
}

void moon_supervisor_stop(struct moon_supervisor *supervisor)
{
    if (supervisor->is_stopping) {
        moon_log_info("ends at once");
        moon_children_say(supervisor, MOON_MESSAGE_END);
        moon_timer_set(&supervisor->kill, SUPERVISOR_END_MS);
        return;
    }
    supervisor->is_stopping = true;
    moon_log_info("stops: what is under way has %lld ms",
                  (long long)supervisor->facts.drain_timeout_ms);
    if (!supervisor->is_replaced)
        moon_notify("STOPPING=1");
    moon_children_say(supervisor, MOON_MESSAGE_DRAIN);
    moon_sockets_fini(&supervisor->sockets, !supervisor->is_replaced);
    moon_timer_set(&supervisor->kill,
                   supervisor->facts.drain_timeout_ms + SUPERVISOR_KILL_GRACE_MS);
    if (moon_children_running(supervisor) == 0)
        moon_loop_stop(supervisor->loop);
}

static void supervisor_reopen(struct moon_supervisor *supervisor)
{
    moon_log_reopen();
    moon_children_say(supervisor, MOON_MESSAGE_REOPEN);
    if (supervisor->logger != 0)
        (void)kill(supervisor->logger, SIGUSR1);
}

static void supervisor_signalled(void *arg, int signal)
{
    struct moon_supervisor *supervisor = arg;
    switch (signal) {
    case SIGCHLD:
        supervisor_bury(supervisor);
        break;
    case SIGHUP:
        moon_reload_request(supervisor, "SIGHUP");
        break;
    case SIGUSR1:
        supervisor_reopen(supervisor);
        break;
    case SIGUSR2:
        moon_upgrade_request(supervisor);
        break;
    default:
        moon_supervisor_stop(supervisor);
    }
}

// Starting

static void supervisor_changed(void *owner)
{
    moon_reload_request(owner, "a change of files");
}

static void supervisor_rotate(struct moon_timer *timer)
{
    struct moon_supervisor *supervisor = timer->owner;
    moon_tls_ticket_rotate(supervisor->state.tickets, moon_clock_wall_ms());
    moon_timer_set(timer, SUPERVISOR_TICKETS_MS);
}

void moon_supervisor_child_serves(struct moon_supervisor *supervisor)
{
    if (supervisor->is_ready || supervisor->is_stopping)
        return;
    for (int i = 0; i < supervisor->worker_count; i++) {
        if (supervisor->children[i].serving == 0)
            return;
    }
    supervisor->is_ready = true;
    atomic_store(&supervisor->state.board->generation, supervisor->generation);
    const char *ready_file = supervisor->cli->ready_file;
    if (ready_file != NULL && !moon_ready_write(ready_file, &supervisor->facts,
                                                &supervisor->sockets, supervisor->worker_count)) {
        supervisor->exit_code = MOON_EXIT_FAILED;
        moon_supervisor_stop(supervisor);
        return;
    }
    if (!supervisor->cli->is_quiet)
        moon_ready_print(supervisor->dir, &supervisor->facts, &supervisor->sockets,
                         supervisor->worker_count);
    char text[64];
    (void)snprintf(text, sizeof(text), "MAINPID=%d\nREADY=1", (int)getpid());
    moon_notify(text);
    moon_upgrade_announce();
    moon_log_info("ready: %d workers serve generation %u", supervisor->worker_count,
                  supervisor->generation);
    moon_process_trim();
}

/// Reads and checks what is in the directory. @return false after telling standard error
static bool supervisor_check(struct moon_supervisor *supervisor)
{
    char text[2048] = "out of memory";
    struct moon_check_result *result = supervisor->reload.result;
    struct moon_bundle *bundle;
    supervisor->dir = moon_config_place(supervisor->cli->arguments[0]);
    if (supervisor->dir == NULL) {
        (void)fprintf(stderr, "moongate: %s: %m\n", supervisor->cli->arguments[0]);
        return false;
    }
    if (moon_bundle_read(supervisor->dir, text, sizeof(text), &bundle) != MOON_OK) {
        (void)fprintf(stderr, "moongate: %s\n", text);
        return false;
    }
    supervisor->bundle_fd = moon_bundle_to_fd(bundle);
    int status = 0;
    pid_t pid = moon_supervisor_fork(supervisor, MOON_FORK_CHECKER, NULL);
    if (pid == 0)
        moon_check_run(bundle, result, NULL);
    moon_bundle_free(bundle);
    if (pid == -1 || waitpid(pid, &status, 0) == -1 || supervisor->bundle_fd == -1) {
        (void)fprintf(stderr, "moongate: the checker cannot be started: %m\n");
        return false;
    }
    if (!moon_check_settle(result, status)) {
        (void)fprintf(stderr, "%s\n", result->error);
        return false;
    }
    if (result->warnings[0] != '\0')
        (void)fprintf(stderr, "%s\n", result->warnings);
    supervisor->facts = result->facts;
    return true;
}

static bool supervisor_bind(struct moon_supervisor *supervisor)
{
    char text[1024];
    moon_sockets_init(&supervisor->sockets, supervisor->worker_count);
    moon_upgrade_inherit(supervisor);
    if (moon_facts_try_access_log(&supervisor->facts, text, sizeof(text)) != MOON_OK ||
        moon_sockets_prepare(&supervisor->sockets, &supervisor->facts, text, sizeof(text)) !=
            MOON_OK) {
        (void)fprintf(stderr, "moongate: %s\n", text);
        return false;
    }
    moon_sockets_commit(&supervisor->sockets);
    return true;
}

// The shared mapping cannot grow: a reload finds room for twice as many workers as start, or as there
// are cores.
static int supervisor_room(int workers)
{
    int cores = moon_facts_cores();
    int room = 2 * (workers > cores ? workers : cores);
    room = room < SUPERVISOR_ROOM_LEAST ? SUPERVISOR_ROOM_LEAST : room;
    return room > MOON_BOARD_WORKERS ? MOON_BOARD_WORKERS : room;
}

static bool supervisor_prepare(struct moon_supervisor *supervisor)
{
    if (!moon_facts_open_log(&supervisor->facts) ||
        !moon_user_find(supervisor->facts.user, &supervisor->user))
        return false;
    const char *log = supervisor->facts.error_log;
    // Workers open it again by themselves (SIGUSR1).
    if (supervisor->user.name[0] != '\0' && log[0] == '/')
        (void)!chown(log, supervisor->user.uid, supervisor->user.gid);
    moon_privilege_raise_files(supervisor->facts.connections);
    moon_privilege_allow_core(supervisor->cli->dumps_core);
    return moon_state_new(supervisor->child_cap, supervisor->facts.cache_bytes,
                          &supervisor->state) == MOON_OK;
}

static void supervisor_start(struct moon_supervisor *supervisor)
{
    static const int signals[] = {SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    struct moon_loop *loop = supervisor->loop;
    for (size_t i = 0; i < MOON_COUNT(signals); i++)
        moon_loop_on_signal(loop, signals[i], supervisor_signalled, supervisor);
    moon_timer_init(&supervisor->kill, loop, supervisor_kill, supervisor);
    moon_timer_init(&supervisor->tickets, loop, supervisor_rotate, supervisor);
    moon_timer_set(&supervisor->tickets, SUPERVISOR_TICKETS_MS);
    moon_reload_init(supervisor);
    moon_logger_start(supervisor);
    supervisor->control = moon_control_new(supervisor);
    if (!supervisor->cli->is_unwatched)
        supervisor->watch = moon_watch_new(loop, supervisor->dir, supervisor_changed, supervisor);
    moon_watchdog_start(supervisor);
    supervisor->generation = supervisor->last_generation = 1;
    for (int i = 0; i < supervisor->worker_count; i++)
        moon_child_spawn(&supervisor->children[i]);
}

static bool supervisor_serve(struct moon_supervisor *supervisor)
{
    if (!supervisor_prepare(supervisor) || !supervisor_bind(supervisor))
        return false;
    supervisor->loop = moon_loop_new();
    if (supervisor->loop == NULL || !moon_children_new(supervisor))
        return false;
    supervisor_start(supervisor);
    moon_loop_run(supervisor->loop);
    moon_logger_stop(supervisor);
    return supervisor->exit_code == MOON_EXIT_DONE;
}

static void supervisor_free(struct moon_supervisor *supervisor)
{
    moon_control_free(supervisor->control, !supervisor->is_replaced);
    moon_watch_free(supervisor->watch);
    if (supervisor->loop != NULL)
        moon_reload_fini(supervisor);
    else
        moon_check_free(supervisor->reload.result);
    moon_children_free(supervisor);
    moon_sockets_fini(&supervisor->sockets, !supervisor->is_replaced);
    if (supervisor->bundle_fd != -1)
        (void)close(supervisor->bundle_fd);
    if (supervisor->state.region != NULL)
        moon_state_free(&supervisor->state);
    moon_loop_free(supervisor->loop);
    free(supervisor->dir);
    free(supervisor);
}

int moon_supervise(const struct moon_cli *cli)
{
    struct moon_supervisor *supervisor = calloc(1, sizeof(*supervisor));
    if (supervisor == NULL)
        return MOON_EXIT_FAILED;
    supervisor->cli = cli;
    supervisor->bundle_fd = supervisor->reload.bundle_fd = supervisor->upgrade_ready = -1;
    supervisor->reload.result = moon_check_new();
    (void)signal(SIGPIPE, SIG_IGN);
    moon_log_set_process("supervisor");
    moon_digest_prepare();
    bool is_checked = supervisor->reload.result != NULL && supervisor_check(supervisor);
    supervisor->worker_count =
        is_checked ? moon_facts_workers(&supervisor->facts, cli->workers) : 0;
    supervisor->child_cap = supervisor_room(supervisor->worker_count);
    bool is_alone = is_checked && supervisor->worker_count == 0;
    bool is_done = is_checked && !is_alone && supervisor_serve(supervisor);
    supervisor_free(supervisor);
    if (is_alone)
        return moon_serve(cli);
    return is_done ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}
