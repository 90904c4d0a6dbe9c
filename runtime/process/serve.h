/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Serves inside the calling process, without a supervisor: `moongate run --workers 0`.

#include "process/cli.h"

/// @return an exit code, when a signal has ended it
int moon_serve(const struct moon_cli *cli);
