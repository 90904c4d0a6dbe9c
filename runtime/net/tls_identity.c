/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/clock.h"
#include "net/tls_impl.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

// Names and serial numbers of a client come from outside: what does not fit is left empty.
enum { IDENTITY_BYTES = 64 * 1024 };

struct moon_tls_identity {
    struct moon_tls_info info;
    struct moon_arena arena; // texts of the client's certificate
};

/// Copies what was written to a memory BIO, and frees it.
static struct moon_slice identity_take(struct moon_arena *arena, BIO *bio)
{
    struct moon_slice text = {NULL, 0};
    char *data = NULL;
    long len = bio == NULL ? 0 : BIO_get_mem_data(bio, &data);
    if (len > 0 && !moon_arena_copy(arena, moon_slice(data, (size_t)len), &text))
        text = moon_slice(NULL, 0);
    (void)BIO_free(bio);
    return text;
}

static struct moon_slice identity_name(struct moon_arena *arena, const X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio != NULL)
        (void)X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
    return identity_take(arena, bio);
}

static struct moon_slice identity_common_name(struct moon_arena *arena, const X509_NAME *subject)
{
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    unsigned char *utf8 = NULL;
    struct moon_slice text = {NULL, 0};
    if (at < 0)
        return text;
    int len =
        ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool is_text = len > 0 && memchr(utf8, '\0', (size_t)len) == NULL;
    if (is_text && !moon_arena_copy(arena, moon_slice((char *)utf8, (size_t)len), &text))
        text = moon_slice(NULL, 0);
    OPENSSL_free(utf8);
    return text;
}

static struct moon_slice identity_hex(struct moon_arena *arena, const unsigned char *bytes,
                                      size_t count)
{
    static const char digits[] = "0123456789abcdef";
    char *text = moon_arena_alloc(arena, 2 * count + 1);
    if (text == NULL)
        return moon_slice(NULL, 0);
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * count] = '\0';
    return moon_slice(text, 2 * count);
}

static struct moon_slice identity_fingerprint(struct moon_arena *arena, const X509 *leaf)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    if (X509_digest(leaf, EVP_sha256(), sum, &len) != 1)
        return moon_slice(NULL, 0);
    return identity_hex(arena, sum, len);
}

static struct moon_slice identity_time(struct moon_arena *arena, const ASN1_TIME *time)
{
    char text[MOON_CLOCK_TEXT_BYTES];
    struct moon_slice copy = {NULL, 0};
    int64_t ms = moon_tls_time_ms(time);
    if (ms == INT64_MAX || ms < 0)
        return copy;
    if (!moon_arena_copy(arena, moon_slice(text, moon_clock_iso(ms, text)), &copy))
        copy = moon_slice(NULL, 0);
    return copy;
}

static struct moon_slice identity_dns_names(struct moon_arena *arena, const X509 *leaf)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    BIO *bio = names == NULL ? NULL : BIO_new(BIO_s_mem());
    bool is_first = true;
    for (int i = 0; bio != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        const unsigned char *data = ASN1_STRING_get0_data(name->d.dNSName);
        int len = ASN1_STRING_length(name->d.dNSName);
        // A comma or NUL inside would let one name pass for two.
        if (len <= 0 || memchr(data, '\0', (size_t)len) != NULL ||
            memchr(data, ',', (size_t)len) != NULL)
            continue;
        (void)BIO_printf(bio, "%s%.*s", is_first ? "" : ",", len, (const char *)data);
        is_first = false;
    }
    GENERAL_NAMES_free(names);
    return identity_take(arena, bio);
}

static void identity_verify(struct moon_tls_info *info, const SSL *ssl, const X509 *leaf)
{
    long result = SSL_get_verify_result(ssl);
    // A resumed session brings its old verdict: time goes on.
    if (result == X509_V_OK && moon_tls_time_ms(X509_get0_notAfter(leaf)) <= moon_clock_wall_ms())
        result = X509_V_ERR_CERT_HAS_EXPIRED;
    info->is_client_verified = result == X509_V_OK;
    if (result != X509_V_OK)
        info->client_verify_error = moon_slice_text(X509_verify_cert_error_string(result));
}

static void identity_read_client(struct moon_tls_identity *identity, const SSL *ssl,
                                 const X509 *leaf)
{
    struct moon_tls_info *info = &identity->info;
    struct moon_arena *arena = &identity->arena;
    const ASN1_INTEGER *serial = X509_get0_serialNumber(leaf);
    info->has_client_certificate = true;
    identity_verify(info, ssl, leaf);
    info->client_subject = identity_name(arena, X509_get_subject_name(leaf));
    info->client_issuer = identity_name(arena, X509_get_issuer_name(leaf));
    info->client_common_name = identity_common_name(arena, X509_get_subject_name(leaf));
    info->client_serial =
        identity_hex(arena, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial));
    info->client_fingerprint = identity_fingerprint(arena, leaf);
    info->client_not_before = identity_time(arena, X509_get0_notBefore(leaf));
    info->client_not_after = identity_time(arena, X509_get0_notAfter(leaf));
    info->client_dns_names = identity_dns_names(arena, leaf);
}

struct moon_tls_identity *moon_tls_identity_new(const struct moon_stream_tls *tls)
{
    struct moon_tls_identity *identity = calloc(1, sizeof(*identity));
    if (identity == NULL)
        return NULL;
    const SSL *ssl = tls->ssl;
    moon_arena_init(&identity->arena, IDENTITY_BYTES);
    const unsigned char *alpn = NULL;
    unsigned int alpn_len = 0;
    SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
    identity->info = (struct moon_tls_info){
        .version = SSL_get_version(ssl),
        .cipher = SSL_get_cipher_name(ssl),
        .sni = moon_slice_text(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)),
        .alpn = moon_slice((const char *)alpn, alpn_len),
        .ja4 = moon_slice_text(tls->ja4),
        .is_resumed = SSL_session_reused(ssl) == 1,
    };
    const X509 *leaf = tls->server == NULL ? NULL : SSL_get0_peer_certificate(ssl);
    if (leaf != NULL)
        identity_read_client(identity, ssl, leaf);
    ERR_clear_error();
    return identity;
}

void moon_tls_identity_free(struct moon_tls_identity *identity)
{
    if (identity == NULL)
        return;
    moon_arena_reset(&identity->arena);
    free(identity);
}

const struct moon_tls_info *moon_tls_identity_info(const struct moon_tls_identity *identity)
{
    return &identity->info;
}

struct moon_slice moon_tls_identity_pem(struct moon_tls_identity *identity, SSL *ssl)
{
    struct moon_tls_info *info = &identity->info;
    X509 *leaf = SSL_get0_peer_certificate(ssl);
    if (info->client_pem.data != NULL || !info->has_client_certificate || leaf == NULL)
        return info->client_pem;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio != NULL)
        (void)PEM_write_bio_X509(bio, leaf);
    info->client_pem = identity_take(&identity->arena, bio);
    return info->client_pem;
}
