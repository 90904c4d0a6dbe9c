/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// A doubly linked list whose links lie in the elements. The head links to itself when empty.

#include "base/macros.h"

struct moon_list {
    struct moon_list *prev, *next;
};

static inline void moon_list_init(struct moon_list *list)
{
    list->prev = list->next = list;
}

static inline bool moon_list_is_empty(const struct moon_list *list)
{
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
    return list->next == list;
}

static inline void moon_list_push_front(struct moon_list *list, struct moon_list *link)
{
    link->prev = list;
    link->next = list->next;
    list->next->prev = link;
    list->next = link;
}

static inline void moon_list_push_back(struct moon_list *list, struct moon_list *link)
{
    moon_list_push_front(list->prev, link);
}

/// Takes the element out; its links point to itself, so removing twice is harmless.
static inline void moon_list_remove(struct moon_list *link)
{
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the successor is taken before the element is freed
    link->prev->next = link->next;
    link->next->prev = link->prev;
    moon_list_init(link);
}

#define MOON_LIST_ENTRY(link, type, member) MOON_CONTAINER_OF(link, type, member)

// NOLINTBEGIN(bugprone-macro-parentheses): `at` and `after` are declared here
/// Walks the list; the current element may be removed inside.
#define MOON_LIST_EACH(at, after, list)                                                            \
    for (struct moon_list *at = (list)->next, *after = at->next; at != (list);                     \
         at = after, after = at->next)
// NOLINTEND(bugprone-macro-parentheses)
