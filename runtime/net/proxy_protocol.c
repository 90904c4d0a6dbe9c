/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy_protocol.h"

static const char proxy_v2_signature[12] = "\r\n\r\n\0\r\nQUIT\n";

enum {
    PROXY_V2_HEAD = 16,
    PROXY_V2_INET = 12,
    PROXY_V2_INET6 = 36,
    PROXY_V2_UNIX = 216,
    TLV_ALPN = 0x01,
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
    TLV_AZURE = 0xee, // Private Link: type 1, then the endpoint's id
};

static size_t proxy_u16(const char *at)
{
    return (size_t)(uint8_t)at[0] << 8 | (uint8_t)at[1];
}

// Version 1: one line of text

/// Takes the next word; words are parted by exactly one space.
static struct moon_slice v1_word(struct moon_slice *line)
{
    size_t n = moon_slice_find(*line, ' ');
    struct moon_slice word = moon_slice(line->data, n);
    *line = moon_slice_from(*line, n + 1);
    return word;
}

static bool v1_port(struct moon_slice word, uint16_t *port)
{
    int64_t n;
    bool has_zero = word.len > 1 && word.data[0] == '0';
    if (has_zero || !moon_slice_number(word, &n) || n > UINT16_MAX)
        return false;
    *port = (uint16_t)n;
    return true;
}

static bool v1_address(struct moon_slice word, bool is_v4, struct moon_ip *ip)
{
    bool looks_v4 = moon_slice_find(word, ':') == word.len;
    return word.len > 0 && word.data[0] != '[' && looks_v4 == is_v4 && moon_ip_parse(word, ip);
}

static enum moon_rc v1_parse_line(struct moon_slice line, struct moon_proxy_header *out)
{
    struct moon_slice family = v1_word(&line);
    if (moon_slice_is(family, MOON_S("UNKNOWN")))
        return MOON_OK; // what follows is to be ignored
    bool is_v4 = moon_slice_is(family, MOON_S("TCP4"));
    if (!is_v4 && !moon_slice_is(family, MOON_S("TCP6")))
        return MOON_ERR_BAD_REQUEST;
    struct moon_slice source = v1_word(&line), destination = v1_word(&line);
    struct moon_slice source_port = v1_word(&line);
    if (!v1_address(source, is_v4, &out->source) ||
        !v1_address(destination, is_v4, &out->destination) ||
        !v1_port(source_port, &out->source_port) || !v1_port(line, &out->destination_port))
        return MOON_ERR_BAD_REQUEST;
    out->has_addresses = true;
    return MOON_OK;
}

static enum moon_rc v1_parse(struct moon_slice bytes, struct moon_proxy_header *out,
                             size_t *consumed)
{
    static const struct moon_slice start = {"PROXY ", 6};
    size_t n = moon_min_size(bytes.len, start.len);
    if (memcmp(bytes.data, start.data, n) != 0)
        return MOON_ERR_BAD_REQUEST;
    size_t end = moon_slice_find(
        moon_slice(bytes.data, moon_min_size(bytes.len, MOON_PROXY_V1_BYTES)), '\n');
    if (end == bytes.len && bytes.len < MOON_PROXY_V1_BYTES)
        return MOON_AGAIN;
    if (end >= MOON_PROXY_V1_BYTES || end < start.len || bytes.data[end - 1] != '\r')
        return MOON_ERR_BAD_REQUEST;
    struct moon_proxy_header header = {.version = 1};
    enum moon_rc rc =
        v1_parse_line(moon_slice(bytes.data + start.len, end - 1 - start.len), &header);
    if (rc != MOON_OK)
        return rc;
    *out = header;
    *consumed = end + 1;
    return MOON_OK;
}

// Version 2: binary

static void v2_take_v4(const char *at, struct moon_ip *ip)
{
    *ip = (struct moon_ip){{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};
    memcpy(ip->bytes + 12, at, 4);
}

/// @return bytes that the addresses take; 0: not enough of them
static size_t v2_addresses(uint8_t family, struct moon_slice body, struct moon_proxy_header *out)
{
    switch (family >> 4) {
    case 1:
        if (body.len < PROXY_V2_INET)
            return 0;
        v2_take_v4(body.data, &out->source);
        v2_take_v4(body.data + 4, &out->destination);
        out->source_port = (uint16_t)proxy_u16(body.data + 8);
        out->destination_port = (uint16_t)proxy_u16(body.data + 10);
        out->has_addresses = true;
        return PROXY_V2_INET;
    case 2:
        if (body.len < PROXY_V2_INET6)
            return 0;
        memcpy(out->source.bytes, body.data, 16);
        memcpy(out->destination.bytes, body.data + 16, 16);
        out->source_port = (uint16_t)proxy_u16(body.data + 32);
        out->destination_port = (uint16_t)proxy_u16(body.data + 34);
        out->has_addresses = true;
        return PROXY_V2_INET6;
    case 3:
        return body.len < PROXY_V2_UNIX ? 0 : PROXY_V2_UNIX;
    default:
        return body.len; // AF_UNSPEC: all of it is to be skipped
    }
}

static uint32_t v2_crc32c(struct moon_slice header, const char *skipped)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < header.len; i++) {
        const char *at = header.data + i;
        bool is_sum = at >= skipped && at < skipped + 4; // counts as zero
        crc ^= is_sum ? 0 : (uint8_t)*at;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static bool v2_crc_is_right(struct moon_slice header, struct moon_slice value)
{
    if (value.len != 4)
        return false;
    uint32_t sum = (uint32_t)(proxy_u16(value.data) << 16 | proxy_u16(value.data + 2));
    return v2_crc32c(header, value.data) == sum;
}

static bool v2_extension(uint8_t type, struct moon_slice value, struct moon_slice header,
                         struct moon_proxy_header *out)
{
    switch (type) {
    case TLV_ALPN:
        out->alpn = value;
        return true;
    case TLV_AUTHORITY:
        out->authority = value;
        return true;
    case TLV_UNIQUE_ID:
        out->unique_id = value;
        return value.len <= 128;
    case TLV_SSL:
        out->is_tls = value.len >= 5 && (value.data[0] & 1) != 0;
        return value.len >= 5;
    case TLV_AZURE:
        if (value.len > 1 && value.data[0] == 1)
            out->azure_endpoint = moon_slice_from(value, 1);
        return true;
    case TLV_CRC32C:
        return v2_crc_is_right(header, value);
    default:
        return true;
    }
}

static bool v2_extensions(struct moon_slice rest, struct moon_slice header,
                          struct moon_proxy_header *out)
{
    while (rest.len > 0) {
        if (rest.len < 3)
            return false;
        size_t n = proxy_u16(rest.data + 1);
        if (n > rest.len - 3)
            return false;
        if (!v2_extension((uint8_t)rest.data[0], moon_slice(rest.data + 3, n), header, out))
            return false;
        rest = moon_slice_from(rest, 3 + n);
    }
    return true;
}

static enum moon_rc v2_parse(struct moon_slice bytes, struct moon_proxy_header *out,
                             size_t *consumed)
{
    size_t n = moon_min_size(bytes.len, sizeof(proxy_v2_signature));
    if (memcmp(bytes.data, proxy_v2_signature, n) != 0)
        return MOON_ERR_BAD_REQUEST;
    if (bytes.len < PROXY_V2_HEAD)
        return MOON_AGAIN;
    uint8_t command = (uint8_t)bytes.data[12], family = (uint8_t)bytes.data[13];
    size_t len = PROXY_V2_HEAD + proxy_u16(bytes.data + 14);
    if (command >> 4 != 2 || (command & 15) > 1 || len > MOON_PROXY_V2_BYTES)
        return MOON_ERR_BAD_REQUEST;
    if (bytes.len < len)
        return MOON_AGAIN;
    struct moon_proxy_header header = {.version = 2};
    bool is_stream = (family & 15) == 1 && family >> 4 <= 3;
    if ((command & 15) == 1 && family != 0) { // PROXY; LOCAL is the balancer's own health check
        struct moon_slice body = moon_slice(bytes.data + PROXY_V2_HEAD, len - PROXY_V2_HEAD);
        size_t taken = is_stream ? v2_addresses(family, body, &header) : 0;
        if (taken == 0 ||
            !v2_extensions(moon_slice_from(body, taken), moon_slice(bytes.data, len), &header))
            return MOON_ERR_BAD_REQUEST;
    }
    *out = header;
    *consumed = len;
    return MOON_OK;
}

enum moon_rc moon_proxy_parse(struct moon_slice bytes, struct moon_proxy_header *out,
                              size_t *consumed)
{
    if (bytes.len == 0)
        return MOON_AGAIN;
    return bytes.data[0] == '\r' ? v2_parse(bytes, out, consumed) : v1_parse(bytes, out, consumed);
}

// Writing

static void v1_write_address(const struct moon_ip *ip, bool is_v4,
                             char into[MOON_IP_TEXT_BYTES + 8])
{
    char text[MOON_IP_TEXT_BYTES];
    size_t len = moon_ip_format(ip, text);
    const char *prefix = !is_v4 && moon_ip_is_v4(ip) ? "::ffff:" : "";
    (void)snprintf(into, MOON_IP_TEXT_BYTES + 8, "%s%.*s", prefix, (int)len, text);
}

static size_t v1_write(const struct moon_proxy_header *header, bool is_v4,
                       char into[MOON_PROXY_WRITE_BYTES])
{
    char source[MOON_IP_TEXT_BYTES + 8], destination[MOON_IP_TEXT_BYTES + 8];
    int n;
    if (!header->has_addresses) {
        n = snprintf(into, MOON_PROXY_WRITE_BYTES, "PROXY UNKNOWN\r\n");
    } else {
        v1_write_address(&header->source, is_v4, source);
        v1_write_address(&header->destination, is_v4, destination);
        n = snprintf(into, MOON_PROXY_WRITE_BYTES, "PROXY %s %s %s %u %u\r\n",
                     is_v4 ? "TCP4" : "TCP6", source, destination, (unsigned)header->source_port,
                     (unsigned)header->destination_port);
    }
    MOON_ASSERT(n > 0 && n <= MOON_PROXY_V1_BYTES);
    return (size_t)n;
}

static size_t v2_put(char *into, size_t at, const void *bytes, size_t n)
{
    memcpy(into + at, bytes, n);
    return at + n;
}

static size_t v2_put_u16(char *into, size_t at, uint16_t value)
{
    into[at] = (char)(value >> 8);
    into[at + 1] = (char)(value & 255);
    return at + 2;
}

static size_t v2_write(const struct moon_proxy_header *header, bool is_v4,
                       char into[MOON_PROXY_WRITE_BYTES])
{
    size_t skip = is_v4 ? 12 : 0, n = 16 - skip;
    size_t at = v2_put(into, 0, proxy_v2_signature, sizeof(proxy_v2_signature));
    into[at++] = header->has_addresses ? 0x21 : 0x20;
    into[at++] = (char)(!header->has_addresses ? 0 : is_v4 ? 0x11 : 0x21);
    at = v2_put_u16(into, at, (uint16_t)(header->has_addresses ? 2 * n + 4 : 0));
    if (!header->has_addresses)
        return at;
    at = v2_put(into, at, header->source.bytes + skip, n);
    at = v2_put(into, at, header->destination.bytes + skip, n);
    at = v2_put_u16(into, at, header->source_port);
    return v2_put_u16(into, at, header->destination_port);
}

size_t moon_proxy_write(const struct moon_proxy_header *header, char into[MOON_PROXY_WRITE_BYTES])
{
    bool is_v4 = moon_ip_is_v4(&header->source) && moon_ip_is_v4(&header->destination);
    return header->version == 1 ? v1_write(header, is_v4, into) : v2_write(header, is_v4, into);
}
