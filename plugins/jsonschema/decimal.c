/* SPDX-License-Identifier: Apache-2.0 */
#include "jsonschema/decimal.h"

#include <math.h>
#include <string.h>

#define DIGITS_MAX 512

struct decimal {
    uint8_t digits[DIGITS_MAX]; // without leading and trailing zeros
    unsigned count;             // 0: the value is 0
    long exponent;              // of the last digit
    bool is_negative;
};

// The reader has checked the form, and that it is not longer than DIGITS_MAX where that matters.
static void read_decimal(struct decimal *d, struct moon_slice text)
{
    const char *p = text.data, *end = text.data + text.len;
    bool is_fraction = false;
    d->count = 0;
    d->exponent = 0;
    d->is_negative = *p == '-';
    p += d->is_negative;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            is_fraction = true;
            continue;
        }
        d->exponent -= is_fraction;
        if (d->count == DIGITS_MAX) {
            d->exponent++;
        } else if (d->count > 0 || *p != '0') {
            d->digits[d->count++] = (uint8_t)(*p - '0');
        }
    }
    if (p < end) {
        bool is_minus = *++p == '-';
        p += *p == '-' || *p == '+';
        long power = 0;
        for (; p < end; p++) {
            power = power < 100000 ? power * 10 + (*p - '0') : power;
        }
        d->exponent += is_minus ? -power : power;
    }
    while (d->count > 0 && d->digits[d->count - 1] == 0) {
        d->count--;
        d->exponent++;
    }
    if (d->count == 0) {
        d->exponent = 0;
        d->is_negative = false;
    }
}

// Both above 0.
static int compare_magnitude(const struct decimal *a, const struct decimal *b)
{
    long a_top = a->exponent + (long)a->count, b_top = b->exponent + (long)b->count;
    if (a_top != b_top) {
        return a_top < b_top ? -1 : 1;
    }
    unsigned least = a->count < b->count ? a->count : b->count;
    int order = memcmp(a->digits, b->digits, least);
    return order != 0 ? order : a->count < b->count ? -1 : a->count > b->count;
}

int jsc_decimal_compare(const struct jsc_node *a, const struct jsc_node *b)
{
    if (a->number != b->number) {
        return a->number < b->number ? -1 : 1;
    }
    bool is_tiny = fabs(a->number) < 1e-290 && !(a->is_whole && b->is_whole);
    if (a->text.len <= 15 && b->text.len <= 15 && !is_tiny) {
        return 0; // up to 15 digits a double tells apart, but for the smallest
    }
    struct decimal x, y;
    read_decimal(&x, a->text);
    read_decimal(&y, b->text);
    if (x.count == 0 || y.count == 0 || x.is_negative != y.is_negative) {
        return x.count == y.count ? 0 : a->number < b->number ? -1 : 1;
    }
    int order = compare_magnitude(&x, &y);
    return x.is_negative ? -order : order;
}

bool jsc_decimal_is_integer(const struct jsc_node *n, bool is_lexical)
{
    if (n->is_whole) {
        return true;
    }
    if (is_lexical && memchr(n->text.data, '.', n->text.len) != NULL) {
        return false;
    }
    struct decimal d;
    read_decimal(&d, n->text);
    return d.exponent >= 0;
}

static uint64_t multiply(uint64_t a, uint64_t b, uint64_t modulus)
{
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): clang 14 does not follow how it is set
    return (uint64_t)((unsigned __int128)a * b % modulus);
}

bool jsc_decimal_is_multiple(const struct jsc_node *n, const struct jsc_node *of)
{
    if (n->text.len <= 15 && of->text.len <= 15 && fabs(n->number) < 1e15 &&
        n->number == floor(n->number) && of->number == floor(of->number) && of->number < 1e15) {
        return (int64_t)n->number % (int64_t)of->number == 0;
    }
    struct decimal a, b;
    read_decimal(&a, n->text);
    read_decimal(&b, of->text);
    if (a.count == 0) {
        return true;
    }
    if (a.exponent < b.exponent) {
        return false; // a's last digit is not 0
    }
    if (b.count > 18) {
        return fmod(n->number, of->number) == 0;
    }
    uint64_t divisor = 0, rest = 0;
    for (unsigned i = 0; i < b.count; i++) {
        divisor = divisor * 10 + b.digits[i];
    }
    for (unsigned i = 0; i < a.count; i++) {
        rest = (multiply(rest, 10, divisor) + a.digits[i]) % divisor;
    }
    uint64_t power = 10 % divisor;
    for (unsigned long k = (unsigned long)(a.exponent - b.exponent); k > 0; k >>= 1) {
        if (k & 1) {
            rest = multiply(rest, power, divisor);
        }
        power = multiply(power, power, divisor);
    }
    return rest == 0;
}
