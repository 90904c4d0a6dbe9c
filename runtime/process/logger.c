/* SPDX-License-Identifier: Apache-2.0 */

/// The logger writes the access log: it reads whole lines from a pipe of each worker, so that only
/// this process ever waits for the disk. What it does not keep up with, workers drop and count.

#include "base/clock.h"
#include "base/log.h"
#include "process/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LOGGER_BYTES = 65536,
    LOGGER_STOP_MS = 2000,
    LOGGER_AGAIN_MS = 1000, // when it could not start
};

struct logger_pipe {
    int fd; // -1: at its end
    size_t used;
    char data[LOGGER_BYTES];
};

struct logger {
    const char *path;
    int fd;
    struct moon_metrics *metrics;
    int lost_series;
    size_t lost;      // lines since the disk began to refuse them
    bool is_mid_line; // a line was written in part: the next begins on a line of its own
    int pipe_count;
    struct logger_pipe *pipes;
    struct pollfd polled[MOON_BOARD_WORKERS];
};

static volatile sig_atomic_t logger_is_ending;
static volatile sig_atomic_t logger_is_reopening;

static void logger_signalled(int signal)
{
    if (signal == SIGTERM)
        logger_is_ending = 1;
    else
        logger_is_reopening = 1;
}

static bool logger_open(struct logger *logger)
{
    if (strcmp(logger->path, "-") == 0) {
        logger->fd = STDOUT_FILENO;
        return true;
    }
    int fd = open(logger->path, MOON_LOG_FILE_FLAGS, MOON_LOG_FILE_MODE);
    if (fd == -1) {
        moon_log_error("access log %s: %m", logger->path);
        return false;
    }
    if (logger->fd != -1)
        (void)close(logger->fd);
    logger->fd = fd;
    return true;
}

// The disk is full, say: `data` and what comes after it is lost until it takes lines again.
static void logger_lose(struct logger *logger, const char *data, size_t len)
{
    int64_t lines = 0;
    if (logger->lost == 0)
        moon_log_error("access log %s: %m: lines are lost", logger->path);
    for (size_t i = 0; i < len; i++)
        lines += data[i] == '\n';
    logger->lost += (size_t)lines;
    moon_metrics_add(logger->metrics, logger->lost_series, lines);
}

static void logger_wrote(struct logger *logger, const char *data, size_t n)
{
    logger->is_mid_line = data[n - 1] != '\n';
    if (logger->lost > 0)
        moon_log_warn("access log %s: is written again, %zu lines were lost", logger->path,
                      logger->lost);
    logger->lost = 0;
}

static void logger_write(struct logger *logger, const char *data, size_t len)
{
    if (len > 0 && logger->is_mid_line && write(logger->fd, "\n", 1) == 1)
        logger->is_mid_line = false;
    while (len > 0) {
        ssize_t n = write(logger->fd, data, len);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1 && errno == EAGAIN) { // standard output may be anything
            struct pollfd out = {.fd = logger->fd, .events = POLLOUT};
            (void)poll(&out, 1, 1000);
            continue;
        }
        if (n <= 0) {
            logger_lose(logger, data, len);
            return;
        }
        logger_wrote(logger, data, (size_t)n);
        data += n;
        len -= (size_t)n;
    }
}

// Writes what is in front as far as it is whole lines. Those that a killed worker left half written
// are passed over.
static void logger_write_lines(struct logger *logger, struct logger_pipe *pipe)
{
    const char *from = pipe->data; // whole lines not written yet
    const char *at = pipe->data;
    const char *end = pipe->data + pipe->used;
    const char *stop;
    while (at < end && (stop = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        bool is_whole = stop - at >= 2 && at[0] == '{' && stop[-1] == '}';
        if (!is_whole) {
            logger_write(logger, from, (size_t)(at - from));
            from = stop + 1;
        }
        at = stop + 1;
    }
    logger_write(logger, from, (size_t)(at - from));
    pipe->used = (size_t)(end - at);
    memmove(pipe->data, at, pipe->used);
    if (pipe->used == LOGGER_BYTES)
        pipe->used = 0; // no line is so long
}

/// @return false when there is nothing in it now
static bool logger_read(struct logger *logger, struct logger_pipe *pipe)
{
    ssize_t n = read(pipe->fd, pipe->data + pipe->used, LOGGER_BYTES - pipe->used);
    if (n > 0) {
        pipe->used += (size_t)n;
        logger_write_lines(logger, pipe);
        return true;
    }
    if (n == 0) { // supervisor and worker are gone
        (void)close(pipe->fd);
        pipe->fd = -1;
    }
    return n == -1 && errno == EINTR;
}

static void logger_read_all(struct logger *logger)
{
    for (int i = 0; i < logger->pipe_count; i++) {
        while (logger->pipes[i].fd != -1 && logger_read(logger, &logger->pipes[i]))
            ;
    }
}

static void logger_turn(struct logger *logger, const sigset_t *unblocked)
{
    if (ppoll(logger->polled, (nfds_t)logger->pipe_count, NULL, unblocked) > 0) {
        for (int i = 0; i < logger->pipe_count; i++) {
            if (logger->polled[i].revents != 0)
                (void)logger_read(logger, &logger->pipes[i]);
            logger->polled[i].fd = logger->pipes[i].fd;
        }
    }
    if (logger_is_reopening) {
        logger_is_reopening = 0;
        (void)!logger_open(logger);
    }
}

static bool logger_has_pipes(const struct logger *logger)
{
    for (int i = 0; i < logger->pipe_count; i++) {
        if (logger->pipes[i].fd != -1)
            return true;
    }
    return false;
}

static void logger_set_signals(sigset_t *unblocked)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    sigset_t blocked;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)sigaction(SIGUSR2, &action, NULL);
    action.sa_handler = logger_signalled;
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGUSR1, &action, NULL);
    // Delivered while it waits only.
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigaddset(&blocked, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &blocked, unblocked);
}

static int logger_main(const struct moon_supervisor *supervisor)
{
    struct logger logger = {.path = supervisor->facts.access_log,
                            .fd = -1,
                            .metrics = supervisor->state.metrics,
                            .pipe_count = supervisor->child_count};
    sigset_t unblocked;
    moon_log_set_process("logger");
    (void)prctl(PR_SET_NAME, "moongate-logger", 0, 0, 0);
    logger_set_signals(&unblocked);
    logger.lost_series = moon_metrics_series(
        logger.metrics, MOON_METRIC_COUNTER, "moongate_access_log_lost_total",
        "Lines that the access log's file did not take: the disk is full, say.", MOON_S(""));
    logger.pipes = calloc((size_t)logger.pipe_count, sizeof(*logger.pipes));
    if (logger.pipes == NULL || !logger_open(&logger)) {
        free(logger.pipes);
        return EXIT_FAILURE;
    }
    for (int i = 0; i < logger.pipe_count; i++) {
        logger.pipes[i].fd = supervisor->children[i].log_pipe[0];
        logger.polled[i] = (struct pollfd){.fd = logger.pipes[i].fd, .events = POLLIN};
    }
    while (!logger_is_ending && logger_has_pipes(&logger))
        logger_turn(&logger, &unblocked);
    logger_read_all(&logger);
    free(logger.pipes);
    return EXIT_SUCCESS;
}

// The supervisor's side.

static void logger_spawn_due(struct moon_timer *timer)
{
    moon_logger_start(timer->owner);
}

void moon_logger_start(struct moon_supervisor *supervisor)
{
    if (supervisor->logger_spawn.loop == NULL)
        moon_timer_init(&supervisor->logger_spawn, supervisor->loop, logger_spawn_due, supervisor);
    if (supervisor->facts.access_log[0] == '\0' || supervisor->logger != 0)
        return;
    pid_t pid = moon_supervisor_fork(supervisor, MOON_FORK_LOGGER, NULL);
    if (pid == 0)
        exit(logger_main(supervisor)); // NOLINT(concurrency-mt-unsafe)
    if (pid == -1) {
        moon_log_error("the logger cannot be started: %m");
        moon_timer_set(&supervisor->logger_spawn, LOGGER_AGAIN_MS);
        return;
    }
    supervisor->logger = pid;
    supervisor->logger_started_ms = moon_clock_ms();
}

void moon_logger_died(struct moon_supervisor *supervisor)
{
    supervisor->logger = 0;
    if (supervisor->is_stopping)
        return;
    // Lines wait in the pipes meanwhile.
    if (moon_clock_ms() - supervisor->logger_started_ms > LOGGER_AGAIN_MS)
        moon_logger_start(supervisor);
    else
        moon_timer_set(&supervisor->logger_spawn, LOGGER_AGAIN_MS);
}

void moon_logger_restart(struct moon_supervisor *supervisor)
{
    if (supervisor->logger != 0)
        (void)kill(supervisor->logger, SIGTERM); // the next one starts when it has ended
    else if (supervisor->logger_spawn.loop != NULL)
        moon_timer_set(&supervisor->logger_spawn, 0);
}

void moon_logger_follow(struct moon_supervisor *supervisor, const struct moon_facts *next)
{
    if (strcmp(supervisor->facts.access_log, next->access_log) != 0)
        moon_logger_restart(supervisor);
}

void moon_logger_stop(struct moon_supervisor *supervisor)
{
    moon_logger_start(supervisor); // where it has just died: lines wait in the pipes
    if (supervisor->logger == 0)
        return;
    struct timespec pause = {.tv_nsec = 2000000};
    int64_t deadline_ms = moon_clock_ms() + LOGGER_STOP_MS;
    (void)kill(supervisor->logger, SIGTERM);
    while (waitpid(supervisor->logger, NULL, WNOHANG) == 0) {
        if (moon_clock_ms() > deadline_ms)
            (void)kill(supervisor->logger, SIGKILL);
        (void)nanosleep(&pause, NULL);
    }
    supervisor->logger = 0;
}
