/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A process-shared robust mutex. No Lua, no allocation and no waiting under it.

#include "base/macros.h"

#include <pthread.h>

struct moon_lock {
    pthread_mutex_t mutex;
};

void moon_lock_init(struct moon_lock *lock);

/// @return false when the last owner died inside: the caller repairs or drops what the lock guards;
///         it holds the lock either way
MUST_CHECK bool moon_lock_take(struct moon_lock *lock);
void moon_lock_give(struct moon_lock *lock);
