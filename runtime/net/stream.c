/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include "base/log.h"
#include "net/stream_impl.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    STREAM_QUEUE_CEILING = 256 * 1024 * 1024, // far above any one write; a ceiling against bugs
    STREAM_KEPT = 256,                        // structs that wait for reuse
};

static struct moon_stream *stream_kept;
static size_t stream_kept_count;

static struct moon_stream *stream_get(void)
{
    struct moon_stream *s = stream_kept;
    if (s == NULL)
        return malloc(sizeof(*s));
    stream_kept = s->next_free;
    stream_kept_count--;
    return s;
}

static void stream_put(struct moon_stream *s)
{
    if (MOON_ASAN || stream_kept_count >= STREAM_KEPT) {
        free(s);
        return;
    }
    s->next_free = stream_kept;
    stream_kept = s;
    stream_kept_count++;
}

ssize_t moon_stream_socket_recv(struct moon_stream *s, void *into, size_t n)
{
    ssize_t got;
    do
        got = recv(s->io.fd, into, n, MSG_DONTWAIT);
    while (got == -1 && errno == EINTR);
    // A short read has drained the socket: the next one waits for epoll instead of for EAGAIN.
    s->may_have_input = got >= 0 && (size_t)got == n;
    return got;
}

ssize_t moon_stream_socket_send(struct moon_stream *s, const void *from, size_t n)
{
    ssize_t sent;
    do
        sent = send(s->io.fd, from, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent == -1 && errno == EINTR);
    return sent;
}

// What is watched follows from the state alone.
static void stream_watch(struct moon_stream *s)
{
    int events = 0;
    switch (s->state) {
    case STREAM_CONNECTING:
        events = MOON_IO_WRITE;
        break;
    case STREAM_HANDSHAKING:
        events = MOON_IO_READ | (s->wants_write_to_read ? MOON_IO_WRITE : 0);
        break;
    case STREAM_OPEN:
        if (!s->is_paused && !s->is_read_ended)
            events |= MOON_IO_READ;
        if (moon_buf_len(&s->queue) > 0 || s->wants_write_to_read)
            events |= MOON_IO_WRITE;
        break;
    case STREAM_FAILED:
        break;
    }
    moon_io_watch(&s->io, events);
}

static void stream_fail(struct moon_stream *s, enum moon_rc rc)
{
    s->state = STREAM_FAILED;
    s->failure = rc;
    moon_buf_clear(&s->queue);
    moon_buf_relax(&s->queue);
    moon_io_stop(&s->io);
}

static void stream_shutdown_now(struct moon_stream *s)
{
    if (s->is_shutdown_done || s->state != STREAM_OPEN || moon_buf_len(&s->queue) > 0)
        return;
    s->is_shutdown_done = true;
    s->ops->shutdown(s);
    (void)shutdown(s->io.fd, SHUT_WR); // ENOTCONN: the peer was faster
}

/// Sends what is queued. @return MOON_OK (empty now), MOON_AGAIN, or what broke the stream
static enum moon_rc stream_flush(struct moon_stream *s)
{
    struct moon_slice queued = moon_buf_slice(&s->queue);
    if (queued.len > 0) {
        struct iovec iov = {.iov_base = (void *)(uintptr_t)queued.data, .iov_len = queued.len};
        size_t written = 0;
        enum moon_rc rc = s->ops->write(s, &iov, 1, &written);
        if (rc != MOON_OK && rc != MOON_AGAIN) {
            stream_fail(s, rc);
            return rc;
        }
        moon_buf_consume(&s->queue, written);
        s->bytes_out += written;
        if (rc == MOON_AGAIN)
            return MOON_AGAIN;
        moon_buf_relax(&s->queue);
    }
    if (s->is_shutdown_wanted)
        stream_shutdown_now(s);
    return MOON_OK;
}

static void stream_destroy(struct moon_stream *s)
{
    s->ops->fini(s);
    moon_buf_fini(&s->queue);
    stream_put(s);
}

static void stream_enter(struct moon_stream *s)
{
    s->callback_depth++;
}

/// After callbacks: the stream may have been freed by one of them.
static void stream_leave(struct moon_stream *s)
{
    s->callback_depth--;
    if (!s->is_dead)
        stream_watch(s);
    else if (s->callback_depth == 0)
        stream_destroy(s);
}

static void stream_tell_readable(struct moon_stream *s)
{
    if (s->is_dead)
        return;
    s->events->on_readable(s->owner);
    // Bytes inside the stream are not seen by epoll; behave as if they were.
    if (!s->is_dead && s->state == STREAM_OPEN && !s->is_paused && !s->is_read_ended &&
        s->ops->has_pending(s))
        moon_task_post(s->io.loop, &s->again);
}

static void stream_tell_writable(struct moon_stream *s)
{
    if (!s->is_dead)
        s->events->on_writable(s->owner);
}

static void stream_run_again(struct moon_task *task)
{
    struct moon_stream *s = task->owner;
    if (s->is_paused)
        return;
    stream_enter(s);
    stream_tell_readable(s);
    stream_leave(s);
}

/// The connection (and handshake) is over, one way or the other.
static void stream_tell_outcome(struct moon_stream *s)
{
    if (s->state == STREAM_OPEN) {
        enum moon_rc rc = stream_flush(s);
        if (rc == MOON_AGAIN && s->is_client)
            return; // on_writable follows when the queue is out
    }
    if (s->is_client)
        stream_tell_writable(s);
    if (!s->is_dead && (!s->is_client || (s->state == STREAM_OPEN && s->ops->has_pending(s))))
        stream_tell_readable(s);
}

static void stream_handshake(struct moon_stream *s)
{
    enum moon_rc rc = s->ops->handshake(s);
    if (rc == MOON_AGAIN)
        return;
    s->wants_write_to_read = false;
    if (rc == MOON_OK)
        s->state = STREAM_OPEN;
    else
        stream_fail(s, rc);
    stream_tell_outcome(s);
}

// A new connection takes a hundred bytes at once, or something is wrong with it.
static bool stream_send_preamble(struct moon_stream *s)
{
    if (s->preamble == NULL)
        return true;
    ssize_t n = moon_stream_socket_send(s, s->preamble, s->preamble_len);
    bool is_sent = n == (ssize_t)s->preamble_len;
    free(s->preamble);
    s->preamble = NULL;
    return is_sent;
}

static void stream_connected(struct moon_stream *s)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(s->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
        error = errno;
    if (error == EINPROGRESS || error == EAGAIN)
        return;
    if (error != 0) {
        stream_fail(s, error == ECONNREFUSED ? MOON_ERR_REFUSED : MOON_ERR_CONNECT);
        stream_tell_outcome(s);
        return;
    }
    if (!stream_send_preamble(s)) {
        stream_fail(s, MOON_ERR_CONNECT);
        stream_tell_outcome(s);
        return;
    }
    s->may_have_input = false; // nothing can have come yet
    if (s->ops->handshake != NULL) {
        s->state = STREAM_HANDSHAKING;
        stream_handshake(s);
        return;
    }
    s->state = STREAM_OPEN;
    stream_tell_outcome(s);
}

static void stream_move(struct moon_stream *s, int events)
{
    bool had_queue = moon_buf_len(&s->queue) > 0;
    if ((events & MOON_IO_WRITE) != 0) {
        if (s->wants_write_to_read) {
            s->wants_write_to_read = false;
            events |= MOON_IO_READ;
        }
        enum moon_rc rc = had_queue ? stream_flush(s) : MOON_AGAIN;
        if (rc == MOON_OK)
            stream_tell_writable(s);
        else if (rc != MOON_AGAIN)
            events |= MOON_IO_READ; // moon_stream_read tells the error
    }
    bool is_listening = !s->is_paused || s->state == STREAM_FAILED;
    if ((events & MOON_IO_READ) != 0 && !s->is_dead && is_listening)
        stream_tell_readable(s);
}

static void stream_ready(struct moon_io *io, int events)
{
    struct moon_stream *s = io->owner;
    if ((events & MOON_IO_READ) != 0)
        s->may_have_input = true;
    stream_enter(s);
    switch (s->state) {
    case STREAM_CONNECTING:
        stream_connected(s);
        break;
    case STREAM_HANDSHAKING:
        stream_handshake(s);
        break;
    case STREAM_OPEN:
        stream_move(s, events);
        break;
    case STREAM_FAILED:
        break;
    }
    stream_leave(s);
}

static void stream_init(struct moon_stream *s, struct moon_loop *loop, int fd,
                        const struct moon_stream_events *events, void *owner)
{
    *s = (struct moon_stream){.ops = &moon_stream_plain_ops,
                              .events = events,
                              .owner = owner,
                              .state = STREAM_OPEN,
                              .may_have_input = true};
    moon_io_init(&s->io, loop, fd, stream_ready, s);
    moon_task_init(&s->again, stream_run_again, s);
    moon_buf_init(&s->queue, STREAM_QUEUE_CEILING);
}

struct moon_stream *moon_stream_accept(struct moon_loop *loop, int fd, struct moon_tls_server *tls,
                                       const struct moon_stream_events *events, void *owner)
{
    struct moon_stream *s = stream_get();
    if (s == NULL) {
        (void)close(fd);
        return NULL;
    }
    stream_init(s, loop, fd, events, owner);
    if (tls != NULL) {
        s->state = STREAM_HANDSHAKING;
        if (moon_stream_tls_accept(s, tls) != MOON_OK) {
            moon_stream_free(s);
            return NULL;
        }
    }
    stream_watch(s);
    return s;
}

static int stream_open_socket(const struct sockaddr *address, socklen_t address_len)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return -1;
    int on = 1;
    if (address->sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
                         sizeof(on)); // slower without, not wrong
    int rc;
    do
        rc = connect(fd, address, address_len);
    while (rc == -1 && errno == EINTR);
    if (rc == 0 || errno == EINPROGRESS)
        return fd;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

enum moon_rc moon_stream_connect(struct moon_loop *loop, const struct sockaddr *address,
                                 socklen_t address_len, struct moon_tls_client *tls,
                                 const char *name, const struct moon_stream_events *events,
                                 void *owner, struct moon_stream **out)
{
    int fd = stream_open_socket(address, address_len);
    if (fd == -1) {
        moon_log_debug("stream: connect: %m");
        return errno == ECONNREFUSED ? MOON_ERR_REFUSED : MOON_ERR_CONNECT;
    }
    struct moon_stream *s = stream_get();
    if (s == NULL) {
        (void)close(fd);
        return MOON_ERR_MEMORY;
    }
    stream_init(s, loop, fd, events, owner);
    s->is_client = true;
    s->state = STREAM_CONNECTING;
    if (tls != NULL) {
        enum moon_rc rc = moon_stream_tls_connect(s, tls, name, address, address_len);
        if (rc != MOON_OK) {
            moon_stream_free(s);
            return rc;
        }
    }
    stream_watch(s);
    *out = s; // ownership passes here
    return MOON_OK;
}

enum moon_rc moon_stream_preamble(struct moon_stream *stream, struct moon_slice bytes)
{
    MOON_ASSERT(stream->is_client && stream->state == STREAM_CONNECTING);
    char *copy = malloc(bytes.len + 1);
    if (copy == NULL)
        return MOON_ERR_MEMORY;
    memcpy(copy, bytes.data, bytes.len);
    free(stream->preamble);
    stream->preamble = copy;
    stream->preamble_len = bytes.len;
    return MOON_OK;
}

static void stream_close(struct moon_stream *s)
{
    free(s->preamble);
    s->preamble = NULL;
    moon_task_cancel(&s->again);
    moon_io_stop(&s->io);
    if (s->io.fd != -1)
        (void)close(s->io.fd);
    s->io.fd = -1;
}

void moon_stream_free(struct moon_stream *stream)
{
    if (stream == NULL)
        return;
    MOON_ASSERT(!stream->is_dead);
    if (stream->state == STREAM_OPEN && !stream->is_shutdown_done &&
        moon_buf_len(&stream->queue) == 0)
        stream->ops->shutdown(stream); // close_notify
    stream_close(stream);
    stream->is_dead = true;
    if (stream->callback_depth == 0)
        stream_destroy(stream);
}

void moon_stream_abort(struct moon_stream *stream)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (stream->io.fd != -1)
        (void)setsockopt(stream->io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    stream_fail(stream, MOON_ERR_IO);
    stream_close(stream);
}

void moon_stream_set_owner(struct moon_stream *stream, const struct moon_stream_events *events,
                           void *owner)
{
    stream->events = events;
    stream->owner = owner;
}

enum moon_rc moon_stream_state(const struct moon_stream *stream)
{
    switch (stream->state) {
    case STREAM_CONNECTING:
    case STREAM_HANDSHAKING:
        return MOON_AGAIN;
    case STREAM_OPEN:
        return MOON_OK;
    case STREAM_FAILED:
        break;
    }
    return stream->failure;
}

static void stream_end_reading(struct moon_stream *s, enum moon_rc rc)
{
    s->is_read_ended = true; // an end stays readable for epoll: stop listening for it
    if (rc != MOON_EOF)
        stream_fail(s, rc);
    else
        stream_watch(s);
}

enum moon_rc moon_stream_read(struct moon_stream *stream, struct moon_buf *into, size_t most,
                              size_t *n_read)
{
    *n_read = 0;
    if (stream->state != STREAM_OPEN)
        return moon_stream_state(stream);
    if (stream->is_read_ended)
        return MOON_EOF;
    if (!stream->may_have_input && !stream->ops->has_pending(stream))
        return MOON_AGAIN;
    char *room;
    size_t n;
    enum moon_rc rc = moon_buf_room(into, most, &room, &n);
    if (rc != MOON_OK)
        return rc;
    rc = stream->ops->read(stream, room, n, n_read);
    if (rc == MOON_OK) {
        moon_buf_wrote(into, *n_read);
    } else if (rc != MOON_AGAIN) {
        stream_end_reading(stream, rc);
    } else if (stream->wants_write_to_read) {
        stream_watch(stream);
    }
    return rc;
}

// Copies what follows the first `skip` bytes of `iov` to the queue. @return MOON_ERR_MEMORY
static enum moon_rc stream_enqueue(struct moon_stream *s, const struct iovec *iov, int count,
                                   size_t skip)
{
    for (int i = 0; i < count; i++) {
        size_t left_out = moon_min_size(skip, iov[i].iov_len);
        skip -= left_out;
        struct moon_slice rest =
            moon_slice((const char *)iov[i].iov_base + left_out, iov[i].iov_len - left_out);
        if (rest.len > 0 && moon_buf_append(&s->queue, rest) != MOON_OK)
            return MOON_ERR_MEMORY;
    }
    return MOON_OK;
}

enum moon_rc moon_stream_write(struct moon_stream *stream, const struct iovec *iov, int count)
{
    if (stream->state == STREAM_FAILED)
        return stream->failure;
    if (stream->is_shutdown_wanted)
        return MOON_ERR_IO;
    size_t written = 0;
    bool may_send = stream->state == STREAM_OPEN && moon_buf_len(&stream->queue) == 0;
    enum moon_rc rc = may_send ? stream->ops->write(stream, iov, count, &written) : MOON_AGAIN;
    stream->bytes_out += written;
    if (rc == MOON_OK)
        return MOON_OK;
    if (rc == MOON_AGAIN) {
        rc = stream_enqueue(stream, iov, count, written);
        if (rc == MOON_OK) {
            stream_watch(stream);
            return MOON_AGAIN;
        }
    }
    stream_fail(stream, rc);
    return rc;
}

size_t moon_stream_queued(const struct moon_stream *stream)
{
    return moon_buf_len(&stream->queue);
}

void moon_stream_pause_reading(struct moon_stream *stream, bool is_paused)
{
    if (stream->is_paused == is_paused)
        return;
    stream->is_paused = is_paused;
    if (stream->state != STREAM_OPEN)
        return;
    if (!is_paused && !stream->is_read_ended && stream->ops->has_pending(stream))
        moon_task_post(stream->io.loop, &stream->again);
    stream_watch(stream);
}

bool moon_stream_is_due(const struct moon_stream *stream)
{
    return moon_io_is_pending(&stream->io);
}

void moon_stream_hasten(struct moon_stream *stream)
{
    moon_io_hasten(&stream->io);
}

bool moon_stream_has_ended(struct moon_stream *stream)
{
    if (stream->is_read_ended || stream->state == STREAM_FAILED)
        return true;
    if (stream->state != STREAM_OPEN)
        return false;
    bool has_ended = stream->ops->has_ended(stream);
    if (stream->ops->has_pending(stream)) // epoll does not tell of what the look has taken in
        moon_task_post(stream->io.loop, &stream->again);
    return has_ended;
}

bool moon_stream_has_pending(const struct moon_stream *stream)
{
    struct moon_stream *s = (struct moon_stream *)(uintptr_t)stream; // OpenSSL takes no const
    return s->state == STREAM_OPEN && s->ops->has_pending(s);
}

void moon_stream_shutdown_write(struct moon_stream *stream)
{
    if (stream->is_shutdown_wanted)
        return;
    stream->is_shutdown_wanted = true;
    stream_shutdown_now(stream);
}

int moon_stream_fd(const struct moon_stream *stream)
{
    return stream->io.fd;
}

uint64_t moon_stream_bytes_read(const struct moon_stream *stream)
{
    int unread = 0;
    if (ioctl(stream->io.fd, SIOCOUTQ, &unread) == -1 || unread < 0)
        unread = 0;
    return stream->bytes_out > (uint64_t)unread ? stream->bytes_out - (uint64_t)unread : 0;
}
