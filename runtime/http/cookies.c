/* SPDX-License-Identifier: Apache-2.0 */
#include "http/cookies.h"

bool moon_cookies_next(struct moon_slice *rest, struct moon_slice *name, struct moon_slice *value)
{
    while (rest->len > 0) {
        size_t end = moon_slice_find(*rest, ';');
        struct moon_slice pair = moon_slice(rest->data, end);
        *rest = moon_slice_from(*rest, end + 1);
        size_t equals = moon_slice_find(pair, '=');
        struct moon_slice found = moon_slice_trim(moon_slice(pair.data, equals));
        if (equals == pair.len || found.len == 0) {
            continue;
        }
        *name = found;
        *value = moon_slice_trim(moon_slice_from(pair, equals + 1));
        return true;
    }
    return false;
}

struct moon_slice moon_cookies_find(struct moon_slice field, struct moon_slice name)
{
    struct moon_slice found, value;
    while (moon_cookies_next(&field, &found, &value)) {
        if (moon_slice_is(found, name)) {
            return value;
        }
    }
    return moon_slice(NULL, 0);
}
