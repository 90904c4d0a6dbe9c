-- SPDX-License-Identifier: Apache-2.0
--- TLS to backends, whose other end is Node's own: who is verified, by what name, with which
--- certificate of ours, and how sessions come back.

local gateway = require("spec.support.gateway")
local nodes = require("spec.support.node")
local json = require("cjson")


local CONFIG = [[
local reply = require("moongate.reply")
local CLIENT = { certificate = "DIR/client.pem", key = "DIR/client.key" }
local function policy_calls(ctx)
  local how = ctx.request.query.how
  local request = { url = "https://localhost:9001/", timeout = 5 }
  if how == "backend" then
    request = { backend = "good", path = "/" }
  elseif how == "mutual" then
    request.tls = { ca = "ca.pem", sni = "origin.test", certificate = CLIENT.certificate, key = CLIENT.key }
  elseif how == "bare" then
    request.tls = { ca = "DIR/ca.pem", sni = "origin.test" }
  elseif how == "other" then
    request.tls = { ca = "DIR/ca.pem", sni = "other.test", certificate = CLIENT.certificate, key = CLIENT.key }
  elseif how == "unverified" then
    request.tls = { verify = false, certificate = CLIENT.certificate, key = CLIENT.key }
  elseif how == "missing" then
    request.tls = { ca = "nowhere.pem" }
  elseif how == "half" then
    request.tls = { certificate = CLIENT.certificate }
  end
  local answer, err = ctx.http:request(request)
  if not answer then
    return reply.text(502, err)
  end
  return reply.text(answer.status, answer.body)
end
local function mutual(tls)
  return { targets = { "https://127.0.0.1:9001" }, retries = 0, keepalive = { idle = 0 }, tls = tls }
end
return {
  name = "spec", workers = 0,
  listeners = { { name = "http", address = "127.0.0.1:8080" } },
  backends = {
    good = mutual { ca = "DIR/ca.pem", sni = "origin.test", certificate = "DIR/client.pem", key = "DIR/client.key" },
    modern = mutual { ca = "DIR/ca.pem", sni = "origin.test", certificate = "DIR/client.pem", key = "DIR/client.key",
      min_version = "1.3" },
    bare = mutual { ca = "DIR/ca.pem", sni = "origin.test" },
    default = { targets = { "https://127.0.0.1:9002" }, retries = 0 },
    other_name = { targets = { "https://127.0.0.1:9002" }, retries = 0,
      tls = { ca = "DIR/ca.pem", sni = "other.test" } },
    unverified = { targets = { "https://127.0.0.1:9002" }, retries = 0, tls = { verify = false } },
    proxied = { targets = { "https://127.0.0.1:9003" }, retries = 0, proxy_protocol = "v1",
      tls = { ca = "DIR/ca.pem", sni = "origin.test" } },
  },
  sites = { { hosts = { "*" }, routes = {
    { path = "/good", backend = "good" }, { path = "/modern", backend = "modern" },
    { path = "/bare", backend = "bare" }, { path = "/default", backend = "default" },
    { path = "/other_name", backend = "other_name" }, { path = "/unverified", backend = "unverified" },
    { path = "/proxied", backend = "proxied" },
    { path = "/policy", backend = "good", policies = { inbound = { policy_calls } } } } } },
}
]]

local MAKE = [[
set -e
cd '%s'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=CA" -keyout ca.key -out ca.pem
for name in server client; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout $name.key -out $name.csr
  echo "subjectAltName=DNS:origin.test" >ext
  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $name.pem
done
]]

describe("TLS to a backend", function()
  if not (nodes.has({}) and gateway.is_there()) then
    pending("needs node and a built gateway")
    return
  end

  local gw, port, dir, node

  setup(function()
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local output, status = gateway.run("(" .. MAKE:format(dir) .. ")")
    assert(status == 0, output)
    local text
    node, text = nodes.start("tls_origin", "proxied=%d+", dir)
    gateway.run(("mkdir -p '%s/config' && cp '%s/ca.pem' '%s/config'"):format(dir, dir, dir))
    local file = assert(io.open(dir .. "/config/gateway.lua", "wb"))
    file:write(CONFIG)
    file:close()
    port = gateway.free_ports(1)
    gw = gateway.start({ from = dir .. "/config", port = port, replace = { ["8080"] = tostring(port), ["DIR"] = dir,
      ["9001"] = text:match("mutual=(%d+)"), ["9002"] = text:match("plain=(%d+)"),
      ["9003"] = text:match("proxied=(%d+)") } })
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
    if node then
      gateway.run("kill " .. node)
    end
    gateway.run(("rm -rf '%s'"):format(dir))
  end)

  local function get(path)
    local text = gateway.run(("curl -s -m 10 -w '\\n%%{http_code}' http://127.0.0.1:%d%s"):format(port, path))
    local body, status = text:match("^(.*)\n(%d+)%s*$")
    return tonumber(status), status == "200" and json.decode(body) or body
  end

  -- The reason in the last line of the access log.
  local function reason()
    local last
    for _ = 1, 100 do
      for line in gw:log():gmatch("[^\n]+") do
        last = line:match('^{.*"path":') and line or last
      end
      if last and last:find('"error"', 1, true) then
        break
      end
      gateway.run("sleep 0.02")
    end
    return last and last:match('"error":"([^"]*)"')
  end

  it("shows our certificate, and asks for the configured name", function()
    local status, seen = get("/good")
    assert.equal(200, status)
    assert.equal("origin.test", seen.servername)
    assert.equal("client", seen.client)
    assert.equal("TLSv1.3", seen.protocol)
  end)

  it("resumes sessions on new connections", function()
    get("/good")
    local _, seen = get("/good")
    assert.is_true(seen.reused)
    assert.equal("client", seen.client)
  end)

  it("is refused by a backend that wants a certificate", function()
    assert.equal(502, (get("/bare")))
  end)

  it("is verified by default: an unknown authority is 502, and the log says why", function()
    assert.equal(502, (get("/default")))
    assert.equal("upstream_tls", reason())
  end)

  it("is verified by name: another one is 502", function()
    assert.equal(502, (get("/other_name")))
    assert.equal("upstream_tls", reason())
  end)

  it("is not verified where the configuration says so", function()
    assert.equal(200, (get("/unverified")))
  end)

  it("keeps to the oldest version that is configured", function()
    local _, seen = get("/modern")
    assert.equal("TLSv1.3", seen.protocol)
  end)

  it("is what a policy's own requests speak too: as a backend does, or as they say themselves", function()
    for _, how in ipairs({ "backend", "mutual", "mutual", "unverified" }) do
      local status, seen = get("/policy?how=" .. how)
      assert.equal(200, status, how)
      assert.equal("client", seen.client)
      assert.equal(how == "unverified" and "localhost" or "origin.test", seen.servername)
    end
    for _, how in ipairs({ "bare", "other", "missing", "none" }) do
      assert.equal(502, (get("/policy?how=" .. how)), how)
    end
    assert.equal(500, (get("/policy?how=half")))
    assert.truthy(gw:log():find("tls.certificate and tls.key go together", 1, true))
    assert.truthy(gw:log():find("nowhere.pem", 1, true))
  end)

  it("comes behind the PROXY header", function()
    local status, seen = get("/proxied")
    assert.equal(200, status)
    assert.matches("^PROXY TCP4 127%.0%.0%.1 127%.0%.0%.1 %d+ " .. port .. "$", seen.proxy)
  end)
end)
