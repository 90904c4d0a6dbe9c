-- SPDX-License-Identifier: Apache-2.0
--- Starts the real binary for a spec, on ports that the system chooses (`127.0.0.1:0`), and ends
--- it.
---
---   local gw = process.start { files = { ["gateway.lua"] = "return { ... }" }, workers = 2 }
---   process.get(gw:port("http"), "/path")
---   gw:stop()

local json = require("cjson")
local socket = require("socket")

local M = {}
M.__index = M

M.binary = os.getenv("MOONGATE_BIN")
  or (os.getenv("MOONGATE_BUILD") or "build/release") .. "/moongate"

--- Whether the binary under test has ASan, whose quarantine makes any process grow.
function M.has_asan()
  return select(2, M.run(("grep -q __asan_init '%s'"):format(M.binary))) == 0
end

function M.read(path)
  local file = io.open(path, "rb")
  if not file then
    return ""
  end
  local text = file:read("*a")
  file:close()
  return text
end

function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

--- What a command printed (errors too), and its status.
---@return string output
---@return integer status
function M.run(command)
  local pipe = assert(io.popen("{ " .. command .. "; } 2>&1; echo \"\nstatus=$?\""))
  local text = pipe:read("*a")
  pipe:close()
  local output, status = text:match("^(.*)\nstatus=(%d+)\n$")
  return output, tonumber(status)
end

--- Waits until `condition` gives something true, and returns it; nil after `patience_s` (30: only what fails
--- takes as long).
function M.eventually(condition, patience_s)
  local deadline = socket.gettime() + (patience_s or 30)
  repeat
    local hit = condition()
    if hit then
      return hit
    end
    socket.sleep(0.02)
  until socket.gettime() > deadline
  return nil
end

local function is_alive(pid)
  local state = M.read(("/proc/%d/stat"):format(pid)):match("^%d+ %b() (%a)")
  return state ~= nil and state ~= "Z"
end

M.is_alive = is_alive

--- The processes that `pid` has started and that are there still.
function M.children(pid)
  local found = {}
  for line in M.read(("/proc/%d/task/%d/children"):format(pid, pid)):gmatch("%d+") do
    found[#found + 1] = tonumber(line)
  end
  return found
end

--- A gateway that serves.
---@param options table { files? or dir?, workers?, arguments?, environment?, binary?, patience_s? }
function M.start(options)
  local root = M.run("mktemp -d /tmp/moongate-process.XXXXXX"):match("%S+")
  local self = setmetatable({
    root = root, dir = options.dir or root .. "/conf", ready = root .. "/ready.json",
    binary = options.binary or M.binary,
  }, M)
  M.run(("mkdir -p '%s/conf' '%s/run' && chmod 700 '%s/run'"):format(root, root, root))
  for path, text in pairs(options.files or {}) do
    self:write_file(path, text)
  end
  self.environment = ("MOONGATE_RUN_DIR='%s/run' XDG_STATE_HOME='%s/state' %s"):format(root, root,
    options.environment or "")
  local command = "%s setsid '%s' run --quiet --ready-file='%s' %s %s '%s' >'%s/out' 2>'%s/err' "
    .. "& echo $!"
  command = command:format(self.environment, self.binary, self.ready,
      options.workers and "--workers=" .. options.workers or "", options.arguments or "", self.dir,
      root, root)
  self.first_pid = tonumber((M.run(command):match("%d+")))
  self.pid = self.first_pid
  local is_ready = M.eventually(function()
    return M.read(self.ready) ~= "" or not is_alive(self.pid)
  end, options.patience_s or 20)
  if not is_ready or M.read(self.ready) == "" then
    local log = self:log()
    self:stop()
    error("the gateway does not serve:\n" .. log, 2)
  end
  return self
end

function M:write_file(path, text)
  local full = self.dir .. "/" .. path
  M.run(("mkdir -p '%s'"):format(full:match("^(.*)/")))
  -- At once, as editors do.
  M.write(full .. ".tmp", text)
  assert(os.rename(full .. ".tmp", full))
end

--- What the ready file says; after an upgrade it is the new process's.
function M:facts()
  return json.decode(M.read(self.ready))
end

--- The port of a listener.
function M:port(name)
  for _, listener in ipairs(self:facts().listeners) do
    if listener.name == name or name == "management" and listener.management then
      return listener.port
    end
  end
  error("no listener " .. name)
end

--- Runs a command of moongate on the gateway's directory.
---@return string output
---@return integer status
function M:command(line)
  local name, rest = line:match("^(%S+)%s*(.*)$")
  return M.run(("%s '%s' %s '%s' %s"):format(self.environment, self.binary, name, self.dir, rest))
end

function M:status()
  local text = self:command("status --json")
  local ok, status = pcall(json.decode, text)
  return ok and status or error(text)
end

--- Process ids of the workers, by number.
function M:workers()
  local pids = {}
  for _, worker in ipairs(self:status().workers) do
    pids[worker.worker] = worker.pid
  end
  return pids
end

--- Waits until so many requests are under way, and gives them by worker.
function M:await_exchanges(count)
  return M.eventually(function()
    local found, sum = {}, 0
    for _, worker in ipairs(self:status().workers) do
      found[worker.worker] = worker.exchanges
      sum = sum + worker.exchanges
    end
    return sum == count and found
  end) or error(count .. " requests are not under way:\n" .. self:log(), 2)
end

--- Standard error, which has the error log; then standard output, which has the access log.
function M:log()
  return M.read(self.root .. "/err") .. M.read(self.root .. "/out")
end

function M:signal(name, pid)
  M.run(("kill -%s %d"):format(name, pid or self.pid))
end

function M:is_running()
  return is_alive(self.pid)
end

--- Asks it to end, and waits; after `patience_s` (10) it is killed. Returns whether it ended by
--- itself.
function M:stop(patience_s)
  local pids = { self.first_pid }
  local ok, facts = pcall(self.facts, self)
  if ok and facts.pid ~= self.first_pid then
    pids[2] = facts.pid
  end
  for _, pid in ipairs(pids) do
    self:signal("TERM", pid)
  end
  local ended = M.eventually(function()
    return not is_alive(pids[1]) and not (pids[2] and is_alive(pids[2]))
  end, patience_s or 10)
  if not ended then
    for _, pid in ipairs(pids) do
      for _, child in ipairs(M.children(pid)) do
        self:signal("KILL", child)
      end
      self:signal("KILL", pid)
    end
  end
  M.run(("rm -rf '%s'"):format(self.root))
  return ended ~= nil
end

--- One request on a connection of its own.
---@return integer? status
---@return string body or what went wrong
---@return string head
function M.get(port, path, fields)
  local client, err = socket.connect("127.0.0.1", port)
  if not client then
    return nil, err, ""
  end
  client:settimeout(20)
  client:send(("GET %s HTTP/1.1\r\nHost: t.test\r\nConnection: close\r\n%s\r\n"):format(path,
    fields or ""))
  local answer, why, partial = client:receive("*a")
  client:close()
  answer = answer or partial or ""
  local status = tonumber(answer:match("^HTTP/1%.1 (%d%d%d)"))
  if not status then
    return nil, why or answer, ""
  end
  local head, body = answer:match("^(.-\r\n)\r\n(.*)$")
  return status, body, head
end

return M
