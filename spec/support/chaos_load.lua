-- SPDX-License-Identifier: Apache-2.0
--- Clients that notice everything:
--- `luajit spec/support/chaos_load.lua NAME CONNECTIONS STOP_FILE REPORT SEED PORT...`.
--- Every request carries a token of its own, and its answer has to bring it back. Writes a Lua table
--- { requests, posts, failures = { { token, gateway, method, kind, status, from, to, text } } };
--- kinds: status, closed (no byte of an answer), cut, wrong, refused, silent.

local socket = require("socket")

local name, wanted, stop_file, report = arg[1], tonumber(arg[2]), arg[3], arg[4]
local FIRST_PORT = 6
local PATIENCE_S = 15
local SIZES = { 40, 40, 2000, 60000 }
local list, conns, failures = {}, {}, {}
local requests, posts, last_token = 0, 0, 0
local is_stopping = false
math.randomseed(tonumber(arg[5]))

local function fail(conn, kind, text)
  failures[#failures + 1] = { token = conn.token, gateway = conn.gateway, method = conn.method,
    kind = kind, status = conn.status or 0, from = conn.from, to = socket.gettime(), text = text }
end

local function forget(conn)
  if conn.socket then
    conn.socket:close()
    conns[conn.socket] = nil
  end
  for i, one in ipairs(list) do
    if one == conn.socket then
      table.remove(list, i)
      break
    end
  end
  conn.socket = nil
end

local function send(conn)
  last_token = last_token + 1
  requests = requests + 1
  conn.token, conn.text, conn.status = ("%s-%d"):format(name, last_token), "", nil
  conn.bytes = SIZES[math.random(#SIZES)]
  conn.method = math.random(5) == 1 and "POST" or "GET"
  conn.from = socket.gettime()
  local body = conn.method == "POST" and ("body of " .. conn.token) or ""
  conn.expected = conn.token .. " " .. body .. "\n"
  posts = posts + (body ~= "" and 1 or 0)
  local length = body ~= "" and ("Content-Length: %d\r\n"):format(#body) or ""
  conn.socket:send(("%s /echo/%s?n=%d HTTP/1.1\r\nHost: t.test\r\n%s\r\n%s"):format(conn.method,
    conn.token, conn.bytes, length, body))
end

local function connect(conn)
  local client, err = socket.connect("127.0.0.1", conn.port)
  conn.from = socket.gettime()
  if not client then
    conn.token, conn.method = "-", "-"
    fail(conn, "refused", tostring(err))
    return
  end
  client:settimeout(0)
  conn.socket = client
  conns[client] = conn
  list[#list + 1] = client
  send(conn)
end

--- Looks at what has come. @return whether the answer is complete
local function look(conn)
  local last = conn.text:find("\r\n\r\n", 1, true)
  if not last then
    return false
  end
  local head = conn.text:sub(1, last)
  conn.status = tonumber(head:match("^HTTP/1%.1 (%d%d%d) "))
  local length = tonumber(head:match("\r\n[Cc]ontent%-[Ll]ength: (%d+)"))
  if not conn.status or not length or #conn.text > last + 3 + length then
    fail(conn, "wrong", conn.text:sub(1, 200))
    return true
  end
  if #conn.text < last + 3 + length then
    return false
  end
  local body = conn.text:sub(last + 4)
  conn.is_closing = head:lower():find("\r\nconnection: close", 1, true) ~= nil
  if conn.status ~= 200 then
    fail(conn, "status", body:sub(1, 200))
  elseif body:sub(1, #conn.expected) ~= conn.expected
    or #body ~= math.max(conn.bytes, #conn.expected) then
    fail(conn, "wrong", conn.text:sub(1, 200))
  end
  return true
end

local function go_on(conn)
  if conn.is_closing then
    forget(conn)
    conn.is_closing = nil
  end
  if is_stopping then
    forget(conn)
  elseif conn.socket then
    send(conn)
  else
    connect(conn)
  end
end

local function read(conn)
  local data, err, partial = conn.socket:receive(65536)
  conn.text = conn.text .. (data or partial or "")
  if look(conn) then
    go_on(conn)
  elseif err and err ~= "timeout" then
    fail(conn, conn.text == "" and "closed" or "cut", err)
    forget(conn)
    go_on(conn)
  end
end

local all = {}
for i = 1, wanted do
  local gateway = (i - 1) % (#arg - FIRST_PORT + 1) + 1
  all[i] = { gateway = gateway, port = tonumber(arg[FIRST_PORT + gateway - 1]) }
  connect(all[i])
end

local look_at = 0
repeat
  for _, client in ipairs((socket.select(list, nil, 0.05))) do
    if conns[client] then
      read(conns[client])
    end
  end
  local now = socket.gettime()
  if now > look_at then
    look_at = now + 0.1
    local file = io.open(stop_file)
    is_stopping = is_stopping or file ~= nil
    if file then
      file:close()
    end
    for _, conn in ipairs(all) do
      if conn.socket and now - conn.from > PATIENCE_S then
        fail(conn, "silent", conn.text:sub(1, 200))
        forget(conn)
      end
      if not conn.socket and not is_stopping then
        connect(conn)
      end
    end
  end
until is_stopping and #list == 0

local file = assert(io.open(report .. ".tmp", "w"))
file:write(("return { requests = %d, posts = %d, failures = {\n"):format(requests, posts))
for _, f in ipairs(failures) do
  file:write(("{ token = %q, gateway = %d, method = %q, kind = %q, status = %d, from = %.3f, "
    .. "to = %.3f, text = %q },\n"):format(f.token, f.gateway, f.method, f.kind, f.status, f.from,
    f.to, f.text))
end
file:write("} }\n")
file:close()
os.rename(report .. ".tmp", report)
