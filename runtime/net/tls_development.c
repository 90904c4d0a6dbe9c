/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEVELOPMENT_DAYS = 365 };

// Makes every directory above `path`.
static bool development_make_dirs(const char *path)
{
    char dir[PATH_MAX];
    int n = snprintf(dir, sizeof(dir), "%s", path);
    if (n < 0 || (size_t)n >= sizeof(dir))
        return false;
    for (char *slash = strchr(dir + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(dir, 0700) == -1 && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return true;
}

static bool development_add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool is_added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool development_fill(X509 *certificate, EVP_PKEY *key)
{
    int64_t serial = 0;
    X509_NAME *name = X509_get_subject_name(certificate);
    return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 &&
           X509_set_version(certificate, X509_VERSION_3) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), (uint64_t)serial >> 1 | 1) ==
               1 &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(certificate), DEVELOPMENT_DAYS * 86400L) != NULL &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                      (const unsigned char *)"moongate development", -1, -1,
                                      0) == 1 &&
           X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
           development_add_extension(certificate, NID_subject_alt_name,
                                     "DNS:localhost,DNS:*.test,DNS:*.contoso.test,"
                                     "IP:127.0.0.1,IP:::1") &&
           development_add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           development_add_extension(certificate, NID_key_usage, "critical,digitalSignature") &&
           development_add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

// Written beside and renamed, so that another process never reads half a file.
static bool development_write(const char *path, X509 *certificate, EVP_PKEY *key)
{
    char temporary[PATH_MAX];
    int n = snprintf(temporary, sizeof(temporary), "%s.%d", path, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof(temporary))
        return false;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd == -1 ? NULL : fdopen(fd, "w");
    if (file == NULL) {
        if (fd != -1)
            (void)close(fd);
        return false;
    }
    bool is_written = certificate != NULL
                          ? PEM_write_X509(file, certificate) == 1
                          : PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;
    is_written = fclose(file) == 0 && is_written;
    if (!is_written || rename(temporary, path) == -1) {
        (void)unlink(temporary);
        return false;
    }
    return true;
}

enum moon_rc moon_tls_development_certificate(const char *certificate_path, const char *key_path)
{
    if (access(certificate_path, R_OK) == 0 && access(key_path, R_OK) == 0)
        return MOON_OK;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    bool is_made = key != NULL && certificate != NULL && development_make_dirs(certificate_path) &&
                   development_fill(certificate, key) && development_write(key_path, NULL, key) &&
                   development_write(certificate_path, certificate, NULL);
    X509_free(certificate);
    EVP_PKEY_free(key);
    if (!is_made) {
        moon_log_error("no development certificate could be made at %s: %s", certificate_path,
                       strerror(errno));
        return MOON_ERR_CONFIG;
    }
    moon_log_info("a self-signed certificate for development was made: %s", certificate_path);
    return MOON_OK;
}
