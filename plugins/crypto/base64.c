/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/base64.h"

static const char STANDARD[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char URL_SAFE[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// 0xFF: no digit of either form. '-' and '_' are told from '+' and '/' below.
#define X 0xFF
static const uint8_t DIGITS[256] = {
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  62, X,  62, X,  63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, X,  X,  X,  X,  X,  X,  X,  0,  1,  2,  3,  4,  5,  6,
    7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, X,  X,  X,  X,  63,
    X,  26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48,
    49, 50, 51, X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,
    X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X,  X};
#undef X

static uint8_t digit(enum moon_base64_form form, char c)
{
    bool is_foreign = form == MOON_BASE64_URL ? c == '+' || c == '/' : c == '-' || c == '_';
    return is_foreign ? 0xFF : DIGITS[(uint8_t)c];
}

bool moon_base64_decode(enum moon_base64_form form, struct moon_slice text, uint8_t *out,
                        size_t *n_out)
{
    size_t len = text.len;
    if (form == MOON_BASE64) {
        if (len % 4 != 0) {
            return false;
        }
        for (int i = 0; i < 2 && len > 0 && text.data[len - 1] == '='; i++) {
            len--;
        }
    }
    if (len % 4 == 1) {
        return false;
    }
    uint32_t bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t value = digit(form, text.data[i]);
        if (value == 0xFF) {
            return false;
        }
        bits = bits << 6 | value;
        if (i % 4 == 1) {
            out[n++] = (uint8_t)(bits >> 4);
        } else if (i % 4 == 2) {
            out[n++] = (uint8_t)(bits >> 2);
        } else if (i % 4 == 3) {
            out[n++] = (uint8_t)bits;
        }
    }
    uint32_t loose = len % 4 == 2 ? bits & 0xF : len % 4 == 3 ? bits & 0x3 : 0;
    if (loose != 0) {
        return false;
    }
    *n_out = n;
    return true;
}

size_t moon_base64_encode(enum moon_base64_form form, const uint8_t *bytes, size_t len, char *out)
{
    const char *digits = form == MOON_BASE64_URL ? URL_SAFE : STANDARD;
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= i + 1 < len ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= i + 2 < len ? (uint32_t)bytes[i + 2] : 0;
        out[n++] = digits[bits >> 18];
        out[n++] = digits[bits >> 12 & 63];
        if (i + 1 < len) {
            out[n++] = digits[bits >> 6 & 63];
        }
        if (i + 2 < len) {
            out[n++] = digits[bits & 63];
        }
    }
    while (form == MOON_BASE64 && n % 4 != 0) {
        out[n++] = '=';
    }
    return n;
}
