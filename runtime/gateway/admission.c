/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/admission.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "gateway/addresses.h"
#include "gateway/client.h"
#include "gateway/session.h"
#include "shared/counters.h"

#include <malloc.h>
#include <unistd.h>

enum {
    ADMISSION_HANDSHAKE_MS = 10000, // that handshakes_per_address speaks of
    ADMISSION_LAG_US = 1000000,     // over which the lag is averaged
    ADMISSION_LONG_US = 50000,      // a turn that is looked at closely
    ADMISSION_LONGEST_US = 10000000,
    ADMISSION_LOOK = 64,      // oldest connections that are looked at for an idle one
    ADMISSION_IPV6_BYTES = 8, // a /64
};

static const struct {
    const char *label;
    const char *text;
} refusals[MOON_REFUSAL_COUNT] = {
    [MOON_REFUSED_CONNECTIONS] = {"connections", "the worker has limits.connections"},
    [MOON_REFUSED_ADDRESS] = {"address", "their address has limits.connections_per_address"},
    [MOON_REFUSED_HANDSHAKES] = {"handshakes",
                                 "their address passed limits.handshakes_per_address"},
    [MOON_REFUSED_PROXY_HEADER] = {"proxy_header", "the PROXY header is missing or malformed"},
    [MOON_REFUSED_HTTP2] = {"http2", "HTTP/2 protocol error or flood"},
};

void moon_admission_init(struct moon_gateway *gateway)
{
    struct moon_admission *admission = &gateway->admission;
    for (int why = 0; why < MOON_REFUSAL_COUNT; why++) {
        char label[64];
        int n = snprintf(label, sizeof(label), "reason=\"%s\"", refusals[why].label);
        admission->refused_series[why] = moon_metrics_series(
            gateway->env.metrics, MOON_METRIC_COUNTER, "moongate_connections_refused_total",
            "Connections closed by the gateway: over a limit, or hostile.",
            moon_slice(label, (size_t)n));
    }
    admission->turn_series = moon_metrics_series(
        gateway->env.metrics, MOON_METRIC_HISTOGRAM, "moongate_loop_turn_seconds",
        "How long a turn of a worker's loop took: what else was ready waited for it.",
        moon_slice("", 0));
    admission->shed_series = moon_metrics_series(
        gateway->env.metrics, MOON_METRIC_COUNTER, "moongate_requests_shed_total",
        "Requests answered 503 because the worker was overrun.", moon_slice("", 0));
}

static struct moon_ip admission_client(const struct moon_ip *ip)
{
    struct moon_ip client = *ip;
    if (!moon_ip_is_v4(ip))
        memset(client.bytes + ADMISSION_IPV6_BYTES, 0, sizeof(client.bytes) - ADMISSION_IPV6_BYTES);
    return client;
}

void moon_admission_refuse(struct moon_gateway *gateway, enum moon_refusal why,
                           const struct moon_ip *ip)
{
    struct moon_admission *admission = &gateway->admission;
    admission->refused[why]++;
    admission->last_refused[why] = *ip;
    moon_metrics_add(gateway->env.metrics, admission->refused_series[why], 1);
}

// Closes a connection that is kept alive with nothing under way on it. @return false when it is not
static bool admission_close_idle(struct moon_session *session)
{
    if (session->listener->is_management || session->is_lingering)
        return false;
    if (session->h2 != NULL)
        return moon_session_h2_yield(session);
    bool is_idle = session->exchange == NULL && session->requests > 0 && !session->is_skipping &&
                   moon_buf_len(&session->in) == 0 && moon_stream_queued(session->stream) == 0;
    if (is_idle)
        moon_session_free(session);
    return is_idle;
}

static bool admission_make_room(struct moon_gateway *gateway)
{
    int looked = 0;
    MOON_LIST_EACH(at, after, &gateway->sessions)
    {
        struct moon_session *session = MOON_LIST_ENTRY(at, struct moon_session, link);
        if (session != gateway->current_session && admission_close_idle(session))
            return true;
        if (++looked == ADMISSION_LOOK)
            break;
    }
    return false;
}

bool moon_admission_has_room(struct moon_gateway *gateway, const struct sockaddr *peer)
{
    size_t most = gateway->generation->plan->limits.connections;
    if (most == 0 || gateway->session_count < most || admission_make_room(gateway))
        return true;
    uint16_t port;
    struct moon_ip ip = moon_ip_from_sockaddr(peer, &port);
    moon_admission_refuse(gateway, MOON_REFUSED_CONNECTIONS, &ip);
    return false;
}

// Counted for all workers together: who is refused by one tries the next.
static bool admission_may_handshake(struct moon_gateway *gateway, const struct moon_ip *client,
                                    size_t most)
{
    struct moon_counter_key key =
        moon_counter_key(MOON_S("limits.handshakes_per_address"),
                         moon_slice((const char *)client->bytes, sizeof(client->bytes)));
    return moon_counters_gcra(gateway->env.counters, key, (int64_t)most, ADMISSION_HANDSHAKE_MS,
                              (int64_t)most, 1, MOON_LIMIT_TAKE, moon_clock_us())
        .is_allowed;
}

bool moon_admission_enter(struct moon_gateway *gateway, const struct sockaddr *peer, bool is_tls,
                          bool *is_counted)
{
    const struct moon_plan *plan = gateway->generation->plan;
    const struct moon_limits_conf *limits = &plan->limits;
    bool has_limit =
        limits->connections_per_address > 0 || (is_tls && limits->handshakes_per_address > 0);
    uint16_t port;
    *is_counted = false;
    if (!has_limit || peer->sa_family == AF_UNIX)
        return true;
    if (moon_client_is_trusted(plan, peer))
        return true;
    struct moon_ip ip = moon_ip_from_sockaddr(peer, &port);
    struct moon_ip client = admission_client(&ip);
    if (is_tls && limits->handshakes_per_address > 0 &&
        !admission_may_handshake(gateway, &client, limits->handshakes_per_address)) {
        moon_admission_refuse(gateway, MOON_REFUSED_HANDSHAKES, &ip);
        return false;
    }
    if (limits->connections_per_address == 0)
        return true;
    *is_counted =
        moon_addresses_enter(gateway->addresses, &client, limits->connections_per_address);
    if (!*is_counted)
        moon_admission_refuse(gateway, MOON_REFUSED_ADDRESS, &ip);
    return *is_counted;
}

void moon_admission_leave(struct moon_gateway *gateway, const struct moon_ip *ip)
{
    struct moon_ip client = admission_client(ip);
    moon_addresses_leave(gateway->addresses, &client);
}

// The average length of a turn, over time: idle time counts as none, a long turn for as long as it
// took. One policy that spins does not make a worker overrun; a queue that never empties does.
void moon_admission_turned(struct moon_gateway *gateway, int64_t turn_us, int64_t now_us)
{
    struct moon_admission *admission = &gateway->admission;
    int64_t since = now_us - admission->turned_at_us;
    moon_metrics_observe(gateway->env.metrics, admission->turn_series, turn_us);
    if (turn_us > admission->longest_us[0])
        admission->longest_us[0] = turn_us;
    admission->turned_at_us = now_us;
    admission->turn_requests = 0;
    admission->is_turn_long = false;
    if (since > turn_us) // it was idle before
        admission->lag_us -=
            admission->lag_us * (since - turn_us) / (since - turn_us + ADMISSION_LAG_US);
    admission->lag_us += (turn_us - admission->lag_us) * turn_us / (turn_us + ADMISSION_LAG_US);
}

// How long the turn of the loop in progress has taken: what else was ready waits for it, and past
// two seconds the supervisor takes the worker for stuck.
static int64_t admission_turn_us(struct moon_gateway *gateway)
{
    const struct moon_board_slot *slot = gateway->env.slot;
    struct moon_admission *admission = &gateway->admission;
    // The clock is read for every fourth request, and for each once the turn has become long.
    if (++admission->turn_requests % 4 != 0 && !admission->is_turn_long)
        return 0;
    int64_t began_us =
        slot == NULL ? 0 : atomic_load_explicit(&slot->beat_us, memory_order_relaxed);
    int64_t turn_us = began_us == 0 ? 0 : moon_clock_real_us() - began_us;
    admission->is_turn_long = turn_us > ADMISSION_LONG_US;
    return turn_us;
}

// Past the limit some are shed, at twice the limit all: so the lag settles in between.
static bool admission_is_behind(struct moon_gateway *gateway)
{
    int64_t most = gateway->generation->plan->limits.overload_lag_ms * 1000;
    int64_t turn_us = most > 0 ? admission_turn_us(gateway) : 0;
    int64_t lag_us = gateway->admission.lag_us > turn_us ? gateway->admission.lag_us : turn_us;
    int64_t excess = lag_us - most;
    return most > 0 && excess > 0 && (int64_t)(moon_random_fast() % (uint64_t)most) < excess;
}

bool moon_admission_sheds(struct moon_gateway *gateway)
{
    struct moon_admission *admission = &gateway->admission;
    if (!admission->is_memory_short && !admission_is_behind(gateway))
        return false;
    admission->shed++;
    moon_metrics_add(gateway->env.metrics, admission->shed_series, 1);
    return true;
}

// Resident memory of this process; 0 where the kernel does not say.
static int64_t admission_memory(void)
{
    unsigned long total, resident;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    int n =
        fscanf(file, "%lu %lu", &total, &resident); // NOLINT(cert-err34-c): the kernel's numbers
    (void)fclose(file);
    return n == 2 ? (int64_t)resident * sysconf(_SC_PAGESIZE) : 0;
}

static void admission_watch_memory(struct moon_gateway *gateway)
{
    struct moon_admission *admission = &gateway->admission;
    int64_t most = gateway->generation->plan->limits.overload_memory_bytes;
    if (most <= 0) {
        admission->is_memory_short = false;
        return;
    }
    int64_t now = admission_memory();
    if (now > most) { // what is free but kept is no reason to refuse anybody
        (void)malloc_trim(0);
        now = admission_memory();
    }
    admission->is_memory_short = now > most;
    admission->memory_bytes = now;
}

static void admission_log_refused(struct moon_admission *admission)
{
    for (int why = 0; why < MOON_REFUSAL_COUNT; why++) {
        char text[MOON_IP_TEXT_BYTES];
        if (admission->refused[why] == 0)
            continue;
        moon_log_warn("connections refused=%llu reason=%s: %s; last client=%.*s",
                      (unsigned long long)admission->refused[why], refusals[why].label,
                      refusals[why].text, (int)moon_ip_format(&admission->last_refused[why], text),
                      text);
        admission->refused[why] = 0;
    }
}

static void admission_log_shed(struct moon_admission *admission)
{
    if (admission->shed > 0) {
        moon_log_warn("overrun: requests answered 503=%llu loop_lag_ms=%lld memory_bytes=%lld",
                      (unsigned long long)admission->shed, (long long)admission->lag_us / 1000,
                      (long long)admission->memory_bytes);
    } else if (admission->was_shedding) {
        moon_log_info("no longer overrun: all requests are served again");
    }
    admission->was_shedding = admission->shed > 0;
    admission->shed = 0;
}

static void admission_tell_longest(struct moon_gateway *gateway)
{
    struct moon_admission *admission = &gateway->admission;
    int64_t *longest_us = admission->longest_us, now_us = moon_clock_real_us();
    if (gateway->env.slot != NULL)
        atomic_store_explicit(&gateway->env.slot->longest_us,
                              longest_us[0] > longest_us[1] ? longest_us[0] : longest_us[1],
                              memory_order_relaxed);
    if (now_us - admission->longest_since_us < ADMISSION_LONGEST_US)
        return;
    admission->longest_since_us = now_us;
    longest_us[1] = longest_us[0];
    longest_us[0] = 0;
}

void moon_admission_tick(struct moon_gateway *gateway)
{
    admission_tell_longest(gateway);
    admission_watch_memory(gateway);
    admission_log_refused(&gateway->admission);
    admission_log_shed(&gateway->admission);
    if (gateway->env.slot != NULL)
        atomic_store_explicit(&gateway->env.slot->lag_us, gateway->admission.lag_us,
                              memory_order_relaxed);
}
