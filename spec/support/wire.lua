-- SPDX-License-Identifier: Apache-2.0
--- Bytes on the wire for specs: a client and a recording origin that know only sockets, on both
--- sides of a gateway in this process. Nothing here shares a line with the parsers under test.
---
---   local origin = wire.origin()
---   local gw = moongate.gateway { files = { ["gateway.lua"] = config(origin.port) } }
---   local got = wire.exchange(gw, origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", { answers = 1 })
---   got.answers[1].status, got.requests[1].head, got.is_closed

local assert = require("luassert")
local ffi = require("ffi")
local socket = require("socket")

ffi.cdef [[ssize_t recv(int fd, void *into, size_t size, int flags);]]

local M = {}

local PATIENCE_S = 2 -- only what fails takes as long

local Origin = {}
Origin.__index = Origin

--- The length of the chunked body at `at`, its CRLF included, or nil while it is not whole.
local function chunked_length(bytes, at)
  local start = at
  while true do
    local stop, size = select(2, bytes:find("^(%x+)[^\r\n]*\r\n", at))
    if not stop then
      return nil
    end
    local n = tonumber(size, 16)
    at = stop + 1
    if n == 0 then
      while true do
        local line_end = bytes:find("\r\n", at, true)
        if not line_end then
          return nil
        end
        local is_last = line_end == at
        at = line_end + 2
        if is_last then
          return at - start
        end
      end
    end
    at = at + n + 2
    if at > #bytes + 1 then
      return nil
    end
  end
end

--- A field's value in a head, or nil.
function M.field(head, name)
  local pattern = "\r\n" .. name:lower():gsub("%p", "%%%0") .. ":[ \t]*([^\r\n]*)"
  local first, last = head:lower():find(pattern)
  return first and (head:sub(first, last):match("^\r\n[^:]*:[ \t]*(.-)[ \t]*$"))
end

--- The data of a chunked body.
function M.join(body)
  local parts, at = {}, 1
  while true do
    local last, size = select(2, body:find("^(%x+)\r\n", at))
    local n = tonumber(size, 16)
    if n == 0 then
      return table.concat(parts)
    end
    parts[#parts + 1] = body:sub(last + 1, last + n)
    at = last + n + 3
  end
end

--- A message is as a row of a table wants it.
---@param wants { sees?: string[], lacks?: string[], body?: string, joined?: string, ends?: string }
---sees, lacks: patterns of the head; body: as it is on the wire; joined: the data of its chunks; ends: a
---pattern of the body
function M.check(message, wants)
  for _, pattern in ipairs(wants.sees or {}) do
    assert.matches(pattern, message.head)
  end
  for _, pattern in ipairs(wants.lacks or {}) do
    assert.not_matches(pattern, message.head)
  end
  if wants.body then
    assert.equal(wants.body, message.body)
  end
  if wants.joined then
    assert.equal(wants.joined, M.join(message.body))
  end
  if wants.ends then
    assert.matches(wants.ends, message.body)
  end
end

--- Takes whole messages off the front of `bytes`. @return messages, what is left
local function split(bytes, is_answer, methods, is_eof)
  local messages = {}
  while #bytes > 0 do
    local head_end = select(2, bytes:find("\r\n\r\n", 1, true))
    if not head_end then
      break
    end
    local head = bytes:sub(1, head_end)
    local status = is_answer and tonumber(head:match("^HTTP/1%.%d (%d%d%d)"))
    local length = tonumber(M.field(head, "Content-Length"))
    local size
    local is_bodiless = is_answer and (status < 200 or status == 204 or status == 304
      or methods[#messages + 1] == "HEAD")
    if is_bodiless then
      size = 0
    elseif M.field(head, "Transfer-Encoding") then
      size = chunked_length(bytes, head_end + 1)
    elseif length then
      size = length
    elseif is_answer then
      size = is_eof and #bytes - head_end or nil
    else
      size = 0
    end
    local is_whole = size ~= nil and head_end + size <= #bytes
    local message = { head = head, status = status, is_whole = is_whole,
      line = head:match("^[^\r\n]*"), body = bytes:sub(head_end + 1, is_whole and head_end + size or nil) }
    if not is_whole then
      message.is_partial = true
      return messages, bytes, message
    end
    if not (is_answer and status < 200) then
      messages[#messages + 1] = message
    else
      messages.interim = messages.interim or {}
      table.insert(messages.interim, message)
    end
    bytes = bytes:sub(head_end + size + 1)
  end
  return messages, bytes
end

--- An origin on a port that the system chooses. `answer` (a text, a list of texts each of which comes
--- a while after the one before, or a function of the request and its number) is what it says to each
--- whole request; with `is_early` as soon as a head is there,
--- with `closes` it closes behind it. With `is_asked(bytes)`, which tells when a request of another
--- protocol is whole, it answers once a connection. `skip(bytes)` is where the first request of a connection begins.
function M.origin()
  local listener = assert(socket.bind("127.0.0.1", 0))
  listener:settimeout(0)
  local self = setmetatable({ listener = listener }, Origin)
  self.port = tonumber((select(2, listener:getsockname())))
  self:reset()
  return self
end

function Origin:reset(options)
  for _, conn in ipairs(self.conns or {}) do
    conn.socket:close()
  end
  self.conns, self.requests, self.bytes = {}, {}, ""
  self.options = options or {}
end

function Origin:close()
  self:reset()
  self.listener:close()
end

local EAGAIN, ECONNRESET = 11, 104
local into = ffi.new("char[65536]")

--- @return what has come, whether the peer has closed, and whether it has reset the connection
local function receive(from)
  local n = tonumber(ffi.C.recv(from:getfd(), into, 65536, 0))
  if n > 0 then
    return ffi.string(into, n), false, false
  end
  local errno = n < 0 and ffi.errno() or 0
  return "", errno ~= EAGAIN, errno == ECONNRESET
end

local DEFAULT = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

function Origin:answer_to(conn, request)
  local options = self.options
  local answer = options.answer or DEFAULT
  if type(answer) == "function" then
    answer = answer(request, #self.requests)
  end
  conn.later = type(answer) == "table" and { unpack(answer) } or { answer }
  self:say(conn)
end

--- Sends the next piece of an answer, and closes behind the last where that is wanted.
function Origin:say(conn)
  local piece = table.remove(conn.later, 1)
  if piece then
    conn.socket:send(piece)
  end
  conn.silent_for = 0
  if #conn.later == 0 and self.options.closes then
    conn.socket:close()
    conn.is_over = true
  end
end

function Origin:feed(conn, bytes)
  conn.bytes = conn.bytes .. bytes
  self.bytes = self.bytes .. bytes
  if self.options.skip and not conn.is_begun then
    local from = self.options.skip(conn.bytes)
    if not from then
      return
    end
    conn.bytes, conn.is_begun = conn.bytes:sub(from), true
  end
  if self.options.is_asked then
    if not conn.later and self.options.is_asked(conn.bytes) then
      self.requests[#self.requests + 1] = { bytes = conn.bytes }
      self:answer_to(conn, conn.bytes)
    end
    return
  end
  local messages, rest, partial = split(conn.bytes, false, {}, false)
  conn.bytes = rest
  for _, request in ipairs(messages) do
    self.requests[#self.requests + 1] = request
    if not conn.is_answered_early then
      self:answer_to(conn, request)
    end
    conn.is_answered_early = false
  end
  if partial and self.options.is_early and not conn.is_answered_early then
    conn.is_answered_early = true
    self:answer_to(conn, partial)
  end
end

--- @return whether anything happened
function Origin:turn()
  local is_busy = false
  local new = self.listener:accept()
  if new then
    new:settimeout(0)
    new:setoption("tcp-nodelay", true)
    self.conns[#self.conns + 1] = { socket = new, bytes = "" }
    is_busy = true
  end
  for _, conn in ipairs(self.conns) do
    if not conn.is_over then
      local bytes, is_eof = receive(conn.socket)
      if #bytes > 0 then
        self:feed(conn, bytes)
        is_busy = true
      end
      if conn.later and #conn.later > 0 and not conn.is_over then
        conn.silent_for = conn.silent_for + 1
        is_busy = true
        if conn.silent_for > 5 then
          self:say(conn)
        end
      end
      if is_eof and not conn.is_over then
        conn.is_over, is_busy = true, true
      end
    end
  end
  return is_busy
end

--- Sends bytes (or a list of them, each after the one before has been worked on) to a gateway.
---@param options { answers?: integer, closed?: boolean, methods?: string[], shutdown?: boolean,
---wants_bytes?: string, is_over?: function, patience_s?: number, origin?: table }
---answers: wait for so many final answers; closed: until the gateway closes; wants_bytes: until they
---end in this; is_over(bytes): until that is true; methods: of the requests, where one is HEAD
---@return table { bytes, answers, interim, rest, is_closed, was_reset, sent_bytes, requests,
---origin_bytes }
function M.exchange(gw, origin, bytes, options)
  options = options or {}
  origin:reset(options.origin)
  local client = assert(socket.connect("127.0.0.1", gw:port(options.listener)))
  client:settimeout(0)
  client:setoption("tcp-nodelay", true)
  local pieces = type(bytes) == "table" and bytes or { bytes }
  local got, is_closed, was_reset, sent, quiet = "", false, false, 0, 0
  local deadline = socket.gettime() + (options.patience_s or PATIENCE_S)
  local sent_bytes, answers, rest = 0
  local wanted = options.answers or 1
  local unsent = ""
  repeat
    if #unsent == 0 and (sent == 0 or sent < #pieces and quiet >= 3) then
      sent = sent + 1
      unsent = pieces[sent]
    end
    if #unsent > 0 and not is_closed then
      local last, _, part = client:send(unsent)
      last = last or part
      sent_bytes, unsent = sent_bytes + last, unsent:sub(last + 1)
      quiet = last > 0 and 0 or quiet
      if #unsent == 0 and sent == #pieces and options.shutdown then
        client:shutdown("send")
      end
    end
    gw.core:turn(quiet > 2 and 1 or 0)
    local is_busy = origin:turn()
    local more, is_eof, is_reset = receive(client)
    got = got .. more
    is_closed, was_reset = is_closed or is_eof, was_reset or is_reset
    quiet = (is_busy or #more > 0) and 0 or quiet + 1
    answers, rest = split(got, true, options.methods or {}, is_closed)
    local is_there = #answers >= wanted and (is_closed or not options.closed)
    if options.wants_bytes then
      is_there = got:sub(-#options.wants_bytes) == options.wants_bytes
    end
    if options.is_over then
      is_there = options.is_over(got)
    end
    local is_settled = quiet >= (is_closed and 1 or 4)
  until (sent == #pieces and #unsent == 0 and is_there and is_settled) or is_closed and quiet > 8
    or socket.gettime() > deadline
  client:close()
  gw.core:turn(0)
  gw.core:turn(0)
  origin:turn()
  return { bytes = got, answers = answers, interim = answers.interim or {}, rest = rest,
    is_closed = is_closed, was_reset = was_reset, sent_bytes = sent_bytes,
    requests = origin.requests, origin_bytes = origin.bytes }
end

--- A gateway with this configuration, in which PORT stands for a new origin's port.
---@param moongate table the module moongate.test
function M.serve(moongate, config)
  local origin = M.origin()
  return moongate.gateway { files = { ["gateway.lua"] = config:gsub("PORT", origin.port) } }, origin
end

function M.close(gw, origin)
  gw:close()
  origin:close()
end

return M
