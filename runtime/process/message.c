/* SPDX-License-Identifier: Apache-2.0 */
#include "process/message.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

union message_control {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(MOON_MESSAGE_FDS * sizeof(int))];
};

enum moon_rc moon_message_send(int channel, const struct moon_message *message, const int *fds,
                               size_t fd_count)
{
    union message_control control;
    struct iovec part = {(void *)(uintptr_t)message,
                         offsetof(struct moon_message, text) + message->text_len};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    MOON_ASSERT(fd_count <= MOON_MESSAGE_FDS);
    if (fd_count > 0) {
        memset(&control, 0, sizeof(control));
        packet.msg_control = control.bytes;
        packet.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(channel, &packet, MSG_NOSIGNAL);
    while (n == -1 && errno == EINTR);
    return n == -1 ? MOON_ERR_SYSTEM : MOON_OK;
}

enum moon_rc moon_message_say(int channel, enum moon_message_kind kind, uint32_t generation)
{
    struct moon_message message = {.kind = (uint32_t)kind, .generation = generation};
    return moon_message_send(channel, &message, NULL, 0);
}

static void message_take_fds(struct msghdr *packet, int *fds, size_t *fd_count)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(packet); head != NULL;
         head = CMSG_NXTHDR(packet, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        *fd_count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(head), *fd_count * sizeof(int));
    }
}

enum moon_rc moon_message_receive(int channel, struct moon_message *message, int *fds,
                                  size_t *fd_count)
{
    union message_control control;
    struct iovec part = {message, sizeof(*message)};
    struct msghdr packet = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof(control.bytes)};
    *fd_count = 0;
    ssize_t n;
    do
        n = recvmsg(channel, &packet, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (n == -1 && errno == EINTR);
    if (n == -1)
        return errno == EAGAIN || errno == EWOULDBLOCK ? MOON_AGAIN : MOON_ERR_SYSTEM;
    if (n == 0)
        return MOON_EOF;
    message_take_fds(&packet, fds, fd_count);
    bool is_whole = (size_t)n >= offsetof(struct moon_message, text) &&
                    message->text_len < MOON_MESSAGE_TEXT &&
                    (size_t)n == offsetof(struct moon_message, text) + message->text_len &&
                    message->socket_count <= MOON_MESSAGE_SOCKETS;
    if (!is_whole) {
        for (size_t i = 0; i < *fd_count; i++)
            (void)close(fds[i]);
        *fd_count = 0;
        return MOON_ERR_SYSTEM;
    }
    message->text[message->text_len] = '\0';
    return MOON_OK;
}
