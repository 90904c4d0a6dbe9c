/* SPDX-License-Identifier: Apache-2.0 */
#include "http/structured.h"

#include "http/chars.h"

enum { SF_INTEGER_DIGITS = 15, SF_DECIMAL_DIGITS = 12, SF_FRACTION_DIGITS = 3 };

static char sf_peek(const struct moon_slice *s)
{
    return s->len > 0 ? s->data[0] : '\0';
}

static void sf_drop(struct moon_slice *s, size_t n)
{
    *s = moon_slice_from(*s, n);
}

static void sf_spaces(struct moon_slice *s, bool with_tabs)
{
    while (sf_peek(s) == ' ' || (with_tabs && sf_peek(s) == '\t'))
        sf_drop(s, 1);
}

static bool sf_is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool sf_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool sf_key(struct moon_slice *s, struct moon_slice *key)
{
    size_t n = 0;
    if (!sf_is_lower(sf_peek(s)) && sf_peek(s) != '*')
        return false;
    while (n < s->len && (sf_is_lower(s->data[n]) || sf_is_digit(s->data[n]) ||
                          (s->data[n] != '\0' && strchr("_-.*", s->data[n]) != NULL)))
        n++;
    *key = moon_slice(s->data, n);
    sf_drop(s, n);
    return true;
}

static size_t sf_digits(struct moon_slice s, size_t from)
{
    size_t n = from;
    while (n < s.len && sf_is_digit(s.data[n]))
        n++;
    return n - from;
}

static bool sf_number(struct moon_slice *s, struct moon_structured_member *item)
{
    size_t sign = sf_peek(s) == '-' ? 1 : 0, whole = sf_digits(*s, sign), n = sign + whole;
    if (whole == 0 || whole > SF_INTEGER_DIGITS)
        return false;
    item->type = MOON_STRUCTURED_INTEGER;
    item->integer = 0;
    for (size_t i = sign; i < n; i++)
        item->integer = item->integer * 10 + (s->data[i] - '0');
    if (sign > 0)
        item->integer = -item->integer;
    if (n < s->len && s->data[n] == '.') {
        size_t fraction = sf_digits(*s, n + 1);
        if (fraction == 0 || fraction > SF_FRACTION_DIGITS || whole > SF_DECIMAL_DIGITS)
            return false;
        item->type = MOON_STRUCTURED_DECIMAL;
        n += 1 + fraction;
    }
    item->value = moon_slice(s->data, n);
    sf_drop(s, n);
    return true;
}

// "text", %"text" of printable ASCII. @param prefix  bytes before the first quote
static bool sf_string(struct moon_slice *s, struct moon_structured_member *item, size_t prefix)
{
    size_t n = prefix + 1;
    for (; n < s->len && s->data[n] != '"'; n++) {
        unsigned char c = (unsigned char)s->data[n];
        if (c < 0x20 || c > 0x7E)
            return false;
        if (c == '\\' && prefix == 0) {
            n++;
            if (n >= s->len || (s->data[n] != '"' && s->data[n] != '\\'))
                return false;
        }
    }
    if (n >= s->len)
        return false;
    item->type = prefix == 0 ? MOON_STRUCTURED_STRING : MOON_STRUCTURED_OTHER;
    item->value = moon_slice(s->data + prefix + 1, n - prefix - 1);
    sf_drop(s, n + 1);
    return true;
}

static bool sf_token(struct moon_slice *s, struct moon_structured_member *item)
{
    size_t n = 1;
    while (n < s->len &&
           (moon_char_is(s->data[n], MOON_CHAR_TOKEN) || s->data[n] == ':' || s->data[n] == '/'))
        n++;
    item->type = MOON_STRUCTURED_TOKEN;
    item->value = moon_slice(s->data, n);
    sf_drop(s, n);
    return true;
}

// :base64:
static bool sf_bytes(struct moon_slice *s, struct moon_structured_member *item)
{
    size_t n = 1;
    while (n < s->len && (moon_char_is(s->data[n], MOON_CHAR_UNRESERVED) || s->data[n] == '+' ||
                          s->data[n] == '/' || s->data[n] == '='))
        n++;
    if (n >= s->len || s->data[n] != ':')
        return false;
    item->type = MOON_STRUCTURED_OTHER;
    item->value = moon_slice(s->data + 1, n - 1);
    sf_drop(s, n + 1);
    return true;
}

static bool sf_bare_item(struct moon_slice *s, struct moon_structured_member *item)
{
    char c = sf_peek(s);
    if (c == '-' || sf_is_digit(c))
        return sf_number(s, item);
    if (c == '"')
        return sf_string(s, item, 0);
    if (c == '%' && s->len > 1 && s->data[1] == '"')
        return sf_string(s, item, 1);
    if (c == ':')
        return sf_bytes(s, item);
    if (c == '@') { // a date
        sf_drop(s, 1);
        bool is_whole = sf_number(s, item) && item->type == MOON_STRUCTURED_INTEGER;
        item->type = MOON_STRUCTURED_OTHER;
        return is_whole;
    }
    if (c == '?' && s->len > 1 && (s->data[1] == '0' || s->data[1] == '1')) {
        item->type = s->data[1] == '1' ? MOON_STRUCTURED_TRUE : MOON_STRUCTURED_FALSE;
        sf_drop(s, 2);
        return true;
    }
    if (c == '*' || sf_is_lower((char)(c | 0x20)))
        return sf_token(s, item);
    return false;
}

static bool sf_parameters(struct moon_slice *s)
{
    struct moon_structured_member value;
    struct moon_slice key;
    while (sf_peek(s) == ';') {
        sf_drop(s, 1);
        sf_spaces(s, false);
        if (!sf_key(s, &key))
            return false;
        if (sf_peek(s) == '=') {
            sf_drop(s, 1);
            if (!sf_bare_item(s, &value))
                return false;
        }
    }
    return true;
}

static bool sf_inner_list(struct moon_slice *s, struct moon_structured_member *item)
{
    const char *from = s->data;
    sf_drop(s, 1);
    for (;;) {
        sf_spaces(s, false);
        if (sf_peek(s) == ')')
            break;
        if (!sf_bare_item(s, item) || !sf_parameters(s) || (sf_peek(s) != ' ' && sf_peek(s) != ')'))
            return false;
    }
    sf_drop(s, 1);
    item->type = MOON_STRUCTURED_OTHER;
    item->value = moon_slice(from, (size_t)(s->data - from));
    return true;
}

static bool sf_member(struct moon_slice *s, struct moon_structured_member *member)
{
    if (!sf_key(s, &member->key))
        return false;
    member->type = MOON_STRUCTURED_TRUE;
    if (sf_peek(s) == '=') {
        sf_drop(s, 1);
        bool is_good = sf_peek(s) == '(' ? sf_inner_list(s, member) : sf_bare_item(s, member);
        if (!is_good)
            return false;
    }
    return sf_parameters(s);
}

enum moon_rc moon_structured_next(struct moon_slice *rest, struct moon_structured_member *member)
{
    struct moon_slice s = *rest;
    *member = (struct moon_structured_member){.type = MOON_STRUCTURED_TRUE};
    sf_spaces(&s, false);
    if (s.len == 0)
        return MOON_EOF;
    if (!sf_member(&s, member))
        return MOON_ERR_BAD_FIELD;
    sf_spaces(&s, true);
    if (s.len > 0) {
        if (s.data[0] != ',')
            return MOON_ERR_BAD_FIELD;
        sf_drop(&s, 1);
        sf_spaces(&s, true);
        if (s.len == 0) // a comma, and nothing behind it
            return MOON_ERR_BAD_FIELD;
    }
    *rest = s;
    return MOON_OK;
}
