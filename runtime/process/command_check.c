/* SPDX-License-Identifier: Apache-2.0 */

/// `moongate check` and `moongate explain`.

#include "base/json_write.h"
#include "base/log.h"
#include "process/cli.h"
#include "process/loading.h"
#include "process/privilege.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHECK_JSON_BYTES = 1 << 20, CHECK_DAY_S = 86400 };

// @param bundle  the caller's, on failure too (NULL then, or not)
static enum moon_rc check_load(const char *dir, struct moon_bundle **bundle,
                               struct moon_loading **out, char **error)
{
    char text[1024] = "";
    moon_log_set_level(MOON_LOG_ERROR);
    *bundle = NULL;
    enum moon_rc rc = moon_bundle_read(dir, text, sizeof(text), bundle);
    if (rc != MOON_OK) {
        *error = strdup(text[0] == '\0' ? moon_rc_text(rc) : text);
        return rc;
    }
    return moon_loading_new(*bundle, out, error);
}

static bool check_next_line(struct moon_slice *rest, struct moon_slice *line)
{
    if (rest->len == 0)
        return false;
    size_t end = moon_slice_find(*rest, '\n');
    *line = moon_slice(rest->data, end);
    *rest = moon_slice_from(*rest, end + 1);
    return true;
}

static void check_lines(FILE *out, const char *kind, const char *text)
{
    struct moon_slice rest = moon_slice_text(text);
    struct moon_slice line;
    while (check_next_line(&rest, &line)) {
        bool is_head = line.len > 0 && line.data[0] != ' ' &&
                       line.data[0] != '\t'; // the others say more about it
        (void)fprintf(out, "%s%s" MOON_SLICE_FMT "\n", is_head ? kind : "", is_head ? ": " : "",
                      MOON_SLICE_ARG(line));
    }
}

static void check_json_lines(struct moon_json *json, const char *name, const char *text)
{
    struct moon_slice rest = moon_slice_text(text);
    struct moon_slice line;
    moon_json_array_at(json, name);
    while (check_next_line(&rest, &line)) {
        if (line.len > 0)
            moon_json_text(json, NULL, line);
    }
    moon_json_end(json);
}

static void check_json(bool is_valid, const char *errors, const char *warnings)
{
    char *text = malloc(CHECK_JSON_BYTES);
    if (text == NULL)
        return;
    struct moon_json json;
    moon_json_init(&json, text, CHECK_JSON_BYTES);
    moon_json_object(&json);
    moon_json_bool(&json, "valid", is_valid);
    check_json_lines(&json, "errors", errors);
    check_json_lines(&json, "warnings", warnings);
    moon_json_end(&json);
    (void)printf("%.*s\n", (int)moon_json_len(&json), text);
    free(text);
}

static void check_tell(const struct moon_cli *cli, const struct moon_plan *plan,
                       const char *warnings)
{
    if (cli->is_json) {
        check_json(true, "", warnings);
        return;
    }
    check_lines(stderr, "warning", warnings);
    (void)printf("%s: valid: %zu listeners, %zu routes, %zu backends, %zu subscriptions\n",
                 cli->arguments[0], plan->listener_count, plan->leaf_count, plan->backend_count,
                 plan->subscription_count);
}

// A running gateway would log it once a day: a certificate that has expired, or soon will.
static void check_certificates(const struct moon_generation *generation, FILE *out)
{
    for (size_t i = 0; i < generation->plan->listener_count; i++) {
        const struct moon_listener_conf *listener = &generation->plan->listeners[i];
        const char *path;
        if (generation->tls[i] == NULL)
            continue;
        int64_t left_s = moon_tls_server_expires_in_s(generation->tls[i], &path);
        char when[64];
        if (left_s * 1000 >= listener->warn_before_ms)
            continue;
        (void)snprintf(when, sizeof(when), left_s < 0 ? "has expired" : "expires in %lld days",
                       (long long)(left_s / CHECK_DAY_S));
        (void)fprintf(out, "%.*s.tls: the certificate %s %s\n", MOON_SLICE_ARG(listener->place),
                      path, when);
    }
}

// Loads the configuration as the workers will, in a process of its own, and tells what they cannot.
// Process: a child of the command.
static void check_as_user(const struct moon_bundle *bundle, const char *name, FILE *out)
{
    struct moon_user user;
    struct moon_loading *loading;
    char *error = NULL;
    if (!moon_user_find(name, &user))
        (void)fprintf(out, "user: there is no user %s\n", name);
    else if (!moon_user_become(&user))
        (void)fprintf(out, "user: this process cannot become %s\n", name);
    else if (moon_loading_new(bundle, &loading, &error) != MOON_OK)
        (void)fprintf(out, "user: workers run as %s, who cannot load this: %s\n", name,
                      error == NULL ? "out of memory" : error);
    (void)fflush(out);
}

// What root may read, the workers' user may not: certificates, keys, secrets, lists.
static void check_user(const struct moon_generation *generation, const struct moon_bundle *bundle,
                       FILE *out)
{
    char name[64], bytes[4096];
    int ends[2];
    (void)snprintf(name, sizeof(name), MOON_SLICE_FMT, MOON_SLICE_ARG(generation->plan->user));
    if (name[0] == '\0' || geteuid() != 0 || pipe(ends) == -1)
        return;
    (void)fflush(NULL); // or the child writes it too
    pid_t pid = fork();
    if (pid == 0) {
        FILE *to_parent = fdopen(ends[1], "w");
        if (to_parent != NULL)
            check_as_user(bundle, name, to_parent);
        _exit(EXIT_SUCCESS);
    }
    (void)close(ends[1]);
    ssize_t n;
    while (pid != -1 && (n = read(ends[0], bytes, sizeof(bytes))) > 0)
        (void)fwrite(bytes, 1, (size_t)n, out);
    (void)close(ends[0]);
    if (pid != -1)
        (void)waitpid(pid, NULL, 0);
}

// What is worth saying of a configuration that is valid, a line each; heap. @return NULL: no memory
static char *check_warnings(const struct moon_generation *generation,
                            const struct moon_bundle *bundle)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return NULL;
    check_certificates(generation, out);
    check_user(generation, bundle, out);
    (void)fputs(moon_script_warnings(generation->script), out);
    (void)fclose(out);
    return text;
}

int moon_command_check(const struct moon_cli *cli)
{
    struct moon_loading *loading = NULL;
    struct moon_bundle *bundle;
    char *error = NULL;
    if (check_load(cli->arguments[0], &bundle, &loading, &error) != MOON_OK) {
        if (cli->is_json)
            check_json(false, error, "");
        else
            check_lines(stderr, "error", error);
        free(error);
        moon_bundle_free(bundle);
        return MOON_EXIT_FAILED;
    }
    const struct moon_generation *generation = loading->worker.next;
    struct moon_facts *facts = malloc(sizeof(*facts));
    bool is_fit = facts != NULL && moon_facts_of(generation->plan, facts) == MOON_OK;
    free(facts);
    char *warnings = is_fit ? check_warnings(generation, bundle) : NULL;
    if (warnings != NULL)
        check_tell(cli, generation->plan, warnings);
    else
        check_lines(stderr, "error", "gateway.lua: a name, path or address is too long");
    free(warnings);
    moon_loading_free(loading);
    moon_bundle_free(bundle);
    return is_fit ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}

static bool check_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

int moon_command_explain(const struct moon_cli *cli)
{
    // [DIR] [METHOD] URL: of two, the first is DIR where there is such a folder.
    const char *url = cli->arguments[cli->argument_count - 1];
    bool has_dir = cli->argument_count == 3 ||
                   (cli->argument_count == 2 && check_is_folder(cli->arguments[0]));
    bool has_method = cli->argument_count > (has_dir ? 2 : 1);
    char method[32] = "GET";
    struct moon_loading *loading = NULL;
    struct moon_bundle *bundle;
    char *error = NULL;
    if (has_method)
        (void)snprintf(method, sizeof(method), "%s", cli->arguments[has_dir ? 1 : 0]);
    for (char *at = method; *at != '\0'; at++)
        *at = (char)toupper((unsigned char)*at);
    enum moon_rc rc = check_load(has_dir ? cli->arguments[0] : ".", &bundle, &loading, &error);
    moon_bundle_free(bundle);
    if (rc != MOON_OK) {
        check_lines(stderr, "error", error);
        free(error);
        return MOON_EXIT_FAILED;
    }
    bool is_explained = false;
    char *text = moon_script_explain(loading->worker.next->script, method, url, cli->networks,
                                     cli->network_count, cli->is_json, &is_explained);
    (void)fprintf(is_explained ? stdout : stderr, "%s\n", text == NULL ? "out of memory" : text);
    free(text);
    moon_loading_free(loading);
    return is_explained ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}
