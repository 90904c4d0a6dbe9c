/* SPDX-License-Identifier: Apache-2.0 */

/// moongate.dns: names and addresses for policies. What must be asked for makes the section wait;
/// answers are kept: forward ones by their TTL (net/dns.h), reverse ones here.

#include "base/clock.h"
#include "base/hash.h"
#include "script/internal.h"

enum {
    DNS_PTR_SLOTS = 4096, // remembered, per worker; two addresses with one slot replace each other
    DNS_PTR_KEPT_MS = 3600 * 1000,
    DNS_PTR_NONE_MS = 60 * 1000,
    DNS_PTR_SILENT_MS =
        10 * 1000,      // nobody answered: who claims a name does not make us wait each time
    DNS_WAIT_MS = 3000, // at most, for one answer
};

struct dns_name {
    struct moon_ip ip;
    int64_t expires_ms;
    bool is_silent; // nobody answered
    char name[256]; // empty: there is none
};

struct dns_op {
    struct moon_ctx *x;
    struct moon_dns_query *query;
    struct moon_timer deadline;
    struct moon_ip ip;
    const char *name;
    struct moon_dns_answer answer;
    bool is_reverse;
};

static struct dns_name *dns_names[DNS_PTR_SLOTS];

static struct dns_name **dns_slot(const struct moon_ip *ip)
{
    return &dns_names[moon_hash(moon_slice((const char *)ip->bytes, 16)) % DNS_PTR_SLOTS];
}

static struct dns_name *dns_known(const struct moon_ip *ip)
{
    struct dns_name *known = *dns_slot(ip);
    bool is_known = known != NULL && moon_ip_compare(&known->ip, ip) == 0 &&
                    moon_clock_ms() < known->expires_ms;
    return is_known ? known : NULL;
}

// `name`: NULL: nobody answered.
static void dns_remember(const struct moon_ip *ip, const char *name)
{
    struct dns_name **slot = dns_slot(ip);
    if (*slot == NULL && (*slot = malloc(sizeof(**slot))) == NULL)
        return;
    (*slot)->ip = *ip;
    (*slot)->is_silent = name == NULL;
    (*slot)->expires_ms = moon_clock_ms() + (name == NULL      ? DNS_PTR_SILENT_MS
                                             : name[0] != '\0' ? DNS_PTR_KEPT_MS
                                                               : DNS_PTR_NONE_MS);
    (void)snprintf((*slot)->name, sizeof((*slot)->name), "%s", name == NULL ? "" : name);
}

/// name | nil, reason
static int dns_push_name(lua_State *L, const char *name)
{
    if (name != NULL && name[0] != '\0') {
        lua_pushstring(L, name);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, name != NULL ? "no name" : "no answer");
    return 2;
}

/// { address, ... } | nil, reason
static int dns_push_addresses(lua_State *L, const struct moon_dns_answer *answer)
{
    if (answer->rc != MOON_OK) {
        lua_pushnil(L);
        lua_pushstring(L, answer->rc == MOON_AGAIN ? "no answer" : "no address");
        return 2;
    }
    lua_createtable(L, (int)answer->count, 0);
    for (size_t i = 0; i < answer->count; i++) {
        char text[MOON_IP_TEXT_BYTES];
        lua_pushlstring(L, text, moon_ip_format(&answer->addresses[i], text));
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int dns_op_push(struct moon_ctx *x, lua_State *co, void *data)
{
    struct dns_op *op = data;
    (void)x;
    return op->is_reverse ? dns_push_name(co, op->name) : dns_push_addresses(co, &op->answer);
}

static void dns_op_end(struct dns_op *op)
{
    moon_timer_stop(&op->deadline);
    moon_async_done(op->x, dns_op_push, op);
}

static void dns_named(void *owner, enum moon_rc rc, const char *name)
{
    struct dns_op *op = owner;
    op->query = NULL;
    dns_remember(&op->ip, rc == MOON_OK ? name : NULL);
    op->name = rc == MOON_OK ? name : NULL; // lent: until the callback returns
    dns_op_end(op);
}

static void dns_addressed(void *owner, const struct moon_dns_answer *answer)
{
    struct dns_op *op = owner;
    op->query = NULL;
    op->answer = *answer;
    dns_op_end(op);
}

static void dns_op_cancel(void *data)
{
    struct dns_op *op = data;
    moon_timer_stop(&op->deadline);
    if (op->query != NULL)
        moon_dns_cancel(op->query);
    op->query = NULL;
}

static void dns_op_late(struct moon_timer *timer)
{
    struct dns_op *op = timer->owner;
    dns_op_cancel(op);
    op->name = NULL;
    if (op->is_reverse)
        dns_remember(&op->ip, NULL);
    op->answer.rc = MOON_AGAIN;
    moon_async_done(op->x, dns_op_push, op);
}

static struct dns_op *dns_op_new(lua_State *L, struct moon_ctx *x)
{
    struct dns_op *op = moon_arena_zalloc(x->arena, sizeof(*op));
    if (op == NULL) {
        moon_raise_full(L);
        return NULL;
    }
    op->x = x;
    moon_timer_init(&op->deadline, x->script->env.loop, dns_op_late, op);
    return op;
}

static int dns_wait(lua_State *L, struct dns_op *op)
{
    moon_timer_set(&op->deadline, DNS_WAIT_MS);
    return moon_async_wait(L, op->x, dns_op_cancel, op);
}

/// dns.reverse(ip) -> name | nil, reason
/// @lua-raises "dns.reverse: \"x\" is no address"
static int dns_reverse(lua_State *L)
{
    struct moon_ip ip;
    if (!moon_ip_parse(moon_check_slice(L, 1), &ip))
        return luaL_error(L, "dns.reverse: \"%s\" is no address", lua_tostring(L, 1));
    struct moon_ctx *x = moon_async_ctx(L);
    struct dns_name *known = dns_known(&ip);
    if (known != NULL)
        return dns_push_name(L, known->is_silent ? NULL : known->name);
    struct dns_op *op = dns_op_new(L, x);
    op->ip = ip;
    op->is_reverse = true;
    if (moon_dns_resolve_ptr(x->script->env.dns, &ip, dns_named, op, &op->query) != MOON_AGAIN)
        return dns_push_name(L, NULL);
    return dns_wait(L, op);
}

/// dns.forward(name) -> { address, ... } | nil, reason
static int dns_forward(lua_State *L)
{
    struct moon_slice name = moon_check_slice(L, 1);
    struct moon_ctx *x = moon_async_ctx(L);
    struct dns_op *op = dns_op_new(L, x);
    enum moon_rc rc =
        moon_dns_resolve(x->script->env.dns, name, dns_addressed, op, &op->answer, &op->query);
    if (rc == MOON_AGAIN)
        return dns_wait(L, op);
    op->answer.rc = rc;
    return dns_push_addresses(L, &op->answer);
}

static const luaL_Reg dns_functions[] = {
    {"reverse", dns_reverse}, {"forward", dns_forward}, {NULL, NULL}};

static int dns_open(lua_State *L)
{
    lua_newtable(L);
    luaL_register(L, NULL, dns_functions);
    return 1;
}

void moon_script_open_dns(lua_State *L)
{
    moon_preload(L, "moongate.dns", dns_open);
}
