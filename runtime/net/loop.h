/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The event loop of one worker: libev with epoll, watchers for descriptors, and timers in a wheel.
/// A deadline that moves on every request costs a store, not a system call: a timer that fires early
/// looks at its deadline and goes back into the wheel.
///
/// Thread: the worker that owns the loop.

#include "base/list.h"
#include "base/result.h"

struct ev_loop;
struct moon_loop;

enum moon_io_event { MOON_IO_READ = 1, MOON_IO_WRITE = 2 };

struct moon_io;
typedef void moon_io_fn(struct moon_io *io, int events);

/// A watched descriptor. Lies in the owner's struct; zero it before moon_io_init.
struct moon_io {
    struct moon_loop *loop;
    moon_io_fn *callback;
    void *owner;
    int fd;        // -1: none
    int events;    // watched now
    void *impl[8]; // libev's watcher
};

void moon_io_init(struct moon_io *io, struct moon_loop *loop, int fd, moon_io_fn *callback,
                  void *owner);

/// Watches for `events` (0: stops). Nothing happens where they are watched already.
void moon_io_watch(struct moon_io *io, int events);

/// Whether this turn has found it ready and its callback is still to come. Costs no system call.
bool moon_io_is_pending(const struct moon_io *io);

/// Calls back now what is pending, out of its turn.
void moon_io_hasten(struct moon_io *io);

/// Stops watching; the descriptor stays open.
void moon_io_stop(struct moon_io *io);

struct moon_timer;
typedef void moon_timer_fn(struct moon_timer *timer);

/// A timer. Lies in the owner's struct; zero it before moon_timer_init.
struct moon_timer {
    struct moon_list link; // in a slot of the wheel
    struct moon_loop *loop;
    moon_timer_fn *callback;
    void *owner;
    int64_t deadline_ms; // monotonic; INT64_MAX: not running
    int64_t slot_ms;     // when the wheel looks at it; <= deadline_ms
    bool is_linked;
};

void moon_timer_init(struct moon_timer *timer, struct moon_loop *loop, moon_timer_fn *callback,
                     void *owner);

/// Fires once, `after_ms` from the loop's time on, replacing an earlier deadline.
void moon_timer_set(struct moon_timer *timer, int64_t after_ms);
void moon_timer_set_at(struct moon_timer *timer, int64_t deadline_ms);
void moon_timer_stop(struct moon_timer *timer);
static inline bool moon_timer_is_running(const struct moon_timer *timer)
{
    return timer->deadline_ms != INT64_MAX;
}

/// Something to run once at the end of this turn of the loop, after all descriptors.
struct moon_task {
    struct moon_list link;
    void (*run)(struct moon_task *task);
    void *owner;
    bool is_queued;
};

void moon_task_init(struct moon_task *task, void (*run)(struct moon_task *task), void *owner);
void moon_task_post(struct moon_loop *loop, struct moon_task *task);
void moon_task_cancel(struct moon_task *task);

struct moon_loop *moon_loop_new(void);
void moon_loop_free(struct moon_loop *loop);

/// Runs until moon_loop_stop.
void moon_loop_run(struct moon_loop *loop);

/// Runs one turn; waits at most `max_wait_ms` for something to happen. Specs and the test kit.
void moon_loop_turn(struct moon_loop *loop, int max_wait_ms);
void moon_loop_stop(struct moon_loop *loop);

/// Monotonic milliseconds as of this turn (follows the virtual clock).
int64_t moon_loop_now_ms(const struct moon_loop *loop);
int64_t moon_loop_now_us(const struct moon_loop *loop);

/// After moon_clock_advance_us: fires what has become due, in order of deadlines.
void moon_loop_catch_up(struct moon_loop *loop);

/// Called once a turn, before waiting: heartbeats, flushing of logs.
void moon_loop_on_turn(struct moon_loop *loop, void (*callback)(void *arg), void *arg);

/// Called once a turn, after waiting and before any descriptor's callback.
/// @param callback  is given moon_clock_real_us
void moon_loop_on_wake(struct moon_loop *loop, void (*callback)(void *arg, int64_t real_us),
                       void *arg);

/// Signals, delivered in the loop. @param signal  SIGTERM ...
void moon_loop_on_signal(struct moon_loop *loop, int signal,
                         void (*callback)(void *arg, int signal), void *arg);
