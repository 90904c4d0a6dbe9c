-- SPDX-License-Identifier: Apache-2.0
--- Lets only so many requests be inside at once.
local blocks = require("moongate.blocks")
local expression = require("moongate.expression")
local leases = require("moongate.leases")
local limits = require("moongate.limits")

local M = {
  name = "limit_concurrency",
  summary = "Lets only so many requests of a key run the policies inside it at once.",
  description = "Most often they are a `forward_request`, which is done when the head of the answer "
    .. "has come. With no policies inside, the place is held from here until the response is out: for "
    .. "long bodies, event streams and WebSockets. What a request holds is given back when it ends, "
    .. "and what a dead worker held when it is found dead, at once.\n\n"
    .. "`mode` says over what is counted: `local` over the workers of this node, `shared` over all "
    .. "nodes, by one question to Redis a request. What a dead node held comes free after three "
    .. "seconds. While Redis does not answer, each node counts for itself, and no request waits "
    .. "longer than Redis's own deadline. With `queue`, so many more wait for `queue_timeout` "
    .. "seconds, in each node.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "limit-concurrency",
  differences = "Counted over all nodes; a bounded queue; 503 where waiting was in vain.",
  statuses = { ["429"] = "`ConcurrencyLimitExceeded`: all places are taken, and the queue is full",
    ["503"] = "`ConcurrencyQueueTimeout`: no place came free in time" },
  example = [[p.limit_concurrency { key = "orders", max = 20, queue = 50, queue_timeout = 2,
  p.forward_request {} }]],
}

M.schema = {
  type = "object", required = { "max" }, additionalProperties = false,
  order = { "key", "max", "mode", "queue", "queue_timeout" },
  properties = {
    key = { type = { "string", "function" },
      description = "Whose places: a text with `${…}`, or a function of `ctx`. Default: this "
        .. "listing's own." },
    max = { type = "integer", minimum = 1, maximum = 1000000, description = "Places." },
    mode = { enum = { "local", "shared" },
      description = "Over what is counted. Default: `shared` with `redis`, else `local`." },
    queue = { type = "integer", minimum = 0, maximum = 1000000, default = 0,
      description = "Requests that may wait for a place." },
    queue_timeout = { type = "number", minimum = 0.01, maximum = 3600, default = 5, unit = "s",
      description = "How long they wait." },
  },
}

--- The policies inside stand in the list part.
M.split = blocks.split

function M.prepare(conf, env)
  local inner = env.blocks[1]
  local has_redis = env.plan ~= nil and env.plan.redis ~= nil
  if conf.mode == "shared" and not has_redis then
    error("mode: the configuration has no redis to share by", 0)
  end
  return { is_shared = has_redis and conf.mode ~= "local",
    key = expression.required(conf.key or env.id, "key"), max = conf.max,
    queue = conf.queue or 0, timeout = conf.queue_timeout or 5, blocks = inner,
    holds = next(inner) == nil }
end

local function acting(section)
  return function(self, ctx)
    local key = tostring(expression.get(self.key, ctx))
    local id, why = leases.acquire(key, self.max, self.queue, self.timeout,
      self.is_shared)
    if not id then
      if why == "timeout" then
        return limits.refuse(503, "ConcurrencyQueueTimeout", "no place came free in time")
      end
      return limits.refuse(429, "ConcurrencyLimitExceeded", "too many requests at once")
    elseif self.holds then
      return nil
    end
    local run = self.blocks[section]
    local r = run and run(ctx)
    leases.release(id)
    return r
  end
end

blocks.act(M, acting)

M.follow = blocks.follow

return M
