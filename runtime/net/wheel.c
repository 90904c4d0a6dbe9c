/* SPDX-License-Identifier: Apache-2.0 */
#include "net/wheel.h"

// 2^48 ms are 8,900 years: later deadlines are as good as this one.
static const int64_t wheel_horizon_ms = (INT64_C(1) << (WHEEL_LEVELS * WHEEL_BITS)) - 1;

void moon_wheel_init(struct moon_wheel *wheel, int64_t now_ms)
{
    wheel->now_ms = now_ms;
    for (int level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (int slot = 0; slot < WHEEL_SLOTS; slot++)
            moon_list_init(&wheel->slots[level][slot]);
    }
}

static int wheel_level(int64_t now_ms, int64_t at_ms)
{
    uint64_t differing = (uint64_t)now_ms ^ (uint64_t)at_ms;
    return (63 - __builtin_clzll(differing)) / WHEEL_BITS;
}

void moon_wheel_insert(struct moon_wheel *wheel, struct moon_timer *timer, struct moon_list *due)
{
    int64_t at_ms = timer->deadline_ms < wheel_horizon_ms ? timer->deadline_ms : wheel_horizon_ms;
    timer->is_linked = true;
    if (at_ms <= wheel->now_ms) {
        timer->slot_ms = at_ms;
        moon_list_push_back(due, &timer->link);
        return;
    }
    int level = wheel_level(wheel->now_ms, at_ms);
    int shift = level * WHEEL_BITS;
    int slot = (int)(at_ms >> shift) & (WHEEL_SLOTS - 1);
    timer->slot_ms = (at_ms >> shift) << shift;
    wheel->occupied[level] |= UINT64_C(1) << slot;
    moon_list_push_back(&wheel->slots[level][slot], &timer->link);
}

void moon_wheel_remove(struct moon_wheel *wheel, struct moon_timer *timer)
{
    struct moon_list *head = timer->link.next;
    bool is_last = head == timer->link.prev; // only the head of its list is left
    moon_list_remove(&timer->link);
    timer->is_linked = false;
    uintptr_t first = (uintptr_t)&wheel->slots[0][0];
    uintptr_t at = (uintptr_t)head;
    if (is_last && at >= first && at < first + sizeof(wheel->slots)) {
        size_t index = (at - first) / sizeof(struct moon_list);
        wheel->occupied[index / WHEEL_SLOTS] &= ~(UINT64_C(1) << (index % WHEEL_SLOTS));
    }
}

static bool wheel_next_slot(const struct moon_wheel *wheel, int *level, int *slot, int64_t *at_ms)
{
    for (int i = 0; i < WHEEL_LEVELS; i++) {
        if (wheel->occupied[i] == 0)
            continue;
        int shift = i * WHEEL_BITS;
        *level = i;
        *slot = __builtin_ctzll(wheel->occupied[i]);
        // The slot shares all bits above its level with now.
        *at_ms = (((wheel->now_ms >> (shift + WHEEL_BITS)) << WHEEL_BITS) | *slot) << shift;
        return true;
    }
    return false;
}

int64_t moon_wheel_next_ms(const struct moon_wheel *wheel)
{
    int level, slot;
    int64_t at_ms;
    return wheel_next_slot(wheel, &level, &slot, &at_ms) ? at_ms : INT64_MAX;
}

void moon_wheel_advance(struct moon_wheel *wheel, int64_t to_ms, struct moon_list *due)
{
    int level, slot;
    int64_t at_ms;
    while (wheel_next_slot(wheel, &level, &slot, &at_ms) && at_ms <= to_ms) {
        struct moon_list *list = &wheel->slots[level][slot];
        wheel->now_ms = at_ms;
        wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        // Each goes on to `due`, or, moved meanwhile or from a coarse level, to another slot.
        while (!moon_list_is_empty(list)) {
            struct moon_timer *timer = MOON_LIST_ENTRY(list->next, struct moon_timer, link);
            moon_list_remove(&timer->link);
            moon_wheel_insert(wheel, timer, due);
        }
    }
    if (to_ms > wheel->now_ms)
        wheel->now_ms = to_ms;
}
