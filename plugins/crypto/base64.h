/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Base64 and base64url (RFC 4648), strict: no spaces, no foreign characters, no loose bits. The
/// plugins that read tokens share it.

#include "moongate/types.h"

enum moon_base64_form {
    MOON_BASE64,     // '+' and '/', padded with '='
    MOON_BASE64_URL, // '-' and '_', never padded
};

/// The bytes that `len` characters may hold at most, and the characters that `len` bytes need.
#define MOON_BASE64_DECODED_MAX(len) ((len) / 4 * 3 + 3)
#define MOON_BASE64_ENCODED_MAX(len) (((len) + 2) / 3 * 4)

/// Decodes.
///
/// @param out  room for MOON_BASE64_DECODED_MAX(text.len) bytes; may be where the text lies
/// @return     false when the text is not exactly what an encoder would have written
MUST_CHECK bool moon_base64_decode(enum moon_base64_form form, struct moon_slice text, uint8_t *out,
                                   size_t *n_out);

/// Encodes into room for MOON_BASE64_ENCODED_MAX(len) characters; no NUL. Returns how many.
size_t moon_base64_encode(enum moon_base64_form form, const uint8_t *bytes, size_t len, char *out);
