-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")
local h1 = require("spec.unit.http.http_helper")
local lib = h1.lib

-- The rows of fields.def: { name, flags as text }.
local function rows()
  local out = {}
  for line in io.lines("runtime/http/fields.def") do
    local name = line:match('^FIELD%([%w_]+,%s*"([^"]+)"')
    if name then
      out[#out + 1] = name
    end
  end
  return out
end

local function fields_of(list, ceiling)
  local fields = ffi.new("struct moon_fields")
  local keep = { helper.arena(ceiling) }
  lib.moon_fields_init(fields, keep[1])
  for _, pair in ipairs(list) do
    local name, value = helper.slice(pair[1]), helper.slice(pair[2])
    keep[#keep + 1] = pair
    assert.equal("ok", helper.rc(lib.moon_fields_add(fields, name, value)))
  end
  return fields, keep
end

describe("http/fields", function()
  it("knows every name of fields.def in any case, and no other", function()
    local names = rows()
    assert.is_true(#names > 50)
    for id, name in ipairs(names) do
      for _, spelt in ipairs { name, name:lower(), name:upper() } do
        assert.equal(id, lib.moon_field_id(helper.guarded_slice(spelt)), spelt)
      end
      assert.equal(name, helper.text(lib.moon_field_name(id)))
      assert.equal(0, lib.moon_field_id(helper.slice(name .. "x")))
      assert.equal(0, lib.moon_field_id(helper.slice(name:sub(2))))
      for at = 1, #name do -- another byte with the same low bits is another name
        local byte = name:byte(at)
        local other = name:sub(1, at - 1) .. string.char(bit.bxor(byte, 0x40)) .. name:sub(at + 1)
        assert.equal(0, lib.moon_field_id(helper.slice(other)), other)
        if not name:sub(at, at):match("%a") then
          other = name:sub(1, at - 1) .. string.char(bit.bxor(byte, 0x20)) .. name:sub(at + 1)
          assert.equal(0, lib.moon_field_id(helper.slice(other)), other)
        end
      end
    end
    assert.equal(0, lib.moon_field_id(helper.slice("")))
    assert.equal(0, lib.moon_field_id(helper.slice(("x"):rep(64))))
  end)

  it("grows past its first size and keeps the order", function()
    local list = {}
    for i = 1, 200 do
      list[i] = { "X-" .. i, tostring(i) }
    end
    local fields, keep = fields_of(list)
    assert.equal(200, tonumber(fields.count))
    assert.equal("X-200: 200", h1.field_lines(fields)[200])
    assert.is_truthy(keep)
  end)

  it("finds, joins, sets and removes without case", function()
    local fields, keep = fields_of { { "X-A", "1" }, { "Accept", "a" }, { "x-a", "2" }, { "B",
      "3" } }
    assert.equal("1, 2", helper.text(lib.moon_fields_joined(fields, helper.slice("X-a"))))
    assert.equal("a", helper.text(lib.moon_fields_joined(fields, helper.slice("accept"))))
    assert.is_nil(helper.text(lib.moon_fields_joined(fields, helper.slice("none"))))
    assert.is_true(lib.moon_fields_find(fields, helper.slice("none")) == nil)
    assert.equal(0, lib.moon_fields_set(fields, helper.slice("x-A"), helper.slice("9")))
    assert.same({ "x-A: 9", "Accept: a", "B: 3" }, h1.field_lines(fields))
    assert.equal(0, lib.moon_fields_set(fields, helper.slice("New"), helper.slice("n")))
    assert.equal(1, tonumber(lib.moon_fields_remove(fields, helper.slice("ACCEPT"))))
    assert.equal(0, tonumber(lib.moon_fields_remove(fields, helper.slice("ACCEPT"))))
    assert.same({ "x-A: 9", "B: 3", "New: n" }, h1.field_lines(fields))
    assert.is_truthy(keep)
  end)

  it("takes out what belongs to one connection, and nothing that a client may not strip", function()
    local fields, keep = fields_of {
      { "Host", "a" }, { "X-Hop", "1" }, { "Connection", "x-hop, close, host, authorization" },
      { "Keep-Alive", "1" }, { "Authorization", "b" }, { "TE", "trailers" }, { "X-Other", "2" },
      { "Connection", "X-OTHER, content-length" }, { "Content-Length", "5" }, { "x-hop", "3" },
      { "Transfer-Encoding", "chunked" }, { "Upgrade", "x" }, { "X-Stays", "4" },
      { "X-Forwarded-For", "1.2.3.4" },
    }
    lib.moon_fields_remove_hop_by_hop(fields)
    assert.same({ "Host: a", "Authorization: b", "Content-Length: 5", "X-Stays: 4",
      "X-Forwarded-For: 1.2.3.4" }, h1.field_lines(fields))
    assert.is_truthy(keep)
  end)

  it("says when the arena is full", function()
    local fields, keep = fields_of({}, 64)
    assert.equal("memory", helper.rc(lib.moon_fields_add(fields, helper.slice("a"),
      helper.slice("b"))))
    assert.equal(0, tonumber(fields.count))
    assert.is_truthy(keep)
  end)

  it("tells valid names and values", function()
    local function name(s)
      return lib.moon_field_name_is_valid(helper.guarded_slice(s))
    end
    local function value(s)
      return lib.moon_field_value_is_valid(helper.guarded_slice(s))
    end
    local tchar = {}
    for c in ("!#$%&'*+-.^_`|~"):gmatch(".") do
      tchar[c:byte()] = true
    end
    for byte = 0, 255 do
      local c = string.char(byte)
      local is_tchar = c:match("^[%w]$") ~= nil and byte < 128 or tchar[byte] == true
      for _, pad in ipairs { "", ("x"):rep(7), ("x"):rep(16), ("-Z9a"):rep(10) } do
        assert.equal(is_tchar, name(pad .. c .. pad))
      end
      local is_control = (byte < 32 and byte ~= 9) or byte == 127
      for _, pad in ipairs { "", ("x"):rep(15), ("x"):rep(16), ("x"):rep(40) } do
        assert.equal(not is_control, value("x" .. pad .. c .. pad .. "x"))
      end
    end
    assert.is_false(name(""))
    assert.is_true(value(""))
    assert.is_false(value(" a"))
    assert.is_false(value("a\t"))
  end)

  it("knows methods and reasons", function()
    for text, id in pairs(h1.METHOD) do
      if id ~= 0 then
        assert.equal(id, lib.moon_method_parse(helper.slice(text)))
        assert.equal(0, lib.moon_method_parse(helper.slice(text:lower())))
        assert.equal(0, lib.moon_method_parse(helper.slice(text .. "S")))
      end
    end
    assert.is_true(lib.moon_method_is_idempotent(h1.METHOD.PUT))
    assert.is_false(lib.moon_method_is_idempotent(h1.METHOD.POST))
    assert.is_false(lib.moon_method_is_safe(h1.METHOD.PUT))
    assert.equal("Not Found", helper.text(lib.moon_status_reason(404)))
    assert.is_nil(helper.text(lib.moon_status_reason(299)))
  end)
end)
