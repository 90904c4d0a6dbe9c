/* SPDX-License-Identifier: Apache-2.0 */

/// `moongate reload`, `status`, `top` and `upgrade`: ask the supervisor of a directory.

#include "base/buf.h"
#include "base/json_write.h"
#include "process/cli.h"
#include "process/control_path.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONTROL_ANSWER_BYTES = 1 << 20, CONTROL_PATIENCE_MS = 130000 };

static int control_connect(const struct moon_cli *cli)
{
    char error[512];
    struct sockaddr_un address;
    int fd = -1;
    if (moon_control_path(cli->arguments[0], false, &address, error, sizeof(error)) != MOON_OK) {
        (void)fprintf(stderr, "moongate %s: %s\n", cli->command->name, error);
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd != -1 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    (void)fprintf(stderr, "moongate %s: no gateway of this user serves %s (%s: %m)\n",
                  cli->command->name, cli->arguments[0], address.sun_path);
    if (fd != -1)
        (void)close(fd);
    return -1;
}

static bool control_read(int fd, struct moon_buf *answer)
{
    for (;;) {
        struct pollfd in = {.fd = fd, .events = POLLIN};
        char *room;
        size_t left;
        if (poll(&in, 1, CONTROL_PATIENCE_MS) <= 0 ||
            moon_buf_room(answer, 4096, &room, &left) != MOON_OK)
            return false;
        ssize_t n = read(fd, room, left);
        if (n <= 0)
            return n == 0;
        moon_buf_wrote(answer, (size_t)n);
    }
}

/// Sends a line. @param answer  initialised; gets the text behind "ok" or "failed"
/// @return an exit code; a failure to ask is told to standard error
static int control_ask(const struct moon_cli *cli, const char *line, struct moon_buf *answer)
{
    int fd = control_connect(cli);
    if (fd == -1)
        return MOON_EXIT_USAGE;
    bool is_asked = write(fd, line, strlen(line)) == (ssize_t)strlen(line) &&
                    control_read(fd, answer) && moon_buf_len(answer) > 0;
    (void)close(fd);
    if (!is_asked) {
        (void)fprintf(stderr, "moongate %s: the gateway did not answer\n", cli->command->name);
        return MOON_EXIT_USAGE;
    }
    struct moon_slice text = moon_buf_slice(answer);
    bool is_ok = moon_slice_starts(text, MOON_S("ok\n"));
    moon_buf_consume(answer, moon_min_size(moon_slice_find(text, '\n') + 1, text.len));
    return is_ok ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}

static void control_print_json(bool is_ok, struct moon_slice text)
{
    size_t cap = text.len * 6 + 64;
    char *out = malloc(cap);
    struct moon_json json;
    if (out == NULL)
        return;
    moon_json_init(&json, out, cap);
    moon_json_object(&json);
    moon_json_bool(&json, "ok", is_ok);
    moon_json_text(&json, "message", text);
    moon_json_end(&json);
    (void)printf("%.*s\n", (int)moon_json_len(&json), out);
    free(out);
}

/// Asks for something that succeeds or fails, and shows the outcome.
static int control_do(const struct moon_cli *cli, const char *line)
{
    struct moon_buf answer;
    moon_buf_init(&answer, CONTROL_ANSWER_BYTES);
    int code = control_ask(cli, line, &answer);
    struct moon_slice text = moon_buf_slice(&answer);
    if (code != MOON_EXIT_USAGE && cli->is_json)
        control_print_json(code == MOON_EXIT_DONE, text);
    else if (code != MOON_EXIT_USAGE)
        (void)fprintf(code == MOON_EXIT_DONE ? stdout : stderr, MOON_SLICE_FMT "\n",
                      MOON_SLICE_ARG(text));
    moon_buf_fini(&answer);
    moon_buf_trim();
    return code;
}

int moon_command_reload(const struct moon_cli *cli)
{
    return control_do(cli, "reload\n");
}

int moon_command_upgrade(const struct moon_cli *cli)
{
    return control_do(cli, "upgrade\n");
}

static int control_show(const struct moon_cli *cli, const char *before)
{
    struct moon_buf answer;
    moon_buf_init(&answer, CONTROL_ANSWER_BYTES);
    int code = control_ask(cli, cli->is_json ? "status json\n" : "status\n", &answer);
    if (code == MOON_EXIT_DONE)
        (void)printf("%s" MOON_SLICE_FMT, before, MOON_SLICE_ARG(moon_buf_slice(&answer)));
    moon_buf_fini(&answer);
    moon_buf_trim();
    return code;
}

int moon_command_status(const struct moon_cli *cli)
{
    return control_show(cli, "");
}

int moon_command_top(const struct moon_cli *cli)
{
    double whole_s = (double)(int64_t)cli->interval_s;
    struct timespec pause = {.tv_sec = (time_t)whole_s,
                             .tv_nsec = (long)((cli->interval_s - whole_s) * 1e9)};
    const char *clear = isatty(STDOUT_FILENO) ? "\033[H\033[2J" : "";
    for (;;) {
        int code = control_show(cli, clear);
        if (code != MOON_EXIT_DONE || fflush(stdout) != 0)
            return code;
        (void)nanosleep(&pause, NULL);
    }
}
