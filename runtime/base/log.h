/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The error log: one JSON line an event on standard error or in a file, written without waiting
/// (a full pipe drops the line and counts it). Secrets are never given to it.

#include "moongate/plugin_log.h"

#include "base/macros.h"
#include "base/slice.h"

#include <fcntl.h>

/// How log files are opened, of errors and of accesses. Not to wait is for a FIFO: one that nobody reads is
/// an error (ENXIO), and a full one takes no line.
enum {
    MOON_LOG_FILE_FLAGS = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK,
    MOON_LOG_FILE_MODE = 0640,
};

/// @param path  NULL or "-": standard error
/// @return false when the file cannot be opened (errno tells)
MUST_CHECK bool moon_log_open(const char *path);

/// Opens the file again under the same name, after a log rotation.
void moon_log_reopen(void);
void moon_log_set_level(enum moon_log_level level);

/// Who writes: "supervisor", "worker 3"; part of every line. Copied.
void moon_log_set_process(const char *name);

/// Specs: lines go to `sink` instead. NULL restores the file.
void moon_log_set_sink(void (*sink)(void *arg, const char *line, size_t len), void *arg);

void moon_log(enum moon_log_level level, const char *fmt, ...) MOON_PRINTF(2, 3);

/// A line with an event of many members beside its message, of any length.
///
/// @param name    of the member that `object` becomes; needs no escaping
/// @param object  JSON. Borrowed
void moon_log_object(enum moon_log_level level, const char *message, const char *name,
                     struct moon_slice object);

bool moon_log_is_on(enum moon_log_level level);

#define moon_log_debug(...)                                                                        \
    do {                                                                                           \
        if (moon_log_is_on(MOON_LOG_DEBUG))                                                        \
            moon_log(MOON_LOG_DEBUG, __VA_ARGS__);                                                 \
    } while (0)
#define moon_log_info(...) moon_log(MOON_LOG_INFO, __VA_ARGS__)
#define moon_log_warn(...) moon_log(MOON_LOG_WARN, __VA_ARGS__)
#define moon_log_error(...) moon_log(MOON_LOG_ERROR, __VA_ARGS__)
