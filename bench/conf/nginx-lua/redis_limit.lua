-- SPDX-License-Identifier: Apache-2.0
--- A limit over Redis as one writes it for OpenResty: a connection out of the worker's pool, one script
--- call a request, the connection back into the pool.

local ngx = ngx
local tcp = ngx.socket.tcp

local M = {}

local script = [[
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return n <= tonumber(ARGV[1]) and 1 or 0]]

local sha

local function command(...)
  local words = { ... }
  local out = { "*", #words, "\r\n" }
  for i = 1, #words do
    out[#out + 1] = "$" .. #words[i] .. "\r\n" .. words[i] .. "\r\n"
  end
  return out
end

local function call(conn, ...)
  local _, err = conn:send(command(...))
  if err then
    return nil, err
  end
  local line
  line, err = conn:receive("*l")
  if line and line:sub(1, 1) == "$" then
    return conn:receive(tonumber(line:sub(2)) + 2)
  end
  return line, err
end

function M.access(address)
  local conn = tcp()
  conn:settimeout(25)
  if not conn:connect(address) then
    return ngx.exit(503)
  end
  if not sha then
    sha = assert(call(conn, "SCRIPT", "LOAD", script)):sub(1, 40)
  end
  local answer = call(conn, "EVALSHA", sha, "1", "limit:" .. (ngx.var.http_x_client or ""),
    "1000000000", "60000")
  if not answer then
    return ngx.exit(503)
  end
  conn:setkeepalive(60000, 256)
  if answer ~= ":1" then
    return ngx.exit(429)
  end
end

return M
