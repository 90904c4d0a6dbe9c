-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (lists of names)
--- The Core Rule Set's regression tests through the gateway: requests as bytes on a socket, an origin
--- behind, the fired rules read from the audit log. By default the files where the HTTP layer has a
--- say; all of them with CRS_ALL=1, or those of CRS_TESTS (a folder).
local json = require("cjson")
local process = require("spec.support.process")
local socket = require("socket")

local shared = (os.getenv("MOONGATE_SHARED") or "../shared") .. "/crs"
local debian = "/usr/share/modsecurity-crs/rules"

local function given(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

local function exists(path)
  local file = io.open(path)
  if file then
    file:close()
  end
  return file ~= nil
end

-- What the tests assume; `crs/README.md`.
local SITE = [[
local p = require("moongate.policies")
return {
  name = "crs", access_log = false, limits = { policy_body_bytes = 13107200 },
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { origin = { targets = { "http://127.0.0.1:%d" } } },
  sites = { { name = "all", hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
  policies = { inbound = { p.waf {
    ruleset = "%s", profile = "crs", mode = "detection", max_body_bytes = 13107200, inspect_response = true,
    paranoia = 4, setup = 'SecAction "id:1,phase:1,nolog,pass,t:none,%s"',
    audit_log = { file = "%s", format = "modsecurity" },
  } } },
}
]]

-- Where the HTTP layer's answer is another than httpd's (docs/decisions/http1-strictness.md), by version and test.
local ANSWERED_BEFORE = {
  ["3.3.4"] = {
    ["920430-5"] = "a request line without version: 400, where the test wants no status line",
  },
  ["4.28.0"] = {
    ["920100-4"] = "CONNECT: 405; the test wants 200 through a proxy that lets it pass",
    ["920181-1"] = "Content-Length beside Transfer-Encoding: 400; httpd drops the length",
    ["920430-5"] = "a request line without version: 400, where the test wants no status line",
  },
}

local function free_port()
  local probe = assert(socket.bind("127.0.0.1", 0))
  local _, port = probe:getsockname()
  probe:close()
  return tonumber(port)
end

local function start_origin(arguments)
  local port = free_port()
  local pid = tonumber((process.run(("python3 '%s/backend.py' %d %s >/dev/null 2>&1 & echo $!"):format(shared,
    port, arguments)):match("%d+")))
  assert(process.eventually(function()
    local conn = socket.connect("127.0.0.1", port)
    return conn and conn:close()
  end), "the origin does not listen")
  return port, pid
end

local function run_tests(version)
  local origin_port, origin_pid = start_origin(version.origin)
  local log = process.run("mktemp /tmp/moongate-crs.XXXXXX"):match("%S+")
  finally(function()
    process.run(("kill %d; rm -f '%s'"):format(origin_pid, log))
  end)
  local gw = process.start({
    workers = 1,
    files = { ["gateway.lua"] = SITE:format(origin_port, version.ruleset, version.settings, log) },
  })
  local out = gw.root .. "/result.json"
  local only = (os.getenv("CRS_ALL") or given("CRS_TESTS")) and "" or "--only='920*' --only='" .. version.more .. "'"
  local said = process.run(("python3 '%s/ftw.py' --tests '%s' --port %d --log '%s' --sync --quiet --still 4 --settle 20 %s %s --json '%s'")
    :format(shared, given("CRS_TESTS") or version.tests, gw:port("http"), log, only, version.arguments, out))
  local result = exists(out) and json.decode(process.read(out))
  gw:stop()
  return result, said
end

local function refused(status)
  return status == 400 or status == 405 or status == 413
end

local v4 = given("CRS_RULES") or shared .. "/4.28.0"
local versions = {
  {
    name = "3.3.4", ruleset = "crs", tests = shared .. "/3.3.4/tests", rules = debian, origin = "--httpbin",
    arguments = "", more = "934*",
    settings = "setvar:tx.combined_file_sizes=65535",
  },
  {
    name = "4.28.0", ruleset = v4, tests = shared .. "/4.28.0/tests", rules = v4 .. "/rules", origin = "",
    arguments = exists(v4 .. "/httpd-overrides.yaml") and "--overrides='" .. v4 .. "/httpd-overrides.yaml'" or "",
    more = "95*",
    settings = "setvar:tx.combined_file_sizes=65535,setvar:tx.arg_length=400,setvar:tx.total_arg_length=6400,"
      .. "setvar:tx.max_file_size=64100",
  },
}

describe("the regression tests of CRS through the gateway", function()
  for _, version in ipairs(versions) do
    it("pass with " .. version.name, function()
      if not exists(shared .. "/ftw.py") or not exists(version.tests) or not exists(version.rules) then
        pending("neither the tests nor the rules are here")
        return
      end
      local result, said = run_tests(version)
      assert.is_truthy(result, said)
      local failed = {}
      for _, test in ipairs(result.tests) do
        local is_answered = ANSWERED_BEFORE[version.name][test.id] and refused(test.status[1])
        if test.result == "fail" and not is_answered then
          failed[#failed + 1] = test.id .. ": " .. tostring(test.reason)
        end
      end
      assert.are.same({}, failed)
      assert.is_true(result.passed > 0)
    end)
  end
end)
