/* SPDX-License-Identifier: Apache-2.0 */
#include "base/result.h"

#include "base/slice.h"

struct result_row {
    const char *name;
    const char *text;
    int status;
};

static const struct result_row result_rows[MOON_RC_COUNT] = {
#define RESULT(name, status, text) {#name, text, status},
#include "base/result.def"
#undef RESULT
};

static char result_names[MOON_RC_COUNT][32];

const char *moon_rc_name(enum moon_rc rc)
{
    MOON_ASSERT(rc < MOON_RC_COUNT);
    char *name = result_names[rc];
    if (name[0] == '\0') {
        const char *from = result_rows[rc].name;
        if (strncmp(from, "ERR_", 4) == 0)
            from += 4;
        size_t i = 0;
        for (; from[i] != '\0' && i + 1 < sizeof(result_names[rc]); i++)
            name[i] = moon_lower(from[i]);
        name[i] = '\0';
    }
    return name;
}

const char *moon_rc_text(enum moon_rc rc)
{
    MOON_ASSERT(rc < MOON_RC_COUNT);
    return result_rows[rc].text;
}

int moon_rc_status(enum moon_rc rc)
{
    MOON_ASSERT(rc < MOON_RC_COUNT);
    return result_rows[rc].status;
}
