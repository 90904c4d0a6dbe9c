/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/redis.h"

void moon_redis_conf_init(struct moon_redis_conf *conf)
{
    *conf = (struct moon_redis_conf){
        .deadline_ms = 25,
        .connect_ms = 1000,
        .queue_commands = 16384,
        .reply_bytes = 8 * 1024 * 1024,
        .breaker_failures = 5,
        .probe_ms = 1000,
        .backoff_ms = 50,
        .backoff_most_ms = 1000,
    };
}

static enum moon_rc url_wrong(char *error, size_t cap, const char *what)
{
    (void)snprintf(error, cap, "%s", what);
    return MOON_ERR_CONFIG;
}

static int url_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = moon_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Percent-decodes into a text field. @return false when it does not fit or holds a NUL
static bool url_decode(struct moon_slice from, char *into, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < from.len; i++) {
        char c = from.data[i];
        if (c == '%' && i + 2 < from.len && url_hex(from.data[i + 1]) >= 0 &&
            url_hex(from.data[i + 2]) >= 0) {
            c = (char)(url_hex(from.data[i + 1]) * 16 + url_hex(from.data[i + 2]));
            i += 2;
        }
        if (c == '\0' || n + 1 >= cap)
            return false;
        into[n++] = c;
    }
    into[n] = '\0';
    return true;
}

static bool url_take(struct moon_slice *rest, const char *prefix)
{
    struct moon_slice p = moon_slice_text(prefix);
    if (!moon_slice_starts_nocase(*rest, p))
        return false;
    *rest = moon_slice_from(*rest, p.len);
    return true;
}

static bool url_database(struct moon_slice text, int *out)
{
    int64_t n;
    if (!moon_slice_number(text, &n) || n > 100000)
        return false;
    *out = (int)n;
    return true;
}

// "host", "host:port" or "[v6]:port".
static bool url_address(struct moon_slice text, uint16_t port, struct moon_redis_address *out)
{
    // NOLINTNEXTLINE(clang-analyzer-deadcode.DeadStores): kept for the reader
    struct moon_slice host = text, number = {0};
    if (text.len > 0 && text.data[0] == '[') {
        size_t end = moon_slice_find(text, ']');
        if (end == text.len)
            return false;
        host = moon_slice(text.data + 1, end - 1);
        number = moon_slice_from(text, end + 1);
    } else {
        size_t colon = moon_slice_find(text, ':');
        host = moon_slice(text.data, colon);
        number = moon_slice_from(text, colon);
    }
    int64_t n = port;
    if (number.len > 0 &&
        (number.data[0] != ':' || !moon_slice_number(moon_slice_from(number, 1), &n) || n < 1 ||
         n > 65535))
        return false;
    out->port = (uint16_t)n;
    return host.len > 0 && moon_slice_copy_text(host, out->host, sizeof(out->host));
}

static enum moon_rc url_addresses(struct moon_redis_conf *conf, struct moon_slice list, char *error,
                                  size_t cap)
{
    uint16_t port = conf->kind == MOON_REDIS_SENTINEL ? 26379 : 6379;
    struct moon_slice one;
    while (moon_slice_next_element(&list, &one)) {
        if (conf->address_count == MOON_REDIS_ADDRESSES)
            return url_wrong(error, cap, "at most 32 addresses");
        if (!url_address(one, port, &conf->addresses[conf->address_count]))
            return url_wrong(error, cap, "expected host, host:port or [address]:port");
        conf->address_count++;
    }
    if (conf->address_count == 0)
        return url_wrong(error, cap, "no host is named");
    return MOON_OK;
}

static enum moon_rc url_path(struct moon_redis_conf *conf, struct moon_slice path, char *error,
                             size_t cap)
{
    if (conf->kind == MOON_REDIS_SENTINEL) {
        size_t slash = moon_slice_find(path, '/');
        if (slash == 0 ||
            !url_decode(moon_slice(path.data, slash), conf->master_name, sizeof(conf->master_name)))
            return url_wrong(error, cap, "expected the master's name: redis+sentinel://host/name");
        path = moon_slice_from(path, slash + 1);
    }
    if (path.len == 0)
        return MOON_OK;
    if (!url_database(path, &conf->database))
        return url_wrong(error, cap, "expected the number of a database after the last /");
    if (conf->kind == MOON_REDIS_CLUSTER && conf->database != 0)
        return url_wrong(error, cap, "a Cluster has database 0 only");
    return MOON_OK;
}

static enum moon_rc url_unix(struct moon_redis_conf *conf, struct moon_slice rest, char *error,
                             size_t cap)
{
    struct moon_redis_address *address = &conf->addresses[0];
    size_t mark = moon_slice_find(rest, '?');
    struct moon_slice query = moon_slice_from(rest, mark + 1);
    if (mark == 0 || rest.data[0] != '/' ||
        !url_decode(moon_slice(rest.data, mark), address->host, sizeof(address->host)) ||
        strlen(address->host) > 107)
        return url_wrong(error, cap, "expected unix:///path/of/socket, at most 107 bytes of path");
    if (query.len > 0 && !(url_take(&query, "db=") && url_database(query, &conf->database)))
        return url_wrong(error, cap, "expected ?db=NUMBER");
    address->port = 0;
    conf->address_count = 1;
    return MOON_OK;
}

enum moon_rc moon_redis_conf_url(struct moon_redis_conf *conf, struct moon_slice url, char *error,
                                 size_t cap)
{
    struct moon_slice rest = url;
    conf->address_count = 0;
    conf->kind = MOON_REDIS_SINGLE;
    if (url_take(&rest, "unix://") || url_take(&rest, "unix:"))
        return url_unix(conf, rest, error, cap);
    conf->is_tls = url_take(&rest, "rediss");
    if (!conf->is_tls && !url_take(&rest, "redis"))
        return url_wrong(error, cap, "expected redis://, rediss:// or unix://");
    if (url_take(&rest, "+sentinel"))
        conf->kind = MOON_REDIS_SENTINEL;
    else if (url_take(&rest, "+cluster"))
        conf->kind = MOON_REDIS_CLUSTER;
    if (!url_take(&rest, "://"))
        return url_wrong(error, cap, "expected :// after the scheme");
    size_t slash = moon_slice_find(rest, '/');
    struct moon_slice authority = moon_slice(rest.data, slash);
    struct moon_slice path = moon_slice_from(rest, slash + 1);
    size_t at = authority.len;
    while (at > 0 && authority.data[at - 1] != '@')
        at--;
    if (at > 0) {
        struct moon_slice who = moon_slice(authority.data, at - 1);
        size_t colon = moon_slice_find(who, ':');
        bool has_password = colon < who.len;
        if (!url_decode(moon_slice(who.data, colon), conf->user, sizeof(conf->user)) ||
            (has_password &&
             !url_decode(moon_slice_from(who, colon + 1), conf->password, sizeof(conf->password))))
            return url_wrong(error, cap, "user or password is too long");
        if (!has_password)
            return url_wrong(error, cap, "expected user:password@ (or :password@)");
    }
    enum moon_rc rc = url_addresses(conf, moon_slice_from(authority, at), error, cap);
    if (rc == MOON_OK && conf->kind == MOON_REDIS_SINGLE && conf->address_count > 1)
        return url_wrong(error, cap, "several hosts need redis+sentinel:// or redis+cluster://");
    return rc == MOON_OK ? url_path(conf, path, error, cap) : rc;
}
