/* SPDX-License-Identifier: Apache-2.0 */
#include "process/cli.h"

#include "process/near.h"
#include "process/options.h"
#include "process/testkit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int command_help(const struct moon_cli *cli);

static const struct moon_command cli_commands[] = {
    {"run", "DIR", "serve the configuration in DIR, in the foreground",
     "Changed files are loaded anew; so does SIGHUP. SIGTERM finishes what is under way, a second\n"
     "one ends at once. SIGUSR1 opens the logs again, SIGUSR2 starts the binary anew.\n",
     "wrqcn", 1, 1, moon_command_run},
    {"check", "DIR", "load the configuration in DIR, and report every mistake",
     "Exit code 0: it can be served (warnings are shown), 1: it cannot.\n", "j", 1, 1,
     moon_command_check},
    {"explain", "[DIR] [METHOD] URL", "show what a request meets: route, operation, policies",
     "Left out, DIR is the present folder and METHOD is GET.\n", "jN", 1, 3, moon_command_explain},
    {"reload", "DIR", "have a running gateway load DIR anew, and tell the outcome", "", "j", 1, 1,
     moon_command_reload},
    {"status", "DIR", "show a running gateway's workers and reloads", "", "j", 1, 1,
     moon_command_status},
    {"top", "DIR", "watch a running gateway's workers", "", "i", 1, 1, moon_command_top},
    {"upgrade", "DIR", "replace the binary of a running gateway without refusing a connection", "",
     "j", 1, 1, moon_command_upgrade},
    {"test", "[SPEC]... [OPTION]...", "run busted specs against gateways inside this process",
     "Arguments and options are busted's own; `moongate test --help` shows them.\n", "", 0, 0,
     NULL},
    {"init", "DIR", "write a small configuration to start from", "", "f", 1, 1, moon_command_init},
    {"import", "openapi|apim FILE", "write an API file from OpenAPI, or policies from Azure's XML",
     "openapi: OpenAPI 2.0, 3.0 or 3.1, JSON or YAML. With --out=DIR/apis/NAME.lua the definition "
     "is\n"
     "copied to DIR/openapi/. apim: a policy document of API Management; what could not be\n"
     "translated is listed with its line.\n",
     "of", 2, 2, moon_command_import},
    {"waf", "report LOG",
     "show which WAF rules fired on what, and the exclusion that silences each",
     "LOG: what `audit_log` of p.waf wrote, in either form, or the gateway's own log.\n", "", 2, 2,
     moon_command_waf},
    {"policy", "list | show NAME", "the built-in policies and their options", "", "j", 1, 2,
     moon_command_policy},
    {"docs", "DIR", "write configuration.md and policies.md, made from the schemas", "", "", 1, 1,
     moon_command_docs},
    {"version", "", "show the version", "", "j", 0, 0, moon_command_version},
    {"help", "[COMMAND]", "show this, or what a command takes", "", "", 0, 1, command_help},
};

static void cli_usage(FILE *out)
{
    (void)fprintf(out, "usage: moongate COMMAND [OPTION]... [ARGUMENT]...\n\n");
    for (size_t i = 0; i < MOON_COUNT(cli_commands); i++) {
        char left[64];
        (void)snprintf(left, sizeof(left), "%s %s", cli_commands[i].name, cli_commands[i].usage);
        (void)fprintf(out, "  %-24s %s\n", left, cli_commands[i].summary);
    }
    (void)fprintf(out, "\n`moongate COMMAND --help` shows the options of a command.\n");
}

static void cli_command_usage(const struct moon_command *command, FILE *out)
{
    (void)fprintf(out, "usage: moongate %s%s %s\n\n%s.\n%s%s", command->name,
                  command->options[0] == '\0' ? "" : " [OPTION]...", command->usage,
                  command->summary, command->help[0] == '\0' ? "" : "\n", command->help);
    (void)fprintf(out, "\n");
    moon_options_usage(command->options, out);
}

static const struct moon_command *cli_find(const char *name)
{
    for (size_t i = 0; i < MOON_COUNT(cli_commands); i++) {
        if (strcmp(cli_commands[i].name, name) == 0)
            return &cli_commands[i];
    }
    return NULL;
}

static int cli_unknown(const char *name)
{
    const char *names[MOON_COUNT(cli_commands)];
    for (size_t i = 0; i < MOON_COUNT(cli_commands); i++)
        names[i] = cli_commands[i].name;
    const char *near = moon_near_find(name, names, MOON_COUNT(names));
    (void)fprintf(stderr, "moongate: there is no command \"%s\"", name);
    if (near != NULL)
        (void)fprintf(stderr, "; did you mean \"%s\"?", near);
    (void)fprintf(stderr, "\n`moongate help` lists the commands.\n");
    return MOON_EXIT_USAGE;
}

static int command_help(const struct moon_cli *cli)
{
    if (cli->argument_count == 0) {
        cli_usage(stdout);
        return MOON_EXIT_DONE;
    }
    const struct moon_command *command = cli_find(cli->arguments[0]);
    if (command == NULL)
        return cli_unknown(cli->arguments[0]);
    cli_command_usage(command, stdout);
    return MOON_EXIT_DONE;
}

// Options that stand where a command is expected.
static const char *cli_alias(const char *first)
{
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0)
        return "help";
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0)
        return "version";
    return first;
}

int moon_cli_main(int argc, char **argv)
{
    if (argc < 2) {
        cli_usage(stderr);
        return MOON_EXIT_USAGE;
    }
    const char *name = cli_alias(argv[1]);
    if (strcmp(name, "test") == 0)
        return moon_test_main(argc - 1, argv + 1);
    struct moon_cli cli = {.command = cli_find(name), .argv = argv, .workers = -1, .interval_s = 1};
    if (cli.command == NULL)
        return cli_unknown(name);
    if (!moon_options_read(&cli, argc - 2, argv + 2))
        return MOON_EXIT_USAGE;
    if (cli.wants_help) {
        cli_command_usage(cli.command, stdout);
        return MOON_EXIT_DONE;
    }
    if (cli.argument_count < cli.command->least_arguments ||
        cli.argument_count > cli.command->most_arguments) {
        (void)fprintf(stderr, "moongate %s: %s\nusage: moongate %s %s\n", name,
                      cli.argument_count < cli.command->least_arguments
                          ? "an argument is missing"
                          : "there are too many arguments",
                      name, cli.command->usage);
        return MOON_EXIT_USAGE;
    }
    int code = cli.command->run(&cli);
    if (fflush(stdout) != 0 && code == MOON_EXIT_DONE && errno != EPIPE) {
        (void)fprintf(stderr, "moongate %s: standard output: %m\n", name);
        code = MOON_EXIT_FAILED;
    }
    return code;
}
