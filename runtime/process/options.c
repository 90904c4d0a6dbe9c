/* SPDX-License-Identifier: Apache-2.0 */
#include "process/options.h"

#include "process/near.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_WORKERS_MOST = 256 };

struct option {
    char letter; // in moon_command.options
    const char *name;
    const char *value; // NULL: takes none
    const char *help;
    const char *(*read)(struct moon_cli *cli, const char *value); // what is wrong, or NULL
};

static const char *option_workers(struct moon_cli *cli, const char *value)
{
    char *end;
    errno = 0;
    long n = strtol(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || n < 0 || n > OPTIONS_WORKERS_MOST)
        return "a number from 0 to 256 is wanted";
    cli->workers = (int)n;
    return NULL;
}

static const char *option_interval(struct moon_cli *cli, const char *value)
{
    char *end;
    double n = strtod(value, &end);
    if (end == value || *end != '\0' || !(n >= 0.1 && n <= 3600))
        return "seconds from 0.1 to 3600 are wanted";
    cli->interval_s = n;
    return NULL;
}

static const char *option_ready_file(struct moon_cli *cli, const char *value)
{
    cli->ready_file = value;
    return NULL;
}

static const char *option_out(struct moon_cli *cli, const char *value)
{
    cli->out = value;
    return NULL;
}

static const char *option_network(struct moon_cli *cli, const char *value)
{
    if (cli->network_count == MOON_CLI_NETWORKS)
        return "there are too many";
    cli->networks[cli->network_count++] = value;
    return NULL;
}

static const char *option_json(struct moon_cli *cli, const char *value)
{
    (void)value;
    cli->is_json = true;
    return NULL;
}

static const char *option_quiet(struct moon_cli *cli, const char *value)
{
    (void)value;
    cli->is_quiet = true;
    return NULL;
}

static const char *option_core(struct moon_cli *cli, const char *value)
{
    (void)value;
    cli->dumps_core = true;
    return NULL;
}

static const char *option_unwatched(struct moon_cli *cli, const char *value)
{
    (void)value;
    cli->is_unwatched = true;
    return NULL;
}

static const char *option_force(struct moon_cli *cli, const char *value)
{
    (void)value;
    cli->is_forced = true;
    return NULL;
}

static const char *option_help(struct moon_cli *cli, const char *value)
{
    (void)value;
    cli->wants_help = true;
    return NULL;
}

static const struct option options[] = {
    {'w', "workers", "N", "worker processes; 0: one inside this process", option_workers},
    {'r', "ready-file", "PATH", "written when all listeners accept: process id, ports (JSON)",
     option_ready_file},
    {'n', "no-watch", NULL, "do not reload when files change", option_unwatched},
    {'c', "core", NULL, "allow core dumps", option_core},
    {'q', "quiet", NULL, "do not show at start what is served", option_quiet},
    {'j', "json", NULL, "answer in JSON", option_json},
    {'N', "network", "NAME", "the client is in this network (may be repeated)", option_network},
    {'o', "out", "FILE", "write there instead of to standard output", option_out},
    {'i', "interval", "SECONDS", "between two looks", option_interval},
    {'f', "force", NULL, "overwrite files that are there", option_force},
    {'h', "help", NULL, "show this", option_help},
};

static bool option_is_taken(const struct option *option, const char *letters)
{
    return option->letter == 'h' || strchr(letters, option->letter) != NULL;
}

void moon_options_usage(const char *letters, FILE *out)
{
    for (size_t i = 0; i < MOON_COUNT(options); i++) {
        char left[64];
        if (!option_is_taken(&options[i], letters))
            continue;
        (void)snprintf(left, sizeof(left), "--%s%s%s", options[i].name,
                       options[i].value == NULL ? "" : "=",
                       options[i].value == NULL ? "" : options[i].value);
        (void)fprintf(out, "  %-22s %s\n", left, options[i].help);
    }
}

static bool options_unknown(const struct moon_cli *cli, const char *dashes, const char *text,
                            size_t len)
{
    const char *names[MOON_COUNT(options)];
    char name[40] = "";
    size_t n = 0;
    for (size_t i = 0; i < MOON_COUNT(options); i++) {
        if (option_is_taken(&options[i], cli->command->options))
            names[n++] = options[i].name;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)len, text);
    const char *near = moon_near_find(name, names, n);
    (void)fprintf(stderr, "moongate %s: there is no option \"%s%s\"", cli->command->name, dashes,
                  name);
    if (near != NULL)
        (void)fprintf(stderr, "; did you mean \"--%s\"?", near);
    (void)fprintf(stderr, "\n`moongate %s --help` lists the options.\n", cli->command->name);
    return false;
}

static const struct option *options_find(const struct moon_cli *cli, const char *text, size_t len)
{
    for (size_t i = 0; i < MOON_COUNT(options); i++) {
        bool is_it = strlen(options[i].name) == len && memcmp(options[i].name, text, len) == 0;
        if (is_it && option_is_taken(&options[i], cli->command->options))
            return &options[i];
    }
    return NULL;
}

/// Reads the option at argv[*at], and moves over a value of its own.
static bool options_read_one(struct moon_cli *cli, int argc, char **argv, int *at)
{
    const char *text = argv[*at];
    if (strcmp(text, "-h") == 0)
        text = "--help";
    if (text[1] != '-')
        return options_unknown(cli, "-", text + 1, strlen(text + 1));
    const char *name = text + 2;
    size_t len = strcspn(name, "=");
    const struct option *option = options_find(cli, name, len);
    if (option == NULL)
        return options_unknown(cli, "--", name, len);
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const char *wrong = NULL;
    if (option->value == NULL && value != NULL)
        wrong = "it takes no value";
    else if (option->value != NULL && value == NULL && *at + 1 >= argc)
        wrong = "a value is missing";
    else if (option->value != NULL && value == NULL)
        value = argv[++*at];
    if (wrong == NULL)
        wrong = option->read(cli, value);
    if (wrong == NULL)
        return true;
    (void)fprintf(stderr, "moongate %s: --%s: %s\n", cli->command->name, option->name, wrong);
    return false;
}

bool moon_options_read(struct moon_cli *cli, int argc, char **argv)
{
    bool is_over = false;
    for (int i = 0; i < argc; i++) {
        bool is_option = !is_over && argv[i][0] == '-' && argv[i][1] != '\0';
        if (is_option && strcmp(argv[i], "--") == 0) {
            is_over = true;
        } else if (is_option) {
            if (!options_read_one(cli, argc, argv, &i))
                return false;
        } else if (cli->argument_count == MOON_CLI_ARGUMENTS) {
            (void)fprintf(stderr, "moongate %s: there are too many arguments\n",
                          cli->command->name);
            return false;
        } else {
            cli->arguments[cli->argument_count++] = argv[i];
        }
    }
    return true;
}
