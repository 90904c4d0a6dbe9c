/* SPDX-License-Identifier: Apache-2.0 */
#include "process/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "process/ready.h"
#include "process/watch.h"
#include "process/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

struct serve {
    const struct moon_cli *cli;
    const char *dir;
    struct moon_state state;
    struct moon_worker worker;
    struct moon_facts facts;
    struct moon_sockets sockets;
    struct moon_timer drain;
    struct moon_task reload;
    struct moon_watch *watch;
    uint32_t generation; // last number given out
};

static void serve_failed(const char *text)
{
    (void)fprintf(stderr, "%s%s", text,
                  moon_slice_ends(moon_slice_text(text), MOON_S("\n")) ? "" : "\n");
}

static void serve_relisten(struct serve *serve)
{
    struct moon_gateway_socket sockets[MOON_GATEWAY_LISTENERS];
    size_t n = 0;
    for (size_t i = 0; i < serve->facts.listener_count; i++) {
        const struct moon_socket *socket =
            moon_sockets_find(&serve->sockets, serve->facts.listeners[i].key);
        if (socket != NULL && socket->fd_count > 0)
            sockets[n++] = (struct moon_gateway_socket){.fd = socket->fds[0], .index = (int)i};
    }
    moon_gateway_relisten(&serve->worker.gateway, sockets, n);
}

/// Loads what is in the directory now, and serves it. @param error  heap; written on failure
static enum moon_rc serve_load(struct serve *serve, char **error)
{
    char text[1024] = "";
    struct moon_bundle *bundle = NULL;
    *error = NULL;
    enum moon_rc rc = moon_bundle_read(serve->dir, text, sizeof(text), &bundle);
    if (rc != MOON_OK)
        goto done;
    rc = moon_worker_load(&serve->worker, bundle, serve->generation + 1, error);
    if (rc != MOON_OK)
        goto done;
    struct moon_facts facts;
    rc = moon_facts_of(serve->worker.next->plan, &facts);
    if (rc == MOON_OK)
        rc = moon_facts_try_access_log(&facts, text, sizeof(text));
    if (rc == MOON_OK)
        rc = moon_sockets_prepare(&serve->sockets, &facts, text, sizeof(text));
    if (rc != MOON_OK) {
        moon_worker_abort_load(&serve->worker);
        goto done;
    }
    serve->facts = facts;
    serve->generation++;
    moon_worker_flip(&serve->worker);
    serve_relisten(serve);
    moon_sockets_commit(&serve->sockets);
done:
    if (rc != MOON_OK && *error == NULL)
        *error = strdup(text[0] == '\0' ? moon_rc_text(rc) : text);
    moon_bundle_free(bundle);
    return rc;
}

static void serve_reload(struct moon_task *task)
{
    struct serve *serve = task->owner;
    char *error;
    struct moon_board *board = serve->state.board;
    if (serve_load(serve, &error) == MOON_OK) {
        atomic_fetch_add(&board->reloads_ok, 1);
        board->last_reload_error[0] = '\0';
        moon_log_info("generation %u is served", serve->generation);
        return;
    }
    atomic_fetch_add(&board->reloads_failed, 1);
    (void)snprintf(board->last_reload_error, sizeof(board->last_reload_error), "%s", error);
    moon_log_error("reload: %s", error);
    free(error);
}

static void serve_request_reload(struct moon_gateway *gateway)
{
    struct moon_worker *worker = gateway->owner;
    struct serve *serve = MOON_CONTAINER_OF(worker, struct serve, worker);
    moon_task_post(worker->loop, &serve->reload);
}

static void serve_changed(void *owner)
{
    struct serve *serve = owner;
    moon_task_post(serve->worker.loop, &serve->reload);
}

static int serve_open_access_log(const char *path)
{
    if (path[0] == '\0')
        return -1;
    if (strcmp(path, "-") == 0)
        return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    int fd = open(path, MOON_LOG_FILE_FLAGS, MOON_LOG_FILE_MODE);
    if (fd == -1)
        moon_log_error("access log %s: %m", path);
    return fd;
}

static void serve_set_access_log(struct serve *serve)
{
    struct moon_gateway *gateway = &serve->worker.gateway;
    int fd = serve_open_access_log(serve->facts.access_log);
    if (fd == -1 && serve->facts.access_log[0] != '\0')
        return; // better the old file than none
    moon_access_log_free(gateway->access_log);
    gateway->access_log = fd == -1 ? NULL : moon_access_log_new(fd);
}

static void serve_end(struct moon_gateway *gateway)
{
    moon_loop_stop(gateway->env.loop);
}

static void serve_drain_over(struct moon_timer *timer)
{
    struct serve *serve = timer->owner;
    moon_gateway_warn_undrained(&serve->worker.gateway);
    moon_loop_stop(timer->loop);
}

static void serve_signal(void *arg, int signal)
{
    struct serve *serve = arg;
    struct moon_gateway *gateway = &serve->worker.gateway;
    if (signal == SIGHUP) {
        moon_task_post(serve->worker.loop, &serve->reload);
    } else if (signal == SIGUSR1) {
        moon_log_reopen();
        serve_set_access_log(serve);
    } else if (gateway->is_draining) {
        moon_loop_stop(serve->worker.loop);
    } else {
        gateway->on_drained = serve_end;
        moon_timer_set(&serve->drain, serve->facts.drain_timeout_ms);
        moon_gateway_drain(gateway);
    }
}

static void serve_loop(struct serve *serve)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    struct moon_loop *loop = serve->worker.loop;
    moon_timer_init(&serve->drain, loop, serve_drain_over, serve);
    moon_task_init(&serve->reload, serve_reload, serve);
    serve->worker.gateway.request_reload = serve_request_reload;
    for (size_t i = 0; i < MOON_COUNT(signals); i++)
        moon_loop_on_signal(loop, signals[i], serve_signal, serve);
    atomic_store(&serve->state.board->slots[0].pid, (int)getpid());
    if (!serve->cli->is_unwatched)
        serve->watch = moon_watch_new(loop, serve->dir, serve_changed, serve);
    moon_loop_run(loop);
    moon_watch_free(serve->watch);
    moon_timer_stop(&serve->drain);
    moon_task_cancel(&serve->reload);
}

static bool serve_start(struct serve *serve)
{
    char *error = NULL;
    if (serve_load(serve, &error) != MOON_OK) {
        serve_failed(error);
        free(error);
        return false;
    }
    const char *warnings = moon_script_warnings(serve->worker.gateway.generation->script);
    if (warnings[0] != '\0')
        serve_failed(warnings);
    if (!moon_facts_open_log(&serve->facts))
        return false;
    serve_set_access_log(serve);
    const char *ready_file = serve->cli->ready_file;
    if (ready_file != NULL && !moon_ready_write(ready_file, &serve->facts, &serve->sockets, 0))
        return false;
    if (!serve->cli->is_quiet)
        moon_ready_print(serve->dir, &serve->facts, &serve->sockets, 0);
    return true;
}

int moon_serve(const struct moon_cli *cli)
{
    struct serve *serve = calloc(1, sizeof(*serve));
    int code = MOON_EXIT_FAILED;
    if (serve == NULL)
        return code;
    serve->cli = cli;
    serve->dir = cli->arguments[0];
    (void)signal(SIGPIPE, SIG_IGN);
    moon_sockets_init(&serve->sockets, 1);
    if (moon_state_new(1, 0, &serve->state) != MOON_OK)
        goto free_serve;
    if (moon_worker_init(&serve->worker, &serve->state, 0) != MOON_OK)
        goto free_state;
    if (serve_start(serve)) {
        serve_loop(serve);
        code = MOON_EXIT_DONE;
    }
    moon_worker_fini(&serve->worker);
    moon_sockets_fini(&serve->sockets, true);
free_state:
    moon_state_free(&serve->state);
free_serve:
    free(serve);
    return code;
}
