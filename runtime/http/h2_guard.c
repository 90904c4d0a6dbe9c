/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "http/h2_internal.h"

#include <string.h>

// Numbers: a gRPC client pings once a round trip and opens windows twice per 32 KiB; a browser that
// leaves a page resets what it had asked for. Both are far below; floods are thousands a second.
enum {
    GUARD_CONTROL_CAP = 1000, // frames that ask for nothing useful
    GUARD_CONTROL_PER_S = 100,
    GUARD_RESET_CAP = 200, // streams begun and given up
    GUARD_RESET_PER_S = 20,
    GUARD_DATA_EARNS = 2, // control frames for each useful frame
    GUARD_MAGIC_BYTES = 24,
};

void h2_guard_init(struct h2_guard *guard)
{
    int64_t now = moon_clock_ms();
    *guard = (struct h2_guard){.magic_left = GUARD_MAGIC_BYTES,
                               .control = {GUARD_CONTROL_CAP, now},
                               .resets = {GUARD_RESET_CAP, now}};
}

static bool bucket_take(struct moon_h2_bucket *bucket, int64_t cap, int64_t per_s)
{
    if (bucket->left <= 0) { // only then the time is looked at
        int64_t now = moon_clock_ms();
        int64_t earned = (now - bucket->filled_at_ms) * per_s / 1000;
        if (earned <= 0)
            return false;
        bucket->left = earned < cap ? earned : cap;
        bucket->filled_at_ms = now;
    }
    bucket->left--;
    return true;
}

static void bucket_earn(struct moon_h2_bucket *bucket, int64_t cap, int64_t n)
{
    bucket->left = bucket->left + n < cap ? bucket->left + n : cap;
}

void h2_guard_sent_data(struct h2_guard *guard)
{
    bucket_earn(&guard->control, GUARD_CONTROL_CAP, GUARD_DATA_EARNS);
}

void h2_guard_completed(struct h2_guard *guard)
{
    bucket_earn(&guard->control, GUARD_CONTROL_CAP, GUARD_DATA_EARNS);
    bucket_earn(&guard->resets, GUARD_RESET_CAP, 1);
}

static const char *guard_control(struct h2_guard *guard, const char *what)
{
    return bucket_take(&guard->control, GUARD_CONTROL_CAP, GUARD_CONTROL_PER_S) ? NULL : what;
}

static const char *guard_reset(struct h2_guard *guard, const char *what)
{
    return bucket_take(&guard->resets, GUARD_RESET_CAP, GUARD_RESET_PER_S) ? NULL : what;
}

const char *h2_guard_sent_reset(struct h2_guard *guard)
{
    return guard_reset(guard, "too many streams that had to be reset");
}

static const char *guard_frame(struct h2_guard *guard, uint8_t type, uint8_t flags)
{
    const uint8_t end_headers = 4, end_stream = 1, ack = 1;
    switch (type) {
    case H2_DATA:
        if (guard->payload_left > 0) {
            h2_guard_sent_data(guard);
            return NULL;
        }
        return (flags & end_stream) != 0 ? NULL
                                         : guard_control(guard, "too many empty DATA frames");
    case H2_HEADERS:
        guard->is_block_open = (flags & end_headers) == 0;
        return NULL;
    case H2_CONTINUATION:
        guard->is_block_open = (flags & end_headers) == 0;
        return guard_control(guard, "too many CONTINUATION frames");
    case H2_RST_STREAM:
        return guard_reset(guard, "too many streams reset by the client");
    case H2_SETTINGS:
        return (flags & ack) != 0 ? NULL : guard_control(guard, "too many SETTINGS frames");
    case H2_PING:
        return (flags & ack) != 0 ? NULL : guard_control(guard, "too many PING frames");
    case H2_WINDOW_UPDATE:
        return guard_control(guard, "too many WINDOW_UPDATE frames");
    case H2_PRIORITY:
        return guard_control(guard, "too many PRIORITY frames");
    default:
        return guard_control(guard, "too many frames of unknown types");
    }
}

const char *h2_guard_receive(struct h2_guard *guard, struct moon_slice bytes)
{
    const uint8_t *at = (const uint8_t *)bytes.data, *end = at + bytes.len;
    while (at < end) {
        size_t left = (size_t)(end - at);
        size_t *passed = guard->magic_left > 0 ? &guard->magic_left : &guard->payload_left;
        if (*passed > 0) {
            size_t n = *passed < left ? *passed : left;
            *passed -= n;
            at += n;
            continue;
        }
        guard->head[guard->head_len++] = *at++;
        if (guard->head_len < H2_FRAME_HEAD_BYTES)
            continue;
        const uint8_t *head = guard->head;
        guard->head_len = 0;
        guard->payload_left = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        guard->type = head[3];
        guard->frames += guard->type != H2_CONTINUATION;
        const char *excess = guard_frame(guard, head[3], head[4]);
        if (excess != NULL)
            return excess;
    }
    return NULL;
}
