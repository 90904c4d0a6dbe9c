-- SPDX-License-Identifier: Apache-2.0
--- Splits C# into tokens: as much of it as policy expressions use.

local M = {}

local ESCAPES = { n = "\n", t = "\t", r = "\r", ["0"] = "\0", a = "\a", b = "\b", f = "\f", v = "\v" }

local OPERATORS = {}
for operator in
  ([[?? && || == != <= >= => += -= *= /= ++ -- ?. ?[ = + - * / % < > ! ? : . , ; ( ) [ ] { }]])
    :gmatch("%S+")
do
  OPERATORS[operator] = true
end

local function give_up(what)
  error({ csharp = what }, 0)
end

--- One character behind a backslash. @return the text, and where it goes on
local function escape(text, at)
  local digits = text:match("^u(%x%x%x%x)", at) or text:match("^x(%x%x?%x?%x?)", at)
  if digits then
    local code = tonumber(digits, 16)
    if code >= 128 then
      give_up("a character beyond ASCII in an escape")
    end
    return string.char(code), at + 1 + #digits
  end
  local c = text:sub(at, at)
  return ESCAPES[c] or c, at + 1
end

--- A text from its opening quote on. `holes`: `{expression}` inside are told from the text.
--- @return parts texts, and tables { hole = source }; where it goes on
local function read_text(text, at, is_verbatim, has_holes)
  local parts, out = {}, {}
  while true do
    local c = text:sub(at, at)
    if c == "" then
      give_up("a string without its end")
    elseif c == '"' and is_verbatim and text:sub(at + 1, at + 1) == '"' then
      out[#out + 1], at = '"', at + 2
    elseif c == '"' then
      parts[#parts + 1] = table.concat(out)
      return parts, at + 1
    elseif c == "\\" and not is_verbatim then
      out[#out + 1], at = escape(text, at + 1)
    elseif has_holes and (c == "{" or c == "}") and text:sub(at + 1, at + 1) == c then
      out[#out + 1], at = c, at + 2
    elseif has_holes and c == "{" then
      local hole = text:match("^%b{}", at) or give_up("an interpolation without its end")
      parts[#parts + 1] = table.concat(out)
      parts[#parts + 1] = { hole = hole:sub(2, -2) }
      out, at = {}, at + #hole
    else
      out[#out + 1], at = c, at + 1
    end
  end
end

--- A token at `at`, which is no blank.
local function read(text, at)
  local prefix = text:match('^[$@]*"', at)
  if prefix then
    local has_holes = prefix:find("$", 1, true) ~= nil
    local parts, stop = read_text(text, at + #prefix, prefix:find("@", 1, true) ~= nil, has_holes)
    return { kind = has_holes and "interpolated" or "string", value = parts[1], parts = parts }, stop
  end
  local name = text:match("^@?([%a_][%w_]*)", at)
  if name then
    return { kind = "name", value = name }, at + #name + (text:sub(at, at) == "@" and 1 or 0)
  end
  local number = text:match("^%d[%d_]*%.%d+", at) or text:match("^%d[%d_]*", at)
  if number then
    local stop = at + #number
    local suffix = text:match("^[LlFfDdMmUu]+", stop) or ""
    return { kind = "number", value = (number:gsub("_", "")),
      is_whole = not number:find(".", 1, true) and not suffix:find("[FfDdMm]") }, stop + #suffix
  end
  if text:sub(at, at) == "'" then
    local c, stop = text:sub(at + 1, at + 1), at + 2
    if c == "\\" then
      c, stop = escape(text, at + 2)
    end
    if c == "" or text:sub(stop, stop) ~= "'" then
      give_up("a character without its end")
    end
    return { kind = "string", value = c, parts = { c } }, stop + 1
  end
  for size = 2, 1, -1 do
    local operator = text:sub(at, at + size - 1)
    if #operator == size and OPERATORS[operator] and not (operator == "?." and
      text:find("^%d", at + 2)) then
      return { kind = operator, value = operator }, at + size
    end
  end
  give_up(("%q"):format(text:sub(at, at)))
end

--- @return table[] tokens { kind, value, … }; the last is of the kind "end"
--- Raises { csharp = what } where the text is none.
function M.scan(text)
  local tokens, at = {}, 1
  while true do
    at = text:find("%S", at)
    if not at then
      tokens[#tokens + 1] = { kind = "end", value = "the end" }
      return tokens
    elseif text:sub(at, at + 1) == "//" then
      at = text:find("\n", at, true) or #text + 1
    elseif text:sub(at, at + 1) == "/*" then
      at = (select(2, text:find("*/", at + 2, true)) or give_up("a comment without its end")) + 1
    else
      tokens[#tokens + 1], at = read(text, at)
    end
  end
end

return M
