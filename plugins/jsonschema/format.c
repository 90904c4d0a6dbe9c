/* SPDX-License-Identifier: Apache-2.0 */

/// The formats that can be asserted: JSON Schema's, and those of OpenAPI that say something of a value
/// (not `binary`, `password`). `idn-hostname` takes any labels of sane length: IDNA's tables are not here.

#include "jsonschema/set.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static bool is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

// Reads `count` digits at *at; -1: they are not there.
static int digits(struct moon_slice t, size_t *at, size_t count)
{
    int value = 0;
    if (t.len < *at + count) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_digit(t.data[*at + i])) {
            return -1;
        }
        value = value * 10 + (t.data[*at + i] - '0');
    }
    *at += count;
    return value;
}

static bool literal(struct moon_slice t, size_t *at, char c)
{
    if (*at >= t.len || t.data[*at] != c) {
        return false;
    }
    ++*at;
    return true;
}

static bool read_date(struct moon_slice t, size_t *at)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = digits(t, at, 4);
    if (year < 0 || !literal(t, at, '-')) {
        return false;
    }
    int month = digits(t, at, 2);
    if (month < 1 || month > 12 || !literal(t, at, '-')) {
        return false;
    }
    int day = digits(t, at, 2);
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day >= 1 && day <= DAYS[month - 1] + (month == 2 && is_leap);
}

static bool read_zone(struct moon_slice t, size_t *at, int *minutes)
{
    *minutes = 0;
    if (*at < t.len && (t.data[*at] | 0x20) == 'z') {
        ++*at;
        return true;
    }
    if (*at >= t.len || (t.data[*at] != '+' && t.data[*at] != '-')) {
        return false;
    }
    int sign = t.data[(*at)++] == '+' ? 1 : -1;
    int hour = digits(t, at, 2);
    if (hour < 0 || hour > 23 || !literal(t, at, ':')) {
        return false;
    }
    int minute = digits(t, at, 2);
    *minutes = sign * (hour * 60 + minute);
    return minute >= 0 && minute <= 59;
}

static bool read_time(struct moon_slice t, size_t *at)
{
    int hour = digits(t, at, 2);
    if (hour < 0 || hour > 23 || !literal(t, at, ':')) {
        return false;
    }
    int minute = digits(t, at, 2);
    if (minute < 0 || minute > 59 || !literal(t, at, ':')) {
        return false;
    }
    int second = digits(t, at, 2), zone;
    if (second < 0 || second > 60) {
        return false;
    }
    if (literal(t, at, '.')) {
        size_t begin = *at;
        while (*at < t.len && is_digit(t.data[*at])) {
            ++*at;
        }
        if (*at == begin) {
            return false;
        }
    }
    if (!read_zone(t, at, &zone)) {
        return false;
    }
    int utc = ((hour * 60 + minute - zone) % 1440 + 1440) % 1440;
    return second < 60 || utc == 1439; // a leap second ends a day of UTC
}

static bool test_date(struct moon_slice t)
{
    size_t at = 0;
    return read_date(t, &at) && at == t.len;
}

static bool test_time(struct moon_slice t)
{
    size_t at = 0;
    return read_time(t, &at) && at == t.len;
}

static bool test_date_time(struct moon_slice t)
{
    size_t at = 0;
    return read_date(t, &at) && at < t.len && (t.data[at++] | 0x20) == 't' && read_time(t, &at) &&
           at == t.len;
}

// Reads numbers with units in the order of `units`; whether there was one.
static bool read_units(struct moon_slice t, size_t *at, const char *units)
{
    bool found = false;
    while (*at < t.len && is_digit(t.data[*at])) {
        while (*at < t.len && is_digit(t.data[*at])) {
            ++*at;
        }
        const char *unit = *at < t.len && t.data[*at] != '\0' ? strchr(units, t.data[*at]) : NULL;
        if (unit == NULL || (found && unit != units)) {
            return false; // a unit may be left out at the ends, not in between
        }
        units = unit + 1;
        ++*at;
        found = true;
    }
    return found;
}

static bool test_duration(struct moon_slice t)
{
    size_t at = 0;
    if (!literal(t, &at, 'P')) {
        return false;
    }
    if (t.len > 2 && t.data[t.len - 1] == 'W') {
        return read_units(t, &at, "W") && at == t.len;
    }
    bool has_date = read_units(t, &at, "YMD");
    if (!literal(t, &at, 'T')) {
        return has_date && at == t.len;
    }
    return (has_date || at == 2) && read_units(t, &at, "HMS") && at == t.len;
}

static bool test_hostname(struct moon_slice t)
{
    size_t label = 0;
    if (t.len == 0 || t.len > 253) {
        return false;
    }
    for (size_t i = 0; i < t.len; i++) {
        char c = t.data[i];
        if (c == '.') {
            if (label == 0 || t.data[i - 1] == '-') {
                return false;
            }
            label = 0;
        } else if (!(is_letter(c) || is_digit(c) || (c == '-' && label > 0)) || ++label > 63) {
            return false;
        } else if (label == 4 && c == '-' && t.data[i - 1] == '-' &&
                   (i + 1 >= t.len || (t.data[i - 3] | 0x20) != 'x' ||
                    (t.data[i - 2] | 0x20) != 'n' || t.data[i + 1] == '.')) {
            return false; // "--" there marks an encoded label
        }
    }
    return label > 0 && t.data[t.len - 1] != '-';
}

static bool test_idn_hostname(struct moon_slice t)
{
    size_t label = 0;
    if (t.len == 0 || t.len > 253 * 4) {
        return false;
    }
    for (size_t i = 0; i < t.len; i++) {
        unsigned char c = (unsigned char)t.data[i];
        if (c == '.') {
            if (label == 0) {
                return false;
            }
            label = 0;
        } else if (c < 0x80 && !(is_letter((char)c) || is_digit((char)c) || c == '-')) {
            return false;
        } else if (++label > 63 * 4) {
            return false;
        }
    }
    return label > 0;
}

static bool test_address(struct moon_slice t, int family)
{
    char text[64];
    unsigned char bytes[16];
    if (t.len >= sizeof text || memchr(t.data, '\0', t.len) != NULL) {
        return false;
    }
    memcpy(text, t.data, t.len);
    text[t.len] = '\0';
    return inet_pton(family, text, bytes) == 1;
}

static bool test_ipv4(struct moon_slice t)
{
    return test_address(t, AF_INET);
}

static bool test_ipv6(struct moon_slice t)
{
    return test_address(t, AF_INET6);
}

static bool test_mailbox(struct moon_slice t, bool is_international)
{
    const char *at = t.len > 0 ? memrchr(t.data, '@', t.len) : NULL;
    if (at == NULL || at == t.data) {
        return false;
    }
    struct moon_slice local = {t.data, (size_t)(at - t.data)};
    struct moon_slice domain = {at + 1, t.len - local.len - 1};
    if (local.data[0] == '"') {
        if (local.len < 3 || local.data[local.len - 1] != '"') {
            return false;
        }
    } else {
        for (size_t i = 0; i < local.len; i++) {
            char c = local.data[i];
            bool is_edge = i == 0 || i + 1 == local.len || local.data[i - 1] == '.';
            bool is_high = ((unsigned char)c & 0x80) != 0;
            if (c == '.' ? is_edge
                         : !(is_letter(c) || is_digit(c) || (is_high && is_international) ||
                             (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL))) {
                return false;
            }
        }
    }
    if (domain.len > 2 && domain.data[0] == '[') {
        struct moon_slice inner = {domain.data + 1, domain.len - 2};
        if (inner.len > 5 && memcmp(inner.data, "IPv6:", 5) == 0) {
            return domain.data[domain.len - 1] == ']' &&
                   test_ipv6((struct moon_slice){inner.data + 5, inner.len - 5});
        }
        return domain.data[domain.len - 1] == ']' && test_ipv4(inner);
    }
    return is_international ? test_idn_hostname(domain) : test_hostname(domain);
}

static bool test_email(struct moon_slice t)
{
    return test_mailbox(t, false);
}

static bool test_idn_email(struct moon_slice t)
{
    return test_mailbox(t, true);
}

static bool test_uuid(struct moon_slice t)
{
    for (size_t i = 0; i < t.len; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (is_dash ? t.data[i] != '-' : !is_hex(t.data[i])) {
            return false;
        }
    }
    return t.len == 36;
}

// Bytes of a part of a URI: unreserved, sub-delims, escapes, and `more`.
static bool are_uri_bytes(struct moon_slice t, const char *more, bool is_international)
{
    for (size_t i = 0; i < t.len; i++) {
        char c = t.data[i];
        if (c == '%') {
            if (i + 2 >= t.len || !is_hex(t.data[i + 1]) || !is_hex(t.data[i + 2])) {
                return false;
            }
            i += 2;
        } else if (((unsigned char)c & 0x80) != 0
                       ? !is_international
                       : !(is_letter(c) || is_digit(c)) &&
                             (c == '\0' ||
                              (strchr("-._~!$&'()*+,;=", c) == NULL && strchr(more, c) == NULL))) {
            return false;
        }
    }
    return true;
}

static size_t until(struct moon_slice t, const char *stops)
{
    size_t i = 0;
    while (i < t.len && (t.data[i] == '\0' || strchr(stops, t.data[i]) == NULL)) {
        i++;
    }
    return i;
}

static bool is_authority(struct moon_slice t, bool is_international)
{
    const char *at = t.len > 0 ? memrchr(t.data, '@', t.len) : NULL;
    if (at != NULL) {
        struct moon_slice user = {t.data, (size_t)(at - t.data)};
        if (!are_uri_bytes(user, ":", is_international)) {
            return false;
        }
        t = (struct moon_slice){at + 1, t.len - user.len - 1};
    }
    size_t host = until(t, ":");
    if (t.len > 0 && t.data[0] == '[') {
        const char *close = memchr(t.data, ']', t.len);
        struct moon_slice inner = {t.data + 1, close == NULL ? 0 : (size_t)(close - t.data) - 1};
        bool is_future = inner.len > 3 && (inner.data[0] | 0x20) == 'v' && is_hex(inner.data[1]) &&
                         memchr(inner.data, '.', inner.len) != NULL &&
                         are_uri_bytes(inner, ":", false);
        if (!is_future && !test_ipv6(inner)) {
            return false;
        }
        host = (size_t)(close - t.data) + 1;
    } else if (!are_uri_bytes((struct moon_slice){t.data, host}, "", is_international)) {
        return false;
    }
    for (size_t i = host + 1; i < t.len; i++) {
        if (!is_digit(t.data[i])) {
            return false;
        }
    }
    return host == t.len || t.data[host] == ':';
}

static bool test_reference(struct moon_slice t, bool must_have_scheme, bool is_international)
{
    size_t colon = until(t, ":/?#");
    bool has_scheme = colon < t.len && t.data[colon] == ':';
    if (has_scheme) {
        if (colon == 0 || !is_letter(t.data[0])) {
            return false;
        }
        for (size_t i = 1; i < colon; i++) {
            char c = t.data[i];
            if (!(is_letter(c) || is_digit(c) || c == '+' || c == '-' || c == '.')) {
                return false;
            }
        }
        t = (struct moon_slice){t.data + colon + 1, t.len - colon - 1};
    } else if (must_have_scheme) {
        return false;
    }
    if (t.len >= 2 && t.data[0] == '/' && t.data[1] == '/') {
        struct moon_slice rest = {t.data + 2, t.len - 2};
        size_t len = until(rest, "/?#");
        if (!is_authority((struct moon_slice){rest.data, len}, is_international)) {
            return false;
        }
        t = (struct moon_slice){rest.data + len, rest.len - len};
    }
    size_t hash = until(t, "#");
    if (hash < t.len && !are_uri_bytes((struct moon_slice){t.data + hash + 1, t.len - hash - 1},
                                       ":@/?", is_international)) {
        return false;
    }
    return are_uri_bytes((struct moon_slice){t.data, hash}, ":@/?", is_international);
}

static bool test_uri(struct moon_slice t)
{
    return test_reference(t, true, false);
}

static bool test_uri_reference(struct moon_slice t)
{
    return test_reference(t, false, false);
}

static bool test_iri(struct moon_slice t)
{
    return test_reference(t, true, true);
}

static bool test_iri_reference(struct moon_slice t)
{
    return test_reference(t, false, true);
}

// The inside of an expression: an operator, then names with their modifiers, between commas.
static bool is_expression(struct moon_slice t)
{
    size_t i = t.len > 0 && t.data[0] != '\0' && strchr("+#./;?&=,!@|", t.data[0]) != NULL;
    bool has_name = false;
    for (; i < t.len; i++) {
        char c = t.data[i];
        bool is_last = i + 1 == t.len;
        if (c == '%' && i + 2 < t.len && is_hex(t.data[i + 1]) && is_hex(t.data[i + 2])) {
            has_name = true;
            i += 2;
        } else if (is_letter(c) || is_digit(c) || c == '_') {
            has_name = true;
        } else if (!has_name || (c == '.' && (is_last || t.data[i + 1] == '.'))) {
            return false;
        } else if (c == '*' && (is_last || t.data[i + 1] == ',')) {
            continue;
        } else if (c == ':' && !is_last && t.data[i + 1] >= '1' && t.data[i + 1] <= '9') {
            size_t begin = i;
            while (i + 1 < t.len && is_digit(t.data[i + 1])) {
                i++;
            }
            if (i - begin > 4 || (i + 1 < t.len && t.data[i + 1] != ',')) {
                return false;
            }
        } else if (c == ',') {
            has_name = false;
        } else if (c != '.') {
            return false;
        }
    }
    return has_name;
}

static bool test_uri_template(struct moon_slice t)
{
    for (size_t i = 0; i < t.len; i++) {
        char c = t.data[i];
        if (c == '{') {
            const char *close = memchr(t.data + i, '}', t.len - i);
            size_t len = close == NULL ? 0 : (size_t)(close - t.data) - i - 1;
            if (close == NULL || !is_expression((struct moon_slice){t.data + i + 1, len})) {
                return false;
            }
            i += len + 1;
        } else if ((unsigned char)c <= 0x20 || c == 0x7F || strchr("\"<>\\^`|}", c) != NULL) {
            return false;
        }
    }
    return true;
}

static bool test_pointer(struct moon_slice t)
{
    for (size_t i = 0; i < t.len; i++) {
        if ((i == 0 && t.data[i] != '/') ||
            (t.data[i] == '~' &&
             (i + 1 >= t.len || (t.data[i + 1] != '0' && t.data[i + 1] != '1')))) {
            return false;
        }
    }
    return true;
}

static bool test_relative_pointer(struct moon_slice t)
{
    size_t i = 0;
    while (i < t.len && is_digit(t.data[i])) {
        i++;
    }
    if (i == 0 || (i > 1 && t.data[0] == '0')) {
        return false;
    }
    struct moon_slice rest = {t.data + i, t.len - i};
    return (rest.len == 1 && rest.data[0] == '#') || test_pointer(rest);
}

static bool test_regex(struct moon_slice t)
{
    char error[160];
    struct jsc_pattern *p = jsc_pattern_new(t, error, sizeof error);
    jsc_pattern_free(p);
    return p != NULL;
}

static bool test_byte(struct moon_slice t)
{
    size_t i = 0;
    while (i < t.len &&
           (is_letter(t.data[i]) || is_digit(t.data[i]) || t.data[i] == '+' || t.data[i] == '/')) {
        i++;
    }
    size_t padding = t.len - i;
    return t.len % 4 == 0 && padding <= 2 && (padding < 1 || t.data[t.len - 1] == '=') &&
           (padding < 2 || t.data[i] == '=');
}

static const struct {
    const char *name;
    jsc_format_fn test;
} FORMATS[] = {
    {"date-time", test_date_time},
    {"date", test_date},
    {"time", test_time},
    {"duration", test_duration},
    {"email", test_email},
    {"idn-email", test_idn_email},
    {"hostname", test_hostname},
    {"idn-hostname", test_idn_hostname},
    {"ipv4", test_ipv4},
    {"ipv6", test_ipv6},
    {"uri", test_uri},
    {"uri-reference", test_uri_reference},
    {"iri", test_iri},
    {"iri-reference", test_iri_reference},
    {"uri-template", test_uri_template},
    {"uuid", test_uuid},
    {"json-pointer", test_pointer},
    {"relative-json-pointer", test_relative_pointer},
    {"regex", test_regex},
    {"byte", test_byte},
};

static bool is_named(struct moon_slice name, const char *known)
{
    return strlen(known) == name.len && memcmp(known, name.data, name.len) == 0;
}

jsc_format_fn jsc_format_find(struct moon_slice name, const char **known)
{
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
        if (is_named(name, FORMATS[i].name)) {
            *known = FORMATS[i].name;
            return FORMATS[i].test;
        }
    }
    return NULL;
}

// A number as the reader would have given it. Exact where a double is not, by its text.
#define NUMBER(value)                                                                              \
    {                                                                                              \
        .text = {#value, sizeof #value - 1}, .number = value##.0, .span = 1, .is_whole = true,     \
        .type = JSC_NUMBER                                                                         \
    }

static const struct jsc_node ONE = NUMBER(1);

// Of OpenAPI and its registry of formats. `double` is any number that the reader takes.
static const struct jsc_range RANGES[] = {
    {"int8", NUMBER(-128), NUMBER(127), &ONE},
    {"int16", NUMBER(-32768), NUMBER(32767), &ONE},
    {"int32", NUMBER(-2147483648), NUMBER(2147483647), &ONE},
    {"int64", NUMBER(-9223372036854775808), NUMBER(9223372036854775807), &ONE},
    {"uint8", NUMBER(0), NUMBER(255), &ONE},
    {"uint16", NUMBER(0), NUMBER(65535), &ONE},
    {"uint32", NUMBER(0), NUMBER(4294967295), &ONE},
    {"uint64", NUMBER(0), NUMBER(18446744073709551615), &ONE},
    {"float", NUMBER(-340282346638528859811704183484516925440),
     NUMBER(340282346638528859811704183484516925440), NULL},
};

const struct jsc_range *jsc_format_range(struct moon_slice name)
{
    for (size_t i = 0; i < sizeof RANGES / sizeof *RANGES; i++) {
        if (is_named(name, RANGES[i].name)) {
            return &RANGES[i];
        }
    }
    return NULL;
}
