-- SPDX-License-Identifier: Apache-2.0
--- TLS with clients, which are openssl and curl: certificates by name and kind, files that change under
--- a running gateway, stapling, client certificates and their revocation, resumption on any worker.

local gateway = require("spec.support.gateway")
local socket = require("socket")

local CONFIG = [[
local p, reply = require("moongate.policies"), require("moongate.reply")
local function tell(ctx)
  local tls = ctx.request.tls
  local client = tls.client
  return reply.text(200, (client and client.subject or "nobody") .. " " .. tostring(client and client.verified)
    .. " " .. tostring(tls.ja4), { ["X-Pem"] = client and client.pem:gsub("\n", ".") })
end
local certificates = {
  { certificate = "DIR/exact.pem", key = "DIR/exact.key", ocsp = "DIR/exact.ocsp" },
  { certificate = "DIR/exact-rsa.pem", key = "DIR/exact-rsa.key" },
  { certificate = "DIR/wild.pem", key = "DIR/wild.key" },
}
return {
  name = "spec", workers = 2,
  listeners = {
    { name = "https", address = "127.0.0.1:8443", http2 = true, tls = { certificates = certificates,
      client = { ca = "DIR/ca.pem", mode = "optional" } } },
    { name = "mutual", address = "127.0.0.1:8444", tls = { certificates = certificates, preset = "modern",
      client = { ca = "DIR/ca.pem", crl = "DIR/ca.crl" } } },
  },
  management = { address = "127.0.0.1:3443" },
  sites = {
    { hosts = { "mine.test" }, policies = { inbound = { p.validate_client_certificate {
      identities = { { common_name = "friend" } } }, tell } }, routes = { { path = "/*", reply = { status = 200 } } } },
    { hosts = { "*" }, policies = { inbound = { tell } }, routes = { { path = "/*", reply = { status = 200 } } } },
  },
}
]]

-- A CA; NAME.pem for each name; what it says of them by OCSP; `gone` is revoked.
local MAKE = [[
set -e
cd '%s'
: >index
cat >ca.cnf <<END
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = 2
rand_serial = yes
unique_subject = no
copy_extensions = copy
policy = any
[any]
commonName = supplied
END
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 5 -subj /CN=CA -keyout ca.key -out ca.pem
make() {
  name=$1 days=$2 san=$3
  shift 3
  openssl req "$@" -nodes -subj /CN=$name -addext subjectAltName=$san -keyout $name.key -out $name.csr
  openssl ca -batch -config ca.cnf -in $name.csr -out $name.pem -notext -days $days
}
ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256'
make exact 3 DNS:exact.test $ec
make exact-rsa 3 DNS:exact.test -newkey rsa:2048
make wild 3 DNS:*.wild.test $ec
make next 4 DNS:exact.test $ec
make friend 3 DNS:friend $ec
make gone 3 DNS:gone $ec
openssl ocsp -index index -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert exact.pem -ndays 1 -noverify \
  -respout exact.ocsp
openssl ca -config ca.cnf -revoke gone.pem
openssl ca -config ca.cnf -gencrl -out ca.crl
]]

describe("TLS with clients", function()
  if not gateway.is_there() then
    pending("needs a built gateway")
    return
  end

  local gw, dir, port, mutual, management

  setup(function()
    dir = gateway.run("mktemp -d /tmp/moongate-spec.XXXXXX"):match("%S+")
    local output, status = gateway.run("(" .. MAKE:format(dir) .. ")")
    assert(status == 0, output)
    gateway.run("mkdir '" .. dir .. "/config'")
    local file = assert(io.open(dir .. "/config/gateway.lua", "wb"))
    file:write(CONFIG)
    file:close()
    port, mutual, management = gateway.free_ports(3)
    gw = gateway.start({ from = dir .. "/config", port = port, replace = { DIR = dir, ["8443"] = tostring(port),
      ["8444"] = tostring(mutual), ["3443"] = tostring(management) } })
  end)

  teardown(function()
    if gw then
      gw:stop()
    end
    gateway.run(("rm -rf '%s'"):format(dir))
  end)

  local function s_client(options, to)
    return (gateway.run(("cd '%s'; timeout 10 openssl s_client -connect 127.0.0.1:%d -CAfile ca.pem %s </dev/null")
      :format(dir, to or port, options)))
  end

  local function subject(options)
    return s_client(options):match("subject=CN = (%S+)")
  end

  local function curl(options, to)
    return gateway.run(("cd '%s'; curl -s -m 10 --cacert ca.pem --resolve exact.test:%d:127.0.0.1 "
      .. "https://exact.test:%d/ %s"):format(dir, to or port, to or port, options or ""))
  end

  it("shows the certificate of the name that is asked for, exact before wildcard, the first to others", function()
    assert.equal("exact", subject("-servername exact.test"))
    assert.equal("wild", subject("-servername any.wild.test"))
    assert.equal("exact", subject("-servername other.test"))
    assert.equal("exact", subject("-noservername"))
  end)

  it("shows the kind of certificate that the client can verify", function()
    assert.equal("exact-rsa", subject("-servername exact.test -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256"))
    assert.equal("exact", subject("-servername exact.test -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256"))
  end)

  it("staples what the file says", function()
    assert.matches("OCSP Response Status: successful", s_client("-servername exact.test -status"))
    assert.matches("OCSP response: no response sent", s_client("-servername a.wild.test -status"))
  end)

  it("speaks what the preset says: 1.2 and 1.3, or 1.3 alone", function()
    assert.matches("TLSv1.2", s_client("-servername exact.test -tls1_2"))
    assert.matches("Cipher is %(NONE%)", s_client("-servername exact.test -tls1_1 -cipher ALL:@SECLEVEL=0"))
    assert.matches("Cipher is %(NONE%)", s_client("-servername exact.test -tls1_2", mutual))
  end)

  it("resumes a session on whichever worker comes next", function()
    s_client("-servername exact.test -tls1_2 -sess_out session.pem")
    for _ = 1, 6 do
      assert.matches("Reused, TLSv1.2", s_client("-servername exact.test -tls1_2 -sess_in session.pem"))
    end
  end)

  it("tells policies who the client is, and by which hello it came", function()
    local body = curl("--cert friend.pem --key friend.key")
    local head = curl("--cert friend.pem --key friend.key -o /dev/null -D -")
    local pem = io.open(dir .. "/friend.pem"):read("*a"):match("%-%-%-%-%-BEGIN CERT.-END CERTIFICATE%-%-%-%-%-\n")
    assert.equal(pem, (head:match("[Xx]%-[Pp]em: ([^\r\n]*)"):gsub("%.", "\n")))
    assert.matches("^CN=friend true t13d", body)
    assert.matches("^nobody nil t13d", (curl()))
  end)

  it("asks for a site's certificate whatever name the handshake was for, in both versions of HTTP", function()
    local status = "-o /dev/null -w '%{http_code}' -H 'Host: mine.test' "
    for _, version in ipairs { "--http1.1", "--http2" } do
      assert.equal("403", (curl(status .. version)))
      assert.equal("200", (curl(status .. version .. " --cert friend.pem --key friend.key")))
      assert.equal("403", (curl(status .. version .. " --cert next.pem --key next.key")))
      -- One connection, two sites: the second is not let in by the first.
      assert.equal("200403", (curl(("-o /dev/null -w '%%{http_code}' %s --next -s -m 10 --cacert ca.pem "
        .. "--resolve exact.test:%d:127.0.0.1 https://exact.test:%d/ %s")
        :format(version, port, port, status .. version))))
    end
  end)

  it("lets bot_protection know programs by their hello, whatever they call themselves", function()
    local print_of_curl = curl(""):match("(t13d%w+_%w+_%w+)")
    local folder, at = dir .. "/bots", gateway.free_ports(1)
    gateway.run("mkdir '" .. folder .. "'")
    local file = assert(io.open(folder .. "/gateway.lua", "wb"))
    file:write(([[
local p = require("moongate.policies")
return { name = "bots",
  listeners = { { name = "https", address = "127.0.0.1:PORT", tls = { certificates = {
    { certificate = "%s/exact.pem", key = "%s/exact.key" } } } } },
  sites = { { hosts = { "*" }, policies = { inbound = { p.bot_protection { fingerprints = { ["%s"] = "scanner" },
    actions = { scanner = "block" } } } }, routes = { { path = "/*", reply = { status = 200, body = "inside" } } } } },
}]]):format(dir, dir, print_of_curl))
    file:close()
    local bots = gateway.start({ from = folder, port = at, replace = { PORT = tostring(at) } })
    finally(function()
      bots:stop()
    end)
    local browser = "-A 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0'"
    assert.matches("BotBlocked", curl(browser .. " -i", at))
    assert.matches("inside", curl(browser .. " --tls-max 1.2", at)) -- another hello
  end)

  it("lets nobody in without a certificate where one is required, and no one who is revoked", function()
    assert.matches("^CN=friend true", (curl("--cert friend.pem --key friend.key", mutual)))
    assert.not_equal(0, (select(2, curl("", mutual))))
    assert.not_equal(0, (select(2, curl("--cert gone.pem --key gone.key", mutual))))
  end)

  it("warns of a certificate that is about to expire, in log and metric", function()
    local deadline = socket.gettime() + 20
    while not gw:log():find("certificate expires", 1, true) and socket.gettime() < deadline do
      socket.sleep(0.1)
    end
    assert.matches("certificate expires in_days=2 listener=https file=" .. dir:gsub("%p", "%%%0"), gw:log())
    local metrics = gateway.run(("curl -s http://127.0.0.1:%d/metrics"):format(management))
    local left = tonumber(metrics:match('moongate_certificate_expires_seconds{listener="https"} (%d+)'))
    assert.is_true(left > 2 * 86400 and left <= 3 * 86400)
  end)

  it("takes files that changed, without a reload and without cutting a connection", function()
    -- One connection, asked before and after.
    gateway.run(("cd '%s'; curl -s -k --rate 20/m -w '%%{num_connects}\\n' --resolve exact.test:%d:127.0.0.1 "
      .. "https://exact.test:%d/1 https://exact.test:%d/2 >'%s/two' 2>&1 & true"):format(dir, port, port, port, dir))
    gateway.run(("sleep 0.3; cd '%s'; cp next.key new.key; cp next.pem new.pem; mv new.key exact.key; "
      .. "mv new.pem exact.pem"):format(dir))
    local deadline = socket.gettime() + 30
    local seen
    repeat
      socket.sleep(0.2)
      seen = 0
      for _ = 1, 4 do -- on both workers
        seen = seen + (subject("-servername exact.test") == "next" and 1 or 0)
      end
    until seen == 4 or socket.gettime() > deadline
    assert.equal(4, seen)
    assert.matches("certificates were replaced listener=https", gw:log())
    local two
    repeat
      socket.sleep(0.1)
      two = gateway.run("cat '" .. dir .. "/two'")
    until select(2, two:gsub("nobody nil", "")) == 2 or socket.gettime() > deadline
    assert.matches("nobody nil %S+1\n", two)
    assert.matches("nobody nil %S+0\n", two) -- the second request made no connection
  end)
end)
