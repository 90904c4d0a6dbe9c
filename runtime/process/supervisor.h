/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The supervisor: holds the listening sockets, starts workers and replaces them, has new
/// configurations checked and loaded, and parses nothing that came from a peer.
///
/// Process: supervisor.

#include "process/checker.h"
#include "process/cli.h"
#include "process/message.h"
#include "process/privilege.h"
#include "process/sockets.h"
#include "process/state.h"

struct moon_supervisor;
struct moon_control;
struct moon_watch;

/// What a worker did in the last second or so (watchdog.c).
struct moon_child_rate {
    int64_t at_us, requests, busy_us; // when that was last looked at
    int64_t requests_per_s;
    int busy_percent;
};

/// A worker as the supervisor sees it.
struct moon_child {
    struct moon_supervisor *supervisor;
    int number;
    pid_t pid;   // 0: none runs
    int channel; // -1: none
    struct moon_io io;
    int log_pipe[2];         // to the logger; kept over restarts
    struct moon_timer spawn; // runs while the next start waits
    int64_t started_ms;
    int64_t deaths; // in short order
    int64_t backoff_ms;
    uint32_t loading; // generation it was told to load; 0: none
    uint32_t loaded;  // generation it has ready; 0: none
    uint32_t serving; // 0: not yet
    bool is_leaving;  // there are to be fewer: it finishes what is under way
    bool is_draining; // and accepts nothing any more
    int64_t loading_since_ms;
    int64_t placed_beat_us; // turn that was slow: the policy's name was asked for
    int64_t warned_beat_us; // and it was reported
    int64_t asked_beat_us;  // turn whose backtrace was asked for
    struct moon_child_rate rate;
};

enum moon_reload_state {
    MOON_RELOAD_IDLE,
    MOON_RELOAD_CHECKING, // the checker runs
    MOON_RELOAD_LOADING,  // workers load
    MOON_RELOAD_FLIPPING, // workers were told to serve it
};

/// A reload under way (reload.c).
struct moon_reload {
    enum moon_reload_state state;
    bool is_again; // asked for once more meanwhile
    struct moon_bundle *bundle;
    int bundle_fd; // -1: none
    uint32_t generation;
    int worker_count; // that it wants
    int deaths;       // of workers that loaded it
    pid_t checker;    // 0: none
    struct moon_check_result *result;
    struct moon_timer timeout;
    struct moon_task next; // the one that was asked for meanwhile
    int metric_ok, metric_failed;
};

struct moon_supervisor {
    const struct moon_cli *cli;
    char *dir; // absolute
    struct moon_loop *loop;
    struct moon_state state;
    struct moon_facts facts; // of the generation that is served
    struct moon_sockets sockets;
    struct moon_user user;
    int worker_count;            // those that are to run: children[0] to [worker_count - 1]
    int child_count;             // those that ever were to: the rest drains, or has ended
    int child_cap;               // most that the shared mapping has room for
    struct moon_child *children; // child_cap
    int metric_restarts;
    uint32_t generation;
    uint32_t last_generation; // number given out last
    int bundle_fd;            // of the generation that is served
    struct moon_reload reload;
    pid_t logger; // 0: none
    int64_t logger_started_ms;
    struct moon_timer logger_spawn;
    struct moon_timer watchdog, tickets, kill;
    struct moon_control *control;
    struct moon_watch *watch;
    pid_t upgrade;     // the new binary while it starts; 0: none
    int upgrade_ready; // pipe on which it says that it serves; -1: none
    struct moon_io upgrade_io;
    struct moon_timer upgrade_timeout;
    bool is_ready; // all workers have served once
    bool is_stopping;
    bool is_replaced; // a new binary has the sockets
    int exit_code;
};

/// `moongate run`. @return an exit code
int moon_supervise(const struct moon_cli *cli);

/// What a child of the supervisor is for, and so which descriptors it keeps.
enum moon_fork {
    MOON_FORK_WORKER,  // its log pipe
    MOON_FORK_CHECKER, // none
    MOON_FORK_LOGGER,  // the reading ends of all log pipes
    MOON_FORK_UPGRADE, // the listening sockets
};

/// Forks. In the child the supervisor's loop, sockets and channels are closed, but for what it is
/// to keep, and signals are as they were at start.
/// @param child  the worker to be; NULL for the others
/// @return as fork
pid_t moon_supervisor_fork(struct moon_supervisor *supervisor, enum moon_fork what,
                           const struct moon_child *child);

/// A worker serves; when all do for the first time, the gateway is ready.
void moon_supervisor_child_serves(struct moon_supervisor *supervisor);

/// Stops: the first time gracefully, then at once.
void moon_supervisor_stop(struct moon_supervisor *supervisor);

/// children.c: starting, talking to and burying workers.
bool moon_children_new(struct moon_supervisor *supervisor);

/// Makes `count` the number of workers: starts those that are missing, has those beyond finish what is
/// under way. The sockets are shared out anew before.
void moon_children_resize(struct moon_supervisor *supervisor, int count);
void moon_children_free(struct moon_supervisor *supervisor);
void moon_child_spawn(struct moon_child *child);
void moon_child_died(struct moon_child *child, int status);

/// Tells it to load what `bundle_fd` holds, with its sockets as `facts` says.
MUST_CHECK enum moon_rc moon_child_load(struct moon_child *child, int bundle_fd,
                                        const struct moon_facts *facts, uint32_t generation);
void moon_child_say(struct moon_child *child, enum moon_message_kind kind);
void moon_children_say(struct moon_supervisor *supervisor, enum moon_message_kind kind);
int moon_children_running(const struct moon_supervisor *supervisor);

/// watchdog.c: workers that do not turn their loop.
void moon_watchdog_start(struct moon_supervisor *supervisor);

/// reload.c
void moon_reload_init(struct moon_supervisor *supervisor);
void moon_reload_fini(struct moon_supervisor *supervisor);
void moon_reload_request(struct moon_supervisor *supervisor, const char *who);
void moon_reload_checked(struct moon_supervisor *supervisor, int status); // the checker has ended
void moon_reload_child_ready(struct moon_child *child, uint32_t generation);
void moon_reload_child_failed(struct moon_child *child, uint32_t generation, const char *text);
void moon_reload_child_flipped(struct moon_child *child);
void moon_reload_child_drains(struct moon_child *child);
void moon_reload_child_died(struct moon_child *child);

/// logger.c: the process that writes the access log.
void moon_logger_start(struct moon_supervisor *supervisor);
void moon_logger_died(struct moon_supervisor *supervisor);

/// Starts it anew, for pipes that are new. What it has not read waits in the pipes.
void moon_logger_restart(struct moon_supervisor *supervisor);

/// Starts it anew where the configuration names another file.
void moon_logger_follow(struct moon_supervisor *supervisor, const struct moon_facts *next);

/// Has it write what is in the pipes, and waits for its end. After the workers' end.
void moon_logger_stop(struct moon_supervisor *supervisor);

/// control.c: `moongate reload` and others, over a UNIX socket.
struct moon_control *moon_control_new(struct moon_supervisor *supervisor);
void moon_control_free(struct moon_control *control, bool is_last); // accepts NULL

/// A reload reads the directory now: those who asked for one before wait for its outcome.
void moon_control_reload_starts(struct moon_control *control);

/// Answers those who wait for a reload to start.
void moon_control_refuse(struct moon_control *control, const char *text);

/// Answers those who wait for the outcome of the reload under way.
void moon_control_tell(struct moon_control *control, bool is_ok, const char *text);

/// Answers those who wait for the outcome of an upgrade.
void moon_control_tell_upgrade(struct moon_control *control, bool is_ok, const char *text);

/// upgrade.c
void moon_upgrade_request(struct moon_supervisor *supervisor);
void moon_upgrade_died(struct moon_supervisor *supervisor, int status);

/// Takes the descriptors that the former binary or systemd handed over.
void moon_upgrade_inherit(struct moon_supervisor *supervisor);

/// True until moon_upgrade_announce where a former binary waits for this one.
bool moon_upgrade_is_one(void);

/// Tells the former binary that this one serves.
void moon_upgrade_announce(void);
