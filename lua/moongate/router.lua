-- SPDX-License-Identifier: Apache-2.0
--- The routing rules, readable: what `explain` and specs use, and what the router in C must agree
--- with. Also finds leaves that clash or that can never match.

local M = {}
M.__index = M

--- Splits a path into its segments; "/a/" has a last, empty one.
local function segments(path)
  local out = {}
  for segment in path:gmatch("/([^/]*)") do
    out[#out + 1] = segment
  end
  return out
end
M.segments = segments

--- A list of names as one text, whatever its order; "" where it is left out.
local function names_key(list)
  local names = {}
  for i, name in ipairs(list or {}) do
    names[i] = name
  end
  table.sort(names)
  return table.concat(names, ",")
end

--- A path with the names of its parameters left out: what makes two patterns the same.
local function shape(path)
  return (path:gsub("{[^}/]*}", "{}"))
end

local function new_node()
  return { literal = {}, param = nil, leaves = {}, tail = {} }
end

local function insert(root, leaf)
  local node = root
  local list = segments(leaf.path)
  for i, segment in ipairs(list) do
    if segment == "*" and i == #list then
      node.tail[#node.tail + 1] = leaf
      return
    elseif segment:find("^{.*}$") then
      node.param = node.param or new_node()
      node = node.param
    else
      node.literal[segment] = node.literal[segment] or new_node()
      node = node.literal[segment]
    end
  end
  node.leaves[#node.leaves + 1] = leaf
end

--- Builds a reference router.
---@param routes table[] the plan's leaves
function M.new(routes)
  local self = setmetatable({ exact = {}, suffixes = {}, any = nil }, M)
  for _, leaf in ipairs(routes) do
    local host, root = leaf.host:lower(), nil
    if host == "*" then
      self.any = self.any or new_node()
      root = self.any
    elseif host:sub(1, 2) == "*." then
      local suffix = host:sub(2)
      for _, known in ipairs(self.suffixes) do
        root = known.suffix == suffix and known.root or root
      end
      if not root then
        root = new_node()
        self.suffixes[#self.suffixes + 1] = { suffix = suffix, root = root }
      end
    else
      self.exact[host] = self.exact[host] or new_node()
      root = self.exact[host]
    end
    insert(root, leaf)
  end
  table.sort(self.suffixes, function(a, b)
    return #a.suffix > #b.suffix
  end)
  return self
end

--- The tree of a host: exact, then the longest suffix, then any.
function M:site(host)
  host = host:lower()
  host = host:match("^(%[.*%])") or host:match("^([^:]*)")
  host = host:gsub("%.$", "")
  if self.exact[host] then
    return self.exact[host]
  end
  for _, known in ipairs(self.suffixes) do
    if #host > #known.suffix and host:sub(-#known.suffix) == known.suffix then
      return known.root
    end
  end
  return self.any
end

--- Of leaves with one path: the method itself before "*", a network before none.
local function choose(leaves, method, in_network, on_listener)
  local best, best_rank
  for _, leaf in ipairs(leaves) do
    if leaf.method == method or leaf.method == "*" then
      local admits = leaf.networks == nil
      for _, name in ipairs(leaf.networks or {}) do
        admits = admits or in_network(name)
      end
      if admits and (not leaf.listeners or on_listener(leaf.listeners)) then
        local rank = (leaf.networks and 2 or 0) + (leaf.method == "*" and 0 or 1)
        if not best or rank > best_rank then
          best, best_rank = leaf, rank
        end
      end
    end
  end
  return best
end

local function find(node, list, i, method, in_network, on_listener)
  if i > #list then
    return choose(node.leaves, method, in_network, on_listener)
      or choose(node.tail, method, in_network, on_listener)
  end
  local segment = list[i]
  local hit
  if node.literal[segment] then
    hit = find(node.literal[segment], list, i + 1, method, in_network, on_listener)
  end
  if not hit and node.param and segment ~= "" then
    hit = find(node.param, list, i + 1, method, in_network, on_listener)
  end
  return hit or choose(node.tail, method, in_network, on_listener)
end

--- Finds the leaf of a request.
---@param method string
---@param host string
---@param path string in normal form, without the query
---@param in_network? fun(name: string): boolean whether the client is in a network
---@param on_listener? fun(names: string[]): boolean whether it came on one of these; left out: yes
---@return table? leaf
---@return table<string, string>? params
function M:match(method, host, path, in_network, on_listener)
  local root = self:site(host)
  if not root then
    return nil
  end
  local list = segments(path)
  in_network = in_network or function()
    return false
  end
  on_listener = on_listener or function()
    return true
  end
  local leaf = find(root, list, 1, method, in_network, on_listener)
  if not leaf and self.any and root ~= self.any then
    leaf = find(self.any, list, 1, method, in_network, on_listener)
  end
  if not leaf then
    return nil
  end
  local params = {}
  for i, segment in ipairs(segments(leaf.path)) do
    local name = segment:match("^{(.*)}$")
    if name then
      params[name] = list[i]
    end
  end
  return leaf, params
end

--- The normal form of a path: unreserved characters decoded, other escapes in capitals, no empty
--- and no dot segments. What the gateway refuses gives nil.
---@param path string
---@param keeps_slash? boolean  %2F passes (`escaped_slash` of the listener)
---@return string?
---@return string? err
function M.normal_path(path, keeps_slash)
  if path:sub(1, 1) ~= "/" then
    return nil, "the path does not start with /"
  elseif path:find("[^!-~]") then
    return nil, "the path has a byte that requests must escape"
  elseif path:find("%%%X") or path:find("%%%x%X") or path:find("%%%x?$") then
    return nil, "the path has a broken escape"
  elseif path:find("%%2[fF]") and not keeps_slash or path:find("%%5[cC]") or path:find("%%00")
    or path:find("\\") or path:find("%%25%x%x") or path:find("/%.%.?;")
  then
    return nil, "the path has an ambiguous character"
  end
  path = path:gsub('["<>%[%]^`{|}]', function(c)
    return ("%%%02X"):format(c:byte())
  end)
  path = path:gsub("%%(%x%x)", function(hex)
    local c = string.char(tonumber(hex, 16))
    return c:find("[%w%-._~]") and c or "%" .. hex:upper()
  end)
  path = path:gsub("/+", "/")
  local out, ends_in_slash = {}, path:find("/%.?%.?$") ~= nil
  for segment in path:gmatch("[^/]+") do
    if segment == ".." then
      if #out == 0 then
        return nil, "the path leaves its root"
      end
      out[#out] = nil
    elseif segment ~= "." then
      out[#out + 1] = segment
    end
  end
  local normal = "/" .. table.concat(out, "/")
  return ends_in_slash and #out > 0 and normal .. "/" or normal
end

-- What the normal form of a path escapes: all but letters, digits and these.
local ESCAPED = "[^%w%-._~!$&'()*+,;=:@/]"

--- A pattern that `check_path` is content with, as requests have it: "/caf\195\169/{id}" is
--- "/caf%C3%A9/{id}".
---@param path string
---@return string
function M.escape_path(path)
  return (path:gsub("[^/]+", function(segment)
    return not segment:find("^{.*}$") and segment:gsub(ESCAPED, function(c)
      return ("%%%02X"):format(c:byte())
    end) or nil
  end))
end

--- What is wrong with a pattern, or nil.
---@param path string
---@return string?
function M.check_path(path)
  if path:find("[%c%s?#\\%%]") then
    return "a path in plain characters: no blanks, '?', '#', '%' or '\\'"
  end
  local list, seen = segments(path), {}
  for i, segment in ipairs(list) do
    local name = segment:match("^{(.*)}$")
    if name then
      if not name:find("^[%a_][%w_-]*$") then
        return ("a name in {%s}"):format(name)
      elseif seen[name] then
        return ("each parameter once; {%s} is there twice"):format(name)
      end
      seen[name] = true
    elseif segment == "*" then
      if i < #list then
        return "'*' only as the last segment"
      end
    elseif segment:find("[{}*]") then
      return "{param} or '*' as a whole segment"
    elseif segment == "." or segment == ".." then
      return "a path without dot segments"
    elseif segment == "" and i < #list then
      return "a path without empty segments"
    end
  end
  return nil
end

local function place(leaf)
  return ("%s:%s"):format(leaf.source.file, leaf.source.line or "?")
end

--- Finds leaves that clash: the same host, path, method, networks and listeners twice.
---@param routes table[]
---@param report fun(leaf: table, message: string)
function M.find_conflicts(routes, report)
  local seen = {}
  for _, leaf in ipairs(routes) do
    local key = table.concat({ leaf.host, shape(leaf.path), leaf.method, names_key(leaf.networks),
      names_key(leaf.listeners) }, " ")
    local other = seen[key]
    if other then
      report(leaf, ("%s %s%s is also taken at %s"):format(
        leaf.method, leaf.host, leaf.path, place(other)
      ))
    else
      seen[key] = leaf
    end
  end
end

local function subset(a, b)
  for _, x in ipairs(a) do
    local found = false
    for _, y in ipairs(b) do
      found = found or x == y
    end
    if not found then
      return false
    end
  end
  return true
end

--- Finds leaves that no request can reach, because more specific ones take all of theirs.
---@param routes table[]
---@param report fun(leaf: table, message: string)
function M.find_shadowed(routes, report)
  local by_path = {}
  -- A host's sites have no listener in common: leaves of equal lists only can be in one another's way.
  local function key_of(leaf, path)
    return ("%s %s %s"):format(leaf.host, names_key(leaf.listeners), path)
  end
  for _, leaf in ipairs(routes) do
    local key = key_of(leaf, shape(leaf.path))
    by_path[key] = by_path[key] or {}
    table.insert(by_path[key], leaf)
  end
  --- A leaf at `path` that takes everything that `leaf` would.
  local function taker(leaf, path)
    for _, other in ipairs(by_path[key_of(leaf, path)] or {}) do
      if not other.networks and (other.method == "*" or other.method == leaf.method) then
        return other
      end
    end
    return nil
  end
  for _, leaf in ipairs(routes) do
    local prefix = shape(leaf.path):match("^(.*)/%*$")
    if prefix then
      local own = prefix == "" and taker(leaf, "/")
        or taker(leaf, prefix) and taker(leaf, prefix .. "/")
      local below = taker(leaf, prefix .. "/{}/*")
      if own and below then
        report(leaf, ("%s%s never matches: %s and %s take all of its requests"):format(
          leaf.host, leaf.path, own.path, below.path
        ))
      end
    end
    if leaf.networks then
      for _, other in ipairs(by_path[key_of(leaf, shape(leaf.path))]) do
        if other.id < leaf.id and other.networks and other.method == leaf.method
          and #other.networks > #leaf.networks and subset(leaf.networks, other.networks)
        then
          report(leaf, ("%s%s never matches: %s admits its networks and comes first"):format(
            leaf.host, leaf.path, place(other)
          ))
        end
      end
    end
  end
end

return M
