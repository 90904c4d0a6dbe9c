-- SPDX-License-Identifier: Apache-2.0
--- Keeps connections busy: `luajit spec/support/load.lua PORT CONNECTIONS STOP_FILE REPORT [PATH]`.
--- Runs until STOP_FILE is there, lets what is under way come to its end, and writes to REPORT a
--- Lua table { requests, failed, cut, connections, seconds, slowest, errors = { first ten } }. A
--- connection is made once: what cuts it is counted.

local socket = require("socket")

local port, wanted, stop_file, report, path = tonumber(arg[1]), tonumber(arg[2]), arg[3], arg[4],
  arg[5] or "/"
local request = ("GET %s HTTP/1.1\r\nHost: t.test\r\n\r\n"):format(path)
local count = { requests = 0, failed = 0, cut = 0, connections = 0, errors = {} }
local open, list = {}, {}
local started = socket.gettime()
local slowest = 0

local function note(text)
  if #count.errors < 10 then
    count.errors[#count.errors + 1] = ("%.2f s: %s"):format(socket.gettime() - started, text)
  end
end

local function drop(conn)
  conn.socket:close()
  open[conn.socket] = nil
  for i, one in ipairs(list) do
    if one == conn.socket then
      table.remove(list, i)
      return
    end
  end
end

local function send(conn)
  conn.sent_at = socket.gettime()
  local n, err = conn.socket:send(request)
  if n ~= #request then
    count.cut = count.cut + 1
    note("send: " .. tostring(err))
    drop(conn)
  end
end

--- A whole answer at the front of what was read: its status, and its length.
local function whole(text)
  local at = text:find("\r\n\r\n", 1, true)
  local length = at and tonumber(text:sub(1, at):match("[Cc]ontent%-[Ll]ength: (%d+)"))
  if length and #text >= at + 3 + length then
    return tonumber(text:match("^HTTP/1%.1 (%d%d%d)")), at + 3 + length
  end
end

local is_stopping = false

local function read(conn)
  local data, err, partial = conn.socket:receive(16384)
  conn.text = conn.text .. (data or partial or "")
  local status, len = whole(conn.text)
  if status then
    count.requests = count.requests + 1
    slowest = math.max(slowest, socket.gettime() - conn.sent_at)
    if status ~= 200 then
      count.failed = count.failed + 1
      note("status " .. tostring(status) .. ": " .. conn.text:sub(1, 300))
    end
    conn.text = conn.text:sub(len + 1)
    if is_stopping then
      drop(conn)
    else
      send(conn)
    end
  elseif err == "closed" then
    count.cut = count.cut + 1
    note("closed behind " .. ("%q"):format(conn.text:sub(1, 200)))
    drop(conn)
  end
end

for i = 1, wanted do
  local client = assert(socket.connect("127.0.0.1", port))
  client:settimeout(0)
  open[client] = { socket = client, text = "" }
  list[i] = client
  count.connections = count.connections + 1
end
for _, client in ipairs({ unpack(list) }) do
  send(open[client])
end

local look_at, end_at = 0, math.huge
while #list > 0 and socket.gettime() < end_at do
  local ready = socket.select(list, nil, 0.1)
  for _, client in ipairs(ready) do
    if open[client] then
      read(open[client])
    end
  end
  local now = socket.gettime()
  if not is_stopping and now > look_at then
    look_at = now + 0.1
    local file = io.open(stop_file)
    if file then
      file:close()
      is_stopping, end_at = true, now + 10
    end
  end
end

for _ = 1, #list do
  count.cut = count.cut + 1
  note("no answer at the end")
end
local file = assert(io.open(report .. ".tmp", "w"))
file:write(("return { requests = %d, failed = %d, cut = %d, connections = %d, seconds = %.1f, "
  .. "slowest = %.3f, errors = {"):format(count.requests, count.failed, count.cut,
    count.connections, socket.gettime() - started, slowest))
for _, text in ipairs(count.errors) do
  file:write(("%q, "):format(text))
end
file:write("} }\n")
file:close()
os.rename(report .. ".tmp", report)
