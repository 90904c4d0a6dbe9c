-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
void moon_buf_relax(struct moon_buf *buf);
int moon_buf_reserve(struct moon_buf *buf, size_t want);
int moon_buf_room(struct moon_buf *buf, size_t want, char **room, size_t *n);
void moon_buf_wrote(struct moon_buf *buf, size_t n);
void moon_buf_consume(struct moon_buf *buf, size_t n);
void moon_buf_clear(struct moon_buf *buf);
int moon_buf_append(struct moon_buf *buf, struct moon_slice bytes);
int moon_buf_printf(struct moon_buf *buf, const char *fmt, ...);
]]

local function rc(code)
  return helper.rc(code)
end

describe("base/buf", function()
  it("is a queue that never passes its ceiling", function()
    math.randomseed(7)
    local buf, model = helper.buf(40000), ""
    local room, n = ffi.new("char *[1]"), ffi.new("size_t[1]")
    local limited = 0
    for _ = 1, 20000 do
      local choice = math.random(4)
      if choice == 1 then
        local bytes = string.char(math.random(256) - 1):rep(math.random(0, 6000))
        local result = rc(lib.moon_buf_append(buf, helper.slice(bytes)))
        if #model + #bytes <= 40000 then
          assert.equal("ok", result)
          model = model .. bytes
        else
          assert.equal("limit", result)
          limited = limited + 1
        end
      elseif choice == 2 then
        local took = math.random(0, #model)
        lib.moon_buf_consume(buf, took)
        model = model:sub(took + 1)
      elseif choice == 3 then
        local result = rc(lib.moon_buf_room(buf, math.random(20000), room, n))
        if #model == 40000 then
          assert.equal("limit", result)
        else
          assert.equal("ok", result)
          assert.is_true(n[0] >= 1 and tonumber(n[0]) + #model <= 40000)
          local wrote = math.random(0, math.min(tonumber(n[0]), 3000))
          ffi.fill(room[0], wrote, 120)
          lib.moon_buf_wrote(buf, wrote)
          model = model .. ("x"):rep(wrote)
        end
      else
        lib.moon_buf_relax(buf)
        assert.is_true(#model > 0 or buf.data == nil)
      end
      assert.is_true(buf.cap <= 40000)
    end
    assert.equal(model, helper.buf_text(buf))
    assert.is_true(limited > 0)
  end)

  it("prints, clears and refuses at its ceiling", function()
    local buf = helper.buf(16)
    assert.equal("ok", rc(lib.moon_buf_printf(buf, "%s-%d", "ab", ffi.cast("int", 7))))
    assert.equal("ab-7", helper.buf_text(buf))
    assert.equal("limit", rc(lib.moon_buf_printf(buf, "%s", "0123456789abcdef")))
    assert.equal("ab-7", helper.buf_text(buf))
    lib.moon_buf_clear(buf)
    assert.equal("", helper.buf_text(buf))
    assert.equal("limit", rc(lib.moon_buf_reserve(buf, 17)))
    assert.equal("limit", rc(lib.moon_buf_reserve(buf, -1ULL)))
    assert.equal("ok", rc(lib.moon_buf_reserve(buf, 16)))
  end)
end)
