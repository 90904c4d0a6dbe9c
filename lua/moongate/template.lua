-- SPDX-License-Identifier: Apache-2.0
--- Templates of bodies: `{{ expression | filter }}` over `ctx`, `{% if … %}`, `{% elsif … %}`,
--- `{% else %}`, `{% for x in … %}`, `{% end %}`, `{# comment #}`. Compiled when loaded, in the sandbox;
--- what comes from a request is a value, never a template. Values are escaped for the media type.

local ctx_names = require("moongate.ctx_names")
local expression = require("moongate.expression")
local sandbox = require("moongate.sandbox")

local concat, tostring, type = table.concat, tostring, type

local M = {}

local MARKUP = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
  ["'"] = "&#39;" }
local JSON = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t", ["<"] = "\\u003c", [">"] = "\\u003e", ["&"] = "\\u0026" }

local text_of = expression.show

local function markup(value)
  return (text_of(value):gsub("[&<>\"']", MARKUP):gsub("[%z\1-\8\11\12\14-\31]", ""))
end

local function inside_json(value)
  return (text_of(value):gsub('[%c"\\<>&]', function(c)
    return JSON[c] or ("\\u%04x"):format(c:byte())
  end))
end

local function percent(value)
  return (text_of(value):gsub("[^%w_.~-]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function inside_csv(value)
  local text = text_of(value)
  if text:find("^[=+@\t\r-]") and not tonumber(text) then
    text = "'" .. text -- no formula
  end
  return text:find('[",\r\n]') and '"' .. text:gsub('"', '""') .. '"' or text
end

--- How a value is written into a body of a media type.
---@param media string?
function M.escape_for(media)
  media = (media or ""):lower():match("^%s*([^;%s]*)")
  if media:find("json", 1, true) or media:find("javascript", 1, true) then
    return inside_json
  elseif media:find("xml", 1, true) or media:find("html", 1, true) then
    return markup
  elseif media == "application/x-www-form-urlencoded" then
    return percent
  elseif media == "text/csv" then
    return inside_csv
  end
  return text_of
end

local function encode(value)
  return (assert(require("moongate.json").encode(value)):gsub("[<>&]", JSON))
end

M.filters = {
  raw = text_of,
  json = encode,
  url = percent,
  html = markup,
  xml = markup,
  upper = function(value) return text_of(value):upper() end,
  lower = function(value) return text_of(value):lower() end,
  trim = function(value) return text_of(value):match("^%s*(.-)%s*$") end,
  length = function(value) return value == nil and 0 or #value end,
  base64 = function(value) return require("moongate.crypto").base64(text_of(value)) end,
}
-- What these give is written as it is.
local IS_FINAL = { raw = true, json = true, url = true, html = true, xml = true }

--- Takes `a | b | c` apart, stepping over strings and brackets.
local function split_filters(text)
  local parts, from, depth, quote, at = {}, 1, 0, nil, 1
  while at <= #text do
    local c = text:sub(at, at)
    if quote then
      if c == "\\" then
        at = at + 1
      elseif c == quote then
        quote = nil
      end
    elseif c == '"' or c == "'" then
      quote = c
    elseif c:find("[%(%[{]") then
      depth = depth + 1
    elseif c:find("[%)%]}]") then
      depth = depth - 1
    elseif c == "|" and depth == 0 then
      parts[#parts + 1] = text:sub(from, at - 1)
      from = at + 1
    end
    at = at + 1
  end
  parts[#parts + 1] = text:sub(from)
  return parts
end

-- An expression must stand by itself, or it could close the function around it.
local function check_alone(code)
  local ok, err = sandbox.load("return " .. code .. "\n", "=template")
  err = ok == nil and err or ctx_names.check(code)
  return err == nil, err
end

--- The Lua of `{{ … }}`.
local function output(code)
  local parts = split_filters(code)
  local ok, err = check_alone(parts[1])
  if not ok then
    return nil, err
  end
  local text, is_final = "(" .. parts[1] .. "\n)", false
  for i = 2, #parts do
    local name = parts[i]:match("^%s*([%w_]+)%s*$")
    if not name or not M.filters[name] then
      return nil, ("unknown filter %q"):format(parts[i])
    end
    text = ("F.%s(%s)"):format(name, text)
    is_final = IS_FINAL[name] or false
  end
  return ("n = n + 1 out[n] = %s"):format(is_final and "T(" .. text .. ")" or "E(" .. text .. ")")
end

local function statement(code, state)
  local word, rest = code:match("^%s*(%a+)%s*(.-)%s*$")
  if word == "if" or word == "elsif" then
    local ok, err = check_alone(rest)
    if not ok then
      return nil, err
    end
    if word == "if" then
      state.open = state.open + 1
    end
    return (word == "if" and "if " or "elseif ") .. rest .. "\n then"
  elseif word == "else" and rest == "" then
    return "else"
  elseif word == "for" then
    local name, list = rest:match("^([%a_][%w_]*)%s+in%s+(.+)$")
    if not name then
      return nil, "expected {% for NAME in LIST %}"
    end
    local ok, err = check_alone(list)
    if not ok then
      return nil, err
    end
    state.open = state.open + 1
    return ("for index, %s in each(%s\n) do"):format(name, list)
  elseif word == "end" and rest == "" then
    state.open = state.open - 1
    return state.open >= 0 and "end" or nil, "{% end %} without a beginning"
  end
  return nil, ("unknown statement %q"):format(tostring(word))
end

local function each(list)
  if type(list) ~= "table" then
    return ipairs({})
  end
  return ipairs(list)
end

--- Compiles a template.
---@param text string
---@param media? string of the body
---@return (fun(ctx: moongate.Ctx): string)? render
---@return string? err
function M.compile(text, media)
  local code, state, at = {}, { open = 0 }, 1
  local function literal(part)
    if part ~= "" then
      code[#code + 1] = ("n = n + 1 out[n] = %q"):format(part):gsub("\\\n", "\\n")
    end
  end
  while true do
    local from, _, kind = text:find("{([{%%#])", at)
    literal(text:sub(at, (from or #text + 1) - 1))
    if not from then
      break
    end
    local close = kind == "{" and "}}" or kind .. "}"
    local to = text:find(close, from + 2, true)
    if not to then
      return nil, ("%q without %q"):format("{" .. kind, close)
    end
    local inner, line, err = text:sub(from + 2, to - 1), "", nil
    if kind == "{" then
      line, err = output(inner)
    elseif kind == "%" then
      line, err = statement(inner, state)
    end
    if not line then
      return nil, err
    end
    code[#code + 1] = line
    at = to + 2
  end
  if state.open ~= 0 then
    return nil, "{% end %} is missing"
  end
  local source = "local F, E, T, each, concat = ... return function(ctx) local out, n = {}, 0 "
    .. concat(code, "\n") .. "\nreturn concat(out) end"
  local chunk, err = sandbox.load(source, "=template")
  if not chunk then
    return nil, err
  end
  return chunk(M.filters, M.escape_for(media), text_of, each, concat)
end

return M
