-- SPDX-License-Identifier: Apache-2.0
--- Says what the gateway would do with a request: the route, the operation, and every policy in its
--- effective order, with the file and line that it came from. Options of policies are not shown, so
--- that no secret is.

local listings = require("moongate.config.listings")
local normalize = require("moongate.config.normalize")
local router = require("moongate.router")

local M = {}

local function place(source)
  if not source then
    return ""
  end
  return source.line and ("%s:%d"):format(source.file, source.line) or source.file
end

--- Whether an authority is a host that a request may name, with or without a port.
local function is_authority(text)
  local host, port = text:match("^(%[.*%]):?(%d*)$")
  if not host then
    host, port = text:match("^([^:]*):?(%d*)$")
  end
  local number = tonumber(port)
  return host ~= nil and not host:find("*", 1, true) and normalize.host(host) ~= nil
    and (number == nil or number >= 1 and number <= 65535)
end

--- Takes a request apart, and refuses what the gateway refuses for its form.
---@return table? parsed
---@return string? err
local function parse(method, url)
  local scheme, host, rest = url:match("^(%a+)://([^/?#]+)(.*)$")
  if not scheme or scheme ~= "http" and scheme ~= "https" then
    return nil, ("expected a URL like https://host/path, got %q"):format(url)
  elseif not is_authority(host) then
    return nil, ("%q is no host that a request may name (400)"):format(host)
  elseif not method:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    return nil, ("%q is no method (400)"):format(method)
  elseif rest:find("#", 1, true) then
    return nil, "a request has no fragment (400)"
  end
  local path, query = rest:match("^([^?]*)%??(.*)")
  if query:find("[^!-~]") then
    return nil, "the query has a byte that requests must escape (400)"
  end
  return { scheme = scheme, host = host, path = path == "" and "/" or path, query = query }
end

--- Names of the listeners that a URL could reach: those on its port, else (the gateway may be behind
--- another port) those that speak its scheme.
local function listeners_of(plan, parsed)
  local port = tonumber(parsed.host:match(":(%d+)$")) or parsed.scheme == "https" and 443 or 80
  local on_port, of_scheme, found = {}, {}, false
  for _, listener in ipairs(plan.listeners) do
    on_port[listener.name] = listener.port == port
    of_scheme[listener.name] = (listener.tls ~= nil) == (parsed.scheme == "https")
    found = found or on_port[listener.name]
  end
  return found and on_port or of_scheme
end

local function describe_leaf(leaf)
  if leaf.kind == "redirect" then
    return ("redirect %d to %s"):format(leaf.redirect.status, leaf.redirect.to)
  elseif leaf.kind == "reply" then
    return ("reply %d"):format(leaf.reply.status)
  elseif leaf.kind == "not_found" then
    return "404 OperationNotFound: no operation of an API takes this"
  end
  return "backend"
end

local function describe_backend(plan, leaf)
  local backend = leaf.backend and plan.backends[leaf.backend]
  if not backend then
    return "chosen by a policy"
  elseif backend.sink then
    return ("%s: a sink, answers %d"):format(backend.name, backend.sink.status)
  end
  local targets = {}
  for i, target in ipairs(backend.targets) do
    targets[i] = target.url
  end
  return ("%s: %s over %s"):format(backend.name, backend.balance, table.concat(targets, ", "))
end

local function add_listing(out, section, listing, product, depth, is_native)
  out[#out + 1] = {
    is_native = is_native or false,
    section = section, policy = listing.policy, id = listing.id, scope = listing.scope,
    scope_name = listing.scope_name, product = product, listed_in = listing.section,
    is_conditional = listing.when ~= nil, file = listing.file, line = listing.line, depth = depth,
  }
  for _, child in ipairs(listing.children or {}) do
    if child.acts[section] then
      add_listing(out, section, child, product, depth + 1)
    end
  end
end

local function policies_of(leaf)
  local out = {}
  for _, section in ipairs(listings.SECTIONS) do
    local chain = leaf.built[section]
    local native = chain and chain.acts and #chain.acts or 0
    for _, entry in ipairs(leaf.entries[section]) do
      local runs = not entry.listing.is_marker
      add_listing(out, section, entry.listing, entry.product, 0, runs and native > 0)
      native = native - (runs and 1 or 0)
    end
  end
  return out
end

local function write_policies(lines, list)
  local section, n = nil, 0
  for _, one in ipairs(list) do
    if one.section ~= section then
      section, n = one.section, 0
      lines[#lines + 1] = section
    end
    n = n + 1
    local notes = {}
    if one.product then
      notes[#notes + 1] = "with a key of product " .. one.product
    end
    if one.is_conditional then
      notes[#notes + 1] = "conditional"
    end
    if one.is_native then
      notes[#notes + 1] = "without Lua"
    end
    if one.listed_in ~= section then
      notes[#notes + 1] = "listed in " .. one.listed_in
    end
    lines[#lines + 1] = ("  %2d. %-22s %-28s %s%s"):format(n, ("  "):rep(one.depth) .. one.policy,
      one.scope .. " " .. one.scope_name, place(one),
      #notes > 0 and " (" .. table.concat(notes, ", ") .. ")" or "")
  end
  if #list == 0 then
    lines[#lines + 1] = "no policies"
  end
end

---@class moongate.ExplainOptions
---@field networks? string[] networks that the client is in

--- Explains a request.
---@param plan table
---@param method string
---@param url string
---@param options? moongate.ExplainOptions
---@return string? text
---@return table|string details the same for programs; the reason where the text is nil
function M.explain(plan, method, url, options)
  local parsed, err = parse(method, url)
  if not parsed then
    return nil, err
  end
  local reached, keeps_slash = listeners_of(plan, parsed), false
  for _, listener in ipairs(plan.listeners) do
    keeps_slash = keeps_slash or reached[listener.name] and listener.escaped_slash or false
  end
  parsed.path, err = router.normal_path(parsed.path, keeps_slash)
  if not parsed.path then
    return nil, err .. " (400)"
  end
  local inside = {}
  for _, name in ipairs(options and options.networks or {}) do
    inside[name] = true
  end
  plan.reference_router = plan.reference_router or router.new(plan.routes)
  local leaf, params = plan.reference_router:match(method, parsed.host, parsed.path, function(name)
    return inside[name] or false
  end, function(names)
    for _, name in ipairs(names) do
      if reached[name] then
        return true
      end
    end
    return false
  end)
  local details = { method = method, url = url, host = parsed.host, path = parsed.path }
  local lines = { ("%s %s"):format(method, url) }
  local function row(name, text)
    lines[#lines + 1] = ("%-10s %s"):format(name, text)
  end
  if not leaf then
    details.status = 404
    row("no route", "the gateway answers 404")
    return table.concat(lines, "\n"), details
  end
  details.route = { id = leaf.id, site = leaf.site, route = leaf.route, path = leaf.path,
    method = leaf.method, kind = leaf.kind, source = leaf.route_source }
  details.api, details.operation, details.params = leaf.api, leaf.operation, params
  row("site", leaf.site)
  row("route", ("%s  %s"):format(leaf.route, place(leaf.route_source)))
  if leaf.listeners then
    row("listeners", table.concat(leaf.listeners, ", "))
  end
  if leaf.networks then
    row("networks", table.concat(leaf.networks, ", "))
  end
  if leaf.api then
    row("api", leaf.api)
  end
  if leaf.operation then
    row("operation", ("%s  %s %s  %s"):format(leaf.operation, leaf.method, leaf.path,
      place(leaf.source)))
    details.operation_source = leaf.source
  end
  local names = {}
  for name, value in pairs(params) do
    names[#names + 1] = ("%s = %q"):format(name, value)
  end
  if #names > 0 then
    table.sort(names)
    row("params", table.concat(names, ", "))
  end
  if leaf.kind == "backend" then
    row("backend", describe_backend(plan, leaf))
    details.backend = leaf.backend and plan.backends[leaf.backend].name or nil
  else
    row("answer", describe_leaf(leaf))
  end
  details.policies = policies_of(leaf)
  write_policies(lines, details.policies)
  return table.concat(lines, "\n"), details
end

return setmetatable(M, {
  __call = function(_, ...)
    return M.explain(...)
  end,
})
