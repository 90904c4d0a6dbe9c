/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tls_impl.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

enum { TLS_FILE_BYTES = 16 * 1024 * 1024 }; // certificates, bundles and CRLs are far smaller

const char *moon_tls_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return reason != NULL ? reason : "unknown reason";
}

int64_t moon_tls_time_ms(const ASN1_TIME *time)
{
    struct tm t;
    if (time == NULL || ASN1_TIME_to_tm(time, &t) != 1)
        return INT64_MAX;
    return (int64_t)timegm(&t) * 1000;
}

char *moon_tls_read_file(const char *path, size_t *len, char *error, size_t error_cap)
{
    char *data = NULL;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        (void)snprintf(error, error_cap, "%s: %m", path);
        return NULL;
    }
    long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (size < 0 || size > TLS_FILE_BYTES || fseek(file, 0, SEEK_SET) != 0) {
        (void)snprintf(error, error_cap, "%s: is no file of at most %d bytes", path,
                       TLS_FILE_BYTES);
        goto done;
    }
    data = malloc((size_t)size + 1);
    if (data == NULL) {
        (void)snprintf(error, error_cap, "%s: out of memory", path);
        goto done;
    }
    *len = fread(data, 1, (size_t)size, file);
    data[*len] = '\0';
done:
    (void)fclose(file);
    return data;
}

static BIO *files_open(const char *path, char *error, size_t error_cap)
{
    ERR_clear_error();
    BIO *bio = BIO_new_file(path, "re");
    if (bio == NULL) {
        (void)snprintf(error, error_cap, "%s: %m", path);
        ERR_clear_error();
    }
    return bio;
}

// A worker has no terminal: an encrypted key is an error, never a prompt.
static int files_no_password(char *into, int cap, int is_writing, void *arg)
{
    (void)into;
    (void)cap;
    (void)is_writing;
    (void)arg;
    return -1;
}

static bool files_load_chain(const char *path, struct moon_tls_pair *pair, char *error,
                             size_t error_cap)
{
    BIO *bio = files_open(path, error, error_cap);
    if (bio == NULL)
        return false;
    X509 *next;
    pair->leaf = PEM_read_bio_X509_AUX(bio, NULL, files_no_password, NULL);
    pair->chain = sk_X509_new_null();
    bool is_loaded = pair->leaf != NULL && pair->chain != NULL;
    while (is_loaded && (next = PEM_read_bio_X509(bio, NULL, files_no_password, NULL)) != NULL) {
        if (sk_X509_push(pair->chain, next) <= 0) {
            X509_free(next);
            is_loaded = false;
        }
    }
    // The end of the file is told as "no start line".
    unsigned long last = ERR_peek_last_error();
    if (is_loaded && last != 0 && ERR_GET_REASON(last) != PEM_R_NO_START_LINE)
        is_loaded = false;
    if (!is_loaded)
        (void)snprintf(error, error_cap, "%s: is no PEM certificate chain (%s)", path,
                       moon_tls_reason());
    ERR_clear_error();
    (void)BIO_free(bio);
    return is_loaded;
}

static bool files_load_key(const char *path, struct moon_tls_pair *pair, char *error,
                           size_t error_cap)
{
    BIO *bio = files_open(path, error, error_cap);
    if (bio == NULL)
        return false;
    pair->key = PEM_read_bio_PrivateKey(bio, NULL, files_no_password, NULL);
    if (pair->key == NULL)
        (void)snprintf(error, error_cap, "%s: is no unencrypted PEM private key (%s)", path,
                       moon_tls_reason());
    (void)BIO_free(bio);
    return pair->key != NULL;
}

enum moon_rc moon_tls_pair_load(const char *certificate, const char *key, struct moon_tls_pair *out,
                                char *error, size_t error_cap)
{
    struct moon_tls_pair pair = {NULL, NULL, NULL};
    if (!files_load_chain(certificate, &pair, error, error_cap) ||
        !files_load_key(key, &pair, error, error_cap))
        goto fail;
    if (X509_check_private_key(pair.leaf, pair.key) != 1) {
        (void)snprintf(error, error_cap, "%s: is not the key of %s", key, certificate);
        ERR_clear_error();
        goto fail;
    }
    *out = pair; // ownership passes here
    return MOON_OK;
fail:
    moon_tls_pair_fini(&pair);
    return MOON_ERR_CONFIG;
}

void moon_tls_pair_fini(struct moon_tls_pair *pair)
{
    X509_free(pair->leaf);
    sk_X509_pop_free(pair->chain, X509_free);
    EVP_PKEY_free(pair->key);
    *pair = (struct moon_tls_pair){NULL, NULL, NULL};
}

void moon_tls_context_defaults(SSL_CTX *context)
{
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_read_ahead(context, 1); // header and body of a record in one read
}
