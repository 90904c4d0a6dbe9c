-- SPDX-License-Identifier: Apache-2.0
--- Splits Lua source (LuaJIT's dialect) into tokens with their places. Comments and white space are
--- skipped; nothing is interpreted. Used by the fuel pass and to find the line of a field.

local byte, find, sub = string.byte, string.find, string.sub

local M = {}

---@class moongate.Tokens parallel arrays: one place per token, none allocated per token
---@field kind string[] "name", "number", "string", or the keyword or operator itself; last is "eof"
---@field first integer[] position of the token's first byte
---@field last integer[] position of its last byte
---@field line integer[] line of its first byte

local keywords = {}
for word in
  ([[and break do else elseif end false for function if in local nil not or repeat return then
     true until while]]):gmatch("%a+")
do
  keywords[word] = true
end
-- `goto` stays a name: in LuaJIT it is a keyword only before another name, and nothing here needs
-- it.

--- Position after a long bracket that opens at `at`, or nil when it is none or never closes.
local function skip_long_bracket(text, at)
  local _, open_end, level = find(text, "^%[(=*)%[", at)
  if not open_end then
    return nil, false
  end
  local _, close_end = find(text, "]" .. level .. "]", open_end + 1, true)
  return close_end and close_end + 1, true
end

local function count_lines(text, from, to)
  local count, at = 0, from
  while true do
    local first, last = find(text, "[\r\n]", at)
    if not first or first > to then
      return count
    end
    local pair = sub(text, first, first + 1)
    if pair == "\r\n" or pair == "\n\r" then
      last = first + 1
    end
    count, at = count + 1, last + 1
  end
end

--- Position of the closing quote, or nil. A backslash takes the next byte with it; `\z` needs no
--- care here except that it may skip line ends.
local function skip_quoted(text, at)
  local quote = sub(text, at, at)
  local pattern = quote == '"' and '[\\"\r\n]' or "[\\'\r\n]"
  local i = at + 1
  while true do
    local hit = find(text, pattern, i)
    if not hit then
      return nil
    end
    local c = byte(text, hit)
    if c == 92 then -- backslash
      local escaped = sub(text, hit + 1, hit + 1)
      if escaped == "z" then
        local _, blank_end = find(text, "^%s*", hit + 2)
        i = blank_end + 1
      elseif escaped == "\r" or escaped == "\n" then
        local pair = sub(text, hit + 1, hit + 2)
        i = (pair == "\r\n" or pair == "\n\r") and hit + 3 or hit + 2
      else
        i = hit + 2
      end
    elseif c == 10 or c == 13 then
      return nil
    else
      return hit
    end
  end
end

local function skip_number(text, at)
  local i = at
  local hex = find(text, "^0[xX]", i)
  local exponent = hex and "[pP]" or "[eE]"
  while true do
    local c = sub(text, i, i)
    if find(c, exponent) and find(text, "^[+-]", i + 1) then
      i = i + 2
    elseif c ~= "" and (find(c, "[%w_.]") or byte(c) >= 128) then
      i = i + 1
    else
      return i - 1
    end
  end
end

local three = { ["..."] = true }
local two = {}
for op in ("== ~= <= >= .. ::"):gmatch("%S+") do
  two[op] = true
end

local function skip_operator(text, at)
  if three[sub(text, at, at + 2)] then
    return at + 2
  end
  if two[sub(text, at, at + 1)] then
    return at + 1
  end
  if find(text, "^[%+%-%*/%%%^#<>=%(%){}%[%];:,%.]", at) then
    return at
  end
  return nil
end

--- Splits a text into tokens.
---@param text string
---@return moongate.Tokens? tokens
---@return string? err
---@return integer? line where the text stops making sense
function M.scan(text)
  local kind, first, last, line = {}, {}, {}, {}
  local n, at, now = 0, 1, 1
  if byte(text, 1) == 35 then -- a first line "#!…" is no Lua
    at = find(text, "[\r\n]") or #text + 1
  end
  local size = #text
  while true do
    local blank_from = at
    local _, blank_end = find(text, "^%s*", at)
    if blank_end >= blank_from then
      now = now + count_lines(text, blank_from, blank_end)
    end
    at = blank_end + 1
    if at > size then
      break
    end
    local c = byte(text, at)
    local stop, what
    if c == 45 and byte(text, at + 1) == 45 then -- comment
      local after, is_long = skip_long_bracket(text, at + 2)
      if is_long and not after then
        return nil, "unfinished long comment", now
      end
      stop = (after or find(text, "[\r\n]", at) or size + 1) - 1
    elseif find(text, "^[%a_\128-\255]", at) then
      _, stop = find(text, "^[%w_\128-\255]+", at)
      local word = sub(text, at, stop)
      what = keywords[word] and word or "name"
    elseif c == 34 or c == 39 then
      stop, what = skip_quoted(text, at), "string"
      if not stop then
        return nil, "unfinished string", now
      end
    elseif c == 91 and find(text, "^=*%[", at + 1) then
      local after = skip_long_bracket(text, at)
      if not after then
        return nil, "unfinished long string", now
      end
      stop, what = after - 1, "string"
    elseif find(text, "^%.?%d", at) then
      stop, what = skip_number(text, at), "number"
    else
      stop = skip_operator(text, at)
      if not stop then
        return nil, "unexpected character", now
      end
      what = sub(text, at, stop)
    end
    if what then
      n = n + 1
      kind[n], first[n], last[n], line[n] = what, at, stop, now
    end
    if what == "string" or not what then
      now = now + count_lines(text, at, stop)
    end
    at = stop + 1
  end
  n = n + 1
  kind[n], first[n], last[n], line[n] = "eof", size + 1, size, now
  return { kind = kind, first = first, last = last, line = line }
end

return M
