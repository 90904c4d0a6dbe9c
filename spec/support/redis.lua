-- SPDX-License-Identifier: Apache-2.0
--- Real Redis servers for specs: started on a UNIX socket or on ports that the system chooses,
--- stopped by the spec.
local ffi = require("ffi")

local M = {}

for _, cdef in ipairs {
  "int kill(int pid, int signal);", "int usleep(unsigned int us);",
  "int socket(int domain, int type, int protocol);", "int close(int fd);",
  "int bind(int fd, const void *address, unsigned int len);",
  "int getsockname(int fd, void *address, unsigned int *len);",
} do
  pcall(ffi.cdef, cdef)
end

local SIGKILL, SIGCONT, SIGSTOP = 9, 18, 19

local function run(command)
  local pipe = io.popen(command)
  local out = pipe:read("*a")
  pipe:close()
  return out
end

--- Whether there is a server to start.
function M.is_there()
  return run("command -v redis-server") ~= ""
end

--- A port of 127.0.0.1 that nobody used a moment ago. Cluster nodes need one whose bus port (10000
--- further) is free as well.
function M.free_port(most)
  for _ = 1, 200 do
    local fd = ffi.C.socket(2, 1, 0)
    local address = ffi.new("uint8_t[16]", { 2, 0, 0, 0, 127, 0, 0, 1 })
    local len = ffi.new("unsigned int[1]", 16)
    local port
    if ffi.C.bind(fd, address, 16) == 0 and ffi.C.getsockname(fd, address, len) == 0 then
      port = address[2] * 256 + address[3]
    end
    ffi.C.close(fd)
    if port and port <= (most or 65535) then
      return port
    end
  end
  error("no free port")
end

--- Waits until `condition()` is true.
function M.eventually(condition, seconds, what)
  local tries = (seconds or 5) * 100
  for _ = 1, tries do
    local value = condition()
    if value then
      return value
    end
    ffi.C.usleep(10000)
  end
  error("not within " .. (seconds or 5) .. " s: " .. (what or "condition"), 2)
end

local Server = {}
Server.__index = Server

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

--- What redis-cli answers.
function Server:cli(...)
  local words = {}
  for i = 1, select("#", ...) do
    words[i] = quote(select(i, ...))
  end
  local where = self.socket and "-s " .. quote(self.socket) or "-p " .. self.port
  return (run(("timeout 5 redis-cli %s %s %s 2>&1"):format(where, self.cli_options or "",
    table.concat(words, " "))):gsub("%s+$", ""))
end

function Server:launch()
  local command = ("exec redis-server %s >%s/log 2>&1"):format(self.arguments, self.dir)
  self.pid = assert(tonumber(run(("cd %s && { %s & echo $!; }"):format(self.dir, command))))
  M.eventually(function()
    return self:cli("PING"):find("PONG") or self:cli("PING"):find("NOAUTH")
  end, 5, "redis-server answers; see " .. self.dir .. "/log")
end

function Server:signal(signal)
  if self.pid then
    ffi.C.kill(self.pid, signal)
  end
end

function Server:pause()
  self:signal(SIGSTOP)
end

function Server:resume()
  self:signal(SIGCONT)
end

--- Ends it as a crash does.
function Server:kill()
  self:signal(SIGKILL)
  self.pid = nil
end

--- Ends it and removes its folder. Nothing it holds is worth a slow end.
function Server:stop()
  if self.pid then
    self:kill()
  end
  run("rm -rf " .. quote(self.dir))
end

--- Starts a server.
---@param options { tcp: boolean?, port: integer?, arguments: string?, cli: string?, conf: string? }
function M.start(options)
  options = options or {}
  local self = setmetatable({ cli_options = options.cli }, Server)
  self.dir = (run("mktemp -d"):gsub("%s+$", ""))
  local arguments = { "--save '' --appendonly no --daemonize no --loglevel warning" }
  if options.conf then
    local file = assert(io.open(self.dir .. "/redis.conf", "w"))
    file:write(options.conf)
    file:close()
    table.insert(arguments, 1, self.dir .. "/redis.conf")
  end
  if options.tcp then
    self.port = options.port or M.free_port(50000)
    arguments[#arguments + 1] = options.tls and ("--port 0 --tls-port %d"):format(self.port)
      or ("--port %d --bind 127.0.0.1"):format(self.port)
    self.url = ("redis%s://127.0.0.1:%d"):format(options.tls and "s" or "", self.port)
  else
    self.socket = self.dir .. "/redis.sock"
    arguments[#arguments + 1] = "--port 0 --unixsocket " .. self.socket
    self.url = "unix:" .. self.socket
  end
  arguments[#arguments + 1] = options.arguments
  self.arguments = table.concat(arguments, " ")
  self:launch()
  return self
end

return M
