/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/tunnel.h"

#include "net/digest.h"

void moon_tunnel_check_request(struct moon_exchange *x)
{
    struct moon_request *request = &x->request;
    if (!request->wants_upgrade)
        return;
    struct moon_slice upgrade = moon_fields_joined(&request->fields, MOON_S("upgrade"));
    request->wants_upgrade = request->method == MOON_METHOD_GET &&
                             request->framing == MOON_FRAMING_NONE &&
                             moon_slice_is_nocase(upgrade, MOON_S("websocket"));
}

// A client of HTTP/2 cannot see whether the backend has understood the handshake, of which it knows
// nothing: the gateway has made the key, and looks at the answer to it (RFC 6455 §4.1).
static bool tunnel_is_proven(const struct moon_exchange *x)
{
    char wanted[MOON_WEBSOCKET_ACCEPT_BYTES + 1];
    const struct moon_field *key =
        moon_fields_find(&x->request.fields, MOON_S("Sec-WebSocket-Key"));
    const struct moon_field *accept =
        moon_fields_find(&x->call.response.fields, MOON_S("Sec-WebSocket-Accept"));
    return key != NULL && accept != NULL && moon_digest_websocket(key->value, wanted) &&
           moon_slice_is(accept->value, moon_slice(wanted, MOON_WEBSOCKET_ACCEPT_BYTES));
}

enum moon_rc moon_tunnel_take_response(struct moon_exchange *x)
{
    int status = x->call.response.status;
    if (x->call.state != MOON_CALL_TUNNEL) {
        bool is_extended = x->request.wants_upgrade && x->request.version_major == 2;
        return is_extended && status < 300 ? MOON_ERR_UPSTREAM_PROTOCOL : MOON_OK;
    }
    if (x->request.version_major == 2 && !tunnel_is_proven(x))
        return MOON_ERR_UPSTREAM_PROTOCOL;
    x->is_tunnel = true;
    x->is_body_kept = false;
    x->is_body_done = false; // from here on the client's bytes are the body
    x->response.framing = MOON_FRAMING_CLOSE;
    x->response.content_length = -1;
    return moon_fields_set(&x->response.fields, MOON_S("Upgrade"), MOON_S("websocket"));
}

bool moon_tunnel_is_over(const struct moon_exchange *x)
{
    return (x->is_response_done && x->is_body_done) || x->call.state == MOON_CALL_FAILED;
}
