/* SPDX-License-Identifier: Apache-2.0 */

/// `moongate waf report`: what the rules found, from a log.

#include "process/cli.h"
#include "process/loading.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int moon_command_waf(const struct moon_cli *cli)
{
    if (strcmp(cli->arguments[0], "report") != 0) {
        (void)fprintf(stderr, "moongate waf: unknown action \"%s\": report\n", cli->arguments[0]);
        return MOON_EXIT_USAGE;
    }
    struct moon_loading *loading = moon_loading_plain();
    if (loading == NULL)
        return MOON_EXIT_FAILED;
    bool is_done;
    char *notes = NULL;
    char *text = moon_script_import(loading->worker.next->script, "waf_log", cli->arguments[1],
                                    NULL, false, &notes, &is_done);
    if (is_done)
        (void)fputs(text, stdout);
    else
        (void)fprintf(stderr, "moongate waf: %s\n", text == NULL ? "out of memory" : text);
    free(notes);
    free(text);
    moon_loading_free(loading);
    return is_done ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}
