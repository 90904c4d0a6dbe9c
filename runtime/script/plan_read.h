/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// Words for reading a plan's tables, shared by plan.c and plan_backend.c. They look at the table on
/// top of the stack; what is missing there means "not configured".

#include "script/internal.h"
#include "script/plan.h"

struct plan_reader {
    lua_State *L;
    struct moon_plan *plan;
    const char *dir;
    char error[512];
    bool has_failed;
};

/// Cleared memory that lives as long as the plan; notes the failure when there is none.
void *plan_alloc(struct plan_reader *r, size_t count, size_t size);
struct moon_slice plan_copy(struct plan_reader *r, int index);
struct moon_slice plan_text(struct plan_reader *r, const char *name);
int64_t plan_number(struct plan_reader *r, const char *name, int64_t absent);
bool plan_bool(struct plan_reader *r, const char *name, bool absent);

/// Enters a table field. @return false, with nothing pushed, when there is none
bool plan_enter(struct plan_reader *r, const char *name);
void plan_leave(struct plan_reader *r);
size_t plan_count(struct plan_reader *r);
void plan_element(struct plan_reader *r, size_t i);
void plan_join(struct plan_reader *r, const struct moon_slice *parts, size_t n,
               struct moon_slice *out);

/// A file of the configuration: absolute, or below its directory.
struct moon_slice plan_file(struct plan_reader *r, const char *name);

/// The place of `name` in a list that NULL ends.
int plan_choice(struct moon_slice name, const char *const *choices, int absent);

void plan_read_backends(struct plan_reader *r);
