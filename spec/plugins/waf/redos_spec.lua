-- SPDX-License-Identifier: Apache-2.0
--- Values made to let patterns backtrack, from each pattern of the Core Rule Set: the match limit and the
--- budget of a request bound them.
package.path = "spec/plugins/waf/?.lua;./lua/?.lua;" .. package.path
local engine = require("engine")

local SETTINGS = [[
SecRuleEngine DetectionOnly
SecRequestBodyAccess On
SecPcreMatchLimit 20000
]]
local BYTES = 16384
-- Of processor time for a request with one such value; the slowest took 0.1 s under sanitizers.
local LIMIT_S = 2

--- Texts that come close to what a pattern asks for: its classes, escapes and letters as single characters,
--- without the quantifiers.
local function near_misses(pattern, most)
  local plain = pattern:gsub("%(%?[%w:=!<>-]*", ""):gsub("\\x(%x%x)", function(h)
    return string.char(tonumber(h, 16))
  end):gsub("\\s", " "):gsub("\\[dD]", "1"):gsub("\\[wWbB]", "a"):gsub("\\(.)", "%1")
    :gsub("%[%^?(.).-%]", "%1"):gsub("[%^%$()?*+]", ""):gsub("{[%d,]*}", "")
  local units = {}
  for unit in plain:gmatch("[^|]+") do
    if #unit > 1 and #units < most then
      units[#units + 1] = unit:sub(1, 24)
    end
  end
  units[#units + 1] = plain:sub(1, 40)
  return units
end

local function text_of(folder)
  local pipe = assert(io.popen("cat " .. folder .. "/*.conf"))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local function patterns_of(text)
  local list = {}
  text = text:gsub("\\\n%s*", "")
  for pattern in text:gmatch('"!?@rx (.-)"[ \n]') do
    list[#list + 1] = pattern
  end
  return list
end

--- `sources` of the rules, the text that has them; at least so many patterns, of each at most so many parts.
local function replay(name, sources, text, least, most)
  describe("patterns of " .. name, function()
    if not engine.lib or not text then
      return pending("neither the engine's library nor the rules are here")
    end

    it("are bounded on values that make them backtrack", function()
      local rules = assert(engine.load({ { name = "settings", text = SETTINGS }, unpack(sources) }))
      local patterns, slowest, what = patterns_of(text), 0, nil
      assert.is_true(#patterns >= least)
      for _, pattern in ipairs(patterns) do
        local fields = {}
        for i, unit in ipairs(near_misses(pattern, most)) do
          local value = unit:rep(math.ceil(BYTES / 4 / #unit)) .. "\1"
          fields[i] = "f" .. i .. "=" .. value:gsub("[^%w]", function(c)
            return ("%%%02X"):format(c:byte())
          end)
        end
        local started = os.clock()
        engine.run(rules, { method = "POST", uri = "/", body = table.concat(fields, "&"), headers = {
          { "Host", "a" }, { "Content-Type", "application/x-www-form-urlencoded" } } }, nil, { quiet = true })
        local took = os.clock() - started
        if took > slowest then
          slowest, what = took, pattern
        end
      end
      print(("%d patterns, the slowest request took %.3f s"):format(#patterns, slowest))
      assert.is_true(slowest < LIMIT_S, what)
    end)
  end)
end

local function replay_crs(version, folder, setup)
  replay("CRS " .. version, { setup, folder .. "/*.conf" }, io.open(setup) and text_of(folder), 200, 4)
end

replay_crs("3.3.4", "/usr/share/modsecurity-crs/rules", "/etc/modsecurity/crs/crs-setup.conf")
local v4 = os.getenv("CRS_RULES") or ""
v4 = v4 ~= "" and v4 or (os.getenv("MOONGATE_SHARED") or "../shared") .. "/crs/4.28.0"
replay_crs("4.28.0", v4 .. "/rules", v4 .. "/crs-setup.conf.example")

local api = require("moongate.waf_api").before()
replay("the profile for APIs", { { name = "profile", text = 'SecAction "id:1,phase:1,pass,nolog,'
  .. "setvar:tx.critical_anomaly_score=5\"\n" .. api } }, api, 30, 40)
