-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local yaml = host("yaml")

describe("yaml.to_json", function()
  it("reads the core schema of YAML 1.2", function()
    local cases = {
      ["a: 1\nb: [x, 'y', \"z\\n\"]\n"] = '{"a":1,"b":["x","y","z\\u000a"]}',
      ["200: ok\ntrue: no\n"] = '{"200":"ok","true":"no"}',
      ["- ~\n- null\n- true\n- yes\n- 007\n- .5\n- 1.\n- +3\n- 0x1F\n- 1e3\n- 1.2.3\n- 2020-01-01"]
        = '[null,null,true,"yes",7,0.5,1,3,31,1e3,"1.2.3","2020-01-01"]',
      ["a: |\n  one\n  two\nb: >\n  one\n  two\n"] =
        '{"a":"one\\u000atwo\\u000a","b":"one two\\u000a"}',
      ["a: &x {k: [1]}\nb: *x\n"] = '{"a":{"k":[1]},"b":{"k":[1]}}',
      ["a: !!str 12"] = '{"a":"12"}',
      [""] = "null",
      ['{"json": [1, {"too": null}]}'] = '{"json":[1,{"too":null}]}',
    }
    for text, wanted in pairs(cases) do
      assert.equal(wanted, yaml.to_json(text), text)
    end
  end)

  it("says what is wrong, and in which line", function()
    local cases = {
      ["a: 1\nb: [1"] = "line 3", ["a: *b"] = "an alias of nothing", ["? [a]\n: b"] = "no text",
      ["a: &a [*a]"] = "within what it stands for", ["--- 1\n--- 2\n"] = "more than one document",
      ["a: \t- b\n\t- c"] = "line", [("["):rep(300)] = "nested too deeply",
    }
    for text, wanted in pairs(cases) do
      local json, err = yaml.to_json(text)
      assert.is_nil(json, text)
      assert.matches(wanted, err, 1, true)
    end
  end)

  it("bounds what aliases of aliases make", function()
    local lines = { "a0: &a0 [x,x,x,x,x,x,x,x,x,x]" }
    for i = 1, 12 do
      lines[#lines + 1] = ("a%d: &a%d [%s*a%d]"):format(i, i, ("*a%d,"):format(i - 1):rep(9), i - 1)
    end
    local json, err = yaml.to_json(table.concat(lines, "\n"))
    assert.is_nil(json)
    assert.matches("too large", err)
  end)
end)
