-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a case a line)
--- The Core Rule Set's own regression tests, replayed into the engine: what is in the shared folder,
--- or the folder that CRS_TESTS names, against the rules that its files are written for.
---
---   make test-crs CRS_TESTS=DIR [CRS_VERSION=3|4] [CRS_RULES=DIR of crs-setup.conf.example and rules/]
package.path = "spec/plugins/waf/?.lua;" .. package.path
local engine, ftw = require("engine"), require("ftw")

local shared = (os.getenv("MOONGATE_SHARED") or "../shared") .. "/crs"

local SETTINGS = [[
SecRuleEngine DetectionOnly
SecRequestBodyAccess On
SecRule REQUEST_HEADERS:Content-Type "^(?:application(?:/soap\+|/)|text/)xml" \
  "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "^application/json" \
  "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRequestBodyLimit 13107200
SecRequestBodyNoFilesLimit 131072
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html text/xml application/json
SecResponseBodyLimitAction ProcessPartial
SecPcreMatchLimit 100000
]]

local function level(text)
  return { name = "level", text = 'SecAction "id:900001,phase:1,nolog,pass,t:none,' .. text .. '"' }
end

local function exists(path)
  local f = io.open(path)
  if f then
    f:close()
  end
  return f ~= nil
end

local function fold(sources, id_from)
  local ids = {}
  for _, id in ipairs(sources) do
    ids[#ids + 1] = id
  end
  table.sort(ids)
  return table.concat(ids, " ", id_from)
end

local asked = os.getenv("CRS_TESTS")
if asked == "" then
  asked = nil
end

local function replay(name, sources, dir, overrides, httpbin)
  describe("the regression tests of CRS " .. name, function()
    if not engine.lib or not exists(dir) then
      pending("neither the engine's library nor the tests are here")
      return
    end
    local rules = assert(engine.load(sources))
    local tests = ftw.load(dir, overrides)
    local origin = ftw.origin(httpbin)

    it("all pass", function()
      local failed = {}
      for _, test in ipairs(tests) do
        local why = not test.skip and ftw.run(engine, rules, test, origin)
        if why then
          failed[#failed + 1] = test.id .. ": " .. why
        end
      end
      assert.is_true(#tests > 0)
      assert.are.same({}, failed)
    end)

    it("fire the same rules with the prefilter and without it", function()
      local differ = {}
      for _, test in ipairs(tests) do
        for _, stage in ipairs(test.stages) do
          local req = ftw.parse(stage.bytes)
          if req then
            engine.lib.waf_set_prefilter(false)
            local slow = engine.run(rules, req, origin, { quiet = true })
            engine.lib.waf_set_prefilter(true)
            local fast = engine.run(rules, req, origin, { quiet = true })
            if fold(slow.ids, 1) ~= fold(fast.ids, 1) then
              differ[#differ + 1] = test.id
            end
          end
        end
      end
      assert.are.same({}, differ)
    end)
  end)
end

-- Files of v4 name their rule; those of v3 do not.
local function version_of(dir)
  local pipe = assert(io.popen(("grep -rlE '^rule_id:' --include='*.yaml' '%s' | head -n 1"):format(dir)))
  local first = pipe:read("*l")
  pipe:close()
  return first and "4" or "3"
end

local wanted = os.getenv("CRS_VERSION") or ""
if wanted == "" then
  wanted = asked and version_of(asked)
end
if wanted ~= "4" and exists("/usr/share/modsecurity-crs/rules/REQUEST-901-INITIALIZATION.conf") then
  replay("3.3.4", {
    { name = "settings", text = SETTINGS }, "/etc/modsecurity/crs/crs-setup.conf",
    level("setvar:tx.paranoia_level=4,setvar:tx.combined_file_sizes=65535"),
    "/usr/share/modsecurity-crs/rules/*.conf",
  }, asked or shared .. "/3.3.4/tests", nil, true)
end

local v4 = os.getenv("CRS_RULES") or ""
if v4 == "" then
  v4 = shared .. "/4.28.0"
end
if wanted ~= "3" and exists(v4 .. "/crs-setup.conf.example") then
  local overrides
  local f = io.open(v4 .. "/httpd-overrides.yaml")
  if f then
    overrides = require("lyaml").load(f:read("*a")).test_overrides
    f:close()
  end
  replay("4.28.0", {
    { name = "settings", text = SETTINGS }, v4 .. "/crs-setup.conf.example",
    level("setvar:tx.blocking_paranoia_level=4,setvar:tx.combined_file_sizes=65535,"
      .. "setvar:tx.arg_length=400,setvar:tx.total_arg_length=6400,setvar:tx.max_file_size=64100"),
    v4 .. "/rules/*.conf",
  }, asked or shared .. "/4.28.0/tests", overrides, false)
end
