/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// From host, path and method to a leaf of the plan. Built once per generation: a table of hosts,
/// below each a tree of path segments whose literal children are found by hash. At every segment a
/// literal wins over a `{param}`, and that over a tail `*`; a leaf whose method, networks or
/// listeners do not fit does not match, and the next less specific one is tried. Cost grows with
/// the path's segments, not with the number of routes.

#include "script/ctx.h"
#include "script/plan.h"

struct moon_router;

/// @return NULL when out of memory. The plan must outlive it.
struct moon_router *moon_router_new(const struct moon_plan *plan);
void moon_router_free(struct moon_router *router); // accepts NULL

/// Finds the leaf for the ctx's request and client, and fills in x->leaf and x->params.
/// @return MOON_OK, MOON_ERR_UNKNOWN_HOST, MOON_ERR_NO_ROUTE
MUST_CHECK enum moon_rc moon_router_match(const struct moon_router *router, struct moon_ctx *x);
