/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/slow_reader.h"

// Sockets take in what is on its way, although nobody reads them: that is no reading.
enum { READER_SETTLE_MS = 1000 };

static int64_t reader_waited_ms(const struct moon_slow_reader *reader, int64_t now_ms)
{
    return reader->waited_ms + (reader->is_waited_for ? now_ms - reader->since_ms : 0);
}

void moon_reader_wait(struct moon_slow_reader *reader, int64_t now_ms, uint64_t read)
{
    reader->read = read;
    if (reader->is_waited_for)
        return;
    if (reader->waited_ms == 0)
        reader->read_from = read;
    reader->is_waited_for = true;
    reader->is_settled = false;
    reader->since_ms = now_ms;
}

bool moon_reader_stop(struct moon_slow_reader *reader, int64_t now_ms,
                      const struct moon_reader_rule *rule)
{
    reader->waited_ms = reader_waited_ms(reader, now_ms);
    reader->is_waited_for = false;
    return rule->rate > 0 && reader->waited_ms >= rule->timeout_ms;
}

int64_t moon_reader_due_ms(const struct moon_slow_reader *reader, int64_t now_ms,
                           const struct moon_reader_rule *rule)
{
    bool is_long = rule->timeout_ms > 2 * READER_SETTLE_MS;
    int64_t after_ms = reader->is_settled ? rule->timeout_ms
                       : is_long          ? READER_SETTLE_MS
                                          : rule->timeout_ms / 2;
    return reader->since_ms + after_ms - now_ms;
}

enum moon_reader_state moon_reader_judge(struct moon_slow_reader *reader, int64_t now_ms,
                                         uint64_t read, const struct moon_reader_rule *rule)
{
    int64_t waited_ms = reader_waited_ms(reader, now_ms);
    bool is_early = reader->is_waited_for && !reader->is_settled;
    if (reader->is_waited_for && !is_early && read == reader->read)
        return MOON_READER_IS_SILENT;
    reader->is_settled = true;
    reader->read = read;
    if (is_early || waited_ms < rule->timeout_ms)
        return MOON_READER_GOES_ON;
    if ((int64_t)(read - reader->read_from) < rule->rate * waited_ms / 1000)
        return MOON_READER_IS_SLOW;
    reader->read_from = read;
    reader->waited_ms = 0;
    reader->since_ms = now_ms;
    return MOON_READER_GOES_ON;
}
