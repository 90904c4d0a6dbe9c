/* SPDX-License-Identifier: Apache-2.0 */

/// Any text as gateway.lua: it is loaded whole (sandbox, schema, chains, plan, routes), or refused
/// for a reason that speaks of the file, never of our own code.

#include "process/loading.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FUZZ_BUDGET_MS = 50 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// LuaJIT tags its pointers, so the leak checker cannot see what a state holds.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

// One worker for all inputs: what outlives a generation is made once.
static struct moon_loading *fuzz_loading(void)
{
    static struct moon_loading *loading;
    if (loading == NULL) {
        loading = moon_loading_plain();
        if (loading == NULL)
            abort();
        loading->worker.env.load_budget_ms = FUZZ_BUDGET_MS;
    }
    return loading;
}

static void fuzz_load(const char *text)
{
    struct moon_bundle *bundle;
    struct moon_worker *worker = &fuzz_loading()->worker;
    char *error = NULL;
    if (moon_bundle_of_text("/nonexistent", text, &bundle) != MOON_OK)
        return;
    enum moon_rc rc = moon_worker_load(worker, bundle, 2, &error);
    if (rc == MOON_ERR_CONFIG && (error == NULL || strncmp(error, "gateway.lua", 11) != 0)) {
        (void)fprintf(stderr, "%s\n", error == NULL ? "no reason" : error);
        abort();
    }
    free(error);
    moon_worker_abort_load(worker);
    moon_bundle_free(bundle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    fuzz_load(text);
    free(text);
    return 0;
}
