-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local ffi = require("ffi")
local net = require("spec.unit.net.support")
local C = net.C

describe("the loop", function()
  before_each(function()
    C.moon_clock_freeze(true)
  end)

  after_each(function()
    C.moon_clock_freeze(false)
    net.close_loop()
  end)

  local function advance(ms)
    C.moon_clock_advance_us(ms * 1000)
    C.moon_loop_catch_up(net.loop())
  end

  it("fires timers in the order of their deadlines, however far they are apart", function()
    net.loop()
    local order, timers = {}, {}
    for i, after in ipairs({ 5000, 1, 64, 63, 4096, 65, 300000, 2, 100000000, 4095, 0 }) do
      timers[i] = net.timer(function()
        order[#order + 1] = after
      end)
      C.moon_timer_set(timers[i], after)
    end
    advance(200000000)
    net.turn()
    assert.same({ 0, 1, 2, 63, 64, 65, 4095, 4096, 5000, 300000, 100000000 }, order)
  end)

  it("fires at the millisecond, not before", function()
    net.loop()
    for _, after in ipairs({ 1, 63, 64, 65, 127, 128, 4096, 5000, 262144, 1000001 }) do
      local fired = 0
      local timer = net.timer(function()
        fired = fired + 1
      end)
      C.moon_timer_set(timer, after)
      advance(after - 1)
      assert.equal(0, fired)
      advance(1)
      assert.equal(1, fired)
      advance(after * 3)
      assert.equal(1, fired)
    end
  end)

  it("agrees with a sorted list over random settings, moves, stops and jumps", function()
    net.loop()
    math.randomseed(7)
    local now, deadline, timers = 0, {}, {}
    local fired
    for i = 1, 200 do
      timers[i] = net.timer(function()
        fired[i] = now
        deadline[i] = nil
      end)
    end
    for _ = 1, 2000 do
      local i = math.random(200)
      if math.random(10) == 1 then
        C.moon_timer_stop(timers[i])
        deadline[i] = nil
      else
        local after = math.random(3) == 1 and math.random(100000) or math.random(200)
        C.moon_timer_set(timers[i], after)
        deadline[i] = now + after
      end
      if math.random(4) == 1 then
        local step = math.random(8) == 1 and math.random(20000) or math.random(100)
        local due = {}
        for j in pairs(deadline) do
          if deadline[j] <= now + step then
            due[j] = true
          end
        end
        now = now + step
        fired = {}
        advance(step)
        for j = 1, 200 do
          assert.equal(due[j] and now or nil, fired[j])
        end
      end
    end
  end)

  it("moves a deadline that is set again before it has passed", function()
    net.loop()
    local fired = 0
    local timer = net.timer(function()
      fired = fired + 1
    end)
    for _ = 1, 50 do
      C.moon_timer_set(timer, 1000)
      advance(900)
    end
    assert.equal(0, fired)
    advance(100)
    assert.equal(1, fired)
    C.moon_timer_set(timer, 5000)
    C.moon_timer_set(timer, 10) -- earlier than the wheel would have looked
    advance(10)
    assert.equal(2, fired)
  end)

  it("fires a timer that sets itself to now once a turn", function()
    net.loop()
    local fired = 0
    local timer
    timer = net.timer(function()
      fired = fired + 1
      C.moon_timer_set(timer, 0)
    end)
    C.moon_timer_set(timer, 0)
    net.turn(1000)
    net.turn(1000)
    assert.equal(2, fired)
    C.moon_timer_stop(timer)
    net.turn(0)
    assert.equal(2, fired)
  end)

  it("lets a timer stop another that is due in the same turn", function()
    net.loop()
    local fired, second = {}, nil
    local first = net.timer(function()
      fired[#fired + 1] = 1
      C.moon_timer_stop(second)
    end)
    second = net.timer(function()
      fired[#fired + 1] = 2
    end)
    C.moon_timer_set(first, 5)
    C.moon_timer_set(second, 6)
    advance(10)
    assert.same({ 1 }, fired)
  end)

  it("wakes up for a timer in real time", function()
    C.moon_clock_freeze(false)
    net.loop()
    local fired_at
    local started = tonumber(C.moon_clock_us())
    local timer = net.timer(function()
      fired_at = tonumber(C.moon_clock_us())
    end)
    net.turn(0)
    C.moon_timer_set(timer, 30)
    assert.is_true(net.turn_until(function()
      return fired_at ~= nil
    end))
    assert.is_true(fired_at - started >= 29000, "early: " .. fired_at - started)
  end)

  it("runs a task once at the end of the turn, and not when it is cancelled", function()
    net.loop()
    local runs, again = 0, nil
    local task = net.task(function()
      runs = runs + 1
    end)
    C.moon_task_post(net.loop(), task)
    C.moon_task_post(net.loop(), task)
    net.turn(1000)
    assert.equal(1, runs)
    C.moon_task_post(net.loop(), task)
    C.moon_task_cancel(task)
    net.turn(0)
    assert.equal(1, runs)
    local count = 0
    again = net.task(function()
      count = count + 1
      C.moon_task_post(net.loop(), again)
    end)
    C.moon_task_post(net.loop(), again)
    net.turn(1000)
    net.turn(1000)
    assert.equal(2, count)
    C.moon_task_cancel(again)
  end)

  it("tells readiness, and stops telling when it is not watched", function()
    local a, b = net.socketpair()
    local seen = {}
    local io = net.io(a, function(_, events)
      seen[#seen + 1] = events
    end)
    C.moon_io_watch(io, net.READ)
    net.turn(0)
    assert.same({}, seen)
    C.write(b, "x", 1)
    net.turn(100)
    assert.same({ net.READ }, seen)
    C.moon_io_watch(io, net.READ + net.WRITE)
    net.turn(100)
    assert.equal(net.READ + net.WRITE, seen[2])
    C.moon_io_watch(io, 0)
    net.turn(0)
    assert.equal(2, #seen)
    C.moon_io_watch(io, net.WRITE)
    net.turn(100)
    assert.equal(net.WRITE, seen[3])
    C.moon_io_stop(io)
    C.close(a)
    C.close(b)
  end)

  it("delivers signals in the loop", function()
    local got
    local callback = ffi.cast("void (*)(void *, int)", function(_, signal)
      got = signal
    end)
    C.moon_loop_on_signal(net.loop(), 10, callback, nil)
    C.raise(10)
    assert.is_true(net.turn_until(function()
      return got ~= nil
    end))
    assert.equal(10, got)
    net.close_loop()
    callback:free()
  end)

  it("runs until it is stopped, and calls the turn hook", function()
    local turns = 0
    local hook = ffi.cast("void (*)(void *)", function()
      turns = turns + 1
      if turns == 3 then
        C.moon_loop_stop(net.loop())
      end
    end)
    C.moon_loop_on_turn(net.loop(), hook, nil)
    local task
    task = net.task(function()
      C.moon_task_post(net.loop(), task)
    end)
    C.moon_task_post(net.loop(), task)
    C.moon_loop_run(net.loop())
    assert.equal(3, turns)
    net.close_loop()
    hook:free()
  end)
end)
