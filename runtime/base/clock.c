/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include "base/slice.h"

#include <time.h>

enum { CLOCK_LOOK_US = 100 * 1000 };

static int64_t clock_offset_us;   // added by specs
static int64_t clock_frozen_mono; // used while is_frozen
static int64_t clock_frozen_wall;
static bool clock_is_frozen;

static int64_t clock_read_us(clockid_t id)
{
    struct timespec t;
    MOON_ASSERT(clock_gettime(id, &t) == 0);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t moon_clock_us(void)
{
    return clock_is_frozen ? clock_frozen_mono : clock_read_us(CLOCK_MONOTONIC) + clock_offset_us;
}

int64_t moon_clock_wall_ms(void)
{
    int64_t us =
        clock_is_frozen ? clock_frozen_wall : clock_read_us(CLOCK_REALTIME) + clock_offset_us;
    return us / 1000;
}

int64_t moon_clock_wall_ms_at(int64_t us)
{
    static int64_t looked_us = INT64_MIN / 2, apart_us;
    if (clock_is_frozen)
        return clock_frozen_wall / 1000;
    if (us < looked_us || us - looked_us >= CLOCK_LOOK_US) {
        apart_us = clock_read_us(CLOCK_REALTIME) - clock_read_us(CLOCK_MONOTONIC);
        looked_us = us;
    }
    return (us + apart_us) / 1000;
}

int64_t moon_clock_cpu_us(void)
{
    return clock_read_us(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t moon_clock_real_us(void)
{
    return clock_read_us(CLOCK_MONOTONIC);
}

int64_t moon_clock_us_at(int64_t real_us)
{
    return clock_is_frozen ? clock_frozen_mono : real_us + clock_offset_us;
}

void moon_clock_freeze(bool is_frozen)
{
    if (is_frozen == clock_is_frozen)
        return;
    if (is_frozen) {
        clock_frozen_mono = moon_clock_us();
        clock_frozen_wall = clock_read_us(CLOCK_REALTIME) + clock_offset_us;
    } else {
        clock_offset_us = clock_frozen_mono - clock_read_us(CLOCK_MONOTONIC);
    }
    clock_is_frozen = is_frozen;
}

void moon_clock_advance_us(int64_t us)
{
    MOON_ASSERT(us >= 0);
    if (clock_is_frozen) {
        clock_frozen_mono += us;
        clock_frozen_wall += us;
    } else {
        clock_offset_us += us;
    }
}

static const char clock_days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char clock_months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct moon_slice moon_clock_http_date(int64_t wall_ms)
{
    static char text[64];
    static int64_t made_for = INT64_MIN;
    static size_t len;
    time_t second = (time_t)(wall_ms / 1000);
    if ((int64_t)second != made_for) {
        struct tm t;
        MOON_ASSERT(gmtime_r(&second, &t) != NULL);
        int n = snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                         clock_days[t.tm_wday], t.tm_mday, clock_months[t.tm_mon], t.tm_year + 1900,
                         t.tm_hour, t.tm_min, t.tm_sec);
        len = n < 0 ? 0 : moon_min_size((size_t)n, sizeof(text) - 1);
        made_for = (int64_t)second;
    }
    return moon_slice(text, len);
}

size_t moon_clock_iso(int64_t wall_ms, char into[MOON_CLOCK_TEXT_BYTES])
{
    time_t second = (time_t)(wall_ms / 1000);
    struct tm t;
    MOON_ASSERT(gmtime_r(&second, &t) != NULL);
    int n =
        snprintf(into, MOON_CLOCK_TEXT_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
                 (unsigned)(t.tm_year + 1900) % 10000u, (unsigned)(t.tm_mon + 1) % 100u,
                 (unsigned)t.tm_mday % 100u, (unsigned)t.tm_hour % 100u, (unsigned)t.tm_min % 100u,
                 (unsigned)t.tm_sec % 100u, (unsigned)(wall_ms % 1000) % 1000u);
    return n < 0 ? 0 : moon_min_size((size_t)n, MOON_CLOCK_TEXT_BYTES - 1);
}

static int clock_month(const char *name)
{
    for (int i = 0; i < 12; i++) {
        if (strncasecmp(name, clock_months[i], 3) == 0)
            return i;
    }
    return -1;
}

bool moon_clock_parse_http_date(struct moon_slice slice, int64_t *wall_ms)
{
    char text[64];
    char month[4] = "", zone[4] = "GMT";
    struct tm t = {0};
    int end = 0;
    if (!moon_slice_copy_text(slice, text, sizeof(text)))
        return false;
    // NOLINTNEXTLINE(cert-err34-c): the field widths bound the digits
    if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d %3[A-Za-z]%n", &t.tm_mday, month,
               &t.tm_year, &t.tm_hour, &t.tm_min, &t.tm_sec, zone, &end) == 7 &&
        end > 0) {
        t.tm_year -= 1900;
        // NOLINTNEXTLINE(cert-err34-c): the field widths bound the digits
    } else if (sscanf(text, "%*9[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d %3[A-Za-z]%n", &t.tm_mday,
                      month, &t.tm_year, &t.tm_hour, &t.tm_min, &t.tm_sec, zone, &end) == 7 &&
               end > 0) {
        // RFC 9110 §5.6.7: a two-digit year more than 50 years ahead is in the past.
        t.tm_year += t.tm_year < 77 ? 100 : 0;
        // NOLINTNEXTLINE(cert-err34-c): the field widths bound the digits
    } else if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &t.tm_mday,
                      &t.tm_hour, &t.tm_min, &t.tm_sec, &t.tm_year, &end) == 6 &&
               end > 0) {
        t.tm_year -= 1900;
    } else {
        return false;
    }
    t.tm_mon = clock_month(month);
    // Caches match without regard to case, and know UTC (RFC 9111 §4.2).
    bool is_zone = strcasecmp(zone, "GMT") == 0 || strcasecmp(zone, "UTC") == 0;
    bool is_valid = is_zone && text[end] == '\0' && t.tm_mon >= 0 && t.tm_mday >= 1 &&
                    t.tm_mday <= 31 && t.tm_hour >= 0 && t.tm_hour <= 23 && t.tm_min >= 0 &&
                    t.tm_min <= 59 && t.tm_sec >= 0 && t.tm_sec <= 60;
    if (!is_valid)
        return false;
    int month_index = t.tm_mon, second = t.tm_sec;
    int64_t seconds = timegm(&t);
    if (t.tm_mon != month_index && second < 60)
        return false; // 31 Feb: timegm moved it to March
    *wall_ms = seconds * 1000;
    return true;
}
