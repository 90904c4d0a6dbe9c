-- SPDX-License-Identifier: Apache-2.0
--- Loads a configuration directory: `gateway.lua`, `apis/*.lua`, `policies/*.lua`, `lib/*.lua`, and
--- gives the plan that the runtime serves, or everything that is wrong with it.

local api_schema = require("moongate.config.api_schema")
local definitions = require("moongate.config.definitions")
local errors_of = require("moongate.config.errors")
local files_of = require("moongate.config.files")
local fuel = require("moongate.fuel")
local gateway_schema = require("moongate.config.gateway_schema")
local listings_of = require("moongate.config.listings")
local named_values = require("moongate.named_values")
local near = require("moongate.near")
local normalize = require("moongate.config.normalize")
local records = require("moongate.policy_records")
local review = require("moongate.config.review")
local router = require("moongate.router")
local routes_of = require("moongate.config.routes")
local sandbox = require("moongate.sandbox")
local schema = require("moongate.schema")

local M = {}

local LOAD_SECONDS = 10
local NAMES_SHOWN = 8 -- more are not listed where a name is unknown

local gateway_validator, api_validator

--- One load. Fields: source, errors, warnings, files, named, gateway, apis, plan.
local Load = {}
Load.__index = Load

--- Checks a file's table: named values first, then the schema.
function Load:check(validator, file, given)
  local named = self.named
  local expanded = named:expand_all(given, "", records.is_policy, function(path, message, hint)
    self.errors:add({ file = file, path = path, message = message, hint = hint })
  end)
  local result, errs = validator:check(expanded, {
    show = named:shower(),
    resolve = named:resolver(),
  })
  self.errors:add_all(file, errs)
  return result, errs == nil
end

function Load:read_gateway()
  local given = self.files:load_table("gateway.lua")
  if not given then
    return false
  end
  self.given = given
  if type(given.named_values) == "table" then
    self.named:define(given.named_values, function(name, message)
      self.errors:add({ file = "gateway.lua", path = schema.join("named_values", name),
        message = message })
    end)
  end
  local copy = {}
  for key, value in pairs(given) do
    copy[key] = value
  end
  -- What could not be read is reported already.
  copy.named_values = nil
  if given.named_values ~= nil and type(given.named_values) ~= "table" then
    copy.named_values = given.named_values
  end
  self.gateway = self:check(gateway_validator, "gateway.lua", copy)
  return type(self.gateway) == "table"
end

function Load:read_apis()
  self.apis, self.api_by_name = {}, {}
  for _, stem in ipairs(self.files:names("apis")) do
    local file = "apis/" .. stem .. ".lua"
    local given = self.files:load_table(file)
    local api, ok, definition
    if given then
      given, definition = definitions.read(self, file, given)
      api, ok = self:check(api_validator, file, given)
    end
    if ok then
      api.file = file
      if definition then
        definitions.complete(api, definition)
      end
      local other = self.api_by_name[api.name]
      if other then
        self.errors:add({ file = file, path = "name",
          message = ("an API named %q is already in %s"):format(api.name, other.file) })
      else
        self.api_by_name[api.name] = api
        self.apis[#self.apis + 1] = api
      end
    else
      self.has_broken_api = true
    end
  end
  table.sort(self.apis, function(a, b)
    return a.name < b.name
  end)
end

-- Where the names of a kind are declared.
local DECLARED = { backend = "backends", network = "networks", product = "products" }

--- Reports a name that nothing defines. One whose definition is broken is reported there.
function Load:need(known, what, name, file, path)
  local declared = DECLARED[what] and self.given[DECLARED[what]]
  if name == nil or known[name] ~= nil or type(declared) == "table" and declared[name] ~= nil
    or declared ~= nil and type(declared) ~= "table"
  then
    return true
  end
  local names = near.keys(known)
  local hint, message = near.find(name, names), ("unknown %s %q"):format(what, name)
  if not hint and #names > 0 and #names <= NAMES_SHOWN then
    message = ("%s; there is %s"):format(message, schema.list_of(names, "and"))
  end
  self.errors:add({ file = file, path = path, message = message, hint = hint })
  return false
end

--- Reports a field; not one that has been complained of already, nor one with such a field in it.
function Load:fail(path, expected, got, file, hint)
  local shown = self.named:shower()(got)
  if self.errors:has_within(file or "gateway.lua", path) then
    return
  end
  self.errors:add({ file = file or "gateway.lua", path = path, expected = expected, got = shown,
    hint = hint, message = ("expected %s, got %s"):format(expected, shown) })
end

function Load:warn(file, path, message)
  self.warnings:add({ file = file, path = path, message = message,
    line = (self.errors:line_of(file, path)) })
end

local function sorted(map)
  return near.keys(map or {})
end

--- TLS of a listener: each certificate has its two files, or is the one for development.
function Load:tls(given, path)
  for i, one in ipairs(given and given.certificates or {}) do
    local at = ("%s.certificates[%d]"):format(path, i)
    if one.development then
      if one.certificate or one.key then
        self:fail(at .. ".development", "either development or certificate and key", true)
      end
      given.certificates[i] = normalize.development_certificate(self.source.env)
    else
      for _, name in ipairs({ "certificate", "key" }) do
        if one[name] == nil then
          self:fail(at .. "." .. name, "a PEM file, or development = true", nil)
        end
      end
      self:readable(one, { "certificate", "key", "ocsp" }, at)
    end
  end
  self:readable(given and given.client, { "ca", "crl" }, path .. ".client")
  return given
end

--- Files that fields name can be read.
function Load:readable(record, fields, path)
  for _, name in ipairs(fields) do
    local file = type(record) == "table" and record[name]
    local text, reason
    if file then
      text, reason = self.source.read(file)
    end
    if file and not text then
      self:fail(path .. "." .. name, ("a file that can be read (%s)"):format(reason or "not found"),
        file)
    end
  end
end

--- TLS of our own connections: the authorities, and a certificate with its key.
function Load:client_tls(given, path)
  self:readable(given, { "ca", "certificate", "key" }, path)
  if given and (given.certificate == nil) ~= (given.key == nil) then
    local missing = given.key == nil and "key" or "certificate"
    self:fail(path .. "." .. missing, ("the file of the %s beside the %s"):format(missing,
      given.key == nil and "certificate" or "key"), nil)
  end
end

function Load:listener(given, path)
  if not given then
    return nil
  end
  local address, expected = normalize.address(given.address or "")
  if not address then
    if given.address then
      local hint = given.address:find("^%d+$") and ":" .. given.address or nil
      self:fail(path .. ".address", expected, given.address, nil, hint)
    end
    return nil
  end
  self:listens_alone(given, address, path)
  if given.mode and not address.unix then
    self:fail(path .. ".mode", "a UNIX socket as address, as only a file has permissions", given.address)
  end
  return {
    name = given.name or given.address, address = given.address, host = address.host,
    port = address.port, unix = address.unix, http2 = given.http2,
    proxy_protocol = given.proxy_protocol, escaped_slash = given.escaped_slash, backlog = given.backlog,
    mode = given.mode and tonumber(given.mode, 8),
    tls = self:tls(given.tls, path .. ".tls"), place = self:place(path),
  }
end

--- Where a field stands, as errors that are found later say it: "gateway.lua:7: listeners[2]".
function Load:place(path)
  local line = self.errors:line_of("gateway.lua", path)
  return ("gateway.lua%s: %s"):format(line and ":" .. line or "", path)
end

--- Two listeners have neither one name nor one address. Port 0 is another one each time.
function Load:listens_alone(given, address, path)
  local taken = self.listening
  local text = address.unix or address.port ~= 0 and ("%s %d"):format(address.host, address.port)
  for _, one in ipairs({ { "name", given.name }, { "address", text or nil } }) do
    local field, value = one[1], one[2]
    local key = value and field .. " " .. value
    if key and taken[key] then
      self.errors:add({ file = "gateway.lua", path = path .. "." .. field,
        message = ("%s %q is already at %s"):format(field, given[field], taken[key]) })
    elseif key then
      taken[key] = path
    end
  end
end

--- @return networks that are trusted, and whether who comes over a UNIX socket is
local function trusted(list)
  local networks, trusts_unix = {}, false
  for _, text in ipairs(list or {}) do
    if text == "unix:" then
      trusts_unix = true
    else
      networks[#networks + 1] = text
    end
  end
  return networks, trusts_unix
end

function Load:networks()
  local g = self.gateway
  local function check(list, path, others)
    for i, text in ipairs(list or {}) do
      if not normalize.is_network(text) and not (others and others[text]) then
        self:fail(("%s[%d]"):format(path, i), normalize.NETWORK, text)
      end
    end
  end
  for _, name in ipairs(sorted(g.networks)) do
    check(g.networks[name], schema.join("networks", name))
  end
  check(g.trusted_proxies, "trusted_proxies", { ["unix:"] = true })
end

function Load:backends()
  local list, index = {}, {}
  for _, name in ipairs(sorted(self.gateway.backends)) do
    local at = schema.join("backends", name)
    list[#list + 1] = normalize.backend(name, self.gateway.backends[name],
      function(path, expected, got)
        self:fail(at .. "." .. path, expected, got)
      end)
    list[#list].place = self:place(at)
    index[name] = #list
  end
  self.backend_list, self.backend_index = list, index
  for _, name in ipairs(sorted(self.gateway.backends)) do
    self:backend_links(self.gateway.backends[name], schema.join("backends", name))
  end
end

-- Backends that a backend names: they exist, and are no splits themselves.
function Load:backend_links(backend, at)
  local function check(name, path)
    self:need(self.backend_index, "backend", name, "gateway.lua", path)
    local other = self.gateway.backends[name]
    if other and other.split then
      self:fail(path, "a backend with targets or a sink", name)
    end
  end
  local weights = 0
  for i, share in ipairs(backend.split or {}) do
    check(share.backend, ("%s.split[%d].backend"):format(at, i))
    weights = weights + (share.weight or 0)
  end
  if backend.split and weights == 0 then
    self:fail(at .. ".split", "a share with a weight", backend.split)
  end
  if backend.mirror then
    check(backend.mirror.backend, at .. ".mirror.backend")
  end
  self:client_tls(backend.tls, at .. ".tls")
end

--- Databases that a configuration names are there, and are such.
function Load:geoip(given)
  local has_geo, geo = pcall(require, "moongate.geo") -- not in specs in plain Lua
  for _, name in ipairs({ "country", "asn" }) do
    local file = given and given[name]
    if file and has_geo then
      local path = file:sub(1, 1) == "/" and file or self.source.dir .. "/" .. file
      local db, err = geo.open(path)
      if not db then
        self.errors:add({ file = "gateway.lua", path = "geoip." .. name,
          message = ("expected an MMDB file, got %q: %s"):format(file,
            (tostring(err):gsub("^.*: ", ""))) })
      end
    end
  end
  return given
end

--- Name servers are addresses: who would resolve their names?
function Load:dns(given)
  for i, text in ipairs(given and given.servers or {}) do
    local host = text:match("^%[([%x:.]+)%]:%d+$") or text:match("^([%d.]+):%d+$") or text
    if host:find("/", 1, true) or not normalize.is_network(host) then
      self:fail(("dns.servers[%d]"):format(i), "an address, or address:port", text)
    end
  end
  return normalize.milliseconds(given)
end

--- The access log as the runtime reads it; what is left out has the runtime's default.
local function logs(given)
  if type(given) ~= "table" or type(given.sample) ~= "number" then
    return { enabled = given ~= false } -- or it is not valid, and reported as such
  end
  return { enabled = given.enabled, path = given.path, query = given.query,
    sample_millionths = math.floor(given.sample * 1000000 + 0.5), redact = given.redact,
    request_headers = given.request_headers, response_headers = given.response_headers,
    buffer_bytes = given.buffer_bytes }
end

--- A scope for the policy lists of a table.
function Load:scope(kind, name, id, file, path, owner, more)
  local scope = { kind = kind, name = name, id = id, file = file, path = path,
    policies = owner and owner.policies }
  for key, value in pairs(more or {}) do
    scope[key] = value
  end
  return self.listings:read(scope)
end

--- A pattern as requests have it; one that none can have is reported.
function Load:path(pattern, at, file)
  local complaint = router.check_path(pattern or "/")
  if complaint then
    self:fail(at, complaint, pattern, file)
    return pattern
  end
  return pattern and router.escape_path(pattern)
end

local MARKERS = { "apis", "backend", "redirect", "reply" }

--- Checks a route by itself and gives it its scope.
function Load:route(site, route, path)
  local given = {}
  for _, name in ipairs(MARKERS) do
    if route[name] ~= nil and route[name] ~= false then
      given[#given + 1] = name
    end
  end
  local is_told = false -- what is wrong with the one that is there
  for _, name in ipairs(MARKERS) do
    is_told = is_told or #given == 0 and self.errors:has_within("gateway.lua", path .. "." .. name)
  end
  if #given ~= 1 and not is_told then
    self.errors:add({ file = "gateway.lua", path = path,
      message = ("a route has exactly one of apis, backend, redirect, reply; this one has %s"):format(
        #given == 0 and "none" or table.concat(given, " and ")) })
  end
  route.path = self:path(route.path, path .. ".path", "gateway.lua")
  self:need(self.backend_index, "backend", route.backend, "gateway.lua", path .. ".backend")
  for i, name in ipairs(route.networks or {}) do
    self:need(self.gateway.networks, "network", name, "gateway.lua",
      ("%s.networks[%d]"):format(path, i))
  end
  if type(route.apis) == "table" and not self.has_broken_api then
    for i, name in ipairs(route.apis) do
      self:need(self.api_by_name, "API", name, "gateway.lua", ("%s.apis[%d]"):format(path, i))
    end
  end
  route.source = { file = "gateway.lua", line = (self.errors:line_of("gateway.lua", path)),
    path = path }
  route.scope = self:scope("route", route.name or route.path, ("%s%s"):format(site.name, route.path),
    "gateway.lua", path .. ".policies", route)
end

--- Whether two lists of listeners have one in common; a list that is left out has all.
local function have_common(one, other)
  local has = {}
  for _, name in ipairs(one or {}) do
    has[name] = true
  end
  for _, name in ipairs(other or {}) do
    if has[name] then
      return true
    end
  end
  return not one or not other
end

--- A host belongs to one site on each listener.
---@param owners table<string, table[]>  sites by host, each with its `path`
function Load:own_host(owners, host, site, path, at)
  owners[host] = owners[host] or {}
  for _, other in ipairs(owners[host]) do
    if have_common(site.listeners, other.site.listeners) then
      local where = site.listeners and other.site.listeners and ", on the same listener" or ""
      self.errors:add({ file = "gateway.lua", path = at,
        message = ("host %q is already in %s%s"):format(host, other.path, where) })
      return
    end
  end
  table.insert(owners[host], { site = site, path = path })
end

--- Names tell sites apart, in logs and in what is counted for them.
function Load:name_site(names, site, path)
  local name = site.name or site.hosts[1] or path
  if names[name] and not site.name and site.listeners then
    name = ("%s on %s"):format(name, table.concat(site.listeners, ", "))
  end
  if names[name] and site.name then
    self.errors:add({ file = "gateway.lua", path = path .. ".name",
      message = ("name %q is already that of %s"):format(name, names[name]) })
  end
  site.name, names[name] = name, names[name] or path
end

function Load:sites()
  local owners, listeners, names = {}, {}, {}
  for _, listener in ipairs(self.gateway.listeners or {}) do
    listeners[listener.name or listener.address or ""] = true
  end
  for i, site in ipairs(self.gateway.sites or {}) do
    local path = ("sites[%d]"):format(i)
    site.hosts = site.hosts or {}
    for j, host in ipairs(site.hosts) do
      local at, name = ("%s.hosts[%d]"):format(path, j), normalize.host(host)
      if not name then
        self:fail(at, "a host name without port, *.name, or *", host, nil, host == "_" and "*" or nil)
      else
        self:own_host(owners, name, site, path, at)
      end
      site.hosts[j] = name or host
    end
    self:name_site(names, site, path)
    for j, name in ipairs(site.listeners or {}) do
      self:need(listeners, "listener", name, "gateway.lua", ("%s.listeners[%d]"):format(path, j))
    end
    site.scope = self:scope("site", site.name, site.name, "gateway.lua", path .. ".policies", site)
    for j, route in ipairs(site.routes or {}) do
      self:route(site, route, ("%s.routes[%d]"):format(path, j))
    end
  end
end

function Load:products()
  self.product_scopes = {}
  for _, name in ipairs(sorted(self.gateway.products)) do
    local product = self.gateway.products[name]
    local path = schema.join("products", name)
    for i, api in ipairs(product.apis or {}) do
      if not self.has_broken_api then
        self:need(self.api_by_name, "API", api, "gateway.lua", ("%s.apis[%d]"):format(path, i))
      end
    end
    self.product_scopes[name] = self:scope("product", name, "product:" .. name, "gateway.lua",
      path .. ".policies", product)
  end
end

function Load:subscriptions()
  local ids, keys, list = {}, {}, {}
  for i, given in ipairs(self.gateway.subscriptions or {}) do
    local path = ("subscriptions[%d]"):format(i)
    self:need(self.gateway.products, "product", given.product, "gateway.lua", path .. ".product")
    if not self.has_broken_api then
      self:need(self.api_by_name, "API", given.api, "gateway.lua", path .. ".api")
    end
    if given.id and ids[given.id] then
      self.errors:add({ file = "gateway.lua", path = path .. ".id",
        message = ("subscription %q is already at subscriptions[%d]"):format(given.id,
          ids[given.id]) })
    end
    ids[given.id or path] = i
    for j, key in ipairs(given.keys or {}) do
      if keys[key] then
        self.errors:add({ file = "gateway.lua", path = ("%s.keys[%d]"):format(path, j),
          message = ("the same key is already at %s"):format(keys[key]) })
      end
      keys[key] = ("%s.keys[%d]"):format(path, j)
    end
    list[i] = { id = given.id, name = given.name, product = given.product, api = given.api,
      keys = given.keys, state = given.state }
  end
  self.subscription_list = list
end

--- Products that hold an API, by name.
local function products_of(products, api)
  local names = {}
  for _, name in ipairs(sorted(products)) do
    for _, one in ipairs(products[name].apis or {}) do
      if one == api then
        names[#names + 1] = name
        break
      end
    end
  end
  return names
end

--- The key check that an API with `subscription` gets, inside the route and outside the product.
function Load:subscription_scope(api, product_names)
  local conf = api.subscription
  if not conf then
    return nil
  end
  local scope = { kind = "api", name = api.name, id = "api:" .. api.name, file = api.file,
    path = "subscription", api = api.name, products = product_names, lists = {} }
  for _, section in ipairs(listings_of.SECTIONS) do
    scope.lists[section] = {}
  end
  scope.lists.inbound[1] = self.listings:built_in("subscription", conf, scope, "inbound", api.file,
    (self.errors:line_of(api.file, "subscription")))
  return scope
end

--- The checks that an API with `openapi` gets, inside the product and outside its own policies.
function Load:validation_scope(api)
  if not api.definition then
    return nil
  end
  local scope = { kind = "api", name = api.name, id = "api:" .. api.name, file = api.file,
    path = "validation", api = api.name, lists = {} }
  for _, section in ipairs(listings_of.SECTIONS) do
    scope.lists[section] = {}
  end
  local line = self.errors:line_of(api.file, "openapi")
  for _, one in ipairs(definitions.policies(api.validation)) do
    local list = scope.lists[one[1]]
    list[#list + 1] = self.listings:built_in(one[2], one[3], scope, one[1], api.file, line)
  end
  return scope
end

function Load:operation(api, name, path)
  local operation = api.operations[name]
  operation.name = name
  self:need(self.backend_index, "backend", operation.backend, api.file, path .. ".backend")
  operation.path = self:path(operation.path, path .. ".path", api.file)
  operation.source = { file = api.file, line = (self.errors:line_of(api.file, path)), path = path }
  operation.scope = self:scope("operation", name, ("api:%s/%s"):format(api.name, name), api.file,
    path .. ".policies", operation, { api = api.name })
  return operation
end

--- Examples and definitions of operations, for policies of every scope.
function Load:read_examples()
  self.examples, self.listings.env.definitions = {}, {}
  for _, api in ipairs(self.apis) do
    self.examples[api.name] = {}
    self.listings.env.definitions[api.name] = api.definition
    for name, operation in pairs(api.operations) do
      self.examples[api.name][name] = operation.examples
    end
  end
  self.listings.env.examples = self.examples
end

function Load:api_scopes()
  for _, api in ipairs(self.apis) do
    self:need(self.backend_index, "backend", api.backend, api.file, "backend")
    for i, path in ipairs(api.paths) do
      api.paths[i] = self:path(path, ("paths[%d]"):format(i), api.file)
    end
    local names = products_of(self.gateway.products, api.name)
    api.subscription_scope = self:subscription_scope(api, names)
    api.validation_scope = self:validation_scope(api)
    api.product_scopes = { key = "products:" .. table.concat(names, ",") }
    for i, name in ipairs(names) do
      api.product_scopes[i] = self.product_scopes[name]
    end
    api.scope = self:scope("api", api.name, "api:" .. api.name, api.file, "policies", api,
      { api = api.name, products = names })
    api.operation_list = {}
    for _, name in ipairs(sorted(api.operations)) do
      local path = schema.join("operations", name)
      api.operation_list[#api.operation_list + 1] = self:operation(api, name, path)
    end
  end
end

local function percent_encoded(text)
  return (text:gsub("[^%w._-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

--- The runtime knows Sentinels and Clusters by the URL's scheme; as fields they come to the same.
function Load:redis(given)
  local redis = normalize.milliseconds(given)
  if type(given) == "table" then
    self:client_tls(given.tls, "redis.tls")
    if type(given.url) == "string" and not given.url:find("^rediss?[%w+]*://[^/]")
      and not given.url:find("^unix:/")
    then
      self:fail("redis.url", "redis://host:port/db, rediss://… or unix:/path", given.url)
    end
  end
  if type(given) ~= "table" or not (given.sentinel or given.cluster) then
    return redis
  end
  local scheme, user, hosts, database = tostring(given.url):match("^(rediss?)://(.-@?)([^/@]*)/?(%d*)$")
  if given.sentinel and given.cluster then
    self:fail("redis.cluster", "either sentinel or cluster", true)
  elseif not scheme then
    self:fail("redis.url", "redis://host:port/db or rediss://…, beside sentinel or cluster", given.url)
  elseif given.cluster then
    redis.url = ("%s+cluster://%s%s/%s"):format(scheme, user, hosts, database)
  elseif type(given.sentinel) == "table" and type(given.sentinel.addresses) == "table" then
    redis.url = ("%s+sentinel://%s%s/%s/%s"):format(scheme, user,
      table.concat(given.sentinel.addresses, ","), percent_encoded(tostring(given.sentinel.master)),
      database)
    redis.sentinel_password = given.sentinel.password
  end
  return redis
end

function Load:make_plan()
  local g = self.gateway
  local listeners = {}
  self.listening = {}
  for i, given in ipairs(g.listeners or {}) do
    listeners[#listeners + 1] = self:listener(given, ("listeners[%d]"):format(i))
  end
  self:networks()
  self:backends()
  local redis = self:redis(g.redis)
  local proxies, trusts_unix = trusted(g.trusted_proxies)
  local plan = {
    name = g.name, region = g.region, workers = g.workers == "auto" and 0 or g.workers,
    in_process = g.workers == 0, user = g.user,
    limits = normalize.milliseconds(g.limits), listeners = listeners,
    management = self:listener(g.management, "management"),
    networks = g.networks or {}, trusted_proxies = proxies, trusts_unix = trusts_unix,
    dns = self:dns(g.dns),
    cache = g.cache, redis = redis, geoip = self:geoip(g.geoip), access_log = logs(g.access_log),
    error_log = g.error_log,
    backends = self.backend_list, subscriptions = {}, routes = {}, products = {},
  }
  self.plan = plan
  local env = self.listings.env
  env.plan, env.source, env.backends = plan, self.source, self.backend_index
  env.dir = self.source.dir
  env.named_values, env.networks = self.named.values, plan.networks
  env.log = function(text)
    self.warnings:add({ file = "gateway.lua", message = tostring(text) })
  end
  self:read_examples()
  self.scope_gateway = self:scope("gateway", g.name, "gateway", "gateway.lua", "policies", g)
  self:sites()
  self:products()
  self:subscriptions()
  self:api_scopes()
  plan.subscriptions = self.subscription_list
  for _, name in ipairs(sorted(g.products)) do
    plan.products[#plan.products + 1] = { name = name, apis = g.products[name].apis }
  end
end

--- Policies of the directory that nothing lists yet are read too: a mistake shows before they are used.
function Load:user_policies()
  for _, name in ipairs(self.files:names("policies")) do
    local file = "policies/" .. name .. ".lua"
    local module, err, hint = self.files:policy(name)
    if module then
      local _, why = self.listings:validator(module)
      err = why and ("the schema of policy %q is not valid: %s"):format(name, why)
    end
    if err and not self.errors:has_file(file) then
      self.errors:add({ file = file, message = err, hint = hint })
    end
  end
end

function Load:flatten()
  local flattening = routes_of.new({
    listings = self.listings,
    errors = self.errors, warnings = self.warnings, apis = self.apis,
    backend_index = self.backend_index, gateway = self.scope_gateway,
    compression = self.gateway.compression,
  })
  self.plan.routes = flattening:run(self.gateway.sites, self.plan.access_log.enabled)
end

function Load:run()
  local is_whole = self:read_gateway()
  self:read_apis()
  if not is_whole then
    return
  end
  if #self.errors.list == 0 then
    self:make_plan()
  else
    -- More mistakes are worth telling, as far as the broken fields let them be found.
    pcall(self.make_plan, self)
  end
  self:user_policies()
  if #self.errors.list > 0 then
    return
  end
  self:flatten()
  review.run(self)
  for _, api in ipairs(self.apis) do
    if api.definition then
      api.definition:release()
    end
  end
end

--- Loads a configuration.
---@param source moongate.Source
---@param options? { budget_s: number? } CPU time that it may take; 10 seconds
---@return table? plan
---@return moongate.ConfigError[]? errors
function M.load(source, options)
  gateway_validator = gateway_validator or schema.compile(gateway_schema)
  api_validator = api_validator or schema.compile(api_schema)
  sandbox.install()
  local named = named_values.new(source)
  local errors, warnings = errors_of.new(), errors_of.new()
  errors.redact = function(text)
    return named:redact(text)
  end
  warnings.redact = errors.redact
  local files = files_of.new(source, errors)
  local self = setmetatable({
    source = source, errors = errors, warnings = warnings, files = files, named = named,
    listings = listings_of.new(files, errors, named),
  }, Load)
  fuel.begin(options and options.budget_s or LOAD_SECONDS)
  local ok, err = xpcall(self.run, function(e)
    return type(e) == "string" and debug.traceback(e, 2) or e
  end, self)
  local is_spent = fuel.is_spent()
  fuel.finish()
  if is_spent then
    errors:add({ file = files.running or "gateway.lua",
      message = "loading did not end within its budget of CPU time" })
  elseif not ok then
    error(err, 0)
  end
  files:report_unset(#errors.list > 0 and errors or warnings)
  if #errors.list > 0 then
    return nil, errors:sort()
  end
  self.plan.warnings = warnings:sort()
  return self.plan
end

M.format_error = errors_of.format
M.format_errors = errors_of.format_all

return M
