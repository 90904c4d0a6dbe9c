/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// The command line: a table of commands, each with the options it takes.
///
/// Process: any.

#include "base/result.h"

/// Exit codes: 0 done, 1 it failed, 2 the command line is wrong.
enum { MOON_EXIT_DONE, MOON_EXIT_FAILED, MOON_EXIT_USAGE };

enum { MOON_CLI_ARGUMENTS = 8, MOON_CLI_NETWORKS = 8 };

/// What the command line says. Texts are borrowed from argv.
struct moon_cli {
    const struct moon_command *command;
    char **argv;                               // of the process
    const char *arguments[MOON_CLI_ARGUMENTS]; // behind the command, without options
    int argument_count;
    int workers;            // -1: as configured
    const char *out;        // file to write; NULL: standard output
    const char *ready_file; // NULL: none
    const char *networks[MOON_CLI_NETWORKS];
    int network_count;
    double interval_s;
    bool is_json;
    bool is_quiet;     // says nothing at start
    bool dumps_core;   // core dumps are allowed
    bool is_unwatched; // no inotify
    bool is_forced;    // overwrites
    bool wants_help;
};

/// One command: a row of the table in cli.c.
struct moon_command {
    const char *name;
    const char *usage;   // arguments, as shown
    const char *summary; // one line
    const char *help;    // more lines; may be ""
    const char *options; // letters of the options it takes
    int least_arguments, most_arguments;
    int (*run)(const struct moon_cli *cli);
};

/// All of it. @return the exit code
int moon_cli_main(int argc, char **argv);

/// The commands.
int moon_command_run(const struct moon_cli *cli);
int moon_command_check(const struct moon_cli *cli);
int moon_command_explain(const struct moon_cli *cli);
int moon_command_reload(const struct moon_cli *cli);
int moon_command_upgrade(const struct moon_cli *cli);
int moon_command_status(const struct moon_cli *cli);
int moon_command_top(const struct moon_cli *cli);
int moon_command_policy(const struct moon_cli *cli);
int moon_command_docs(const struct moon_cli *cli);
int moon_command_import(const struct moon_cli *cli);
int moon_command_waf(const struct moon_cli *cli);
int moon_command_init(const struct moon_cli *cli);
int moon_command_version(const struct moon_cli *cli);
