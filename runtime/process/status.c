/* SPDX-License-Identifier: Apache-2.0 */
#include "process/status.h"

#include "base/clock.h"
#include "base/json_write.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

struct status_text {
    char *into;
    size_t cap, len;
};

static void MOON_PRINTF(2, 3) status_add(struct status_text *text, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text->into + text->len, text->cap - text->len, fmt, args);
    va_end(args);
    if (n > 0)
        text->len = moon_min_size(text->len + (size_t)n, text->cap - 1);
}

static void status_json_worker(struct moon_json *json, const struct moon_child *child,
                               const struct moon_board_slot *slot)
{
    moon_json_object(json);
    moon_json_number(json, "worker", child->number);
    moon_json_number(json, "pid", atomic_load(&slot->pid));
    moon_json_number(json, "generation", atomic_load(&slot->generation));
    moon_json_number(json, "connections", atomic_load(&slot->connections));
    moon_json_number(json, "exchanges", atomic_load(&slot->exchanges));
    moon_json_number(json, "requests", atomic_load(&slot->requests));
    moon_json_number(json, "requests_per_s", child->rate.requests_per_s);
    moon_json_number(json, "busy_percent", child->rate.busy_percent);
    moon_json_number(json, "turns", atomic_load(&slot->turns));
    moon_json_number(json, "loop_lag_us", atomic_load(&slot->lag_us));
    moon_json_number(json, "loop_longest_us", atomic_load(&slot->longest_us));
    moon_json_number(json, "lua_bytes", atomic_load(&slot->lua_bytes));
    moon_json_number(json, "restarts", (int64_t)atomic_load(&slot->restarts));
    moon_json_bool(json, "draining", atomic_load(&slot->is_draining) != 0);
    moon_json_end(json);
}

static void status_json(const struct moon_supervisor *supervisor, char *into, size_t cap)
{
    const struct moon_board *board = supervisor->state.board;
    struct moon_json json;
    moon_json_init(&json, into, cap - 2);
    moon_json_object(&json);
    moon_json_text(&json, "name", moon_slice_text(supervisor->facts.name));
    moon_json_text(&json, "version", MOON_S(MOONGATE_VERSION));
    moon_json_text(&json, "dir", moon_slice_text(supervisor->dir));
    moon_json_number(&json, "pid", (int64_t)getpid());
    moon_json_number(&json, "started_ms", board->started_wall_ms);
    moon_json_number(&json, "generation", supervisor->generation);
    moon_json_number(&json, "reloads", (int64_t)atomic_load(&board->reloads_ok));
    moon_json_number(&json, "reloads_failed", (int64_t)atomic_load(&board->reloads_failed));
    if (board->last_reload_error[0] != '\0')
        moon_json_text(&json, "last_reload_error", moon_slice_text(board->last_reload_error));
    moon_json_array_at(&json, "workers");
    for (int i = 0; i < supervisor->child_count; i++) {
        if (i < supervisor->worker_count || supervisor->children[i].pid != 0)
            status_json_worker(&json, &supervisor->children[i], &board->slots[i]);
    }
    moon_json_end(&json);
    moon_json_end(&json);
    into[moon_json_len(&json)] = '\n';
    into[moon_json_len(&json) + 1] = '\0';
}

static void status_text(const struct moon_supervisor *supervisor, struct status_text *text)
{
    const struct moon_board *board = supervisor->state.board;
    int64_t up_s = (moon_clock_ms() - board->started_ms) / 1000;
    status_add(text, "\"%s\" (%s), moongate %s, process %d, up %lld:%02lld:%02lld\n",
               supervisor->facts.name, supervisor->dir, MOONGATE_VERSION, (int)getpid(),
               (long long)up_s / 3600, (long long)up_s / 60 % 60, (long long)up_s % 60);
    status_add(text, "generation %u; reloads: %llu, failed: %llu\n", supervisor->generation,
               (unsigned long long)atomic_load(&board->reloads_ok),
               (unsigned long long)atomic_load(&board->reloads_failed));
    if (board->last_reload_error[0] != '\0')
        status_add(text, "the last reload failed: %s\n", board->last_reload_error);
    status_add(text, "\n%6s %8s %10s %10s %6s %11s %9s %10s %8s\n", "worker", "pid", "generation",
               "requests/s", "busy", "connections", "exchanges", "Lua KiB", "restarts");
    for (int i = 0; i < supervisor->child_count; i++) {
        const struct moon_board_slot *slot = &board->slots[i];
        if (i >= supervisor->worker_count && supervisor->children[i].pid == 0)
            continue;
        const struct moon_child_rate *rate = &supervisor->children[i].rate;
        status_add(text, "%6d %8d %10u %10lld %5d%% %11lld %9lld %10lld %8llu%s\n", i,
                   atomic_load(&slot->pid), atomic_load(&slot->generation),
                   (long long)rate->requests_per_s, rate->busy_percent,
                   (long long)atomic_load(&slot->connections),
                   (long long)atomic_load(&slot->exchanges),
                   (long long)atomic_load(&slot->lua_bytes) / 1024,
                   (unsigned long long)atomic_load(&slot->restarts),
                   atomic_load(&slot->is_draining) != 0 ? "  draining" : "");
    }
}

void moon_status_write(const struct moon_supervisor *supervisor, bool is_json, char *into,
                       size_t cap)
{
    struct status_text text = {.into = into, .cap = cap};
    if (is_json)
        status_json(supervisor, into, cap);
    else
        status_text(supervisor, &text);
}
