-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local ffi = require("ffi")
local servers = require("spec.support.redis")

if not servers.is_there() then
  describe("redis", function()
    pending("needs redis-server")
  end)
  return
end

local support = require("spec.integration.redis_support")

-- No answer may come late, other than where deadlines are what is looked at: those are of the command.
local PATIENT = { deadline_ms = 10000 }
local HASTY = { deadline_ms = 25 }

describe("redis connection", function()
  local server, redis

  before_each(function()
    server = servers.start()
    redis = support.redis(server.url, PATIENT)
    assert.is_true(redis:ready())
  end)

  after_each(function()
    redis:close()
    support.close()
    server:stop()
  end)

  it("answers with every kind of reply", function()
    assert.equal("OK", select(2, redis:call { "SET", "a", "1\0\r\n2" }))
    assert.equal("1\0\r\n2", select(2, redis:call { "GET", "a" }))
    assert.equal(5, select(2, redis:call { "INCRBY", "n", 5 }))
    assert.is_nil(select(2, redis:call { "GET", "nothing" }))
    redis:call { "RPUSH", "l", "x", "y" }
    assert.same({ "x", "y" }, select(2, redis:call { "LRANGE", "l", 0, -1 }))
    local rc, text, is_error = redis:call { "INCR", "a" }
    assert.equal("ok", rc)
    assert.is_true(is_error)
    assert.truthy(text:find("not an integer"))
    local long = ("x"):rep(1000000)
    redis:call { "SET", "long", long }
    assert.equal(long, select(2, redis:call { "GET", "long" }))
  end)

  it("keeps the order of what is sent in one go", function()
    local got = {}
    for i = 1, 2000 do
      assert.equal("again", (redis:send({ "INCR", "n" }, function(_, value)
        got[i] = value
      end)))
    end
    assert.is_true(support.spin_until(function()
      return got[2000]
    end))
    for i = 1, 2000 do
      assert.equal(i, got[i])
    end
  end)

  it("answers no later than the deadline, and drops late replies in their place", function()
    server:pause()
    local rc, _, _, ms, stall = redis:call({ "INCR", "n" }, HASTY)
    assert.equal("timeout", rc)
    assert.is_true(ms >= 24 and ms < 60 + stall, ms .. " ms")
    server:resume()
    assert.is_true(redis:ready())
    -- The late command was carried out; its reply went to nobody.
    assert.equal("1", select(2, redis:call { "GET", "n" }))
    assert.is_true(tonumber(redis:stats().late_replies) >= 1) -- and those of `ready`
    for i = 2, 20 do
      assert.equal(i, select(2, redis:call { "INCR", "n" }))
    end
  end)

  it("drops the reply of a cancelled command in its place", function()
    local function cancelled()
      error("was cancelled")
    end
    local _, sent = redis:send({ "INCR", "n" }, cancelled)
    server:pause()
    support.net.turn(1) -- it goes out; the answer has to wait
    local _, unsent = redis:send({ "INCR", "n" }, cancelled)
    support.C.moon_redis_cancel(sent)
    support.C.moon_redis_cancel(unsent)
    server:resume()
    assert.equal("y", select(2, redis:call { "ECHO", "y" }))
    assert.equal("1", select(2, redis:call { "GET", "n" }))
  end)

  it("opens the breaker after five failures, and closes it by a probe", function()
    server:pause()
    local slowest, refused = 0, 0
    for _ = 1, 200 do
      local rc, _, _, ms, stall = redis:call({ "INCR", "n" }, HASTY)
      refused = refused + (rc == "store" and 1 or 0)
      slowest = math.max(slowest, ms and ms - stall or 0)
    end
    assert.equal(195, refused)
    assert.is_true(slowest < 60, slowest .. " ms")
    assert.equal(1, tonumber(redis:stats().breaker_opens))
    server:resume()
    local began = support.now_ms()
    assert.is_true(redis:ready())
    assert.is_true(support.now_ms() - began < 5000) -- the probe comes after one second, the rest is the machine's
  end)

  it("comes back to a server that was killed and started again", function()
    server:kill()
    support.spin(200)
    local rc, _, _, ms = redis:call { "INCR", "n" }
    assert.is_true(rc ~= "ok")
    assert.is_true((ms or 0) < 1000) -- of a deadline of ten seconds
    server:launch()
    local began = support.now_ms()
    assert.is_true(redis:ready())
    assert.is_true(support.now_ms() - began < 5000) -- it tries after 1.5 s at most
  end)

  it("tells what was certainly not carried out from what may have been", function()
    local outcome
    redis:send({ "INCR", "n" }, function(rc)
      outcome = rc
    end)
    server:pause()
    support.net.turn(1) -- it goes out, and nobody answers
    server:kill()
    assert.is_true(support.spin_until(function()
      return outcome
    end))
    assert.equal("io", outcome)
    assert.equal("store", (redis:call { "INCR", "n" }))
  end)

  it("gives a script's text to a server that does not know it, once", function()
    local body = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
    local script = ffi.new("struct moon_redis_script")
    script.body = body
    assert.equal(5, select(2, redis:eval(script, "s", { "5" })))
    assert.is_true(support.spin_until(function()
      return script.sha[0] ~= 0
    end))
    assert.equal(10, select(2, redis:eval(script, "s", { "5" })))
    assert.equal(0, tonumber(redis:stats().reloads))
    server:cli("SCRIPT", "FLUSH")
    assert.equal(15, select(2, redis:eval(script, "s", { "5" })))
    assert.equal(1, tonumber(redis:stats().reloads))
    assert.equal(20, select(2, redis:eval(script, "s", { "5" })))
    assert.equal(1, tonumber(redis:stats().reloads))
  end)

  it("keeps its queue bounded", function()
    redis:close()
    redis = support.redis(server.url, { queue_commands = 10 })
    assert.is_true(redis:ready())
    server:pause()
    local refused = 0
    for _ = 1, 30 do
      refused = refused + ((redis:send({ "PING" }, function() end)) == "store" and 1 or 0)
    end
    assert.equal(20, refused)
    server:resume()
  end)

  it("refuses a reply that is too large, and goes on", function()
    redis:close()
    server:cli("SET", "long", ("x"):rep(100000))
    redis = support.redis(server.url, { reply_bytes = 65536, deadline_ms = 10000 })
    assert.is_true(redis:ready())
    assert.equal("io", (redis:call { "GET", "long" }))
    assert.is_true(redis:ready())
  end)
end)

describe("redis access", function()
  local server, redis

  after_each(function()
    if redis then
      redis:close()
      redis = nil
    end
    support.close()
    if server then
      server:stop()
      server = nil
    end
  end)

  it("logs in with user and password, and selects the database", function()
    server = servers.start { tcp = true, cli = "--user admin --pass root --no-auth-warning",
      conf = "user admin on >root ~* &* +@all\nuser gate on >se/c:ret ~* &* +@all\n"
        .. "user default off\n" }
    redis = support.redis(("redis://gate:se%%2Fc%%3Aret@127.0.0.1:%d/3"):format(server.port), PATIENT)
    assert.is_true(redis:ready())
    redis:call { "SET", "where", "three" }
    assert.equal("three", server:cli("-n", "3", "GET", "where"))
  end)

  it("refuses commands at once while it may not log in, and keeps trying", function()
    server = servers.start { tcp = true, cli = "--pass good --no-auth-warning",
      arguments = "--requirepass good" }
    redis = support.redis(("redis://:bad@127.0.0.1:%d"):format(server.port), PATIENT)
    support.spin(200)
    local rc, _, _, ms = redis:call { "GET", "x" }
    assert.equal("store", rc)
    assert.is_true((ms or 0) < 1000)
    server:cli("CONFIG", "SET", "requirepass", "bad")
    server.cli_options = "--pass bad --no-auth-warning"
    assert.is_true(redis:ready())
  end)

  it("speaks TLS, and refuses a server that it cannot verify", function()
    local tls = require("spec.unit.net.tls_support")
    tls.ca("redis_ca")
    local pair = tls.certificate("redis_ca", "redis", { "127.0.0.1" })
    local trusted = assert(tls.client { ca = tls.dir() .. "/redis_ca.pem" })
    local stranger = assert(tls.client {})
    server = servers.start { tcp = true, tls = true,
      cli = ("--tls --cacert %s/redis_ca.pem"):format(tls.dir()),
      arguments = ("--tls-cert-file %s --tls-key-file %s --tls-ca-cert-file %s/redis_ca.pem "
        .. "--tls-auth-clients no"):format(pair.certificate, pair.key, tls.dir()) }
    redis = support.redis(server.url, { tls = stranger })
    support.spin(300)
    assert.equal("store", (redis:call { "PING" }))
    redis:close()
    redis = support.redis(server.url, { tls = trusted, deadline_ms = 10000 })
    assert.is_true(redis:ready())
    local long = ("y"):rep(300000)
    assert.equal("OK", select(2, redis:call { "SET", "a", long }))
    assert.equal(long, select(2, redis:call { "GET", "a" }))
    tls.C.moon_tls_client_release(trusted)
    tls.C.moon_tls_client_release(stranger)
    tls.remove_dir()
  end)
end)

describe("redis URL", function()
  local function text(field)
    return ffi.string(field)
  end

  it("names servers, users and databases", function()
    local conf = support.conf("rediss://u%40x:p%3Aw@[::1]:7000/5")
    assert.equal("u@x", text(conf.user))
    assert.equal("p:w", text(conf.password))
    assert.equal("::1", text(conf.addresses[0].host))
    assert.equal(7000, conf.addresses[0].port)
    assert.equal(5, conf.database)
    assert.is_true(conf.is_tls)
    conf = support.conf("redis://host")
    assert.equal(6379, conf.addresses[0].port)
    conf = support.conf("redis+sentinel://a,b:1,c/main/2")
    assert.equal(1, conf.kind)
    assert.equal(3, tonumber(conf.address_count))
    assert.equal(26379, conf.addresses[0].port)
    assert.equal("main", text(conf.master_name))
    assert.equal(2, conf.database)
    conf = support.conf("redis+cluster://a:1,b:2")
    assert.equal(2, conf.kind)
    conf = support.conf("unix:///run/redis.sock?db=4")
    assert.equal("/run/redis.sock", text(conf.addresses[0].host))
    assert.equal(4, conf.database)
  end)

  it("says what is wrong, and never the password", function()
    for _, url in ipairs { "", "http://x", "redis:/x", "redis://", "redis://h:0", "redis://h:99999",
      "redis://h:x", "redis://user@h", "redis://h/x", "redis://a,b", "redis+sentinel://a",
      "redis+cluster://a/3", "unix:relative", "redis://u:secret@h:bad", "redis://[::1",
      "redis://u:" .. ("s"):rep(600) .. "@h", "redis://u:a%00b@h" } do
      local conf, err = support.conf(url)
      assert.is_nil(conf, url)
      assert.is_true(#err > 0)
      assert.is_nil(err:find("secret"))
    end
  end)
end)
