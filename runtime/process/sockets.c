/* SPDX-License-Identifier: Apache-2.0 */
#include "process/sockets.h"

#include "base/log.h"

#include <fcntl.h>
#include <unistd.h>

void moon_sockets_init(struct moon_sockets *sockets, int workers)
{
    memset(sockets, 0, sizeof(*sockets));
    sockets->workers = workers;
}

static void socket_close(struct moon_socket *socket, bool is_last)
{
    if (socket->id == 0)
        return;
    for (int i = 0; i < socket->fd_count; i++)
        (void)close(socket->fds[i]);
    if (is_last && socket->is_unix && strncmp(socket->text, "unix:", 5) == 0)
        (void)unlink(socket->text + 5);
    *socket = (struct moon_socket){0};
}

static void sockets_drop_held(struct moon_sockets *sockets)
{
    for (size_t i = 0; i < sockets->held_count; i++) {
        if (sockets->held[i].fd != -1)
            (void)close(sockets->held[i].fd);
    }
    sockets->held_count = 0;
}

void moon_sockets_fini(struct moon_sockets *sockets, bool is_last)
{
    for (size_t i = 0; i < MOON_COUNT(sockets->sockets); i++)
        socket_close(&sockets->sockets[i], is_last);
    sockets_drop_held(sockets);
}

struct moon_socket *moon_sockets_find(struct moon_sockets *sockets, const char *key)
{
    for (size_t i = 0; i < MOON_COUNT(sockets->sockets); i++) {
        if (sockets->sockets[i].id != 0 && strcmp(sockets->sockets[i].key, key) == 0)
            return &sockets->sockets[i];
    }
    return NULL;
}

static struct moon_socket *sockets_free_place(struct moon_sockets *sockets)
{
    for (size_t i = 0; i < MOON_COUNT(sockets->sockets); i++) {
        if (sockets->sockets[i].id == 0)
            return &sockets->sockets[i];
    }
    return NULL;
}

void moon_sockets_hold(struct moon_sockets *sockets, int fd, const char *key)
{
    if (sockets->held_count == MOON_SOCKETS_HELD) {
        (void)close(fd);
        return;
    }
    struct moon_socket_held *held = &sockets->held[sockets->held_count++];
    *held = (struct moon_socket_held){.fd = fd};
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)snprintf(held->key, sizeof(held->key), "%s", key);
    moon_listen_text(fd, held->text, sizeof(held->text));
}

// Whether a socket that systemd bound is the one for an address. Its ListenStream=8080 is "*:8080", and
// may be written "[::]:8080" or "0.0.0.0:8080" in the configuration.
static bool socket_fits(const char *bound, const char *wanted)
{
    static const char *const all[] = {"[::]", "0.0.0.0"};
    bool fits = strcmp(bound, wanted) == 0;
    for (size_t i = 0; !fits && bound[0] == '*' && i < MOON_COUNT(all); i++)
        fits = strncmp(wanted, all[i], strlen(all[i])) == 0 &&
               strcmp(wanted + strlen(all[i]), bound + 1) == 0;
    return fits;
}

// What came from outside and belongs to this listener.
static void socket_take_held(struct moon_sockets *sockets, struct moon_socket *socket,
                             const struct moon_listen_address *address)
{
    for (size_t i = 0; i < sockets->held_count; i++) {
        struct moon_socket_held *held = &sockets->held[i];
        bool is_ours = held->key[0] != '\0' ? strcmp(held->key, socket->key) == 0
                                            : socket_fits(held->text, address->text);
        if (held->fd == -1 || !is_ours || socket->fd_count == MOON_BOARD_WORKERS)
            continue;
        socket->fds[socket->fd_count++] = held->fd;
        held->fd = -1;
    }
}

// "127.0.0.1:80" may become "0.0.0.0:80" in a reload: then who is there is this gateway itself.
static bool sockets_has_port(const struct moon_sockets *sockets,
                             const struct moon_listen_address *address)
{
    struct moon_slice text = moon_slice_text(address->text);
    for (size_t i = 0; i < MOON_COUNT(sockets->sockets); i++) {
        const struct moon_socket *socket = &sockets->sockets[i];
        char port[8];
        if (socket->id == 0 || socket->is_unix || socket->is_new || socket->fd_count == 0)
            continue;
        (void)snprintf(port, sizeof(port), ":%u", moon_listen_port(socket->fds[0]));
        if (moon_slice_ends(text, moon_slice_text(port)))
            return true;
    }
    return false;
}

// SO_REUSEPORT would let a second gateway of the same user in: see that nobody is there.
static enum moon_rc socket_probe(const struct moon_sockets *sockets,
                                 const struct moon_listen_address *address, char *error, size_t cap)
{
    int fd;
    if (moon_slice_ends(moon_slice_text(address->text), MOON_S(":0")) ||
        sockets_has_port(sockets, address))
        return MOON_OK;
    enum moon_rc rc = moon_listen_bind(address, 1, false, error, cap, &fd);
    if (rc == MOON_OK)
        (void)close(fd);
    return rc;
}

static bool socket_is_reuseport(int fd)
{
    int on = 0;
    socklen_t len = sizeof(on);
    return getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &len) == 0 && on != 0;
}

static enum moon_rc socket_bind(struct moon_sockets *sockets, struct moon_socket *socket,
                                const struct moon_listener_facts *facts, char *error, size_t cap)
{
    struct moon_listen_address address;
    if (moon_listen_address_parse(facts->address, &address) != MOON_OK) {
        (void)snprintf(error, cap, "expected an address to listen on, got \"%s\"", facts->address);
        return MOON_ERR_CONFIG;
    }
    socket->is_unix = address.sa.ss_family == AF_UNIX;
    socket->mode = facts->mode;
    address.mode = (mode_t)facts->mode;
    socket_take_held(sockets, socket, &address);
    int wanted = socket->is_unix ? 1 : sockets->workers;
    bool is_reuseport = !socket->is_unix; // even for one worker: there may be more after a reload
    if (is_reuseport && socket->fd_count == 0) {
        enum moon_rc rc = socket_probe(sockets, &address, error, cap);
        if (rc != MOON_OK)
            return rc;
    }
    // What systemd bound usually lacks SO_REUSEPORT: then all workers share it.
    bool is_given = socket->fd_count > 0 && !socket_is_reuseport(socket->fds[0]);
    if (socket->fd_count > 0 && !socket->is_unix) {
        // The port that it has, where the system is to choose one.
        moon_listen_text(socket->fds[0], socket->text, sizeof(socket->text));
        if (moon_listen_address_parse(socket->text, &address) != MOON_OK)
            return MOON_ERR_SYSTEM;
    }
    while (socket->fd_count < wanted && !is_given) {
        enum moon_rc rc = moon_listen_bind(&address, facts->backlog, is_reuseport, error, cap,
                                           &socket->fds[socket->fd_count]);
        if (rc != MOON_OK)
            return rc;
        moon_listen_text(socket->fds[socket->fd_count++], socket->text, sizeof(socket->text));
        if (!socket->is_unix && moon_listen_address_parse(socket->text, &address) != MOON_OK)
            return MOON_ERR_SYSTEM; // the next ones take the port that the first one got
    }
    moon_listen_text(socket->fds[0], socket->text, sizeof(socket->text));
    return MOON_OK;
}

void moon_sockets_widen(struct moon_sockets *sockets, const struct moon_facts *facts, int workers)
{
    char error[512];
    sockets->workers = workers;
    for (size_t i = 0; i < facts->listener_count; i++) {
        const struct moon_listener_facts *listener = &facts->listeners[i];
        struct moon_socket *socket = moon_sockets_find(sockets, listener->key);
        struct moon_listen_address address;
        if (socket == NULL || socket->is_unix || !socket_is_reuseport(socket->fds[0]) ||
            moon_listen_address_parse(socket->text, &address) != MOON_OK)
            continue;
        while (socket->fd_count < workers) {
            if (moon_listen_bind(&address, listener->backlog, true, error, sizeof(error),
                                 &socket->fds[socket->fd_count]) != MOON_OK) {
                moon_log_warn("the new workers share their sockets with the others: %s", error);
                break;
            }
            socket->fd_count++;
        }
    }
}

enum moon_rc moon_sockets_prepare(struct moon_sockets *sockets, const struct moon_facts *facts,
                                  char *error, size_t error_cap)
{
    for (size_t i = 0; i < MOON_COUNT(sockets->sockets); i++)
        sockets->sockets[i].is_new = sockets->sockets[i].is_wanted = false;
    for (size_t i = 0; i < facts->listener_count; i++) {
        const struct moon_listener_facts *listener = &facts->listeners[i];
        struct moon_socket *socket = moon_sockets_find(sockets, listener->key);
        if (socket != NULL) {
            socket->is_wanted = true;
            socket->mode = listener->mode;
            continue;
        }
        socket = sockets_free_place(sockets);
        if (socket == NULL) {
            (void)snprintf(error, error_cap, "too many listeners");
            return MOON_ERR_LIMIT;
        }
        socket->id = ++sockets->next_id;
        socket->is_new = socket->is_wanted = true;
        (void)snprintf(socket->key, sizeof(socket->key), "%s", listener->key);
        char reason[256] = "it cannot be bound";
        enum moon_rc rc = socket_bind(sockets, socket, listener, reason, sizeof(reason));
        if (rc != MOON_OK) {
            (void)snprintf(error, error_cap, "%s.address: %s", listener->place, reason);
            moon_sockets_abort(sockets);
            return rc;
        }
    }
    return MOON_OK;
}

// One that a reload kept, or that came from outside, was bound with other permissions.
static void socket_set_mode(const struct moon_socket *socket)
{
    struct moon_listen_address address;
    if (!socket->is_unix || socket->mode == 0 ||
        moon_listen_address_parse(socket->text, &address) != MOON_OK)
        return;
    address.mode = (mode_t)socket->mode;
    if (moon_listen_set_mode(&address) == -1)
        moon_log_warn("%s: its permissions cannot be set: %m", socket->text);
}

void moon_sockets_commit(struct moon_sockets *sockets)
{
    for (size_t i = 0; i < MOON_COUNT(sockets->sockets); i++) {
        if (!sockets->sockets[i].is_wanted)
            socket_close(&sockets->sockets[i], true);
        else
            socket_set_mode(&sockets->sockets[i]);
        sockets->sockets[i].is_new = false;
    }
    sockets_drop_held(sockets);
}

void moon_sockets_abort(struct moon_sockets *sockets)
{
    for (size_t i = 0; i < MOON_COUNT(sockets->sockets); i++) {
        if (sockets->sockets[i].is_new)
            socket_close(&sockets->sockets[i], true);
    }
}

int moon_socket_of_worker(const struct moon_sockets *sockets, const struct moon_socket *socket,
                          int worker, int n)
{
    if (socket->fd_count < sockets->workers) // shared
        return n < socket->fd_count ? n : -1;
    int at = worker + n * sockets->workers;
    return at < socket->fd_count ? at : -1;
}
