-- SPDX-License-Identifier: Apache-2.0
--- Listeners on UNIX sockets: who may connect, and what is known of the clients behind them.
local json = require("cjson")
local process = require("spec.support.process")

local CONFIG = [[
local reply = require("moongate.reply")
local function echo(ctx)
  local h = ctx.request.headers
  return reply.json(200, {
    xff = h["X-Forwarded-For"], port = h["X-Forwarded-Port"], proto = h["X-Forwarded-Proto"],
    forwarded = h.Forwarded, client_ip = h["X-Client"], peer_ip = h["X-Peer"],
  })
end
return {
  name = "local", trusted_proxies = { %s },
  listeners = {
    { name = "front", address = "unix:%s/front.sock", mode = "%s" },
    { name = "origin", address = "unix:%s/origin.sock" },
  },
  management = { address = "127.0.0.1:0" },
  backends = { origin = { targets = { "unix:%s/origin.sock" }, host = "origin.test" } },
  sites = {
    { name = "front", hosts = { "*" }, listeners = { "front" }, routes = {
      { path = "/*", backend = "origin", policies = { inbound = { function(ctx)
        ctx.request.headers["X-Client"] = ctx.request.client_ip
        ctx.request.headers["X-Peer"] = ctx.request.peer_ip
      end } } } } },
    { name = "origin", hosts = { "origin.test" }, listeners = { "origin" }, routes = {
      { path = "/*", reply = { status = 404 }, policies = { inbound = { echo } } } } },
  },
}
]]

describe("a listener on a UNIX socket", function()
  local gw, folder

  local function config(trusted, mode)
    return CONFIG:format(trusted, folder, mode, folder, folder)
  end

  local function ask(field)
    local body = process.run(("curl -sS --unix-socket '%s/front.sock' %s http://t.test/"):format(folder,
      field and ("-H '%s'"):format(field) or ""))
    return json.decode(body)
  end

  local function mode_of(name)
    return (process.run(("stat -c %%a '%s/%s'"):format(folder, name)):match("%d+"))
  end

  local function reload(text)
    gw:write_file("gateway.lua", text)
    local said, status = gw:command("reload")
    assert.equal(0, status, said)
  end

  setup(function()
    folder = process.run("mktemp -d /tmp/moongate-unix.XXXXXX"):match("%S+")
    gw = process.start { files = { ["gateway.lua"] = config("", "660") }, workers = 2,
      arguments = "--no-watch" }
  end)

  teardown(function()
    gw:stop()
    process.run(("rm -r '%s'"):format(folder))
  end)

  it("has the permissions that `mode` says, and others after a reload", function()
    assert.equal("660", mode_of("front.sock"))
    reload(config("", "0606"))
    assert.equal("606", mode_of("front.sock"))
    assert.equal("unknown", (ask().forwarded:match("^for=([^;]*)")))
  end)

  it("tells backends nothing of an address that nobody has", function()
    reload(config("", "660"))
    local told = ask("X-Forwarded-For: 203.0.113.9")
    assert.is_nil(told.xff)
    assert.is_nil(told.port)
    assert.equal("http", told.proto)
    assert.equal('for=unknown;proto=http;host="t.test"', told.forwarded)
    assert.equal("unix", told.client_ip)
    assert.equal("unix", told.peer_ip)
  end)

  it("believes a proxy in front of it where trusted_proxies has `unix:`", function()
    reload(config('"unix:", "10.0.0.0/8"', "660"))
    local told = ask("X-Forwarded-For: 192.0.2.1, 203.0.113.9, 10.0.0.7")
    assert.equal("203.0.113.9", told.client_ip)
    assert.equal("unix", told.peer_ip)
    assert.equal("192.0.2.1, 203.0.113.9, 10.0.0.7", told.xff)
    assert.equal('for=unknown;proto=http;host="t.test"', told.forwarded)
    assert.equal("unix", ask().client_ip)
    assert.equal("unix", ask("X-Forwarded-For: nonsense").client_ip)
  end)
end)
