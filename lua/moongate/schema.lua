-- SPDX-License-Identifier: Apache-2.0
--- Checks plain tables against a schema like JSON Schema's, compiled once. Every error is
--- collected, with the field's path, what was expected, what came, and the near miss.
---
--- Keywords: type (one or a list of object, array, string, number, integer, boolean, function,
--- policy, any), properties, order, required, additionalProperties, propertyNames (a Lua pattern),
--- items, minItems, maxItems, enum, minimum, maximum, ceiling, exclusiveMinimum, minLength, maxLength,
--- pattern (a Lua pattern), oneOf/anyOf, default, secret, check, expected, description, example.

local definition = require("moongate.schema_definition")
local near = require("moongate.near")

local M = {}

---@class moongate.SchemaError
---@field path string where: "sites[1].routes[2].path"
---@field message string what people read
---@field expected? string
---@field got? string
---@field hint? string the near miss

---@class moongate.SchemaOptions
---@field path? string what the paths start with
---@field show? fun(value: any): string? another text for a value, for what must stay secret
---@field resolve? fun(reference: table): string?, string? the secret that `{ env = … }` names

local MAX_DEPTH = 64

-- What counts as a policy in a list is the policy library's business.
local is_policy = function(_)
  return false
end

--- Told once by the policy library, which knows its own records.
---@param f fun(value: any): boolean
function M.set_policy_test(f)
  is_policy = f
end

local function is_array(t)
  local count = 0
  for key in pairs(t) do
    if type(key) ~= "number" then
      return false
    end
    count = count + 1
  end
  return count == #t
end

local function is_integer(v)
  return type(v) == "number" and v == math.floor(v) and v > -9.1e15 and v < 9.1e15
end

local types = {
  object = function(v)
    return type(v) == "table" and not is_policy(v) and (next(v) == nil or #v == 0)
  end,
  array = function(v)
    return type(v) == "table" and not is_policy(v) and is_array(v)
  end,
  string = function(v)
    return type(v) == "string"
  end,
  number = function(v)
    return type(v) == "number" and v == v and v > -math.huge and v < math.huge
  end,
  integer = is_integer,
  boolean = function(v)
    return type(v) == "boolean"
  end,
  ["function"] = function(v)
    return type(v) == "function"
  end,
  policy = function(v)
    return type(v) == "function" or is_policy(v)
  end,
  any = function(v)
    return v ~= nil
  end,
}

local function quoted(s)
  if #s > 60 then
    s = s:sub(1, 57) .. "..."
  end
  return '"' .. s:gsub('[%c"\\]', function(c)
    return ("\\%d"):format(c:byte())
  end) .. '"'
end

--- The first item that a list lacks: a name that has no value was written there. Nil for no list.
local function first_hole(t)
  for key in next, t do
    if type(key) ~= "number" or key < 1 or key ~= math.floor(key) then
      return nil
    end
  end
  local i = 1
  while t[i] ~= nil do
    i = i + 1
  end
  return i
end

--- A value as an error shows it.
---@param value any
---@return string
function M.show(value)
  local kind = type(value)
  if value == nil then
    return "nothing"
  elseif kind == "string" then
    return quoted(value)
  elseif kind == "number" or kind == "boolean" then
    return tostring(value)
  elseif is_policy(value) then
    return "a policy"
  elseif kind == "table" then
    if next(value) == nil then
      return "an empty table"
    end
    if is_array(value) then
      return ("a list of %d"):format(#value)
    end
    local hole = first_hole(value)
    if hole then
      return ("a list whose item %d is nil"):format(hole)
    end
    return #value == 0 and "a table" or ("a table that has %s without a name"):format(
      #value == 1 and "an item" or #value .. " items")
  end
  return "a " .. kind
end

--- Values as a sentence has them: "a", "b" or "c".
---@param values any[]
---@param word string "or", "and"
local function list_of(values, word)
  local out = {}
  for i = 1, #values do
    out[i] = type(values[i]) == "string" and quoted(values[i]) or tostring(values[i])
  end
  if #out == 1 then
    return out[1]
  end
  local last = table.remove(out)
  return table.concat(out, ", ") .. " " .. word .. " " .. last
end

M.list_of = list_of

local units = { s = "seconds" }

local nouns = { object = "table", array = "list" }

--- What a schema wants, in few words: "integer >= 1", "one of \"a\" or \"b\"".
---@param def table
---@return string
function M.expected(def)
  if def.expected then
    return def.expected
  elseif def.enum then
    return list_of(def.enum, "or")
  elseif def.oneOf or def.anyOf then
    local parts, seen = {}, {}
    for _, branch in ipairs(def.oneOf or def.anyOf) do
      local text = M.expected(branch)
      if not seen[text] then
        seen[text] = true
        parts[#parts + 1] = text
      end
    end
    return table.concat(parts, " or ")
  end
  local names = type(def.type) == "table" and def.type or { def.type or "any" }
  local out = {}
  for i = 1, #names do
    out[i] = nouns[names[i]] or names[i] == "any" and "any value" or names[i]
  end
  local text = table.concat(out, " or ")
  if def.minimum and def.maximum then
    text = ("%s from %s to %s"):format(text, def.minimum, def.maximum)
  elseif def.minimum then
    text = ("%s >= %s"):format(text, def.minimum)
  elseif def.exclusiveMinimum then
    text = ("%s > %s"):format(text, def.exclusiveMinimum)
  elseif def.maximum then
    text = ("%s <= %s"):format(text, def.maximum)
  end
  if def.minLength == 1 then
    text = "non-empty " .. text
  elseif def.minLength then
    text = ("%s of at least %d bytes"):format(text, def.minLength)
  end
  if def.unit then
    text = ("%s (%s)"):format(text, units[def.unit] or def.unit)
  end
  if def.secret then
    text = text .. ', { env = "NAME" } or { file = "path" }'
  end
  return text
end

local function join(path, key)
  if type(key) == "number" then
    return ("%s[%d]"):format(path, key)
  end
  local name = tostring(key)
  if not name:find("^[%a_][%w_]*$") then
    name = "[" .. quoted(name) .. "]"
    return path .. name
  end
  return path == "" and name or path .. "." .. name
end
M.join = join

local function show(state, value)
  return state.show and state.show(value) or M.show(value)
end

local function fail(state, path, expected, value, hint, message)
  local got = show(state, value)
  state.errors[#state.errors + 1] = {
    path = path,
    expected = expected,
    got = got,
    hint = hint,
    message = message or ("expected %s, got %s"):format(expected, got),
  }
end

--- Whether a value is `{ env = "NAME" }` or `{ file = "path" }`, and nothing else.
function M.is_reference(value)
  if type(value) ~= "table" then
    return false
  end
  local key, name = next(value)
  return (key == "env" or key == "file") and type(name) == "string" and next(value, key) == nil
end

local function copy(value)
  if type(value) ~= "table" then
    return value
  end
  local out = {}
  for k, v in pairs(value) do
    out[k] = copy(v)
  end
  return out
end

local compile

local function compile_enum(def)
  local allowed, names = {}, {}
  for _, value in ipairs(def.enum) do
    allowed[value] = true
    names[#names + 1] = type(value) == "string" and value or nil
  end
  return function(value, path, state)
    if allowed[value] then
      return value
    end
    local hint = type(value) == "string" and near.find(value, names) or nil
    fail(state, path, M.expected(def), value, hint)
    return nil
  end
end

local function compile_choice(def)
  local branches, validators = def.oneOf or def.anyOf, {}
  for i, branch in ipairs(branches) do
    validators[i] = compile(branch)
  end
  return function(value, path, state)
    local best, hint
    for i = 1, #validators do
      if validators[i].accepts(value) then
        local trial = setmetatable({ errors = {} }, { __index = state })
        local result = validators[i].run(value, path, trial)
        if #trial.errors == 0 then
          return result
        end
        if not best or #trial.errors < #best then
          best = trial.errors
        end
        hint = hint or trial.errors[1].hint
      end
    end
    -- Of a table the branch says what is wrong inside it; of all else every branch is worth naming.
    if best and type(value) == "table" then
      for _, err in ipairs(best) do
        state.errors[#state.errors + 1] = err
      end
    else
      fail(state, path, M.expected(def), value, hint)
    end
    return nil
  end
end

local KNOWN_FIELDS = 16 -- more are not listed where a field is unknown

--- What is said of a field that is none of these, and the near miss.
local function unknown_field(def, names, key, shown)
  local hint = type(key) == "string" and near.find(key, names) or nil
  local message = ("unknown field %s"):format(shown)
  if not hint and #names > 0 and #names <= KNOWN_FIELDS then
    message = ("%s; there is %s"):format(message, list_of(def.order or names, "and"))
  end
  return message, hint
end

local function check_object(def, fields, extra)
  local names = near.keys(def.properties or {})
  local required = def.required or {}
  return function(value, path, state)
    local out = {}
    for key, item in pairs(value) do
      local field = fields[key]
      if field then
        out[key] = field.run(item, join(path, key), state)
      elseif def.additionalProperties == false then
        local message, hint = unknown_field(def, names, key, show(state, key))
        fail(state, join(path, key), nil, item, hint, message)
      else
        if type(key) ~= "string" or def.propertyNames and not key:find(def.propertyNames) then
          local wanted = def.nameExpected or "a name"
          fail(state, join(path, key), wanted, key, nil)
        elseif extra then
          out[key] = extra.run(item, join(path, key), state)
        else
          out[key] = item
        end
      end
    end
    for i = 1, #required do
      local name = required[i]
      if value[name] == nil then
        local wanted = M.expected(def.properties and def.properties[name] or {})
        local message = ("required field is missing (expected %s)"):format(wanted)
        fail(state, join(path, name), wanted, nil, nil, message)
      end
    end
    for name, field in pairs(fields) do
      if value[name] == nil and field.default ~= nil then
        -- A table as default is checked too: its own defaults are filled in.
        local default = copy(field.default)
        if type(default) == "table" then
          default = field.run(default, join(path, name), state)
        end
        out[name] = default
      end
    end
    return out
  end
end

local function compile_object(def)
  local fields = {}
  for name, field in pairs(def.properties or {}) do
    fields[name] = compile(field)
  end
  local more = def.additionalProperties
  return check_object(def, fields, type(more) == "table" and compile(more) or nil)
end

local function compile_array(def)
  local item = def.items and compile(def.items)
  return function(value, path, state)
    local size = #value
    if def.minItems and size < def.minItems then
      fail(state, path, ("a list of at least %d"):format(def.minItems), value)
    elseif def.maxItems and size > def.maxItems then
      fail(state, path, ("a list of at most %d"):format(def.maxItems), value)
    end
    local out = {}
    for i = 1, size do
      if item then
        out[i] = item.run(value[i], join(path, i), state)
      else
        out[i] = value[i]
      end
    end
    return out
  end
end

local function check_number(def)
  return function(value, path, state)
    if def.ceiling and not def.maximum and value > def.ceiling then
      fail(state, path, ("%s, up to %d"):format(M.expected(def), def.ceiling), value)
      return nil
    elseif
      def.minimum and value < def.minimum
      or def.maximum and value > def.maximum
      or def.exclusiveMinimum and value <= def.exclusiveMinimum
    then
      fail(state, path, M.expected(def), value)
      return nil
    end
    return value
  end
end

local function check_string(def)
  return function(value, path, state)
    if
      def.minLength and #value < def.minLength
      or def.maxLength and #value > def.maxLength
      or def.pattern and not value:find(def.pattern)
    then
      fail(state, path, M.expected(def), value)
      return nil
    end
    return value
  end
end

local function identity(value)
  return value
end

local makers = {
  object = compile_object,
  array = compile_array,
  string = check_string,
  number = check_number,
  integer = check_number,
}

-- What is said of one value where a list of such values is wanted, or a table with known fields; nil for
-- all else.
local function unlisted(def, state, value)
  local shown = show(state, value)
  if def.type == "array" and type(value) == "string" then
    return ("expected %s, got %s; write { %s }"):format(M.expected(def), shown, shown)
  end
  local is_known = def.type == "object" and def.order and #def.order <= KNOWN_FIELDS
  if is_known and type(value) ~= "table" then
    return ("expected %s with %s, got %s"):format(M.expected(def), list_of(def.order, "or"), shown)
  end
  return nil
end

--- A checker for a schema with a type or a list of types.
local function compile_typed(def)
  local names = type(def.type) == "table" and def.type or { def.type or "any" }
  local checks, tests = {}, {}
  for i, name in ipairs(names) do
    tests[i] = types[name] or error(("schema: unknown type %q"):format(tostring(name)), 0)
    checks[i] = (makers[name] or function()
      return identity
    end)(def)
  end
  local function accepts(value)
    for i = 1, #tests do
      if tests[i](value) then
        return i
      end
    end
    return nil
  end
  local function run(value, path, state)
    local i = accepts(value)
    if not i then
      fail(state, path, M.expected(def), value, nil, unlisted(def, state, value))
      return nil
    end
    return checks[i](value, path, state)
  end
  return run, accepts
end

function compile(def)
  local run, accepts
  if def.enum then
    run = compile_enum(def)
  elseif def.oneOf or def.anyOf then
    run = compile_choice(def)
    accepts = function()
      return true
    end
  else
    run, accepts = compile_typed(def)
  end
  local inner = run
  run = function(value, path, state)
    if state.depth.n >= MAX_DEPTH then
      fail(state, path, "at most 64 levels of tables", value)
      return nil
    end
    if def.secret and M.is_reference(value) then
      local secret, err = nil, "a reference cannot be used here"
      if state.resolve then
        secret, err = state.resolve(value)
      end
      if not secret then
        fail(state, path, M.expected(def), value, nil, err)
      end
      return secret
    end
    local before = #state.errors
    state.depth.n = state.depth.n + 1
    local result = inner(value, path, state)
    state.depth.n = state.depth.n - 1
    if def.check and #state.errors == before then
      local ok, expected = def.check(result)
      if not ok then
        fail(state, path, expected or M.expected(def), value)
      end
    end
    return result
  end
  return {
    run = run,
    default = def.default,
    accepts = accepts or function()
      return true
    end,
  }
end

---@class moongate.Validator
local Validator = {}
Validator.__index = Validator

--- Checks a value; the value itself is left as it is.
---@param value any
---@param options? moongate.SchemaOptions
---@return any result a copy with defaults filled in; what was wrong is left out
---@return moongate.SchemaError[]? errors nil when all is well
function Validator:check(value, options)
  options = options or {}
  local state = {
    errors = {},
    show = options.show,
    resolve = options.resolve,
    depth = { n = 0 },
  }
  local result = self.root.run(value, options.path or "", state)
  if #state.errors > 0 then
    table.sort(state.errors, function(a, b)
      return a.path < b.path
    end)
    return result, state.errors
  end
  return result, nil
end

--- Compiles a schema.
---@param def table
---@return moongate.Validator
--- @raises "schema: …" where it is none
function M.compile(def)
  definition.check(def)
  return setmetatable({ root = compile(def) }, Validator)
end

return M
