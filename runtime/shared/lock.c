/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/lock.h"

#include <errno.h>

void moon_lock_init(struct moon_lock *lock)
{
    pthread_mutexattr_t attr;
    int failed = pthread_mutexattr_init(&attr);
    MOON_ASSERT(failed == 0);
    failed |= pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    failed |= pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    failed |= pthread_mutex_init(&lock->mutex, &attr);
    MOON_ASSERT(failed == 0);
    (void)pthread_mutexattr_destroy(&attr);
}

bool moon_lock_take(struct moon_lock *lock)
{
    int rc = pthread_mutex_lock(&lock->mutex);
    if (MOON_LIKELY(rc == 0))
        return true;
    MOON_ASSERT(rc == EOWNERDEAD); // we always mark it consistent, so it is never unrecoverable
    rc = pthread_mutex_consistent(&lock->mutex);
    MOON_ASSERT(rc == 0);
    return false;
}

void moon_lock_give(struct moon_lock *lock)
{
    int rc = pthread_mutex_unlock(&lock->mutex);
    MOON_ASSERT(rc == 0);
}
