/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The listening sockets: for each TCP listener one per worker (SO_REUSEPORT), for a UNIX path one
/// that all share. They are kept across restarts of workers and across generations that have the
/// same listener, and handed over to a new binary.
///
/// Process: supervisor, or the one that serves by itself.

#include "process/facts.h"

enum { MOON_SOCKETS_HELD = 256 };

/// One listener's sockets.
struct moon_socket {
    uint32_t id;                 // never used twice; 0: a free place
    char key[200];               // moon_listener_facts.key
    char text[128];              // bound address, with the real port
    int fds[MOON_BOARD_WORKERS]; // by worker
    int fd_count;                // 1 where all workers share it
    int mode;                    // wanted, of a UNIX socket's file; 0: as the umask leaves it
    bool is_unix;
    bool is_new;    // of the generation being prepared
    bool is_wanted; // by it
};

/// A socket that came from outside: systemd, or the binary before this one.
struct moon_socket_held {
    int fd;        // -1: taken
    char key[200]; // empty: known by its address only
    char text[128];
};

struct moon_sockets {
    struct moon_socket sockets[2 * MOON_GATEWAY_LISTENERS];
    struct moon_socket_held held[MOON_SOCKETS_HELD];
    size_t held_count;
    uint32_t next_id;
    int workers; // sockets for each TCP listener
};

void moon_sockets_init(struct moon_sockets *sockets, int workers);

/// Closes all. @param is_last  nobody else has them: UNIX paths are removed
void moon_sockets_fini(struct moon_sockets *sockets, bool is_last);

/// Binds what `facts` wants and is not bound yet; nothing changes for the others until
/// moon_sockets_commit or moon_sockets_abort.
/// @param error  text for people
MUST_CHECK enum moon_rc moon_sockets_prepare(struct moon_sockets *sockets,
                                             const struct moon_facts *facts, char *error,
                                             size_t error_cap);
/// There are `workers` now: binds what each of them lacks of a socket of its own. What cannot be bound
/// is shared.
void moon_sockets_widen(struct moon_sockets *sockets, const struct moon_facts *facts, int workers);

void moon_sockets_commit(struct moon_sockets *sockets); // closes what is not wanted any more
void moon_sockets_abort(struct moon_sockets *sockets);  // closes what was new

/// The listener's sockets; NULL when there are none.
struct moon_socket *moon_sockets_find(struct moon_sockets *sockets, const char *key);

/// The place in `fds` of the `n`th descriptor that `worker` accepts on; -1: no more. (After an upgrade to fewer workers
/// one may have several.)
int moon_socket_of_worker(const struct moon_sockets *sockets, const struct moon_socket *socket,
                          int worker, int n);

/// Takes a descriptor from outside, for the listener that has its key or address.
void moon_sockets_hold(struct moon_sockets *sockets, int fd, const char *key);
