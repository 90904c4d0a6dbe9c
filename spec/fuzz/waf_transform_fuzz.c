/* SPDX-License-Identifier: Apache-2.0 */
// Transformations of any bytes against plain versions of them (waf_plain.h), and each against its
// promises (no mark, no change; "changes only case"; a change is a change).

#include "waf/transform.h"
#include "waf_plain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void check(struct waf_arena *a, const struct waf_transform *t, struct waf_str in)
{
    struct waf_str out = in;
    unsigned marks = 0;
    bool changed = t->fn(a, in, &out);
    for (size_t i = 0; i < in.n; i++) {
        marks |= waf_marks_of((unsigned char)in.p[i]);
    }
    must((marks & t->marks) != 0 || (t->marks & WAF_MARK_ALWAYS) != 0 || !changed);
    if (t->keeps_case_folded) {
        must(waf_ieq(in, out));
    }
    struct plain_out want = {0};
    if (in.n != 0 && plain_transform(t->name, (struct plain_text){in.p, in.n}, &want)) {
        must(waf_eq(out, (struct waf_str){want.p, want.n}));
    }
    must(!changed || !waf_eq(in, out));
    free(want.p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct waf_arena a;
    if (size > 65536) {
        return 0;
    }
    char *copy = malloc(size == 0 ? 1 : size); // its end is watched
    memcpy(copy, data, size);
    waf_arena_init(&a, 4096, (size_t)1 << 28);
    for (size_t i = 0; i < waf_transform_count(); i++) {
        check(&a, waf_transform_at(i), (struct waf_str){copy, size});
    }
    waf_arena_fini(&a);
    free(copy);
    return 0;
}
