/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A set of keys as Lua has it: built once from JWKs, JWK Sets, PEM texts and files, then asked.

#include "moongate/plugin.h"

#include "jwt/jose.h"

#define KEYSET_TYPE "moongate.jwt.keyset"
#define KEYSET_MAX 64

struct keyset {
    size_t count;            // <= KEYSET_MAX
    size_t skipped;          // keys of JWK Sets that could not be used
    uint32_t allowed;        // one bit for each algorithm listed
    bool is_public_only;     // secrets are left out: the keys were published
    bool requires_signature; // an encrypted token holds a signed one
    struct jose_key *keys[KEYSET_MAX];
};

/// jwt.keyset(options) -> keyset | nil, error
int jwt_keyset_new(lua_State *L);

/// Frees the keys: the metatable's __gc.
int jwt_keyset_gc(lua_State *L);

/// The keyset at `index`; raises when it is none.
struct keyset *jwt_keyset_check(lua_State *L, int index, const char *method);

/// The host, for the files of the module.
const struct moon_host *jwt_host(void);
