-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local shared = require("spec.unit.shared.support")
local helper = shared.helper

local C = helper.lib([[
struct moon_circuit_rule { uint32_t failures, ratio_permille, probes; int64_t window_us, open_us; };
struct moon_circuits;
struct moon_circuit;
struct moon_circuits *moon_circuits_new(struct moon_region *region, size_t count);
struct moon_circuit *moon_circuit_get(struct moon_circuits *circuits, struct moon_slice name);
bool moon_circuit_admit(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                        int64_t now_us, bool *is_probe, int64_t *wait_us);
bool moon_circuit_done(struct moon_circuit *circuit, const struct moon_circuit_rule *rule,
                       int64_t now_us, bool is_probe, bool is_failure, int64_t open_us);
void moon_circuit_give_back(struct moon_circuit *circuit);
]])

describe("a circuit", function()
  local circuits, circuit, rule
  local is_probe, wait = ffi.new("bool[1]"), ffi.new("int64_t[1]")

  before_each(function()
    circuits = C.moon_circuits_new(shared.region(), 4)
    circuit = C.moon_circuit_get(circuits, helper.slice("orders"))
    rule = ffi.new("struct moon_circuit_rule", 3, 500, 2, 1000, 100)
  end)

  local function admit(now)
    return C.moon_circuit_admit(circuit, rule, now, is_probe, wait)
  end

  local function done(now, is_failure, of_probe, open_us)
    return C.moon_circuit_done(circuit, rule, now, of_probe or false, is_failure, open_us or 0)
  end

  it("is found by its name, until the table is full", function()
    assert.is_true(circuit == C.moon_circuit_get(circuits, helper.slice("orders")))
    for i = 1, 3 do
      assert.is_true(C.moon_circuit_get(circuits, helper.slice("other" .. i)) ~= nil)
    end
    assert.is_true(C.moon_circuit_get(circuits, helper.slice("one too many")) == nil)
  end)

  it("stays closed below its number and below its share of failures", function()
    assert.is_false(done(1, true))
    assert.is_false(done(2, true))
    assert.is_true(admit(3))
    for _ = 1, 5 do
      done(4, false)
    end
    assert.is_false(done(5, true)) -- 3 of 8
    assert.is_true(admit(6))
  end)

  it("forgets what lies before the window", function()
    done(1, true)
    done(2, true)
    assert.is_false(done(2000, true))
    assert.is_true(admit(2001))
  end)

  local function open(at)
    done(at, true)
    done(at, true)
    assert.is_true(done(at, true))
  end

  it("refuses while it is open, and says for how long", function()
    open(10)
    assert.is_false(admit(50))
    assert.equal(60, tonumber(wait[0]))
  end)

  it("lets as many probes through as it needs, and closes when all pass", function()
    open(10)
    assert.is_true(admit(111))
    assert.is_true(is_probe[0])
    assert.is_true(admit(112))
    assert.is_false(admit(113))
    assert.is_false(done(120, false, true))
    assert.is_true(done(121, false, true))
    assert.is_true(admit(122))
    assert.is_false(is_probe[0])
  end)

  it("opens again when a probe fails, for as long as the backend asks", function()
    open(10)
    assert.is_true(admit(111))
    assert.is_true(done(120, true, true, 5000))
    assert.is_false(admit(5000))
    assert.is_true(admit(5121))
  end)

  it("does not wait for probes that nobody answers for", function()
    open(10)
    assert.is_true(admit(111))
    assert.is_true(admit(111))
    assert.is_false(admit(150))
    C.moon_circuit_give_back(circuit)
    assert.is_true(admit(151)) -- one was given back
    assert.is_false(admit(152))
    assert.is_true(admit(300)) -- the others were lost with their worker
  end)

  it("opens once when workers see the failures at the same time", function()
    local region = shared.region()
    local count = ffi.cast("int64_t *", C.moon_region_carve(region, "count", 64))
    shared.together(4, function(p)
      for _ = 1, 500 do
        if done(10, true) then
          count[p] = count[p] + 1
        end
      end
    end)
    assert.equal(1, tonumber(count[1] + count[2] + count[3] + count[4]))
  end)
end)
