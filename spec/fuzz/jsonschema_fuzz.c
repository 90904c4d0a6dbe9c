/* SPDX-License-Identifier: Apache-2.0 */

/// A schema and a value, with a zero byte between them: nothing crashes, nothing runs away.

#include "jsonschema/set.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_open;
    static const enum jsc_draft DRAFTS[] = {JSC_DRAFT_4, JSC_OPENAPI_30, JSC_DRAFT_7,
                                            JSC_DRAFT_2019, JSC_DRAFT_2020};
    is_open = is_open || jsc_pattern_open();
    if (!is_open || size < 2) {
        return 0;
    }
    struct jsc_set set = {.dialect = {DRAFTS[data[0] % 5], true, false}, .asserts_formats = true};
    const char *text = (const char *)data + 1;
    size_t len = strnlen(text, size - 1);
    struct moon_slice empty = {"", 0};
    const struct jsc_schema *schema = NULL;
    if (jsc_set_add(&set, empty, (struct moon_slice){text, len}) >= 0) {
        schema = jsc_set_compile(&set, empty, data[0] & 0x80 ? JSC_REQUEST : JSC_ANY);
    }
    if (schema != NULL && len + 2 < size) {
        struct moon_slice value = {text + len + 1, size - len - 2};
        struct jsc_tape tape = {0};
        struct jsc_mistake mistakes[8];
        struct jsc_report report = {.mistakes = mistakes, .max = 8};
        char *scratch = malloc(value.len);
        size_t at;
        if (scratch != NULL && jsc_tape_read(&tape, value, scratch, 128, &at) == NULL) {
            (void)jsc_validate(&set, schema, tape.nodes, &report);
        }
        free(scratch);
        jsc_tape_fini(&tape);
    }
    jsc_set_fini(&set);
    return 0;
}
