-- SPDX-License-Identifier: Apache-2.0
--- Answers out of the cache, and keeps what the backend answers.
local cache = require("moongate.cache")
local expression = require("moongate.expression")

local concat, tostring = table.concat, tostring
local lookup = cache.lookup

local STALE_ON_FAILURE = 60
local TARGETED = { "CDN-Cache-Control", "Surrogate-Control" }

local M = {
  name = "cache",
  summary = "Answers out of the cache, and keeps what the backend answers (RFC 9111).",
  description = "Where it stands in `inbound` the request is looked up. A hit ends `inbound`: the "
    .. "backend is not called, the `outbound` policies run as on any answer. What the backend "
    .. "answers is kept as it came, before `outbound`.\n\n"
    .. "With `{}` the origin says what is kept and for how long: CDN-Cache-Control (RFC 9213), "
    .. "Surrogate-Control, Cache-Control, Expires, Age, Vary, "
    .. "validators, `stale-while-revalidate` and `stale-if-error`. `ttl` says it in its place; "
    .. "`no-store`, `private`, `no-cache` and `Vary` of the origin hold even then, and an answer "
    .. "with Set-Cookie is not kept.\n\n"
    .. "The key is scheme, host, normal form of the path, and the query; `vary_headers`, "
    .. "`vary_query` and `vary_by` change that. An answer to a request with Authorization is kept "
    .. "only where the origin allows it (`public`, `s-maxage`, `must-revalidate`) or `vary_by` or "
    .. "`key` keep callers apart. Of many requests for the same, one asks the backend; the others "
    .. "wait for its answer, in all workers. Each answer says in `Cache-Status` (RFC 9211) where "
    .. "it came from.",
  sections = { "inbound" },
  azure = "cache-lookup, cache-store",
  differences = "One listing does both halves. Vary is always heeded. Concurrent misses are one "
    .. "call. Objects can be purged by tag and URL, on the management listener "
    .. "(`POST /cache/purge`) and by `ctx.cache:purge`.",
  statuses = { ["504"] = "the client asked with `only-if-cached` and there is nothing" },
  example = 'p.cache { ttl = 30, vary_query = { "page" }, vary_by = "subscription" }',
}

local function names(description, more)
  local def = { type = "array", maxItems = 16, description = description,
    items = { type = "string", minLength = 1, description = "A name." } }
  for key, value in pairs(more or {}) do
    def[key] = value
  end
  return def
end

local function seconds(description, more)
  local def = { type = "number", minimum = 0, maximum = 31622400, unit = "s",
    description = description }
  for key, value in pairs(more or {}) do
    def[key] = value
  end
  return def
end

M.schema = {
  type = "object", additionalProperties = false,
  order = { "ttl", "statuses", "methods", "vary_headers", "vary_query", "vary_by", "key", "tags",
    "stale_while_revalidate", "stale_if_error", "collapse", "collapse_wait",
    "request_directives", "targeted", "heuristic", "store" },
  properties = {
    ttl = seconds("How long an answer is fresh. Without it the origin says so."),
    statuses = { type = "array", minItems = 1, maxItems = 32,
      items = { type = "integer", minimum = 200, maximum = 599, description = "A status." },
      description = "Statuses that are kept. Default: all that RFC 9111 allows; with `ttl`, 200." },
    methods = { type = "array", minItems = 1,
      items = { enum = { "GET", "HEAD" }, description = "A method." },
      description = "Methods that are answered out of the cache; HEAD is answered from what GET "
        .. "got. Default: both." },
    vary_headers = names("Request header fields that tell answers apart, beside those in Vary."),
    vary_query = names("Query parameters that tell answers apart; the others do not. Default: the "
      .. "whole query does."),
    vary_by = { enum = { "subscription", "user" },
      description = "Keeps callers apart: by subscription, or by user (`ctx.user.id`, else the "
        .. "token's `sub`)." },
    key = { type = { "string", "function" },
      description = "In place of scheme, host, path and query: a text with `${…}` or a function of "
        .. "`ctx`. With nil the request passes by the cache." },
    tags = names("Names by which what is kept here can be purged.", { maxItems = 6 }),
    stale_while_revalidate = seconds("How long past its time an answer is still given, while it is "
      .. "renewed in the background; where the origin says nothing."),
    stale_if_error = seconds("How long past its time an answer stands in when the backend fails or "
      .. "answers 500, 502, 503 or 504; where the origin says nothing. Default: 60 for what was fresh "
      .. "by the origin's word (RFC 9111 §4.2.4); with `ttl`, 0."),
    collapse = { type = "boolean", default = true,
      description = "Whether of many requests for the same only one asks the backend." },
    collapse_wait = seconds("How long a request waits for another's answer before it asks itself.",
      { default = 5 }),
    request_directives = { type = "boolean",
      description = "Whether Cache-Control of clients is heeded. Default: yes; with `ttl`, no." },
    targeted = names("Response fields that speak to this cache in place of Cache-Control and "
      .. "Expires (RFC 9213); the first that is there and can be read holds. Default: "
      .. "CDN-Cache-Control, Surrogate-Control.", { maxItems = 4 }),
    heuristic = { type = "boolean",
      description = "Whether an answer with Last-Modified and no lifetime is fresh for a tenth of "
        .. "its age, at most a day. Default: yes; with `ttl` it does not matter." },
    store = { enum = { "local", "redis" },
      description = "Where: `local`, the memory shared by this node's workers; `redis`, there as "
        .. "well, for all nodes that share the Redis of `gateway.lua`. Default: `cache.store` there." },
  },
}

local function by_subscription(ctx)
  local subscription = ctx.subscription
  return subscription and "s:" .. subscription.id or nil
end

local function by_user(ctx)
  local user = ctx.user
  local id = user and user.id
  if not id then
    local jwt = ctx.jwt
    id = jwt and jwt.sub
  end
  return id and "u:" .. tostring(id) or nil
end

local function has_head(methods)
  if not methods then
    return true
  end
  for _, method in ipairs(methods) do
    if method == "HEAD" then
      return true
    end
  end
  return false
end

--- What makes the keys of two listings differ.
local function flavour(conf)
  local parts = { conf.vary_by or "", conf.key and "key" or "" }
  for _, list in ipairs({ conf.vary_headers or {}, conf.vary_query or { "*" } }) do
    parts[#parts + 1] = concat(list, ",")
  end
  return concat(parts, "|")
end

local function or_default(value, default)
  if value == nil then
    return default
  end
  return value
end

local function lowered(list)
  local out = {}
  for i, name in ipairs(list or {}) do
    out[i] = name:lower()
  end
  return out
end

local function tiered(conf, env)
  local plan = env and env.plan or {}
  local store = conf.store or plan.cache and plan.cache.store
  if store == "redis" and not plan.redis then
    error("store: \"redis\" needs `redis` in gateway.lua", 0)
  end
  return store == "redis"
end

function M.prepare(conf, env)
  local has_ttl = conf.ttl ~= nil
  local rule = cache.rule({
    ttl = conf.ttl, statuses = conf.statuses,
    stale_while_revalidate = conf.stale_while_revalidate, stale_if_error = conf.stale_if_error,
    collapse = conf.collapse ~= false, wait = conf.collapse_wait or 5,
    stale_on_failure = (conf.stale_if_error == nil and not has_ttl) and STALE_ON_FAILURE or 0,
    targeted = lowered(conf.targeted or TARGETED),
    tiered = tiered(conf, env),
    heeds_client = or_default(conf.request_directives, not has_ttl),
    heuristic = or_default(conf.heuristic, not has_ttl),
    head = has_head(conf.methods), per_caller = conf.vary_by ~= nil or conf.key ~= nil,
    vary_headers = lowered(conf.vary_headers), vary_query = conf.vary_query,
    tags = conf.tags, flavour = flavour(conf),
  })
  local caller = conf.vary_by == "subscription" and by_subscription
    or conf.vary_by == "user" and by_user or nil
  if not caller and not conf.key then
    return { rule = rule, native = { inbound = rule } } -- the rule is all of it
  end
  return { rule = rule, caller = caller, key = conf.key and expression.required(conf.key, "key") }
end

function M.inbound(self, ctx)
  if self.native then
    return lookup(self.rule, ctx)
  end
  local caller, key
  if self.caller then
    caller = self.caller(ctx)
    if not caller and ctx.request.headers["Authorization"] then
      return -- nobody knows whose answer it would be
    end
  end
  if self.key then
    key = expression.get(self.key, ctx)
    if key == nil then
      return
    end
    key = tostring(key)
  end
  return lookup(self.rule, ctx, caller, key)
end

return M
