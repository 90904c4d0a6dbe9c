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
    GUARD_ID_MASK = 0x7fffffff, // less the reserved bit
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
    if (bucket_take(&guard->control, GUARD_CONTROL_CAP, GUARD_CONTROL_PER_S))
        return NULL;
    guard->code = NGHTTP2_ENHANCE_YOUR_CALM;
    return what;
}

static const char *guard_reset(struct h2_guard *guard, const char *what)
{
    if (bucket_take(&guard->resets, GUARD_RESET_CAP, GUARD_RESET_PER_S))
        return NULL;
    guard->code = NGHTTP2_ENHANCE_YOUR_CALM;
    return what;
}

const char *h2_guard_sent_reset(struct h2_guard *guard)
{
    return guard_reset(guard, "too many streams that had to be reset");
}

static const char *guard_wrong(struct h2_guard *guard, uint32_t code, const char *what)
{
    guard->code = code;
    return what;
}

static bool guard_has(const uint8_t *bits, uint32_t slot)
{
    return (bits[slot / 8] >> slot % 8 & 1) != 0;
}

static void guard_put(uint8_t *bits, uint32_t slot, bool is_set)
{
    uint8_t bit = (uint8_t)(1U << slot % 8);
    bits[slot / 8] = (uint8_t)(is_set ? bits[slot / 8] | bit : bits[slot / 8] & ~bit);
}

static uint32_t guard_slot(uint32_t id)
{
    return id / 2 % H2_GUARD_STREAMS;
}

static void guard_open(struct h2_guard *guard, uint32_t id)
{
    if (id - guard->last_id >= 2 * H2_GUARD_STREAMS) {
        memset(guard->opened, 0, sizeof(guard->opened));
        memset(guard->ended, 0, sizeof(guard->ended));
        guard->last_id = id;
    }
    for (uint32_t at = guard->last_id + 1; at <= id; at++) {
        guard_put(guard->opened, guard_slot(at), false);
        guard_put(guard->ended, guard_slot(at), false);
    }
    guard->last_id = id;
    guard_put(guard->opened, guard_slot(id), true);
}

// RFC 9113 §5.1, what nghttp2 passes over once it has forgotten a stream: nothing follows what the
// client itself ended or reset, and numbers do not go back.
static const char *guard_stream(struct h2_guard *guard, uint8_t type, uint32_t id, bool is_end)
{
    bool is_known = id <= guard->last_id && guard->last_id - id < 2 * (H2_GUARD_STREAMS - 1);
    uint32_t slot = guard_slot(id);
    if (id % 2 == 0)
        return NULL; // nghttp2 refuses it
    if (type == H2_HEADERS && id > guard->last_id) {
        guard_open(guard, id);
        is_known = true;
    } else if (is_known && guard_has(guard->ended, slot) && type != H2_RST_STREAM) {
        return guard_wrong(guard, NGHTTP2_STREAM_CLOSED, "frame on a stream that has ended");
    } else if (is_known && type == H2_HEADERS && !guard_has(guard->opened, slot)) {
        return guard_wrong(guard, NGHTTP2_PROTOCOL_ERROR, "stream number goes back");
    }
    if (is_end && is_known)
        guard_put(guard->ended, slot, true);
    return NULL;
}

static const char *guard_frame(struct h2_guard *guard, uint8_t type, uint8_t flags, uint32_t id)
{
    const uint8_t end_headers = 4, end_stream = 1, ack = 1;
    const char *wrong = NULL;
    if (guard->is_block_open && type != H2_CONTINUATION)
        return NULL; // nghttp2 ends the connection
    if (type == H2_DATA || type == H2_HEADERS)
        wrong = guard_stream(guard, type, id, (flags & end_stream) != 0);
    else if (type == H2_RST_STREAM)
        wrong = guard_stream(guard, type, id, true);
    else if (type == H2_PRIORITY && id == 0)
        wrong = guard_wrong(guard, NGHTTP2_PROTOCOL_ERROR, "PRIORITY on stream 0");
    if (wrong != NULL)
        return wrong;
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

// The first four bytes of PRIORITY are the stream that it depends on. RFC 9113 gives them no meaning,
// but one that is its own is still malformed (RFC 7540 §5.3.1).
static const char *guard_payload(struct h2_guard *guard, const uint8_t *at, size_t n)
{
    for (size_t i = 0; guard->type == H2_PRIORITY && i < n && guard->dependency_len < 4; i++) {
        guard->dependency = guard->dependency << 8 | at[i];
        guard->dependency_len++;
    }
    bool is_whole = guard->type == H2_PRIORITY && guard->dependency_len == 4;
    return is_whole && (guard->dependency & GUARD_ID_MASK) == guard->id
               ? guard_wrong(guard, NGHTTP2_PROTOCOL_ERROR, "PRIORITY that depends on itself")
               : NULL;
}

const char *h2_guard_receive(struct h2_guard *guard, struct moon_slice bytes)
{
    const uint8_t *at = (const uint8_t *)bytes.data, *end = at + bytes.len;
    while (at < end) {
        size_t left = (size_t)(end - at);
        size_t *passed = guard->magic_left > 0 ? &guard->magic_left : &guard->payload_left;
        if (*passed > 0) {
            size_t n = *passed < left ? *passed : left;
            const char *wrong = passed == &guard->payload_left ? guard_payload(guard, at, n) : NULL;
            if (wrong != NULL)
                return wrong;
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
        guard->id =
            ((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8]) &
            GUARD_ID_MASK;
        guard->dependency = 0;
        guard->dependency_len =
            guard->payload_left == 5 ? 0 : 4; // another length is wrong by itself
        guard->frames += guard->type != H2_CONTINUATION;
        const char *excess = guard_frame(guard, head[3], head[4], guard->id);
        if (excess != NULL)
            return excess;
    }
    return NULL;
}
