/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fiber.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if MOON_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#ifndef FIBER_TSAN
#define FIBER_TSAN 0
#endif
#if FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

enum fiber_state { FIBER_NEW, FIBER_SUSPENDED, FIBER_RUNNING, FIBER_OVER };

struct moon_fiber {
    ucontext_t inside, outside;
    moon_fiber_fn *run;
    void *arg;
    char *mapping; // a guard page, then the stack
    size_t mapping_bytes, guard_bytes;
    enum fiber_state state;
    // The sanitizers are told of each change of stacks.
    const void *outside_stack;
    size_t outside_bytes;
    void *outside_fake, *inside_fake;
    void *outside_tsan, *inside_tsan;
};

static struct moon_fiber *fiber_entered; // makecontext passes no pointers

// Not swapcontext: the address sanitizer says about it that it may be wrong, once a process.
static void fiber_switch(ucontext_t *from, const ucontext_t *to)
{
    volatile bool is_back = false;
    (void)getcontext(from);
    if (is_back)
        return;
    is_back = true;
    (void)setcontext(to);
}

static void fiber_leave(struct moon_fiber *fiber)
{
#if MOON_ASAN
    void **fake = fiber->state == FIBER_OVER ? NULL : &fiber->inside_fake; // NULL: never again
    __sanitizer_start_switch_fiber(fake, fiber->outside_stack, fiber->outside_bytes);
#endif
#if FIBER_TSAN
    __tsan_switch_to_fiber(fiber->outside_tsan, 0);
#endif
    fiber_switch(&fiber->inside, &fiber->outside);
#if MOON_ASAN
    __sanitizer_finish_switch_fiber(fiber->inside_fake, &fiber->outside_stack,
                                    &fiber->outside_bytes);
#endif
}

static void fiber_main(void)
{
    struct moon_fiber *fiber = fiber_entered;
#if MOON_ASAN
    __sanitizer_finish_switch_fiber(NULL, &fiber->outside_stack, &fiber->outside_bytes);
#endif
    fiber->run(fiber->arg);
    fiber->state = FIBER_OVER;
    fiber_leave(fiber);
    MOON_ASSERT(false);
}

static bool fiber_prepare(struct moon_fiber *fiber)
{
    if (getcontext(&fiber->inside) == -1)
        return false;
    fiber->inside.uc_stack.ss_sp = fiber->mapping + fiber->guard_bytes;
    fiber->inside.uc_stack.ss_size = fiber->mapping_bytes - fiber->guard_bytes;
    fiber->inside.uc_link = NULL;
    makecontext(&fiber->inside, fiber_main, 0);
    return true;
}

struct moon_fiber *moon_fiber_new(size_t stack_bytes, moon_fiber_fn *run, void *arg)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct moon_fiber *fiber = calloc(1, sizeof(*fiber));
    if (fiber == NULL)
        return NULL;
    fiber->run = run;
    fiber->arg = arg;
    fiber->guard_bytes = page;
    fiber->mapping_bytes = page + (stack_bytes + page - 1) / page * page;
    fiber->mapping = mmap(NULL, fiber->mapping_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (fiber->mapping == MAP_FAILED) {
        free(fiber);
        return NULL;
    }
    // A huge page would be taken, and cleared, for the few kilobytes that are touched.
    (void)madvise(fiber->mapping, fiber->mapping_bytes, MADV_NOHUGEPAGE);
    if (mprotect(fiber->mapping, page, PROT_NONE) == -1 || !fiber_prepare(fiber)) {
        moon_fiber_free(fiber);
        return NULL;
    }
    return fiber;
}

bool moon_fiber_resume(struct moon_fiber *fiber)
{
    MOON_ASSERT(fiber->state == FIBER_NEW || fiber->state == FIBER_SUSPENDED);
    fiber->state = FIBER_RUNNING;
    fiber_entered = fiber;
#if MOON_ASAN
    __sanitizer_start_switch_fiber(&fiber->outside_fake, fiber->mapping + fiber->guard_bytes,
                                   fiber->mapping_bytes - fiber->guard_bytes);
#endif
#if FIBER_TSAN
    if (fiber->inside_tsan == NULL)
        fiber->inside_tsan = __tsan_create_fiber(0);
    fiber->outside_tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->inside_tsan, 0);
#endif
    fiber_switch(&fiber->outside, &fiber->inside);
#if MOON_ASAN
    __sanitizer_finish_switch_fiber(fiber->outside_fake, NULL, NULL);
#endif
    return fiber->state != FIBER_OVER;
}

void moon_fiber_suspend(struct moon_fiber *fiber)
{
    MOON_ASSERT(fiber->state == FIBER_RUNNING);
    fiber->state = FIBER_SUSPENDED;
    fiber_leave(fiber);
}

void moon_fiber_free(struct moon_fiber *fiber)
{
    if (fiber == NULL)
        return;
    MOON_ASSERT(fiber->state == FIBER_NEW || fiber->state == FIBER_OVER);
#if MOON_ASAN
    // What frames left marked, fiber_main's and those that a Lua error jumped over, would stay so for
    // whoever is given these addresses next.
    __asan_unpoison_memory_region(fiber->mapping, fiber->mapping_bytes);
#endif
#if FIBER_TSAN
    if (fiber->inside_tsan != NULL)
        __tsan_destroy_fiber(fiber->inside_tsan);
#endif
    (void)munmap(fiber->mapping, fiber->mapping_bytes);
    free(fiber);
}
