/* SPDX-License-Identifier: Apache-2.0 */

/// `moongate policy` and `moongate docs`: what the schemas say.

#include "base/log.h"
#include "process/cli.h"
#include "process/loading.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

// Any configuration will do: the policies are inside the binary.
static const char policy_gateway[] =
    "return { listeners = { { address = \"127.0.0.1:0\" } }, sites = { { hosts = { \"*\" }, "
    "routes = { { path = \"/*\", reply = { status = 204 } } } } } }";

struct moon_loading *moon_loading_plain(void)
{
    struct moon_bundle *bundle;
    struct moon_loading *loading = NULL;
    char *error = NULL;
    moon_log_set_level(MOON_LOG_ERROR);
    if (moon_bundle_of_text("/", policy_gateway, &bundle) != MOON_OK)
        return NULL;
    if (moon_loading_new(bundle, &loading, &error) != MOON_OK)
        (void)fprintf(stderr, "moongate: %s\n", error);
    free(error);
    moon_bundle_free(bundle);
    return loading;
}

static int policy_print(const struct moon_cli *cli, const char *what, const char *name)
{
    struct moon_loading *loading = moon_loading_plain();
    if (loading == NULL)
        return MOON_EXIT_FAILED;
    bool is_written;
    char *text =
        moon_script_document(loading->worker.next->script, what, name, cli->is_json, &is_written);
    if (is_written)
        (void)printf("%s\n", text);
    else
        (void)fprintf(stderr, "moongate policy: %s\n", text == NULL ? "out of memory" : text);
    free(text);
    moon_loading_free(loading);
    return is_written ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}

int moon_command_policy(const struct moon_cli *cli)
{
    const char *verb = cli->arguments[0];
    if (strcmp(verb, "list") == 0 && cli->argument_count == 1)
        return policy_print(cli, "list", "");
    if (strcmp(verb, "show") == 0 && cli->argument_count == 2)
        return policy_print(cli, "show", cli->arguments[1]);
    (void)fprintf(stderr, "usage: moongate policy %s\n", cli->command->usage);
    return MOON_EXIT_USAGE;
}

static bool docs_write(struct moon_script *script, const char *dir, const char *what)
{
    char path[PATH_MAX];
    bool is_written;
    char *text = moon_script_document(script, what, "", false, &is_written);
    (void)snprintf(path, sizeof(path), "%s/%s.md", dir, what);
    if (!is_written) {
        (void)fprintf(stderr, "moongate docs: %s\n", text == NULL ? "out of memory" : text);
        free(text);
        return false;
    }
    FILE *file = fopen(path, "we");
    bool is_saved = file != NULL && fputs(text, file) >= 0;
    if (file != NULL && fclose(file) != 0)
        is_saved = false;
    if (!is_saved)
        (void)fprintf(stderr, "moongate docs: %s: %m\n", path);
    free(text);
    return is_saved;
}

int moon_command_docs(const struct moon_cli *cli)
{
    struct moon_loading *loading = moon_loading_plain();
    if (loading == NULL)
        return MOON_EXIT_FAILED;
    struct moon_script *script = loading->worker.next->script;
    bool is_written = docs_write(script, cli->arguments[0], "configuration") &&
                      docs_write(script, cli->arguments[0], "policies");
    moon_loading_free(loading);
    return is_written ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}
