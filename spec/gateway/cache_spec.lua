-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")

local config = [[
local p = require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } }, management = { address = "127.0.0.1:0" },
  backends = { origin = { targets = { "http://127.0.0.1:1" }, retries = 0 } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/*", backend = "origin", policies = { inbound = { p.cache {} } } },
  } } },
}
]]

local clock = require("moongate.clock")
local gw, answer, count, seen

before_each(function()
  count, seen = 0, nil
  gw = moongate.gateway({
    files = { ["gateway.lua"] = config },
    backends = {
      origin = function(request)
        count, seen = count + 1, request
        return answer(request, count)
      end,
    },
  })
end)

after_each(function()
  gw:close()
end)

local function always(headers, status, body)
  answer = function(_, n)
    return status or 200, headers, body or ("body " .. n)
  end
end

local function get(headers, path)
  return gw:get(path or "/a", { headers = headers })
end

local function date(offset)
  return clock.http_date(math.floor(clock.now()) + (offset or 0))
end

--- Whether a second request is answered out of the store.
local function is_reused(headers, status, request_headers)
  always(headers, status)
  count = 0
  local path = "/reuse/" .. math.random(1, 2 ^ 40)
  get(request_headers, path)
  gw:advance(3)
  local second = get(request_headers, path)
  return count == 1, second
end

describe("a range that is not stored", function()
  local whole = ("0123456789"):rep(100)

  --- Answers ranges of the form bytes=A-B.
  local function serve(headers)
    answer = function(request)
      local fields = { ETag = '"1"' }
      for name, value in pairs(headers) do
        fields[name] = value
      end
      local from, to = (request.headers.range or ""):match("^bytes=(%d+)-(%d+)$")
      if not from then
        return 200, fields, whole
      end
      fields["Content-Range"] = ("bytes %d-%d/%s"):format(from, to, headers.length or #whole)
      return 206, fields, whole:sub(from + 1, to + 1)
    end
  end

  local function settle(n)
    for _ = 1, 50 do
      if count >= n then
        break
      end
      gw:get("/other/" .. math.random(1, 2 ^ 40), { headers = { ["If-Match"] = "x" } })
    end
  end

  it("is the backend's, and the whole is fetched once for the next", function()
    serve { ["Cache-Control"] = "max-age=60" }
    local first = get { Range = "bytes=10-14" }
    assert.equal("206 01234", first.status .. " " .. first.body)
    assert.matches("fwd-status=206; detail=fetching-whole", first.headers["cache-status"], 1, true)
    settle(2)
    local second = get { Range = "bytes=995-1200" }
    assert.equal("206 56789", second.status .. " " .. second.body)
    assert.matches("; hit", second.headers["cache-status"], 1, true)
    assert.equal(whole, get().body)
  end)

  it("stays a part where the whole is large, of unknown length, or not to be kept", function()
    for n, headers in ipairs({ { ["Cache-Control"] = "max-age=60", length = "1000000000" },
      { ["Cache-Control"] = "max-age=60", length = "*" }, { ["Cache-Control"] = "no-store" },
      { ["Cache-Control"] = "max-age=0" } }) do
      serve(headers)
      count = 0
      for i = 1, 3 do
        local part = get({ Range = "bytes=0-4" }, "/part/" .. n)
        assert.equal(206, part.status)
        assert.is_nil(part.headers["cache-status"]:find("detail", 1, true))
        assert.equal(i, count)
      end
    end
  end)
end)

describe("a large response", function()
  it("is kept when it is asked for again, and says until then why it is not", function()
    always({ ["Cache-Control"] = "max-age=60" }, 200, ("x"):rep(320000))
    assert.matches("; stored$", get(nil, "/320k").headers["cache-status"])
    assert.matches("; hit", get(nil, "/320k").headers["cache-status"], 1, true)
    always({ ["Cache-Control"] = "max-age=60" }, 200, ("x"):rep(800000))
    assert.equal("moongate; fwd=uri-miss; fwd-status=200; detail=large",
      get(nil, "/800k").headers["cache-status"])
    assert.matches("; stored$", get(nil, "/800k").headers["cache-status"])
    assert.matches("; hit", get(nil, "/800k").headers["cache-status"], 1, true)
  end)
end)

describe("a response", function()
  it("is kept for the host and port that were asked for, however they are written", function()
    always({ ["Cache-Control"] = "max-age=60" })
    local hosts = { "[::1]:8080", "[::1:8080]", "[::1:8080]:8080", "[::1]", "a.test:8080", "a.test" }
    for i, host in ipairs(hosts) do
      gw:get("/host", { host = host })
      assert.equal(i, count, host)
    end
    for _, host in ipairs({ "[::1]:8080", "[::1]:80", "A.test:80", "a.test.", "a.TEST:8080", "a.test:08080" }) do
      gw:get("/host", { host = host })
      assert.equal(#hosts, count, host)
    end
    local purged = gw:post("/cache/purge?url=http://[::1]:8080/host", { listener = "management" })
    assert.equal(200, purged.status)
    gw:get("/host", { host = "[::1]:8080" })
    gw:get("/host", { host = "[::1:8080]" })
    assert.equal(#hosts + 1, count)
  end)

  it("is not kept where its Vary is longer than can be looked through at each request", function()
    always({ ["Cache-Control"] = "max-age=60", Vary = ("X-Name, "):rep(128) .. "X" })
    get()
    assert.equal("moongate; fwd=uri-miss; fwd-status=200; detail=large", get().headers["cache-status"])
    assert.equal(2, count)
  end)
end)

describe("a fresh response", function()
  it("is given again, with Age and Cache-Status", function()
    always({ ["Cache-Control"] = "max-age=60", ["Content-Type"] = "text/x" })
    assert.equal("moongate; fwd=uri-miss; fwd-status=200; stored", get().headers["cache-status"])
    gw:advance(10)
    local second = get()
    assert.equal("body 1", second.body)
    assert.equal("10", second.headers.age)
    assert.equal("text/x", second.headers["content-type"])
    assert.equal("moongate; hit; ttl=50", second.headers["cache-status"])
    assert.equal("hit", gw:last_log().cache)
    gw:advance(51)
    assert.equal("body 2", get().body)
  end)

  it("is as fresh as the origin says", function()
    for _, case in ipairs({
      { "max-age=100", true }, { "max-age=0", false }, { "max-age=1", false },
      { "MAX-AGE=100", true }, { "max-age=\"100\"", true }, { "max-age = 100", false },
      { "max-age=100, max-age=1", false }, { "max-age=1, max-age=100", false },
      { "max-age=a100", false }, { "max-age=-100", false }, { "max-age=100a", false },
      { "max-age=100.0", false }, { "max-age=99999999999999999999", true },
      { "s-maxage=100, max-age=1", true }, { "s-maxage=1, max-age=100", false },
      { "foo=\"max-age=100\"", false }, { "foo=\"a, max-age=100\", max-age=0", false },
      { "a=\"1\\\"2\", max-age=100", true }, { ",,max-age=100,,", true },
      { "no-store, max-age=100", false }, { "No-StOrE, max-age=100", false },
      { "private, max-age=100", false }, { "no-cache, max-age=100", false },
      { "private=\"x\", max-age=100", true }, { "no-cache=\"x\", max-age=100", true },
      { "must-understand, no-store, max-age=100", true },
      { "public", false }, { "max-age=100, immutable", true },
    }) do
      assert.equal(case[2], (is_reused({ ["Cache-Control"] = case[1] })), case[1])
    end
  end)

  it("is as fresh as Expires says, where nothing else does", function()
    assert.is_true((is_reused({ Expires = date(100), Date = date() })))
    assert.is_false((is_reused({ Expires = date(-100), Date = date() })))
    assert.is_false((is_reused({ Expires = "0", Date = date() })))
    assert.is_false((is_reused({ Expires = "tomorrow" })))
    assert.is_false((is_reused({ Expires = date(100), ["Cache-Control"] = "max-age=1" })))
    assert.is_true((is_reused({ Expires = date(-100), ["Cache-Control"] = "max-age=100" })))
  end)

  it("is older by its Age, and by its Date", function()
    assert.is_false((is_reused({ ["Cache-Control"] = "max-age=100", Age = "99" })))
    assert.is_true((is_reused({ ["Cache-Control"] = "max-age=100", Age = "50" })))
    assert.is_true((is_reused({ ["Cache-Control"] = "max-age=100", Age = "50, 99" })))
    for _, age in ipairs({ "abc", "-1", "5.0", "5;a=1", "", { "0", "0" } }) do
      assert.is_false((is_reused({ ["Cache-Control"] = "max-age=100", Age = age })))
    end
    assert.is_false((is_reused({ ["Cache-Control"] = "max-age=100", Date = date(-200) })))
    local _, second = is_reused({ ["Cache-Control"] = "max-age=100", Age = "40" })
    assert.equal("43", second.headers.age)
  end)

  it("is guessed to be for a tenth of its age since Last-Modified", function()
    local function modified()
      return { ["Last-Modified"] = date(-1000), Date = date() }
    end
    for _, status in ipairs({ 200, 203, 300, 301, 308, 404, 405, 410, 414, 501 }) do
      assert.is_true((is_reused(modified(), status)), status)
    end
    for _, status in ipairs({ 201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599 }) do
      assert.is_false((is_reused(modified(), status)), status)
    end
  end)

  it("may have any status where its lifetime is said", function()
    for _, status in ipairs({ 200, 201, 202, 203, 204, 299, 301, 302, 307, 400, 404, 410, 418, 500, 503, 599 }) do
      assert.is_true((is_reused({ ["Cache-Control"] = "max-age=100" }, status)), status)
    end
  end)

  it("is not kept for others after Authorization, unless the origin says so", function()
    local who = { Authorization = "Basic eA==" }
    assert.is_false((is_reused({ ["Cache-Control"] = "max-age=100" }, 200, who)))
    assert.is_true((is_reused({ ["Cache-Control"] = "max-age=100, public" }, 200, who)))
    assert.is_true((is_reused({ ["Cache-Control"] = "s-maxage=100" }, 200, who)))
    assert.is_true((is_reused({ ["Cache-Control"] = "max-age=100, must-revalidate" }, 200, who)))
  end)

  it("leaves out what it names, and hop-by-hop fields", function()
    local _, second = is_reused({ ["Cache-Control"] = 'max-age=100, no-cache="X-A, X-B"',
      Connection = "X-Hop", ["X-Hop"] = "1", ["X-A"] = "1", ["X-C"] = "1" })
    assert.is_nil(second.headers["x-a"])
    assert.is_nil(second.headers["x-hop"])
    assert.equal("1", second.headers["x-c"])
  end)

  it("answers HEAD too", function()
    always({ ["Cache-Control"] = "max-age=60" })
    get()
    local answered = gw:head("/a")
    assert.equal("6", answered.headers["content-length"])
    assert.equal("", answered.body)
    assert.equal(1, count)
  end)

  it("is kept whole when it is large, and given in pieces to those who ask", function()
    local body = ("0123456789"):rep(3000)
    always({ ["Cache-Control"] = "max-age=60", ETag = '"x"' }, 200, body)
    assert.equal(body, get().body)
    assert.equal(body, get().body)
    local part = get({ Range = "bytes=10-19" })
    assert.equal(206, part.status)
    assert.equal("bytes 10-19/30000", part.headers["content-range"])
    assert.equal("0123456789", part.body)
    assert.equal("789", get({ Range = "bytes=-3" }).body)
    assert.equal(body:sub(29991), get({ Range = "bytes=29990-" }).body)
    assert.equal(416, get({ Range = "bytes=30000-" }).status)
    assert.equal("bytes */30000", get({ Range = "bytes=30000-" }).headers["content-range"])
    assert.equal(200, get({ Range = "bytes=1-2, 4-5" }).status)
    assert.equal(206, get({ Range = "bytes=1-2", ["If-Range"] = '"x"' }).status)
    assert.equal(200, get({ Range = "bytes=1-2", ["If-Range"] = '"y"' }).status)
    assert.equal(1, count)
  end)
end)

describe("a conditional request", function()
  it("is answered 304 out of the store", function()
    always({ ["Cache-Control"] = "max-age=60", ETag = '"abc"', ["Last-Modified"] = date(-100) })
    get()
    for _, etag in ipairs({ '"abc"', 'W/"abc"', '"x", "abc"', '"abc", "x"', "*" }) do
      local answered = get({ ["If-None-Match"] = etag })
      assert.equal(304, answered.status, etag)
      assert.equal('"abc"', answered.headers.etag)
    end
    assert.equal(200, get({ ["If-None-Match"] = '"abcd"' }).status)
    assert.equal(304, get({ ["If-Modified-Since"] = date(-100) }).status)
    assert.equal(304, get({ ["If-Modified-Since"] = date(-50) }).status)
    assert.equal(200, get({ ["If-Modified-Since"] = date(-150) }).status)
    assert.equal(200, get({ ["If-None-Match"] = '"z"', ["If-Modified-Since"] = date() }).status)
    assert.equal(1, count)
  end)

  it("goes to the origin as it is where nothing is stored", function()
    always({ ["Cache-Control"] = "max-age=60" })
    get({ ["If-None-Match"] = '"abc"' })
    assert.equal('"abc"', seen.headers["if-none-match"])
  end)

  it("with If-Match is the origin's", function()
    always({ ["Cache-Control"] = "max-age=60", ETag = '"abc"' })
    get()
    get({ ["If-Match"] = '"abc"' })
    assert.equal(2, count)
  end)
end)

describe("a stale response", function()
  it("is validated, and freshened by a 304", function()
    answer = function(request, n)
      if request.headers["if-none-match"] == '"v1"' then
        return 304, { ETag = '"v1"', ["Cache-Control"] = "max-age=60", ["X-New"] = tostring(n) }, ""
      end
      return 200, { ["Cache-Control"] = "max-age=10", ETag = '"v1"', ["X-New"] = "1",
        ["X-Old"] = "kept" }, "body " .. n
    end
    get()
    gw:advance(11)
    local second = get()
    assert.equal(200, second.status)
    assert.equal("body 1", second.body)
    assert.equal("2", second.headers["x-new"])
    assert.equal("kept", second.headers["x-old"])
    assert.equal("moongate; fwd=stale; fwd-status=304; stored", second.headers["cache-status"])
    gw:advance(30)
    local third = get()
    assert.equal("2", third.headers["x-new"])
    assert.equal(2, count)
    assert.equal(304, get({ ["If-None-Match"] = '"v1"' }).status)
  end)

  it("is replaced by a 200", function()
    always({ ["Cache-Control"] = "max-age=10", ETag = '"v"' })
    get()
    gw:advance(11)
    assert.equal("body 2", get().body)
    assert.equal("body 2", get().body)
  end)

  it("is validated before every use with no-cache", function()
    answer = function(request, n)
      if request.headers["if-modified-since"] then
        return 304, {}, ""
      end
      return 200, { ["Cache-Control"] = "no-cache, max-age=100", ["Last-Modified"] = date(-100) },
        "body " .. n
    end
    get()
    assert.equal("body 1", get().body)
    assert.equal(2, count)
  end)

  it("is given while it is renewed in the background", function()
    always({ ["Cache-Control"] = "max-age=10, stale-while-revalidate=60" })
    get()
    gw:advance(20)
    assert.equal("body 1", get().body)
    gw.core:turn(20)
    gw.core:turn(20)
    gw.core:turn(20)
    assert.equal(2, count)
    assert.equal("body 2", get().body)
    assert.equal(2, count)
    gw:advance(100)
    assert.equal("body 3", get().body)
  end)

  it("stands in for errors where it may", function()
    answer = function(_, n)
      if n > 1 then
        return 503, {}, "down"
      end
      return 200, { ["Cache-Control"] = "max-age=10, stale-if-error=60" }, "body"
    end
    get()
    gw:advance(20)
    local second = get()
    assert.equal(200, second.status)
    assert.equal("body", second.body)
    gw:advance(100)
    assert.equal(503, get().status)
  end)

  it("does not stand in for errors with must-revalidate", function()
    answer = function(_, n)
      if n > 1 then
        return 503, {}, "down"
      end
      return 200, { ["Cache-Control"] = "max-age=10, stale-if-error=60, must-revalidate" }, "body"
    end
    get()
    gw:advance(20)
    assert.equal(503, get().status)
  end)
end)

describe("Cache-Control of the request", function()
  local function after(seconds, directives, response)
    always({ ["Cache-Control"] = response or "max-age=100", ETag = '"x"' })
    count = 0
    local path = "/cc/" .. math.random(1, 2 ^ 40)
    get(nil, path)
    gw:advance(seconds)
    local answered = get({ ["Cache-Control"] = directives }, path)
    return count == 1, answered
  end

  it("is heeded", function()
    assert.is_true((after(10, "max-age=20")))
    assert.is_false((after(30, "max-age=20")))
    assert.is_true((after(10, "min-fresh=50")))
    assert.is_false((after(60, "min-fresh=50")))
    assert.is_false((after(110, "max-age=1000")))
    assert.is_true((after(110, "max-stale=20")))
    assert.is_true((after(110, "max-stale")))
    assert.is_false((after(130, "max-stale=20")))
    assert.is_false((after(110, "max-stale=20", "max-age=100, must-revalidate")))
    assert.is_false((after(10, "no-cache")))
    assert.is_false((after(10, "no-store")))
    assert.is_true((after(10, "only-if-cached")))
  end)

  it("only-if-cached is answered 504 where there is nothing", function()
    assert.equal(504, get({ ["Cache-Control"] = "only-if-cached" }, "/nothing").status)
    assert.equal(0, count)
  end)

  it("Pragma: no-cache asks the origin", function()
    always({ ["Cache-Control"] = "max-age=100" })
    get()
    get({ Pragma = "no-cache" })
    assert.equal(2, count)
  end)
end)

describe("Vary", function()
  before_each(function()
    answer = function(request, n)
      return 200, { ["Cache-Control"] = "max-age=100", Vary = "Foo" },
        (request.headers.foo or "-") .. n
    end
  end)

  it("keeps variants apart", function()
    assert.equal("11", get({ Foo = "1" }).body)
    assert.equal("22", get({ Foo = "2" }).body)
    assert.equal("-3", get().body)
    assert.equal("11", get({ Foo = "1" }).body)
    assert.equal("22", get({ Foo = "2" }).body)
    assert.equal("-3", get().body)
    assert.equal("moongate; fwd=vary-miss; fwd-status=200; stored",
      get({ Foo = "4" }).headers["cache-status"])
  end)

  it("compares lists, not their spelling", function()
    get({ Foo = "1,2" })
    get({ Foo = "1 , 2" })
    get({ Foo = "1,  2" })
    assert.equal(1, count)
    get({ Foo = "2, 1" })
    assert.equal(2, count)
  end)

  it("knows that Accept-Language has neither order nor case", function()
    answer = function(_, n)
      return 200, { ["Cache-Control"] = "max-age=100", Vary = "accept-language" }, "b" .. n
    end
    get({ ["Accept-Language"] = "en-US, de;q=0.5" })
    get({ ["Accept-Language"] = "de; q=0.5,EN-us" })
    assert.equal(1, count)
  end)

  it("of * is never stored", function()
    assert.is_false((is_reused({ ["Cache-Control"] = "max-age=100", Vary = "*" })))
    assert.is_false((is_reused({ ["Cache-Control"] = "max-age=100", Vary = "foo, *" })))
  end)
end)

describe("a field for this cache alone", function()
  it("holds in place of Cache-Control and Expires", function()
    for _, case in ipairs({
      { { ["CDN-Cache-Control"] = "max-age=100", ["Cache-Control"] = "no-store" }, true },
      { { ["CDN-Cache-Control"] = "max-age=1", ["Cache-Control"] = "max-age=100" }, false },
      { { ["CDN-Cache-Control"] = "no-store", ["Cache-Control"] = "max-age=100" }, false },
      { { ["CDN-Cache-Control"] = "private=\"x\"", ["Cache-Control"] = "max-age=100" }, false },
      { { ["CDN-Cache-Control"] = "max-age=100", Expires = "0" }, true },
      { { ["CDN-Cache-Control"] = "public", Expires = date(100) }, false },
      { { ["CDN-Cache-Control"] = "max-age=100;x=1, foo" }, true },
      { { ["CDN-Cache-Control"] = "max-age=100, max-age=1" }, false },
      { { ["Surrogate-Control"] = "max-age=100", ["Cache-Control"] = "no-store" }, true },
      { { ["Surrogate-Control"] = "max-age=100;moongate", ["Cache-Control"] = "no-store" }, true },
      { { ["Surrogate-Control"] = "no-store", ["Cache-Control"] = "max-age=100" }, false },
    }) do
      local reused = is_reused(case[1])
      assert.equal(case[2], reused, require("moongate.json").encode(case[1]))
    end
  end)

  it("is passed over where it cannot be read, or speaks to another", function()
    for name, value in pairs({ ["CDN-Cache-Control"] = "max-age=100, &", ["Surrogate-Control"] =
      "no-store;other, max-age=1;other" }) do
      assert.is_true((is_reused({ [name] = value, ["Cache-Control"] = "max-age=100" })))
      assert.is_false((is_reused({ [name] = value, ["Cache-Control"] = "no-store" })))
    end
    assert.is_false((is_reused({ ["CDN-Cache-Control"] = "max-age=10.0" })))
    assert.is_false((is_reused({ ["CDN-Cache-Control"] = "" })))
  end)

  it("is asked for, whatever the client claims to be", function()
    always({})
    get({ ["Surrogate-Capability"] = "evil=\"Surrogate/1.0\"" })
    assert.equal("moongate=\"Surrogate/1.0\"", seen.headers["surrogate-capability"])
  end)
end)

describe("a HEAD", function()
  local function head(path)
    return gw:request({ method = "HEAD", path = path })
  end

  before_each(function()
    always({ ["Cache-Control"] = "max-age=10", ["X-A"] = "1", ETag = "\"1\"" }, 200, "12345")
    get()
    gw:advance(20)
  end)

  it("freshens what is stored, and its fields, where it speaks of the same", function()
    always({ ["Cache-Control"] = "max-age=100", ["X-A"] = "2", ETag = "\"1\"" }, 200, "12345")
    assert.equal("2", head("/a").headers["x-a"])
    gw:advance(20)
    local again = get()
    assert.equal(2, count)
    assert.equal("12345", again.body)
    assert.equal("2", again.headers["x-a"])
  end)

  it("ends what is stored where it speaks of another", function()
    always({ ["Cache-Control"] = "max-age=100", ETag = "\"2\"" }, 200, "")
    head("/a")
    always({ ["Cache-Control"] = "max-age=100", ETag = "\"2\"" }, 200, "67890")
    assert.equal("67890", get().body)
    assert.is_nil(seen.headers["if-none-match"])
  end)

  it("of another status leaves it as it is", function()
    always({ ["X-A"] = "2" }, 410, "")
    assert.equal(410, head("/a").status)
    always({}, 304, "")
    assert.equal("1", get().headers["x-a"])
  end)
end)

describe("a POST", function()
  local function post(headers, path)
    return gw:request({ method = "POST", path = path, headers = headers, body = "x" })
  end

  it("that answers what GET of its URI would is kept for GET", function()
    always({ ["Cache-Control"] = "max-age=100", ["Content-Location"] = "/p" })
    post(nil, "/p")
    assert.equal("body 1", get(nil, "/p").body)
    assert.equal(1, count)
    post(nil, "/p")
    assert.equal("body 2", get(nil, "/p").body)
  end)

  it("is kept for nothing else", function()
    for _, headers in ipairs({
      { ["Cache-Control"] = "max-age=100" },
      { ["Cache-Control"] = "max-age=100", ["Content-Location"] = "/other" },
      { ["Cache-Control"] = "max-age=100", ["Content-Location"] = "http://evil.test/q" },
      { ["Content-Location"] = "/q", ETag = "\"1\"", ["Last-Modified"] = date(-1000) },
    }) do
      always(headers)
      post(nil, "/q")
      always({ ["Cache-Control"] = "no-store" }, 200, "got")
      assert.equal("got", get(nil, "/q").body)
      assert.equal("got", get(nil, "/other").body)
    end
    always({ ["Cache-Control"] = "max-age=100", ["Content-Location"] = "/r" })
    post({ Authorization = "Basic x" }, "/r")
    always({ ["Cache-Control"] = "no-store" }, 200, "got")
    assert.equal("got", get(nil, "/r").body)
  end)
end)

describe("another variant", function()
  local function vary(headers)
    headers["Cache-Control"], headers.Vary = "max-age=100", headers.Vary or "Foo"
    always(headers)
  end

  it("is offered to the origin, and given where that will do", function()
    vary({ ETag = "\"1\"" })
    get({ Foo = "1" })
    always({ ETag = "\"1\"" }, 304, "")
    local second = get({ Foo = "2" })
    assert.equal("\"1\"", seen.headers["if-none-match"])
    assert.equal("body 1", second.body)
    assert.equal("body 1", get({ Foo = "2" }).body)
    assert.equal(2, count)
  end)

  it("is offered where it can be told and used by anybody only", function()
    for i, headers in ipairs({ { ETag = "W/\"1\"" }, { ["Last-Modified"] = date(-1000) },
      { ETag = "\"1\"", ["Content-Encoding"] = "gzip" }, { ETag = "\"1\"", Vary = "Foo, Cookie" } }) do
      vary(headers)
      get({ Foo = "1" }, "/v" .. i)
      get({ Foo = "2" }, "/v" .. i)
      assert.is_nil(seen.headers["if-none-match"])
      assert.is_nil(seen.headers["if-modified-since"])
    end
  end)

  it("does not stand in when the origin fails", function()
    vary({ ETag = "\"1\"" })
    get({ Foo = "1" })
    always({}, 503)
    assert.equal(503, get({ Foo = "2" }).status)
  end)
end)

describe("a request that would poison the cache", function()
  local function echo(name)
    answer = function(request, n)
      return 200, { ["Cache-Control"] = "max-age=100" }, (request.headers[name] or "none") .. n
    end
  end

  it("by a field that frameworks take for method, URL or host fills nothing", function()
    for i, name in ipairs({ "X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Host",
      "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Scheme" }) do
      local path = "/steered/" .. i
      echo(name:lower())
      count = 0
      assert.equal("/evil1", get({ [name] = "/evil" }, path).body)
      assert.equal("none2", get(nil, path).body)
      assert.equal("none2", get({ [name] = "/evil" }, path).body)
      assert.equal(2, count)
    end
  end)

  it("nor renews what is stale by one", function()
    always({ ["Cache-Control"] = "max-age=10", ETag = "\"1\"" })
    get()
    gw:advance(20)
    always({ ["Cache-Control"] = "max-age=100", ETag = "\"1\"" }, 200, "evil")
    assert.equal("evil", get({ ["X-Original-URL"] = "/evil" }).body)
    assert.is_nil(seen.headers["if-none-match"])
    always({ ["Cache-Control"] = "max-age=100" }, 200, "good")
    assert.equal("good", get().body)
  end)

  it("by X-Forwarded-Host does not reach the backend", function()
    echo("x-forwarded-host")
    local first = get({ ["X-Forwarded-Host"] = "evil.test" }).body
    assert.is_nil(first:find("evil", 1, true))
    assert.equal(first, get().body)
  end)

  it("by a body passes by", function()
    echo("content-length")
    gw:request({ method = "GET", path = "/fat", body = "evil" })
    assert.is_nil(get(nil, "/fat").body:find("4", 1, true))
    assert.equal(2, count)
  end)

  it("by another spelling of the host meets the same answer", function()
    always({ ["Cache-Control"] = "max-age=100" })
    get({ Host = "API.test:80" })
    get({ Host = "api.test" })
    assert.equal(1, count)
    get({ Host = "api.test:81" })
    get({ Host = "api.test.evil.test" })
    assert.equal(3, count)
  end)
end)

describe("a backend that fails", function()
  it("is covered for a minute by what was fresh, unless the origin forbids it", function()
    for directives, stands_in in pairs({ ["max-age=10"] = true, ["max-age=10, must-revalidate"] = false,
      ["max-age=10, proxy-revalidate"] = false, ["s-maxage=10"] = false, ["no-cache, max-age=10"] = false,
      ["max-age=10, stale-if-error=0"] = false, ["max-age=0"] = false }) do
      local path = "/f/" .. directives:gsub("%W", "-")
      always({ ["Cache-Control"] = directives, ETag = "\"1\"" })
      get(nil, path)
      gw:advance(60)
      always({}, 503)
      assert.equal(stands_in and 200 or 503, get(nil, path).status, directives)
      gw:advance(20)
      assert.equal(503, get(nil, path).status, directives)
    end
  end)
end)

describe("an unsafe method", function()
  it("invalidates what is stored for its URI, once it has succeeded", function()
    for _, method in ipairs({ "POST", "PUT", "DELETE", "PATCH", "M-SEARCH" }) do
      always({ ["Cache-Control"] = "max-age=100" })
      count = 0
      local path = "/unsafe/" .. method
      get(nil, path)
      gw:request({ method = method, path = path })
      get(nil, path)
      assert.equal(3, count, method)
    end
  end)

  it("invalidates nothing when it fails", function()
    always({ ["Cache-Control"] = "max-age=100" })
    get()
    always({}, 500)
    gw:post("/a", { body = "x" })
    get()
    assert.equal(2, count)
  end)

  it("invalidates Location and Content-Location of the same origin", function()
    for _, name in ipairs({ "Location", "Content-Location" }) do
      for value, is_gone in pairs({ ["/other"] = true, ["http://cache.test/other"] = true,
        ["other"] = true, ["http://elsewhere.test/other"] = false }) do
        always({ ["Cache-Control"] = "max-age=100" })
        count = 0
        gw:get("/other", { host = "cache.test" })
        local before = count
        always({ [name] = value })
        gw:post("/a", { host = "cache.test", body = "x" })
        always({ ["Cache-Control"] = "max-age=100" })
        gw:get("/other", { host = "cache.test" })
        assert.equal(before + 1 + (is_gone and 1 or 0), count, name .. " " .. value)
      end
    end
  end)
end)

describe("keys", function()
  it("tell hosts, paths and queries apart", function()
    always({ ["Cache-Control"] = "max-age=100" })
    for _, target in ipairs({ { "/k", "a.test" }, { "/k", "b.test" }, { "/k?", "a.test" },
      { "/k?a", "a.test" }, { "/k?a=", "a.test" }, { "/K", "a.test" } }) do
      gw:get(target[1], { host = target[2] })
    end
    assert.equal(6, count)
    gw:get("/./k", { host = "A.test" })
    assert.equal(6, count)
  end)
end)
