-- SPDX-License-Identifier: Apache-2.0
--- The phases of the access log: they add up, and what took the time is named.
local ffi = require("ffi")
local moongate = require("moongate.test")

ffi.cdef [[
int socket(int domain, int type, int protocol);
int bind(int fd, const void *address, unsigned size);
int listen(int fd, int backlog);
int getsockname(int fd, void *address, unsigned *size);
int close(int fd);
]]

--- A port that the kernel connects to, and where nobody ever reads.
local function silent_port()
  local fd = ffi.C.socket(2, 1, 0)
  local address, size = ffi.new("uint8_t[16]", { 2, 0, 0, 0, 127, 0, 0, 1 }), ffi.new("unsigned[1]", 16)
  assert(ffi.C.bind(fd, address, 16) == 0 and ffi.C.listen(fd, 16) == 0)
  assert(ffi.C.getsockname(fd, address, size) == 0)
  return address[2] * 256 + address[3], fd
end

local CONFIG = [[
local p = require("moongate.policies")
local function read(ctx) ctx.response:body() end
return {
  name = "phases",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = {
    refused = { targets = { "http://127.0.0.1:1" }, retries = 0 },
    handshake = { targets = { "https://127.0.0.1:SILENT" }, retries = 0, timeout = { connect = 0.2 } },
    origin = { targets = { "http://127.0.0.1:1" }, retries = 0, timeout = { first_byte = 0.2, idle = 0.2 } },
    again = { targets = { "http://127.0.0.1:1" }, retries = 1, retry = { on = { "timeout" }, backoff = 0.01 },
      timeout = { first_byte = 0.2 } },
    other = { targets = { "http://127.0.0.1:1", "http://127.0.0.1:SILENT" }, retries = 1,
      timeout = { first_byte = 0.2 } },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/refused", backend = "refused" },
    { path = "/handshake", backend = "handshake" },
    { path = "/origin", backend = "origin" },
    { path = "/read", backend = "origin", policies = { outbound = { read } } },
    { path = "/again", backend = "again" },
    { path = "/other", backend = "other" },
    { path = "/policy", backend = "origin", policies = { backend = {
      p.retry { on = { "timeout" }, count = 1, interval = 0.01, p.forward_request {} } } } },
  } } },
}
]]

local WAIT_US, HALF_US = 180000, 100000 -- of the 200 ms that each of them waits

describe("the phases of the access log", function()
  local gw, fd, answers, calls

  setup(function()
    local port
    port, fd = silent_port()
    local function origin()
      calls = calls + 1
      return answers[calls] or { raw = "", keep = true }
    end
    gw = moongate.gateway { files = { ["gateway.lua"] = (CONFIG:gsub("SILENT", port)) },
      backends = { origin = origin, again = origin } }
  end)

  teardown(function()
    gw:close()
    ffi.C.close(fd)
  end)

  --- The phases of a request, which add up to its time.
  local function phases(path, status, ...)
    answers, calls = { ... }, 0
    assert.equal(status, gw:get(path, { host = "a" }).status)
    local line = gw:last_log()
    local sum = 0
    for _, us in pairs(line.phases_us) do
      sum = sum + us
    end
    assert.equal(line.duration_us, sum)
    return line.phases_us, line
  end

  local OK = { raw = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }
  local LONG = { raw = "HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" .. ("x"):rep(200000), keep = true }
  local CUT = { raw = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", keep = true }

  it("name connecting where nobody can be connected to", function()
    local times = phases("/refused", 502)
    assert.is_true(times.connect > 0)
    assert.equal(0, times.backend)
    times = phases("/handshake", 504)
    assert.is_true(times.connect > WAIT_US)
    assert.is_true(times.backend == 0 and times.send < HALF_US)
  end)

  it("name the backend where it does not answer", function()
    local times = phases("/origin", 504)
    assert.is_true(times.backend > WAIT_US)
    assert.is_true(times.connect < HALF_US and times.send < HALF_US)
  end)

  it("name the backend for all tries, and connecting for all that failed to", function()
    local times, line = phases("/again", 200, { raw = "", keep = true }, OK)
    assert.equal(2, line.tries)
    assert.is_true(times.backend > WAIT_US and times.prepare < HALF_US and times.send < HALF_US)
    times = phases("/policy", 200, { raw = "", keep = true }, OK)
    assert.is_true(times.backend > WAIT_US and times.prepare < HALF_US and times.send < HALF_US)
    for _ = 1, 2 do -- whichever target is first
      times = phases("/other", 504)
      assert.is_true(times.backend > WAIT_US and times.connect < HALF_US)
    end
  end)

  it("name sending for a body that passes through, and the backend for one that is read first", function()
    local times = phases("/origin", 200, LONG)
    assert.is_true(times.send > WAIT_US and times.backend < HALF_US)
    for _, path in ipairs({ "/origin", "/read" }) do -- of a short one nothing has gone out
      times = phases(path, 504, CUT)
      assert.is_true(times.backend > WAIT_US and times.send < HALF_US)
    end
  end)

  it("name the backend where the client does not wait for it", function()
    answers, calls = {}, 0
    gw:raw("GET /origin HTTP/1.1\r\nHost: a\r\n\r\n", { wait = 0.12 })
    gw:get("/handshake", { host = "a" }) -- takes long enough for the close to be seen
    local line
    for _, one in ipairs(gw:access_log()) do
      line = one.path == "/origin" and one or line
    end
    assert.is_true(line.phases_us.backend > HALF_US / 2 and line.phases_us.send < HALF_US)
  end)
end)
