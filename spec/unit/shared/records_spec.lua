-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local shared = require("spec.unit.shared.support")
local helper = shared.helper

local C = helper.lib([[
struct moon_records;
struct moon_records *moon_records_new(struct moon_region *region);
size_t moon_records_bytes(void);
size_t moon_records_read(struct moon_records *records, struct moon_slice name, int64_t now_s, char *into);
typedef size_t moon_record_change_fn(void *arg, char *bytes, size_t len, int64_t *expires_s);
void moon_records_change(struct moon_records *records, struct moon_slice name, int64_t now_s,
  moon_record_change_fn *change, void *arg);
]])

local BYTES = 992
local make, until_s

-- One for all: the states of LuaJIT have room for few.
local called = ffi.cast("moon_record_change_fn *", function(_, bytes, len, expires)
  local text = make(len > 0 and ffi.string(bytes, len) or nil)
  ffi.copy(bytes, text, #text)
  expires[0] = until_s
  return #text
end)

describe("records", function()
  local records, room

  before_each(function()
    records = C.moon_records_new(shared.region(tonumber(C.moon_records_bytes()) + 1048576))
    assert(records ~= nil)
    room = ffi.new("char[?]", BYTES)
  end)

  local function read(name, now_s)
    local n = C.moon_records_read(records, helper.slice(name), now_s or 100, room)
    return n > 0 and ffi.string(room, n) or nil
  end

  -- `how(text or nil)` gives the new text, "" to take it out.
  local function change(name, how, now_s, expires_s)
    make, until_s = how, expires_s or 1000
    C.moon_records_change(records, helper.slice(name), now_s or 100, called, nil)
  end

  local function put(name, text, now_s, expires_s)
    change(name, function() return text end, now_s, expires_s)
  end

  it("give what was put under a name, and to a change what is there", function()
    assert.is_nil(read("a"))
    put("a", "one")
    change("a", function(old) return old .. " two" end)
    assert.equal("one two", read("a"))
    assert.is_nil(read("b"))
    put("a", "")
    assert.is_nil(read("a"))
    put("full", ("x"):rep(BYTES))
    assert.equal(BYTES, #read("full"))
  end)

  it("are gone when their time is over, for a change too", function()
    put("a", "one", 100, 110)
    assert.equal("one", read("a", 109))
    assert.is_nil(read("a", 110))
    put("b", "one", 100, 110)
    change("b", function(old) return tostring(old) end, 110)
    assert.equal("nil", read("b", 110))
  end)

  it("make room for others when all places are taken, those last that were asked for", function()
    put("kept", "here")
    for i = 1, 60000 do
      put("x" .. i, "y")
      if i % 50 == 0 then
        assert.equal("here", read("kept"))
      end
    end
    local n = 0
    for i = 1, 60000 do
      n = n + (read("x" .. i) and 1 or 0)
    end
    assert.is_true(n > 25000 and n <= 32768, n)
  end)

  it("lose no change that several processes make at once", function()
    shared.together(4, function()
      for _ = 1, 300 do
        change("n", function(old) return tostring(tonumber(old or 0) + 1) end)
      end
    end)
    assert.equal("1200", read("n"))
  end)

  it("outlive a process that is killed while it changes one, but for those beside it", function()
    put("a", "one")
    local pid = shared.child(function()
      change("a", function() ffi.C.kill(ffi.C.getpid(), shared.KILL) end)
    end)
    shared.wait(pid)
    assert.is_nil(read("a"))
    put("a", "again")
    assert.equal("again", read("a"))
  end)
end)
