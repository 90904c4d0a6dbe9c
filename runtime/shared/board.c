/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/board.h"

#include "base/clock.h"
#include "base/log.h"

struct moon_board *moon_board_new(struct moon_region *region, int worker_count)
{
    if (worker_count < 0 || worker_count > MOON_BOARD_WORKERS) {
        moon_log_error("%d workers are more than the board holds (%d)", worker_count,
                       (int)MOON_BOARD_WORKERS);
        return NULL;
    }
    struct moon_board *board = moon_region_carve(region, "board", sizeof(*board));
    if (board == NULL)
        return NULL;
    board->worker_count = worker_count;
    board->started_wall_ms = moon_clock_wall_ms();
    board->started_ms = moon_clock_ms();
    return board;
}
