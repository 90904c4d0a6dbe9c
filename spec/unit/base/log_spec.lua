-- SPDX-License-Identifier: Apache-2.0
local cjson = require("cjson")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
bool moon_log_open(const char *path);
void moon_log_set_level(int level);
void moon_log(int level, const char *fmt, ...);
void moon_log_object(int level, const char *message, const char *name, struct moon_slice object);
]]

local INFO, WARN = 1, 2

describe("the error log", function()
  local path

  before_each(function()
    path = os.tmpname()
    assert.is_true(lib.moon_log_open(path))
  end)

  after_each(function()
    lib.moon_log_open("-")
    os.remove(path)
  end)

  local function lines()
    local list = {}
    for line in io.lines(path) do
      list[#list + 1] = cjson.decode(line)
    end
    return list
  end

  it("is a line of JSON an event, whatever the text holds", function()
    lib.moon_log(WARN, "%s", 'a "b"\n\1 \255')
    lib.moon_log(WARN, "%s", ("x"):rep(10000))
    local list = lines()
    assert.equal(2, #list)
    assert.equal('a "b"\n\1 \239\191\189', list[1].message)
    assert.equal("warn", list[1].level)
    assert.equal(2047, #list[2].message)
  end)

  it("takes an event of many members as an object, of any length", function()
    local object = cjson.encode({ rules = { ("r"):rep(100000), 'q"' } })
    lib.moon_log_object(INFO, "rules matched", "waf", helper.slice(object))
    local line = lines()[1]
    assert.same({ "info", "rules matched" }, { line.level, line.message })
    assert.same({ ("r"):rep(100000), 'q"' }, line.waf.rules)
  end)

  it("keeps quiet below its level", function()
    lib.moon_log_set_level(WARN)
    lib.moon_log(INFO, "no")
    lib.moon_log_object(INFO, "no", "x", helper.slice("{}"))
    lib.moon_log_set_level(INFO)
    assert.same({}, lines())
  end)
end)
