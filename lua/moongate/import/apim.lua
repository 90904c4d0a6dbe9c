-- SPDX-License-Identifier: Apache-2.0
--- Azure's policy documents as ours. What is not translated is told with its line, and refuses
--- requests until somebody has written it: a check that is lost must not be lost in silence.

local emit = require("moongate.import.apim.emit")
local xml = require("moongate.import.xml")

local M = {}

local append, children, give_up, indented, quote = emit.append, emit.children, emit.give_up,
  emit.indented, emit.quote

-- Policies by name; each gives lines, or gives up with what it cannot translate.
local T = {}
for _, group in ipairs({ "traffic", "transformation", "requests" }) do
  for name, translate in pairs(require("moongate.import.apim." .. group)) do
    T[name] = translate
  end
end

local list_of

T["include-fragment"] = function(node)
  emit.only(node, "fragment-id")
  return { ("p.include(%s)"):format(quote(emit.plain(node, "fragment-id")
    or give_up("include-fragment without fragment-id"))) }
end

T.choose = function(node, document)
  local out, is_first = {}, true
  for _, one in ipairs(node) do
    local head
    if one.name == "when" then
      head = is_first and ("p.when(%s, {"):format(emit.condition(one.attributes.condition))
        or ("}):elsewhen(%s, {"):format(emit.condition(one.attributes.condition))
    elseif one.name == "otherwise" and not is_first then
      head = "}, {"
    else
      give_up(("<%s> within choose"):format(one.name))
    end
    is_first = false
    out[#out + 1] = head
    append(out, indented(list_of(one, document)))
  end
  if is_first then
    give_up("choose without <when>")
  end
  out[#out + 1] = "})"
  return out
end

T.retry = function(node, document)
  emit.only(node, "condition", "count", "interval", "delta", "max-interval", "first-fast-retry")
  local fields = { "count = " .. (emit.number(node, "count") or give_up("retry without count")) }
  if node.attributes.condition then
    fields[#fields + 1] = "condition = " .. emit.condition(node.attributes.condition)
  end
  for _, name in ipairs({ "interval", "delta", "max-interval" }) do
    if node.attributes[name] then
      fields[#fields + 1] = ("%s = %s"):format(name:gsub("-", "_"), emit.number(node, name))
    end
  end
  if node.attributes["first-fast-retry"] then
    fields[#fields + 1] = "first_fast_retry = " .. emit.boolean(node, "first-fast-retry")
  end
  fields[#fields + 1] = "only_idempotent = false" -- there every call is made again
  local out = { "p.retry {" }
  append(out, indented({ table.concat(fields, ", ") .. "," }))
  append(out, indented(list_of(node, document)))
  out[#out + 1] = "}"
  return out
end

T["limit-concurrency"] = function(node, document)
  emit.only(node, "key", "max-count")
  local out = { "p.limit_concurrency {" }
  append(out, indented({ ("key = %s, max = %s,"):format(emit.value(node.attributes.key),
    emit.number(node, "max-count") or give_up("limit-concurrency without max-count")) }))
  append(out, indented(list_of(node, document)))
  out[#out + 1] = "}"
  return out
end

--- The listing's own name, which any policy of ours takes; a function has none.
local function add_id(node, lines)
  local id = node.attributes.id
  if not id or not lines[1] then
    return
  end
  local n
  lines[1], n = lines[1]:gsub("^(p%.[%w_]+ {)( ?)", function(head, space)
    return space == "" and ("%s\n  id = %s,"):format(head, quote(id))
      or ("%s id = %s, "):format(head, quote(id))
  end)
  if n == 0 then
    table.insert(lines, 1, ("-- id: %s"):format((id:gsub("[\r\n]", " "))))
  end
end

--- Named values that expressions use are left in variables: they are put into texts only.
local function add_named(lines, document)
  local out, seen = {}, {}
  for name in table.concat(lines, "\n"):gmatch('ctx%.vars%["named%.([%w_.-]+)"%]') do
    if not seen[name] and not document.named[name] then
      seen[name] = true
      out[#out + 1] = ("p.set_variable { name = %s, value = %s },"):format(quote("named." .. name),
        quote("{{" .. name .. "}}"))
    end
  end
  return out
end

--- One policy as lines, the last ending with a comma; none for one that needs none.
local function translated(node, document)
  local translate = T[node.name] or give_up("the policy")
  local lines = emit.lines(translate(node, document))
  if #lines == 0 then
    return lines
  end
  add_id(node, lines)
  lines = emit.lines(lines)
  lines[#lines] = lines[#lines] .. ","
  local out = add_named(lines, document)
  append(out, lines)
  return out
end

--- What stands in the place of a policy that is not translated: it lets nothing pass.
local function refusing(node, why, document)
  document.notes[#document.notes + 1] = { line = node.line,
    text = ("<%s>: %s is not translated"):format(node.name, why) }
  return { ("-- line %d: <%s>: %s"):format(node.line, node.name, (why:gsub("%s+", " "))),
    ("function() error(%s) end,"):format(quote(("<%s> of line %d is not translated"):format(node.name,
      node.line))) }
end

--- The policies of an element, each ending with a comma.
function list_of(node, document)
  local out = {}
  for _, one in ipairs(node) do
    if one.name == "base" then
      out[#out + 1] = "base,"
    else
      local ok, lines = pcall(translated, one, document)
      if not ok and not (type(lines) == "table" and lines.apim) then
        error(lines, 0)
      end
      append(out, ok and lines or refusing(one, lines.apim, document))
    end
  end
  return out
end

local SECTIONS = { "inbound", "backend", "outbound", "on-error" }

local function sections_of(root, document)
  local body, known = {}, {}
  for _, name in ipairs(SECTIONS) do
    known[name], document.section = true, name
    for _, section in ipairs(children(root, name)) do
      local lines = list_of(section, document)
      if #lines > 0 then
        append(body, { ("  %s = {"):format(name:gsub("-", "_")) })
        append(body, indented(indented(lines)))
        append(body, { "  }," })
      end
    end
  end
  for _, one in ipairs(root) do
    if not known[one.name] then
      document.notes[#document.notes + 1] = { line = one.line,
        text = ("<%s>: no section"):format(one.name) }
    end
  end
  return body
end

--- The first element of a name, however deep.
local function find(node, name)
  for _, one in ipairs(node) do
    local found = one.name == name and one or find(one, name)
    if found then
      return found
    end
  end
  return nil
end

local function told(notes, file)
  table.sort(notes, function(a, b)
    return a.line < b.line
  end)
  local out = {}
  for i, note in ipairs(notes) do
    out[i] = ("%s:%d: %s"):format(file, note.line, note.text)
  end
  return out
end

--- Converts a document.
---@param text string
---@param file string
---@return string? lua
---@return string? err
---@return string[]? notes what was not translated, with its line
function M.convert(text, file)
  local root, err = xml.read(text)
  if not root then
    return nil, ("%s: %s"):format(file, err)
  elseif root.name ~= "policies" and root.name ~= "fragment" then
    return nil, ("%s: line %d: expected <policies>, got <%s>"):format(file, root.line, root.name)
  end
  local document = { notes = {}, named = {}, section = "inbound",
    cache_store = find(root, "cache-store"), cache_lookup = find(root, "cache-lookup") }
  local body = root.name == "fragment" and indented(list_of(root, document))
    or sections_of(root, document)
  local lines = { "-- From " .. file:match("[^/]*$") .. ", an Azure API Management policy document.",
    'local p = require("moongate.policies")' }
  local lua = table.concat(body, "\n")
  if lua:find("%f[%w]cs%.") then
    table.insert(lines, 2, 'local cs = require("moongate.csharp")')
  end
  if lua:find("%f[%w]base,") then
    lines[#lines + 1] = "local base = p.base"
  end
  append(lines, { "", "return {" })
  append(lines, body)
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n") .. "\n", nil, told(document.notes, file)
end

return M
