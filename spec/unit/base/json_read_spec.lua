-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
struct moon_json_keys;
struct moon_json_reader {
  struct moon_slice text;
  size_t at, depth, max_depth;
  int expect;
  uint8_t is_object[64];
  const char *error;
};
void moon_json_read_init(struct moon_json_reader *r, struct moon_slice text, size_t max_depth);
int moon_json_read_next(struct moon_json_reader *reader, struct moon_slice *raw);
bool moon_json_read_text(struct moon_arena *arena, struct moon_slice raw, struct moon_slice *text);
bool moon_json_read_integer(struct moon_slice raw, int64_t *value);
bool moon_json_read_is_valid(struct moon_slice text, size_t max_depth, size_t *error_at);
]]

local EVENTS = {
  [0] = "error", "end", "{", "}", "[", "]", "key", "string", "number", "true", "false", "null",
}

local function decode(raw)
  local text, arena = ffi.new("struct moon_slice"), helper.arena()
  assert.is_true(lib.moon_json_read_text(arena, raw, text))
  return helper.text(text)
end

--- All events as text, with decoded strings; an error ends them with its text and offset.
local function events(bytes, depth)
  local reader, raw = ffi.new("struct moon_json_reader"), ffi.new("struct moon_slice")
  lib.moon_json_read_init(reader, helper.guarded_slice(bytes), depth or 64)
  local out = {}
  while true do
    local event = EVENTS[lib.moon_json_read_next(reader, raw)]
    if event == "end" then
      return out
    elseif event == "error" then
      return nil, ffi.string(reader.error), tonumber(reader.at)
    elseif event == "key" or event == "string" then
      out[#out + 1] = event .. ":" .. decode(raw)
    elseif event == "number" then
      out[#out + 1] = helper.text(raw)
    else
      out[#out + 1] = event
    end
  end
end

local function vectors()
  local dir = helper.shared("conformance/json/test_parsing")
  local names = {}
  if dir then
    local list = io.popen("ls '" .. dir .. "'")
    for name in list:lines() do
      names[#names + 1] = { name = name, path = dir .. "/" .. name }
    end
    list:close()
  end
  return names
end

describe("base/json_read", function()
  it("answers every text of JSONTestSuite as it should", function()
    local names = vectors()
    if #names == 0 then
      pending("MOONGATE_SHARED has no conformance/json")
      return
    end
    local wrong, counted = {}, { y = 0, n = 0, i = 0 }
    for _, case in ipairs(names) do
      local file = assert(io.open(case.path, "rb"))
      local bytes = file:read("*a")
      file:close()
      local kind = case.name:sub(1, 1)
      local is_valid = lib.moon_json_read_is_valid(helper.guarded_slice(bytes), 512, nil)
      counted[kind] = counted[kind] + 1
      if (kind == "y" and not is_valid) or (kind == "n" and is_valid) then
        wrong[#wrong + 1] = case.name
      end
    end
    assert.same({}, wrong)
    assert.is_true(counted.y >= 90 and counted.n >= 180)
  end)

  it("gives events in order", function()
    assert.same({ "{", "key:a", "[", "1", "-2.5e+3", "true", "false", "null", "]", "key:b", "{",
      "}", "key:c", "[", "]", "key:", "string:x", "}" },
      events ' {"a": [1, -2.5e+3, true, false, null] , "b":{}, "c" : [ ], "":"x"}\r\n\t')
    assert.same({ "string:x" }, events '"x"')
    assert.same({ "0" }, events "0")
  end)

  it("decodes strings", function()
    for text, want in pairs {
      ['"a\\n\\t\\r\\b\\f\\"\\\\\\/b"'] = 'a\n\t\r\b\f"\\/b',
      ['"\\u0041\\u00e9\\u20AC\\ud83d\\ude00"'] = "A\195\169\226\130\172\240\159\152\128",
      ['"\\u0000"'] = "\0",
      ['"\195\169"'] = "\195\169",
    } do
      assert.same({ "string:" .. want }, events(text))
    end
  end)

  it("says what is wrong and where", function()
    for text, want in pairs {
      [""] = { "a value was expected", 0 },
      ["[1,]"] = { "a value was expected", 3 },
      ["{\"a\" 1}"] = { "a colon was expected", 5 },
      ["{a:1}"] = { "a key was expected", 1 },
      ["{\"a\":1,}"] = { "a key was expected", 7 },
      ["[1 2]"] = { "a comma or the end was expected", 3 },
      ["1 1"] = { "nothing was expected behind the text", 2 },
      ["[1}"] = { "a comma or the end was expected", 2 },
      ["\"a"] = { "bad string", 2 },
      ["\"\\x\""] = { "bad string", 1 },
      ["\"\\ud800\""] = { "bad string", 1 },
      ["\"\\udc00\\ud800\""] = { "bad string", 1 },
      ["\"\\ud800\\u0041\""] = { "bad string", 1 },
      ["\"a\255\""] = { "bad string", 2 },
      ["\"\237\160\128\""] = { "bad string", 1 },
      ["\"\1\""] = { "bad string", 1 },
      ["\239\187\191{}"] = { "a value was expected", 0 },
      ["[\0]"] = { "a value was expected", 1 },
      ["tru"] = { "a value was expected", 0 },
    } do
      local got, err, at = events(text)
      assert.is_nil(got, text)
      assert.same(want, { err, at }, text)
    end
    for _, number in ipairs { "-", "01", "-01", "1.", ".5", "1e", "1e+", "+1", "0x1", "1_0", "NaN",
      "Infinity", "--1", "1.e5" } do
      assert.is_nil((events(number)), number)
    end
  end)

  it("bounds the nesting", function()
    assert.is_truthy(events(("["):rep(8) .. ("]"):rep(8), 8))
    local _, err = events(("["):rep(9) .. ("]"):rep(9), 8)
    assert.equal("nested too deep", err)
    assert.is_truthy(events(("["):rep(512) .. ("]"):rep(512), 512))
    assert.is_nil((events(("["):rep(513), 512)))
  end)

  it("reads integers", function()
    local value = ffi.new("int64_t[1]")
    for text, want in pairs {
      ["0"] = 0LL, ["-0"] = 0LL, ["42"] = 42LL, ["-7"] = -7LL,
      ["9223372036854775807"] = 9223372036854775807LL,
    } do
      assert.is_true(lib.moon_json_read_integer(helper.slice(text), value))
      assert.is_true(value[0] == want)
    end
    for _, text in ipairs { "", "-", "1.0", "1e3", "9223372036854775808" } do
      assert.is_false(lib.moon_json_read_integer(helper.slice(text), value))
    end
  end)
end)
