/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// What the process that holds the sockets needs to know of a configuration. A plain block of
/// memory, so that the checker can hand it over in shared memory.
///
/// Process: any.

#include "gateway/gateway.h"

enum { MOON_FACTS_TEXT = 256, MOON_FACTS_NAMES = 1024 };

struct moon_listener_facts {
    char name[64];
    char place[64];    // in the configuration, for errors
    char address[128]; // as written
    char key[200];     // equal keys are the same socket across generations
    int backlog;
    int mode; // of a UNIX socket's file; 0: as the umask leaves it
    bool is_management, has_tls, is_http2;
};

struct moon_facts {
    struct moon_listener_facts listeners[MOON_GATEWAY_LISTENERS];
    size_t listener_count;
    int workers; // 0: as many as cores
    bool is_in_process;
    char name[64];
    char user[64];
    char access_log[MOON_FACTS_TEXT]; // "-": standard output; empty: off
    char error_log[MOON_FACTS_TEXT];  // empty or "-": standard error
    int error_log_level;              // enum moon_log_level
    int64_t drain_timeout_ms;
    size_t connections; // of one worker, at most
    size_t route_count;
    size_t cache_bytes;           // 0: the usual size
    char sites[MOON_FACTS_NAMES]; // names, ", " between them
    char apis[MOON_FACTS_NAMES];
};

/// Copies them out of a plan. @return MOON_ERR_LIMIT when a text is too long
MUST_CHECK enum moon_rc moon_facts_of(const struct moon_plan *plan, struct moon_facts *facts);

/// How many workers to start.
/// @param wanted  of the command line; -1: as configured
int moon_facts_cores(void); // that the process may use
int moon_facts_workers(const struct moon_facts *facts, int wanted);

/// Points the error log where the configuration says. @return false after logging why not
MUST_CHECK bool moon_facts_open_log(const struct moon_facts *facts);

/// Sees that the access log can be written to; the file is made where there is none.
/// @param error  for people: the field, the path and why not
MUST_CHECK enum moon_rc moon_facts_try_access_log(const struct moon_facts *facts, char *error,
                                                  size_t error_cap);
