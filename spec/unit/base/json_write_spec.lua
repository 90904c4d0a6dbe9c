-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
struct moon_json {
  char *data; size_t len, cap, depth; char closers[16]; bool needs_comma, is_cut;
};
void moon_json_init(struct moon_json *json, char *into, size_t cap);
void moon_json_object(struct moon_json *json);
void moon_json_object_at(struct moon_json *json, const char *name);
void moon_json_array_at(struct moon_json *json, const char *name);
void moon_json_end(struct moon_json *json);
void moon_json_text(struct moon_json *json, const char *name, struct moon_slice value);
void moon_json_number(struct moon_json *json, const char *name, int64_t value);
void moon_json_real(struct moon_json *json, const char *name, double value);
void moon_json_bool(struct moon_json *json, const char *name, bool value);
void moon_json_null(struct moon_json *json, const char *name);
void moon_json_raw(struct moon_json *json, const char *name, struct moon_slice value);
bool moon_json_read_is_valid(struct moon_slice text, size_t max_depth, size_t *error_at);
]]

local function write(cap, fill)
  local json, into = ffi.new("struct moon_json"), helper.guarded(("\1"):rep(cap))
  lib.moon_json_init(json, into, cap)
  fill(json)
  return ffi.string(json.data, json.len), json.is_cut
end

local function fill_all(json)
  lib.moon_json_object(json)
  lib.moon_json_text(json, "a", helper.slice 'x"\\\n\t\1\127é')
  lib.moon_json_number(json, "b", -9223372036854775807LL - 1)
  lib.moon_json_array_at(json, "c")
  lib.moon_json_number(json, nil, 1)
  lib.moon_json_object(json)
  lib.moon_json_end(json)
  lib.moon_json_null(json, nil)
  lib.moon_json_end(json)
  lib.moon_json_object_at(json, "d")
  lib.moon_json_bool(json, "e", true)
  lib.moon_json_real(json, "f", 0.5)
  lib.moon_json_real(json, "g", 1 / 0)
  lib.moon_json_raw(json, "h", helper.slice "[1]")
  lib.moon_json_end(json)
  lib.moon_json_text(json, "i", helper.slice())
  lib.moon_json_end(json)
end

local whole = '{"a":"x\\"\\\\\\n\\t\\u0001\\u007fé","b":-9223372036854775808,'
  .. '"c":[1,{},null],"d":{"e":true,"f":0.5,"g":null,"h":[1]},"i":""}'

describe("base/json_write", function()
  it("writes every kind of value", function()
    local text, is_cut = write(1000, fill_all)
    assert.equal(whole, text)
    assert.is_false(is_cut)
  end)

  it("stays well-formed and inside its memory, however small that is", function()
    local seen_cut, seen_whole = 0, 0
    for cap = 2, #whole + 10 do
      local text, is_cut = write(cap, fill_all)
      assert.is_true(#text <= cap)
      if #text > 0 then
        assert.is_true(lib.moon_json_read_is_valid(helper.slice(text), 16, nil), text)
      end
      seen_cut, seen_whole = seen_cut + (is_cut and 1 or 0), seen_whole + (is_cut and 0 or 1)
    end
    assert.is_true(seen_cut > 50 and seen_whole > 0)
  end)

  it("replaces bytes that are no UTF-8", function()
    for text, want in pairs {
      ["\255"] = "\239\191\189", ["a\195"] = "a\239\191\189", ["\237\160\128"] =
      ("\239\191\189"):rep(3), ["\240\159\152\128"] = "\240\159\152\128",
    } do
      assert.equal('"' .. want .. '"', (write(100, function(json)
        lib.moon_json_text(json, nil, helper.slice(text))
      end)))
    end
  end)

  it("writes any bytes as valid JSON", function()
    math.randomseed(3)
    for _ = 1, 2000 do
      local bytes = {}
      for i = 1, math.random(0, 40) do
        bytes[i] = string.char(math.random(0, 255))
      end
      local value = table.concat(bytes)
      local text = write(math.random(2, 300), function(json)
        lib.moon_json_object(json)
        lib.moon_json_text(json, "v", helper.slice(value))
        lib.moon_json_number(json, "n", 5)
        lib.moon_json_end(json)
      end)
      assert.is_true(text == "" or lib.moon_json_read_is_valid(helper.slice(text), 16, nil), text)
    end
  end)
end)
