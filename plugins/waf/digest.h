// SPDX-License-Identifier: Apache-2.0
#pragma once
/// SHA-1 and MD5 for the transformations of those names: labels, not security.
#include "waf/arena.h"

void waf_sha1(struct waf_str in, unsigned char out[20]);
void waf_md5(struct waf_str in, unsigned char out[16]);
