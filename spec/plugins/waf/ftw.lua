-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a case a line)
--- Reads CRS regression tests (v3.3 and v4 YAML) and replays them straight into the engine, with
--- what an HTTP/1.1 server would pass on.
local M = {}

-- --- the request as bytes -------------------------------------------------------------------

local function base64(s)
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local out, bits, have = {}, 0, 0
  for ch in s:gmatch("[A-Za-z0-9+/]") do
    bits = (bits * 64 + alphabet:find(ch, 1, true) - 1) % 2 ^ 24
    have = have + 6
    if have >= 8 then
      have = have - 8
      out[#out + 1] = string.char(math.floor(bits / 2 ^ have) % 256)
    end
  end
  return table.concat(out)
end
M.base64 = base64

local function unquote(s)
  return (s:gsub("%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end))
end

local function quote(s)
  return (s:gsub("[^%w_.~ -]", function(c) return ("%%%02X"):format(c:byte()) end):gsub(" ", "+"))
end

local function text(x)
  if x == nil or type(x) == "userdata" or type(x) == "function" then
    return ""
  end
  if type(x) == "number" and x == math.floor(x) then
    return ("%d"):format(x)
  end
  return tostring(x)
end

local function reencode_py(s)
  if unquote(s) ~= s then
    return s
  end
  local pairs_ = {}
  for token in s:gmatch("[^&]+") do
    local k, v = token:match("^([^=]*)=(.+)$")
    if k then
      pairs_[#pairs_ + 1] = quote((k:gsub("+", " "))) .. "=" .. quote((v:gsub("+", " ")))
    end
  end
  return #pairs_ > 0 and table.concat(pairs_, "&") or s
end

local function reencode_go(s)
  if s:find("%%%X") or s:find("%%%x?$") or s:find("%%%x%X") or unquote(s:gsub("+", " ")) ~= s then
    return s
  end
  local parts, tokens = {}, {}
  for token in (s .. "&"):gmatch("([^&]*)&") do
    tokens[#tokens + 1] = token
  end
  for _, token in ipairs(tokens) do
    local k, eq, v = token:match("^([^=]*)(=?)(.*)$")
    parts[#parts + 1] = quote(k) .. eq .. quote(v)
  end
  if s:sub(-1) == "&" then
    table.remove(parts)
  end
  return table.concat(parts, "&")
end

local function unescape_raw(s)
  local map = { n = "\n", r = "\r", t = "\t", ["0"] = "\0", ["\\"] = "\\" }
  s = s:gsub("\\x(%x%x)", function(h) return "\1" .. h .. "\2" end)
  s = s:gsub("\\([nrt0\\])", map)
  return (s:gsub("\1(%x%x)\2", function(h) return string.char(tonumber(h, 16)) end))
end

local function header_of(headers, name)
  for _, h in ipairs(headers) do
    if h[1]:lower() == name then
      return h[2]
    end
  end
end

--- `order` gives the names of a YAML map in file order.
function M.build(input, is_v4, order)
  if input.encoded_request and input.encoded_request ~= "" then
    return base64(input.encoded_request)
  end
  if input.raw_request then
    return unescape_raw(input.raw_request)
  end
  local auto = input.autocomplete_headers
  if auto == nil then
    auto = not input.stop_magic
  end
  local method, uri = input.method and text(input.method) or "GET", input.uri and text(input.uri) or "/"
  local version = input.version and text(input.version) or "HTTP/1.1"
  local headers = {}
  for _, name in ipairs(order) do
    headers[#headers + 1] = { name, text((input.headers or {})[name]) }
  end
  local data = input.data
  if type(data) == "table" then
    local parts = {}
    for i, x in ipairs(data) do
      parts[i] = text(x)
    end
    data = table.concat(parts, "\r\n")
  end
  data = text(data)
  if is_v4 then
    data = data:gsub('{{ *"([^"]*)" *| *repeat +(%d+) *}}', function(s, n) return s:rep(tonumber(n)) end)
  end
  if input.encoded_data and input.encoded_data ~= "" then
    data = base64(input.encoded_data)
  end
  local form = "application/x-www-form-urlencoded"
  if not is_v4 then
    if #data > 0 and auto then
      local exact
      for _, h in ipairs(headers) do
        exact = h[1] == "Content-Type" and h[2] or exact
      end
      if not exact then
        headers[#headers + 1] = { "Content-Type", form }
        exact = form
      end
      if exact == form then
        data = reencode_py(data)
      end
      local has_length
      for _, h in ipairs(headers) do
        has_length = has_length or h[1] == "Content-Length"
      end
      if not has_length then
        headers[#headers + 1] = { "Content-Length", tostring(#data) }
      end
    end
  else
    table.sort(headers, function(a, b) return a[1] < b[1] end)
    if #data > 0 and auto then
      if not header_of(headers, "content-type") then
        headers[#headers + 1] = { "Content-Type", form }
      end
      if header_of(headers, "content-type"):lower() == form then
        data = reencode_go(data)
      end
    end
    if (header_of(headers, "content-type") or ""):lower():find("multipart/form-data;", 1, true) then
      data = data:gsub("\n", "\r\n")
    end
    if auto then
      if not header_of(headers, "connection") then
        headers[#headers + 1] = { "Connection", "close" }
      end
      local wants = #data > 0 or method:find("^POST") or method:find("PUT") or method:find("PATCH")
        or method:find("DELETE$")
      if not header_of(headers, "content-length") and wants then
        headers[#headers + 1] = { "Content-Length", tostring(#data) }
      end
    end
  end
  local lines = { ("%s %s %s\r\n"):format(method, uri, version) }
  for _, h in ipairs(headers) do
    lines[#lines + 1] = h[1] .. ": " .. h[2] .. "\r\n"
  end
  return table.concat(lines) .. "\r\n" .. data
end

-- --- an HTTP/1 server's reading ---------------------------------------------------------------

local function dechunk(s)
  local out, at = {}, 1
  while true do
    local size, next_at = s:match("^(%x+)[^\r\n]*\r?\n()", at)
    if not size then
      return table.concat(out)
    end
    size = tonumber(size, 16)
    if size == 0 then
      return table.concat(out)
    end
    out[#out + 1] = s:sub(next_at, next_at + size - 1)
    at = next_at + size
    at = s:match("^\r?\n()", at) or at
  end
end

--- @return table|nil request, or nil when a server answers 400
function M.parse(bytes)
  local head, body = bytes:match("^(.-)\r\n\r\n(.*)$")
  if not head then
    head, body = bytes:gsub("\r\n$", ""), ""
  end
  local line, rest = head:match("^([^\n]*)\r\n(.*)$")
  line, rest = line or head, rest or ""
  local method, uri, protocol = line:match("^(%S+) (.*) (%S+)$")
  if not method then
    method, uri = line:match("^(%S+) (%S+)$")
    protocol = "HTTP/0.9"
  end
  if head:match("^%S+ %S+ ?\r?$") or line:match("^%S+ %S+ $") then
    return nil, "silence" -- HTTP/0.9
  end
  if not method or uri == "" or head:find("%z") or not protocol:find("^HTTP/[1-9]") then
    return nil
  end
  if uri:find("[\1-\32#]") or not (uri:find("^/") or uri:find("^%a[%w+.-]*://") or uri == "*"
      or uri:find("^%?") or (method == "CONNECT" and uri:find(":%d+$"))) then
    return nil
  end
  local headers, lengths, chunked, host = {}, nil, false, false
  for h in (rest .. "\r\n"):gmatch("(.-)\r\n") do
    if h ~= "" then
      local name, value = h:match("^([^%s:()<>@,;\\\"/%[%]?={}]+):[ \t]*(.-)[ \t]*$")
      if not name or value:find("[\r\n]") then
        return nil
      end
      headers[#headers + 1] = { name, value }
      local low = name:lower()
      if low == "content-length" then
        lengths = value
      elseif low == "transfer-encoding" and value:lower():find("chunked") then
        chunked = true
      elseif low == "host" then
        if (value == "" and protocol == "HTTP/1.1") or value:find("[%z/?#%%]") then
          return nil
        end
        host = true
      end
    end
  end
  if protocol == "HTTP/1.1" and not host then
    return nil
  end
  if chunked then
    for i = #headers, 1, -1 do -- chunks decide, and a length beside them goes
      if headers[i][1]:lower() == "content-length" then
        table.remove(headers, i)
      end
    end
    body = dechunk(body)
  elseif lengths then
    local n = tonumber(lengths:match("^%d+$"))
    if not n then
      return nil
    end
    if #body < n then
      return nil, "silence" -- it waits for the rest
    end
    body = body:sub(1, n)
  else
    body = ""
  end
  return { method = method, uri = uri, protocol = protocol, headers = headers, body = body }
end

-- --- judging ------------------------------------------------------------------------------------

local function to_set(list)
  local set = {}
  for _, x in ipairs(list) do
    set[tonumber(x)] = true
  end
  return set
end

-- The tests' patterns are `id "N"`, now and then with more; a rule id is what they look for.
local function pattern_ids(rx)
  local ids = {}
  for id in text(rx):gmatch("(%d%d%d%d%d%d)") do
    ids[#ids + 1] = tonumber(id)
  end
  return ids
end

-- Reads the little of regular expressions that the tests use: alternatives, ".*", escapes.
local function rx_in(rx, lines)
  for alternative in (text(rx):gsub("\\|", "\1") .. "|"):gmatch("(.-)|") do
    local pieces = {}
    for piece in (alternative:gsub("%.%*", "\2") .. "\2"):gmatch("(.-)\2") do
      pieces[#pieces + 1] = piece:gsub("\1", "|"):gsub("\\(.)", "%1")
    end
    for _, line in ipairs(lines) do
      local at = 1
      for _, piece in ipairs(pieces) do
        local _, stop = line:find(piece, at or math.huge, true)
        at = stop and stop + 1
        if not at then
          break
        end
      end
      if at then
        return true
      end
    end
  end
  return false
end

function M.judge(out, status, result)
  local failed = status == nil
  if out.expect_error then
    return not failed and "expected no answer" or nil
  end
  if out.status then
    local want = type(out.status) == "table" and out.status or { out.status }
    local ok = false
    for _, s in ipairs(want) do
      ok = ok or tonumber(s) == status
    end
    if not ok then
      return ("status %s, expected %s"):format(tostring(status), table.concat(want, "/"))
    end
  end
  local ids, lines = to_set(result.ids), result.lines
  local log = type(out.log) == "table" and out.log or {}
  local match = out.log_contains or log.match_regex
  local no_match = out.no_log_contains or log.no_match_regex
  if match and not rx_in(match, lines) then
    return "log lacks " .. text(match)
  end
  for _, id in ipairs(log.expect_ids or {}) do
    if not ids[id] then
      return "log lacks id " .. text(id)
    end
  end
  if no_match and rx_in(no_match, lines) then
    return "log has " .. text(no_match)
  end
  for _, id in ipairs(log.no_expect_ids or {}) do
    if ids[id] then
      return "log has id " .. text(id)
    end
  end
end
M.pattern_ids = pattern_ids

-- --- files -------------------------------------------------------------------------------------

local function files_of(dir)
  local out, pipe = {}, assert(io.popen(("find '%s' -name '*.yaml' | sort"):format(dir)))
  for path in pipe:lines() do
    if path:match("/%d+[^/]*%.yaml$") then
      out[#out + 1] = path
    end
  end
  pipe:close()
  return out
end

-- Names of each `headers:` map in the order of the file; lyaml keeps none.
local function header_orders(source)
  local orders, current, indent = {}, nil, nil
  for line in (source .. "\n"):gmatch("(.-)\n") do
    local lead, rest = line:match("^( *)(.*)$")
    if rest:match("^headers:%s*$") or rest:match("^headers:%s*#") then
      current, indent = {}, nil
      orders[#orders + 1] = current
    elseif current and rest ~= "" and not rest:match("^#") then
      indent = indent or #lead
      if #lead < indent then
        current = nil
      elseif #lead == indent then
        local name = rest:match('^"([^"]+)":') or rest:match("^'([^']+)':") or rest:match("^([^:]+):")
        if name then
          current[#current + 1] = name
        end
      end
    end
  end
  return orders
end

local function names_in_order(headers, orders)
  local want = 0
  for _ in pairs(headers) do
    want = want + 1
  end
  for _, order in ipairs(orders) do
    local all = #order == want
    for _, name in ipairs(order) do
      all = all and headers[name] ~= nil
    end
    if all then
      return order
    end
  end
  local names = {}
  for name in pairs(headers) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- All tests below `dir`: file, id, rule, skip, stages of { request bytes, output }.
function M.load(dir, overrides)
  local lyaml = require("lyaml")
  local tests = {}
  for _, path in ipairs(files_of(dir)) do
    local f = assert(io.open(path, "rb"))
    local source = f:read("*a")
    f:close()
    local ok, doc = pcall(lyaml.load, source)
    if not ok then
      error(path .. ": " .. tostring(doc))
    end
    if type(doc) == "table" and doc.tests then
      local is_v4 = doc.rule_id ~= nil
      local orders = header_orders(source)
      local off = not is_v4 and doc.meta and doc.meta.enabled == false
      for n, t in ipairs(doc.tests) do
        local rule = tonumber(doc.rule_id or path:match("/(%d+)[^/]*$"))
        local num = tonumber(t.test_id or n)
        local id = is_v4 and ("%d-%d"):format(rule, num) or text(t.test_title or (rule .. "-" .. n))
        local test = { file = path, id = id, rule = rule, num = num, stages = {},
                       skip = off or (not is_v4 and t.enabled == false) }
        for _, s in ipairs(t.stages or {}) do
          s = s.stage or s
          local input = s.input or {}
          local headers = type(input.headers) == "table" and input.headers or {}
          input.headers = headers
          local bytes = M.build(input, is_v4, names_in_order(headers, orders))
          local output = s.output or {}
          for _, o in ipairs(overrides or {}) do
            if o.rule_id == rule then
              for _, k in ipairs(o.test_ids or { num }) do
                output = k == num and (o.output or {}) or output
              end
            end
          end
          test.stages[#test.stages + 1] = { bytes = bytes, output = output }
        end
        tests[#tests + 1] = test
      end
    end
  end
  return tests
end

--- The origin that the tests want: see `backend.py` beside them.
function M.origin(httpbin)
  local ok, cjson = pcall(require, "cjson")
  return function(req)
    local path = req.uri:gsub("^%a+://[^/]*", "")
    if httpbin then
      if req.method == "CONNECT" then
        return 405, {}, ""
      end
      local first = path:match("^/(%a*)[/?]") or path:match("^/(%a*)$") or "?"
      local known = { [""] = 1, get = 1, post = 1, put = 1, patch = 1, delete = 1, anything = 1, status = 1,
                      headers = 1, ip = 1, cookies = 1, reflect = 1, base64 = 1, html = 1, xml = 1, json = 1 }
      if not known[first] then
        return 404, {}, ""
      end
    end
    if req.method == "POST" and path:match("^/reflect/?$") or path:match("^/reflect/?%?") then
      local good, spec = pcall(ok and cjson.decode or require("moongate.json").decode, req.body)
      if not good or type(spec) ~= "table" then
        return 400, {}, "bad reflection spec"
      end
      local headers, typed = {}, false
      for k, v in pairs(type(spec.headers) == "table" and spec.headers or {}) do
        headers[#headers + 1] = { k, tostring(v) }
        typed = typed or k:lower() == "content-type"
      end
      local body = type(spec.body) == "string" and spec.body or ""
      if body == "" and type(spec.encodedBody) == "string" then
        body = base64(spec.encodedBody)
      end
      if not typed and body ~= "" then
        headers[#headers + 1] = { "Content-Type", "text/plain; charset=utf-8" }
      end
      return tonumber(spec.status) or 200, headers, body
    end
    return tonumber(path:match("/status/(%d%d%d)")) or 200, {}, ""
  end
end

--- Runs one test. @return nil, or why it fails; the ids that fired
function M.run(engine, rules, test, origin, opt)
  local all = {}
  for _, stage in ipairs(test.stages) do
    local req, silence = M.parse(stage.bytes)
    local status, result = 400, { ids = {}, lines = {} }
    if silence then
      status = nil
    end
    if req then
      local code
      result = engine.run(rules, req, function(r)
        local c, h, b = origin(r)
        code = c
        return c, h, b
      end, opt)
      status = result.status or code
    end
    for _, id in ipairs(result.ids) do
      all[id] = true
    end
    local why = M.judge(stage.output, status, result)
    if why then
      return why, all, result
    end
  end
  return nil, all
end

return M
