/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/// `moongate test`: busted on LuaJIT with gateways inside the process. Real parser, policies, pools
/// and sockets; backends may be Lua functions; one clock for C and Lua that specs move by hand.
///
/// Process: the test runner.

#include "process/worker.h"

#include <lua.h>

/// Runs busted. @param argv  files, directories and options of busted
/// @return the process's exit code
int moon_test_main(int argc, char **argv);

/// One gateway under test, with the clients and origins that talk to it on the same loop.
struct moon_testkit {
    struct moon_list link; // all that are open
    struct moon_state state;
    struct moon_worker worker;
    struct moon_upstreams clients; // connections of the spec's own client
    struct moon_list origins;
    uint32_t generation;
    int log_fd;      // memfd behind the access log
    int64_t real_us; // when the clock was last moved on
};

/// Lets every open gateway go on for up to `max_wait_ms`; the clock moves by the real time that
/// passes here, and by nothing else.
void moon_testkit_turn(int max_wait_ms);

/// Origins: backends that are Lua functions (testkit_origin.c).
struct moon_test_origin;
struct moon_test_origin *moon_test_origin_new(struct moon_testkit *kit, lua_State *L,
                                              int function_index);
void moon_test_origin_free(struct moon_test_origin *origin);
uint16_t moon_test_origin_port(const struct moon_test_origin *origin);
struct moon_test_origin *moon_test_origin_of(struct moon_list *link);

/// Client functions for the gateway's metatable (testkit_client.c).
int moon_test_request(lua_State *L);
int moon_test_raw(lua_State *L);

/// The gateway at `index`; raises when it is closed.
struct moon_testkit *moon_testkit_check(lua_State *L, int index);

/// Port of a listener by name; 0 when there is none. NULL: the first.
uint16_t moon_testkit_port(struct moon_testkit *kit, const char *listener);
