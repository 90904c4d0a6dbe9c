/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "base/pace.h"
#include "net/tls_impl.h"
#include "net/tls_names.h"

#include <openssl/ocsp.h>
#include <openssl/x509.h>
#include <sys/stat.h>

enum { TLS_SESSION_SECONDS = 4 * 3600 };

// The text of Mozilla's "intermediate" (5.7) less its DHE suites, which no client of today needs
// and which cost the server most (CVE-2002-20001).
static const char tls_ciphers[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
static const char tls_ciphersuites[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char tls_groups[] = "X25519:prime256v1:secp384r1";

struct tls_certificate {
    struct moon_tls_pair pair;
    int kind;
    unsigned char *ocsp; // DER; NULL: nothing to staple
    size_t ocsp_bytes;
    int64_t ocsp_until_ms; // wall time; a response past it is worse than none
};

struct tls_stamp {
    char *path;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed;
};

/// What comes from files; replaced as a whole.
struct tls_state {
    struct tls_certificate *certificates;
    size_t certificate_count;
    struct moon_tls_names names;
    SSL_CTX **contexts; // one for each distinct set of certificates
    struct moon_tls_set *sets;
    size_t context_count;
    SSL_CTX *fallback; // the first certificate's: no name, or an unknown one
    X509_STORE *client_store;
    unsigned char session_context[SSL_MAX_SID_CTX_LENGTH];
    int64_t expires_wall_ms;
    size_t expires_first; // the certificate that does
};

struct moon_tls_server {
    int count;                        // owners
    struct moon_tls_server_conf conf; // our copies
    struct moon_tls_certificate_conf *certificate_confs;
    struct moon_tls_tickets *tickets;
    struct tls_state *state;
    struct tls_stamp *stamps; // as last tried
    size_t stamp_count;
};

const struct moon_tls_tickets *moon_tls_server_tickets(const struct moon_tls_server *server)
{
    return server->tickets;
}

static struct moon_tls_server *server_of(SSL *ssl)
{
    struct moon_stream_tls *tls = SSL_get_app_data(ssl);
    return tls->server;
}

// Callbacks of a handshake

static int server_pick_certificate(SSL *ssl, int *alert, void *arg)
{
    (void)alert;
    (void)arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    const struct tls_state *state = server_of(ssl)->state;
    const struct moon_tls_name *found = moon_tls_names_find(&state->names, moon_slice_text(name));
    SSL_CTX *context = found != NULL ? found->context : state->fallback;
    if (context != SSL_get_SSL_CTX(ssl))
        (void)SSL_set_SSL_CTX(ssl, context);
    return SSL_TLSEXT_ERR_OK;
}

static bool alpn_has(const unsigned char *list, unsigned int len, struct moon_slice wanted)
{
    for (unsigned int at = 0; at < len; at += 1u + list[at]) {
        unsigned int n = list[at];
        if (n + at + 1 > len)
            return false;
        if (moon_slice_is(moon_slice((const char *)list + at + 1, n), wanted))
            return true;
    }
    return false;
}

static int server_pick_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                            const unsigned char *list, unsigned int len, void *arg)
{
    (void)arg;
    static const struct moon_slice h2 = {"h2", 2}, http1 = {"http/1.1", 8};
    const struct moon_slice *picked = NULL;
    if (server_of(ssl)->conf.is_http2 && alpn_has(list, len, h2))
        picked = &h2;
    else if (alpn_has(list, len, http1))
        picked = &http1;
    if (picked == NULL)
        return SSL_TLSEXT_ERR_ALERT_FATAL; // RFC 7301 §3.2; and no cross-protocol attacks
    *out = (const unsigned char *)picked->data;
    *out_len = (unsigned char)picked->len;
    return SSL_TLSEXT_ERR_OK;
}

static int server_staple(SSL *ssl, void *arg)
{
    (void)arg;
    const struct tls_state *state = server_of(ssl)->state;
    const X509 *leaf = SSL_get_certificate(ssl);
    for (size_t i = 0; i < state->certificate_count; i++) {
        const struct tls_certificate *c = &state->certificates[i];
        if (c->pair.leaf != leaf || c->ocsp == NULL || c->ocsp_until_ms <= moon_clock_wall_ms())
            continue;
        unsigned char *copy = OPENSSL_memdup(c->ocsp, c->ocsp_bytes);
        if (copy == NULL)
            return SSL_TLSEXT_ERR_NOACK;
        SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)c->ocsp_bytes); // taken
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

// "optional": a bad certificate does not end the handshake; the verdict is told with the identity.
static int server_accept_any(int is_ok, X509_STORE_CTX *store)
{
    (void)is_ok;
    (void)store;
    return 1;
}

// Files

static bool certificate_load_ocsp(struct tls_certificate *c, const char *path, char *error,
                                  size_t error_cap)
{
    size_t len = 0;
    char *data = moon_tls_read_file(path, &len, error, error_cap);
    if (data == NULL)
        return false;
    const unsigned char *at = (const unsigned char *)data;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)len);
    OCSP_BASICRESP *basic = response == NULL ? NULL : OCSP_response_get1_basic(response);
    OCSP_SINGLERESP *single = basic == NULL ? NULL : OCSP_resp_get0(basic, 0);
    ASN1_GENERALIZEDTIME *next = NULL;
    bool is_good =
        single != NULL && OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL;
    if (is_good) {
        (void)OCSP_single_get0_status(single, NULL, NULL, NULL, &next);
        c->ocsp_until_ms = next == NULL ? INT64_MAX : moon_tls_time_ms(next);
        c->ocsp = (unsigned char *)data;
        c->ocsp_bytes = len;
        if (c->ocsp_until_ms <= moon_clock_wall_ms())
            moon_log_warn("tls: %s: the OCSP response has expired and is not stapled", path);
    } else {
        (void)snprintf(error, error_cap, "%s: is no successful OCSP response in DER", path);
        free(data);
    }
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    ERR_clear_error();
    return is_good;
}

static bool certificate_load(struct tls_certificate *c,
                             const struct moon_tls_certificate_conf *conf, char *error,
                             size_t error_cap)
{
    if (moon_tls_pair_load(conf->certificate, conf->key, &c->pair, error, error_cap) != MOON_OK)
        return false;
    c->kind = moon_tls_kind(c->pair.key);
    if (c->kind == -1) {
        (void)snprintf(error, error_cap, "%s: expected an RSA, ECDSA or Ed25519 key", conf->key);
        return false;
    }
    return conf->ocsp == NULL || certificate_load_ocsp(c, conf->ocsp, error, error_cap);
}

static void state_free(struct tls_state *state)
{
    if (state == NULL)
        return;
    for (size_t i = 0; i < state->context_count; i++)
        SSL_CTX_free(state->contexts[i]);
    for (size_t i = 0; i < state->certificate_count; i++) {
        moon_tls_pair_fini(&state->certificates[i].pair);
        free(state->certificates[i].ocsp);
    }
    moon_tls_names_fini(&state->names);
    X509_STORE_free(state->client_store);
    free(state->certificates);
    free(state->contexts);
    free(state->sets);
    free(state);
}

static bool state_load_certificates(struct tls_state *state,
                                    const struct moon_tls_server_conf *conf, char *error,
                                    size_t error_cap)
{
    state->certificates = calloc(conf->certificate_count, sizeof(*state->certificates));
    int *kinds = calloc(conf->certificate_count, sizeof(*kinds));
    bool is_loaded = state->certificates != NULL && kinds != NULL;
    state->expires_wall_ms = INT64_MAX;
    for (size_t i = 0; is_loaded && i < conf->certificate_count; i++) {
        struct tls_certificate *c = &state->certificates[i];
        moon_pace();
        state->certificate_count = i + 1;
        is_loaded = certificate_load(c, &conf->certificates[i], error, error_cap) &&
                    moon_tls_names_add(&state->names, c->pair.leaf, (int)i);
        if (!is_loaded)
            break;
        kinds[i] = c->kind;
        int64_t until = moon_tls_time_ms(X509_get0_notAfter(c->pair.leaf));
        if (until < state->expires_wall_ms) {
            state->expires_wall_ms = until;
            state->expires_first = i;
        }
    }
    if (is_loaded)
        moon_tls_names_seal(&state->names, kinds);
    free(kinds);
    return is_loaded;
}

/// Sessions made under another set of CAs and CRLs must not be resumed: a revoked client would
/// come back with its ticket. All workers, and the next process, come to the same value.
static bool state_set_session_context(struct tls_state *state,
                                      const struct moon_tls_server_conf *conf, char *error,
                                      size_t error_cap)
{
    const char *paths[] = {conf->client_ca, conf->client_crl};
    char mode = (char)('0' + (int)conf->client_mode);
    EVP_MD_CTX *sum = EVP_MD_CTX_new();
    bool is_good = sum != NULL && EVP_DigestInit_ex(sum, EVP_sha256(), NULL) == 1 &&
                   EVP_DigestUpdate(sum, &mode, 1) == 1;
    for (size_t i = 0; is_good && i < MOON_COUNT(paths); i++) {
        size_t len = 0;
        char *data = NULL;
        if (conf->client_mode == MOON_TLS_CLIENT_NONE || paths[i] == NULL)
            continue;
        data = moon_tls_read_file(paths[i], &len, error, error_cap);
        is_good = data != NULL && EVP_DigestUpdate(sum, data, len) == 1;
        free(data);
    }
    _Static_assert(SSL_MAX_SID_CTX_LENGTH == 32, "as long as SHA-256");
    is_good = is_good && EVP_DigestFinal_ex(sum, state->session_context, NULL) == 1;
    EVP_MD_CTX_free(sum);
    return is_good;
}

static bool state_load_clients(struct tls_state *state, const struct moon_tls_server_conf *conf,
                               char *error, size_t error_cap)
{
    if (!state_set_session_context(state, conf, error, error_cap))
        return false;
    if (conf->client_mode == MOON_TLS_CLIENT_NONE)
        return true;
    ERR_clear_error();
    state->client_store = X509_STORE_new();
    if (state->client_store == NULL)
        return false;
    if (conf->client_ca == NULL) {
        (void)snprintf(error, error_cap, "client certificates need a file of CAs");
        return false;
    }
    if (X509_STORE_load_file(state->client_store, conf->client_ca) != 1) {
        (void)snprintf(error, error_cap, "%s: is no PEM bundle of CA certificates (%s)",
                       conf->client_ca, moon_tls_reason());
        return false;
    }
    if (conf->client_crl == NULL)
        return true;
    X509_LOOKUP *lookup = X509_STORE_add_lookup(state->client_store, X509_LOOKUP_file());
    if (lookup == NULL || X509_load_crl_file(lookup, conf->client_crl, X509_FILETYPE_PEM) < 1) {
        (void)snprintf(error, error_cap, "%s: is no PEM file of CRLs (%s)", conf->client_crl,
                       moon_tls_reason());
        return false;
    }
    // Every CA of a chain must have its CRL: a missing one is no proof of innocence.
    return X509_STORE_set_flags(state->client_store,
                                X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1;
}

// Contexts

static bool context_set_clients(SSL_CTX *context, const struct tls_state *state,
                                const struct moon_tls_server_conf *conf)
{
    if (SSL_CTX_set_session_id_context(context, state->session_context,
                                       sizeof(state->session_context)) != 1)
        return false;
    if (conf->client_mode == MOON_TLS_CLIENT_NONE)
        return true;
    SSL_CTX_set1_cert_store(context, state->client_store);
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(conf->client_ca);
    if (names == NULL)
        return false;
    SSL_CTX_set_client_CA_list(context, names); // taken
    if (conf->client_depth > 0)
        SSL_CTX_set_verify_depth(context, conf->client_depth);
    if (conf->client_mode == MOON_TLS_CLIENT_REQUIRED)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    else
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, server_accept_any);
    return true;
}

static bool context_set_protocol(SSL_CTX *context, const char *preset)
{
    bool is_modern = preset != NULL && strcmp(preset, "modern") == 0;
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    return SSL_CTX_set_min_proto_version(context, is_modern ? TLS1_3_VERSION : TLS1_2_VERSION) ==
               1 &&
           SSL_CTX_set_cipher_list(context, tls_ciphers) == 1 &&
           SSL_CTX_set_ciphersuites(context, tls_ciphersuites) == 1 &&
           SSL_CTX_set1_groups_list(context, tls_groups) == 1;
}

static bool context_set_sessions(SSL_CTX *context, const struct moon_tls_server *server)
{
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(context, TLS_SESSION_SECONDS);
    if (!server->conf.has_tickets) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        return SSL_CTX_set_num_tickets(context, 0) == 1;
    }
    return SSL_CTX_set_num_tickets(context, 1) == 1 &&
           (server->tickets == NULL || moon_tls_tickets_install(context));
}

static bool context_set_certificates(SSL_CTX *context, const struct tls_state *state,
                                     const struct moon_tls_set *set)
{
    for (int kind = 0; kind < TLS_KINDS; kind++) {
        if (set->pair[kind] == -1)
            continue;
        const struct moon_tls_pair *pair = &state->certificates[set->pair[kind]].pair;
        if (SSL_CTX_use_cert_and_key(context, pair->leaf, pair->key, pair->chain, 1) != 1)
            return false;
    }
    return true;
}

static SSL_CTX *context_new(const struct moon_tls_server *server, const struct tls_state *state,
                            const struct moon_tls_set *set)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL)
        return NULL;
    moon_tls_context_defaults(context);
    (void)SSL_CTX_set_tlsext_servername_callback(context, server_pick_certificate);
    SSL_CTX_set_alpn_select_cb(context, server_pick_alpn, NULL);
    (void)SSL_CTX_set_tlsext_status_cb(context, server_staple);
    if (context_set_protocol(context, server->conf.preset) &&
        context_set_sessions(context, server) &&
        context_set_clients(context, state, &server->conf) &&
        context_set_certificates(context, state, set))
        return context;
    SSL_CTX_free(context);
    return NULL;
}

/// The context of a set of certificates, made where there is none yet. @return NULL on failure
static SSL_CTX *state_context(struct tls_state *state, const struct moon_tls_server *server,
                              const struct moon_tls_set *set)
{
    for (size_t i = 0; i < state->context_count; i++) {
        if (memcmp(&state->sets[i], set, sizeof(*set)) == 0)
            return state->contexts[i];
    }
    size_t count = state->context_count + 1;
    SSL_CTX **contexts = realloc(state->contexts, count * sizeof(*contexts));
    if (contexts == NULL)
        return NULL;
    state->contexts = contexts;
    struct moon_tls_set *sets = realloc(state->sets, count * sizeof(*sets));
    if (sets == NULL)
        return NULL;
    state->sets = sets;
    SSL_CTX *context = context_new(server, state, set);
    if (context == NULL)
        return NULL;
    contexts[count - 1] = context;
    sets[count - 1] = *set;
    state->context_count = count;
    return context;
}

static bool state_make_contexts(struct tls_state *state, const struct moon_tls_server *server)
{
    const struct moon_tls_set *first = NULL;
    for (size_t i = 0; i < state->names.count; i++) {
        struct moon_tls_name *name = &state->names.at[i];
        name->context = state_context(state, server, &name->set);
        if (name->context == NULL)
            return false;
        if (first == NULL && name->pair == 0)
            first = &name->set;
    }
    struct moon_tls_set alone = {{-1, -1, -1, -1, -1}};
    if (first == NULL) { // a certificate without names
        alone.pair[state->certificates[0].kind] = 0;
        first = &alone;
    }
    state->fallback = state_context(state, server, first);
    return state->fallback != NULL;
}

static struct tls_state *state_new(const struct moon_tls_server *server, char *error,
                                   size_t error_cap)
{
    struct tls_state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return NULL;
    ERR_clear_error();
    if (state_load_certificates(state, &server->conf, error, error_cap) &&
        state_load_clients(state, &server->conf, error, error_cap)) {
        if (state_make_contexts(state, server))
            return state;
        // What a certificate's own weakness does (a short key, say) is told here.
        (void)snprintf(error, error_cap, "%s: %s", server->conf.certificates[0].certificate,
                       moon_tls_reason());
    }
    ERR_clear_error();
    state_free(state);
    return NULL;
}

// Watching the files

static void stamp_read(struct tls_stamp *stamp)
{
    struct stat info;
    char *path = stamp->path;
    *stamp = (struct tls_stamp){.path = path};
    if (stat(path, &info) == -1)
        return; // all zero: differs from any file
    stamp->dev = info.st_dev;
    stamp->ino = info.st_ino;
    stamp->size = info.st_size;
    stamp->changed = info.st_mtim;
}

static bool stamp_is(const struct tls_stamp *a, const struct tls_stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/// Reads the stamps again. @return true when a file is another than last time
static bool server_stamp(struct moon_tls_server *server)
{
    bool has_changed = false;
    for (size_t i = 0; i < server->stamp_count; i++) {
        struct tls_stamp now = {.path = server->stamps[i].path};
        stamp_read(&now);
        has_changed = has_changed || !stamp_is(&now, &server->stamps[i]);
        server->stamps[i] = now;
    }
    return has_changed;
}

static void server_watch(struct moon_tls_server *server, const char *path)
{
    if (path != NULL)
        server->stamps[server->stamp_count++].path = (char *)(uintptr_t)path; // the conf's copy
}

static bool server_watch_all(struct moon_tls_server *server)
{
    const struct moon_tls_server_conf *conf = &server->conf;
    server->stamps = calloc(3 * conf->certificate_count + 2, sizeof(*server->stamps));
    if (server->stamps == NULL)
        return false;
    for (size_t i = 0; i < conf->certificate_count; i++) {
        server_watch(server, conf->certificates[i].certificate);
        server_watch(server, conf->certificates[i].key);
        server_watch(server, conf->certificates[i].ocsp);
    }
    server_watch(server, conf->client_ca);
    server_watch(server, conf->client_crl);
    (void)server_stamp(server);
    return true;
}

// The server

static bool conf_copy_text(const char **field)
{
    if (*field == NULL)
        return true;
    *field = strdup(*field);
    return *field != NULL;
}

static bool server_copy_conf(struct moon_tls_server *server,
                             const struct moon_tls_server_conf *conf)
{
    bool is_copied = true;
    server->conf = *conf;
    server->certificate_confs = calloc(conf->certificate_count, sizeof(*conf->certificates));
    server->conf.certificates = server->certificate_confs;
    if (server->certificate_confs == NULL)
        server->conf.certificate_count = 0;
    for (size_t i = 0; i < server->conf.certificate_count; i++) {
        struct moon_tls_certificate_conf *copy = &server->certificate_confs[i];
        *copy = conf->certificates[i];
        is_copied &= conf_copy_text(&copy->certificate) & conf_copy_text(&copy->key) &
                     conf_copy_text(&copy->ocsp);
    }
    is_copied &= conf_copy_text(&server->conf.preset) & conf_copy_text(&server->conf.client_ca) &
                 conf_copy_text(&server->conf.client_crl);
    return is_copied && server->certificate_confs != NULL;
}

static void server_free(struct moon_tls_server *server)
{
    state_free(server->state);
    for (size_t i = 0; i < server->conf.certificate_count; i++) {
        free((char *)(uintptr_t)server->certificate_confs[i].certificate);
        free((char *)(uintptr_t)server->certificate_confs[i].key);
        free((char *)(uintptr_t)server->certificate_confs[i].ocsp);
    }
    free(server->certificate_confs);
    free((char *)(uintptr_t)server->conf.preset);
    free((char *)(uintptr_t)server->conf.client_ca);
    free((char *)(uintptr_t)server->conf.client_crl);
    free(server->stamps);
    free(server);
}

static bool conf_is_valid(const struct moon_tls_server_conf *conf, char *error, size_t error_cap)
{
    if (conf->certificate_count == 0) {
        (void)snprintf(error, error_cap, "expected at least one certificate");
        return false;
    }
    if (conf->preset != NULL && strcmp(conf->preset, "modern") != 0 &&
        strcmp(conf->preset, "intermediate") != 0) {
        (void)snprintf(error, error_cap, "preset: expected modern or intermediate, got %s",
                       conf->preset);
        return false;
    }
    return true;
}

enum moon_rc moon_tls_server_new(const struct moon_tls_server_conf *conf,
                                 struct moon_tls_tickets *tickets, char *error, size_t error_cap,
                                 struct moon_tls_server **out)
{
    if (!conf_is_valid(conf, error, error_cap))
        return MOON_ERR_CONFIG;
    struct moon_tls_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return MOON_ERR_MEMORY;
    server->count = 1;
    server->tickets = tickets;
    (void)snprintf(error, error_cap, "out of memory");
    if (!server_copy_conf(server, conf) || !server_watch_all(server))
        goto fail;
    server->state = state_new(server, error, error_cap);
    if (server->state == NULL)
        goto fail;
    *out = server; // ownership passes here
    return MOON_OK;
fail:
    server_free(server);
    return MOON_ERR_CONFIG;
}

void moon_tls_server_acquire(struct moon_tls_server *server)
{
    server->count++;
}

void moon_tls_server_release(struct moon_tls_server *server)
{
    if (server != NULL && --server->count == 0)
        server_free(server);
}

bool moon_tls_server_refresh(struct moon_tls_server *server)
{
    if (!server_stamp(server))
        return false;
    char error[512] = "out of memory";
    struct tls_state *state = state_new(server, error, sizeof(error));
    if (state == NULL) {
        // Told once: the stamps say that these files have been tried.
        moon_log_error("tls: changed files are not taken, the old ones stay: %s", error);
        return false;
    }
    // Connections hold the contexts that they began with.
    state_free(server->state);
    server->state = state;
    moon_log_info("tls: changed files are taken: %s", server->conf.certificates[0].certificate);
    return true;
}

int64_t moon_tls_server_expires_in_s(const struct moon_tls_server *server, const char **path)
{
    if (path != NULL)
        *path = server->conf.certificates[server->state->expires_first].certificate;
    int64_t until_ms = server->state->expires_wall_ms;
    return until_ms == INT64_MAX ? INT64_MAX : (until_ms - moon_clock_wall_ms()) / 1000;
}

SSL *moon_tls_server_ssl(struct moon_tls_server *server)
{
    moon_tls_clear_errors();
    SSL *ssl = SSL_new(server->state->fallback);
    if (ssl != NULL)
        SSL_set_accept_state(ssl);
    return ssl;
}
