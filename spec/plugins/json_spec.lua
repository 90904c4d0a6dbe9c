-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local json = host("json")

local function names_in(dir)
  local names, pipe = {}, assert(io.popen(("ls '%s'"):format(dir)))
  for name in pipe:lines() do
    names[#names + 1] = name
  end
  pipe:close()
  return names
end

describe("json.decode", function()
  it("reads every kind of value", function()
    local v = assert(json.decode(
      '{"a":[1,-2.5e3,true,false,null],"b":{"c":"\\u00e9\\ud83d\\ude00\\n"}}'))
    assert.same({ 1, -2500, true, false }, { v.a[1], v.a[2], v.a[3], v.a[4] })
    assert.equal(json.null, v.a[5])
    assert.equal("\195\169\240\159\152\128\n", v.b.c)
  end)

  it("reads numbers to the nearest double", function()
    for _, text in ipairs({ "0.1", "1e22", "1e23", "123456789012345678", "5e-324",
      "1.7976931348623157e308",
      "0.000001", "9007199254740993", "3.14159265358979323846264338327950288", "-0" }) do
      assert.equal(tonumber(text), json.decode(text), text)
    end
  end)

  it("agrees with JSONTestSuite", function()
    local index = host.shared("conformance/json/test_parsing/y_array_empty.json")
    if not index then
      pending("the shared vectors are absent")
      return
    end
    local dir = index:match("(.*)/")
    local seen = 0
    for _, name in ipairs(names_in(dir)) do
      local value, err = json.decode(host.slurp(dir .. "/" .. name))
      local kind = name:sub(1, 1)
      if kind == "y" then
        assert.is_nil(err, name)
      elseif kind == "n" then
        assert.is_string(err, name)
        assert.is_nil(value, name)
      end
      seen = seen + 1
    end
    assert.is_true(seen > 300)
  end)

  it("takes of what is left open only what all readers read alike", function()
    local index = host.shared("conformance/json/test_parsing/y_array_empty.json")
    if not index then
      pending("the shared vectors are absent")
      return
    end
    -- Numbers: the nearest double, as origins read them; a schema's bounds are compared digit by digit. All else
    -- is read differently from origin to origin (lone surrogates, bytes that are no UTF-8, marks of byte
    -- order, UTF-16, infinite numbers, any depth), and what the gateway took for one thing could be another there.
    local taken = { i_number_double_huge_neg_exp = true, i_number_real_underflow = true,
      i_number_too_big_neg_int = true, i_number_too_big_pos_int = true,
      i_number_very_big_negative_int = true }
    local dir, seen = index:match("(.*)/"), 0
    for _, name in ipairs(names_in(dir)) do
      if name:sub(1, 1) == "i" then
        local _, err = json.decode(host.slurp(dir .. "/" .. name))
        assert.equal(taken[name:match("^[^.]*")] or false, err == nil, name)
        seen = seen + 1
      end
    end
    assert.is_true(seen >= 35)
  end)

  it("refuses what others let pass", function()
    local cases = {
      ['{"a":1}x'] = "bytes after the value at byte 8",
      ['"\\ud800"'] = "invalid escape in a string at byte 8",
      ['"\255"'] = "invalid UTF-8 in a string at byte 2",
      ['\239\187\191{}'] = "invalid value at byte 1",
      ["1e999"] = "number out of range at byte 6",
      ["[1,]"] = "invalid value at byte 4",
      ["01"] = "invalid number at byte 3",
      [""] = "unexpected end at byte 1",
    }
    for text, wanted in pairs(cases) do
      local value, err = json.decode(text)
      assert.is_nil(value)
      assert.equal(wanted, err)
    end
  end)

  it("bounds the depth, 128 unless told otherwise", function()
    assert.is_table(json.decode(("["):rep(128) .. ("]"):rep(128)))
    local value, err = json.decode(("["):rep(129) .. ("]"):rep(129))
    assert.is_nil(value)
    assert.matches("nested too deeply", err)
    assert.is_table(json.decode(("["):rep(512) .. ("]"):rep(512), { depth = 512 }))
    assert.is_nil(json.decode("[[1]]", { depth = 1 }))
    assert.is_nil((json.decode(('{"a":'):rep(100000))))
  end)

  it("keeps the last of two members, or refuses them", function()
    assert.same({ a = 2 }, json.decode('{"a":1,"a":2}'))
    local value, err = json.decode('{"a":1,"\\u0061":2}', { duplicates = "refuse" })
    assert.is_nil(value)
    assert.matches("duplicate member", err)
    assert.is_nil((json.decode('{"a":null,"a":2}', { duplicates = "refuse" })))
    assert.is_table(json.decode('[{"a":1},{"a":2}]', { duplicates = "refuse" }))
  end)

  it("says what it takes", function()
    assert.has_error(function() json.decode({}) end,
      "json.decode: text must be a string, got table")
    assert.has_error(function() json.decode("1", 2) end,
      "json.decode: options must be a table, got number")
    assert.has_error(function() json.decode("1", { depth = 0 }) end,
      "json.decode: depth must be 1 to 512")
    assert.has_error(function() json.decode("1", { duplicates = "x" }) end,
      'json.decode: duplicates must be "last" or "refuse"')
  end)

  it("charges the budget by length", function()
    host.charged()
    json.decode('"' .. ("x"):rep(4000) .. '"')
    assert.is_true(host.charged() >= 1000)
  end)
end)

describe("json.encode", function()
  it("writes what decode reads back", function()
    local texts = { "[]", "{}", "[[],{}]", '{"a":[1,2,{"b":null}]}',
      '"\\u0001\\"\\\\\\n\\u007f\195\169"', "0.1",
      "1e+300", "-5", "true", "null", "123456789012345" }
    for _, text in ipairs(texts) do
      local again = assert(json.encode(json.decode(text)))
      assert.same(json.decode(text), json.decode(again))
    end
    assert.equal("[]", json.encode(json.decode("[]")))
    assert.equal("{}", json.encode({}))
    assert.equal("[]", json.encode(json.array()))
    assert.equal('[1,"a",true]', json.encode({ 1, "a", true }))
  end)

  it("refuses what JSON does not have", function()
    local cases = {
      { { 1, a = 2 }, "a table is neither a list nor a table of names" },
      { { [1] = 1, [3] = 3, x = 1 }, "a table is neither a list nor a table of names" },
      { { [true] = 1 }, "a table is neither a list nor a table of names" },
      { 0 / 0, "a number is not finite" },
      { math.huge, "a number is not finite" },
      { { print }, "a value that JSON does not have" },
      { { a = "\255" }, "a string is not UTF-8" },
    }
    for _, case in ipairs(cases) do
      local text, err = json.encode(case[1])
      assert.is_nil(text)
      assert.equal(case[2], err)
    end
    local wide = { "x" }
    for _ = 1, 40 do
      wide = { wide, wide } -- small to hold, endless to write
    end
    assert.equal("the text would be longer than 16 MiB", select(2, json.encode(wide)))
    local ring = {}
    ring[1] = ring
    assert.equal("nested too deeply", select(2, json.encode(ring)))
  end)

  it("writes every double so that it comes back", function()
    math.randomseed(7)
    for _ = 1, 2000 do
      local x = (math.random() - 0.5) * 10 ^ math.random(-300, 300)
      assert.equal(x, json.decode(json.encode(x)))
    end
  end)
end)
