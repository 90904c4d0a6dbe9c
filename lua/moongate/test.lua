-- SPDX-License-Identifier: Apache-2.0
--- Gateways for specs, inside the test process: `moongate test` runs busted on them. Real parser,
--- policies, connection pools and sockets on ports that the system chooses; backends may be Lua
--- functions. One clock for C and Lua, moved by `advance`: no sleeps in specs.
---
---     local moongate = require("moongate.test")
---     local gw = moongate.gateway { dir = "..",
---       backends = { orders = function() return 200, {}, "ok" end } }
---     assert.equal(200, gw:get("/external/orders", { host = "api.contoso.test" }).status)
---     gw:advance(60)
---     gw:close()

local ffi = require("ffi")
local core = require("moongate.testkit")
local json = require("moongate.json")

ffi.cdef("int setenv(const char *name, const char *value, int overwrite);")

local M = {}

local STATE = "MOONGATE_STATE_DIR" -- where quotas are kept over restarts

local Gateway = {}
Gateway.__index = Gateway

--- Writes files of a configuration to a new directory.
local function write_files(files)
  local dir = os.tmpname()
  os.remove(dir)
  assert(os.execute(("mkdir -p '%s'"):format(dir)) == 0)
  for path, text in pairs(files) do
    local folder = path:match("^(.*)/[^/]*$")
    if folder then
      assert(os.execute(("mkdir -p '%s/%s'"):format(dir, folder)) == 0)
    end
    local file = assert(io.open(dir .. "/" .. path, "w"))
    file:write(text)
    file:close()
  end
  return dir
end

local function remove_dir(dir)
  os.execute(("rm -rf '%s'"):format(dir))
end

local given_state -- the last folder that a gateway was given by us

--- Quotas of specs are neither those of the gateway that this user runs, nor of the spec before: each
--- gateway has a folder of its own, unless the environment names one.
local function use_state(self)
  local named = os.getenv(STATE)
  if named and named ~= "" and named ~= given_state then
    return
  end
  if not self.state then
    self.state = os.tmpname()
    os.remove(self.state)
  end
  given_state = self.state
  ffi.C.setenv(STATE, given_state, 1)
end

--- The folder of the spec that calls, so that `dir = ".."` means what it says there.
local function caller_dir()
  for level = 3, 12 do
    local info = debug.getinfo(level, "S")
    if not info then
      break
    end
    local path = info.source:match("^@(.*_spec%.lua)$")
    if path then
      return path:match("^(.*)/[^/]*$") or "."
    end
  end
  return "."
end

--- Counts the calls of a backend and keeps what they brought.
local function watched(answer, calls)
  return function(request)
    calls[#calls + 1] = request
    if type(answer) == "function" then
      return answer(request)
    end
    return answer.status or 200, answer.headers, answer.body
  end
end

--- One answer for all targets, or a list of functions, one for each target.
local function watched_all(answer, calls)
  if type(answer) ~= "table" or type(answer[1]) ~= "function" then
    return watched(answer, calls)
  end
  local list = {}
  for i, one in ipairs(answer) do
    list[i] = watched(one, calls)
  end
  return list
end

---@class moongate.test.Options
---@field dir? string configuration directory; relative to the spec's own folder
---@field files? table<string, string> or its files, by path: `["gateway.lua"] = "return { … }"`
---@field backends? table<string, function|table> answers in place of the backends' targets:
---`function(request) return status, headers, body end`, or a table with these; or a list of
---functions, one for each target, whose weights, priorities and probes stay as configured

--- Starts a gateway; raises when its configuration is wrong.
---@param options moongate.test.Options
---@return moongate.test.Gateway
function M.gateway(options)
  local self = setmetatable({ calls = {}, answers = {} }, Gateway)
  local dir = options.dir
  if options.files then
    dir = write_files(options.files)
    self.temporary = dir
  elseif dir:sub(1, 1) ~= "/" then
    dir = caller_dir() .. "/" .. dir
  end
  self.dir = dir
  for name, answer in pairs(options.backends or {}) do
    self.calls[name] = {}
    self.answers[name] = watched_all(answer, self.calls[name])
  end
  use_state(self)
  local gateway, err = core.gateway(dir, self.answers)
  if not gateway then
    self:forget()
    self:forget_state()
    error("the gateway does not start:\n" .. tostring(err), 2)
  end
  self.core = gateway
  return self
end

--- The errors of a configuration that must not load.
---@param options moongate.test.Options
---@return string
function M.errors(options)
  local dir = options.files and write_files(options.files) or options.dir
  local self = setmetatable({}, Gateway)
  use_state(self)
  local gateway, err = core.gateway(dir, {})
  self:forget_state()
  if options.files then
    remove_dir(dir)
  end
  if gateway then
    gateway:close()
    error("this configuration loads, and should not", 2)
  end
  return err
end

function Gateway:forget()
  if self.temporary then
    remove_dir(self.temporary)
    self.temporary = nil
  end
end

function Gateway:forget_state()
  if self.state then
    remove_dir(self.state)
    self.state = nil
  end
end

--- Sends a request and waits for the whole answer.
---@param request { method?: string, path?: string, host?: string, headers?: table, body?: string,
---listener?: string, tls?: boolean }
---@return { status: integer, headers: table<string, string>, body: string }
function Gateway:request(request)
  local answer, reason = self.core:request(request)
  if not answer then
    error("no answer: " .. reason, 2)
  end
  return answer
end

local function shorthand(method)
  return function(self, path, options)
    local request = { method = method, path = path }
    for name, value in pairs(options or {}) do
      request[name] = value
    end
    local answer, reason = self.core:request(request)
    if not answer then
      error("no answer: " .. reason, 2)
    end
    return answer
  end
end

Gateway.get = shorthand("GET")
Gateway.head = shorthand("HEAD")
Gateway.post = shorthand("POST")
Gateway.put = shorthand("PUT")
Gateway.patch = shorthand("PATCH")
Gateway.delete = shorthand("DELETE")
Gateway.options = shorthand("OPTIONS")

--- Sends bytes as they are. @return everything that came back, and whether the gateway closed
function Gateway:raw(bytes, options)
  return self.core:raw(bytes, options)
end

--- Moves the clock, firing what becomes due.
---@param seconds number
function Gateway:advance(seconds)
  self.core:advance(seconds)
end

--- Loads the directory (or other files) again, as a reload does.
--- @return true, or nil and the errors
function Gateway:reload(files)
  if files then
    self:forget()
    self.dir = write_files(files)
    self.temporary = self.dir
  end
  use_state(self)
  return self.core:reload(self.dir, self.answers)
end

--- Replaces the answer of a backend.
function Gateway:answer(name, answer)
  self.calls[name] = self.calls[name] or {}
  local calls, current = self.calls[name], answer
  self.answers[name] = watched(current, calls)
end

---@param listener? string name; the first one's where left out; "management"
---@return integer
function Gateway:port(listener)
  return self.core:port(listener)
end

--- The access log so far, one table a request.
---@return table[]
function Gateway:access_log()
  local lines = {}
  for line in self.core:log_text():gmatch("[^\n]+") do
    lines[#lines + 1] = json.decode(line)
  end
  return lines
end

--- The last line of the access log.
function Gateway:last_log()
  local lines = self:access_log()
  return lines[#lines]
end

--- Client connections that are open now.
---@return integer
function Gateway:connections()
  self.core:turn(0)
  return self.core:connections()
end

function Gateway:close()
  self.core:close()
  self:forget()
  self:forget_state()
end

return M
