/* SPDX-License-Identifier: Apache-2.0 */
// A multipart body of any bytes, as waf_body.h says.

#include "waf_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return waf_body_fuzz("multipart/form-data; boundary=b", data, size);
}
