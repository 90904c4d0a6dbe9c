-- SPDX-License-Identifier: Apache-2.0
--- Flattens sites, routes and APIs to leaves: one per host, path and method, with its chains.

local chain = require("moongate.chain")
local field_kinds = require("moongate.config.fields")
local listings = require("moongate.config.listings")
local normalize = require("moongate.config.normalize")
local router = require("moongate.router")

local M = {}
M.__index = M

---@class moongate.Flattening what is needed to make leaves
---@field errors table
---@field warnings table
---@field apis table[] checked APIs, by name, each with its scopes
---@field backend_index table<string, integer>
---@field gateway moongate.Scope

function M.new(fields)
  fields.leaves, fields.chains = {}, {}
  fields.composed = {}
  return setmetatable(fields, M)
end

local function merge_limits(...)
  local out
  for i = 1, select("#", ...) do
    local limits = select(i, ...)
    if limits then
      out = out or {}
      for name, value in pairs(normalize.milliseconds(limits)) do
        out[name] = value
      end
    end
  end
  return out
end

local function copied(fields)
  local out = {}
  for key, value in pairs(fields) do
    out[key] = value
  end
  return out
end

--- The first of several switches that is set; the innermost comes first.
local function first_set(default, ...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil then
      return value
    end
  end
  return default
end

--- What the runtime wants to know of a `compression`; nothing where it is off.
local function compression_of(given, streaming)
  if not given or streaming then
    return nil
  end
  local conf = type(given) == "table" and given or {}
  local out = {
    gzip_level = conf.gzip_level or 5, brotli_quality = conf.brotli_quality or 4,
    min_bytes = conf.min_bytes or 1024, types = conf.types or field_kinds.COMPRESSED_TYPES,
  }
  for _, coding in ipairs(conf.codings or { "br", "gzip" }) do
    out[coding == "br" and "brotli" or "gzip"] = true
  end
  return out
end

local function merge_needs(entries_of)
  local needs = { request_body = false, response_body = false, response_text = false }
  local who
  for _, section in ipairs(listings.SECTIONS) do
    for _, entry in ipairs(entries_of[section]) do
      local own = entry.listing.needs
      local reads_text = own.response_text == true or own.response_body == true
      needs.response_text = needs.response_text or reads_text
      if own.request_body or own.response_body then
        who = who or entry.listing
        needs.request_body = needs.request_body or own.request_body == true
        needs.response_body = needs.response_body or (own.response_body or false) ~= false
        if own.max_body_bytes then
          needs.max_body_bytes = math.max(needs.max_body_bytes or 0, own.max_body_bytes)
        end
      end
    end
  end
  return needs, who
end

local scope_rank = { gateway = 1, site = 2, route = 3, product = 4, api = 5, operation = 6 }

--- Of the listings that call the backend, those of the innermost scope are left: a scope that says
--- how the backend is called replaces what the outer ones say.
local function innermost_forward(entries)
  local most = 0
  for _, entry in ipairs(entries) do
    if entry.listing.forwards then
      most = math.max(most, scope_rank[entry.listing.scope])
    end
  end
  local out = {}
  for _, entry in ipairs(entries) do
    if not entry.listing.forwards or scope_rank[entry.listing.scope] == most then
      out[#out + 1] = entry
    end
  end
  return out
end

local function can_merge(entry)
  local listing = entry.listing
  return listing.given and listing.section == "inbound" and not listing.when and not entry.product
end

--- Policies that merge run once: their listings in nested scopes become one, where the first of
--- them would run.
local function merge_scopes(lists, entries)
  local by_policy = {}
  for _, entry in ipairs(entries.inbound) do
    if can_merge(entry) then
      local list = by_policy[entry.listing.policy] or {}
      by_policy[entry.listing.policy] = list
      list[#list + 1] = entry.listing
    end
  end
  local instead = {}
  for _, list in pairs(by_policy) do
    local at = {}
    for i, listing in ipairs(list) do
      at[listing] = i
    end
    table.sort(list, function(a, b)
      local ra, rb = scope_rank[a.scope], scope_rank[b.scope]
      if ra == rb then
        return at[a] < at[b]
      end
      return ra < rb
    end)
    local one = #list > 1 and lists:merge(list)
    for _, listing in ipairs(one and list or {}) do
      instead[listing] = one
    end
  end
  if not next(instead) then
    return
  end
  for section, list in pairs(entries) do
    local out, done = {}, {}
    for _, entry in ipairs(list) do
      local one = can_merge(entry) and instead[entry.listing]
      if not one then
        out[#out + 1] = entry
      elseif not done[one] then
        done[one] = true
        out[#out + 1] = { listing = one }
      end
    end
    entries[section] = out
  end
end

--- Entries less the markers.
local function running(entries)
  local out = {}
  for _, entry in ipairs(entries) do
    if not entry.listing.is_marker then
      out[#out + 1] = entry
    end
  end
  return out
end

--- Chains for a list of scopes; made once for equal lists. Products come in as a list.
function M:compose(scopes)
  local parts = {}
  for i, scope in ipairs(scopes) do
    parts[i] = scope.key or tostring(scope)
  end
  local key = table.concat(parts, "|")
  local done = self.composed[key]
  if not done then
    local entries = chain.compose_all(scopes)
    merge_scopes(self.listings, entries)
    entries.backend = innermost_forward(entries.backend)
    local built = {}
    for _, section in ipairs(listings.ACTS) do
      built[section] = chain.build(running(entries[section]), section, self.chains)
    end
    local needs, who = merge_needs(entries)
    done = { entries = entries, built = built, needs = needs, needs_who = who }
    self.composed[key] = done
  end
  return done
end

function M:add(leaf, composed)
  leaf.id = #self.leaves + 1
  leaf.entries, leaf.built, leaf.needs = composed.entries, composed.built, composed.needs
  self.leaves[leaf.id] = leaf
  if leaf.streaming and composed.needs_who then
    local who = composed.needs_who
    self.errors:add({
      file = leaf.source.file, line = leaf.source.line, path = leaf.source.path,
      message = ("its bodies must stream, and policy %q (%s:%s) keeps a body"):format(
        who.policy, who.file, who.line or "?"
      ),
    })
  end
  return leaf
end

--- Only the cors listings of a chain: what a preflight meets.
local function cors_only(composed)
  local entries = {}
  for _, entry in ipairs(composed.entries.inbound) do
    if entry.listing.policy == "cors" then
      entries[#entries + 1] = entry
    end
  end
  return entries
end

local function methods_of(operation)
  return type(operation.method) == "table" and operation.method or { operation.method }
end

--- Paths under which an operation is reached: "/" stands for the API's path with and without slash.
local function paths_of(api_path, path)
  local prefix = api_path:gsub("/+$", "")
  if path == "/" then
    return prefix == "" and { "/" } or { prefix, prefix .. "/" }
  end
  return { prefix .. path }
end

--- Whether an API's path lies within a route's pattern.
local function lies_within(api_path, pattern)
  local want, have = router.segments(pattern), router.segments((api_path:gsub("(.)/+$", "%1")))
  for i, segment in ipairs(want) do
    if segment == "*" and i == #want then
      return true
    elseif not have[i] or segment ~= have[i] and not (segment:find("^{") and have[i] ~= "") then
      return false
    end
  end
  return #want == #have
end

--- Leaves of one API at one of its paths.
function M:add_api(site, route, host, api, api_path, base)
  local outer = { self.gateway, site.scope, route.scope }
  if api.subscription_scope then
    outer[#outer + 1] = api.subscription_scope
  end
  if #api.product_scopes > 0 then
    outer[#outer + 1] = api.product_scopes
  end
  if api.validation_scope then
    outer[#outer + 1] = api.validation_scope
  end
  outer[#outer + 1] = api.scope
  local taken, preflights = {}, {}
  for _, operation in ipairs(api.operation_list) do
    local scopes = {}
    for i, scope in ipairs(outer) do
      scopes[i] = scope
    end
    scopes[#scopes + 1] = operation.scope
    local composed = self:compose(scopes)
    for _, path in ipairs(paths_of(api_path, operation.path)) do
      for _, method in ipairs(methods_of(operation)) do
        local shape = path:gsub("{[^}]*}", "{}")
        taken[shape .. " " .. method] = true
        local leaf = copied(base)
        leaf.host, leaf.path, leaf.method, leaf.kind = host, path, method, "backend"
        leaf.backend = self.backend_index[operation.backend or api.backend]
        leaf.api, leaf.operation = api.name, operation.name
        -- Where the runtime finds the key, before any policy asks for `ctx.subscription`
        leaf.subscription = api.subscription
        leaf.access_log = first_set(base.access_log, operation.access_log, api.access_log)
        leaf.streaming = first_set(base.streaming, operation.streaming, api.streaming)
        leaf.limits = merge_limits(site.limits, route.limits, api.limits, operation.limits)
        leaf.compression = compression_of(first_set(base.compression_given, operation.compression,
          api.compression), leaf.streaming)
        leaf.source = operation.source
        self:add(leaf, composed)
        local cors = cors_only(composed)
        if #cors > 0 and not preflights[shape] then
          preflights[shape] = { leaf = leaf, cors = cors, composed = composed }
        end
      end
    end
  end
  self:add_preflights(preflights, taken)
  if #api.operation_list > 0 then
    api.is_reached = true
  end
end

--- What a preflight meets where no operation takes OPTIONS: the cors policies alone.
local function preflight_only(like, cors, chains)
  local entries, leaf = {}, copied(like)
  for _, section in ipairs(listings.SECTIONS) do
    entries[section] = {}
  end
  entries.inbound = cors
  leaf.kind, leaf.operation, leaf.backend = "not_found", nil, nil
  return leaf, {
    entries = entries, built = { inbound = chain.build(cors, "inbound", chains) },
    needs = { request_body = false, response_body = false },
  }
end

--- What OPTIONS meets where an operation takes every method: the cors policies before all others, as
--- a preflight brings neither key nor token.
local function preflight_first(like, cors, composed, chains)
  local is_cors, entries, inbound = {}, copied(composed.entries), {}
  for i, entry in ipairs(cors) do
    inbound[i], is_cors[entry] = entry, true
  end
  for _, entry in ipairs(composed.entries.inbound) do
    inbound[#inbound + 1] = not is_cors[entry] and entry or nil
  end
  entries.inbound = inbound
  local out = copied(composed)
  out.entries, out.built = entries, copied(composed.built)
  out.built.inbound = chain.build(running(inbound), "inbound", chains)
  return copied(like), out
end

--- Where an operation has a cors policy and nobody takes OPTIONS by name, a preflight meets that
--- policy first.
function M:add_preflights(preflights, taken)
  local shapes = {}
  for shape in pairs(preflights) do
    shapes[#shapes + 1] = shape
  end
  table.sort(shapes)
  for _, shape in ipairs(shapes) do
    local one = preflights[shape]
    if not taken[shape .. " OPTIONS"] then
      local leaf, composed
      if taken[shape .. " *"] then
        leaf, composed = preflight_first(one.leaf, one.cors, one.composed, self.chains)
      else
        leaf, composed = preflight_only(one.leaf, one.cors, self.chains)
      end
      leaf.method = "OPTIONS"
      self:add(leaf, composed)
    end
  end
end

--- Leaves of a route with `apis`.
function M:add_apis(site, route, host, base)
  local names
  if type(route.apis) == "table" then
    names = {}
    for _, name in ipairs(route.apis) do
      names[name] = true
    end
  end
  local found = false
  for _, api in ipairs(self.apis) do
    if not names or names[api.name] then
      for _, path in ipairs(api.paths) do
        if lies_within(path, route.path) then
          found = true
          api.reached_paths = api.reached_paths or {}
          api.reached_paths[path] = true
          self:add_api(site, route, host, api, path, base)
        end
      end
    end
  end
  if not found then
    self.warnings:add({ file = base.source.file, line = base.source.line, path = base.source.path,
      message = ("no API has %s"):format(route.path:find("*", 1, true)
        and "a path below " .. route.path
        or ("the path %s; %s/* stands for all below it"):format(route.path, route.path:gsub("/$", ""))),
    })
  end
  local rest = copied(base)
  rest.host, rest.path, rest.method, rest.kind = host, route.path, "*", "not_found"
  rest.limits = merge_limits(site.limits, route.limits)
  self:add(rest, self:compose({ self.gateway, site.scope, route.scope }))
end

--- Leaves of a route on one host.
function M:add_route(site, route, host, access_log)
  local base = {
    site = site.name, route = route.name or route.path, networks = route.networks,
    listeners = site.listeners,
    access_log = first_set(access_log, route.access_log, site.access_log),
    streaming = route.streaming, source = route.source, route_source = route.source,
    compression_given = first_set(self.compression, route.compression, site.compression),
  }
  base.compression = compression_of(base.compression_given, base.streaming)
  if route.apis then
    return self:add_apis(site, route, host, base)
  end
  local composed = self:compose({ self.gateway, site.scope, route.scope })
  for _, method in ipairs(route.methods or { "*" }) do
    local leaf = copied(base)
    leaf.host, leaf.path, leaf.method = host, route.path, method
    leaf.kind = route.backend and "backend" or route.redirect and "redirect" or "reply"
    leaf.backend = route.backend and self.backend_index[route.backend] or nil
    leaf.redirect, leaf.reply = route.redirect, route.reply
    leaf.limits = merge_limits(site.limits, route.limits)
    self:add(leaf, composed)
  end
end

--- All leaves; conflicts are errors, leaves out of reach are warnings.
function M:run(sites, access_log)
  for _, site in ipairs(sites) do
    for _, host in ipairs(site.hosts) do
      for _, route in ipairs(site.routes) do
        self:add_route(site, route, host, access_log)
      end
    end
  end
  local function report(list)
    return function(leaf, message)
      list:add({ file = leaf.source.file, line = leaf.source.line, path = leaf.source.path,
        message = message })
    end
  end
  router.find_conflicts(self.leaves, report(self.errors))
  router.find_shadowed(self.leaves, report(self.warnings))
  return self.leaves
end

return M
