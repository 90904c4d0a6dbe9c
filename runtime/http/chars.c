/* SPDX-License-Identifier: Apache-2.0 */
#include "http/chars.h"

#define T MOON_CHAR_TOKEN
#define U (MOON_CHAR_TOKEN | MOON_CHAR_UNRESERVED | MOON_CHAR_PATH)
#define P MOON_CHAR_PATH
#define X MOON_CHAR_HEX
#define Q MOON_CHAR_QUOTED

// clang-format off
const uint8_t moon_char_classes[256] = {
    ['!'] = T | P,     ['"'] = Q,         ['#'] = T,         ['$'] = T | P,     ['%'] = T,
    ['&'] = T | P,     ['\''] = T | P,    ['('] = P,         [')'] = P,         ['*'] = T | P,
    ['+'] = T | P,     [','] = P,         ['-'] = U,         ['.'] = U,         [':'] = P,
    [';'] = P,         ['<'] = Q,         ['='] = P,         ['>'] = Q,         ['@'] = P,
    ['['] = Q,         [']'] = Q,         ['^'] = T | Q,     ['_'] = U,         ['`'] = T | Q,
    ['{'] = Q,         ['|'] = T | Q,     ['}'] = Q,         ['~'] = U,
    ['0' ... '9'] = U | X,
    ['A' ... 'F'] = U | X, ['G' ... 'Z'] = U,
    ['a' ... 'f'] = U | X, ['g' ... 'z'] = U,
};
// clang-format on
