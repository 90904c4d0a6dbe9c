/* SPDX-License-Identifier: Apache-2.0 */
// JA4 of what a client sends first: a fingerprint of the right length, or none.

#include "net/ja4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char ja4[MOON_JA4_BYTES + 1];
    bool is_hello = moon_ja4(moon_slice((const char *)data, size), ja4);
    MOON_ASSERT(strlen(ja4) == (is_hello ? MOON_JA4_BYTES : 0));
    return 0;
}
