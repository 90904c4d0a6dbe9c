/* SPDX-License-Identifier: Apache-2.0 */

/// `moongate import`: API files from OpenAPI definitions, policies from Azure's documents.

#include "process/cli.h"
#include "process/loading.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int moon_command_import(const struct moon_cli *cli)
{
    struct moon_loading *loading = moon_loading_plain();
    if (loading == NULL)
        return MOON_EXIT_FAILED;
    bool is_done;
    char *notes = NULL;
    char *text = moon_script_import(loading->worker.next->script, cli->arguments[0],
                                    cli->arguments[1], cli->out, cli->is_forced, &notes, &is_done);
    if (is_done)
        (void)fputs(text, stdout);
    else
        (void)fprintf(stderr, "moongate import: %s\n", text == NULL ? "out of memory" : text);
    if (notes != NULL && notes[0] != '\0')
        (void)fprintf(stderr, "%s\n", notes);
    free(notes);
    free(text);
    moon_loading_free(loading);
    return is_done ? MOON_EXIT_DONE : MOON_EXIT_FAILED;
}
