/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "upstream/redis_internal.h"

enum {
    CLUSTER_SLOTS = 16384,
    CLUSTER_NODES = 256,
    CLUSTER_NONE = 0xffff,
    CLUSTER_CALM_MS = 10000, // the map is read again while all is well
    CLUSTER_WORRY_MS = 250,  // and while it is not whole
    CLUSTER_MOVED_MS = 20,   // after a redirect; many come together
    CLUSTER_ANSWER_MS = 1000,
};

struct cluster_node {
    struct redis_conn *conn; // NULL: free
    bool is_seed;
    bool is_named; // by the map
};

struct redis_cluster {
    struct moon_redis *redis;
    struct cluster_node nodes[CLUSTER_NODES];
    size_t next; // node to ask for the map
    uint16_t slots[CLUSTER_SLOTS];
    struct moon_timer refresh;
    const struct redis_conn *asked; // for the map; it answers before it is freed
    bool is_asking, is_whole;
};

// ---- slots -------------------------------------------------------------------------------------

// CRC16 (XMODEM), four bits at a time.
static uint16_t cluster_crc16(struct moon_slice s)
{
    static const uint16_t steps[16] = {
        0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
        0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
    };
    unsigned crc = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned byte = (unsigned char)s.data[i];
        crc = ((crc << 4) & 0xffff) ^ steps[(crc >> 12) ^ (byte >> 4)];
        crc = ((crc << 4) & 0xffff) ^ steps[(crc >> 12) ^ (byte & 15)];
    }
    return (uint16_t)crc;
}

int redis_cluster_slot(struct moon_slice key)
{
    size_t open = moon_slice_find(key, '{');
    struct moon_slice rest = moon_slice_from(key, open + 1);
    size_t len = moon_slice_find(rest, '}');
    if (open < key.len && len < rest.len && len > 0)
        key = moon_slice(rest.data, len);
    return cluster_crc16(key) % CLUSTER_SLOTS;
}

// ---- nodes -------------------------------------------------------------------------------------

static const struct redis_conn_events cluster_events;

static uint16_t cluster_node(struct redis_cluster *cluster,
                             const struct moon_redis_address *address)
{
    uint16_t free_node = CLUSTER_NONE;
    // NOLINTNEXTLINE(bugprone-too-small-loop-variable): a false alarm
    for (uint16_t i = 0; i < CLUSTER_NODES; i++) {
        const struct redis_conn *conn = cluster->nodes[i].conn;
        if (conn == NULL) {
            free_node = free_node == CLUSTER_NONE ? i : free_node;
        } else if (conn->address.port == address->port &&
                   strcmp(conn->address.host, address->host) == 0) {
            return i;
        }
    }
    if (free_node == CLUSTER_NONE) {
        moon_log_error("redis: the Cluster has more than %d nodes", (int)CLUSTER_NODES);
        return CLUSTER_NONE;
    }
    struct redis_conn *conn = redis_conn_new(cluster->redis, address, &cluster_events);
    if (conn == NULL)
        return CLUSTER_NONE;
    cluster->nodes[free_node] = (struct cluster_node){.conn = conn};
    return free_node;
}

static struct redis_conn *cluster_any(struct redis_cluster *cluster)
{
    struct redis_conn *found = NULL;
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        struct redis_conn *conn = cluster->nodes[(cluster->next + i) % CLUSTER_NODES].conn;
        if (conn == NULL)
            continue;
        if (conn->state == REDIS_READY && redis_conn_takes(conn))
            return conn;
        if (found == NULL && redis_conn_takes(conn))
            found = conn;
    }
    return found;
}

struct redis_conn *redis_cluster_conn(struct redis_cluster *cluster, int slot)
{
    if (slot < 0 || cluster->slots[slot] == CLUSTER_NONE)
        return cluster_any(cluster); // it tells where to go
    return cluster->nodes[cluster->slots[slot]].conn;
}

bool redis_cluster_is_up(const struct redis_cluster *cluster)
{
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        const struct redis_conn *conn = cluster->nodes[i].conn;
        if (conn != NULL && redis_conn_takes(conn))
            return true;
    }
    return false;
}

// ---- the map -----------------------------------------------------------------------------------

static bool cluster_address(const struct moon_redis_reply *node, const struct redis_conn *from,
                            struct moon_redis_address *out)
{
    int64_t port;
    if (node->type != MOON_REDIS_ARRAY || node->count < 2 ||
        !moon_redis_integer(node->elements[1], &port) || port < 1 || port > 65535)
        return false;
    out->port = (uint16_t)port;
    struct moon_slice host = node->elements[0]->text;
    if (host.len == 0) // the node does not know its own name
        host = moon_slice_text(from->address.host);
    return moon_slice_copy_text(host, out->host, sizeof(out->host));
}

// [first, last, [host, port, id], replicas...]
static void cluster_read_range(struct redis_cluster *cluster, const struct redis_conn *from,
                               const struct moon_redis_reply *range, size_t *covered)
{
    struct moon_redis_address address = {0};
    int64_t first, last;
    if (range->type != MOON_REDIS_ARRAY || range->count < 3 ||
        !moon_redis_integer(range->elements[0], &first) ||
        !moon_redis_integer(range->elements[1], &last) || first < 0 || last < first ||
        last >= CLUSTER_SLOTS || !cluster_address(range->elements[2], from, &address))
        return;
    uint16_t node = cluster_node(cluster, &address);
    if (node == CLUSTER_NONE)
        return;
    cluster->nodes[node].is_named = true;
    for (int64_t i = first; i <= last; i++)
        cluster->slots[i] = node;
    *covered += (size_t)(last - first + 1);
}

static void cluster_drop_unnamed(struct redis_cluster *cluster)
{
    for (size_t i = 0; i < CLUSTER_NODES; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        if (node->conn == NULL || node->is_named || node->is_seed)
            continue;
        struct redis_conn *conn = node->conn;
        moon_log_info("redis: %s:%u serves no slots of the Cluster any more", conn->address.host,
                      conn->address.port);
        node->conn = NULL;
        redis_conn_free(conn, true);
    }
}

static void cluster_told(void *owner, enum moon_rc rc, const struct moon_redis_reply *reply)
{
    struct redis_cluster *cluster = owner;
    cluster->is_asking = false;
    cluster->next = (cluster->next + 1) % CLUSTER_NODES;
    if (rc != MOON_OK || reply->type != MOON_REDIS_ARRAY || reply->count == 0)
        return;
    const struct redis_conn *from = cluster->asked;
    size_t covered = 0;
    memset(cluster->slots, 0xff, sizeof(cluster->slots));
    for (size_t i = 0; i < CLUSTER_NODES; i++)
        cluster->nodes[i].is_named = false;
    for (size_t i = 0; i < reply->count; i++)
        cluster_read_range(cluster, from, reply->elements[i], &covered);
    cluster->is_whole = covered == CLUSTER_SLOTS;
    moon_timer_set(&cluster->refresh, cluster->is_whole ? CLUSTER_CALM_MS : CLUSTER_WORRY_MS);
    cluster_drop_unnamed(cluster);
}

static void cluster_refresh(struct moon_timer *timer)
{
    struct redis_cluster *cluster = timer->owner;
    static const char *const argv[] = {"CLUSTER", "SLOTS"};
    moon_timer_set(timer, CLUSTER_WORRY_MS); // unless the answer says that all is well
    struct redis_conn *conn = cluster_any(cluster);
    if (cluster->is_asking || conn == NULL || conn->state != REDIS_READY)
        return;
    struct moon_redis_command *c =
        redis_command_new(cluster->redis, 2, argv, NULL, cluster_told, cluster);
    if (c == NULL)
        return;
    c->is_internal = true;
    c->deadline_ms = moon_clock_ms() + CLUSTER_ANSWER_MS;
    if (redis_conn_send(conn, c) != MOON_AGAIN)
        redis_command_free(c);
    else
        cluster->is_asking = true;
    cluster->asked = conn;
}

static void cluster_soon(struct redis_cluster *cluster, int64_t after_ms)
{
    int64_t at_ms = moon_loop_now_ms(cluster->redis->loop) + after_ms;
    if (!moon_timer_is_running(&cluster->refresh) || cluster->refresh.deadline_ms > at_ms)
        moon_timer_set(&cluster->refresh, after_ms);
}

struct redis_conn *redis_cluster_redirect(struct redis_cluster *cluster, struct moon_slice error,
                                          const struct redis_conn *from, bool *is_ask)
{
    struct moon_redis_address address = {0};
    int64_t slot, port;
    *is_ask = moon_slice_starts(error, MOON_S("ASK "));
    if (!*is_ask && !moon_slice_starts(error, MOON_S("MOVED ")))
        return NULL;
    struct moon_slice rest = moon_slice_from(error, *is_ask ? 4 : 6);
    size_t space = moon_slice_find(rest, ' ');
    struct moon_slice where = moon_slice_from(rest, space + 1);
    size_t colon = where.len;
    while (colon > 0 && where.data[colon - 1] != ':')
        colon--;
    if (colon == 0 || !moon_slice_number(moon_slice(rest.data, space), &slot) ||
        slot >= CLUSTER_SLOTS || !moon_slice_number(moon_slice_from(where, colon), &port) ||
        port < 1 || port > 65535)
        return NULL;
    struct moon_slice host = moon_slice(where.data, colon - 1);
    if (host.len == 0)
        host = moon_slice_text(from->address.host);
    if (!moon_slice_copy_text(host, address.host, sizeof(address.host)))
        return NULL;
    address.port = (uint16_t)port;
    uint16_t node = cluster_node(cluster, &address);
    if (node == CLUSTER_NONE)
        return NULL;
    if (!*is_ask) {
        cluster->slots[slot] = node;
        cluster_soon(cluster, CLUSTER_MOVED_MS);
    }
    return cluster->nodes[node].conn;
}

static void cluster_ready(void *owner, struct redis_conn *conn)
{
    struct redis_cluster *cluster = ((struct moon_redis *)owner)->cluster;
    (void)conn;
    if (cluster != NULL && !cluster->is_whole)
        cluster_soon(cluster, 0);
}

static void cluster_down(void *owner, struct redis_conn *conn)
{
    struct redis_cluster *cluster = ((struct moon_redis *)owner)->cluster;
    (void)conn;
    if (cluster != NULL)
        cluster_soon(cluster, CLUSTER_WORRY_MS);
}

static const struct redis_conn_events cluster_events = {
    .on_ready = cluster_ready,
    .on_down = cluster_down,
};

enum moon_rc redis_cluster_new(struct moon_redis *redis, struct redis_cluster **out)
{
    struct redis_cluster *cluster = calloc(1, sizeof(*cluster));
    if (cluster == NULL)
        return MOON_ERR_MEMORY;
    cluster->redis = redis;
    memset(cluster->slots, 0xff, sizeof(cluster->slots));
    moon_timer_init(&cluster->refresh, redis->loop, cluster_refresh, cluster);
    for (size_t i = 0; i < redis->conf.address_count; i++) {
        uint16_t node = cluster_node(cluster, &redis->conf.addresses[i]);
        if (node == CLUSTER_NONE) {
            redis_cluster_free(cluster);
            return MOON_ERR_MEMORY;
        }
        cluster->nodes[node].is_seed = true;
    }
    moon_timer_set(&cluster->refresh, 0);
    *out = cluster;
    return MOON_OK;
}

void redis_cluster_free(struct redis_cluster *cluster)
{
    if (cluster == NULL)
        return;
    moon_timer_stop(&cluster->refresh);
    for (size_t i = 0; i < CLUSTER_NODES; i++)
        redis_conn_free(cluster->nodes[i].conn, false);
    free(cluster);
}
