-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local C = helper.lib([[
struct moon_structured_member {
  struct moon_slice key; int type; struct moon_slice value; int64_t integer;
};
int moon_structured_next(struct moon_slice *rest, struct moon_structured_member *member);
]])

local OK, EOF = 0, 2
local TYPES = { [0] = "true", "false", "integer", "decimal", "string", "token", "other" }

--- "key type value, ..." of a dictionary; nil when it is none.
local function read(text)
  local rest = ffi.new("struct moon_slice[1]", { helper.guarded_slice(text) })
  local member, out = ffi.new("struct moon_structured_member"), {}
  while true do
    local rc = C.moon_structured_next(rest, member)
    if rc == EOF then
      return table.concat(out, ", ")
    elseif rc ~= OK then
      return nil
    end
    local value = member.value.data ~= nil and " " .. helper.text(member.value) or ""
    out[#out + 1] = helper.text(member.key) .. " " .. TYPES[member.type] .. value
  end
end

describe("a dictionary of a structured field", function()
  it("is read member by member, and its parameters are passed over", function()
    for text, expected in pairs({
      ["max-age=600"] = "max-age integer 600",
      ["max-age=600, must-revalidate"] = "max-age integer 600, must-revalidate true",
      ["  a=-1 ,\tb=1.5,c=\"x\\\"y\""] = "a integer -1, b decimal 1.5, c string x\\\"y",
      ["a=?0, b=?1, *c=tok/en:1"] = "a false, b true, *c token tok/en:1",
      ["a=:aGk=:, b=(1 \"x\";q=2 );p, d=@1659578233"] =
        "a other aGk=, b other (1 \"x\";q=2 ), d other 1659578233",
      ["a;x=1;y=\"q, r\", b"] = "a true, b true",
      ["a=%\"f%c3%bc\""] = "a other f%c3%bc",
      ["a=999999999999999"] = "a integer 999999999999999",
      [""] = "", ["   "] = "",
    }) do
      assert.equal(expected, read(text), text)
    end
  end)

  it("is refused whole where a part of it is wrong", function()
    for _, text in ipairs({ "Max-Age=1", "a=1,", "a=1,,b", ",a", "a=", "a =1", "a= 1", "a=1 b", "1a",
      "a=1.", "a=1.2345", "a=1234567890123.1", "a=1000000000000000", "a=--1", "a=\"x", "a=\"\\x\"",
      "a=\"\127\"", "a=?2", "a=:x", "a=(1", "a=(1\"x\")", "a=@1.5", "a;", "a;=1", "a=;b", "\0", "a\0" }) do
      assert.is_nil(read(text), text)
    end
  end)
end)
