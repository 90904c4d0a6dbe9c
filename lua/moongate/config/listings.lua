-- SPDX-License-Identifier: Apache-2.0
--- From the four lists of a scope to listings: each policy found, its options checked, prepared
--- once.

local chain -- moongate.chain, which requires this module
local errors_of = require("moongate.config.errors")
local expression = require("moongate.expression")
local near = require("moongate.near")
local policies = require("moongate.policies")
local records = require("moongate.policy_records")
local schema = require("moongate.schema")

local M = {}
M.__index = M

M.SECTIONS = { "inbound", "backend", "outbound", "on_error", "log" }
--- Where a policy acts: the sections, and for requests that the HTTP layer refuses for their form.
M.ACTS = { "inbound", "backend", "outbound", "on_error", "log", "malformed" }
local rank = { inbound = 1, backend = 2, outbound = 3, on_error = 4, log = 5, malformed = 6 }

---@class moongate.Listing
---@field uid integer
---@field policy string name, or "function"
---@field id string what logs and counters call it; stable over reloads
---@field place string where it is in its scope: "inbound[2].policies[1]"
---@field scope string gateway, site, route, product, api, operation
---@field scope_name string
---@field section string where it is listed
---@field file string
---@field line? integer
---@field module table
---@field own any what prepare returned
---@field acts table<string, function> the function of each section in which it acts
---@field takes_self boolean
---@field when? fun(ctx): any
---@field continues boolean a raised error is logged, and the next policy runs
---@field needs table
---@field is_marker boolean says something to the runtime; nothing runs for it
---@field children? moongate.Listing[] the policies inside it
---@field forwards boolean it, or one inside it, calls the backend

local common = schema.compile({
  type = "object",
  properties = {
    id = { type = "string", minLength = 1, maxLength = 200 },
    when = { type = { "string", "function" } },
    on_error = { enum = { "raise", "continue" } },
  },
})

--- What every policy accepts beside its own options; the reference shows it.
M.common_fields = {
  { "id", "string", "Name of this listing in logs, metrics and counters." },
  { "when", "string or function", "Runs only where this holds: a Lua expression of `ctx`, or a "
    .. "function of it." },
  { "on_error", '"raise" or "continue"', 'What a raised error does: "raise" (default) ends the '
    .. 'request with 500, "continue" logs it and goes on.' },
}

---@param files table
---@param errors table
---@param named moongate.NamedValues
function M.new(files, errors, named)
  return setmetatable({
    files = files,
    errors = errors,
    named = named,
    env = {}, -- what prepare gets; completed by the configuration
    validators = {},
    count = 0,
    fragments = {}, -- by name: what the file returned
    merged = {}, -- by their uids: listings made of those of nested scopes
    including = {}, -- names of the fragments that are being read, outermost first
  }, M)
end

--- The compiled schema of a policy; false where it has none.
---@return moongate.Validator|false|nil
---@return string? err  what is wrong with the schema
function M:validator(module)
  local v = self.validators[module]
  if v == nil then
    local ok, made = true, false
    if module.schema ~= nil then
      ok, made = pcall(schema.compile, module.schema)
    end
    v = ok and { made } or { nil, (errors_of.text_of(made):gsub("^schema: ", "")) }
    self.validators[module] = v
  end
  return v[1], v[2]
end

--- Place of an error in a policy's options: the field's line where it can be read from the file
--- that the list stands in, else the line of the call.
function M:place(record, scope, path)
  local file = record.file or scope.file
  if file == scope.file then
    local line, is_exact = self.errors:line_of(file, path)
    if is_exact then
      return file, line
    end
  end
  return file, record.line
end

function M:fail(record, scope, path, err)
  err.path = path
  err.file, err.line = self:place(record, scope, path)
  self.errors:add(err)
end

--- Takes `id`, `when`, `on_error` off the options.
function M:split_common(record, scope, path, conf)
  local shared, own = {}, {}
  for key, value in pairs(conf) do
    if key == "id" or key == "when" or key == "on_error" then
      shared[key] = value
    else
      own[key] = value
    end
  end
  local _, errs = common:check(shared, { path = path })
  for _, err in ipairs(errs or {}) do
    self:fail(record, scope, err.path, err)
  end
  if errs then
    return {}, own
  end
  if type(shared.when) == "string" then
    local f, err = expression.compile(shared.when, "when")
    if not f then
      self:fail(record, scope, path .. ".when", { message = "the expression " .. err })
    end
    shared.when = f
  end
  return shared, own
end

--- Where a listing in `section` acts. `sections` names where a policy may be listed; its functions
--- for other sections follow any listing. Without it, a listing acts from its own section onwards.
local function find_acts(module, section)
  local acts, listable = {}, nil
  if module.sections then
    listable = {}
    for _, name in ipairs(module.sections) do
      listable[name] = true
    end
  end
  for _, name in ipairs(M.ACTS) do
    local f = module[name]
    if type(f) == "function" then
      if name == section or listable and not listable[name]
        or not listable and rank[name] > rank[section]
      then
        acts[name] = f
      end
    end
  end
  if listable and not listable[section] then
    acts[section] = nil
  end
  return acts
end

local function legal_sections(module)
  local names = {}
  for _, name in ipairs(module.sections or M.SECTIONS) do
    if type(module[name]) == "function" and name ~= "log" then
      names[#names + 1] = name
    end
  end
  return table.concat(names, ", ")
end

function M:check_conf(module, record, scope, path, conf)
  local validator, why = self:validator(module)
  if why then
    return nil, false -- told by its file
  elseif not validator then
    return conf, true
  end
  local result, errs = validator:check(conf, {
    path = path,
    show = self.named:shower(),
    resolve = self.named:resolver(),
  })
  for _, err in ipairs(errs or {}) do
    self:fail(record, scope, err.path, err)
  end
  return result, errs == nil
end

function M:new_listing(scope, section, fields)
  self.count = self.count + 1
  fields.uid = self.count
  fields.scope, fields.scope_name, fields.section = scope.kind, scope.name, section
  fields.needs = fields.needs or {}
  return fields
end

--- What an id is made of: the place within the scope.
local function place_in(scope, path)
  local prefix = scope.path .. "."
  return path:sub(1, #prefix) == prefix and path:sub(#prefix + 1) or path:match("[^.]*$")
end

--- A function in a list.
function M:from_function(f, scope, section, path)
  local name = records.uncalled(f)
  if name then
    self.errors:add({ file = scope.file, path = path,
      message = ("expected a policy, got p.%s without its options; write p.%s {}"):format(name, name) })
    return nil
  end
  local info = debug.getinfo(f, "S")
  local file = info.source:match("^@(.*)$")
  return self:new_listing(scope, section, {
    policy = "function",
    id = scope.id .. "/" .. place_in(scope, path),
    place = place_in(scope, path),
    file = file or scope.file,
    line = info.linedefined > 0 and info.linedefined or nil,
    acts = { [section] = f },
    takes_self = false,
    continues = false,
  })
end

--- A recorded policy. `own_conf` is its options already expanded.
function M:from_record(record, scope, section, path)
  local module, err, hint = self.files:policy(record.name)
  if not module then
    self:fail(record, scope, path, { message = err, hint = hint })
    return nil
  end
  local acts = find_acts(module, section)
  if not acts[section] and not (module.sections == nil and next(acts)) then
    self:fail(record, scope, path, {
      message = ("policy %q cannot stand in %s; it can in %s"):format(
        record.name, section, legal_sections(module)
      ),
    })
    return nil
  end
  local conf, is_table = record.conf, type(record.conf) == "table"
  if is_table then
    conf = self.named:expand_all(conf, path, records.is_policy, function(at, message, near_miss)
      local field = at:sub(#path + 2)
      if not (module.templates and module.templates[field]) then
        self:fail(record, scope, at, { message = message, hint = near_miss })
      end
    end)
  end
  local shared, own = {}, conf
  if is_table then
    shared, own = self:split_common(record, scope, path, conf)
  end
  local blocks
  if module.split then
    own, blocks = module.split(own)
  end
  local checked, ok = self:check_conf(module, record, scope, path, own)
  if not ok then
    return nil
  end
  local children = {}
  if module.split then
    blocks = self:blocks(module, record, scope, section, path, checked, blocks, children)
    if not blocks then
      return nil
    end
  end
  local file, line = self:place(record, scope, path)
  local listing = self:new_listing(scope, section, {
    policy = record.name,
    id = shared.id or scope.id .. "/" .. place_in(scope, path) .. ":" .. record.name,
    place = place_in(scope, path),
    file = file,
    line = record.line or line,
    path = path,
    module = module,
    conf = checked,
    acts = acts,
    takes_self = true,
    is_marker = module.is_marker or false,
    forwards = module.forwards or false,
    when = shared.when,
    continues = shared.on_error == "continue",
  })
  if blocks then
    self:adopt(listing, children, blocks)
  end
  if module.merge then
    -- As it was written, without defaults: what an inner scope leaves out is the outer one's.
    listing.given, listing.record, listing.of_scope = own, record, scope
  end
  self:prepare(listing, record, scope)
  return listing
end

--- One listing in place of those that nested scopes have of a policy that merges; made once for equal
--- ones. It stands for the innermost.
---@param list moongate.Listing[] outermost first
---@return moongate.Listing
function M:merge(list)
  local first = 1
  for i, listing in ipairs(list) do
    first = listing.conf.replace and i or first
  end
  local inner, given, uids, ids = list[#list], {}, {}, {}
  if first == #list then
    return inner
  end
  for i = first, #list do
    given[#given + 1], uids[#uids + 1], ids[#ids + 1] = list[i].given, list[i].uid, list[i].id
  end
  local key = table.concat(uids, "+")
  local merged = self.merged[key]
  if not merged then
    local record, scope = inner.record, inner.of_scope
    local all, origins = inner.module.merge(given, ids)
    local conf = self:check_conf(inner.module, record, scope, inner.path, all)
    conf.is_merged, conf.origins = true, origins
    local fields = {}
    for name, value in pairs(inner) do
      fields[name] = value
    end
    fields.conf, fields.needs, fields.own = conf, nil, nil
    fields.acts = find_acts(inner.module, inner.section)
    merged = self:new_listing(scope, inner.section, fields)
    self:prepare(merged, record, scope)
    self.merged[key] = merged
  end
  return merged
end

--- Reads the policies inside a policy. What is wrong with them is reported with their own place.
---@return table[]? blocks one a list: a function for each section in which its policies act
function M:blocks(module, record, scope, section, path, conf, lists, children)
  local depth = #self.including
  if module.fragment then
    local name = module.fragment(conf)
    local list, err = self:fragment(name, conf)
    if err then
      self:fail(record, scope, path, { message = err })
      return nil
    end
    lists = { { at = "", list = list } }
    self.including[depth + 1] = name
  end
  chain = chain or require("moongate.chain")
  local out, is_good = {}, true
  for i, one in ipairs(lists) do
    local own = self:read_list(record, scope, section, path .. one.at, one.list)
    is_good = is_good and own ~= nil
    out[i] = {}
    for _, name in ipairs(M.SECTIONS) do
      out[i][name] = own and chain.block(own, name)
    end
    for _, listing in ipairs(own or {}) do
      children[#children + 1] = listing
    end
  end
  self.including[depth + 1] = nil
  return is_good and out or nil
end

--- The listings of a list inside a policy; nil where one of them is wrong.
function M:read_list(record, scope, section, path, list)
  if type(list) ~= "table" then
    self:fail(record, scope, path, {
      message = ("expected a list of policies, got %s"):format(schema.show(list)),
    })
    return nil
  end
  local out, is_good = {}, true
  for i, item in ipairs(list) do
    local at = ("%s[%d]"):format(path, i)
    local listing, inner = nil, records.record_of(item)
    if type(item) == "function" then
      listing = self:from_function(item, scope, section, at)
    elseif inner then
      listing = self:from_record(inner, scope, section, at)
    else
      self:fail(record, scope, at, {
        message = item == policies.base and "base cannot stand inside a policy"
          or ("expected a policy, got %s"):format(schema.show(item)),
      })
    end
    is_good = is_good and listing ~= nil
    out[#out + 1] = listing
  end
  return is_good and out or nil
end

--- What `fragments/NAME.lua` gives: a list, or a function of the parameters that makes one.
function M:fragment(name, conf)
  for i, one in ipairs(self.including) do
    if one == name then
      return nil, ("fragment %q includes itself: %s"):format(name,
        table.concat(self.including, " -> ", i) .. " -> " .. name)
    end
  end
  local path = "fragments/" .. name .. ".lua"
  if self.fragments[name] == nil then
    if not self.files.source.read(path) then
      local known = self.files:names("fragments")
      local hint = near.find(name, known)
      return nil, ("unknown fragment %q: there is no %s%s"):format(name, path,
        hint and ("; did you mean %q?"):format(hint) or "")
    end
    local ok, value = self.files:run(path)
    if not ok then
      self.errors:add_raised(path, value)
      return nil, ("fragment %q could not be loaded"):format(name)
    end
    self.fragments[name] = value
  end
  local value = self.fragments[name]
  if type(value) == "function" then
    local ok, list = pcall(value, conf.with or {})
    if not ok then
      return nil, ("fragment %q refuses its parameters: %s"):format(name, tostring(list))
    end
    value = list
  elseif conf.with then
    return nil, ("fragment %q takes no parameters: it returns a list, not a function"):format(name)
  end
  if type(value) ~= "table" then
    return nil, ("fragment %q must give a list of policies, got %s"):format(name, type(value))
  end
  return value
end

--- Where the policies inside act, their owner acts too: in the section it is listed in by itself,
--- in later ones by `follow`, or by running all of theirs.
function M:adopt(listing, children, blocks)
  local module = listing.module
  listing.children, listing.blocks = children, blocks
  for _, child in ipairs(children) do
    listing.forwards = listing.forwards or child.forwards
  end
  for _, section in ipairs(M.SECTIONS) do
    local has_block = false
    for _, block in ipairs(blocks) do
      has_block = has_block or block[section] ~= nil
    end
    if has_block and not listing.acts[section] then
      local follow = module.follow
      listing.acts[section] = function(own, ctx)
        return follow(own, ctx, section)
      end
    end
  end
end

--- What the policies inside need of the bodies, the owner needs.
local function needs_of(listing, own)
  local out = {}
  local function take(needs)
    for key, value in pairs(needs or {}) do
      if key == "max_body_bytes" then
        out[key] = math.max(out[key] or 0, value)
      else
        out[key] = value == true or out[key] or value
      end
    end
  end
  take(own)
  for _, child in ipairs(listing.children or {}) do
    take(child.needs)
  end
  return out
end

--- Runs the policy's own `prepare`.
function M:prepare(listing, record, scope)
  local module = listing.module
  local needs = module.needs
  local result
  if module.prepare then
    local env = setmetatable({
      id = listing.id, scope = scope.kind, scope_name = scope.name, section = listing.section,
      file = listing.file, line = listing.line, api = scope.api, products = scope.products,
      blocks = listing.blocks, forwards = listing.forwards,
    }, { __index = self.env })
    local ok, why
    ok, result, why = pcall(module.prepare, listing.conf, env)
    if not ok or result == nil and type(why) == "string" then
      local raised = ok and why or result
      local message = type(raised) == "string" and raised:gsub("^policies/[%w_]+%.lua:%d+: ", "")
        or errors_of.text_of(raised)
      self:fail(record, scope, listing.path, {
        message = ("policy %q refuses these options: %s"):format(record.name, message),
      })
      return
    end
  end
  if type(needs) == "function" then
    needs = needs(listing.conf, listing)
  end
  for section, is_idle in pairs(module.idle and module.idle(listing.conf) or {}) do
    if is_idle then
      listing.acts[section] = nil
    end
  end
  listing.needs = needs_of(listing, needs)
  listing.own = result == nil and listing.conf or result
end

---@class moongate.Scope
---@field kind string
---@field name string
---@field id string
---@field file string
---@field path string path of its `policies`
---@field policies? table
---@field lists? table<string, (moongate.Listing|"base")[]>

--- Fills `scope.lists`.
---@param scope moongate.Scope
function M:read(scope)
  scope.lists = {}
  for _, section in ipairs(M.SECTIONS) do
    local list, base_at = {}, nil
    for i, item in ipairs(scope.policies and scope.policies[section] or {}) do
      local path = ("%s.%s[%d]"):format(scope.path, section, i)
      if item == policies.base then
        if base_at then
          self.errors:add({ file = scope.file, path = path, message = "base stands here twice" })
        end
        base_at = i
        list[#list + 1] = "base"
      elseif type(item) == "function" then
        list[#list + 1] = self:from_function(item, scope, section, path)
      else
        local record = records.record_of(item)
        if record then
          list[#list + 1] = self:from_record(record, scope, section, path)
        end
      end
    end
    scope.lists[section] = list
  end
  return scope
end

--- A listing that the gateway adds by itself.
function M:built_in(name, conf, scope, section, file, line)
  local one = self:from_record({ name = name, conf = conf, file = file, line = line }, scope, section,
    scope.path)
  return one
end

return M
