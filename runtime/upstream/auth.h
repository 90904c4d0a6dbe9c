/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the gateway says to a backend about who it is: fields and query parameters from the
/// configuration, and OAuth2 tokens by client credentials (RFC 6749 §4.4), fetched when first needed,
/// kept while they are valid, and renewed before they expire while requests come.

#include "upstream/call.h"

/// Where the backend wants tokens: makes backend->auth.
MUST_CHECK enum moon_rc moon_auth_start(struct moon_backend *backend, char *error,
                                        size_t error_cap);
void moon_auth_stop(struct moon_backend *backend);

static inline bool moon_auth_is_needed(const struct moon_backend_conf *conf)
{
    return conf->auth.field_count > 0 || conf->auth.query.len > 0 || conf->auth.token_url.len > 0;
}

/// @return MOON_OK (a token is there), MOON_AGAIN (moon_call_prepared follows),
///         MOON_ERR_UPSTREAM_AUTH (just failed, and is not asked again so soon)
MUST_CHECK enum moon_rc moon_auth_wait(struct moon_auth *auth, struct moon_call *call);

/// Gives the call a request of its own that carries what the configuration says.
MUST_CHECK enum moon_rc moon_auth_apply(struct moon_call *call);

/// The backend refused the token: the next call fetches another.
void moon_auth_forget(struct moon_auth *auth);
