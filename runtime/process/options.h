/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Reads the options of a command: `--name`, `--name VALUE`, `--name=VALUE`, `-n`, `-n VALUE`, in
/// any order with the arguments; `--` ends them.
///
/// Process: any.

#include "process/cli.h"

#include <stdio.h>

/// @param cli  `command` is set; the rest is filled in
/// @return false after telling standard error what is wrong
MUST_CHECK bool moon_options_read(struct moon_cli *cli, int argc, char **argv);

/// @param letters  as in struct moon_command
void moon_options_usage(const char *letters, FILE *out);
