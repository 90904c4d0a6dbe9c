-- SPDX-License-Identifier: Apache-2.0
--- Limits calls per key, on this node or shared by all of them.
local counters = require("moongate.counters")
local expression = require("moongate.expression")
local limits = require("moongate.limits")

local M = {
  name = "rate_limit",
  summary = "Limits how many calls a caller may make in a period.",
  description = "A call that goes past the limit is refused with 429, `Retry-After` and reason "
    .. "`RateLimitExceeded`, and is not counted, so a busy caller recovers. Several limits on one "
    .. "route count apart, and a call has to pass all of them; what it was counted as by limits before "
    .. "the one that refuses it (`quota` and `limit_concurrency` too) is given back. "
    .. "Listings with the same `id` count together, in several scopes or routes.\n\n"
    .. "`mode` says where is counted: `local` in this node's memory; `shared` there too, with "
    .. "counts exchanged between nodes through Redis every few milliseconds (the bound of the "
    .. "overshoot is in `limits.md`); `exact` by one question to Redis a call. While Redis does "
    .. "not answer, no call waits longer than 25 ms, and `store_down` says what happens.\n\n"
    .. "With `count_if` the call is counted after the response, when the function says so; then "
    .. "calls under way together may go past the limit. What is left is in "
    .. '`ctx.vars["rate_limit.remaining"]`, where it was counted in '
    .. '`ctx.vars["rate_limit.source"]`.',
  sections = { "inbound" },
  azure = "rate-limit, rate-limit-by-key",
  differences = "Callers without a subscription are limited by their address instead of not at "
    .. "all; refused calls are never counted; the limit holds across nodes with a published bound; "
    .. "periods may be longer than 300 s.",
  statuses = {
    ["429"] = "`RateLimitExceeded`; `status` changes it",
    ["503"] = "`RateLimitStoreDown`, with `store_down = \"deny\"`",
  },
  example = [[p.rate_limit {
  calls = 100, period = 60, key = function(ctx) return ctx.jwt and ctx.jwt.sub end,
}]],
}

M.schema = {
  type = "object", required = { "calls", "period" }, additionalProperties = false,
  order = { "calls", "period", "key", "mode", "algorithm", "burst", "amount", "count_if",
    "store_down", "name", "headers", "remaining_header", "remaining_variable", "total_header",
    "retry_after_header", "retry_after_variable", "status", "message" },
  properties = {
    calls = { type = "integer", minimum = 1, maximum = 68719476736,
      description = "Calls allowed in a period." },
    period = { type = "number", minimum = 0.001, maximum = 34560000, unit = "s",
      description = "Length of the period in seconds." },
    key = { type = { "string", "function" },
      description = "Whose limit it is: a function of `ctx`, a text with `${…}`, or `subscription` "
        .. "or `client_ip`. Default: the subscription's id, without one the client's address. "
        .. "A call whose key is nil is limited by its address." },
    mode = { enum = { "local", "shared", "exact" },
      description = "Where is counted. Default: `shared` with `redis`, else `local`." },
    algorithm = { enum = { "token_bucket", "sliding_window", "fixed_window" },
      description = "`token_bucket` (GCRA): `burst` calls at once, then evenly. `sliding_window`: "
        .. "this window's calls and the weighted calls of the one before. `fixed_window`: begins "
        .. "anew each period. Default: `token_bucket`; with `shared`, whose counts must add up, "
        .. "`sliding_window`." },
    burst = { type = "integer", minimum = 1, maximum = 68719476736,
      description = "Calls of a token bucket that may come at once. Default: `calls`." },
    amount = { type = { "integer", "function" }, minimum = 0, default = 1,
      description = "What a call counts: a number, or a function of `ctx` that gives one." },
    count_if = { type = "function",
      description = "Function of `ctx`, asked after the response: whether the call is counted." },
    store_down = { enum = { "local", "allow", "deny" }, default = "local",
      description = "While Redis does not answer: `local` counts here against this node's part of "
        .. "the limit, `allow` lets every call in, `deny` refuses with 503." },
    name = { type = "string", minLength = 1, maxLength = 64, pattern = "^[%w%-_./: ]+$",
      description = "Name in the `RateLimit` fields. Default: made of calls and period." },
    headers = { enum = { "ratelimit", "x", "none" }, default = "ratelimit",
      description = "Fields of responses: `RateLimit` and `RateLimit-Policy` of the IETF draft, "
        .. "the old `X-RateLimit-Limit`, `-Remaining` and `-Reset`, or none." },
    remaining_header = { type = "string", minLength = 1,
      description = "Further response field with what is left." },
    remaining_variable = { type = "string", minLength = 1,
      description = "Variable in `ctx.vars` with what is left." },
    total_header = { type = "string", minLength = 1,
      description = "Further response field with `calls`." },
    retry_after_header = { type = "string", minLength = 1, default = "Retry-After",
      description = "Field of a refusal with the seconds to wait." },
    retry_after_variable = { type = "string", minLength = 1,
      description = "Variable in `ctx.vars` with the seconds to wait." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 429,
      description = "Status of a refusal." },
    message = { type = "string", default = "rate limit exceeded",
      description = "What a refused client is told." },
  },
}

--- Whose limit a call counts in, as `limit:admit` takes it: a text; true for the caller's
--- subscription; nil for the client's address.
local function key_function(key)
  local prepared = expression.required(key, "key")
  return function(ctx)
    local value = expression.get(prepared, ctx)
    if value == nil or type(value) == "string" then
      return value
    end
    return tostring(value)
  end
end

local function period_text(period)
  return (("%.3f"):format(period):gsub("%.?0+$", ""))
end

--- What the runtime does of it without Lua.
local function acts_of(self, conf)
  if not self.is_plain or self.takes_amount_of or self.remaining_variable then
    return nil
  end
  local key = self.key
  if self.takes_key_of then
    key = expression.program(conf.key)
  end
  local teller = self.limit:teller(self.policy_field, self.limit_field)
  return {
    inbound = (not self.takes_key_of or key) and self.limit:gate(key, self.amount) or nil,
    outbound = teller, on_error = teller,
  }
end

function M.prepare(conf, env)
  local name = conf.name or ("%d-per-%ss"):format(conf.calls, period_text(conf.period))
  if conf.burst and conf.algorithm and conf.algorithm ~= "token_bucket" then
    error("burst: only a token_bucket has one", 0)
  end
  local ok, limit = pcall(counters.limiter, {
    id = env.id, calls = conf.calls, period = conf.period, burst = conf.burst,
    mode = conf.mode or env.plan and env.plan.redis and "shared" or nil,
    algorithm = conf.algorithm or conf.burst and "token_bucket" or nil,
    store_down = conf.store_down, gives_back = true,
  })
  if not ok then
    error((tostring(limit):gsub("^.-counters%.limiter: ", "")), 0)
  end
  local is_keyed = conf.key ~= nil and conf.key ~= "subscription" and conf.key ~= "client_ip"
  local self = {
    limit = limit, takes_key_of = is_keyed and key_function(conf.key),
    key = not is_keyed and conf.key ~= "client_ip" or nil,
    amount = conf.amount or 1, takes_amount_of = type(conf.amount) == "function" and conf.amount,
    count_if = conf.count_if,
    headers = conf.headers or "ratelimit",
    is_plain = (conf.headers == nil or conf.headers == "ratelimit") and not conf.remaining_header
      and not conf.total_header and not conf.count_if,
    has_fields = conf.headers ~= "none" or conf.remaining_header ~= nil or conf.total_header ~= nil,
    policy_field = ('"%s";q=%d;w=%d'):format(name, conf.calls, math.ceil(conf.period)),
    limit_field = ('"%s";r='):format(name),
    remaining_header = conf.remaining_header, remaining_variable = conf.remaining_variable,
    total_header = conf.total_header, total = tostring(conf.calls),
    retry_after_header = conf.retry_after_header or "Retry-After",
    retry_after_variable = conf.retry_after_variable,
    status = conf.status or 429, message = conf.message or "rate limit exceeded",
    key_var = "rate_limit." .. env.id .. ".key",
  }
  self.native = acts_of(self, conf)
  return self
end

local function amount_of(self, ctx)
  if not self.takes_amount_of then
    return self.amount
  end
  local amount = tonumber(self.takes_amount_of(ctx))
  if not amount or amount < 0 then
    error("rate_limit: amount must give a number from 0 on, got " .. tostring(amount), 0)
  end
  return math.floor(amount)
end

--- Several limits share the fields of the draft: their items are joined.
local function join(headers, name, item)
  local before = headers[name]
  headers[name] = before and before .. ", " .. item or item
end

local function add_fields(self, headers, remaining, reset)
  if self.headers == "ratelimit" then
    join(headers, "RateLimit-Policy", self.policy_field)
    join(headers, "RateLimit", self.limit_field .. remaining .. ";t=" .. reset)
  elseif self.headers == "x" then
    headers["X-RateLimit-Limit"] = self.total
    headers["X-RateLimit-Remaining"] = tostring(remaining)
    headers["X-RateLimit-Reset"] = tostring(reset)
  end
  if self.remaining_header then
    headers[self.remaining_header] = tostring(remaining)
  end
  if self.total_header then
    headers[self.total_header] = self.total
  end
end

local function refuse(self, ctx, retry_after, is_store_refusal)
  local wait = math.max(1, retry_after)
  local fields = { [self.retry_after_header] = tostring(wait) }
  if self.retry_after_variable then
    ctx.vars[self.retry_after_variable] = wait
  end
  if is_store_refusal then
    return limits.refuse(503, "RateLimitStoreDown", "the limit cannot be checked now", fields)
  end
  add_fields(self, fields, 0, wait)
  return limits.refuse(self.status, "RateLimitExceeded", self.message, fields)
end

function M.inbound(self, ctx)
  local key = self.key
  if self.takes_key_of then
    key = self.takes_key_of(ctx)
  end
  local amount = self.count_if and 0 or amount_of(self, ctx)
  local retry_after, is_store_refusal = self.limit:admit(ctx, key, amount)
  if self.remaining_variable then
    ctx.vars[self.remaining_variable] = ctx.vars["rate_limit.remaining"]
  end
  if retry_after then
    return refuse(self, ctx, retry_after, is_store_refusal)
  end
  if self.count_if then
    ctx.vars[self.key_var] = { key = key }
  end
end

--- After the response: counts what had to wait for it. What is left then.
local function count_later(self, ctx, remaining, reset)
  local kept = ctx.vars[self.key_var]
  ctx.vars[self.key_var] = nil -- on_error may follow outbound
  if not kept or not self.count_if(ctx) then
    return remaining, reset
  end
  return self.limit:settle(ctx, kept.key, amount_of(self, ctx))
end

--- Tells the client what is left of its limit.
local function finish(self, ctx)
  if self.is_plain then
    self.limit:tell(ctx, self.policy_field, self.limit_field)
    return
  end
  local remaining, reset = self.limit:left(ctx)
  if not remaining then
    return -- refused here, never reached, or told already
  end
  if self.count_if then
    remaining, reset = count_later(self, ctx, remaining, reset)
  end
  local response = ctx.response
  if response and self.has_fields then
    add_fields(self, response.headers, remaining, reset)
  end
end

M.outbound = finish
M.on_error = finish

return M
