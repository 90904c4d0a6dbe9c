-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local ffi = require("ffi")
local helper = require("spec.unit.helper")
local net = require("spec.unit.net.support")

local C = helper.lib([[
struct moon_job { struct moon_list link; void (*run)(struct moon_job *job); };
struct moon_background;
struct moon_background *moon_background_new(struct moon_loop *loop);
void moon_background_free(struct moon_background *background);
void moon_background_finish(struct moon_background *background);
struct test_job {
  struct moon_job job; char name; int steps, step_us; int depth; char *trace;
  struct test_job *another; struct moon_background *background; bool is_over;
};
void test_job_init(struct test_job *job);
void test_job_post(struct test_job *job);
]])

-- A portion lasts 200 us, or a 2000th of the job's age, and a step that has begun is done.
local STEPS, STEP_US, PORTION_US, PORTIONS = 30, 50, 100, 2000

describe("work in the background of a loop", function()
  local background, trace

  before_each(function()
    background = C.moon_background_new(net.loop())
    trace = ffi.new("char[4096]")
  end)

  after_each(function()
    C.moon_background_free(background)
    net.close_loop()
  end)

  local function job(name, fields)
    local made = ffi.new("struct test_job", fields or {})
    made.name, made.trace, made.background = name:byte(), trace, background
    made.steps = made.steps == 0 and STEPS or made.steps
    made.step_us = made.step_us == 0 and STEP_US or made.step_us
    C.test_job_init(made)
    return made
  end

  local function done()
    return ffi.string(trace)
  end

  it("is done in portions, one at the end of a turn", function()
    local a = job("a")
    C.test_job_post(a)
    assert.equal("", done())
    local turns, began_us = 0, C.moon_clock_us()
    while not a.is_over do
      local before = #done()
      net.turn()
      turns = turns + 1
      local age_us = tonumber(C.moon_clock_us() - began_us)
      local most = math.max(PORTION_US, age_us / PORTIONS) / STEP_US + 1
      assert.is_true(#done() - before <= most, #done() - before .. " steps in a turn")
    end
    assert.equal(("a"):rep(STEPS), done())
    assert.is_true(turns > 1)
  end)

  it("leaves timers their turn", function()
    local fired_at
    local timer = net.timer(function()
      fired_at = #done()
    end)
    local a = job("a", { steps = 60, step_us = 200 })
    C.test_job_post(a)
    C.moon_timer_set(timer, 1)
    while not a.is_over do
      net.turn()
    end
    assert.is_true(fired_at < 60, "it fired only afterwards")
  end)

  it("is done in the order in which it was posted, also what a job posts", function()
    local c = job("c", { steps = 2 })
    local a = job("a", { steps = 3, another = c })
    local b = job("b", { steps = 3 })
    C.test_job_post(a)
    C.test_job_post(b)
    while not c.is_over do
      net.turn()
    end
    assert.equal("aaabbbcc", done())
    C.test_job_post(job("d", { steps = 1 })) -- after it was idle
    net.turn()
    assert.equal("aaabbbccd", done())
  end)

  it("is done at once where there is no time to wait, half done or not begun", function()
    local a, b = job("a"), job("b", { steps = 3 })
    C.test_job_post(a)
    C.test_job_post(b)
    net.turn()
    assert.is_false(a.is_over)
    C.moon_background_finish(background)
    assert.is_true(a.is_over and b.is_over)
    assert.equal(("a"):rep(STEPS) .. "bbb", done())
    local c = job("c")
    C.test_job_post(c)
    C.moon_background_free(background)
    assert.is_true(c.is_over)
    background = C.moon_background_new(net.loop())
  end)

  it("has a stack as deep as the loop's own", function()
    local a = job("a", { steps = 20, depth = 6000 })
    C.test_job_post(a)
    while not a.is_over do
      net.turn()
    end
    assert.equal(("a"):rep(20), done())
  end)
end)
