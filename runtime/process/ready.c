/* SPDX-License-Identifier: Apache-2.0 */
#include "process/ready.h"

#include "base/json_write.h"
#include "base/log.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum { READY_BYTES = 32768 };

static void ready_listener(struct moon_json *json, const struct moon_listener_facts *facts,
                           struct moon_sockets *sockets)
{
    const struct moon_socket *socket = moon_sockets_find(sockets, facts->key);
    moon_json_object(json);
    moon_json_text(json, "name", moon_slice_text(facts->name));
    moon_json_text(json, "address",
                   moon_slice_text(socket == NULL ? facts->address : socket->text));
    moon_json_number(json, "port",
                     socket == NULL || socket->fd_count == 0 ? 0
                                                             : moon_listen_port(socket->fds[0]));
    moon_json_bool(json, "tls", facts->has_tls);
    moon_json_bool(json, "management", facts->is_management);
    moon_json_end(json);
}

bool moon_ready_write(const char *path, const struct moon_facts *facts,
                      struct moon_sockets *sockets, int workers)
{
    char text[READY_BYTES];
    char beside[PATH_MAX];
    struct moon_json json;
    moon_json_init(&json, text, sizeof(text));
    moon_json_object(&json);
    moon_json_number(&json, "pid", (int64_t)getpid());
    moon_json_text(&json, "name", moon_slice_text(facts->name));
    moon_json_number(&json, "workers", workers);
    moon_json_array_at(&json, "listeners");
    for (size_t i = 0; i < facts->listener_count; i++)
        ready_listener(&json, &facts->listeners[i], sockets);
    moon_json_end(&json);
    moon_json_end(&json);
    (void)snprintf(beside, sizeof(beside), "%s.%d", path, (int)getpid());
    FILE *file = fopen(beside, "we");
    bool is_written =
        file != NULL && fwrite(text, 1, moon_json_len(&json), file) > 0 && fputc('\n', file) != EOF;
    if (file != NULL && fclose(file) != 0)
        is_written = false;
    if (is_written && rename(beside, path) == 0)
        return true;
    moon_log_error("ready file %s: %m", path);
    (void)unlink(beside);
    return false;
}

static void ready_print_file(const char *dir, const char *name)
{
    char path[PATH_MAX];
    char line[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    (void)printf("\n");
    while (fgets(line, sizeof(line), file) != NULL)
        (void)fputs(line, stdout);
    (void)printf("\n");
    (void)fclose(file);
}

void moon_ready_print(const char *dir, const struct moon_facts *facts, struct moon_sockets *sockets,
                      int workers)
{
    (void)printf("moongate %s serves \"%s\" (%s)", MOONGATE_VERSION, facts->name, dir);
    if (workers > 0)
        (void)printf(" with %d worker%s", workers, workers == 1 ? "" : "s");
    (void)printf("\n");
    for (size_t i = 0; i < facts->listener_count; i++) {
        const struct moon_listener_facts *listener = &facts->listeners[i];
        const struct moon_socket *socket = moon_sockets_find(sockets, listener->key);
        (void)printf("  %s%s on %s%s\n", listener->is_management ? "management " : "",
                     listener->has_tls ? "https" : "http",
                     socket == NULL ? listener->address : socket->text,
                     listener->is_http2 ? ", HTTP/2" : "");
    }
    if (facts->sites[0] != '\0')
        (void)printf("  sites: %s\n", facts->sites);
    if (facts->apis[0] != '\0')
        (void)printf("  APIs:  %s\n", facts->apis);
    (void)printf("  %zu routes\n", facts->route_count);
    ready_print_file(dir, "try.txt");
    (void)fflush(stdout);
}
