-- SPDX-License-Identifier: Apache-2.0
--- Reads GraphQL requests (executable documents, October 2021) as far as a guard needs them: which
--- fields are asked for, how deep, and where each stands in the text. Everything is bounded.

local json = require("moongate.json")

local M = {}

local MAX_TOKENS = 20000
local MAX_NESTING = 64
local MAX_VISITS = 20000

--- The end of a JSON string that begins at `from`.
local function string_end(text, from)
  local at = from + 1
  while true do
    local to = text:find('["\\]', at)
    if text:sub(to, to) == '"' then
      return to
    end
    at = to + 2
  end
end

local Parser = {}
Parser.__index = Parser

local function fail(parser, message)
  error({ graphql = ("%s at byte %d"):format(message, parser.from or 1) }, 0)
end

--- Moves to the next token: `kind` is its first character, or "name", "number", "string", "end".
function Parser:next()
  local text, at = self.text, self.at
  while true do
    at = text:find("[^%s,\239]", at) or #text + 1
    if text:sub(at, at) == "#" then
      at = text:find("[\r\n]", at) or #text + 1
    elseif text:sub(at, at + 2) == "\239\187\191" then
      at = at + 3
    else
      break
    end
  end
  self.last = self.to
  self.from = at
  self.count = self.count + 1
  if self.count > MAX_TOKENS then
    fail(self, "too many words")
  end
  local c = text:sub(at, at)
  local to
  if c == "" then
    self.kind, to = "end", at - 1
  elseif c:find("[%a_]") then
    to = select(2, text:find("^[%w_]+", at))
    self.kind, self.value = "name", text:sub(at, to)
  elseif c == '"' then
    to = self:string_end(at)
    self.kind = "string"
  elseif c:find("[%d-]") then
    to = select(2, text:find("^-?[%d.eE+-]+", at)) or at
    self.kind = "number"
  elseif text:sub(at, at + 2) == "..." then
    self.kind, to = "...", at + 2
  elseif c:find("[!$&()%[%]{}:=@|]") then
    self.kind, to = c, at
  else
    fail(self, "a character that GraphQL does not have")
  end
  self.to, self.at = to, to + 1
end

function Parser:string_end(at)
  local text = self.text
  if text:sub(at, at + 2) == '"""' then
    local from = at + 3
    while true do
      local stop = text:find('"""', from, true)
      if not stop then
        fail(self, "a string without its end")
      elseif text:sub(stop - 1, stop - 1) ~= "\\" then
        return stop + 2
      end
      from = stop + 3
    end
  end
  local from = at + 1
  while true do
    local stop = text:find('["\\\r\n]', from)
    local c = stop and text:sub(stop, stop)
    if c == '"' then
      return stop
    elseif c ~= "\\" then
      fail(self, "a string without its end")
    end
    from = stop + 2
  end
end

function Parser:expect(kind)
  if self.kind ~= kind then
    fail(self, ("expected %s"):format(kind == "name" and "a name" or '"' .. kind .. '"'))
  end
  local value = self.value
  self:next()
  return value
end

local CLOSERS = { ["("] = ")", ["["] = "]", ["{"] = "}" }

--- Over arguments and their values.
function Parser:skip_group()
  local open = { CLOSERS[self.kind] }
  self:next()
  while #open > 0 do
    if CLOSERS[self.kind] then
      open[#open + 1] = CLOSERS[self.kind]
      if #open > MAX_NESTING then
        fail(self, "nested too deeply")
      end
    elseif self.kind == open[#open] then
      open[#open] = nil
    elseif self.kind == "end" or self.kind == ")" or self.kind == "]" or self.kind == "}" then
      fail(self, "a bracket without its other half")
    end
    self:next()
  end
end

function Parser:skip_directives()
  while self.kind == "@" do
    self:next()
    self:expect("name")
    if self.kind == "(" then
      self:skip_group()
    end
  end
end

function Parser:selection(depth)
  local from = self.from
  if self.kind == "..." then
    self:next()
    local one = { from = from }
    if self.kind == "name" and self.value ~= "on" then
      one.spread = self:expect("name")
      self:skip_directives()
    else
      if self.kind == "name" then
        self:next()
        self:expect("name")
      end
      self:skip_directives()
      one.selections = self:selections(depth)
    end
    one.to = self.last
    return one
  end
  local one = { from = from, name = self:expect("name") }
  if self.kind == ":" then
    self:next()
    one.name = self:expect("name")
  end
  if self.kind == "(" then
    self:skip_group()
  end
  self:skip_directives()
  if self.kind == "{" then
    one.selections = self:selections(depth + 1)
  end
  one.to = self.last
  return one
end

function Parser:selections(depth)
  if depth > MAX_NESTING then
    fail(self, "nested too deeply")
  end
  local list = { from = self.from }
  self:expect("{")
  while self.kind ~= "}" do
    list[#list + 1] = self:selection(depth)
  end
  if #list == 0 then
    fail(self, "a selection of nothing")
  end
  list.to = self.to
  self:next()
  return list
end

local ROOTS = { query = "Query", mutation = "Mutation", subscription = "Subscription" }

function Parser:document()
  local document = { operations = {}, fragments = {}, visits = 0 }
  self:next()
  while self.kind ~= "end" do
    local word = self.kind == "{" and "query" or self.value
    if self.kind == "{" then
      document.operations[#document.operations + 1] = { root = "Query", kind = "query",
        selections = self:selections(1) }
    elseif self.kind == "name" and ROOTS[word] then
      self:next()
      local operation = { root = ROOTS[word], kind = word }
      if self.kind == "name" then
        operation.name = self:expect("name")
      end
      if self.kind == "(" then
        self:skip_group()
      end
      self:skip_directives()
      operation.selections = self:selections(1)
      document.operations[#document.operations + 1] = operation
    elseif self.kind == "name" and word == "fragment" then
      self:next()
      local name = self:expect("name")
      if document.fragments[name] then
        fail(self, "a fragment twice")
      end
      if self:expect("name") ~= "on" then
        fail(self, 'expected "on"')
      end
      self:expect("name")
      self:skip_directives()
      document.fragments[name] = { name = name, selections = self:selections(1) }
    else
      fail(self, "expected an operation or a fragment")
    end
  end
  if #document.operations == 0 then
    fail(self, "there is no operation")
  end
  return document
end

--- Parses a document.
---@param text string
---@return table? document { operations = { { root, kind, name?, selections } }, fragments }
---@return string? err
function M.parse(text)
  local parser = setmetatable({ text = text, at = 1, to = 0, count = 0 }, Parser)
  local ok, result = pcall(parser.document, parser)
  if ok then
    return result
  end
  return nil, type(result) == "table" and result.graphql or tostring(result)
end

--- Visits every field that an operation asks for, fragments followed.
---@param document table
---@param operation table
---@param visit fun(path: string, depth: integer, selection: table, owner: table, index: integer)
---@return string? err circles, unknown fragments, more than is bearable in all of the document
function M.walk(document, operation, visit)
  local open = {}
  local function walk(selections, path, depth)
    for i, one in ipairs(selections) do
      document.visits = document.visits + 1
      if document.visits > MAX_VISITS then
        return "asks for too many fields"
      end
      local err
      if one.name then
        local own = path .. "/" .. one.name
        visit(own, depth, one, selections, i)
        if one.selections then
          err = walk(one.selections, own, depth + 1)
        end
      elseif one.spread then
        local fragment = document.fragments[one.spread]
        if not fragment then
          return ("there is no fragment %q"):format(one.spread)
        elseif open[fragment] then
          return ("fragment %q includes itself"):format(one.spread)
        end
        open[fragment] = true
        err = walk(fragment.selections, path, depth)
        open[fragment] = nil
      else
        err = walk(one.selections, path, depth)
      end
      if err then
        return err
      end
    end
    return nil
  end
  return walk(operation.selections, "/" .. operation.root, 1)
end

--- Replaces the value of members `query` in the text of one request, or of a list of them; all else
--- stays as it was written.
---@param text string valid JSON without members that occur twice
---@param replace fun(value: string): string
---@return string
function M.replace_queries(text, replace)
  local level = text:find("^%s*%[") and 2 or 1
  local out, depth, at, kept = {}, 0, 1, 1
  while true do
    local from = text:find('["{}%[%]]', at)
    if not from then
      out[#out + 1] = text:sub(kept)
      return table.concat(out)
    end
    local c = text:sub(from, from)
    if c ~= '"' then
      depth = depth + ((c == "{" or c == "[") and 1 or -1)
      at = from + 1
    else
      local to = string_end(text, from)
      local value = depth == level and text:match('^%s*:%s*()"', to + 1)
      if value and json.decode(text:sub(from, to)) == "query" then
        to = string_end(text, value)
        out[#out + 1] = text:sub(kept, value - 1)
        out[#out + 1] = json.encode(replace((json.decode(text:sub(value, to)))))
        kept = to + 1
      end
      at = to + 1
    end
  end
end

--- The text without some selections. Where nothing is left of a set, `__typename` stands in it.
---@param text string
---@param removed table<table, table<integer, boolean>> by set: indexes
---@return string
function M.without(text, removed)
  local cuts = {}
  for selections, indexes in pairs(removed) do
    local left = #selections
    for i in pairs(indexes) do
      left = left - 1
      cuts[#cuts + 1] = { from = selections[i].from, to = selections[i].to, put = " " }
    end
    if left == 0 then
      cuts[#cuts + 1] = { from = selections.from + 1, to = selections.to - 1, put = " __typename " }
    end
  end
  table.sort(cuts, function(a, b)
    return a.from < b.from or a.from == b.from and a.to > b.to
  end)
  local out, at = {}, 1
  for _, cut in ipairs(cuts) do
    if cut.from >= at then
      out[#out + 1] = text:sub(at, cut.from - 1)
      out[#out + 1] = cut.put
      at = cut.to + 1
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

return M
