/* SPDX-License-Identifier: Apache-2.0 */
#include "process/worker_process.h"

#include "base/clock.h"
#include "base/log.h"
#include "gateway/access_log.h"
#include "process/message.h"
#include "process/trim.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

enum { WORKER_FRAMES = 64 };

struct worker_socket {
    uint32_t id;
    int fd;
    int index;
};

struct worker_sockets {
    struct worker_socket all[MOON_MESSAGE_SOCKETS];
    size_t count;
};

struct worker_process {
    struct moon_worker worker;
    int channel;
    struct moon_io io;
    struct worker_sockets sockets; // of the generation that is served
    struct worker_sockets next;    // of the one that waits
    struct moon_access_log *log;
    bool next_has_log;
    struct moon_timer drain;
    struct moon_message message; // in or out
};

static sigjmp_buf worker_unwound;

static void worker_unwind_failed(int signal)
{
    siglongjmp(worker_unwound, signal);
}

static void *worker_interrupted_at(const void *context)
{
#if defined(__x86_64__)
    return (void *)(uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (void *)(uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return NULL;
#endif
}

// Runs in a worker that is stuck and about to be killed: says where. The unwinder may abort in
// machine code that LuaJIT made, so that the interrupted place goes first.
static void worker_backtrace(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    static const char head[] = "moongate: a worker is stuck here:\n";
    struct sigaction action = {.sa_handler = worker_unwind_failed};
    void *frames[WORKER_FRAMES] = {worker_interrupted_at(context)};
    int saved = errno;
    (void)!write(STDERR_FILENO, head, sizeof(head) - 1);
    backtrace_symbols_fd(frames, 1, STDERR_FILENO);
    (void)sigaction(SIGABRT, &action, NULL);
    (void)sigaction(SIGSEGV, &action, NULL);
    if (sigsetjmp(worker_unwound, 1) == 0)
        backtrace_symbols_fd(frames, backtrace(frames, WORKER_FRAMES), STDERR_FILENO);
    errno = saved;
}

// Runs in a worker that has not turned its loop for a while.
static void worker_say_place(int signal)
{
    (void)signal;
    int saved = errno;
    moon_script_say_place();
    errno = saved;
}

static void worker_set_signals(void)
{
    static const int ignored[] = {SIGPIPE, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    struct sigaction action = {.sa_handler = SIG_IGN};
    void *frames[2];
    for (size_t i = 0; i < MOON_COUNT(ignored); i++)
        (void)sigaction(ignored[i], &action, NULL);
    (void)backtrace(frames, 2); // loads what it needs: a signal handler may not
    action.sa_handler = worker_say_place;
    action.sa_flags = SA_RESTART;
    (void)sigaction(MOON_SIGNAL_PLACE, &action, NULL);
    action.sa_sigaction = worker_backtrace;
    action.sa_flags = SA_RESTART | SA_SIGINFO;
    (void)sigaction(MOON_SIGNAL_TRACE, &action, NULL);
}

static const struct worker_socket *sockets_find(const struct worker_sockets *sockets, int fd)
{
    for (size_t i = 0; i < sockets->count; i++) {
        if (sockets->all[i].fd == fd)
            return &sockets->all[i];
    }
    return NULL;
}

static const struct worker_socket *sockets_find_id(const struct worker_sockets *sockets,
                                                   uint32_t id)
{
    for (size_t i = 0; i < sockets->count; i++) {
        if (sockets->all[i].id == id)
            return &sockets->all[i];
    }
    return NULL;
}

// Closes the descriptors in `from` that are not in `kept`.
static void sockets_close(struct worker_sockets *from, const struct worker_sockets *kept)
{
    for (size_t i = 0; i < from->count; i++) {
        if (sockets_find(kept, from->all[i].fd) == NULL)
            (void)close(from->all[i].fd);
    }
    from->count = 0;
}

// What the worker has already keeps its number; the copy that came with the message is closed.
static void worker_take_sockets(struct worker_process *process, const int *fds)
{
    const struct moon_message *message = &process->message;
    sockets_close(&process->next, &process->sockets);
    for (size_t i = 0; i < message->socket_count; i++) {
        struct worker_socket *socket = &process->next.all[process->next.count++];
        const struct worker_socket *own =
            sockets_find_id(&process->sockets, message->sockets[i].id);
        *socket = (struct worker_socket){.id = message->sockets[i].id,
                                         .fd = own == NULL ? fds[i] : own->fd,
                                         .index = message->sockets[i].index};
        if (own != NULL)
            (void)close(fds[i]);
    }
}

static void worker_say(struct worker_process *process, enum moon_message_kind kind,
                       uint32_t generation, const char *text)
{
    struct moon_message *message = &process->message;
    message->kind = (uint32_t)kind;
    message->generation = generation;
    message->socket_count = 0;
    message->text_len = (uint32_t)moon_min_size(strlen(text), MOON_MESSAGE_TEXT - 1);
    memcpy(message->text, text, message->text_len);
    if (moon_message_send(process->channel, message, NULL, 0) != MOON_OK)
        moon_log_error("the supervisor does not listen: %m");
}

static void worker_loaded(struct moon_worker *worker, uint32_t generation, enum moon_rc rc,
                          const char *error)
{
    struct worker_process *process = MOON_CONTAINER_OF(worker, struct worker_process, worker);
    worker_say(process, rc == MOON_OK ? MOON_MESSAGE_READY : MOON_MESSAGE_FAILED, generation,
               rc == MOON_OK ? "" : error);
}

static void worker_load(struct worker_process *process, const int *fds, size_t fd_count)
{
    uint32_t generation = process->message.generation;
    struct moon_bundle *bundle = NULL;
    process->next_has_log = process->message.has_access_log != 0;
    if (fd_count != process->message.socket_count + 1) {
        for (size_t i = 0; i < fd_count; i++)
            (void)close(fds[i]);
        worker_say(process, MOON_MESSAGE_FAILED, generation, "descriptors were lost on the way");
        return;
    }
    worker_take_sockets(process, fds + 1);
    enum moon_rc rc = moon_bundle_from_fd(fds[0], &bundle);
    (void)close(fds[0]);
    if (rc == MOON_OK)
        moon_worker_start_load(&process->worker, bundle, generation, worker_loaded);
    else
        worker_say(process, MOON_MESSAGE_FAILED, generation, moon_rc_text(rc));
}

static void worker_abort(struct worker_process *process)
{
    moon_worker_abort_load(&process->worker);
    sockets_close(&process->next, &process->sockets);
}

static void worker_flip(struct worker_process *process)
{
    struct moon_gateway_socket sockets[MOON_MESSAGE_SOCKETS];
    struct moon_gateway *gateway = &process->worker.gateway;
    if (process->worker.next == NULL)
        return;
    if (gateway->generation == NULL) // the first: nobody waits
        moon_process_trim();
    for (size_t i = 0; i < process->next.count; i++)
        sockets[i] = (struct moon_gateway_socket){.fd = process->next.all[i].fd,
                                                  .index = process->next.all[i].index};
    gateway->access_log = process->next_has_log ? process->log : NULL;
    moon_worker_flip(&process->worker);
    if (!gateway->is_draining)
        moon_gateway_relisten(gateway, sockets, process->next.count);
    sockets_close(&process->sockets, &process->next);
    process->sockets = process->next;
    process->next.count = 0;
    worker_say(process, MOON_MESSAGE_FLIPPED, gateway->generation->number, "");
}

static void worker_end(struct moon_gateway *gateway)
{
    moon_loop_stop(gateway->env.loop);
}

static void worker_drain_over(struct moon_timer *timer)
{
    struct worker_process *process = timer->owner;
    moon_gateway_warn_undrained(&process->worker.gateway);
    moon_loop_stop(timer->loop);
}

// Connections that the kernel has accepted already would be reset when the socket closes.
static void worker_accept_rest(struct moon_gateway *gateway)
{
    for (size_t i = 0; i < gateway->listener_count; i++) {
        struct moon_gateway_listener *listener = &gateway->listeners[i];
        struct sockaddr_storage peer;
        int fd = -1;
        while (listener->acceptor != NULL) {
            socklen_t len = sizeof(peer);
            fd =
                accept4(listener->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd == -1)
                break;
            moon_gateway_accept(listener, fd, (const struct sockaddr *)&peer);
        }
    }
}

static void worker_drain(struct worker_process *process)
{
    struct moon_gateway *gateway = &process->worker.gateway;
    if (gateway->is_draining)
        return;
    if (gateway->generation == NULL) {
        moon_loop_stop(process->worker.loop);
        return;
    }
    gateway->on_drained = worker_end;
    moon_timer_set(&process->drain, gateway->generation->plan->limits.drain_timeout_ms);
    worker_accept_rest(gateway);
    moon_gateway_drain(gateway);
    struct worker_sockets none = {.count = 0};
    sockets_close(&process->next,
                  &process->sockets); // of a generation that waits: it listens nowhere
    sockets_close(&process->sockets, &none);
    worker_say(process, MOON_MESSAGE_DRAINS, 0, "");
}

static void worker_obey(struct worker_process *process, const int *fds, size_t fd_count)
{
    switch ((enum moon_message_kind)process->message.kind) {
    case MOON_MESSAGE_LOAD:
        worker_load(process, fds, fd_count);
        break;
    case MOON_MESSAGE_FLIP:
        worker_flip(process);
        break;
    case MOON_MESSAGE_ABORT:
        worker_abort(process);
        break;
    case MOON_MESSAGE_DRAIN:
        worker_drain(process);
        break;
    case MOON_MESSAGE_END:
        moon_loop_stop(process->worker.loop);
        break;
    case MOON_MESSAGE_REOPEN:
        moon_log_reopen();
        break;
    case MOON_MESSAGE_READY:
    case MOON_MESSAGE_FAILED:
    case MOON_MESSAGE_FLIPPED:
    case MOON_MESSAGE_DRAINS:
    case MOON_MESSAGE_RELOAD:
        break; // ours to say
    }
}

static void worker_told(struct moon_io *io, int events)
{
    (void)events;
    struct worker_process *process = io->owner;
    int fds[MOON_MESSAGE_FDS];
    size_t fd_count;
    enum moon_rc rc = moon_message_receive(process->channel, &process->message, fds, &fd_count);
    if (rc == MOON_OK) {
        worker_obey(process, fds, fd_count);
    } else if (rc != MOON_AGAIN) {
        moon_log_error("the supervisor is gone");
        moon_io_stop(io);
        worker_drain(process);
    }
}

static void worker_signalled(void *arg, int signal)
{
    (void)signal;
    worker_drain(arg);
}

static void worker_request_reload(struct moon_gateway *gateway)
{
    struct moon_worker *worker = gateway->owner;
    worker_say(MOON_CONTAINER_OF(worker, struct worker_process, worker), MOON_MESSAGE_RELOAD, 0,
               "");
}

static void worker_run(struct worker_process *process)
{
    struct moon_loop *loop = process->worker.loop;
    struct moon_gateway *gateway = &process->worker.gateway;
    gateway->request_reload = worker_request_reload;
    moon_io_init(&process->io, loop, process->channel, worker_told, process);
    moon_io_watch(&process->io, MOON_IO_READ);
    moon_timer_init(&process->drain, loop, worker_drain_over, process);
    moon_loop_on_signal(loop, SIGTERM, worker_signalled, process);
    moon_loop_run(loop);
    moon_timer_stop(&process->drain);
    moon_io_stop(&process->io);
    gateway->access_log = process->log; // freed with the gateway
}

static struct worker_process *worker_process_new(const struct moon_worker_start *start)
{
    struct worker_process *process = calloc(1, sizeof(*process));
    if (process == NULL)
        return NULL;
    process->channel = start->channel;
    process->log = moon_access_log_new(start->access_log);
    if (process->log != NULL &&
        moon_worker_init(&process->worker, start->state, start->number) == MOON_OK)
        return process;
    moon_access_log_free(process->log);
    free(process);
    return NULL;
}

int moon_worker_process(const struct moon_worker_start *start)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "worker %d", start->number);
    moon_log_set_process(name);
    (void)prctl(PR_SET_NAME, "moongate-worker", 0, 0, 0);
    worker_set_signals();
    if (!moon_user_become(start->user))
        return EXIT_FAILURE;
    moon_privilege_allow_core(start->dumps_core);
    if (!moon_privilege_follow_parent(start->supervisor))
        return EXIT_FAILURE;
    struct worker_process *process = worker_process_new(start);
    if (process == NULL) {
        moon_log_error("a worker has not enough memory to start");
        return EXIT_FAILURE;
    }
    worker_run(process);
    moon_worker_fini(&process->worker);
    struct worker_sockets none = {.count = 0};
    sockets_close(&process->next, &process->sockets);
    sockets_close(&process->sockets, &none);
    (void)close(process->channel);
    free(process);
    return EXIT_SUCCESS;
}
