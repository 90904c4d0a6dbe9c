/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream_impl.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

static enum moon_rc plain_read(struct moon_stream *s, char *room, size_t n, size_t *n_read)
{
    ssize_t got = moon_stream_socket_recv(s, room, n);
    if (got > 0) {
        *n_read = (size_t)got;
        return MOON_OK;
    }
    if (got == 0)
        return MOON_EOF;
    return errno == EAGAIN ? MOON_AGAIN : MOON_ERR_IO;
}

static enum moon_rc plain_send(struct moon_stream *s, const struct iovec *iov, int count,
                               size_t *n_sent)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, // sendmsg only reads it
                             .msg_iovlen = (size_t)count};
    ssize_t sent;
    do
        sent = sendmsg(s->io.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent == -1 && errno == EINTR);
    if (sent == -1)
        return errno == EAGAIN ? MOON_AGAIN : MOON_ERR_IO;
    *n_sent = (size_t)sent;
    return MOON_OK;
}

static enum moon_rc plain_write(struct moon_stream *s, const struct iovec *iov, int count,
                                size_t *n_written)
{
    *n_written = 0;
    while (count > 0) {
        int burst = count < IOV_MAX ? count : IOV_MAX;
        size_t wanted = 0, sent = 0;
        for (int i = 0; i < burst; i++)
            wanted += iov[i].iov_len;
        enum moon_rc rc = plain_send(s, iov, burst, &sent);
        if (rc != MOON_OK)
            return rc;
        *n_written += sent;
        if (sent < wanted) // the socket is full: no second call to hear EAGAIN
            return MOON_AGAIN;
        iov += burst;
        count -= burst;
    }
    return MOON_OK;
}

static bool plain_has_pending(struct moon_stream *s)
{
    (void)s;
    return false;
}

static void plain_nothing(struct moon_stream *s)
{
    (void)s;
}

const struct moon_stream_ops moon_stream_plain_ops = {
    .read = plain_read,
    .write = plain_write,
    .handshake = NULL,
    .has_pending = plain_has_pending,
    .shutdown = plain_nothing,
    .fini = plain_nothing,
};
