/* SPDX-License-Identifier: Apache-2.0 */
#include "script/flights.h"

enum { FLIGHTS_LOOK_MS = 250 };

static void flights_call(struct moon_flight_wait *wait)
{
    moon_flights_cancel(wait);
    wait->callback(wait->owner);
}

static void flights_readable(struct moon_io *io, int events)
{
    struct moon_flights *flights = io->owner;
    struct moon_list woken;
    (void)events;
    moon_store_seat_clear(flights->seat);
    // Whoever waits again during this goes into the list anew, and is not called twice.
    moon_list_init(&woken);
    while (!moon_list_is_empty(&flights->waiters)) {
        struct moon_list *link = flights->waiters.next;
        moon_list_remove(link);
        moon_list_push_back(&woken, link);
    }
    while (!moon_list_is_empty(&woken))
        flights_call(MOON_LIST_ENTRY(woken.next, struct moon_flight_wait, link));
}

static void flights_timer(struct moon_timer *timer)
{
    flights_call(timer->owner);
}

void moon_flights_init(struct moon_flights *flights, struct moon_loop *loop,
                       struct moon_store_seat *seat)
{
    memset(flights, 0, sizeof(*flights));
    flights->seat = seat;
    flights->loop = loop;
    moon_list_init(&flights->waiters);
    if (seat == NULL || moon_store_seat_fd(seat) == -1)
        return;
    moon_io_init(&flights->io, loop, moon_store_seat_fd(seat), flights_readable, flights);
    moon_io_watch(&flights->io, MOON_IO_READ);
}

void moon_flights_fini(struct moon_flights *flights)
{
    if (flights->io.loop != NULL)
        moon_io_stop(&flights->io);
}

void moon_flights_wait(struct moon_flights *flights, struct moon_flight_wait *wait,
                       void (*callback)(void *owner), void *owner)
{
    wait->flights = flights;
    wait->callback = callback;
    wait->owner = owner;
    moon_list_init(&wait->link);
    moon_list_push_back(&flights->waiters, &wait->link);
    moon_timer_init(&wait->timer, flights->loop, flights_timer, wait);
    moon_timer_set(&wait->timer, FLIGHTS_LOOK_MS);
}

void moon_flights_cancel(struct moon_flight_wait *wait)
{
    if (wait->flights == NULL)
        return;
    wait->flights = NULL;
    moon_list_remove(&wait->link);
    moon_timer_stop(&wait->timer);
}
