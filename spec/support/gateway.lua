-- SPDX-License-Identifier: Apache-2.0
--- Starts a real gateway process for a spec, on ports that the system chooses, and ends it.
---
---   local port = gateway.free_ports(1)
---   local gw = gateway.start { from = "examples/protect-apis", port = port,
---     replace = { ["8080"] = tostring(port) } }
---   gateway.run("curl -si http://127.0.0.1:" .. port .. "/")
---   gw:stop()

local process = require("spec.support.process")
local socket = require("socket")

local M = {}
M.__index = M

M.build = os.getenv("MOONGATE_BUILD") or "build/release"

M.run = process.run

--- Ports that nobody listens on: all are held until all are known.
---@param count integer
---@return integer ...
function M.free_ports(count)
  local held, ports = {}, {}
  for i = 1, count do
    held[i] = assert(socket.bind("127.0.0.1", 0))
    ports[i] = tonumber((select(2, held[i]:getsockname())))
  end
  for i = 1, count do
    held[i]:close()
  end
  return unpack(ports)
end

function M.is_there()
  return process.read(M.build .. "/moongate") ~= ""
end

--- Replaces plain texts at once: what one puts in, another does not find.
local function replace_all(text, replace)
  local new = {}
  for old, value in pairs(replace or {}) do
    new[#new + 1] = value
    text = text:gsub(old:gsub("%p", "%%%0"), "\1" .. #new .. "\2")
  end
  return (text:gsub("\1(%d+)\2", function(i)
    return new[tonumber(i)]
  end))
end

--- Copies a configuration to a temporary folder, with plain texts replaced in its Lua files.
local function copy(from, replace)
  local dir = M.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
  M.run(("cp -r '%s/.' '%s/'"):format(from, dir))
  for path in M.run(("find '%s' -name '*.lua'"):format(dir)):gmatch("%S+") do
    local text = replace_all(process.read(path), replace)
    local file = assert(io.open(path, "wb"))
    file:write(text)
    file:close()
  end
  return dir
end

--- Starts `moongate run` on a copy of a configuration, and waits until it listens.
---@param options table { from, replace?, port, environment?, arguments? }
function M.start(options)
  local self = setmetatable({ dir = copy(options.from, options.replace) }, M)
  self.log_path = self.dir .. ".log"
  self.state = self.dir .. ".state"
  local command = ("XDG_STATE_HOME='%s' %s setsid '%s/moongate' run '%s' %s >'%s' 2>&1 & echo $!")
    :format(self.state, options.environment or "", M.build, self.dir, options.arguments or "",
      self.log_path)
  self.pid = tonumber((M.run(command):match("%d+")))
  local deadline = socket.gettime() + (options.patience_s or 15)
  while socket.gettime() < deadline do
    local client = socket.connect("127.0.0.1", options.port)
    if client then
      client:close()
      return self
    end
    if not self:is_running() then
      break
    end
    socket.sleep(0.05)
  end
  local log = self:log()
  self:stop()
  error("the gateway does not listen on port " .. options.port .. ":\n" .. log, 2)
end

function M:is_running()
  local state = process.read(("/proc/%d/stat"):format(self.pid)):match("^%d+ %b() (%a)")
  return state ~= nil and state ~= "Z"
end

function M:log()
  return process.read(self.log_path)
end

function M:signal(name)
  M.run(("kill -%s %d"):format(name, self.pid))
end

--- Ends all of its processes as a crash does.
function M:kill()
  M.run(("kill -s KILL -- -%d"):format(self.pid)) -- its session's; what the shell has takes no -KILL here
end

--- Asks it to end, and waits; after ten seconds it is killed. Returns whether it ended by itself.
function M:stop()
  self:signal("TERM")
  local deadline = socket.gettime() + 10
  while self:is_running() and socket.gettime() < deadline do
    socket.sleep(0.05)
  end
  local ended = not self:is_running()
  if not ended then
    self:kill()
  end
  -- What libfaketime keeps of a process it leaves behind.
  M.run(("rm -rf '%s' '%s' '%s' /dev/shm/faketime_shm_%d /dev/shm/sem.faketime_sem_%d"):format(self.dir, self.state,
    self.log_path, self.pid, self.pid))
  return ended
end

return M
