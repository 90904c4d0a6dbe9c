/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "process/supervisor.h"

#include <signal.h>

enum {
    WATCHDOG_EVERY_MS = 50,
    WATCHDOG_RATE_US = 1000 * 1000,
    WATCHDOG_ANSWER_MS = 10, // in which a worker that is asked says which policy it runs
    WATCHDOG_WARN_US = 100 * 1000,
    WATCHDOG_BACKTRACE_US = 1800 * 1000,
    WATCHDOG_KILL_US = 2000 * 1000,
    WATCHDOG_LOAD_KILL_US = 30 * 1000 * 1000, // the first configuration is loaded in one long turn
};

// What it runs now, as far as it has said. `into` may hold a torn text: it is for people only.
static void watchdog_section(const struct moon_board_slot *slot, char *into, size_t cap)
{
    into[0] = '\0';
    if (atomic_load_explicit(&slot->section_started_us, memory_order_relaxed) == 0)
        return;
    char policy[MOON_BOARD_TEXT];
    memcpy(policy, slot->policy, sizeof(policy));
    policy[sizeof(policy) - 1] = '\0';
    (void)snprintf(into, cap, " in %.*s%s%s", MOON_BOARD_TEXT - 1, slot->section,
                   policy[0] == '\0' ? "" : ", policy ", policy);
}

/// @return true where the worker was just asked which policy it runs
static bool watchdog_look(struct moon_child *child, int64_t now_us)
{
    struct moon_board_slot *slot = &child->supervisor->state.board->slots[child->number];
    int64_t beat_us = atomic_load_explicit(&slot->beat_us, memory_order_relaxed);
    char section[2 * MOON_BOARD_TEXT + 16];
    if (child->pid == 0 || beat_us == 0 || now_us - beat_us < WATCHDOG_WARN_US)
        return false;
    int64_t age_us = now_us - beat_us;
    bool is_loading = child->loading != 0 && child->loaded == 0 &&
                      atomic_load_explicit(&slot->section_started_us, memory_order_relaxed) == 0;
    if (child->placed_beat_us != beat_us && !is_loading) {
        child->placed_beat_us = beat_us;
        (void)kill(child->pid, MOON_SIGNAL_PLACE);
        return true;
    }
    watchdog_section(slot, section, sizeof(section));
    if (child->warned_beat_us != beat_us && !is_loading) {
        child->warned_beat_us = beat_us;
        moon_log_warn("worker %d has not turned its loop for %lld ms%s", child->number,
                      (long long)age_us / 1000, section);
    }
    if (is_loading ? age_us < WATCHDOG_LOAD_KILL_US : age_us < WATCHDOG_BACKTRACE_US)
        return false;
    if (child->asked_beat_us != beat_us) {
        child->asked_beat_us = beat_us;
        (void)kill(child->pid, MOON_SIGNAL_TRACE);
    } else if (age_us >= WATCHDOG_KILL_US) {
        moon_log_error("worker %d is stuck for %lld ms%s: it is replaced", child->number,
                       (long long)age_us / 1000, section);
        (void)kill(child->pid, SIGKILL);
    }
    return false;
}

static void watchdog_measure(struct moon_child *child, int64_t now_us)
{
    const struct moon_board_slot *slot = &child->supervisor->state.board->slots[child->number];
    struct moon_child_rate *rate = &child->rate;
    int64_t took_us = now_us - rate->at_us;
    if (took_us < WATCHDOG_RATE_US)
        return;
    int64_t requests = atomic_load_explicit(&slot->requests, memory_order_relaxed);
    int64_t busy_us = atomic_load_explicit(&slot->busy_us, memory_order_relaxed);
    if (rate->at_us > 0) {
        rate->requests_per_s = (requests - rate->requests) * 1000000 / took_us;
        rate->busy_percent = (int)((busy_us - rate->busy_us) * 100 / took_us);
    }
    rate->at_us = now_us;
    rate->requests = requests;
    rate->busy_us = busy_us;
}

static void watchdog_turn(struct moon_timer *timer)
{
    struct moon_supervisor *supervisor = timer->owner;
    int64_t now_us = moon_clock_real_us();
    bool has_asked = false;
    for (int i = 0; i < supervisor->child_count; i++) {
        has_asked = watchdog_look(&supervisor->children[i], now_us) || has_asked;
        watchdog_measure(&supervisor->children[i], now_us);
    }
    moon_timer_set(timer, has_asked ? WATCHDOG_ANSWER_MS : WATCHDOG_EVERY_MS);
}

void moon_watchdog_start(struct moon_supervisor *supervisor)
{
    moon_timer_init(&supervisor->watchdog, supervisor->loop, watchdog_turn, supervisor);
    moon_timer_set(&supervisor->watchdog, WATCHDOG_EVERY_MS);
}
