-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local shared = require("spec.unit.shared.support")
local C, TAKE, CHARGE = shared.C, shared.TAKE, shared.CHARGE

local START_US, START_MS = 1000000000, 1700000000000
local MINUTE_MS = 60000

describe("counters", function()
  local region, counters

  before_each(function()
    region = shared.region()
    counters = C.moon_counters_new(region, 4096)
  end)

  local function number(n)
    return tonumber(n)
  end

  describe("token bucket", function()
    local key

    before_each(function()
      key = shared.key("bucket", "client")
    end)

    local function take(calls, at_us, amount, burst, how)
      return C.moon_counters_gcra(counters, key, calls, MINUTE_MS, burst or calls, amount or 1,
        how or TAKE, START_US + at_us)
    end

    it("admits exactly its calls at once, and tells what is left", function()
      for i = 1, 100 do
        local d = take(100, 0)
        assert.is_true(d.is_allowed)
        assert.equal(100 - i, number(d.remaining))
        assert.equal(0, number(d.retry_after_ms))
      end
      local d = take(100, 0)
      assert.is_false(d.is_allowed)
      assert.equal(0, number(d.remaining))
      assert.equal(600, number(d.retry_after_ms))
      assert.equal(60000, number(d.reset_ms))
    end)

    it("does that for any number of calls and any period", function()
      for _, calls in ipairs { 1, 2, 3, 7, 13, 97, 1000, 4999 } do
        for _, period in ipairs { 1000, 7000, 60000, 86400000 } do
          key = shared.key("bucket", calls .. "/" .. period)
          local admitted = 0
          for _ = 1, calls + 5 do
            local d = C.moon_counters_gcra(counters, key, calls, period, calls, 1, TAKE, START_US)
            admitted = admitted + (d.is_allowed and 1 or 0)
          end
          assert.equal(calls, admitted, calls .. " in " .. period)
        end
      end
    end)

    it("lets one in at the moment that it named, and not a millisecond before", function()
      for _ = 1, 7 do
        take(7, 0)
      end
      local wait_ms = number(take(7, 0).retry_after_ms)
      assert.is_false(take(7, (wait_ms - 2) * 1000).is_allowed)
      assert.is_true(take(7, wait_ms * 1000).is_allowed)
    end)

    it("does not count what it refuses", function()
      for _ = 1, 10 do
        take(10, 0)
      end
      for i = 1, 1000 do
        assert.is_false(take(10, i).is_allowed)
      end
      assert.is_true(take(10, 6001000).is_allowed)
    end)

    it("asks with amount 0, and takes large amounts whole or not at all", function()
      assert.is_true(take(10, 0, 0).is_allowed)
      assert.equal(10, number(take(10, 0, 0).remaining))
      assert.is_true(take(10, 0, 8).is_allowed)
      local d = take(10, 0, 3)
      assert.is_false(d.is_allowed)
      assert.equal(2, number(d.remaining))
      assert.is_true(take(10, 0, 2).is_allowed)
      assert.is_false(take(10, 0, 0).is_allowed)
    end)

    it("charges past the limit, and makes the debt wait", function()
      assert.is_false(take(10, 0, 30, 10, CHARGE).is_allowed)
      assert.is_false(take(10, 60e6).is_allowed)
      assert.is_true(take(10, 130e6).is_allowed)
    end)

    it("keeps its head with numbers at the edge", function()
      local most = 2 ^ 36
      assert.is_true(take(1, 0, 1).is_allowed)
      for _ = 1, 5 do
        take(1, 0, most, 1, CHARGE)
      end
      assert.is_false(take(1, 0).is_allowed)
      key = shared.key("bucket", "wide")
      assert.is_true(take(most, 0, most, most).is_allowed)
    end)

    local function give_back(d, calls, at_us, amount)
      C.moon_counters_gcra_give_back(counters, key, calls, MINUTE_MS, amount or 1, d.mark,
        START_US + at_us)
    end

    it("gives back what another limit refused, at once or in any order", function()
      local given = {}
      for i = 1, 10 do
        given[i] = take(10, 0)
      end
      for _, i in ipairs { 7, 1, 10, 3 } do
        give_back(given[i], 10, 0)
      end
      assert.equal(4, number(take(10, 0, 0).remaining))
      local whole = take(10, 0, 4)
      give_back(whole, 10, 0, 4)
      assert.equal(4, number(take(10, 0, 0).remaining))
    end)

    it("gives back no more than has not leaked yet", function()
      local first = take(1, 0) -- leaks until 60 s
      assert.is_true(take(1, 61e6).is_allowed)
      give_back(first, 1, 62e6)
      assert.is_false(take(1, 62e6).is_allowed)
    end)

    it("never lets in more than a bucket that counted only what was kept", function()
      math.randomseed(1234)
      local calls, at, kept, held = 6, 0, {}, {}
      local cost = MINUTE_MS * 1000 / calls
      for _ = 1, 20000 do
        at = at + math.random(0, 6e6)
        if #held > 0 and math.random() < 0.4 then
          give_back(table.remove(held, math.random(#held)).d, calls, at)
        elseif math.random() < 0.7 then
          local d = take(calls, at)
          if d.is_allowed then
            held[#held + 1] = { d = d, at = at }
          end
        elseif #held > 0 then
          kept[#kept + 1] = table.remove(held, math.random(#held)).at
        end
      end
      assert.is_true(#kept > 1000)
      table.sort(kept)
      local tat = 0
      for _, moment in ipairs(kept) do
        tat = math.max(tat, moment) + cost
        assert.is_true(tat - moment <= calls * cost + 1, "past the burst at " .. moment)
      end
    end)

    it("keeps the limit while processes take and give back at once", function()
      local sum = shared.key("sum", "back")
      shared.together(4, function(p)
        local n = 0
        for i = 1, 20000 do
          local d = take(5000, 0)
          if d.is_allowed and (i + p) % 3 == 0 then
            n = n + 1
          elseif d.is_allowed then
            give_back(d, 5000, 0)
          end
        end
        C.moon_counters_add(counters, sum, n, MINUTE_MS, START_MS)
      end)
      local kept = number(C.moon_counters_add(counters, sum, 0, MINUTE_MS, START_MS))
      assert.equal(5000, kept + number(take(5000, 0, 0).remaining))
      assert.is_true(kept > 1000)
    end)

    it("admits exactly the limit to processes that race for it", function()
      local sum = shared.key("sum", "")
      shared.together(4, function()
        local n = 0
        for _ = 1, 100000 do
          n = n + (take(50000, 0).is_allowed and 1 or 0)
        end
        C.moon_counters_add(counters, sum, n, MINUTE_MS, START_MS)
      end)
      assert.equal(50000, number(C.moon_counters_add(counters, sum, 0, MINUTE_MS, START_MS)))
    end)
  end)

  describe("window", function()
    local key

    before_each(function()
      key = shared.key("window", "client")
    end)

    -- `at_ms` from the start of a window
    local base = math.floor(START_MS / MINUTE_MS) * MINUTE_MS
    local function take(calls, at_ms, amount, how)
      return C.moon_counters_window(counters, key, calls, MINUTE_MS, amount or 1, how or TAKE,
        base + at_ms)
    end

    it("admits exactly its calls in one window", function()
      local admitted = 0
      for i = 0, 299 do
        admitted = admitted + (take(100, i * 10).is_allowed and 1 or 0)
      end
      assert.equal(100, admitted)
    end)

    it("weighs the window before by what of it is still in sight", function()
      for _ = 1, 100 do
        take(100, 59999)
      end
      assert.is_false(take(100, 60000).is_allowed)
      local admitted = 0
      for _ = 1, 100 do
        admitted = admitted + (take(100, 90000).is_allowed and 1 or 0)
      end
      assert.equal(50, admitted)
    end)

    it("names a moment at which it does let one in", function()
      for _, at in ipairs { 0, 1, 29999, 59999 } do
        key = shared.key("window", "at " .. at)
        for _ = 1, 7 do
          take(7, at)
        end
        local wait = number(take(7, at).retry_after_ms)
        assert.is_true(wait > 0)
        assert.is_false(take(7, at + wait - 3).is_allowed)
        assert.is_true(take(7, at + wait).is_allowed)
      end
    end)

    it("never has more than its calls in the weighted sum, whatever comes when", function()
      math.randomseed(4711)
      local at, here, before, window = 0, 0, 0, 0
      for _ = 1, 20000 do
        at = at + math.random(0, 1500)
        local w = math.floor(at / MINUTE_MS)
        if w ~= window then
          before, here, window = w == window + 1 and here or 0, 0, w
        end
        local amount = math.random(1, 3)
        local d = take(40, at, amount)
        local used = here + before * (MINUTE_MS - at % MINUTE_MS) / MINUTE_MS
        assert.equal(used + amount <= 40 + 1e-6, d.is_allowed)
        here = here + (d.is_allowed and amount or 0)
      end
    end)

    it("does not run backwards when another worker's clock is a little ahead", function()
      for _ = 1, 10 do
        take(10, 60001)
      end
      assert.is_false(take(10, 59998).is_allowed)
    end)

    it("begins anew in each fixed window", function()
      local function fixed(at)
        return C.moon_counters_fixed(counters, key, 5, MINUTE_MS, 1, TAKE, base + at)
      end
      for _ = 1, 5 do
        assert.is_true(fixed(59000).is_allowed)
      end
      assert.equal(1000, number(fixed(59000).retry_after_ms))
      assert.is_true(fixed(60000).is_allowed)
    end)

    it("gives back into the window it was taken from, this one or the one before", function()
      local first = take(10, 59000, 6)
      take(10, 59000, 4)
      assert.is_false(take(10, 59000).is_allowed)
      C.moon_counters_window_give_back(counters, key, 6, first.mark)
      assert.equal(6, number(take(10, 59000, 0).remaining))
      local second = take(10, 59000, 6)
      assert.equal(5, number(take(10, 90000, 0).remaining)) -- half of ten still weigh
      C.moon_counters_window_give_back(counters, key, 6, second.mark)
      assert.equal(8, number(take(10, 90000, 0).remaining))
      second.mark.at = second.mark.at - 1
      C.moon_counters_window_give_back(counters, key, 6, second.mark)
      C.moon_counters_window_give_back(counters, shared.key("window", "nobody"), 6, second.mark)
      assert.equal(8, number(take(10, 90000, 0).remaining))
    end)

    it("adds up plain counters, never below zero nor past the end", function()
      local function add(n, at)
        return number(C.moon_counters_add(counters, key, n, MINUTE_MS, base + (at or 0)))
      end
      assert.equal(5, add(5))
      assert.equal(2, add(-3))
      assert.equal(0, add(-30))
      assert.equal(2 ^ 40 - 1, add(2 ^ 40))
      assert.equal(2 ^ 40 - 1, add(2 ^ 40))
      assert.equal(1, add(1, MINUTE_MS))
    end)

    it("counts every addition of processes that race", function()
      shared.together(4, function()
        for i = 1, 50000 do
          C.moon_counters_add(counters, key, 1, MINUTE_MS, base + (i % 1000))
        end
      end)
      assert.equal(200000, number(C.moon_counters_add(counters, key, 0, MINUTE_MS, base)))
    end)
  end)

  it("remembers refusals until their time", function()
    local key = shared.key("block", "client")
    assert.equal(0, number(C.moon_counters_blocked_ms(counters, key, START_US)))
    C.moon_counters_block(counters, key, START_US + 1500000, START_US + 1e9, START_US)
    assert.equal(1500, number(C.moon_counters_blocked_ms(counters, key, START_US)))
    assert.equal(1, number(C.moon_counters_blocked_ms(counters, key, START_US + 1499999)))
    assert.equal(0, number(C.moon_counters_blocked_ms(counters, key, START_US + 1500000)))
    C.moon_counters_block(counters, key, 0, 0, START_US)
    assert.equal(0, number(C.moon_counters_blocked_ms(counters, key, START_US)))
    C.moon_counters_block(counters, key, START_US + 1500000, START_US + 1000000, START_US)
    assert.equal(501, number(C.moon_counters_blocked_ms(counters, key, START_US + 999999)))
    assert.equal(0, number(C.moon_counters_blocked_ms(counters, key, START_US + 1000000)))
  end)

  describe("a full table", function()
    it("takes the longest idle cell, counts that, and keeps those in use", function()
      local small = C.moon_counters_new(region, 256)
      local busy = shared.key("full", "busy")
      local now = START_US
      local function take(key, calls)
        return C.moon_counters_gcra(small, key, calls, MINUTE_MS, calls, 1, TAKE, now)
      end
      local admitted = 0
      for i = 1, 20000 do
        now = now + 10
        take(shared.key("full", "key " .. i), 1000)
        if i % 10 == 0 then
          admitted = admitted + (take(busy, 100).is_allowed and 1 or 0)
        end
      end
      assert.equal(100, admitted)
      assert.is_true(number(C.moon_counters_evictions(small)) > 15000)
    end)

    it("takes cells that have expired without calling that a loss", function()
      local small = C.moon_counters_new(region, 256)
      for i = 1, 20000 do
        C.moon_counters_gcra(small, shared.key("full", "key " .. i), 1000, 1000, 1000, 1, TAKE,
          START_US + i * 1000000)
      end
      assert.equal(0, number(C.moon_counters_evictions(small)))
    end)

    it("never gives one key's count to another while processes recycle cells", function()
      local small = C.moon_counters_new(region, 64)
      local wrong = ffi.cast("int64_t *", C.moon_region_carve(region, "wrong", 64))
      shared.together(4, function(p)
        for i = 1, 50000 do
          -- Every key is charged once: more than one call gone means somebody else's count.
          local key = shared.key("once " .. p, tostring(i))
          local d = C.moon_counters_gcra(small, key, 10, 3600000, 10, 1, TAKE, START_US)
          if not d.is_allowed or d.remaining ~= 9 then
            wrong[p] = wrong[p] + 1
          end
        end
      end)
      for p = 1, 4 do
        assert.equal(0, number(wrong[p]))
      end
    end)
  end)

  it("serves on after workers were killed at any instruction", function()
    local small = C.moon_counters_new(region, 64)
    math.randomseed(99)
    for round = 1, 30 do
      local pid = shared.child(function()
        for i = 1, 1e9 do
          C.moon_counters_gcra(small, shared.key("r" .. round, tostring(i)), 10, 1000, 10, 1, TAKE,
            START_US + i)
        end
      end)
      ffi.C.usleep(1000 + math.random(4000))
      ffi.C.kill(pid, shared.KILL)
      assert.equal(shared.KILL, shared.wait(pid))
      for i = 1, 200 do
        local key = shared.key("after " .. round, tostring(i))
        assert.is_true(C.moon_counters_gcra(small, key, 5, 1000, 5, 1, TAKE,
          START_US + 1e12 + round * 1e9).is_allowed)
      end
    end
  end)

  describe("shared by nodes", function()
    local key, name, limit, delta, at, base

    before_each(function()
      key = shared.key("shared", "client")
      name = "shared:client"
      limit = ffi.new("struct moon_shared_limit")
      limit.name = shared.helper.slice(name)
      limit.calls, limit.period_ms, limit.nodes = 100, MINUTE_MS, 3
      delta = ffi.new("struct moon_counter_delta")
      at = ffi.new("size_t[1]")
      base = math.floor(START_MS / MINUTE_MS) * MINUTE_MS
    end)

    local function take(at_ms, n)
      local admitted, last = 0, nil
      for _ = 1, n or 1 do
        last = C.moon_counters_shared(counters, key, limit, 1, TAKE, base + at_ms)
        admitted = admitted + (last.limit.is_allowed and 1 or 0)
      end
      return admitted, last
    end

    local function next_delta(at_ms)
      at[0] = 0
      return C.moon_counters_shared_next(counters, at, base + (at_ms or 0), delta)
    end

    it("hands out what is given back, told or not", function()
      local _, last = take(0, 10)
      assert.is_true(next_delta())
      C.moon_counters_shared_told(counters, delta, 40)
      C.moon_counters_shared_give_back(counters, key, 1, last.limit.mark)
      assert.is_true(next_delta())
      assert.equal(-1, number(delta.amount))
      C.moon_counters_shared_unsent(counters, delta)
      assert.is_true(next_delta())
      assert.equal(-1, number(delta.amount))
      C.moon_counters_shared_told(counters, delta, 39)
      _, last = take(0, 0 + 1)
      assert.equal(60, number(last.limit.remaining)) -- 30 of the others, 9 here and this one
      C.moon_counters_shared_give_back(counters, key, 1, last.limit.mark)
      assert.is_false(next_delta())
    end)

    it("hands out nothing of a window that is gone", function()
      take(0, 10)
      assert.is_true(next_delta())
      take(2 * MINUTE_MS, 1)
      assert.is_true(next_delta(2 * MINUTE_MS))
      assert.equal(1, number(delta.amount))
      assert.is_false(next_delta(2 * MINUTE_MS))
    end)

    it("hands a count out once, with its name and window", function()
      take(0, 10)
      assert.is_true(next_delta())
      assert.equal(10, number(delta.amount))
      assert.equal(name, ffi.string(delta.name, delta.name_len))
      assert.equal(base / MINUTE_MS, number(delta.window))
      assert.is_true(delta.wants_previous)
      assert.is_false(next_delta())
      take(0, 3)
      assert.is_true(next_delta())
      assert.equal(3, number(delta.amount))
    end)

    it("adds what the other nodes have counted", function()
      take(0, 10)
      next_delta()
      C.moon_counters_shared_told(counters, delta, 70) -- 60 of others
      local _, d = take(0, 1)
      assert.equal(29, number(d.limit.remaining))
    end)

    it("takes no more than its part of the rest when it is near the limit", function()
      take(0, 10)
      next_delta()
      C.moon_counters_shared_told(counters, delta, 90)
      -- Ten are left. Of ninety calls ten were ours: our part is one and a bit.
      assert.equal(1, (take(0, 10)))
      next_delta()
      C.moon_counters_shared_told(counters, delta, 91)
      assert.equal(1, (take(0, 10)))
    end)

    it("lets a node that has the key for itself take nearly all", function()
      take(0, 79)
      next_delta()
      C.moon_counters_shared_told(counters, delta, 79)
      assert.is_true((take(0, 30)) >= 17)
    end)

    it("lets the parts of all nodes add up to no more than the limit", function()
      local nodes, total = {}, 0
      for i = 1, 3 do
        nodes[i] = C.moon_counters_new(region, 64)
      end
      local function each(i, n)
        local admitted = 0
        for _ = 1, n do
          admitted = admitted + (C.moon_counters_shared(nodes[i], key, limit, 1, TAKE, base)
            .limit.is_allowed and 1 or 0)
        end
        return admitted
      end
      local admitted = 0
      for _ = 1, 400 do
        for i = 1, 3 do
          admitted = admitted + each(i, 1)
        end
        for i = 1, 3 do -- every turn all of them tell, and are told
          at[0] = 0
          if C.moon_counters_shared_next(nodes[i], at, base, delta) then
            total = total + number(delta.amount)
            C.moon_counters_shared_told(nodes[i], delta, total)
          end
        end
      end
      assert.is_true(admitted >= 98 and admitted <= 102, "admitted " .. admitted)
    end)

    it("offers again what was not sent, and does not what may have been counted", function()
      take(0, 5)
      next_delta()
      C.moon_counters_shared_unsent(counters, delta)
      assert.is_true(next_delta())
      assert.equal(5, number(delta.amount))
      C.moon_counters_shared_lost(counters, delta)
      assert.is_false(next_delta())
      assert.equal(5, number(C.moon_counters_lost(counters)))
      local _, d = take(0, 1)
      assert.equal(94, number(d.limit.remaining))
    end)

    it("tells late counts of the window before, then those of this one", function()
      take(59999, 4)
      take(60000, 6)
      assert.is_true(next_delta(60000))
      assert.equal(4, number(delta.amount))
      local first = number(delta.window)
      assert.is_true(next_delta(60000))
      assert.equal(6, number(delta.amount))
      assert.equal(first + 1, number(delta.window))
      assert.is_false(next_delta(60000))
    end)

    it("learns what others counted in the window before", function()
      limit.nodes = 1
      take(60000, 1)
      next_delta(60000)
      C.moon_counters_shared_told(counters, delta, 1)
      C.moon_counters_shared_previous(counters, delta, 100)
      assert.equal(49, (take(90000, 100)))
    end)

    it("counts against its part while the store is down", function()
      limit.is_store_down = true
      assert.equal(33, (take(0, 100)))
    end)

    it("loses no call between processes that count and one that tells", function()
      limit.calls = 10000000
      local pids = {}
      for i = 1, 3 do
        pids[i] = shared.child(function()
          take(0, 50000)
        end)
      end
      local running, total = 3, 0
      while running > 0 do
        while next_delta() do
          total = total + number(delta.amount)
          C.moon_counters_shared_told(counters, delta, total)
        end
        local status = ffi.new("int[1]")
        for i = 1, 3 do
          if pids[i] and ffi.C.waitpid(pids[i], status, 1) == pids[i] then
            pids[i], running = nil, running - 1
          end
        end
      end
      while next_delta() do
        total = total + number(delta.amount)
      end
      assert.equal(150000, total)
    end)
  end)
end)
