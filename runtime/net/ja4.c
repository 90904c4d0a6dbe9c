/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ja4.h"

#include <openssl/evp.h>

enum {
    JA4_VALUES = 512, // ciphers or extensions that are looked at; clients send some twenty
    JA4_HASH_CHARS = 12,
    EXT_SERVER_NAME = 0x0000,
    EXT_SIGNATURE_ALGORITHMS = 0x000d,
    EXT_ALPN = 0x0010,
    EXT_SUPPORTED_VERSIONS = 0x002b,
};

struct ja4_values {
    uint16_t at[JA4_VALUES];
    size_t count;
};

struct ja4_hello {
    uint16_t version;
    struct ja4_values ciphers, extensions, signatures;
    bool has_sni;
    struct moon_slice alpn; // the first protocol
};

static bool ja4_is_grease(uint16_t value)
{
    return (value & 0x0f0f) == 0x0a0a && (value >> 8) == (value & 0xff);
}

/// Takes `n` bytes from the front. @return false when there are fewer
static bool ja4_take(struct moon_slice *from, size_t n, struct moon_slice *out)
{
    if (from->len < n)
        return false;
    *out = moon_slice(from->data, n);
    *from = moon_slice_from(*from, n);
    return true;
}

static bool ja4_number(struct moon_slice *from, size_t bytes, size_t *out)
{
    struct moon_slice taken;
    if (!ja4_take(from, bytes, &taken))
        return false;
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n = n << 8 | (uint8_t)taken.data[i];
    *out = n;
    return true;
}

/// A vector with its length in front.
static bool ja4_vector(struct moon_slice *from, size_t length_bytes, struct moon_slice *out)
{
    size_t n;
    return ja4_number(from, length_bytes, &n) && ja4_take(from, n, out);
}

static void ja4_add(struct ja4_values *values, uint16_t value)
{
    if (!ja4_is_grease(value) && values->count < JA4_VALUES)
        values->at[values->count++] = value;
}

static bool ja4_list(struct moon_slice list, struct ja4_values *out)
{
    size_t value;
    while (list.len > 0) {
        if (!ja4_number(&list, 2, &value))
            return false;
        ja4_add(out, (uint16_t)value);
    }
    return true;
}

static bool ja4_versions(struct moon_slice body, struct ja4_hello *hello)
{
    struct moon_slice list;
    struct ja4_values versions = {.count = 0};
    if (!ja4_vector(&body, 1, &list) || !ja4_list(list, &versions))
        return false;
    uint16_t highest = 0;
    for (size_t i = 0; i < versions.count; i++) {
        if (versions.at[i] > highest)
            highest = versions.at[i];
    }
    if (highest != 0)
        hello->version = highest;
    return true;
}

static bool ja4_extension(uint16_t type, struct moon_slice body, struct ja4_hello *hello)
{
    struct moon_slice list;
    ja4_add(&hello->extensions, type);
    switch (type) {
    case EXT_SERVER_NAME:
        hello->has_sni = true;
        return true;
    case EXT_ALPN:
        return ja4_vector(&body, 2, &list) && ja4_vector(&list, 1, &hello->alpn);
    case EXT_SIGNATURE_ALGORITHMS:
        return ja4_vector(&body, 2, &list) && ja4_list(list, &hello->signatures);
    case EXT_SUPPORTED_VERSIONS:
        return ja4_versions(body, hello);
    default:
        return true;
    }
}

static bool ja4_read(struct moon_slice message, struct ja4_hello *hello)
{
    struct moon_slice body, skipped, list, extensions;
    size_t type, version;
    if (!ja4_number(&message, 1, &type) || type != 1 || !ja4_vector(&message, 3, &body) ||
        !ja4_number(&body, 2, &version) || !ja4_take(&body, 32, &skipped) ||
        !ja4_vector(&body, 1, &skipped) || !ja4_vector(&body, 2, &list) ||
        !ja4_list(list, &hello->ciphers) || !ja4_vector(&body, 1, &skipped))
        return false;
    hello->version = (uint16_t)version;
    if (body.len == 0)
        return true; // before TLS 1.2 extensions could be left out
    if (!ja4_vector(&body, 2, &extensions))
        return false;
    while (extensions.len > 0) {
        struct moon_slice extension;
        if (!ja4_number(&extensions, 2, &type) || !ja4_vector(&extensions, 2, &extension) ||
            !ja4_extension((uint16_t)type, extension, hello))
            return false;
    }
    return true;
}

static const char *ja4_version(uint16_t version)
{
    switch (version) {
    case 0x0304:
        return "13";
    case 0x0303:
        return "12";
    case 0x0302:
        return "11";
    case 0x0301:
        return "10";
    case 0x0300:
        return "s3";
    case 0x0002:
        return "s2";
    default:
        return "00";
    }
}

static bool ja4_is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (moon_lower(c) >= 'a' && moon_lower(c) <= 'z');
}

static void ja4_alpn(struct moon_slice alpn, char into[2])
{
    static const char digits[] = "0123456789abcdef";
    into[0] = into[1] = '0';
    if (alpn.len == 0)
        return;
    char first = alpn.data[0], last = alpn.data[alpn.len - 1];
    bool is_text = ja4_is_alphanumeric(first) && ja4_is_alphanumeric(last);
    into[0] = is_text ? first : digits[(uint8_t)first >> 4];
    into[1] = is_text ? last : digits[(uint8_t)last & 15];
}

static void ja4_sort(struct ja4_values *values)
{
    for (size_t i = 1; i < values->count; i++) {
        uint16_t value = values->at[i];
        size_t at = i;
        for (; at > 0 && values->at[at - 1] > value; at--)
            values->at[at] = values->at[at - 1];
        values->at[at] = value;
    }
}

static size_t ja4_hex(const struct ja4_values *values, char *into)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < values->count; i++) {
        uint16_t value = values->at[i];
        if (i > 0)
            into[n++] = ',';
        for (int shift = 12; shift >= 0; shift -= 4)
            into[n++] = digits[(value >> shift) & 15];
    }
    return n;
}

/// The first twelve hex digits of SHA-256; zeros for no text.
static void ja4_hash(const char *text, size_t len, char into[JA4_HASH_CHARS])
{
    static EVP_MD *sha256; // fetched once: fetching costs more than hashing
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[EVP_MAX_MD_SIZE];
    memset(into, '0', JA4_HASH_CHARS);
    if (sha256 == NULL)
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (len == 0 || sha256 == NULL || EVP_Digest(text, len, sum, NULL, sha256, NULL) != 1)
        return;
    for (size_t i = 0; i < JA4_HASH_CHARS / 2; i++) {
        into[2 * i] = digits[sum[i] >> 4];
        into[2 * i + 1] = digits[sum[i] & 15];
    }
}

static void ja4_extension_hash(struct ja4_hello *hello, char into[JA4_HASH_CHARS])
{
    char text[2 * JA4_VALUES * 5 + 1];
    struct ja4_values kept = {.count = 0};
    for (size_t i = 0; i < hello->extensions.count; i++) {
        uint16_t type = hello->extensions.at[i];
        if (type != EXT_SERVER_NAME && type != EXT_ALPN)
            ja4_add(&kept, type);
    }
    ja4_sort(&kept);
    size_t n = ja4_hex(&kept, text);
    if (n > 0 && hello->signatures.count > 0) {
        text[n++] = '_';
        n += ja4_hex(&hello->signatures, text + n); // in the client's order
    }
    ja4_hash(text, n, into);
}

bool moon_ja4(struct moon_slice client_hello, char into[MOON_JA4_BYTES + 1])
{
    struct ja4_hello hello = {.version = 0};
    into[0] = '\0';
    if (!ja4_read(client_hello, &hello))
        return false;
    size_t ciphers = moon_min_size(hello.ciphers.count, 99);
    size_t extensions = moon_min_size(hello.extensions.count, 99);
    (void)snprintf(into, MOON_JA4_BYTES + 1, "t%s%c%02u%02u", ja4_version(hello.version),
                   hello.has_sni ? 'd' : 'i', (unsigned)ciphers, (unsigned)extensions);
    ja4_alpn(hello.alpn, into + 8);
    char text[JA4_VALUES * 5];
    ja4_sort(&hello.ciphers);
    into[10] = into[23] = '_';
    ja4_hash(text, ja4_hex(&hello.ciphers, text), into + 11);
    ja4_extension_hash(&hello, into + 24);
    into[MOON_JA4_BYTES] = '\0';
    return true;
}
