/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Acts: what a policy does in C alone, without a Lua function being called. Where a section's chain
/// begins with such policies the runtime calls them itself (docs/architecture.md).

#include "moongate/types.h"

#include <lua.h>

struct moon_ctx; // one exchange; plugins ask their host about it

enum moon_act_answer {
    MOON_ACT_GO_ON,    // with the next one
    MOON_ACT_DECLINES, // and has changed nothing: the policy's Lua function does it
    MOON_ACT_ENDS,     // the section: the response is made
    MOON_ACT_WAITS,    // moon_async_done follows
};

/// @param object  userdata that the policy made when it was prepared
typedef enum moon_act_answer moon_act_fn(struct moon_ctx *x, const void *object);

/// What is found where a text is looked for.
enum moon_text_kind {
    MOON_TEXT_NONE,
    MOON_TEXT_FOUND,
    MOON_TEXT_OTHER, // something that is no text, or that only Lua can tell
};

/// What a token says that an act has accepted. Shared by the exchanges that brought the token, and by
/// what remembers it.
struct moon_claims {
    size_t uses; // by whom it is held; the last one calls `free`
    void (*free)(lua_State *L, struct moon_claims *claims);

    /// Pushes the claims as a table of the caller's own.
    void (*push)(lua_State *L, const struct moon_claims *claims);

    /// The text of a claim. @return MOON_TEXT_OTHER when the claim is there and is no text
    enum moon_text_kind (*find)(const struct moon_claims *claims, struct moon_slice name,
                                struct moon_slice *text);
};

/// @param L  any thread of the state that they were made in
static inline void moon_claims_release(lua_State *L, struct moon_claims *claims)
{
    if (claims != NULL && --claims->uses == 0)
        claims->free(L, claims);
}
