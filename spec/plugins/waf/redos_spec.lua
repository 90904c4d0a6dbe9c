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

--- A word of a directive, quoted or not, as it is written; and what follows it.
local function word(text)
  if text:sub(1, 1) ~= '"' then
    return text:match("^(%S+)%s*(.*)$")
  end
  local at = 2
  while text:sub(at, at) ~= '"' do
    at = at + (text:sub(at, at) == "\\" and 2 or 1)
    assert(at <= #text, text)
  end
  return text:sub(2, at - 1), text:sub(at + 1):match("^%s*(.*)$")
end

--- The operators of all rules that match by a pattern: @rx, and those that name no operator.
local function operators_of(text)
  local list, written = {}, 0
  for line in text:gsub("\\\n%s*", ""):gmatch("[^\n]+") do
    local rest = line:match("^%s*SecRule%s+(.*)$")
    if rest then
      local operator = word(select(2, word(rest)))
      if operator:find("^!?@rx ") or not operator:find("^!?@") then
        list[#list + 1] = operator
      end
      written = written + (rest:find('"!?@rx ') and 1 or 0)
    end
  end
  assert(#list >= written, "a pattern was not found")
  return list
end

local function encoded(value)
  return (value:gsub("[^%w]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

--- A form whose fields are what makes the pattern backtrack.
local function form_against(operator, most)
  local fields = {}
  for i, unit in ipairs(near_misses(operator:gsub("^!?@rx ", ""), most)) do
    fields[i] = "f" .. i .. "=" .. encoded(unit:rep(math.ceil(BYTES / 4 / #unit)) .. "\1")
  end
  return { method = "POST", uri = "/", body = table.concat(fields, "&"), headers = {
    { "Host", "a" }, { "Content-Type", "application/x-www-form-urlencoded" } } }
end

--- `sources` of the rules, the text that has them; at least so many patterns, of each at most so many parts.
local function replay(name, sources, text, least, most)
  describe("patterns of " .. name, function()
    if not engine.lib or not text then
      return pending("neither the engine's library nor the rules are here")
    end

    --- Runs a request per pattern; says how many, and which took longest.
    local function each(rules_for)
      local operators, slowest, what = operators_of(text), 0, nil
      assert.is_true(#operators >= least)
      for _, operator in ipairs(operators) do
        local rules, request = rules_for(operator), form_against(operator, most)
        local started = os.clock()
        engine.run(rules, request, nil, { quiet = true })
        local took = os.clock() - started
        if took > slowest then
          slowest, what = took, operator
        end
      end
      print(("%d patterns, the slowest request took %.3f s"):format(#operators, slowest))
      assert.is_true(slowest < LIMIT_S, what)
    end

    it("are bounded in a request that makes one of them backtrack", function()
      local rules = assert(engine.load({ { name = "settings", text = SETTINGS }, unpack(sources) }))
      each(function()
        return rules
      end)
    end)

    it("are bounded each by itself, whatever variable it is meant for, by the match limit alone", function()
      engine.lib.waf_set_prefilter(false) -- and with it the budget of time
      finally(function()
        engine.lib.waf_set_prefilter(true)
      end)
      each(function(operator)
        return assert(engine.load({ { name = "settings", text = SETTINGS
          .. ('SecRule ARGS "%s" "id:1,phase:2,pass,log,t:none"\n'):format(operator) } }))
      end)
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
