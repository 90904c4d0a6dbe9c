-- SPDX-License-Identifier: Apache-2.0
local moongate = require("moongate.test")
local crypto = require("moongate.crypto")

local config = [[
local p = require("moongate.policies")
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { hosts = { "*" }, routes = {
    { path = "/*", reply = { status = 200, body = "inside" },
      policies = { inbound = { p.challenge { secret = "a secret of the spec", difficulty = 8 } } } },
  } } },
}
]]

local function solve(token, bits)
  for n = 0, 1e6 do
    if crypto.sha256(token .. ":" .. n):byte() < 2 ^ (8 - bits) then
      return tostring(n)
    end
  end
end

describe("challenge", function()
  local gw

  before_each(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = config } })
  end)
  after_each(function()
    gw:close()
  end)

  local function asked()
    local answer = gw:get("/api")
    assert.equal(403, answer.status)
    assert.equal("8", answer.headers["x-moongate-difficulty"])
    assert.matches('"reason":"ChallengeRequired"', answer.body, 1, true)
    assert.matches('"request_id":', answer.body, 1, true)
    return answer.headers["x-moongate-challenge"]
  end

  it("lets a program in that repeats its request with the answer", function()
    local token = asked()
    local headers = { ["X-Moongate-Challenge"] = token, ["X-Moongate-Response"] = solve(token, 8) }
    assert.equal("inside", gw:get("/api", { headers = headers }).body)
    gw:advance(301)
    assert.equal(403, gw:get("/api", { headers = headers }).status)
  end)

  it("gives a cookie for the answer, which holds for its lifetime", function()
    local token = asked()
    local answer = gw:get("/x", { headers = { ["X-Moongate-Challenge"] = token,
      ["X-Moongate-Response"] = solve(token, 8), ["X-Moongate-Verify"] = "1" } })
    assert.equal(204, answer.status)
    local cookie = answer.headers["set-cookie"]:match("^[^;]+")
    assert.truthy(answer.headers["set-cookie"]:find("HttpOnly; SameSite=Lax", 1, true))
    assert.equal(200, gw:post("/api", { headers = { Cookie = cookie }, body = "x" }).status)
    local forged = cookie:gsub("=(%d+)", function(t) return "=" .. (tonumber(t) + 9) end)
    assert.equal(403, gw:get("/api", { headers = { Cookie = forged } }).status)
    gw:advance(1801)
    assert.equal(403, gw:get("/api", { headers = { Cookie = cookie } }).status)
  end)

  it("refuses answers that are wrong, forged or malformed", function()
    local token = asked()
    for _, pair in ipairs({ { token, "-1" }, { token, "x" }, { token, ("9"):rep(30) }, { "1.8.a.b", "1" },
      { "", "1" }, { ("x"):rep(5000), "1" }, { token .. "x", solve(token .. "x", 8) },
      { token:gsub("^%d+", "9999999999"), "1" } }) do
      assert.equal(403, gw:get("/api", { headers = { ["X-Moongate-Challenge"] = pair[1],
        ["X-Moongate-Response"] = pair[2] } }).status)
    end
  end)

  it("shows browsers a page that runs only its own script", function()
    local answer = gw:get("/", { headers = { Accept = "text/html,*/*" } })
    assert.equal(403, answer.status)
    local nonce = answer.headers["content-security-policy"]:match("'nonce%-([%w_-]+)'")
    assert.truthy(answer.body:find('<script nonce="' .. nonce .. '">', 1, true))
    assert.equal("no-store", answer.headers["cache-control"])
  end)

  it("has a page that computes SHA-256 as we do", function()
    if os.execute("command -v node >/dev/null 2>&1") ~= 0 then
      pending("node is not installed")
      return
    end
    local page = gw:get("/", { headers = { Accept = "text/html" } }).body
    local script = page:match("<script[^>]*>(.-)</script>")
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write([[
      globalThis.location = { pathname: "/", search: "", reload() {} };
      globalThis.XMLHttpRequest = function () {
        const h = {};
        this.open = () => {};
        this.setRequestHeader = (k, v) => { h[k] = v; };
        this.send = () => console.log(h["X-Moongate-Challenge"] + " " + h["X-Moongate-Response"]);
      };
    ]] .. script)
    file:close()
    local pipe = io.popen("node " .. path)
    local token, answer = pipe:read("*a"):match("(%S+) (%d+)")
    pipe:close()
    os.remove(path)
    assert.equal(200, gw:get("/", { headers = { ["X-Moongate-Challenge"] = token,
      ["X-Moongate-Response"] = answer } }).status)
  end)
end)
