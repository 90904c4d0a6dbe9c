/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What supervisor and workers say to one another, over a SOCK_SEQPACKET pair each: one message a
/// packet, descriptors beside it.
///
/// Process: any.

#include "gateway/gateway.h"

#include <signal.h>

/// What is said to a worker that may not turn its loop any more.
enum {
    MOON_SIGNAL_PLACE = SIGURG, // say on the board which policy runs
    MOON_SIGNAL_TRACE = SIGQUIT // write to standard error where it is
};

enum moon_message_kind {
    // to a worker
    MOON_MESSAGE_LOAD,   // fds: the bundle, then one for each of `sockets`
    MOON_MESSAGE_FLIP,   // serve from what was loaded
    MOON_MESSAGE_ABORT,  // forget what was loaded
    MOON_MESSAGE_DRAIN,  // finish what is under way, and end
    MOON_MESSAGE_END,    // end now
    MOON_MESSAGE_REOPEN, // the error log
    // from a worker
    MOON_MESSAGE_READY,   // loaded
    MOON_MESSAGE_FAILED,  // not loaded; `text` says why
    MOON_MESSAGE_FLIPPED, // serves it
    MOON_MESSAGE_DRAINS,  // accepts nothing any more
    MOON_MESSAGE_RELOAD,  // somebody asked for a reload
};

enum { MOON_MESSAGE_TEXT = 16384, MOON_MESSAGE_SOCKETS = 200, MOON_MESSAGE_FDS = 201 };

struct moon_message_socket {
    uint32_t id;   // the same for the same socket, in all messages
    int32_t index; // of the listener in the plan
};

struct moon_message {
    uint32_t kind;
    uint32_t generation;
    uint32_t has_access_log;
    uint32_t socket_count;
    struct moon_message_socket sockets[MOON_MESSAGE_SOCKETS];
    uint32_t text_len;
    char text[MOON_MESSAGE_TEXT]; // only text_len bytes of it travel; NUL-terminated when received
};

/// @return MOON_ERR_SYSTEM when it could not be sent (the peer is gone, or does not read)
MUST_CHECK enum moon_rc moon_message_send(int channel, const struct moon_message *message,
                                          const int *fds, size_t fd_count);

/// A message without text or descriptors.
MUST_CHECK enum moon_rc moon_message_say(int channel, enum moon_message_kind kind,
                                         uint32_t generation);

/// @param fds  at least MOON_MESSAGE_FDS; close-on-exec, the caller's
/// @return MOON_OK, MOON_AGAIN, MOON_EOF, MOON_ERR_SYSTEM
MUST_CHECK enum moon_rc moon_message_receive(int channel, struct moon_message *message, int *fds,
                                             size_t *fd_count);
