/* SPDX-License-Identifier: Apache-2.0 */

/// Nanoseconds to scan, parse and write one request, for a short head and one as a browser sends
/// it. `build/release/bench_h1_parse [rounds]`; pin it to a core (taskset) for steady figures.

#include "base/arena.h"
#include "base/clock.h"
#include "http/h1.h"

#include <inttypes.h>

enum { BENCH_ARENA_BYTES = 65536 };

static const char bench_short[] = "GET /small HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

static const char bench_browser[] =
    "GET /external/orders/4711?expand=lines&locale=de-DE HTTP/1.1\r\n"
    "Host: api.contoso.test\r\n"
    "Connection: keep-alive\r\n"
    "Cache-Control: max-age=0\r\n"
    "sec-ch-ua: \"Chromium\";v=\"124\", \"Google Chrome\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n"
    "sec-ch-ua-mobile: ?0\r\n"
    "sec-ch-ua-platform: \"Linux\"\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/124.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    "image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-User: ?1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Referer: https://portal.contoso.test/orders?page=2\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7\r\n"
    "Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; "
    "_ga=GA1.2.1234567890.1700000000\r\n"
    "If-None-Match: \"5d8c72a5edda8d6a\"\r\n\r\n";

static const struct moon_h1_limits bench_limits = {32768, 8192, 100};

static void bench_check(enum moon_rc rc)
{
    if (rc != MOON_OK) {
        fprintf(stderr, "refused: %s\n", moon_rc_name(rc));
        exit(1);
    }
}

// One request as the gateway handles it; `parts` says how far.
static void bench_once(struct moon_arena *arena, struct moon_slice head, struct moon_buf *out,
                       int parts)
{
    struct moon_h1_scan scan = {.at = 0};
    struct moon_request request;
    size_t head_len = 0;
    bench_check(moon_h1_scan(&scan, head, &bench_limits, &head_len));
    if (parts < 2)
        return;
    moon_request_init(&request, arena);
    bench_check(
        moon_h1_parse_request(&request, moon_slice(head.data, head_len), &bench_limits, false));
    if (parts > 2) {
        moon_fields_remove_hop_by_hop(&request.fields);
        bench_check(moon_h1_write_request(out, &request, request.target, true));
        moon_buf_clear(out);
    }
    moon_arena_reset(arena);
}

static void bench_run(const char *name, struct moon_slice head, int64_t rounds)
{
    static const char *const what[] = {"", "scan", "scan+parse", "scan+parse+write"};
    struct moon_arena arena;
    struct moon_buf out;
    moon_arena_init(&arena, BENCH_ARENA_BYTES);
    moon_buf_init(&out, BENCH_ARENA_BYTES);
    for (int parts = 1; parts <= 3; parts++) {
        int64_t best = INT64_MAX;
        for (int round = 0; round < 5; round++) {
            int64_t start = moon_clock_cpu_us();
            for (int64_t i = 0; i < rounds; i++)
                bench_once(&arena, head, &out, parts);
            int64_t took = moon_clock_cpu_us() - start;
            best = took < best ? took : best;
        }
        double ns = (double)best * 1000.0 / (double)rounds;
        printf("%-8s %5zu bytes  %-17s %8.1f ns  %6.2f GB/s\n", name, head.len, what[parts], ns,
               (double)head.len / ns);
    }
    moon_buf_fini(&out);
}

int main(int argc, char **argv)
{
    int64_t rounds = 300000;
    if (argc > 1 && !moon_slice_number(moon_slice_text(argv[1]), &rounds))
        return 2;
    bench_run("short", MOON_S(bench_short), rounds);
    bench_run("browser", MOON_S(bench_browser), rounds);
    return 0;
}
