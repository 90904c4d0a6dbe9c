-- SPDX-License-Identifier: Apache-2.0
--- Limits calls and bytes of a caller in long periods, kept over restarts.
local calendar = require("moongate.calendar")
local clock = require("moongate.clock")
local counters = require("moongate.counters")
local expression = require("moongate.expression")
local limits = require("moongate.limits")
local tally = require("moongate.tally")

local floor, max = math.floor, math.max

local M = {
  name = "quota",
  summary = "Limits how many calls and bytes a caller may have in a period, kept over restarts.",
  description = "Past the limit calls are refused with 403, `Retry-After` and reason "
    .. "`QuotaExceeded`; calls that this or another limit refuses are not counted, nor their bytes. "
    .. "Bytes are those of the bodies in both directions, of WebSockets too, as the client sent and got "
    .. "them, known when a call is over: the calls under way when the limit is reached end, the next is "
    .. "refused. Periods are seconds from `anchor` on, or calendar days and months "
    .. "in `timezone`.\n\n"
    .. "With `redis` all nodes share the counts. Without it they are kept in the file "
    .. "`quota-NAME.tally` of the state directory (`MOONGATE_STATE_DIR`, else "
    .. "`$XDG_STATE_HOME/moongate`, else `~/.local/state/moongate`), which all workers map: what was "
    .. "counted is there after any restart. A count belongs to the listing's `id`: listings with the "
    .. "same one count together, and without one it is the listing's place, so that the count begins "
    .. "anew when something is put before it.",
  sections = { "inbound" },
  azure = "quota, quota-by-key",
  differences = "Legal in every scope; callers without a subscription are counted by their "
    .. "address; days and months of a time zone; bytes instead of kilobytes; of several worker "
    .. "processes each call is counted exactly.",
  statuses = { ["403"] = "`QuotaExceeded`; `status` changes it" },
  example = 'p.quota { calls = 10000, bytes = 10737418240, period = "month", timezone = "Europe/Rome" }',
}

M.schema = {
  type = "object", required = { "period" }, additionalProperties = false,
  order = { "calls", "bytes", "period", "timezone", "anchor", "key", "amount", "count_if", "status",
    "message" },
  properties = {
    calls = { type = "integer", minimum = 1, maximum = 68719476736,
      description = "Calls allowed in a period." },
    bytes = { type = "integer", minimum = 1, maximum = 9000000000000000, unit = "bytes",
      description = "Bytes of bodies allowed in a period." },
    period = { oneOf = { { type = "integer", minimum = 0, maximum = 31622400, unit = "s" },
        { enum = { "day", "month" } } },
      description = "Length of the period in seconds (0: it never renews), or `day` or `month`." },
    timezone = { type = "string", minLength = 1, default = "UTC",
      description = "Whose days and months: `UTC`, an offset like `+02:00`, or a name like "
        .. "`Europe/Rome`." },
    anchor = { type = "string", default = "1970-01-01T00:00:00Z",
      description = "When a period of seconds began; the others follow it." },
    key = { type = { "string", "function" },
      description = "Whose quota it is: a function of `ctx`, or a text with `${…}`. Default: the "
        .. "subscription's id, without one the client's address." },
    amount = { type = { "integer", "function" }, minimum = 0, default = 1,
      description = "What a call counts: a number, or a function of `ctx`." },
    count_if = { type = "function",
      description = "Function of `ctx`, asked when the call is over: whether it is counted." },
    status = { type = "integer", minimum = 400, maximum = 599, default = 403,
      description = "Status of a refusal." },
    message = { type = "string", default = "quota exceeded",
      description = "What a refused client is told." },
  },
}

local NEVER = 9e15
local MOST = 68719476736 -- what a limiter counts to; more bytes than that are counted in KiB
local KIB = 1024
local LONGEST = 400 * 86400

local function key_function(key)
  local prepared = key and expression.required(key, "key")
  return function(ctx)
    local value
    if prepared then
      value = expression.get(prepared, ctx)
    else
      local subscription = ctx.subscription
      value = subscription and "s:" .. subscription.id
    end
    return value ~= nil and tostring(value) or "ip:" .. ctx.request.client_ip
  end
end

--- Where the counts are kept without Redis.
local function state_file(env)
  local get = env.source.env
  local dir = get("MOONGATE_STATE_DIR")
  if not dir or dir == "" then
    local home = get("XDG_STATE_HOME")
    if not home or home == "" then
      home = (get("HOME") or "/var/lib") .. "/.local/state"
    end
    dir = home .. "/moongate"
  end
  return ("%s/quota-%s.tally"):format(dir, (env.plan.name:gsub("[^%w_-]", "_")))
end

local function open_tally(env)
  local path = state_file(env)
  local file, err = tally.open(path)
  if not file then
    error(("the counts cannot be kept: %s; MOONGATE_STATE_DIR names another folder"):format(err), 0)
  end
  return file
end

-- A store keeps windows that begin at multiples of their length: the shortest is taken that holds this
-- period, so that no key is kept much longer than it must.
local function enclosing(from, to)
  for length = to - from, LONGEST, to - from do
    if floor(from / length) == floor((to - 1) / length) then
      return length
    end
  end
  return LONGEST
end

-- Periods of a few lengths follow one another: each has its limiters, which live as long as the
-- policy does. Requests under way hold on to those that counted them.
local function limits_of(self, from, to)
  local period = to < NEVER and enclosing(from, to) or 0
  local own = self.limits[period]
  if not own then
    local function limiter(what, calls)
      return calls and counters.limiter({
        id = self.id .. " " .. what, calls = calls, period = period, mode = "exact",
        algorithm = "fixed_window", store_down = "local", gives_back = true,
      })
    end
    own = { calls = limiter("calls", self.calls),
      bytes = limiter("bytes", self.bytes and floor(self.bytes / self.unit)) }
    self.limits[period] = own
  end
  return own
end

--- The period that a time lies in.
local function window_of(self, now)
  local from, to = self.from, self.to
  if from and now >= from and now < to then
    return from, to
  end
  if self.zone then
    from, to = self.zone:window(self.period, now)
  elseif self.period == 0 then
    from, to = 0, NEVER
  else
    from = self.anchor + floor((now - self.anchor) / self.period) * self.period
    to = from + self.period
  end
  self.from, self.to = from, to
  self.now_limits = self.is_shared and limits_of(self, from, to)
  return from, to
end

function M.prepare(conf, env)
  if not conf.calls and not conf.bytes then
    error("calls or bytes is needed", 0)
  end
  local self = {
    id = env.id, calls = conf.calls, bytes = conf.bytes, period = conf.period,
    key = key_function(conf.key), amount = conf.amount or 1, count_if = conf.count_if,
    status = conf.status or 403, message = conf.message or "quota exceeded",
    unit = conf.bytes and conf.bytes > MOST and KIB or 1, limits = {},
    limits_var = "quota." .. env.id .. ".limits",
    key_var = "quota." .. env.id .. ".key", from_var = "quota." .. env.id .. ".from",
  }
  if type(conf.period) == "string" then
    local zone, err = calendar.zone(conf.timezone)
    if not zone then
      error("timezone: " .. err, 0)
    end
    self.zone = zone
  else
    self.anchor = calendar.parse(conf.anchor or "1970-01-01")
    if not self.anchor then
      error("anchor: expected a time like 2026-01-31T00:00:00Z", 0)
    end
  end
  self.is_shared = env.plan.redis ~= nil
  if not self.is_shared then
    self.tally = open_tally(env)
  end
  return self
end

local function refuse(self, to, now)
  local fields
  if to < NEVER then
    fields = { ["Retry-After"] = tostring(max(1, math.ceil(to - now))) }
  end
  return limits.refuse(self.status, "QuotaExceeded", self.message, fields)
end

local function amount_of(self, ctx)
  local amount = self.amount
  if type(amount) == "function" then
    amount = tonumber(amount(ctx))
    if not amount or amount < 0 then
      error("quota: amount must give a number from 0 on", 0)
    end
  end
  return floor(amount)
end

local function name_of(self, key, from)
  return self.id .. "\0" .. key .. "\0" .. from
end

local function take_shared(self, key, from, amount)
  local own, allowed = self.now_limits, true
  if own.bytes then
    allowed = own.bytes:check(name_of(self, key, from), 0)
  end
  if allowed and own.calls then
    allowed = own.calls:check(name_of(self, key, from), amount)
  end
  return allowed
end

function M.inbound(self, ctx)
  local now = clock.now()
  local from, to = window_of(self, now)
  local key = self.key(ctx)
  local allowed
  local amount = self.count_if and 0 or amount_of(self, ctx)
  if self.is_shared then
    allowed = take_shared(self, key, from, amount)
  else
    -- A call that costs nothing, or whose cost is known later, needs room for one.
    local probe = amount == 0 and self.calls and self.calls - 1 or self.calls
    allowed = tally.add(self.tally, name_of(self, key, from), to, amount, 0, probe or -1,
      self.bytes or -1)
    if allowed == nil then
      ctx.log:warning("quota: there is no room for another key, the call is not counted")
      return nil
    end
  end
  if not allowed then
    return refuse(self, to, now)
  end
  if self.count_if or self.bytes then
    local vars = ctx.vars
    vars[self.key_var], vars[self.from_var], vars[self.limits_var] = key, from, self.now_limits
  end
end

--- Before the answer goes: whether the call counts, where the response decides.
local function count_call(self, ctx)
  local vars = ctx.vars
  local key, from = vars[self.key_var], vars[self.from_var]
  if not key or not self.count_if or vars[self.key_var .. "ed"] then
    return
  end
  vars[self.key_var .. "ed"] = true
  if not self.count_if(ctx) then
    return
  end
  local amount = amount_of(self, ctx)
  if self.is_shared then
    local limit = vars[self.limits_var].calls
    if limit then
      limit:charge(name_of(self, key, from), amount)
    end
  else
    tally.add(self.tally, name_of(self, key, from), self.to, amount, 0)
  end
end

M.outbound, M.on_error = count_call, count_call

--- When the call is over its bytes are known.
function M.log(self, ctx)
  local vars = ctx.vars
  local key, from = vars[self.key_var], vars[self.from_var]
  local bytes = key and self.bytes and not counters.are_given_back() and ctx.bytes
  if bytes and bytes > 0 and not self.is_shared then
    tally.add(self.tally, name_of(self, key, from), self.to, 0, bytes)
  elseif bytes and bytes > 0 then
    vars[self.limits_var].bytes:note(name_of(self, key, from), math.ceil(bytes / self.unit))
  end
end

return M
