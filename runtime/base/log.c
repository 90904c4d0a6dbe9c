/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/clock.h"
#include "base/json_write.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOG_LINE_BYTES = 4096 };

static int log_fd = STDERR_FILENO;
static char log_path[512];
static enum moon_log_level log_level = MOON_LOG_INFO;
static char log_process[32] = "main";
static void (*log_sink)(void *arg, const char *line, size_t len);
static void *log_sink_arg;

static const char *const log_level_names[] = {"debug", "info", "warn", "error"};

bool moon_log_open(const char *path)
{
    if (path == NULL || strcmp(path, "-") == 0) {
        log_path[0] = '\0';
        log_fd = STDERR_FILENO;
        return true;
    }
    int fd = open(path, MOON_LOG_FILE_FLAGS, MOON_LOG_FILE_MODE);
    if (fd == -1)
        return false;
    if (log_fd != STDERR_FILENO)
        (void)close(log_fd);
    log_fd = fd;
    (void)snprintf(log_path, sizeof(log_path), "%s", path);
    return true;
}

void moon_log_reopen(void)
{
    if (log_path[0] == '\0')
        return;
    int fd = open(log_path, MOON_LOG_FILE_FLAGS, MOON_LOG_FILE_MODE);
    if (fd == -1) {
        moon_log_error("error log %s cannot be opened again: %s", log_path, strerror(errno));
        return;
    }
    (void)close(log_fd);
    log_fd = fd;
}

void moon_log_set_level(enum moon_log_level level)
{
    log_level = level;
}

void moon_log_set_process(const char *name)
{
    (void)snprintf(log_process, sizeof(log_process), "%s", name);
}

void moon_log_set_sink(void (*sink)(void *arg, const char *line, size_t len), void *arg)
{
    log_sink = sink;
    log_sink_arg = arg;
}

bool moon_log_is_on(enum moon_log_level level)
{
    return level >= log_level;
}

// The members that every line has; the caller adds its own.
static void log_begin(struct moon_json *json, char *line, size_t cap, enum moon_log_level level)
{
    char when[MOON_CLOCK_TEXT_BYTES];
    size_t when_len = moon_clock_iso(moon_clock_wall_ms(), when);
    moon_json_init(json, line, cap - 1); // one byte for the newline
    moon_json_object(json);
    moon_json_text(json, "time", moon_slice(when, when_len));
    moon_json_text(json, "level", moon_slice_text(log_level_names[level]));
    moon_json_text(json, "process", moon_slice_text(log_process));
    moon_json_number(json, "pid", (int64_t)getpid());
}

static void log_end(struct moon_json *json, char *line)
{
    moon_json_end(json);
    size_t len = moon_json_len(json);
    line[len++] = '\n';
    if (log_sink != NULL)
        log_sink(log_sink_arg, line, len);
    else
        (void)!write(log_fd, line, len); // a log that takes no line has nobody to tell
}

void moon_log(enum moon_log_level level, const char *fmt, ...)
{
    if (level < log_level)
        return;
    char text[2048];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0)
        return;
    char line[LOG_LINE_BYTES];
    struct moon_json json;
    log_begin(&json, line, sizeof(line), level);
    moon_json_text(&json, "message", moon_slice(text, moon_min_size((size_t)n, sizeof(text) - 1)));
    log_end(&json, line);
}

void moon_log_object(enum moon_log_level level, const char *message, const char *name,
                     struct moon_slice object)
{
    if (level < log_level)
        return;
    size_t cap = LOG_LINE_BYTES + object.len;
    char *line = malloc(cap);
    if (line == NULL)
        return;
    struct moon_json json;
    log_begin(&json, line, cap, level);
    moon_json_text(&json, "message", moon_slice_text(message));
    moon_json_raw(&json, name, object);
    log_end(&json, line);
    free(line);
}
