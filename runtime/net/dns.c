/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns.h"

#include "base/hash.h"
#include "base/log.h"
#include "net/dns_channel.h"
#include "net/dns_records.h"

#include <netdb.h>
#include <netinet/in.h>

enum {
    DNS_NAME_BYTES = 253,
    DNS_PTR_BYTES = 73, // "0.1. ... .f.ip6.arpa" and NUL
    DNS_TTL_LEAST_MS = 1000,
    DNS_TTL_MOST_MS = 300 * 1000,
    DNS_RETRY_MS = 5 * 1000,              // how long a failure is remembered
    DNS_STALE_MOST_MS = 24 * 3600 * 1000, // how long an answer outlives its TTL
    DNS_BUCKETS = 1024,
    DNS_ENTRIES = 4096, // names that are remembered; the least used goes first
};

enum dns_kind { DNS_ADDRESS, DNS_SRV, DNS_PTR };

struct dns_entry {
    struct moon_list link; // in its bucket
    struct moon_list used; // in the order of use, newest first
    struct moon_list waiters;
    struct moon_dns *dns;
    uint64_t hash;
    struct moon_dns_answer answer; // rc is MOON_OK; valid while has_answer
    int64_t expires_ms, refresh_ms;
    int64_t retry_ms; // after a failure: no query before
    bool has_answer;
    bool is_querying;
    char name[DNS_NAME_BYTES + 1];
};

struct moon_dns_query {
    struct moon_list link; // waiters of an entry, or the finished
    struct moon_dns *dns;
    enum dns_kind kind;
    void *owner;
    moon_dns_fn *on_address;
    moon_dns_srv_fn *on_srv;
    moon_dns_ptr_fn *on_ptr;
    bool is_cancelled; // SRV, PTR: c-ares has it still
    bool is_finished;
    enum moon_rc rc;
    struct moon_dns_answer *answer; // owned; NULL where it failed
    struct moon_dns_srv *records;   // owned
    size_t record_count;
    int64_t ttl_ms;
    char name[DNS_NAME_BYTES + 3];
};

struct moon_dns {
    struct dns_channel channel;
    struct moon_loop *loop;
    struct moon_list buckets[DNS_BUCKETS];
    struct moon_list used;
    size_t entry_count;
    struct moon_list pending;  // SRV and PTR queries that c-ares has
    struct moon_list finished; // to be called back outside of c-ares
    struct moon_task deliver;
    int64_t min_ttl_ms, max_ttl_ms;
};

// Queries and their delivery

static struct moon_dns_query *query_new(struct moon_dns *dns, enum dns_kind kind, void *owner)
{
    struct moon_dns_query *query = calloc(1, sizeof(*query));
    if (query == NULL)
        return NULL;
    query->dns = dns;
    query->kind = kind;
    query->owner = owner;
    query->rc = MOON_ERR_DNS;
    moon_list_init(&query->link);
    return query;
}

static void query_free(struct moon_dns_query *query)
{
    moon_list_remove(&query->link);
    free(query->answer);
    free(query->records);
    free(query);
}

static void query_finish(struct moon_dns_query *query)
{
    struct moon_dns *dns = query->dns;
    moon_list_remove(&query->link);
    query->is_finished = true;
    moon_list_push_back(&dns->finished, &query->link);
    moon_task_post(dns->loop, &dns->deliver);
}

static void query_call_back(struct moon_dns_query *query)
{
    static const struct moon_dns_answer failed = {.rc = MOON_ERR_DNS};
    switch (query->kind) {
    case DNS_ADDRESS:
        query->on_address(query->owner, query->answer != NULL ? query->answer : &failed);
        break;
    case DNS_SRV:
        query->on_srv(query->owner, query->rc, query->records, query->record_count, query->ttl_ms);
        break;
    case DNS_PTR:
        query->on_ptr(query->owner, query->rc, query->name);
        break;
    }
}

static void dns_deliver(struct moon_task *task)
{
    struct moon_dns *dns = task->owner;
    while (!moon_list_is_empty(&dns->finished)) {
        struct moon_dns_query *query =
            MOON_LIST_ENTRY(dns->finished.next, struct moon_dns_query, link);
        moon_list_remove(&query->link);
        query_call_back(query);
        query_free(query);
    }
}

void moon_dns_cancel(struct moon_dns_query *query)
{
    if (query->kind == DNS_ADDRESS || query->is_finished)
        query_free(query);
    else
        query->is_cancelled = true;
}

// The cache

static struct dns_entry *entry_find(struct moon_dns *dns, const char *name, uint64_t hash)
{
    MOON_LIST_EACH(at, after, &dns->buckets[hash % DNS_BUCKETS])
    {
        struct dns_entry *entry = MOON_LIST_ENTRY(at, struct dns_entry, link);
        if (entry->hash == hash && strcmp(entry->name, name) == 0)
            return entry;
    }
    return NULL;
}

static void entry_free(struct dns_entry *entry)
{
    entry->dns->entry_count--;
    moon_list_remove(&entry->link);
    moon_list_remove(&entry->used);
    free(entry);
}

static void dns_make_room(struct moon_dns *dns)
{
    for (struct moon_list *at = dns->used.prev; at != &dns->used; at = at->prev) {
        struct dns_entry *entry = MOON_LIST_ENTRY(at, struct dns_entry, used);
        if (!entry->is_querying && moon_list_is_empty(&entry->waiters)) {
            entry_free(entry);
            return;
        }
    }
}

static struct dns_entry *entry_get(struct moon_dns *dns, const char *name)
{
    uint64_t hash = moon_hash(moon_slice_text(name));
    struct dns_entry *entry = entry_find(dns, name, hash);
    if (entry != NULL) {
        moon_list_remove(&entry->used);
        moon_list_push_front(&dns->used, &entry->used);
        return entry;
    }
    if (dns->entry_count >= DNS_ENTRIES)
        dns_make_room(dns);
    if (dns->entry_count >= DNS_ENTRIES || (entry = calloc(1, sizeof(*entry))) == NULL)
        return NULL;
    entry->dns = dns;
    entry->hash = hash;
    memcpy(entry->name, name, strlen(name) + 1);
    moon_list_init(&entry->waiters);
    moon_list_push_front(&dns->buckets[hash % DNS_BUCKETS], &entry->link);
    moon_list_push_front(&dns->used, &entry->used);
    dns->entry_count++;
    return entry;
}

static int64_t dns_clamp(const struct moon_dns *dns, int64_t ttl_ms)
{
    ttl_ms = ttl_ms < dns->max_ttl_ms ? ttl_ms : dns->max_ttl_ms;
    return ttl_ms > dns->min_ttl_ms ? ttl_ms : dns->min_ttl_ms;
}

/// Copies the addresses. @return the lowest TTL in milliseconds, clamped
static int64_t answer_fill(const struct moon_dns *dns, struct moon_dns_answer *answer,
                           const struct ares_addrinfo *found)
{
    int64_t ttl_ms = INT64_MAX;
    *answer = (struct moon_dns_answer){.rc = MOON_OK};
    for (const struct ares_addrinfo_node *node = found->nodes;
         node != NULL && answer->count < MOON_DNS_ADDRESSES; node = node->ai_next) {
        if (node->ai_family != AF_INET && node->ai_family != AF_INET6)
            continue;
        uint16_t port;
        answer->addresses[answer->count++] = moon_ip_from_sockaddr(node->ai_addr, &port);
        if ((int64_t)node->ai_ttl * 1000 < ttl_ms)
            ttl_ms = (int64_t)node->ai_ttl * 1000;
    }
    return dns_clamp(dns, ttl_ms);
}

static void entry_succeed(struct dns_entry *entry, const struct moon_dns_answer *answer,
                          int64_t ttl_ms)
{
    int64_t now_ms = moon_loop_now_ms(entry->dns->loop);
    entry->answer = *answer;
    entry->has_answer = true;
    entry->retry_ms = 0;
    entry->expires_ms = now_ms + ttl_ms;
    // Between 75 % and 90 % of the TTL: workers that asked together do not ask together again.
    int64_t jitter_ms = (int64_t)(moon_random_fast() % (uint64_t)(ttl_ms * 15 / 100 + 1));
    entry->refresh_ms = now_ms + ttl_ms * 75 / 100 + jitter_ms;
}

static void entry_fail(struct dns_entry *entry, int status)
{
    moon_log_info("dns: %s: %s", entry->name, ares_strerror(status));
    // That a name does not exist is an answer; only a failure to get one keeps the old.
    if (status == ARES_ENOTFOUND || status == ARES_ENODATA)
        entry->has_answer = false;
    entry->retry_ms = moon_loop_now_ms(entry->dns->loop) + DNS_RETRY_MS;
}

static bool entry_is_stale(const struct dns_entry *entry)
{
    return moon_loop_now_ms(entry->dns->loop) >= entry->expires_ms;
}

static void entry_answer_waiters(struct dns_entry *entry)
{
    MOON_LIST_EACH(at, after, &entry->waiters)
    {
        struct moon_dns_query *query = MOON_LIST_ENTRY(at, struct moon_dns_query, link);
        if (entry->has_answer && (query->answer = malloc(sizeof(*query->answer))) != NULL) {
            *query->answer = entry->answer;
            query->answer->is_stale = entry_is_stale(entry);
        }
        query_finish(query);
    }
}

static void entry_answered(void *arg, int status, int timeouts, struct ares_addrinfo *found)
{
    (void)timeouts;
    struct dns_entry *entry = arg;
    struct moon_dns_answer answer = {.count = 0};
    int64_t ttl_ms =
        found == NULL || status != ARES_SUCCESS ? 0 : answer_fill(entry->dns, &answer, found);
    if (found != NULL)
        ares_freeaddrinfo(found);
    entry->is_querying = false;
    entry->dns->channel.under_way--;
    if (status == ARES_EDESTRUCTION)
        return; // moon_dns_free, or the channel is made anew; nothing was under way then
    if (answer.count > 0)
        entry_succeed(entry, &answer, ttl_ms);
    else
        entry_fail(entry, status == ARES_SUCCESS ? ARES_ENODATA : status);
    entry_answer_waiters(entry);
}

static void entry_query(struct dns_entry *entry)
{
    struct moon_dns *dns = entry->dns;
    struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (entry->is_querying)
        return;
    moon_dns_channel_check(&dns->channel);
    if (dns->channel.ares == NULL) {
        entry_fail(entry, ARES_ENOTINITIALIZED);
        entry_answer_waiters(entry);
        return;
    }
    entry->is_querying = true;
    dns->channel.under_way++;
    ares_getaddrinfo(dns->channel.ares, entry->name, NULL, &hints, entry_answered, entry);
    moon_dns_channel_started(&dns->channel);
}

/// The cached answer, when there is one to give without asking first.
static bool entry_cached(struct dns_entry *entry, struct moon_dns_answer *answer)
{
    int64_t now_ms = moon_loop_now_ms(entry->dns->loop);
    if (!entry->has_answer)
        return false;
    if (now_ms >= entry->expires_ms + DNS_STALE_MOST_MS) {
        entry->has_answer = false;
        return false;
    }
    if (now_ms >= entry->expires_ms && now_ms >= entry->retry_ms)
        return false; // ask first
    *answer = entry->answer;
    answer->is_stale = now_ms >= entry->expires_ms;
    if (now_ms >= entry->refresh_ms && now_ms >= entry->retry_ms)
        entry_query(entry);
    return true;
}

static bool dns_copy_name(struct moon_slice name, char into[DNS_NAME_BYTES + 1])
{
    if (name.len == 0 || !moon_slice_copy_text(name, into, DNS_NAME_BYTES + 1))
        return false;
    for (char *c = into; *c != '\0'; c++) {
        *c = moon_lower(*c);
        if (*c <= ' ' || *c == 0x7f)
            return false;
    }
    return true;
}

enum moon_rc moon_dns_resolve(struct moon_dns *dns, struct moon_slice name, moon_dns_fn *callback,
                              void *owner, struct moon_dns_answer *answer,
                              struct moon_dns_query **query)
{
    struct moon_ip literal;
    if (moon_ip_parse(name, &literal)) {
        *answer = (struct moon_dns_answer){.rc = MOON_OK, .count = 1};
        answer->addresses[0] = literal;
        return MOON_OK;
    }
    char text[DNS_NAME_BYTES + 1];
    struct dns_entry *entry = dns_copy_name(name, text) ? entry_get(dns, text) : NULL;
    if (entry == NULL)
        return MOON_ERR_DNS;
    if (entry_cached(entry, answer))
        return MOON_OK;
    if (!entry->has_answer && moon_loop_now_ms(dns->loop) < entry->retry_ms)
        return MOON_ERR_DNS;
    struct moon_dns_query *waiter = query_new(dns, DNS_ADDRESS, owner);
    if (waiter == NULL)
        return MOON_ERR_MEMORY;
    waiter->on_address = callback;
    moon_list_push_back(&entry->waiters, &waiter->link);
    *query = waiter;
    entry_query(entry);
    return MOON_AGAIN;
}

// SRV and PTR: asked each time; their callers keep what they need by the TTL

static enum moon_rc query_start(struct moon_dns *dns, struct moon_dns_query *query)
{
    moon_dns_channel_check(&dns->channel);
    if (dns->channel.ares == NULL) {
        query_free(query);
        return MOON_ERR_DNS;
    }
    moon_list_push_back(&dns->pending, &query->link);
    dns->channel.under_way++;
    return MOON_AGAIN;
}

static void query_answered(struct moon_dns_query *query, int status)
{
    query->dns->channel.under_way--;
    if (query->is_cancelled || status == ARES_EDESTRUCTION)
        query_free(query);
    else
        query_finish(query);
}

static void srv_answered(void *arg, int status, int timeouts, unsigned char *reply, int len)
{
    (void)timeouts;
    struct moon_dns_query *query = arg;
    struct moon_dns_srv *records = NULL;
    if (status == ARES_SUCCESS && !query->is_cancelled)
        records = calloc(MOON_DNS_RECORDS, sizeof(*records));
    if (records != NULL) {
        query->records = records;
        query->record_count = moon_dns_read_srv(
            moon_slice((const char *)reply, (size_t)(len > 0 ? len : 0)), records, &query->ttl_ms);
        query->ttl_ms = dns_clamp(query->dns, query->ttl_ms);
        query->rc = query->record_count > 0 ? MOON_OK : MOON_ERR_DNS;
    }
    query_answered(query, status);
}

enum moon_rc moon_dns_resolve_srv(struct moon_dns *dns, struct moon_slice name,
                                  moon_dns_srv_fn *callback, void *owner,
                                  struct moon_dns_query **query)
{
    char text[DNS_NAME_BYTES + 1];
    if (!dns_copy_name(name, text))
        return MOON_ERR_DNS;
    struct moon_dns_query *asked = query_new(dns, DNS_SRV, owner);
    if (asked == NULL)
        return MOON_ERR_MEMORY;
    asked->on_srv = callback;
    enum moon_rc rc = query_start(dns, asked);
    if (rc != MOON_AGAIN)
        return rc;
    *query = asked;
    ares_search(dns->channel.ares, text, 1, 33, srv_answered, asked); // IN SRV
    moon_dns_channel_started(&dns->channel);
    return MOON_AGAIN;
}

// c-ares's own look-up of an address does not tell that it has no name from a server that is silent.
static void ptr_answered(void *arg, int status, int timeouts, unsigned char *reply, int len)
{
    (void)timeouts;
    struct moon_dns_query *query = arg;
    struct hostent *host = NULL;
    if (status == ARES_SUCCESS)
        status = ares_parse_ptr_reply(reply, len, NULL, 0, AF_INET, &host);
    bool is_there = status == ARES_SUCCESS && host != NULL && host->h_name != NULL;
    if (is_there &&
        moon_slice_copy_text(moon_slice_text(host->h_name), query->name, sizeof(query->name)))
        query->rc = MOON_OK;
    else if (status == ARES_ENOTFOUND || status == ARES_ENODATA)
        query->rc = MOON_OK; // without a name
    if (host != NULL)
        ares_free_hostent(host);
    query_answered(query, status);
}

// The name that the name of an address is asked by.
static void ptr_name(const struct moon_ip *ip, char out[DNS_PTR_BYTES])
{
    const uint8_t *b = ip->bytes;
    if (moon_ip_is_v4(ip)) {
        (void)snprintf(out, DNS_PTR_BYTES, "%u.%u.%u.%u.in-addr.arpa", b[15], b[14], b[13], b[12]);
        return;
    }
    static const char digits[] = "0123456789abcdef";
    for (int i = 15; i >= 0; i--) {
        *out++ = digits[b[i] & 15];
        *out++ = '.';
        *out++ = digits[b[i] >> 4];
        *out++ = '.';
    }
    memcpy(out, "ip6.arpa", 9);
}

enum moon_rc moon_dns_resolve_ptr(struct moon_dns *dns, const struct moon_ip *ip,
                                  moon_dns_ptr_fn *callback, void *owner,
                                  struct moon_dns_query **query)
{
    struct moon_dns_query *asked = query_new(dns, DNS_PTR, owner);
    if (asked == NULL)
        return MOON_ERR_MEMORY;
    asked->on_ptr = callback;
    enum moon_rc rc = query_start(dns, asked);
    if (rc != MOON_AGAIN)
        return rc;
    *query = asked;
    char name[DNS_PTR_BYTES];
    ptr_name(ip, name);
    ares_query(dns->channel.ares, name, 1, 12, ptr_answered, asked); // IN PTR
    moon_dns_channel_started(&dns->channel);
    return MOON_AGAIN;
}

struct moon_dns *moon_dns_new(struct moon_loop *loop, const char *servers)
{
    struct moon_dns *dns = calloc(1, sizeof(*dns));
    if (dns == NULL)
        return NULL;
    dns->loop = loop;
    dns->min_ttl_ms = DNS_TTL_LEAST_MS;
    dns->max_ttl_ms = DNS_TTL_MOST_MS;
    for (size_t i = 0; i < DNS_BUCKETS; i++)
        moon_list_init(&dns->buckets[i]);
    moon_list_init(&dns->used);
    moon_list_init(&dns->pending);
    moon_list_init(&dns->finished);
    moon_task_init(&dns->deliver, dns_deliver, dns);
    if (moon_dns_channel_init(&dns->channel, loop, servers) != MOON_OK) {
        moon_dns_channel_fini(&dns->channel);
        free(dns);
        return NULL;
    }
    return dns;
}

void moon_dns_configure(struct moon_dns *dns, struct moon_slice servers, int64_t min_ttl_ms,
                        int64_t max_ttl_ms)
{
    dns->min_ttl_ms = min_ttl_ms > DNS_TTL_LEAST_MS ? min_ttl_ms : DNS_TTL_LEAST_MS;
    dns->max_ttl_ms = max_ttl_ms > dns->min_ttl_ms ? max_ttl_ms : dns->min_ttl_ms;
    moon_dns_channel_set_servers(&dns->channel, servers);
}

void moon_dns_free(struct moon_dns *dns)
{
    if (dns == NULL)
        return;
    moon_dns_channel_fini(&dns->channel); // frees what is pending
    moon_task_cancel(&dns->deliver);
    while (!moon_list_is_empty(&dns->finished))
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
        query_free(MOON_LIST_ENTRY(dns->finished.next, struct moon_dns_query, link));
    while (!moon_list_is_empty(&dns->used)) {
        struct dns_entry *entry = MOON_LIST_ENTRY(dns->used.next, struct dns_entry, used);
        while (!moon_list_is_empty(&entry->waiters))
            // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
            query_free(MOON_LIST_ENTRY(entry->waiters.next, struct moon_dns_query, link));
        entry_free(entry);
    }
    free(dns);
}
