/* SPDX-License-Identifier: Apache-2.0 */
#include "process/cli.h"

int main(int argc, char **argv)
{
    return moon_cli_main(argc, argv);
}
