/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "net/stream_impl.h"
#include "net/tls_impl.h"

#include <errno.h>
#include <openssl/bio.h>

// A record's worth: small pieces (head and first body bytes) leave as one record, one write.
enum { TLS_RECORD_BYTES = SSL3_RT_MAX_PLAIN_LENGTH };

static char tls_record[TLS_RECORD_BYTES];

// Between OpenSSL and the socket: recv and send by stream.c, so that there is no SIGPIPE, and no
// read where the socket is known to be drained.

static int tls_bio_read(BIO *bio, char *into, int n)
{
    struct moon_stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    if (!s->may_have_input) {
        BIO_set_retry_read(bio);
        return -1;
    }
    ssize_t got = moon_stream_socket_recv(s, into, (size_t)n);
    if (got > 0) {
        s->tls->is_starved = false;
        return (int)got;
    }
    if (got == 0) {
        s->may_have_input = true; // an end stays
        s->tls->has_seen_eof = true;
    } else if (errno == EAGAIN) {
        BIO_set_retry_read(bio);
    }
    return (int)got;
}

static int tls_bio_write(BIO *bio, const char *from, int n)
{
    struct moon_stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    ssize_t sent = moon_stream_socket_send(s, from, (size_t)n);
    if (sent == -1 && errno == EAGAIN)
        BIO_set_retry_write(bio);
    return (int)sent;
}

static long tls_bio_ctrl(BIO *bio, int command, long number, void *arg)
{
    (void)bio;
    (void)number;
    (void)arg;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO *tls_bio_new(struct moon_stream *s)
{
    static BIO_METHOD *method; // one per process
    if (method == NULL) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "moongate stream");
        if (method == NULL)
            return NULL;
        BIO_meth_set_read(method, tls_bio_read);
        BIO_meth_set_write(method, tls_bio_write);
        BIO_meth_set_ctrl(method, tls_bio_ctrl);
    }
    BIO *bio = BIO_new(method);
    if (bio != NULL) {
        BIO_set_data(bio, s);
        BIO_set_init(bio, 1);
    }
    return bio;
}

static void tls_log_failure(struct moon_stream *s, const char *what)
{
    struct sockaddr_storage peer = {0};
    socklen_t len = sizeof(peer);
    char text[MOON_IP_TEXT_BYTES] = "?";
    uint16_t port = 0;
    if (getpeername(s->io.fd, (struct sockaddr *)&peer, &len) == 0) {
        struct moon_ip ip = moon_ip_from_sockaddr((struct sockaddr *)&peer, &port);
        (void)moon_ip_format(&ip, text);
    }
    long verify = SSL_get_verify_result(s->tls->ssl);
    const char *reason = moon_tls_reason();
    const char *detail = verify == X509_V_OK ? "" : X509_verify_cert_error_string(verify);
    moon_log(s->is_client ? MOON_LOG_WARN : MOON_LOG_INFO, "tls: %s with %s port %u: %s%s%s", what,
             text, (unsigned)port, reason, *detail == '\0' ? "" : ": ", detail);
}

/// What an SSL call that did not succeed means.
static enum moon_rc tls_result(struct moon_stream *s, int ret, const char *what)
{
    switch (SSL_get_error(s->tls->ssl, ret)) {
    case SSL_ERROR_WANT_READ:
        s->tls->is_starved = true;
        return MOON_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        s->wants_write_to_read = true;
        return MOON_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return MOON_EOF;
    case SSL_ERROR_SSL:
        if (!s->tls->has_seen_eof) {
            tls_log_failure(s, what);
            return MOON_ERR_TLS;
        }
        break;
    default:
        break;
    }
    ERR_clear_error();
    // Without close_notify a backend's answer may have been cut; requests have lengths of their
    // own, and many clients close like this.
    return s->tls->has_seen_eof && !s->is_client ? MOON_EOF : MOON_ERR_IO;
}

static enum moon_rc tls_handshake(struct moon_stream *s)
{
    moon_tls_clear_errors();
    s->wants_write_to_read = false;
    int ret = SSL_do_handshake(s->tls->ssl);
    if (ret == 1)
        return MOON_OK;
    enum moon_rc rc = tls_result(s, ret, "handshake");
    return rc == MOON_EOF ? MOON_ERR_IO : rc;
}

static bool tls_has_pending(struct moon_stream *s)
{
    return !s->tls->is_starved && SSL_has_pending(s->tls->ssl) == 1;
}

static bool tls_has_ended(struct moon_stream *s)
{
    char byte;
    size_t n = 0;
    moon_tls_clear_errors();
    s->may_have_input = true;
    int ret = SSL_peek_ex(s->tls->ssl, &byte, 1, &n);
    if (ret == 1)
        return false;
    int why = SSL_get_error(s->tls->ssl, ret);
    ERR_clear_error();
    s->tls->is_starved = why == SSL_ERROR_WANT_READ;
    return why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE;
}

static enum moon_rc tls_read(struct moon_stream *s, char *room, size_t n, size_t *n_read)
{
    size_t total = 0;
    do {
        size_t got = 0;
        moon_tls_clear_errors();
        int ret = SSL_read_ex(s->tls->ssl, room + total, n - total, &got);
        if (ret != 1) {
            if (total > 0)
                break; // the next call meets it again
            return tls_result(s, ret, "reading");
        }
        total += got;
    } while (total < n && (s->may_have_input || tls_has_pending(s)));
    *n_read = total;
    return MOON_OK;
}

/// One record or less. @return MOON_AGAIN: OpenSSL holds the record, and wants the same bytes again
static enum moon_rc tls_write_record(struct moon_stream *s, const char *from, size_t n,
                                     size_t *n_written)
{
    moon_tls_clear_errors();
    *n_written = 0;
    int ret = SSL_write_ex(s->tls->ssl, from, n, n_written);
    if (ret == 1)
        return MOON_OK;
    bool wanted = s->wants_write_to_read;
    enum moon_rc rc = tls_result(s, ret, "writing");
    s->wants_write_to_read = wanted; // the queue asks for the write event by itself
    return rc == MOON_EOF ? MOON_ERR_IO : rc;
}

struct tls_cursor {
    const struct iovec *iov;
    int count;
    size_t skip; // within iov[0]
};

static void tls_cursor_move(struct tls_cursor *at, size_t n)
{
    at->skip += n;
    while (at->count > 0 && at->skip >= at->iov->iov_len) {
        at->skip -= at->iov->iov_len;
        at->iov++;
        at->count--;
    }
}

/// The bytes of the next record: in place where one piece fills it or is the last, else gathered.
static struct moon_slice tls_next_record(const struct tls_cursor *at)
{
    const char *data = (const char *)at->iov->iov_base + at->skip;
    size_t n = at->iov->iov_len - at->skip;
    if (n >= TLS_RECORD_BYTES || at->count == 1)
        return moon_slice(data, moon_min_size(n, TLS_RECORD_BYTES));
    memcpy(tls_record, data, n);
    for (int i = 1; i < at->count && n < TLS_RECORD_BYTES; i++) {
        size_t part = moon_min_size(at->iov[i].iov_len, TLS_RECORD_BYTES - n);
        if (part > 0)
            memcpy(tls_record + n, at->iov[i].iov_base, part);
        n += part;
    }
    return moon_slice(tls_record, n);
}

static enum moon_rc tls_write(struct moon_stream *s, const struct iovec *iov, int count,
                              size_t *n_written)
{
    struct tls_cursor at = {iov, count, 0};
    *n_written = 0;
    tls_cursor_move(&at, 0); // past empty pieces
    while (at.count > 0) {
        struct moon_slice record = tls_next_record(&at);
        size_t written = 0;
        enum moon_rc rc = tls_write_record(s, record.data, record.len, &written);
        if (rc != MOON_OK)
            return rc;
        *n_written += written;
        tls_cursor_move(&at, written);
    }
    return MOON_OK;
}

static void tls_shutdown(struct moon_stream *s)
{
    moon_tls_clear_errors();
    (void)SSL_shutdown(s->tls->ssl); // close_notify where it goes without waiting
    ERR_clear_error();
}

static void tls_fini(struct moon_stream *s)
{
    struct moon_stream_tls *tls = s->tls;
    if (tls == NULL)
        return;
    if (tls->ssl != NULL) {
        // A stream that was merely closed must not spoil its session for the next one.
        if (s->failure != MOON_ERR_TLS)
            SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(tls->ssl);
    }
    moon_tls_identity_free(tls->identity);
    moon_tls_server_release(tls->server);
    moon_tls_client_release(tls->client);
    free(tls->session_key);
    free(tls);
    s->tls = NULL;
}

const struct moon_stream_ops moon_stream_tls_ops = {
    .read = tls_read,
    .write = tls_write,
    .handshake = tls_handshake,
    .has_pending = tls_has_pending,
    .has_ended = tls_has_ended,
    .shutdown = tls_shutdown,
    .fini = tls_fini,
};

// OpenSSL drops extensions that it does not know, so the ClientHello is read as it came.
static void tls_see_message(int is_written, int version, int content_type, const void *bytes,
                            size_t len, SSL *ssl, void *arg)
{
    (void)version;
    struct moon_stream_tls *tls = arg;
    const unsigned char *type = bytes;
    if (is_written || content_type != SSL3_RT_HANDSHAKE || len == 0 ||
        *type != SSL3_MT_CLIENT_HELLO)
        return;
    if (!moon_ja4(moon_slice(bytes, len), tls->ja4))
        tls->ja4[0] = '\0';
    SSL_set_msg_callback(ssl, NULL); // the first one counts, and nothing else is of interest
}

static bool tls_attach(struct moon_stream *s)
{
    BIO *bio = tls_bio_new(s);
    if (bio == NULL)
        return false;
    SSL_set_bio(s->tls->ssl, bio, bio); // taken
    SSL_set_app_data(s->tls->ssl, s->tls);
    s->ops = &moon_stream_tls_ops;
    return true;
}

enum moon_rc moon_stream_tls_accept(struct moon_stream *s, struct moon_tls_server *server)
{
    s->tls = calloc(1, sizeof(*s->tls));
    if (s->tls == NULL)
        return MOON_ERR_MEMORY;
    s->ops = &moon_stream_tls_ops;
    moon_tls_server_acquire(server);
    s->tls->server = server;
    s->tls->ssl = moon_tls_server_ssl(server);
    if (s->tls->ssl == NULL || !tls_attach(s))
        return MOON_ERR_MEMORY;
    SSL_set_msg_callback(s->tls->ssl, tls_see_message);
    SSL_set_msg_callback_arg(s->tls->ssl, s->tls);
    return MOON_OK;
}

enum moon_rc moon_stream_tls_connect(struct moon_stream *s, struct moon_tls_client *client,
                                     const char *name, const struct sockaddr *address,
                                     socklen_t address_len)
{
    s->tls = calloc(1, sizeof(*s->tls));
    if (s->tls == NULL)
        return MOON_ERR_MEMORY;
    s->ops = &moon_stream_tls_ops;
    moon_tls_client_acquire(client);
    s->tls->client = client;
    enum moon_rc rc = moon_tls_client_ssl(client, name, address, address_len, s->tls);
    if (rc == MOON_OK && !tls_attach(s))
        rc = MOON_ERR_MEMORY;
    return rc;
}

const struct moon_tls_info *moon_stream_tls(struct moon_stream *stream)
{
    struct moon_stream_tls *tls = stream->tls;
    if (tls == NULL || stream->state == STREAM_CONNECTING || stream->state == STREAM_HANDSHAKING)
        return NULL;
    if (tls->identity == NULL)
        tls->identity = moon_tls_identity_new(tls);
    return tls->identity == NULL ? NULL : moon_tls_identity_info(tls->identity);
}

struct moon_slice moon_stream_client_pem(struct moon_stream *stream)
{
    if (moon_stream_tls(stream) == NULL)
        return moon_slice(NULL, 0);
    return moon_tls_identity_pem(stream->tls->identity, stream->tls->ssl);
}
