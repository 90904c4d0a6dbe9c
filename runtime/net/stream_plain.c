/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream_impl.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
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

// What is small is gathered here: send costs the kernel less than sendmsg does, by more than the copy.
enum { PLAIN_GATHER_BYTES = 2048 };

static ssize_t plain_send_once(int fd, const struct iovec *iov, int count, size_t total)
{
    if (count == 1)
        return send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (total <= PLAIN_GATHER_BYTES) {
        char gathered[PLAIN_GATHER_BYTES];
        size_t n = 0;
        for (int i = 0; i < count; i++) {
            if (iov[i].iov_len > 0)
                memcpy(gathered + n, iov[i].iov_base, iov[i].iov_len);
            n += iov[i].iov_len;
        }
        return send(fd, gathered, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, // sendmsg only reads it
                             .msg_iovlen = (size_t)count};
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static enum moon_rc plain_send(struct moon_stream *s, const struct iovec *iov, int count,
                               size_t total, size_t *n_sent)
{
    ssize_t sent;
    do
        sent = plain_send_once(s->io.fd, iov, count, total);
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
        enum moon_rc rc = plain_send(s, iov, burst, wanted, &sent);
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

static bool plain_has_ended(struct moon_stream *s)
{
    char byte;
    ssize_t n;
    do
        n = recv(s->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    while (n == -1 && errno == EINTR);
    return n == 0 || (n == -1 && errno != EAGAIN);
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
    .has_ended = plain_has_ended,
    .shutdown = plain_nothing,
    .fini = plain_nothing,
};
