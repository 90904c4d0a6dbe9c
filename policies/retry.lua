-- SPDX-License-Identifier: Apache-2.0
--- Runs the policies inside it again while a condition holds.
local blocks = require("moongate.blocks")
local expression = require("moongate.expression")

local M = {
  name = "retry",
  summary = "Runs the policies inside it, and again while a condition holds.",
  description = "Most often they are a `forward_request`. They run once, then up to `count` "
    .. "times more while `condition` holds or the outcome is in `on`. Pauses: `interval` alone "
    .. "is fixed; with `delta` it is interval + (n - 1) x delta; with `max_interval` too it is "
    .. "interval + (2^n - 1) x delta x a random factor of 0.8 to 1.2, at most `max_interval`. "
    .. "Where the call itself fails, `ctx.response` is nil and `ctx.error.reason` says why. The "
    .. "request's body is kept in memory, so that it can be sent again.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "retry",
  differences = "The body is kept without being asked to. A call is made again only for methods "
    .. "that are idempotent, unless `only_idempotent = false`. `on` lists what is to be tried "
    .. "again.",
  example = [[p.retry { count = 3, interval = 0.2, on = { 502, "connect" }, p.forward_request {} }]],
}

M.schema = {
  type = "object", required = { "count" }, additionalProperties = false,
  order = { "count", "condition", "on", "interval", "delta", "max_interval", "first_fast_retry",
    "only_idempotent" },
  properties = {
    count = { type = "integer", minimum = 1, maximum = 50, description = "Further runs at most." },
    condition = { type = { "string", "function" },
      description = "Whether to run again: a function of `ctx`, or a Lua expression." },
    on = { type = "array", minItems = 1,
      items = { oneOf = { { type = "integer", minimum = 100, maximum = 599 },
        { enum = { "connect", "timeout" } } } },
      description = "What is tried again: statuses, `connect` (no answer came), `timeout`." },
    interval = { type = "number", minimum = 0, maximum = 3600, default = 0, unit = "s",
      description = "Seconds before a further run." },
    delta = { type = "number", minimum = 0, maximum = 3600, unit = "s",
      description = "Seconds by which the pause grows." },
    max_interval = { type = "number", minimum = 0, maximum = 3600, unit = "s",
      description = "Longest pause in seconds; with it pauses grow exponentially. Needs `delta`." },
    first_fast_retry = { type = "boolean", default = false,
      description = "Whether the first further run comes without a pause." },
    only_idempotent = { type = "boolean", default = true,
      description = "Whether a call of the backend is made again only for GET, HEAD, OPTIONS, "
        .. "TRACE, PUT and DELETE." },
  },
}

--- The policies inside stand in the list part.
M.split = blocks.split

function M.needs(_, listing)
  return { request_body = listing.forwards }
end

local REASONS = { connect = "BackendConnectionFailure", timeout = "Timeout" }

function M.prepare(conf, env)
  if not conf.condition and not conf.on then
    error("condition or on is needed", 0)
  elseif conf.max_interval and not conf.delta then
    error("max_interval needs delta", 0)
  end
  local condition, err = conf.condition
  if type(condition) == "string" then
    condition, err = expression.compile(condition, "condition")
    if not condition then
      error("the condition " .. err, 0)
    end
  end
  local statuses, reasons = {}, {}
  for _, one in ipairs(conf.on or {}) do
    if REASONS[one] then
      reasons[REASONS[one]] = true
    else
      statuses[one] = true
    end
  end
  return {
    blocks = env.blocks[1], count = conf.count, condition = condition, statuses = statuses,
    reasons = reasons, interval = conf.interval or 0, delta = conf.delta,
    max_interval = conf.max_interval, is_first_fast = conf.first_fast_retry or false,
    forwards = env.forwards,
    only_idempotent = env.forwards and conf.only_idempotent ~= false,
  }
end

local IDEMPOTENT = { GET = true, HEAD = true, OPTIONS = true, TRACE = true, PUT = true,
  DELETE = true }

--- Pause before the n-th further run, in seconds.
local function pause(self, n)
  if self.is_first_fast and n == 1 then
    return 0
  elseif self.max_interval then
    local grown = (2 ^ n - 1) * self.delta * (0.8 + 0.4 * math.random())
    return math.min(self.interval + grown, self.max_interval)
  elseif self.delta then
    return self.interval + (n - 1) * self.delta
  end
  return self.interval
end
M.pause = pause

local function is_to_be_repeated(self, ctx, r)
  local reason = r and r.refuse and r.refuse.reason
  if r and not reason then
    return false -- an answer of a policy's own ends it
  end
  local response = ctx.response
  if reason and self.reasons[reason] or response and self.statuses[response.status] then
    return true
  elseif reason and reason ~= "BackendErrorStatus"
    and not (ctx.error and ctx.error.reason == reason)
  then
    return false -- a policy refused
  end
  return self.condition ~= nil and self.condition(ctx) and true or false
end

local function acting(section)
  return function(self, ctx)
    local run = self.blocks[section]
    if not run then
      return
    end
    local n = 0
    while true do
      local r = run(ctx)
      n = n + 1
      if n > self.count or not is_to_be_repeated(self, ctx, r)
        or self.only_idempotent and not IDEMPOTENT[ctx.request.method]
      then
        return r
      end
      if self.forwards then
        ctx:drop_response()
      end
      local wait = pause(self, n)
      if wait > 0 then
        ctx:sleep(wait)
      end
    end
  end
end

blocks.act(M, acting)

M.follow = blocks.follow

return M
