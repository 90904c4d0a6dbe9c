/* SPDX-License-Identifier: Apache-2.0 */
#include "process/checker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/pace.h"
#include "process/loading.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CHECKER_SECONDS = 30,
    // A kernel gives whoever has work a few milliseconds at a time, and so long a worker's requests
    // would wait on a core that both share. Who sleeps in between comes in between.
    CHECKER_PORTION_US = 150,
    CHECKER_REST_US = 500,
    CHECKER_PORTIONS = 2000, // as in net/background.c: the longer it takes, the longer the portions
};

struct checker_pacer {
    struct moon_pacer pacer;
    int64_t began_us;
};

struct moon_check_result *moon_check_new(void)
{
    void *memory = mmap(NULL, sizeof(struct moon_check_result), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void moon_check_free(struct moon_check_result *result)
{
    if (result != NULL)
        (void)munmap(result, sizeof(*result));
}

static void checker_rest(struct moon_pacer *pacer)
{
    const struct checker_pacer *checker = MOON_CONTAINER_OF(pacer, struct checker_pacer, pacer);
    struct timespec rest = {.tv_nsec = CHECKER_REST_US * 1000};
    (void)nanosleep(&rest, NULL);
    int64_t now_us = moon_clock_real_us();
    int64_t portion_us = (now_us - checker->began_us) / CHECKER_PORTIONS;
    pacer->portion_ends_us =
        now_us + (portion_us > CHECKER_PORTION_US ? portion_us : CHECKER_PORTION_US);
}

void moon_check_run(const struct moon_bundle *bundle, struct moon_check_result *result,
                    const struct moon_user *user)
{
    struct checker_pacer pacer = {.pacer = {.give_way = checker_rest},
                                  .began_us = moon_clock_real_us()};
    moon_log_set_process("checker");
    if (user != NULL) // others work on meanwhile
        (void)moon_pacer_set(&pacer.pacer);
    struct moon_loading *loading = NULL;
    char *error = NULL;
    (void)alarm(CHECKER_SECONDS); // nobody else may be there to end it
    enum moon_rc rc = MOON_ERR_IO;
    if (user != NULL && !moon_user_become(user))
        error = strdup("the checker cannot become the user that workers are");
    else
        rc = moon_loading_new(bundle, &loading, &error);
    if (rc == MOON_OK) {
        const struct moon_generation *generation = loading->worker.next;
        rc = moon_facts_of(generation->plan, &result->facts);
        if (rc != MOON_OK)
            error = strdup("gateway.lua: a name, path or address is too long");
        (void)snprintf(result->warnings, sizeof(result->warnings), "%s",
                       moon_script_warnings(generation->script));
    }
    if (rc != MOON_OK)
        (void)snprintf(result->error, sizeof(result->error), "%s",
                       error == NULL ? moon_rc_text(rc) : error);
    result->is_valid = rc == MOON_OK;
    result->is_complete = true;
    _exit(EXIT_SUCCESS); // the kernel frees it all at once
}

bool moon_check_settle(struct moon_check_result *result, int status)
{
    if (!result->is_complete) {
        if (WIFSIGNALED(status)) {
            (void)snprintf(result->error, sizeof(result->error),
                           "the configuration made the checker die by signal %d (%s)",
                           WTERMSIG(status),
                           WTERMSIG(status) == SIGALRM || WTERMSIG(status) == SIGKILL
                               ? "it took too long, or too much memory"
                               : sigabbrev_np(WTERMSIG(status)));
        } else {
            (void)snprintf(result->error, sizeof(result->error), "the checker ended with status %d",
                           WEXITSTATUS(status));
        }
    }
    // Everything ends in one line's end.
    size_t len = strlen(result->error);
    while (len > 0 && result->error[len - 1] == '\n')
        result->error[--len] = '\0';
    return result->is_complete && result->is_valid;
}
