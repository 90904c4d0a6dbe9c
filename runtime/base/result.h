/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What a function that can fail returns. Every row of result.def has a text, an HTTP status for
/// the client (0: none is sent) and a name that logs and metrics use as the reason.

#include "base/macros.h"

enum moon_rc {
#define RESULT(name, status, text) MOON_##name,
#include "base/result.def"
#undef RESULT
    MOON_RC_COUNT
};

/// @return the row's name in lower case without "err_", for example "head_too_large"; static
const char *moon_rc_name(enum moon_rc rc);
const char *moon_rc_text(enum moon_rc rc);
int moon_rc_status(enum moon_rc rc);
