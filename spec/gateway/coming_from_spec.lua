-- SPDX-License-Identifier: Apache-2.0
--- The configurations of docs/coming-from.md, as they stand there: they load without a warning, and do
--- what the page says.
local moongate = require("moongate.test")

local function slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

--- The files of one of the page's gateways, by path.
local function page_files(name)
  local files = {}
  for text in slurp("docs/coming-from.md"):gmatch("\n```lua\n(.-)\n```") do
    local folder, path = text:match("^%-%- (%w+)/(%S+%.lua)\n")
    assert(folder, "a block that is no file:\n" .. text)
    if folder == name then
      files[path] = text
    end
  end
  assert(files["gateway.lua"], name .. " has no gateway.lua")
  return files
end

local function named(name)
  return function()
    return 200, { ["X-Backend"] = name }, name
  end
end

local function start(name, backends, more)
  local files = page_files(name)
  for path, text in pairs(more or {}) do
    files[path] = text
  end
  local gw = moongate.gateway({ files = files, backends = backends })
  finally(function()
    gw:close()
  end)
  return gw
end

describe("docs/coming-from.md", function()
  it("has an nginx whose directives do what they did", function()
    local dir = os.tmpname()
    os.remove(dir)
    assert(os.execute(("mkdir %s && openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
      .. "-days 2 -subj /CN=shop.test -keyout %s/key -out %s/pem 2>/dev/null"):format(dir, dir, dir)) == 0)
    local certificate = { ["shop.pem"] = slurp(dir .. "/pem"), ["shop.key"] = slurp(dir .. "/key") }
    os.execute("rm -r " .. dir)
    local body = ("long enough to be worth compressing "):rep(100)
    local gw = start("nginx", {
      stable = function()
        return 200, { ["Content-Type"] = "text/plain" }, body
      end,
      canary = named("canary"), shadow = named("shadow"), live = named("live"),
      auth = function(request)
        local is_known = request.headers.authorization == "ann"
        return is_known and 200 or 401, { ["X-User"] = "ann" }, ""
      end,
    }, certificate)
    local answer = gw:get("/a?b=1", { host = "shop.test", listener = "http" })
    assert.same({ 301, "https://shop.test/a?b=1" }, { answer.status, answer.headers.location })
    local function get(path, headers)
      gw:advance(1)
      return gw:get(path, { host = "shop.test", listener = "https", tls = true, headers = headers })
    end
    answer = get("/", { ["Accept-Encoding"] = "gzip" })
    assert.equal(200, answer.status)
    assert.equal("DENY", answer.headers["x-frame-options"])
    assert.equal(401, get("/account/7").status)
    assert.equal(200, get("/account/7", { Authorization = "ann" }).status)
    assert.equal(200, get("/admin/").status) -- 127.0.0.1 is in the office
    local calls
    repeat -- one in twenty goes to the canary
      calls = #gw.calls.stable
      get("/old/thing")
    until #gw.calls.stable > calls
    local call = gw.calls.stable[#gw.calls.stable]
    assert.equal("/new/thing", call.path)
    assert.equal("gold", call.headers["x-plan"])
    local first = get("/assets/x.css")
    assert.equal(200, first.status)
    assert.matches("hit", get("/assets/x.css").headers["cache-status"])
    assert.equal("live", get("/live").body)
    local statuses = {}
    gw:advance(2)
    for _ = 1, 300 do -- while a slow machine asks, some of the limit comes back
      local status = gw:get("/", { host = "shop.test", listener = "https", tls = true }).status
      statuses[status] = (statuses[status] or 0) + 1
      if status == 429 then
        break
      end
    end
    assert.is_true(statuses[200] >= 20 and statuses[429] == 1)
  end)

  it("has a HAProxy whose ACLs, maps and tables decide as they did", function()
    local gw = start("haproxy", { default = named("default"), acme = named("acme") },
      { ["lists/drop.txt"] = "198.51.100.0/24\n" })
    local function ask(client, fields)
      local text = gw:raw(("PROXY TCP4 %s 192.0.2.1 1 2\r\nGET / HTTP/1.1\r\nHost: a.test\r\n%s"
        .. "Connection: close\r\n\r\n"):format(client, fields or ""))
      return tonumber(text:match("^HTTP/1.1 (%d+)")), text:match("\r\n\r\n(.*)$"), text
    end
    local status, body, text = ask("203.0.113.1")
    assert.same({ 200, "default" }, { status, body })
    assert.matches("[Ss]et%-[Cc]ookie: SRV=", text)
    status, body = ask("203.0.113.1", "X-Tenant: acme\r\n")
    assert.same({ 200, "acme" }, { status, body })
    assert.equal(403, (ask("198.51.100.7")))
    assert.equal(403, (ask("203.0.113.1", "User-Agent: SQLmap/1\r\n")))
    local last
    for _ = 1, 200 do -- while a slow machine asks, some of the limit comes back
      last = ask("203.0.113.2", "X-Api-Key: k\r\n")
      if last == 429 then
        break
      end
    end
    assert.equal(429, last)
    assert.equal(200, (ask("203.0.113.2", "X-Api-Key: another\r\n")))
  end)

  it("has a Kong whose consumers, tiers and transformers are there", function()
    local gw = start("kong", { orders = named("orders") })
    assert.equal(401, gw:get("/orders/7").status)
    local answer = gw:get("/orders/7?debug=1&apikey=key-of-ann-1234")
    assert.equal(200, answer.status)
    local call = gw.calls.orders[1]
    assert.equal("/7", call.path)
    assert.equal("ann", call.headers["x-consumer-username"])
    for _ = 1, 5 do
      answer = gw:get("/orders/" .. math.random(1e6), { headers = { apikey = "key-of-ann-1234" } })
    end
    assert.equal(429, answer.status)
    assert.equal(200, gw:get("/orders", { headers = { apikey = "key-of-bob-1234" } }).status)
    local preflight = gw:options("/orders/7", { headers = { Origin = "https://app.test",
      ["Access-Control-Request-Method"] = "GET", ["Access-Control-Request-Headers"] = "apikey" } })
    assert.equal("https://app.test", preflight.headers["access-control-allow-origin"])
    assert.equal(413, gw:post("/orders", { headers = { apikey = "key-of-bob-1234" },
      body = ("x"):rep(65537) }).status)
  end)
end)
