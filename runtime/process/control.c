/* SPDX-License-Identifier: Apache-2.0 */

/// The supervisor's side of `moongate reload`, `status` and `upgrade`: a line comes in, the answer
/// goes out ("ok" or "failed" on a line of its own, then text), the connection closes.

#include "base/list.h"
#include "base/log.h"
#include "process/control_path.h"
#include "process/status.h"
#include "process/supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CONTROL_LINE_BYTES = 64,
    CONTROL_CALLERS = 32,
    CONTROL_PATIENCE_MS = 120000,
    CONTROL_BACKLOG = 16,
    CONTROL_STATUS_BYTES = 262144,
};

enum control_wait {
    CONTROL_READS,   // for its line
    CONTROL_ASKED,   // for a reload that begins after it asked
    CONTROL_RELOADS, // for the outcome of the one under way
    CONTROL_UPGRADES,
};

struct control_caller {
    struct moon_list link;
    struct moon_control *control;
    struct moon_io io;
    struct moon_timer timer;
    enum control_wait waits_for;
    size_t used;
    char line[CONTROL_LINE_BYTES];
};

struct moon_control {
    struct moon_supervisor *supervisor;
    struct moon_io io;
    struct moon_list callers;
    int caller_count;
    struct sockaddr_un address;
    ino_t inode; // of our socket: a successor may have put its own there
};

static void caller_free(struct control_caller *caller)
{
    moon_io_stop(&caller->io);
    moon_timer_stop(&caller->timer);
    (void)close(caller->io.fd);
    moon_list_remove(&caller->link);
    caller->control->caller_count--;
    free(caller);
}

static void caller_answer(struct control_caller *caller, bool is_ok, const char *text)
{
    const char *head = is_ok ? "ok\n" : "failed\n";
    // A few kilobytes, which the socket's buffer takes; who does not read them misses them.
    if (send(caller->io.fd, head, strlen(head), MSG_NOSIGNAL) == -1 ||
        send(caller->io.fd, text, strlen(text), MSG_NOSIGNAL) == -1)
        moon_log_warn("control: an answer was not taken: %m");
    caller_free(caller);
}

static void control_tell(struct moon_control *control, enum control_wait what, bool is_ok,
                         const char *text)
{
    if (control == NULL)
        return;
    MOON_LIST_EACH(at, after, &control->callers)
    {
        struct control_caller *caller = MOON_LIST_ENTRY(at, struct control_caller, link);
        if (caller->waits_for == what)
            caller_answer(caller, is_ok, text);
    }
}

void moon_control_reload_starts(struct moon_control *control)
{
    if (control == NULL)
        return;
    MOON_LIST_EACH(at, after, &control->callers)
    {
        struct control_caller *caller = MOON_LIST_ENTRY(at, struct control_caller, link);
        if (caller->waits_for == CONTROL_ASKED)
            caller->waits_for = CONTROL_RELOADS;
    }
}

void moon_control_refuse(struct moon_control *control, const char *text)
{
    control_tell(control, CONTROL_ASKED, false, text);
}

void moon_control_tell(struct moon_control *control, bool is_ok, const char *text)
{
    control_tell(control, CONTROL_RELOADS, is_ok, text);
}

void moon_control_tell_upgrade(struct moon_control *control, bool is_ok, const char *text)
{
    control_tell(control, CONTROL_UPGRADES, is_ok, text);
}

static void caller_status(struct control_caller *caller, bool is_json)
{
    char *text = malloc(CONTROL_STATUS_BYTES);
    if (text == NULL) {
        caller_answer(caller, false, "out of memory");
        return;
    }
    moon_status_write(caller->control->supervisor, is_json, text, CONTROL_STATUS_BYTES);
    caller_answer(caller, true, text);
    free(text);
}

static void caller_obey(struct control_caller *caller)
{
    struct moon_supervisor *supervisor = caller->control->supervisor;
    if (strcmp(caller->line, "reload") == 0) {
        caller->waits_for = CONTROL_ASKED;
        moon_io_watch(&caller->io, 0);
        moon_reload_request(supervisor, "moongate reload");
    } else if (strcmp(caller->line, "upgrade") == 0) {
        caller->waits_for = CONTROL_UPGRADES;
        moon_io_watch(&caller->io, 0);
        moon_upgrade_request(supervisor);
    } else if (strcmp(caller->line, "status") == 0) {
        caller_status(caller, false);
    } else if (strcmp(caller->line, "status json") == 0) {
        caller_status(caller, true);
    } else {
        caller_answer(caller, false, "this version does not know the command");
    }
}

static void caller_readable(struct moon_io *io, int events)
{
    (void)events;
    struct control_caller *caller = io->owner;
    ssize_t n = read(io->fd, caller->line + caller->used, sizeof(caller->line) - 1 - caller->used);
    if (n == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        caller_free(caller);
        return;
    }
    caller->used += (size_t)n;
    caller->line[caller->used] = '\0';
    char *end = strchr(caller->line, '\n');
    if (end != NULL) {
        *end = '\0';
        caller_obey(caller);
    } else if (caller->used == sizeof(caller->line) - 1) {
        caller_free(caller);
    }
}

static void caller_late(struct moon_timer *timer)
{
    caller_answer(timer->owner, false, "no outcome yet: see the log");
}

// The folder lets nobody else in; where it does, root and this user are still the only ones heard.
static bool control_is_allowed(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static void control_accept(struct moon_io *io, int events)
{
    (void)events;
    struct moon_control *control = io->owner;
    int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd == -1)
        return;
    struct control_caller *caller = NULL;
    if (control_is_allowed(fd) && control->caller_count < CONTROL_CALLERS)
        caller = calloc(1, sizeof(*caller));
    if (caller == NULL) {
        (void)close(fd);
        return;
    }
    caller->control = control;
    moon_list_push_back(&control->callers, &caller->link);
    control->caller_count++;
    moon_io_init(&caller->io, io->loop, fd, caller_readable, caller);
    moon_timer_init(&caller->timer, io->loop, caller_late, caller);
    moon_timer_set(&caller->timer, CONTROL_PATIENCE_MS);
    moon_io_watch(&caller->io, MOON_IO_READ);
}

static bool control_is_taken(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool is_taken =
        fd != -1 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
    if (fd != -1)
        (void)close(fd);
    return is_taken && !moon_upgrade_is_one();
}

/// Binds beside the path and moves the socket there, so that there is always one.
static int control_bind(const struct sockaddr_un *address, ino_t *inode)
{
    struct sockaddr_un beside = *address;
    struct stat st;
    size_t len = strlen(address->sun_path);
    memcpy(beside.sun_path + len - 4, "new", 4); // for "sock"
    (void)unlink(beside.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return -1;
    if (bind(fd, (const struct sockaddr *)&beside, sizeof(beside)) == -1 ||
        chmod(beside.sun_path, 0600) == -1 || listen(fd, CONTROL_BACKLOG) == -1 ||
        stat(beside.sun_path, &st) == -1 || rename(beside.sun_path, address->sun_path) == -1) {
        (void)close(fd);
        return -1;
    }
    *inode = st.st_ino;
    return fd;
}

struct moon_control *moon_control_new(struct moon_supervisor *supervisor)
{
    char error[512];
    struct sockaddr_un address;
    ino_t inode = 0;
    int fd = -1;
    if (moon_control_path(supervisor->dir, true, &address, error, sizeof(error)) != MOON_OK) {
        moon_log_warn("`moongate reload` will not find this gateway: %s", error);
        return NULL;
    }
    if (control_is_taken(&address))
        moon_log_warn("`moongate reload` reaches another gateway that serves this directory");
    else if ((fd = control_bind(&address, &inode)) == -1)
        moon_log_warn("%s: %m", address.sun_path);
    struct moon_control *control = fd == -1 ? NULL : calloc(1, sizeof(*control));
    if (control == NULL)
        return NULL;
    control->supervisor = supervisor;
    control->address = address;
    control->inode = inode;
    moon_list_init(&control->callers);
    moon_io_init(&control->io, supervisor->loop, fd, control_accept, control);
    moon_io_watch(&control->io, MOON_IO_READ);
    return control;
}

void moon_control_free(struct moon_control *control, bool is_last)
{
    struct stat st;
    if (control == NULL)
        return;
    MOON_LIST_EACH(at, after, &control->callers)
    caller_free(MOON_LIST_ENTRY(at, struct control_caller, link));
    moon_io_stop(&control->io);
    (void)close(control->io.fd);
    if (is_last && stat(control->address.sun_path, &st) == 0 && st.st_ino == control->inode)
        (void)unlink(control->address.sun_path);
    free(control);
}
