/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/call_internal.h"

bool call_h2_take(struct moon_call *call)
{
    (void)call;
    return false;
}
enum moon_rc call_h2_begin(struct moon_call *call, struct moon_uconn *conn)
{
    (void)call;
    moon_uconn_free(conn);
    return MOON_ERR_UPSTREAM_PROTOCOL;
}
