/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <execinfo.h>
#include <unistd.h>

void moon_assert_failed(const char *cond, const char *file, int line)
{
    moon_log_error("assertion failed: %s at %s:%d; this is a bug of Moongate", cond, file, line);
    void *frames[64];
    int n = backtrace(frames, (int)MOON_COUNT(frames));
    backtrace_symbols_fd(frames, n, STDERR_FILENO);
    abort();
}
