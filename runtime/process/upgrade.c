/* SPDX-License-Identifier: Apache-2.0 */

/// Replacing the binary: a new supervisor is started from the file on disk, with the listening
/// sockets. When it serves, this one finishes what is under way and ends. At no moment does nobody
/// listen. Sockets from systemd (LISTEN_FDS) come in the same way.

#include "base/buf.h"
#include "base/log.h"
#include "process/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UPGRADE_TIMEOUT_MS = 60000, UPGRADE_LIST_BYTES = 1 << 20, UPGRADE_FIRST_FD = 3 };

static const char upgrade_sockets[] = "MOONGATE_SOCKETS"; // lines: descriptor, space, key
static const char upgrade_ready[] = "MOONGATE_UPGRADE_READY_FD";

static void upgrade_over(struct moon_supervisor *supervisor, bool is_ok, const char *text)
{
    moon_timer_stop(&supervisor->upgrade_timeout);
    moon_io_stop(&supervisor->upgrade_io);
    if (supervisor->upgrade_ready != -1)
        (void)close(supervisor->upgrade_ready);
    supervisor->upgrade_ready = -1;
    if (is_ok)
        moon_log_info("upgrade: %s", text);
    else
        moon_log_error("upgrade failed, this binary goes on: %s", text);
    moon_control_tell_upgrade(supervisor->control, is_ok, text);
}

// Process: the one that becomes the new supervisor.
static bool upgrade_pass_sockets(const struct moon_supervisor *supervisor)
{
    struct moon_buf list;
    moon_buf_init(&list, UPGRADE_LIST_BYTES);
    for (size_t i = 0; i < MOON_COUNT(supervisor->sockets.sockets); i++) {
        const struct moon_socket *socket = &supervisor->sockets.sockets[i];
        for (int k = 0; socket->id != 0 && k < socket->fd_count; k++) {
            (void)fcntl(socket->fds[k], F_SETFD, 0);
            if (moon_buf_printf(&list, "%d %s\n", socket->fds[k], socket->key) != MOON_OK)
                return false;
        }
    }
    if (moon_buf_append(&list, moon_slice("", 1)) != MOON_OK)
        return false;
    return setenv(upgrade_sockets, moon_buf_slice(&list).data, 1) == 0; // NOLINT
}

static void upgrade_exec(struct moon_supervisor *supervisor, int ready)
{
    char path[PATH_MAX] = "";
    char number[16];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    static const char deleted[] = " (deleted)"; // as the kernel names a file that was replaced
    size_t tail = sizeof(deleted) - 1;
    if (n > (ssize_t)tail && strcmp(path + n - (ssize_t)tail, deleted) == 0)
        path[n - (ssize_t)tail] = '\0';
    (void)snprintf(number, sizeof(number), "%d", ready);
    (void)fcntl(ready, F_SETFD, 0);
    bool is_passed = upgrade_pass_sockets(supervisor) &&
                     setenv(upgrade_ready, number, 1) == 0; // NOLINT(concurrency-mt-unsafe)
    if (is_passed)
        (void)execv(path, supervisor->cli->argv);
    moon_log_error("%s cannot be started: %m", path);
    _exit(127);
}

static void upgrade_heard(struct moon_io *io, int events)
{
    (void)events;
    struct moon_supervisor *supervisor = io->owner;
    char byte;
    ssize_t n = read(supervisor->upgrade_ready, &byte, 1);
    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 1) {
        char text[64];
        (void)snprintf(text, sizeof(text), "process %d serves now", (int)supervisor->upgrade);
        supervisor->is_replaced = true;
        upgrade_over(supervisor, true, text);
        moon_supervisor_stop(supervisor);
    } else {
        moon_io_stop(io); // its death says why
    }
}

static void upgrade_timed_out(struct moon_timer *timer)
{
    struct moon_supervisor *supervisor = timer->owner;
    if (supervisor->upgrade != 0)
        (void)kill(supervisor->upgrade, SIGKILL);
    upgrade_over(supervisor, false, "the new binary did not serve within 60 s");
}

void moon_upgrade_died(struct moon_supervisor *supervisor, int status)
{
    char text[96];
    supervisor->upgrade = 0;
    if (supervisor->upgrade_ready == -1)
        return;
    if (WIFSIGNALED(status))
        (void)snprintf(text, sizeof(text), "the new binary died by signal %d", WTERMSIG(status));
    else
        (void)snprintf(text, sizeof(text), "the new binary ended with status %d",
                       WEXITSTATUS(status));
    upgrade_over(supervisor, false, text);
}

void moon_upgrade_request(struct moon_supervisor *supervisor)
{
    int ends[2];
    if (supervisor->upgrade != 0 || supervisor->is_stopping || !supervisor->is_ready) {
        moon_control_tell_upgrade(supervisor->control, false,
                                  "the gateway starts, stops or upgrades just now");
        return;
    }
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == -1) {
        moon_control_tell_upgrade(supervisor->control, false, strerrordesc_np(errno));
        return;
    }
    pid_t pid = moon_supervisor_fork(supervisor, MOON_FORK_UPGRADE, NULL);
    if (pid == 0)
        upgrade_exec(supervisor, ends[1]);
    (void)close(ends[1]);
    supervisor->upgrade_ready = ends[0];
    moon_io_init(&supervisor->upgrade_io, supervisor->loop, ends[0], upgrade_heard, supervisor);
    moon_timer_init(&supervisor->upgrade_timeout, supervisor->loop, upgrade_timed_out, supervisor);
    if (pid == -1) {
        upgrade_over(supervisor, false, "no process could be made");
        return;
    }
    moon_log_info("upgrade: the new binary is started as process %d", (int)pid);
    supervisor->upgrade = pid;
    moon_io_watch(&supervisor->upgrade_io, MOON_IO_READ);
    moon_timer_set(&supervisor->upgrade_timeout, UPGRADE_TIMEOUT_MS);
}

static void upgrade_take_list(struct moon_sockets *sockets, const char *list)
{
    struct moon_slice rest = moon_slice_text(list);
    while (rest.len > 0) {
        size_t end = moon_slice_find(rest, '\n');
        struct moon_slice line = moon_slice(rest.data, end);
        size_t space = moon_slice_find(line, ' ');
        int64_t fd;
        char key[200];
        if (moon_slice_number(moon_slice(line.data, space), &fd) && fd >= UPGRADE_FIRST_FD &&
            fd <= INT_MAX &&
            moon_slice_copy_text(moon_slice_from(line, space + 1), key, sizeof(key)))
            moon_sockets_hold(sockets, (int)fd, key);
        rest = moon_slice_from(rest, end + 1);
    }
}

// sd_listen_fds(3), without its library.
static void upgrade_take_systemd(struct moon_sockets *sockets)
{
    const char *pid = getenv("LISTEN_PID");   // NOLINT(concurrency-mt-unsafe): one thread
    const char *count = getenv("LISTEN_FDS"); // NOLINT(concurrency-mt-unsafe)
    int64_t pid_number, n;
    if (pid == NULL || count == NULL || !moon_slice_number(moon_slice_text(pid), &pid_number) ||
        !moon_slice_number(moon_slice_text(count), &n) || pid_number != (int64_t)getpid())
        return;
    for (int64_t i = 0; i < n && i < MOON_SOCKETS_HELD; i++)
        moon_sockets_hold(sockets, UPGRADE_FIRST_FD + (int)i, "");
}

void moon_upgrade_inherit(struct moon_supervisor *supervisor)
{
    static const char *const names[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};
    const char *list = getenv(upgrade_sockets); // NOLINT(concurrency-mt-unsafe)
    if (list != NULL)
        upgrade_take_list(&supervisor->sockets, list);
    upgrade_take_systemd(&supervisor->sockets);
    (void)unsetenv(upgrade_sockets); // NOLINT(concurrency-mt-unsafe)
    for (size_t i = 0; i < MOON_COUNT(names); i++)
        (void)unsetenv(names[i]); // NOLINT(concurrency-mt-unsafe)
}

void moon_upgrade_announce(void)
{
    const char *number = getenv(upgrade_ready); // NOLINT(concurrency-mt-unsafe)
    int64_t fd;
    if (number == NULL || !moon_slice_number(moon_slice_text(number), &fd) ||
        fd < UPGRADE_FIRST_FD || fd > INT_MAX)
        return;
    (void)!write((int)fd, "1", 1);
    (void)close((int)fd);
    (void)unsetenv(upgrade_ready); // NOLINT(concurrency-mt-unsafe)
}

bool moon_upgrade_is_one(void)
{
    return getenv(upgrade_ready) != NULL; // NOLINT(concurrency-mt-unsafe)
}
