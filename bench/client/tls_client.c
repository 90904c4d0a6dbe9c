// SPDX-License-Identifier: Apache-2.0
/// Measures new TLS connections: connect, handshake, one request, close; again and again.
///
/// usage: tls_client PORT PATH SECONDS CLIENTS full|resume
/// Prints one line: requests, errors, resumed handshakes, p50 and p99 in microseconds.
///
/// Each client is a process with one blocking connection at a time: what counts is the server's CPU
/// time per connection, and that does not depend on how clever the client is.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    BUCKET_US = 20,
    BUCKETS = 50000 // up to one second
};

struct tally {
    atomic_ullong requests;
    atomic_ullong errors;
    atomic_ullong resumed;
    atomic_uint latency[BUCKETS];
};

struct client {
    SSL_CTX *ctx;
    SSL_SESSION *session; // owned; what the last connection got, for the next to offer
    struct sockaddr_in to;
    char request[512];
    int request_length;
    int is_resuming;
};

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct client *client = SSL_get_app_data(ssl);
    if (!client->is_resuming) {
        return 0;
    }
    SSL_SESSION_free(client->session);
    client->session = session; // ownership passes: we answer 1
    return 1;
}

static int connect_to(const struct sockaddr_in *to)
{
    const struct timeval patience = {.tv_sec = 5};
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd == -1) {
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) == -1) {
        close(fd);
        return -1;
    }
    return fd;
}

/// One request on a fresh connection. Returns whether the answer was complete and had status 200.
static int exchange(struct client *client, int fd, int *is_resumed)
{
    char answer[16384];
    size_t used = 0;
    int is_ok = 0;
    SSL *ssl = SSL_new(client->ctx);
    SSL_set_app_data(ssl, client);
    SSL_set_fd(ssl, fd);
    if (client->session != NULL) {
        SSL_set_session(ssl, client->session);
    }
    if (SSL_connect(ssl) == 1 &&
        SSL_write(ssl, client->request, client->request_length) == client->request_length) {
        int n;
        while (used < sizeof answer - 1 &&
               (n = SSL_read(ssl, answer + used, (int)(sizeof answer - 1 - used))) > 0) {
            used += (size_t)n;
        }
        answer[used] = '\0';
        is_ok = strncmp(answer, "HTTP/1.1 200", 12) == 0 && strstr(answer, "\r\n\r\n") != NULL;
        *is_resumed = SSL_session_reused(ssl);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    ERR_clear_error();
    return is_ok;
}

static void run_client(struct client *client, struct tally *tally, int64_t until_us)
{
    int64_t started_us;
    while ((started_us = now_us()) < until_us) {
        int is_resumed = 0;
        int fd = connect_to(&client->to);
        if (fd == -1 || !exchange(client, fd, &is_resumed)) {
            atomic_fetch_add(&tally->errors, 1);
        } else {
            int64_t bucket = (now_us() - started_us) / BUCKET_US;
            atomic_fetch_add(&tally->requests, 1);
            atomic_fetch_add(&tally->resumed, is_resumed ? 1 : 0);
            atomic_fetch_add(&tally->latency[bucket < BUCKETS ? bucket : BUCKETS - 1], 1);
        }
        if (fd != -1) {
            close(fd);
        }
    }
}

static int64_t percentile_us(struct tally *tally, double share)
{
    unsigned long long wanted = (unsigned long long)(share * (double)tally->requests);
    unsigned long long seen = 0;
    for (int64_t i = 0; i < BUCKETS; i++) {
        seen += tally->latency[i];
        if (seen > wanted) {
            return i * BUCKET_US;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: tls_client PORT PATH SECONDS CLIENTS full|resume\n");
        return 2;
    }
    int clients = atoi(argv[4]);
    struct tally *tally =
        mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    int64_t until_us = now_us() + (int64_t)(atof(argv[3]) * 1e6);
    for (int i = 0; i < clients; i++) {
        if (fork() == 0) {
            struct client client = {.ctx = SSL_CTX_new(TLS_client_method()),
                                    .is_resuming = strcmp(argv[5], "resume") == 0};
            client.to.sin_family = AF_INET;
            client.to.sin_port = htons((uint16_t)atoi(argv[1]));
            client.to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            client.request_length = snprintf(
                client.request, sizeof client.request,
                "GET %s HTTP/1.1\r\nHost: api.contoso.test\r\nConnection: close\r\n\r\n", argv[2]);
            SSL_CTX_set_session_cache_mode(client.ctx,
                                           SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
            SSL_CTX_sess_set_new_cb(client.ctx, keep_session);
            run_client(&client, tally, until_us);
            _exit(0);
        }
    }
    while (wait(NULL) > 0) {
    }
    printf("{\"requests\": %llu, \"errors\": %llu, \"resumed\": %llu, \"p50_us\": %lld, "
           "\"p99_us\": %lld}\n",
           (unsigned long long)tally->requests, (unsigned long long)tally->errors,
           (unsigned long long)tally->resumed, (long long)percentile_us(tally, 0.5),
           (long long)percentile_us(tally, 0.99));
    return 0;
}
