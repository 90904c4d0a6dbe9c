/* SPDX-License-Identifier: Apache-2.0 */

/// `moongate run` and `moongate version`.

#include "process/cli.h"
#include "process/serve.h"
#include "process/supervisor.h"

#include <stdio.h>

int moon_command_run(const struct moon_cli *cli)
{
    return cli->workers == 0 ? moon_serve(cli) : moon_supervise(cli);
}

int moon_command_version(const struct moon_cli *cli)
{
    (void)printf(cli->is_json ? "{\"version\":\"%s\"}\n" : "moongate %s\n", MOONGATE_VERSION);
    return MOON_EXIT_DONE;
}
