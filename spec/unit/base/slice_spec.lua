-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
bool moon_slice_is_nocase(struct moon_slice a, struct moon_slice b);
bool moon_slice_starts(struct moon_slice s, struct moon_slice prefix);
bool moon_slice_starts_nocase(struct moon_slice s, struct moon_slice prefix);
bool moon_slice_ends(struct moon_slice s, struct moon_slice suffix);
size_t moon_slice_find(struct moon_slice s, char c);
struct moon_slice moon_slice_trim(struct moon_slice s);
bool moon_slice_number(struct moon_slice s, int64_t *out);
void moon_hex_of_number(char *into, uint64_t value);
bool moon_slice_next_element(struct moon_slice *list, struct moon_slice *element);
bool moon_slice_has_token(struct moon_slice list, struct moon_slice token);
bool moon_slice_is_constant_time(struct moon_slice a, struct moon_slice b);
bool moon_slice_copy_text(struct moon_slice s, char *into, size_t cap);
]]
local S, G = helper.slice, helper.guarded_slice

describe("base/slice", function()
  it("compares without case in ASCII only", function()
    assert.is_true(lib.moon_slice_is_nocase(S "Content-Length", S "cONTENT-lENGTH"))
    assert.is_false(lib.moon_slice_is_nocase(S "a", S "ab"))
    assert.is_false(lib.moon_slice_is_nocase(S "@", S "`"))
    assert.is_false(lib.moon_slice_is_nocase(S "\195\137", S "\195\169"))
    assert.is_true(lib.moon_slice_is_nocase(S(), S ""))
  end)

  it("looks at both ends", function()
    assert.is_true(lib.moon_slice_starts(S "abc", S "ab"))
    assert.is_true(lib.moon_slice_starts(S "abc", S ""))
    assert.is_false(lib.moon_slice_starts(S "a", S "ab"))
    assert.is_true(lib.moon_slice_starts_nocase(S "ABc", S "ab"))
    assert.is_true(lib.moon_slice_ends(S "abc", S "bc"))
    assert.is_false(lib.moon_slice_ends(S "c", S "bc"))
    assert.is_true(lib.moon_slice_ends(S(), S()))
  end)

  it("finds and trims", function()
    assert.equal(2, tonumber(lib.moon_slice_find(G "abcc", ("c"):byte())))
    assert.equal(4, tonumber(lib.moon_slice_find(G "abcc", ("x"):byte())))
    assert.equal(0, tonumber(lib.moon_slice_find(S(), ("x"):byte())))
    for text, want in pairs { [" \ta b\t "] = "a b", [""] = "", [" \t "] = "", ["\na"] = "\na" } do
      assert.equal(want, helper.text(lib.moon_slice_trim(G(text))))
    end
  end)

  it("reads whole decimal numbers", function()
    local out = ffi.new("int64_t[1]")
    for text, want in pairs { ["0"] = 0LL, ["007"] = 7LL,
      ["9223372036854775807"] = 9223372036854775807LL } do
      assert.is_true(lib.moon_slice_number(G(text), out))
      assert.is_true(out[0] == want)
    end
    for _, text in ipairs { "", "-1", "+1", " 1", "1 ", "0x1", "1.0", "9223372036854775808",
      "99999999999999999999" } do
      out[0] = 5
      assert.is_false(lib.moon_slice_number(G(text), out), text)
      assert.is_true(out[0] == 5)
    end
  end)

  it("writes hexadecimal numbers", function()
    local into = ffi.new("char[17]", ("."):rep(17))
    for text, value in pairs({ ["0123456789abcdef"] = 0x0123456789abcdefULL, [("0"):rep(16)] = 0ULL,
      fedcba9876543210 = 0xfedcba9876543210ULL, [("f"):rep(16)] = -1ULL, ["000000000000000a"] = 10ULL,
      ["9a00000000000000"] = 0x9a00000000000000ULL }) do
      lib.moon_hex_of_number(into, value)
      assert.equal(text .. ".", ffi.string(into, 17))
    end
  end)

  it("walks lists with empty elements and quoted strings", function()
    local function elements(text)
      local list, element, out = G(text), S(), {}
      while lib.moon_slice_next_element(list, element) do
        out[#out + 1] = helper.text(element)
      end
      return out
    end
    assert.same({ "a", "b" }, elements ",a ,\t, b,")
    assert.same({ 'a="x,y"', "b" }, elements 'a="x,y", b')
    assert.same({ 'a="\\",x"', "b" }, elements 'a="\\",x",b')
    assert.same({ 'a="x,y' }, elements 'a="x,y')
    assert.same({ '"\\' }, elements '"\\')
    assert.same({}, elements "")
    assert.is_true(lib.moon_slice_has_token(S "gzip, Chunked", S "chunked"))
    assert.is_false(lib.moon_slice_has_token(S "gzip, xchunked", S "chunked"))
  end)

  it("compares secrets and copies text", function()
    assert.is_true(lib.moon_slice_is_constant_time(S "abc", S "abc"))
    assert.is_false(lib.moon_slice_is_constant_time(S "abc", S "abd"))
    assert.is_false(lib.moon_slice_is_constant_time(S "abc", S "ab"))
    local into = ffi.new("char[4]")
    assert.is_true(lib.moon_slice_copy_text(S "abc", into, 4))
    assert.equal("abc", ffi.string(into))
    assert.is_false(lib.moon_slice_copy_text(S "abcd", into, 4))
    assert.equal("", ffi.string(into))
    assert.is_false(lib.moon_slice_copy_text(S "a\0b", into, 4))
    assert.is_true(lib.moon_slice_copy_text(S(), into, 4))
  end)
end)
