/* SPDX-License-Identifier: Apache-2.0 */
#include "process/loading.h"

#include <stdlib.h>

enum moon_rc moon_loading_new(const struct moon_bundle *bundle, struct moon_loading **out,
                              char **error)
{
    struct moon_loading *loading = calloc(1, sizeof(*loading));
    *error = NULL;
    enum moon_rc rc = MOON_ERR_MEMORY;
    if (loading == NULL)
        goto fail;
    rc = moon_state_new(1, 1 << 20, &loading->state);
    if (rc != MOON_OK)
        goto fail;
    rc = moon_worker_init(&loading->worker, &loading->state, 0);
    if (rc != MOON_OK) {
        moon_state_free(&loading->state);
        goto fail;
    }
    loading->worker.env.is_checking = true;
    rc = moon_worker_load(&loading->worker, bundle, 1, error);
    if (rc != MOON_OK) {
        moon_loading_free(loading);
        loading = NULL;
        goto fail;
    }
    *out = loading;
    return MOON_OK;
fail:
    free(loading);
    if (*error == NULL)
        *error = strdup(moon_rc_text(rc));
    return rc;
}

void moon_loading_free(struct moon_loading *loading)
{
    if (loading == NULL)
        return;
    moon_worker_fini(&loading->worker);
    moon_state_free(&loading->state);
    free(loading);
}
