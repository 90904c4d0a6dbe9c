-- SPDX-License-Identifier: Apache-2.0
--- Drives upstream/redis and upstream/limits in this process, against real servers.
jit.off(true, true)
local ffi = require("ffi")
local net = require("spec.unit.net.support")
local shared = require("spec.unit.shared.support")
local helper = net.helper

local M = { net = net, helper = helper }

local C = helper.lib([[
struct moon_redis;
struct moon_redis_command;
struct moon_redis_address { char host[256]; uint16_t port; };
struct moon_redis_conf {
  int kind; struct moon_redis_address addresses[32]; size_t address_count;
  char user[128], password[512]; int database; char master_name[128];
  char sentinel_user[128], sentinel_password[512]; struct moon_tls_client *tls; bool is_tls;
  int64_t deadline_ms; int64_t connect_ms; size_t queue_commands; size_t reply_bytes;
  uint32_t breaker_failures; int64_t probe_ms; int64_t backoff_ms, backoff_most_ms;
};
void moon_redis_conf_init(struct moon_redis_conf *conf);
int moon_redis_conf_url(struct moon_redis_conf *, struct moon_slice url, char *error, size_t cap);
struct moon_redis_reply {
  int type; struct moon_slice text; int64_t integer; struct moon_redis_reply **elements;
  size_t count;
};
typedef void moon_redis_fn(void *owner, int rc, const struct moon_redis_reply *reply);
struct moon_dns;
struct moon_dns *moon_dns_new(struct moon_loop *loop, const char *servers);
void moon_dns_free(struct moon_dns *dns);
struct moon_redis *moon_redis_new(struct moon_loop *, struct moon_dns *,
                                  const struct moon_redis_conf *);
void moon_redis_free(struct moon_redis *redis);
int moon_redis_command(struct moon_redis *, int argc, const char *const *argv, const size_t *lens,
                       int key, int64_t deadline_ms, moon_redis_fn *callback, void *owner,
                       struct moon_redis_command **command);
struct moon_redis_script { const char *body; char sha[41]; bool is_asked; };
int moon_redis_eval(struct moon_redis *, struct moon_redis_script *, struct moon_slice key,
                    int argc, const char *const *argv, const size_t *lens, int64_t deadline_ms,
                    moon_redis_fn *callback, void *owner, struct moon_redis_command **command);
void moon_redis_cancel(struct moon_redis_command *command);
bool moon_redis_is_up(const struct moon_redis *redis);
struct moon_redis_stats {
  uint64_t commands, replies, timeouts, late_replies, refused, connects, disconnects,
    breaker_opens, redirects, reloads;
};
const struct moon_redis_stats *moon_redis_stats(const struct moon_redis *redis);

struct moon_limit_spec {
  char id[49]; size_t id_len; int64_t calls, period_ms, burst; int mode; int algorithm;
  int store_down; uint64_t hash, fallback_hash;
};
int moon_limit_spec_init(struct moon_limit_spec *, struct moon_slice id, int64_t calls,
                         int64_t period_ms, int64_t burst, int mode, int algorithm, int store_down);
struct moon_limit_result {
  struct moon_limit_decision decision; int source; bool is_store_refusal;
};
struct moon_limits_board;
struct moon_limits_board *moon_limits_board_new(struct moon_region *region);
struct moon_limits_options {
  struct moon_slice prefix; int64_t flush_ms; int64_t deadline_ms; int64_t node_ttl_ms;
  bool is_time_given;
};
void moon_limits_options_init(struct moon_limits_options *conf);
struct moon_limits;
struct moon_limits_query;
struct moon_limits *moon_limits_new(struct moon_loop *, struct moon_redis *,
                                    struct moon_counters *, struct moon_limits_board *,
                                    const struct moon_limits_options *);
void moon_limits_free(struct moon_limits *limits);
typedef void moon_limits_fn(void *owner, const struct moon_limit_result *result);
int moon_limits_check(struct moon_limits *, const struct moon_limit_spec *, struct moon_slice key,
                      int64_t amount, int how, moon_limits_fn *callback, void *owner,
                      struct moon_limit_result *result, struct moon_limits_query **query);
void moon_limits_cancel(struct moon_limits_query *query);
void moon_limits_give_back(struct moon_limits *, const struct moon_limit_spec *,
                           struct moon_slice key, int64_t amount,
                           const struct moon_limit_result *given);
struct moon_limits_status {
  bool is_store_down; bool is_flusher; int64_t nodes; int64_t clock_skew_ms; uint64_t flushes;
  uint64_t deltas; uint64_t lost; uint64_t exact, exact_failed, cached;
};
void moon_limits_status(const struct moon_limits *, struct moon_limits_status *);
int64_t moon_clock_real_us(void);
]])

M.C = C
M.modes = { ["local"] = 0, shared = 1, exact = 2 }
M.algorithms = { token_bucket = 0, sliding_window = 1, fixed_window = 2 }
M.downs = { ["local"] = 0, allow = 1, deny = 2 }
M.sources = { [0] = "local", "shared", "exact", "cached", "store_down" }

local TYPES = { [0] = "string", "integer", "array", "nil", "error" }

local function value_of(reply)
  local kind = TYPES[reply.type]
  if kind == "integer" then
    return tonumber(reply.integer)
  elseif kind == "array" then
    local list = {}
    for i = 1, tonumber(reply.count) do
      list[i] = value_of(reply.elements[i - 1])
    end
    return list
  elseif kind == "nil" then
    return nil
  end
  return ffi.string(reply.text.data, reply.text.len), kind == "error"
end

-- Callbacks find their Lua function by the number in `owner`.
local waiting, last = {}, 0
local on_reply = ffi.cast("moon_redis_fn *", function(owner, rc, reply)
  local id = tonumber(ffi.cast("intptr_t", owner))
  local f = waiting[id]
  waiting[id] = nil
  if f then
    f(helper.rc(rc), reply)
  end
end)
local on_decision = ffi.cast("moon_limits_fn *", function(owner, result)
  local id = tonumber(ffi.cast("intptr_t", owner))
  local f = waiting[id]
  waiting[id] = nil
  if f then
    f(result)
  end
end)

local function owner(f)
  last = last + 1
  waiting[last] = f
  return ffi.cast("void *", last), last
end

function M.now_ms()
  return tonumber(C.moon_clock_real_us()) / 1000
end

--- Turns the loop for a while.
function M.spin(ms)
  local ends = M.now_ms() + ms
  while M.now_ms() < ends do
    net.turn(1)
  end
end

--- Turns the loop until `is_done()`; tells whether it was within `ms` (20 s, for what has no bound of its
--- own), and for how long, at most, the machine left this process standing in a turn: what has a deadline
--- was late by as much.
function M.spin_until(is_done, ms)
  local before, stall = M.now_ms(), 0
  local ends = before + (ms or 20000)
  while not is_done() do
    if before > ends then
      return false, stall
    end
    net.turn(1)
    local now = M.now_ms()
    before, stall = now, math.max(stall, now - before - 1)
  end
  return true, stall
end

--- A configuration from a URL; nil and the error when it is none.
function M.conf(url, changes)
  local conf, err = ffi.new("struct moon_redis_conf"), ffi.new("char[256]")
  C.moon_redis_conf_init(conf)
  if helper.rc(C.moon_redis_conf_url(conf, helper.slice(url), err, 256)) ~= "ok" then
    return nil, ffi.string(err)
  end
  for name, value in pairs(changes or {}) do
    conf[name] = value
  end
  return conf
end

local Redis = {}
Redis.__index = Redis

local dns

--- A connection to the store.
function M.redis(url, changes)
  dns = dns or C.moon_dns_new(net.loop(), nil)
  local conf = assert(M.conf(url, changes))
  local self = setmetatable({ c = C.moon_redis_new(net.loop(), dns, conf) }, Redis)
  assert(self.c ~= nil)
  return self
end

function M.close()
  if dns then
    C.moon_dns_free(dns)
    dns = nil
  end
  net.close_loop()
  waiting = {}
end

--- Starts a command; `done(rc, value, is_error, ms)` follows. @return rc, command
function Redis:send(words, done, options)
  options = options or {}
  local n = #words
  local argv, lens = ffi.new("const char *[?]", n), ffi.new("size_t[?]", n)
  for i, word in ipairs(words) do
    words[i] = tostring(word)
    argv[i - 1], lens[i - 1] = words[i], #words[i]
  end
  local began = M.now_ms()
  local out = ffi.new("struct moon_redis_command *[1]")
  local me, id = owner(function(rc, reply)
    local value, is_error
    if rc == "ok" then
      value, is_error = value_of(reply)
    end
    done(rc, value, is_error, M.now_ms() - began)
  end)
  local rc = helper.rc(C.moon_redis_command(self.c, n, argv, lens,
    options.key or (n > 1 and 1 or 0), options.deadline_ms or 0, on_reply, me, out))
  if rc ~= "again" then
    waiting[id] = nil
    return rc
  end
  return rc, out[0]
end

--- Sends and waits. @return rc, value, is_error, ms, by how much of these the machine was late
function Redis:call(words, options)
  local result
  local rc = self:send(words, function(...)
    result = { ... }
  end, options)
  if rc ~= "again" then
    return rc
  end
  local is_there, stall = M.spin_until(function()
    return result
  end)
  assert(is_there, "no answer")
  return result[1], result[2], result[3], result[4], stall
end

function Redis:eval(script, key, arguments, options)
  local n = #arguments
  local argv, lens = ffi.new("const char *[?]", n), ffi.new("size_t[?]", n)
  for i, word in ipairs(arguments) do
    argv[i - 1], lens[i - 1] = word, #word
  end
  local result
  local me = owner(function(rc, reply)
    local value, is_error
    if rc == "ok" then
      value, is_error = value_of(reply)
    end
    result = { rc, value, is_error }
  end)
  local rc = helper.rc(C.moon_redis_eval(self.c, script, helper.slice(key), n, argv, lens,
    options and options.deadline_ms or 0, on_reply, me, nil))
  if rc ~= "again" then
    return rc
  end
  assert(M.spin_until(function()
    return result
  end), "no answer")
  return result[1], result[2], result[3]
end

--- Waits until commands are answered.
function Redis:ready(ms)
  return M.spin_until(function()
    return (self:call({ "PING" }, { deadline_ms = 200 })) == "ok"
  end, ms)
end

function Redis:stats()
  return C.moon_redis_stats(self.c)
end

function Redis:close()
  C.moon_redis_free(self.c)
  self.c = nil
end

local Node = {}
Node.__index = Node

--- A node with limits of its own: memory, connection, flusher.
function M.node(url, options)
  options = options or {}
  local self = setmetatable({ region = shared.region(64 * 1048576) }, Node)
  self.counters = C.moon_counters_new(self.region, 8192)
  self.board = C.moon_limits_board_new(self.region)
  self.redis = M.redis(url, options.redis)
  local conf = ffi.new("struct moon_limits_options")
  C.moon_limits_options_init(conf)
  conf.flush_ms = options.flush_ms or 50
  conf.deadline_ms = options.deadline_ms or conf.deadline_ms
  self.limits = C.moon_limits_new(net.loop(), self.redis.c, self.counters, self.board, conf)
  return self
end

function Node:status()
  local status = ffi.new("struct moon_limits_status")
  C.moon_limits_status(self.limits, status)
  return status
end

function Node:close()
  C.moon_limits_free(self.limits)
  self.redis:close()
  C.close(ffi.cast("int *", self.board)[0])
end

--- A limit: { id, calls, period_s, mode, algorithm, store_down, burst }.
function M.limit(conf)
  local spec = ffi.new("struct moon_limit_spec")
  local mode = conf.mode or "shared"
  local rc = helper.rc(C.moon_limit_spec_init(spec, helper.slice(conf.id), conf.calls,
    conf.period_s * 1000, conf.burst or 0, M.modes[mode],
    M.algorithms[conf.algorithm or mode == "shared" and "sliding_window" or "token_bucket"],
    M.downs[conf.store_down or "local"]))
  assert(rc == "ok", rc)
  return spec
end

local result = ffi.new("struct moon_limit_result")

local function copy_of(r)
  local copy = ffi.new("struct moon_limit_result[1]")
  ffi.copy(copy, r, ffi.sizeof(copy))
  return copy
end

local function plain(r)
  return { allowed = r.decision.is_allowed, remaining = tonumber(r.decision.remaining),
    retry_after_ms = tonumber(r.decision.retry_after_ms), raw = copy_of(r),
    reset_ms = tonumber(r.decision.reset_ms), source = M.sources[r.source],
    store_refusal = r.is_store_refusal }
end

--- Decides; `done(decision)` is called at once or later.
function Node:start(spec, key, done, amount)
  local me, id = owner(function(r)
    done(plain(r))
  end)
  if helper.rc(C.moon_limits_check(self.limits, spec, helper.slice(key), amount or 1, 0,
    on_decision, me, result, nil)) == "ok" then
    waiting[id] = nil
    done(plain(result))
  end
end

--- Decides and waits. @return decision, ms, by how much of these the machine was late
function Node:check(spec, key, amount)
  local got
  local began = M.now_ms()
  self:start(spec, key, function(d)
    got = d
  end, amount)
  local is_there, stall = M.spin_until(function()
    return got
  end)
  assert(is_there, "no decision")
  return got, M.now_ms() - began, stall
end

--- Gives back what a decision counted.
function Node:give_back(spec, key, decision, amount)
  C.moon_limits_give_back(self.limits, spec, helper.slice(key), amount or 1, decision.raw)
end

--- Waits until every node shares with the store and knows the others.
function M.settle(nodes, ms)
  return M.spin_until(function()
    for _, node in ipairs(nodes) do
      local status = node:status()
      if status.is_store_down or tonumber(status.nodes) ~= #nodes then
        return false
      end
    end
    return true
  end, ms)
end

return M
