/* SPDX-License-Identifier: Apache-2.0 */
#include "net/background.h"

#include "base/clock.h"
#include "base/fiber.h"
#include "base/pace.h"

#include <stdlib.h>

enum {
    BACKGROUND_STACK_BYTES = 8 << 20, // as the main one's: policies are prepared on it
    BACKGROUND_PORTION_US = 100,
    BACKGROUND_PORTION_MAX_US = 20000,
    // A job that has waited long gets more: with a 2000th of its age at each turn even ten seconds of
    // work come to an end beside requests that leave nothing over.
    BACKGROUND_PORTIONS = 2000,
};

struct moon_background {
    struct moon_loop *loop;
    struct moon_list jobs;
    struct moon_task portion; // the next one
    struct moon_pacer pacer;
    struct moon_fiber *fiber; // NULL: nothing was begun
    int64_t began_us;         // the job at hand
    bool is_hurried;
};

static void background_run(void *arg)
{
    struct moon_background *background = arg;
    while (!moon_list_is_empty(&background->jobs)) {
        struct moon_job *job = MOON_LIST_ENTRY(background->jobs.next, struct moon_job, link);
        moon_list_remove(&job->link);
        background->began_us = moon_clock_real_us();
        job->run(job);
        moon_pace();
    }
}

static void background_give_way(struct moon_pacer *pacer)
{
    moon_fiber_suspend(MOON_CONTAINER_OF(pacer, struct moon_background, pacer)->fiber);
}

static int64_t background_portion_ends(const struct moon_background *background, int64_t now_us)
{
    int64_t portion_us = (now_us - background->began_us) / BACKGROUND_PORTIONS;
    if (background->is_hurried)
        return INT64_MAX;
    if (portion_us < BACKGROUND_PORTION_US)
        portion_us = BACKGROUND_PORTION_US;
    return now_us +
           (portion_us < BACKGROUND_PORTION_MAX_US ? portion_us : BACKGROUND_PORTION_MAX_US);
}

static void background_do_portion(struct moon_background *background)
{
    int64_t now_us = moon_clock_real_us();
    if (background->fiber == NULL) {
        background->began_us = now_us;
        background->fiber = moon_fiber_new(BACKGROUND_STACK_BYTES, background_run, background);
    }
    if (background->fiber == NULL) { // no memory: it stops the loop, but it is done
        background_run(background);
        return;
    }
    background->pacer.portion_ends_us = background_portion_ends(background, now_us);
    struct moon_pacer *outer = moon_pacer_set(&background->pacer);
    bool goes_on = moon_fiber_resume(background->fiber);
    (void)moon_pacer_set(outer);
    if (!goes_on) {
        moon_fiber_free(background->fiber);
        background->fiber = NULL;
    }
}

static bool background_is_idle(const struct moon_background *background)
{
    return background->fiber == NULL && moon_list_is_empty(&background->jobs);
}

static void background_turn(struct moon_task *task)
{
    struct moon_background *background = task->owner;
    background_do_portion(background);
    if (!background_is_idle(background))
        moon_task_post(background->loop, task);
}

struct moon_background *moon_background_new(struct moon_loop *loop)
{
    struct moon_background *background = calloc(1, sizeof(*background));
    if (background == NULL)
        return NULL;
    background->loop = loop;
    background->pacer.give_way = background_give_way;
    moon_list_init(&background->jobs);
    moon_task_init(&background->portion, background_turn, background);
    return background;
}

void moon_background_post(struct moon_background *background, struct moon_job *job)
{
    moon_list_push_back(&background->jobs, &job->link);
    moon_task_post(background->loop, &background->portion);
}

void moon_background_finish(struct moon_background *background)
{
    background->is_hurried = true;
    while (!background_is_idle(background))
        background_do_portion(background);
    background->is_hurried = false;
    moon_task_cancel(&background->portion);
}

void moon_background_free(struct moon_background *background)
{
    if (background == NULL)
        return;
    moon_background_finish(background);
    free(background);
}
