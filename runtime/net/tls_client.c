/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "base/ip.h"
#include "base/list.h"
#include "net/tls_impl.h"

#include <openssl/x509v3.h>

enum { CLIENT_SESSIONS = 256 }; // targets whose sessions are kept; the least used goes first

struct client_session {
    struct moon_list link;
    SSL_SESSION *session;
    uint64_t hash;
    char key[]; // name and address
};

struct moon_tls_client {
    SSL_CTX *context;
    char *server_name;         // NULL: the target's host
    struct moon_list sessions; // newest first
    size_t session_count;
    int count; // owners
    bool is_verified;
};

static struct client_session *client_find(struct moon_tls_client *client, const char *key)
{
    uint64_t hash = moon_hash(moon_slice_text(key));
    MOON_LIST_EACH(at, after, &client->sessions)
    {
        struct client_session *entry = MOON_LIST_ENTRY(at, struct client_session, link);
        if (entry->hash == hash && strcmp(entry->key, key) == 0)
            return entry;
    }
    return NULL;
}

static void client_drop(struct moon_tls_client *client, struct client_session *entry)
{
    moon_list_remove(&entry->link);
    client->session_count--;
    SSL_SESSION_free(entry->session);
    free(entry);
}

static struct client_session *client_entry_new(struct moon_tls_client *client, const char *key)
{
    size_t len = strlen(key);
    struct client_session *entry = malloc(sizeof(*entry) + len + 1);
    if (entry == NULL)
        return NULL;
    memcpy(entry->key, key, len + 1);
    entry->hash = moon_hash(moon_slice(key, len));
    entry->session = NULL;
    moon_list_init(&entry->link);
    if (client->session_count++ >= CLIENT_SESSIONS)
        client_drop(client, MOON_LIST_ENTRY(client->sessions.prev, struct client_session, link));
    return entry;
}

/// OpenSSL has got a session (TLS 1.3: any time after the handshake). @return 1: taken
static int client_keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct moon_stream_tls *tls = SSL_get_app_data(ssl);
    struct moon_tls_client *client = tls->client;
    if (tls->session_key == NULL || SSL_SESSION_is_resumable(session) != 1)
        return 0;
    struct client_session *entry = client_find(client, tls->session_key);
    if (entry == NULL)
        entry = client_entry_new(client, tls->session_key);
    if (entry == NULL)
        return 0;
    SSL_SESSION_free(entry->session);
    entry->session = session;
    moon_list_remove(&entry->link);
    moon_list_push_front(&client->sessions, &entry->link);
    return 1;
}

static bool client_set_trust(SSL_CTX *context, const struct moon_tls_client_conf *conf, char *error,
                             size_t error_cap)
{
    ERR_clear_error();
    if (!conf->is_verified)
        return true;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (conf->ca == NULL) {
        if (SSL_CTX_set_default_verify_paths(context) == 1)
            return true;
        (void)snprintf(error, error_cap, "the system's CA certificates: %s", moon_tls_reason());
        return false;
    }
    if (SSL_CTX_load_verify_file(context, conf->ca) == 1)
        return true;
    (void)snprintf(error, error_cap, "%s: is no PEM bundle of CA certificates (%s)", conf->ca,
                   moon_tls_reason());
    return false;
}

static bool client_set_certificate(SSL_CTX *context, const struct moon_tls_client_conf *conf,
                                   char *error, size_t error_cap)
{
    struct moon_tls_pair pair;
    if (conf->certificate == NULL)
        return true;
    if (conf->key == NULL) {
        (void)snprintf(error, error_cap, "%s: has no key beside it", conf->certificate);
        return false;
    }
    if (moon_tls_pair_load(conf->certificate, conf->key, &pair, error, error_cap) != MOON_OK)
        return false;
    bool is_set = SSL_CTX_use_cert_and_key(context, pair.leaf, pair.key, pair.chain, 1) == 1;
    if (!is_set)
        (void)snprintf(error, error_cap, "%s: %s", conf->certificate, moon_tls_reason());
    moon_tls_pair_fini(&pair);
    return is_set;
}

static bool client_set_versions(SSL_CTX *context, const char *minimum, char *error,
                                size_t error_cap)
{
    int version = TLS1_2_VERSION;
    if (minimum != NULL && strcmp(minimum, "TLSv1.3") == 0) {
        version = TLS1_3_VERSION;
    } else if (minimum != NULL && strcmp(minimum, "TLSv1.2") != 0) {
        (void)snprintf(error, error_cap, "minimum: expected TLSv1.2 or TLSv1.3, got %s", minimum);
        return false;
    }
    return SSL_CTX_set_min_proto_version(context, version) == 1;
}

static bool client_set_alpn(SSL_CTX *context, bool is_http2)
{
    static const unsigned char both[] = "\x02h2\x08http/1.1";
    const unsigned char *offered = is_http2 ? both : both + 3;
    return SSL_CTX_set_alpn_protos(context, offered, (unsigned)strlen((const char *)offered)) == 0;
}

enum moon_rc moon_tls_client_new(const struct moon_tls_client_conf *conf, char *error,
                                 size_t error_cap, struct moon_tls_client **out)
{
    struct moon_tls_client *client = calloc(1, sizeof(*client));
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (client == NULL || context == NULL)
        goto fail;
    moon_list_init(&client->sessions);
    client->context = context;
    client->count = 1;
    client->is_verified = conf->is_verified;
    if (conf->server_name != NULL && (client->server_name = strdup(conf->server_name)) == NULL)
        goto fail;
    moon_tls_context_defaults(context);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, client_keep_session);
    (void)snprintf(error, error_cap, "out of memory");
    if (!client_set_versions(context, conf->minimum, error, error_cap) ||
        !client_set_alpn(context, conf->is_http2) ||
        !client_set_trust(context, conf, error, error_cap) ||
        !client_set_certificate(context, conf, error, error_cap))
        goto fail;
    *out = client; // ownership passes here
    return MOON_OK;
fail:
    SSL_CTX_free(context);
    if (client != NULL)
        free(client->server_name);
    free(client);
    return MOON_ERR_CONFIG;
}

void moon_tls_client_acquire(struct moon_tls_client *client)
{
    client->count++;
}

void moon_tls_client_release(struct moon_tls_client *client)
{
    if (client == NULL || --client->count > 0)
        return;
    while (!moon_list_is_empty(&client->sessions))
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
        client_drop(client, MOON_LIST_ENTRY(client->sessions.next, struct client_session, link));
    SSL_CTX_free(client->context);
    free(client->server_name);
    free(client);
}

static bool client_set_name(SSL *ssl, const char *name, bool is_verified)
{
    struct moon_ip ip;
    bool is_address = moon_ip_parse(moon_slice_text(name), &ip);
    if (!is_address && SSL_set_tlsext_host_name(ssl, name) != 1)
        return false;
    if (!is_verified)
        return true;
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!is_address)
        return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
    return moon_ip_is_v4(&ip) ? X509_VERIFY_PARAM_set1_ip(param, ip.bytes + 12, 4) == 1
                              : X509_VERIFY_PARAM_set1_ip(param, ip.bytes, 16) == 1;
}

/// "name 127.0.0.1:443": sessions of one target are of no use to another.
static char *client_session_key(const char *name, const struct sockaddr *address)
{
    char text[MOON_IP_TEXT_BYTES], key[512];
    uint16_t port;
    struct moon_ip ip = moon_ip_from_sockaddr(address, &port);
    size_t len = moon_ip_format(&ip, text);
    int n = snprintf(key, sizeof(key), "%s %.*s:%u", name, (int)len, text, (unsigned)port);
    return n > 0 && (size_t)n < sizeof(key) ? strdup(key) : NULL;
}

enum moon_rc moon_tls_client_ssl(struct moon_tls_client *client, const char *name,
                                 const struct sockaddr *address, socklen_t address_len,
                                 struct moon_stream_tls *tls)
{
    (void)address_len;
    const char *wanted = client->server_name != NULL ? client->server_name : name;
    if (client->is_verified && (wanted == NULL || *wanted == '\0'))
        return MOON_ERR_CONFIG; // a chain without a name proves nothing
    tls->ssl = SSL_new(client->context);
    if (tls->ssl == NULL)
        return MOON_ERR_MEMORY;
    SSL_set_connect_state(tls->ssl);
    if (wanted == NULL || *wanted == '\0')
        return MOON_OK;
    moon_tls_clear_errors();
    if (!client_set_name(tls->ssl, wanted, client->is_verified)) {
        ERR_clear_error();
        return MOON_ERR_CONFIG;
    }
    tls->session_key = client_session_key(wanted, address);
    struct client_session *entry =
        tls->session_key == NULL ? NULL : client_find(client, tls->session_key);
    if (entry == NULL)
        return MOON_OK;
    // A copy: OpenSSL spends a TLS 1.3 session on one connection, and not every server sends a new
    // ticket on a resumed one. Without a session the handshake is a full one.
    SSL_SESSION *session = SSL_SESSION_dup(entry->session);
    if (session != NULL)
        (void)SSL_set_session(tls->ssl, session);
    SSL_SESSION_free(session);
    return MOON_OK;
}
