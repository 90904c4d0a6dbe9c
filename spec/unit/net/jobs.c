/* SPDX-License-Identifier: Apache-2.0 */

/// Jobs for background_spec.lua. They run on a stack of their own, where no Lua function may be called
/// back, so that they are C: each does steps of a given length, and notes them in a shared text.

#include "base/clock.h"
#include "base/pace.h"
#include "net/background.h"

#include <string.h>

struct test_job {
    struct moon_job job;
    char name;
    int steps, step_us;
    int depth;                // of recursion, a kilobyte of stack a level
    char *trace;              // long enough; a step appends the name
    struct test_job *another; // posted by the last step; or NULL
    struct moon_background *background;
    bool is_over;
};

void test_job_init(struct test_job *job);
void test_job_post(struct test_job *job);

static void job_spin(int us)
{
    int64_t until_us = moon_clock_real_us() + us;
    while (moon_clock_real_us() < until_us)
        ;
}

static int job_steps(struct test_job *job, int depth)
{
    volatile char kilobyte[1024];
    memset((char *)kilobyte, depth & 127, sizeof(kilobyte));
    if (depth > 0) // NOLINTNEXTLINE(misc-no-recursion): to see how deep the stack is
        return job_steps(job, depth - 1) + kilobyte[depth % 1024];
    for (int i = 0; i < job->steps; i++) {
        size_t len = strlen(job->trace);
        job->trace[len] = job->name;
        job->trace[len + 1] = '\0';
        job_spin(job->step_us);
        moon_pace();
    }
    return 0;
}

static void job_run(struct moon_job *base)
{
    struct test_job *job = MOON_CONTAINER_OF(base, struct test_job, job);
    int sum = job_steps(job, job->depth), wanted = 0;
    for (int depth = 1; depth <= job->depth; depth++)
        wanted += depth & 127;
    if (job->another != NULL)
        test_job_post(job->another);
    job->is_over = sum == wanted; // what lay on the stack is what was put there
}

__attribute__((visibility("default"))) void test_job_init(struct test_job *job)
{
    job->job.run = job_run;
}

__attribute__((visibility("default"))) void test_job_post(struct test_job *job)
{
    moon_background_post(job->background, &job->job);
}
