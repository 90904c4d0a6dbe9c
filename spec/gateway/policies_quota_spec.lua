-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local moongate = require("moongate.test")

local dir

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  ffi.C.setenv("MOONGATE_STATE_DIR", dir, 1)
end)

teardown(function()
  os.execute("rm -rf " .. dir)
end)

local function options(quota, name)
  return { files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
return {
  name = "]] .. name .. [[", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { a = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "a", policies = {
    inbound = { p.quota {]] .. quota .. [[} },
    on_error = { function(ctx) ctx.response.headers["X-Reason"] = ctx.error.reason end },
  } } } } },
}]] }, backends = { a = function(request)
    return request.path == "/fails" and 500 or 200, {}, ("x"):rep(100)
  end } }
end

local function statuses(gw, n, path)
  local out = {}
  for i = 1, n do
    out[i] = gw:get(path or "/").status
  end
  return table.concat(out, " ")
end

describe("quota", function()
  it("refuses calls past the limit until the period is over", function()
    local gw = moongate.gateway(options('calls = 3, period = 3600, key = "k"', "calls"))
    assert.equal("200 200 200 403 403", statuses(gw, 5))
    local refused = gw:get("/")
    assert.equal("QuotaExceeded", refused.headers["x-reason"])
    local wait = tonumber(refused.headers["retry-after"])
    assert.is_true(wait > 0 and wait <= 3600)
    gw:advance(wait)
    assert.equal("200 200 200 403", statuses(gw, 4))
    gw:close()
  end)

  it("is kept over restarts and reloads", function()
    local gw = moongate.gateway(options('calls = 3, period = 0, key = "k"', "kept"))
    assert.equal("200 200", statuses(gw, 2))
    gw:close()
    gw = moongate.gateway(options('calls = 3, period = 0, key = "k"', "kept"))
    assert.equal("200 403", statuses(gw, 2))
    assert.is_nil(gw:get("/").headers["retry-after"])
    gw:close()
  end)

  it("takes the room for its counts when it loads: a disk that fills up later ends no worker", function()
    local gw = moongate.gateway(options('calls = 3, period = 0, key = "k"', "room"))
    local pipe = io.popen(("find '%s' -type f -printf '%%s %%b\n'"):format(os.getenv("MOONGATE_STATE_DIR")))
    local size, blocks = pipe:read("*a"):match("(%d%d%d%d%d+) (%d+)")
    pipe:close()
    gw:close()
    assert.is_true(blocks * 512 >= tonumber(size))
  end)

  it("limits bytes of both directions, the call that reaches it ends", function()
    local gw = moongate.gateway(options('bytes = 250, period = 3600, key = "k"', "bytes"))
    assert.equal(200, gw:post("/", { body = ("y"):rep(60) }).status)
    assert.equal("200 403", statuses(gw, 2))
    gw:close()
  end)

  it("counts no bytes of calls that another limit refuses", function()
    local gw = moongate.gateway(options('bytes = 350, period = 3600, key = "k" }, p.rate_limit { '
      .. 'calls = 2, period = 60, key = "k"', "refused bytes"))
    assert.equal("200 200 429 429 429 429", statuses(gw, 6)) -- 200 bytes, and the refusals' own
    gw:advance(30)
    assert.equal("200 429", statuses(gw, 2))
    gw:advance(30)
    assert.equal("200 403", statuses(gw, 2))
    gw:close()
  end)

  it("is one count for listings that share an id", function()
    local gw = moongate.gateway { files = { ["gateway.lua"] = [[
local p = require("moongate.policies")
local function route(path)
  return { path = path, reply = { status = 200 }, policies = { inbound = {
    p.quota { id = "plan", calls = 3, period = 3600, key = "k" },
    p.rate_limit { id = "pace", calls = 2, period = 3600, key = "k" } } } }
end
return {
  name = "shared", listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = { route("/a"), route("/b") } } },
}]] } }
    assert.equal("200 200 429", ("%s %s"):format(statuses(gw, 1, "/a"), statuses(gw, 2, "/b")))
    gw:advance(1800)
    assert.equal("200 403", statuses(gw, 2, "/a"))
    gw:close()
  end)

  it("asks of a call that costs nothing whether there is room for one", function()
    local gw = moongate.gateway(options([[calls = 1, period = 3600, key = "k",
      amount = function(ctx) return ctx.request.query.n end]], "nothing"))
    assert.equal("200 200", statuses(gw, 2, "/?n=0"))
    assert.equal("200 403", statuses(gw, 2, "/?n=1"))
    assert.equal("403", statuses(gw, 1, "/?n=0"))
    gw:close()
  end)

  it("counts by key, and only what is to be counted", function()
    local gw = moongate.gateway(options([[calls = 2, period = 3600, key = "${ctx.request.query.k}",
      count_if = function(ctx) return ctx.response.status < 500 end]], "keys"))
    assert.equal("500 500 500", statuses(gw, 3, "/fails?k=a"))
    assert.equal("200 200 403", statuses(gw, 3, "/?k=a"))
    assert.equal("200 200 403", statuses(gw, 3, "/?k=b"))
    gw:close()
  end)

  it("has days that follow one another where clocks change at midnight, or a day is left out", function()
    local calendar = require("moongate.calendar")
    for _, name in ipairs({ "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "America/Havana", "Pacific/Apia" }) do
      local zone = assert(calendar.zone(name))
      local time, before = calendar.parse("2010-01-01"), nil
      while time < calendar.parse("2027-01-01") do
        local from, to = zone:window("day", time)
        assert.is_true(from <= time and time < to, name .. " " .. os.date("!%F", time))
        assert.equal(before or from, from, name .. " " .. os.date("!%F", time))
        before, time = to, to
      end
    end
  end)

  it("has days and months of a time zone", function()
    local calendar = require("moongate.calendar")
    local rome = assert(calendar.zone("Europe/Rome"))
    local function at(text)
      return assert(calendar.parse(text))
    end
    local from, to = rome:window("day", at("2026-03-29T12:00:00Z")) -- 23 hours long
    assert.equal(at("2026-03-28T23:00:00Z"), from)
    assert.equal(at("2026-03-29T22:00:00Z"), to)
    from, to = rome:window("month", at("2026-12-31T23:30:00Z"))
    assert.equal(at("2026-12-31T23:00:00Z"), from)
    assert.equal(at("2027-01-31T23:00:00Z"), to)
    from, to = rome:window("day", at("2026-10-25T00:30:00Z")) -- 25 hours long
    assert.equal(at("2026-10-24T22:00:00Z"), from)
    assert.equal(at("2026-10-25T23:00:00Z"), to)
    from, to = assert(calendar.zone("+05:30")):window("month", at("2024-02-29T18:29:59Z"))
    assert.equal(at("2024-01-31T18:30:00Z"), from)
    assert.equal(at("2024-02-29T18:30:00Z"), to)
    local gw = moongate.gateway(options('calls = 1, period = "day", timezone = "Europe/Rome"', "day"))
    assert.equal("200 403", statuses(gw, 2))
    gw:advance(tonumber(gw:get("/").headers["retry-after"]))
    assert.equal("200 403", statuses(gw, 2))
    gw:close()
  end)

  it("of a spec is its own, where no folder is named", function()
    ffi.C.setenv("MOONGATE_STATE_DIR", "", 1)
    finally(function()
      ffi.C.setenv("MOONGATE_STATE_DIR", dir, 1)
    end)
    for _ = 1, 2 do
      local gw = moongate.gateway(options("calls = 1, period = 0", "own"))
      assert.equal(200, gw:get("/").status)
      assert.equal(403, gw:get("/").status)
      assert(gw:reload())
      assert.equal(403, gw:get("/").status)
      gw:close()
    end
  end)

  it("is refused without a limit, with an unknown zone or a folder that cannot be", function()
    assert.truthy(moongate.errors(options("period = 60", "x")):find("calls or bytes is needed", 1, true))
    assert.truthy(moongate.errors(options('calls = 1, period = "day", timezone = "Mars/Base"', "x"))
      :find('no time zone "Mars/Base"', 1, true))
    ffi.C.setenv("MOONGATE_STATE_DIR", "/dev/null/x", 1)
    local err = moongate.errors(options("calls = 1, period = 60", "x"))
    ffi.C.setenv("MOONGATE_STATE_DIR", dir, 1)
    assert.truthy(err:find("the counts cannot be kept", 1, true))
  end)
end)
