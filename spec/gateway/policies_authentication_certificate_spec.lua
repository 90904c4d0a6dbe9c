-- SPDX-License-Identifier: Apache-2.0
--- A client certificate for the backend: the backend is this gateway's own TLS listener, which wants
--- one and tells whose it saw.
local moongate = require("moongate.test")

local dir

local function sh(command)
  assert(os.execute("{ " .. command .. "; } >/dev/null 2>&1") == 0, command)
end

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  sh("mkdir " .. dir)
  for _, name in ipairs { "server", "own", "blue", "green" } do
    sh(("openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 -subj /CN=%s "
      .. "-keyout %s/%s.key -out %s/%s.pem"):format(name, dir, name, dir, name))
  end
  sh(("cat %s/own.pem %s/blue.pem %s/green.pem > %s/clients.pem"):format(dir, dir, dir, dir))
end)

teardown(function()
  sh("rm -rf " .. dir)
end)

local config = [==[
local p, reply = require("moongate.policies"), require("moongate.reply")
local function show(name)
  return p.authentication_certificate { certificate = "DIR/" .. name .. ".pem",
    key = "DIR/" .. name .. ".key" }
end
local function tell(ctx)
  local tls = ctx.request.tls
  return reply.text(200, tls and tls.client and tls.client.subject or "nobody")
end
return {
  name = "spec",
  listeners = {
    { name = "http", address = "127.0.0.1:0" },
    { name = "https", address = "127.0.0.1:0", tls = {
      certificates = { { certificate = "DIR/server.pem", key = "DIR/server.key" } },
      client = { mode = "optional", ca = "DIR/clients.pem" } } },
  },
  backends = {
    bare = { targets = { "https://127.0.0.1:PORT" }, tls = { verify = false } },
    signed = { targets = { "https://127.0.0.1:PORT" }, tls = { verify = false,
      certificate = "DIR/own.pem", key = "DIR/own.key" } },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/seen", backend = "bare", policies = { inbound = { tell } } },
    { path = "/bare", backend = "bare", policies = { inbound = {
      p.rewrite_uri { template = "/seen" } } } },
    { path = "/signed", backend = "signed", policies = { inbound = {
      p.rewrite_uri { template = "/seen" } } } },
    { path = "/blue", backend = "signed", policies = { inbound = { show("blue"),
      p.rewrite_uri { template = "/seen" } } } },
    { path = "/green", backend = "bare", policies = { inbound = { show("blue"),
      p.rewrite_uri { template = "/seen" } }, backend = { show("green") } } },
    { path = "/chosen", backend = "signed", policies = { inbound = { show("green"),
      p.set_backend_service { backend = "bare" }, p.rewrite_uri { template = "/seen" } } } },
  } } },
}]==]

local function files(port, text)
  return { ["gateway.lua"] = ((text or config):gsub("DIR", dir):gsub("PORT", tostring(port))) }
end

describe("authentication_certificate", function()
  it("shows the backend its certificate, whichever backend is chosen, on connections of its own", function()
    local gw = moongate.gateway { files = files(1) }
    assert(gw:reload(files(gw:port("https"))))
    for _ = 1, 2 do -- the second time on kept connections
      for path, who in pairs { ["/bare"] = "nobody", ["/signed"] = "CN=own", ["/blue"] = "CN=blue",
        ["/green"] = "CN=green", ["/chosen"] = "CN=green" } do
        local answer = gw:get(path)
        assert.equal(200, answer.status)
        assert.equal(who, answer.body, path)
      end
    end
    gw:close()
  end)

  it("is refused at load when the file is none", function()
    assert.matches("nowhere.pem", moongate.errors { files = files(1,
      (config:gsub('DIR/" .. name .. ".pem', 'DIR/nowhere.pem'))) })
  end)
end)
