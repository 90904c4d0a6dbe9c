-- SPDX-License-Identifier: Apache-2.0
--- A backend that can be made to misbehave: `luajit spec/support/chaos_origin.lua NAME PORT`.
--- `/echo/TOKEN?n=BYTES` is answered with the token and padding, a POST with its own body, too.
--- `/~mode/MODE` says how, from then on:
---   ok     as it should be
---   slow   after SLOW_S
---   reset  every other answer not at all, the others broken off in the middle: a reset each
---   short  half of what Content-Length promised, then the end
---   long   more than that: what looks like another answer stands behind it

local socket = require("socket")

local SLOW_S = 0.3
local name, port = arg[1], tonumber(arg[2])
local server = assert(socket.bind("127.0.0.1", port, 512))
server:settimeout(0)
local list, conns = { server }, {}
local mode, resets = "ok", 0

local function drop(conn)
  conn.socket:close()
  conns[conn.socket] = nil
  for i, one in ipairs(list) do
    if one == conn.socket then
      table.remove(list, i)
      return
    end
  end
end

local function reset(conn)
  conn.socket:setoption("linger", { on = true, timeout = 0 })
  drop(conn)
end

-- Answers are short enough for the socket's buffer of a peer that reads.
local function send(conn, text)
  conn.socket:settimeout(1)
  local sent = conn.socket:send(text)
  conn.socket:settimeout(0)
  if not sent then
    drop(conn)
  end
  return sent
end

local function answer(conn, body)
  local head = ("HTTP/1.1 200 OK\r\nX-Origin: %s\r\nContent-Length: %d\r\n\r\n"):format(name, #body)
  if mode == "short" then
    if send(conn, head .. body:sub(1, math.floor(#body / 2))) then
      drop(conn)
    end
  elseif mode == "long" then
    send(conn, head .. body .. "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")
  elseif mode == "reset" then
    resets = resets + 1
    if resets % 2 == 0 or send(conn, head .. body:sub(1, math.floor(#body / 2))) then
      reset(conn)
    end
  else
    send(conn, head .. body)
  end
end

local function serve(conn, path, body, is_last)
  local wanted = path:match("^/~mode/(%l+)$")
  if wanted then
    mode = wanted
    send(conn, "HTTP/1.1 204 No Content\r\n\r\n")
  elseif path == "/health" then
    send(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
  else
    local token, bytes = path:match("^/echo/([^?]+)%?n=(%d+)$")
    local text = ("%s %s\n"):format(token or "?", body)
    text = text .. ("."):rep(math.max(0, (tonumber(bytes) or 0) - #text))
    if mode == "slow" then
      conn.waiting, conn.due = text, socket.gettime() + SLOW_S
    else
      answer(conn, text)
    end
  end
  if is_last and conns[conn.socket] then
    drop(conn)
  end
end

--- A whole request in front of what was read is served; what is behind it waits.
local function look(conn)
  local last = conn.text:find("\r\n\r\n", 1, true)
  if not last or conn.waiting then
    return
  end
  local head = conn.text:sub(1, last)
  local length = tonumber(head:match("\r\n[Cc]ontent%-[Ll]ength: (%d+)")) or 0
  if #conn.text < last + 3 + length then
    return
  end
  local body = conn.text:sub(last + 4, last + 3 + length)
  conn.text = conn.text:sub(last + 4 + length)
  serve(conn, head:match("^%u+ (%S+)"), body, head:find("\r\nConnection: close", 1, true) ~= nil)
end

local function read(conn)
  local data, err, partial = conn.socket:receive(65536)
  conn.text = conn.text .. (data or partial or "")
  if err == "closed" then
    drop(conn)
  else
    look(conn)
  end
end

while true do
  for _, ready in ipairs((socket.select(list, nil, 0.02))) do
    if ready == server then
      local client = server:accept()
      if client then
        client:settimeout(0)
        client:setoption("tcp-nodelay", true)
        conns[client] = { socket = client, text = "" }
        list[#list + 1] = client
      end
    elseif conns[ready] then
      read(conns[ready])
    end
  end
  local now = socket.gettime()
  for _, conn in pairs(conns) do
    if conn.waiting and now >= conn.due then
      local text = conn.waiting
      conn.waiting = nil
      answer(conn, text)
      break -- the table may have changed
    end
  end
end
