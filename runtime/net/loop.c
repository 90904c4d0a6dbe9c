/* SPDX-License-Identifier: Apache-2.0 */
#include "net/loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/wheel.h"

#include <ev.h>

struct loop_signal {
    struct ev_signal watcher;
    void (*callback)(void *arg, int signal);
    void *arg;
    struct loop_signal *next;
};

struct moon_loop {
    struct ev_loop *ev;
    struct ev_check after_wait; // reads the clock once a turn, before any descriptor's callback
    struct ev_timer wake;       // the one timer of libev: when the wheel is to be looked at
    int64_t wake_ms;            // what `wake` is set to; INT64_MAX: not running
    int64_t now_us, now_ms;     // as of this turn
    struct moon_wheel wheel;
    struct moon_list due; // timers to fire at the end of this turn
    struct moon_list tasks;
    void (*on_turn)(void *arg);
    void *on_turn_arg;
    void (*on_wake)(void *arg, int64_t real_us);
    void *on_wake_arg;
    struct loop_signal *signals;
    bool is_stopping;
};

_Static_assert(sizeof(struct ev_io) <= sizeof(((struct moon_io *)0)->impl), "moon_io.impl");
_Static_assert((int)MOON_IO_READ == (int)EV_READ && (int)MOON_IO_WRITE == (int)EV_WRITE,
               "events are libev's");

// Descriptors

static struct ev_io *io_watcher(struct moon_io *io)
{
    return (struct ev_io *)(void *)io->impl;
}

static void io_ready(struct ev_loop *ev, struct ev_io *watcher, int events)
{
    (void)ev;
    struct moon_io *io = watcher->data;
    // libev stops a watcher whose descriptor has gone bad: let the owner's next call find out.
    if (MOON_UNLIKELY((events & EV_ERROR) != 0)) {
        io->events = 0;
        events = MOON_IO_READ | MOON_IO_WRITE;
    }
    io->callback(io, events & (MOON_IO_READ | MOON_IO_WRITE));
}

void moon_io_init(struct moon_io *io, struct moon_loop *loop, int fd, moon_io_fn *callback,
                  void *owner)
{
    *io = (struct moon_io){.loop = loop, .callback = callback, .owner = owner, .fd = fd};
    ev_io_init(io_watcher(io), io_ready, fd, 0);
    io_watcher(io)->data = io;
}

void moon_io_watch(struct moon_io *io, int events)
{
    if (io->events == events)
        return;
    struct ev_io *watcher = io_watcher(io);
    ev_io_stop(io->loop->ev, watcher);
    io->events = events;
    if (events == 0)
        return;
    // The first start must reach the kernel even when the number was watched before; later ones
    // only change the mask, and libev drops changes that are undone within a turn.
    if (watcher->events == 0)
        ev_io_set(watcher, io->fd, events);
    else
        ev_io_modify(watcher, events);
    ev_io_start(io->loop->ev, watcher);
}

bool moon_io_is_pending(const struct moon_io *io)
{
    return ev_is_pending((const struct ev_io *)(const void *)io->impl);
}

void moon_io_hasten(struct moon_io *io)
{
    int events = ev_clear_pending(io->loop->ev, io_watcher(io));
    if (events != 0)
        io_ready(io->loop->ev, io_watcher(io), events);
}

void moon_io_stop(struct moon_io *io)
{
    if (io->loop != NULL)
        ev_io_stop(io->loop->ev, io_watcher(io));
    io->events = 0;
}

// Timers

void moon_timer_init(struct moon_timer *timer, struct moon_loop *loop, moon_timer_fn *callback,
                     void *owner)
{
    *timer = (struct moon_timer){
        .loop = loop, .callback = callback, .owner = owner, .deadline_ms = INT64_MAX};
    moon_list_init(&timer->link);
}

void moon_timer_set_at(struct moon_timer *timer, int64_t deadline_ms)
{
    struct moon_loop *loop = timer->loop;
    // In the wheel and looked at no later than it must fire: the wheel will move it on.
    bool is_early_enough = timer->is_linked && timer->slot_ms <= deadline_ms;
    timer->deadline_ms = deadline_ms;
    if (is_early_enough)
        return;
    if (timer->is_linked)
        moon_wheel_remove(&loop->wheel, timer);
    moon_wheel_insert(&loop->wheel, timer, &loop->due);
}

void moon_timer_set(struct moon_timer *timer, int64_t after_ms)
{
    moon_timer_set_at(timer, timer->loop->now_ms + (after_ms > 0 ? after_ms : 0));
}

void moon_timer_stop(struct moon_timer *timer)
{
    timer->deadline_ms = INT64_MAX;
    if (timer->is_linked)
        moon_wheel_remove(&timer->loop->wheel, timer);
}

static void loop_move_list(struct moon_list *from, struct moon_list *to)
{
    moon_list_init(to);
    if (moon_list_is_empty(from))
        return;
    *to = *from;
    to->next->prev = to->prev->next = to;
    moon_list_init(from);
}

static void loop_fire_timers(struct moon_loop *loop)
{
    moon_wheel_advance(&loop->wheel, loop->now_ms, &loop->due);
    if (moon_list_is_empty(&loop->due))
        return;
    // A list of its own: a timer set to "now" by a callback waits for the next turn.
    struct moon_list firing;
    loop_move_list(&loop->due, &firing);
    while (!moon_list_is_empty(&firing)) {
        struct moon_timer *timer = MOON_LIST_ENTRY(firing.next, struct moon_timer, link);
        moon_list_remove(&timer->link);
        timer->is_linked = false;
        if (timer->deadline_ms > loop->now_ms) { // moved while it waited in `due`
            moon_wheel_insert(&loop->wheel, timer, &loop->due);
            continue;
        }
        timer->deadline_ms = INT64_MAX;
        timer->callback(timer);
    }
}

// Tasks

void moon_task_init(struct moon_task *task, void (*run)(struct moon_task *task), void *owner)
{
    *task = (struct moon_task){.run = run, .owner = owner};
    moon_list_init(&task->link);
}

void moon_task_post(struct moon_loop *loop, struct moon_task *task)
{
    if (task->is_queued)
        return;
    task->is_queued = true;
    moon_list_push_back(&loop->tasks, &task->link);
}

void moon_task_cancel(struct moon_task *task)
{
    if (!task->is_queued)
        return;
    task->is_queued = false;
    moon_list_remove(&task->link);
}

static void loop_run_tasks(struct moon_loop *loop)
{
    if (moon_list_is_empty(&loop->tasks))
        return;
    struct moon_list running;
    loop_move_list(&loop->tasks, &running);
    while (!moon_list_is_empty(&running)) {
        struct moon_task *task = MOON_LIST_ENTRY(running.next, struct moon_task, link);
        moon_list_remove(&task->link);
        task->is_queued = false;
        task->run(task);
    }
}

// The loop

static void loop_set_now(struct moon_loop *loop, int64_t now_us)
{
    loop->now_us = now_us;
    loop->now_ms = now_us / 1000;
}

static void loop_read_clock(struct ev_loop *ev, struct ev_check *watcher, int events)
{
    (void)ev;
    (void)events;
    struct moon_loop *loop = watcher->data;
    int64_t real_us = moon_clock_real_us();
    loop_set_now(loop, moon_clock_us_at(real_us));
    if (loop->on_wake != NULL)
        loop->on_wake(loop->on_wake_arg, real_us);
}

static void loop_woken(struct ev_loop *ev, struct ev_timer *watcher, int events)
{
    (void)ev;
    (void)events;
    struct moon_loop *loop = watcher->data;
    loop->wake_ms = INT64_MAX; // the wheel is looked at at the end of every turn
}

struct moon_loop *moon_loop_new(void)
{
    struct moon_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return NULL;
    loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (loop->ev == NULL) {
        moon_log_error("loop: epoll is not available");
        free(loop);
        return NULL;
    }
    loop_set_now(loop, moon_clock_us());
    loop->wake_ms = INT64_MAX;
    moon_wheel_init(&loop->wheel, loop->now_ms);
    moon_list_init(&loop->due);
    moon_list_init(&loop->tasks);
    ev_timer_init(&loop->wake, loop_woken, 0., 0.);
    loop->wake.data = loop;
    ev_check_init(&loop->after_wait, loop_read_clock);
    loop->after_wait.data = loop;
    ev_set_priority(&loop->after_wait, EV_MAXPRI);
    ev_check_start(loop->ev, &loop->after_wait);
    return loop;
}

static void loop_drop_timers(struct moon_list *list)
{
    while (!moon_list_is_empty(list))
        moon_timer_stop(MOON_LIST_ENTRY(list->next, struct moon_timer, link));
}

void moon_loop_free(struct moon_loop *loop)
{
    if (loop == NULL)
        return;
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        for (int slot = 0; slot < WHEEL_SLOTS; slot++)
            loop_drop_timers(&loop->wheel.slots[level][slot]);
    }
    loop_drop_timers(&loop->due);
    while (!moon_list_is_empty(&loop->tasks))
        moon_task_cancel(MOON_LIST_ENTRY(loop->tasks.next, struct moon_task, link));
    while (loop->signals != NULL) {
        struct loop_signal *next = loop->signals->next;
        ev_signal_stop(loop->ev, &loop->signals->watcher);
        free(loop->signals);
        loop->signals = next;
    }
    ev_loop_destroy(loop->ev);
    free(loop);
}

/// @return false when the turn may not wait at all
static bool loop_set_wake(struct moon_loop *loop, int max_wait_ms)
{
    if (!moon_list_is_empty(&loop->due) || !moon_list_is_empty(&loop->tasks) || max_wait_ms == 0)
        return false;
    int64_t wake_ms = moon_wheel_next_ms(&loop->wheel);
    if (max_wait_ms > 0 && wake_ms - loop->now_ms > max_wait_ms)
        wake_ms = loop->now_ms + max_wait_ms;
    if (wake_ms == loop->wake_ms)
        return true;
    ev_timer_stop(loop->ev, &loop->wake);
    loop->wake_ms = wake_ms;
    if (wake_ms != INT64_MAX) {
        int64_t wait_ms = wake_ms > loop->now_ms ? wake_ms - loop->now_ms : 0;
        ev_timer_set(&loop->wake, (double)wait_ms / 1000., 0.);
        ev_timer_start(loop->ev, &loop->wake);
    }
    return true;
}

static void loop_turn(struct moon_loop *loop, int max_wait_ms)
{
    bool may_wait = loop_set_wake(loop, max_wait_ms);
    ev_run(loop->ev, may_wait ? EVRUN_ONCE : EVRUN_NOWAIT);
    // Descriptors went first: after a stall, what has arrived in time is not timed out.
    loop_fire_timers(loop);
    loop_run_tasks(loop);
    if (loop->on_turn != NULL)
        loop->on_turn(loop->on_turn_arg);
}

void moon_loop_run(struct moon_loop *loop)
{
    loop->is_stopping = false;
    while (!loop->is_stopping)
        loop_turn(loop, -1);
}

void moon_loop_turn(struct moon_loop *loop, int max_wait_ms)
{
    // The caller may have been away for long; libev counts waits from its own idea of now.
    ev_now_update(loop->ev);
    loop_set_now(loop, moon_clock_us());
    ev_timer_stop(loop->ev, &loop->wake);
    loop->wake_ms = INT64_MAX;
    loop_turn(loop, max_wait_ms);
}

void moon_loop_stop(struct moon_loop *loop)
{
    loop->is_stopping = true;
}

int64_t moon_loop_now_ms(const struct moon_loop *loop)
{
    return loop->now_ms;
}

int64_t moon_loop_now_us(const struct moon_loop *loop)
{
    return loop->now_us;
}

void moon_loop_catch_up(struct moon_loop *loop)
{
    loop_set_now(loop, moon_clock_us());
    ev_timer_stop(loop->ev, &loop->wake);
    loop->wake_ms = INT64_MAX;
    loop_fire_timers(loop);
    loop_run_tasks(loop);
}

void moon_loop_on_turn(struct moon_loop *loop, void (*callback)(void *arg), void *arg)
{
    loop->on_turn = callback;
    loop->on_turn_arg = arg;
}

void moon_loop_on_wake(struct moon_loop *loop, void (*callback)(void *arg, int64_t real_us),
                       void *arg)
{
    loop->on_wake = callback;
    loop->on_wake_arg = arg;
}

static void loop_signalled(struct ev_loop *ev, struct ev_signal *watcher, int events)
{
    (void)ev;
    (void)events;
    struct loop_signal *signal = watcher->data;
    signal->callback(signal->arg, watcher->signum);
}

void moon_loop_on_signal(struct moon_loop *loop, int signal,
                         void (*callback)(void *arg, int signal), void *arg)
{
    struct loop_signal *entry = calloc(1, sizeof(*entry));
    MOON_ASSERT(entry != NULL); // at start only
    entry->callback = callback;
    entry->arg = arg;
    ev_signal_init(&entry->watcher, loop_signalled, signal);
    entry->watcher.data = entry;
    ev_signal_start(loop->ev, &entry->watcher);
    entry->next = loop->signals;
    loop->signals = entry;
}
