-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local ffi = require("ffi")
local net = require("spec.unit.net.support")
local tls = require("spec.unit.net.tls_support")
local C = net.C
local text = net.helper.text

local NONE, OPTIONAL, REQUIRED = 0, 1, 2

describe("TLS", function()
  local ca, clients_ca, api, api_rsa, wild, other
  local open, closers, restore_log

  setup(function()
    ca = tls.ca("ca")
    clients_ca = tls.ca("clients")
    api = tls.certificate("ca", "api", { "api.contoso.test", "127.0.0.1" })
    api_rsa = tls.certificate("ca", "api_rsa", { "api.contoso.test" }, "rsa")
    wild = tls.certificate("ca", "wild", { "*.contoso.test" })
    other = tls.certificate("ca", "other", { "portal.example.test" })
  end)

  teardown(tls.remove_dir)

  before_each(function()
    open, closers = {}, {}
    restore_log = select(2, net.catch_log())
  end)

  after_each(function()
    for _, s in ipairs(open) do
      s:close()
    end
    for _, close in ipairs(closers) do
      close()
    end
    net.close_loop()
    restore_log()
  end)

  local function server(conf)
    local s = assert(tls.server(conf))
    closers[#closers + 1] = function()
      C.moon_tls_server_release(s)
    end
    return s
  end

  local function client(conf)
    conf.ca = conf.ca or ca
    local c = assert(tls.client(conf))
    closers[#closers + 1] = function()
      C.moon_tls_client_release(c)
    end
    return c
  end

  --- A listener that answers over TLS; `l.last` is the newest connection.
  local function serve(s)
    local l
    l = net.listen(function(fd)
      l.last = net.accept(fd, type(s) == "function" and s() or s)
      open[#open + 1] = l.last
    end)
    closers[#closers + 1] = l.close
    return l
  end

  --- Connects, waits for the outcome on both sides. @return client stream, its state
  local function connect(l, c, name)
    l.last = nil
    local s = assert(net.connect(l.port, c, name or "api.contoso.test"))
    open[#open + 1] = s
    assert.is_true(net.turn_until(function()
      return s:state() ~= "again" and l.last and l.last:state() ~= "again"
    end))
    return s, s:state()
  end

  --- One exchange, so that tickets arrive.
  local function exchange(l, s)
    assert.equal("ok", s:write("ping"))
    assert.is_true(net.turn_until(function()
      return l.last:text() == "ping"
    end))
    assert.equal("ok", l.last:write("pong"))
    assert.is_true(net.turn_until(function()
      return s:text() == "pong"
    end))
  end

  describe("a connection", function()
    it("is made, verified, and tells what it has become", function()
      local l = serve(server({ certificates = { api }, is_http2 = true }))
      local s, state = connect(l, client({ is_http2 = true }))
      assert.equal("ok", state)
      exchange(l, s)
      local info = l.last:tls()
      assert.equal("TLSv1.3", ffi.string(info.version))
      assert.equal("TLS_AES_128_GCM_SHA256", ffi.string(info.cipher))
      assert.equal("api.contoso.test", text(info.sni))
      assert.equal("h2", text(info.alpn))
      assert.equal("h2", text(s:tls().alpn))
      assert.matches("^t13d%d%d%d%dh2_%x+_%x+$", text(info.ja4))
      assert.equal(36, #text(info.ja4))
      assert.is_false(info.is_resumed)
      assert.is_false(info.has_client_certificate)
    end)

    it("carries megabytes both ways under back-pressure", function()
      local l = serve(server({ certificates = { api } }))
      local s = connect(l, client({}))
      local big = ("0123456789abcdef"):rep(128 * 1024) -- 2 MiB
      local up, down = s:write("head:", big), l.last:write(big, ":tail")
      assert.is_true(up == "ok" or up == "again")
      assert.is_true(down == "ok" or down == "again")
      s:write("more")
      assert.is_true(net.turn_until(function()
        return #l.last:text() == #big + 9 and #s:text() == #big + 5
      end, 10000))
      assert.is_true(l.last:text() == "head:" .. big .. "more")
      assert.is_true(s:text() == big .. ":tail")
    end)

    it("sends small pieces as one record", function()
      local l = serve(server({ certificates = { api } }))
      local s = connect(l, client({}))
      l.last.on_readable = function() end
      s:write("HTTP/1.1 200 OK\r\n", "", "Content-Length: 2\r\n\r\n", "hi")
      net.turn(100)
      local rc, n = l.last:read_once(16384)
      assert.equal("ok", rc)
      assert.equal(40, n)
      assert.equal("again", (l.last:read_once()))
    end)

    it("gives what waits inside it although the socket is silent", function()
      local l = serve(server({ certificates = { api } }))
      local s = connect(l, client({}))
      l.last.on_readable = function(peer)
        peer.buf.ceiling = #peer:text() + 1000 -- a thousand bytes a call
        peer:read_once(1000)
      end
      s:write(("x"):rep(3500))
      assert.is_true(net.turn_until(function()
        return #l.last:text() == 3500
      end))
      -- the same with a pause in between
      local chunks = 0
      l.last.on_readable = function(peer)
        chunks = chunks + 1
        peer.buf.ceiling = #peer:text() + 1000
        peer:read_once(1000)
        C.moon_stream_pause_reading(peer.c, true)
      end
      s:write(("y"):rep(1500))
      net.turn(100)
      net.turn(20)
      assert.equal(1, chunks)
      assert.is_true(C.moon_stream_has_pending(l.last.c))
      C.moon_stream_pause_reading(l.last.c, false)
      net.turn(20)
      assert.equal(2, chunks)
      assert.equal(5000, #l.last:text())
    end)

    it("ends cleanly by close_notify, and a cut one does not look whole to a client", function()
      local l = serve(server({ certificates = { api } }))
      local s = connect(l, client({}))
      C.moon_stream_shutdown_write(l.last.c)
      assert.is_true(net.turn_until(function()
        return s.result == "eof"
      end))
      s = connect(l, client({}))
      ffi.cdef("int shutdown(int fd, int how);")
      ffi.C.shutdown(C.moon_stream_fd(l.last.c), 1) -- FIN without close_notify
      assert.is_true(net.turn_until(function()
        return s.result == "io"
      end))
      local t = connect(l, client({}))
      ffi.C.shutdown(C.moon_stream_fd(t.c), 1)
      assert.is_true(net.turn_until(function()
        return l.last.result == "eof"
      end))
    end)

    it("tells whether anything but the end is left, and gives what it took in for that", function()
      local l = serve(server({ certificates = { api } }))
      local s = connect(l, client({}))
      exchange(l, s)
      s.on_readable = function() end
      assert.is_false(C.moon_stream_has_ended(s.c))
      l.last:write("x")
      assert.is_false(C.moon_stream_has_ended(s.c)) -- the record is inside now
      s.on_readable = function(peer)
        peer:read_once()
      end
      assert.is_true(net.turn_until(function()
        return s:text() == "pongx"
      end))
      s.on_readable = function() end
      C.moon_stream_shutdown_write(l.last.c)
      net.turn(10)
      assert.is_true(C.moon_stream_has_ended(s.c))
      s.on_readable = function(peer)
        peer:read_once()
      end
      assert.is_true(net.turn_until(function()
        return s.result == "eof"
      end))
    end)

    it("survives bytes that are no TLS", function()
      local l = serve(server({ certificates = { api } }))
      local s = net.connect(l.port)
      open[#open + 1] = s
      s:write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.is_true(net.turn_until(function()
        return l.last and l.last:state() == "tls"
      end))
      assert.equal("tls", l.last.result)
    end)

    it("may be freed by the callback that ends its handshake", function()
      local l
      l = net.listen(function(fd)
        l.last = net.accept(fd, l.server)
        l.last.on_readable = function(peer)
          peer:close()
        end
      end)
      closers[#closers + 1] = l.close
      l.server = server({ certificates = { api } })
      local s = assert(net.connect(l.port, client({}), "api.contoso.test"))
      open[#open + 1] = s
      assert.is_true(net.turn_until(function()
        return s.result == "eof" or s.result == "io"
      end))
    end)
  end)

  describe("the choice of a certificate", function()
    local l

    local function subject(name, arguments)
      local pipe = io.popen(("timeout 20 openssl s_client -connect 127.0.0.1:%d %s %s </dev/null " ..
        "2>/dev/null | openssl x509 -noout -subject 2>&1; echo done >> %s/done")
        :format(l.port,
        name and "-servername " .. name or "-noservername", arguments or "", tls.dir()))
      -- the program runs beside us: turn the loop until it has written
      local done = tls.dir() .. "/done"
      assert.is_true(net.turn_until(function()
        local file = io.open(done)
        return file and file:close() or false
      end))
      os.remove(done)
      local out = pipe:read("*a")
      pipe:close()
      return out:match("CN = ([%w_]+)")
    end

    it("goes by the exact name, then the wildcard, then the first", function()
      l = serve(server({ certificates = { other, api, wild } }))
      assert.equal("api", subject("api.contoso.test"))
      assert.equal("api", subject("API.Contoso.TEST"))
      assert.equal("wild", subject("shop.contoso.test"))
      assert.equal("other", subject("a.shop.contoso.test")) -- one label only
      assert.equal("other", subject("contoso.test"))
      assert.equal("other", subject("unknown.test"))
      assert.equal("other", subject(nil))
    end)

    it("goes by what the client can verify", function()
      l = serve(server({ certificates = { api_rsa, api } }))
      assert.equal("api", subject("api.contoso.test", "-sigalgs ECDSA+SHA256"))
      assert.equal("api_rsa", subject("api.contoso.test", "-sigalgs RSA-PSS+SHA256"))
      assert.equal("api_rsa", subject("api.contoso.test", "-tls1_2 -sigalgs RSA+SHA256"))
    end)

    it("gives a client without ECDSA the wildcard's RSA", function()
      local wild_rsa = tls.certificate("ca", "wild_rsa", { "*.contoso.test" }, "rsa")
      l = serve(server({ certificates = { wild_rsa, api } }))
      assert.equal("api", subject("api.contoso.test", "-sigalgs ECDSA+SHA256"))
      assert.equal("wild_rsa", subject("api.contoso.test", "-sigalgs RSA-PSS+SHA256"))
    end)

    it("refuses old versions, and all but TLS 1.3 when modern", function()
      l = serve(server({ certificates = { api } }))
      assert.equal("api", subject("api.contoso.test", "-tls1_2"))
      assert.is_nil(subject("api.contoso.test", "-tls1_1 -cipher ALL:@SECLEVEL=0"))
      assert.is_nil(subject("api.contoso.test", "-tls1_2 -cipher AES128-SHA"))
      l = serve(server({ certificates = { api }, preset = "modern" }))
      assert.is_nil(subject("api.contoso.test", "-tls1_2"))
      assert.equal("api", subject("api.contoso.test", "-tls1_3"))
    end)

    it("ends a handshake that offers only unknown protocols", function()
      l = serve(server({ certificates = { api } }))
      assert.equal("api", subject("api.contoso.test", "-alpn http/1.1"))
      assert.is_nil(subject("api.contoso.test", "-alpn ftp"))
    end)
  end)

  describe("a client", function()
    it("refuses another name, an unknown CA, and an expired certificate", function()
      local l = serve(server({ certificates = { api } }))
      local lines, restore = net.catch_log()
      local _, state = connect(l, client({}), "portal.example.test")
      assert.equal("tls", state)
      _, state = connect(l, client({ ca = clients_ca }))
      assert.equal("tls", state)
      _, state = connect(l, client({ is_verified = false, ca = clients_ca }))
      assert.equal("ok", state)
      _, state = connect(l, client({}), "127.0.0.1")
      assert.equal("ok", state)
      restore()
      local log = table.concat(lines)
      assert.matches("hostname mismatch", log, 1, true)
      assert.matches("unable to get local issuer certificate", log, 1, true)
    end)

    it("needs a name to verify, and takes the configured one", function()
      local l = serve(server({ certificates = { api } }))
      assert.same({ nil, "config" }, { net.connect(l.port, client({}), nil) })
      local s, state = connect(l, client({ server_name = "api.contoso.test" }), "10.1.2.3")
      assert.equal("ok", state)
      assert.equal("api.contoso.test", text(l.last:tls().sni))
      exchange(l, s)
    end)

    it("sends what was written before the handshake", function()
      local l = serve(server({ certificates = { api } }))
      local s = assert(net.connect(l.port, client({}), "api.contoso.test"))
      open[#open + 1] = s
      assert.equal("again", s:write("early"))
      assert.is_true(net.turn_until(function()
        return l.last and l.last:text() == "early"
      end))
    end)

    it("names the file that is wrong", function()
      local function err(conf)
        local c, message = tls.client(conf)
        assert.is_nil(c)
        return message
      end
      assert.matches("/nowhere/ca.pem", err({ ca = "/nowhere/ca.pem" }), 1, true)
      assert.matches("no key beside it", err({ certificate = api.certificate }), 1, true)
      assert.matches("expected TLSv1.2 or TLSv1.3", err({ minimum = "SSLv3" }), 1, true)
    end)
  end)

  describe("resumption", function()
    it("works across workers that share ticket keys, also by the key before", function()
      local tickets = tls.tickets()
      local one = server({ certificates = { api }, tickets = tickets })
      local two = server({ certificates = { api }, tickets = tickets })
      local current = one
      local l = serve(function()
        return current
      end)
      local c = client({})
      local s = connect(l, c)
      exchange(l, s)
      s:close()
      current = two
      s = connect(l, c)
      assert.is_true(l.last:tls().is_resumed)
      assert.is_true(s:tls().is_resumed)
      exchange(l, s)
      s:close()
      tls.C.moon_tls_ticket_rotate(tickets, 2)
      s = connect(l, c)
      assert.is_true(s:tls().is_resumed)
      s:close() -- without reading: the session on file is still by the key before
      for _ = 1, 3 do
        tls.C.moon_tls_ticket_rotate(tickets, 3)
      end
      s = connect(l, c)
      assert.is_false(s:tls().is_resumed)
      exchange(l, s)
    end)

    it("is not offered without tickets", function()
      local l = serve(server({ certificates = { api }, has_tickets = false }))
      local c = client({})
      for _ = 1, 2 do
        local s = connect(l, c)
        exchange(l, s)
        assert.is_false(s:tls().is_resumed)
        s:close()
      end
    end)

    it("works in TLS 1.2 too", function()
      local l = serve(server({ certificates = { api }, tickets = tls.tickets() }))
      local out
      local pipe = io.popen(("cd %s && timeout 20 openssl s_client -connect 127.0.0.1:%d -tls1_2 " ..
        "-reconnect </dev/null > out 2>&1; touch done"):format(tls.dir(), l.port))
      assert.is_true(net.turn_until(function()
        local file = io.open(tls.dir() .. "/done")
        return file and file:close() or false
      end))
      pipe:close()
      os.remove(tls.dir() .. "/done")
      out = io.open(tls.dir() .. "/out"):read("*a")
      local _, reused = out:gsub("Reused, TLSv1.2", "")
      assert.equal(5, reused)
    end)
  end)

  describe("client certificates", function()
    local alice, mallory

    setup(function()
      alice = tls.certificate("clients", "alice", { "alice.clients.test", "a2.clients.test" })
      mallory = tls.certificate("clients", "mallory", { "mallory.clients.test" })
      tls.crl("clients", { mallory.certificate })
    end)

    local function crl()
      return tls.dir() .. "/clients.crl"
    end

    local function settle(l, s)
      -- In TLS 1.3 the client is done before the server has looked at its certificate.
      net.turn_until(function()
        return l.last:state() ~= "ok" or s:state() ~= "ok" or l.last.readable_calls > 0
      end)
    end

    it("are required, verified, and described", function()
      local l = serve(server({ certificates = { api }, client_mode = REQUIRED,
        client_ca = clients_ca, client_crl = crl() }))
      local s = connect(l, client({ certificate = alice.certificate, key = alice.key }))
      settle(l, s)
      exchange(l, s)
      local info = l.last:tls()
      assert.is_true(info.has_client_certificate)
      assert.is_true(info.is_client_verified)
      assert.equal("CN=alice,O=Contoso", text(info.client_subject))
      assert.equal("CN=clients", text(info.client_issuer))
      assert.equal("alice", text(info.client_common_name))
      assert.equal("alice.clients.test,a2.clients.test", text(info.client_dns_names))
      assert.matches("^%x+$", text(info.client_serial))
      assert.matches("^%d%d%d%d%-%d%d%-%d%dT", text(info.client_not_after))
      local want = tls.sh("openssl x509 -noout -fingerprint -sha256 -in " .. alice.certificate)
      want = want:match("=([%x:]+)"):gsub(":", ""):lower()
      assert.equal(want, text(info.client_fingerprint))
      local pem = text(C.moon_stream_client_pem(l.last.c))
      assert.matches("^%-%-%-%-%-BEGIN CERTIFICATE", pem)
    end)

    it("are refused when missing, revoked or by another CA", function()
      local l = serve(server({ certificates = { api }, client_mode = REQUIRED,
        client_ca = clients_ca, client_crl = crl() }))
      for _, conf in ipairs({ {}, { certificate = mallory.certificate, key = mallory.key },
        { certificate = api.certificate, key = api.key } }) do
        local s = connect(l, client(conf))
        settle(l, s)
        assert.equal("tls", l.last:state())
      end
    end)

    it("are judged but not enforced when optional", function()
      local l = serve(server({ certificates = { api }, client_mode = OPTIONAL,
        client_ca = clients_ca, client_crl = crl() }))
      local s = connect(l, client({}))
      exchange(l, s)
      assert.is_false(l.last:tls().has_client_certificate)
      s = connect(l, client({ certificate = mallory.certificate, key = mallory.key }))
      exchange(l, s)
      local info = l.last:tls()
      assert.is_true(info.has_client_certificate)
      assert.is_false(info.is_client_verified)
      assert.equal("certificate revoked", text(info.client_verify_error))
      s = connect(l, client({ certificate = alice.certificate, key = alice.key }))
      exchange(l, s)
      assert.is_true(l.last:tls().is_client_verified)
    end)

    it("are not brought back by a ticket after the CRL has named them", function()
      local bob = tls.certificate("clients", "bob", { "bob.clients.test" })
      local s_conf = { certificates = { api }, client_mode = REQUIRED, client_ca = clients_ca,
        client_crl = crl(), tickets = tls.tickets() }
      local srv = server(s_conf)
      local l = serve(srv)
      local c = client({ certificate = bob.certificate, key = bob.key })
      for i = 1, 2 do
        local s = connect(l, c)
        settle(l, s)
        exchange(l, s)
        assert.equal(i == 2, l.last:tls().is_resumed)
        assert.is_true(l.last:tls().is_client_verified)
        s:close()
      end
      tls.crl("clients", { mallory.certificate, bob.certificate })
      assert.is_true(tls.C.moon_tls_server_refresh(srv))
      local s = connect(l, c)
      settle(l, s)
      assert.equal("tls", l.last:state())
    end)
  end)

  describe("files", function()
    it("are taken when they change, and connections stay", function()
      local pair = tls.certificate("ca", "renewed", { "api.contoso.test" }, "ecdsa", 5)
      local srv = server({ certificates = { pair } })
      local l = serve(srv)
      -- other specs may have moved the virtual clock
      local ahead = tonumber(C.moon_clock_wall_ms()) / 86400000 - os.time() / 86400
      local days = tonumber(tls.C.moon_tls_server_expires_in_s(srv, nil)) / 86400 + ahead
      assert.is_true(days > 4.9 and days < 5.1)
      assert.is_false(tls.C.moon_tls_server_refresh(srv))
      local before, first = connect(l, client({})), l.last
      tls.certificate("ca", "renewed", { "api.contoso.test" }, "ecdsa", 9)
      assert.is_true(tls.C.moon_tls_server_refresh(srv))
      days = tonumber(tls.C.moon_tls_server_expires_in_s(srv, nil)) / 86400 + ahead
      assert.is_true(days > 8.9 and days < 9.1)
      connect(l, client({}))
      before:write("still here")
      assert.is_true(net.turn_until(function()
        return first:text() == "still here"
      end))
    end)

    it("are left alone while they are broken", function()
      local pair = tls.certificate("ca", "breaking", { "api.contoso.test" })
      local srv = server({ certificates = { pair } })
      local l = serve(srv)
      tls.sh("cp " .. api.key .. " " .. pair.key)
      local lines, restore = net.catch_log()
      assert.is_false(tls.C.moon_tls_server_refresh(srv))
      assert.is_false(tls.C.moon_tls_server_refresh(srv))
      restore()
      assert.equal(1, #lines)
      assert.matches("is not the key of", lines[1], 1, true)
      local _, state = connect(l, client({}))
      assert.equal("ok", state)
    end)

    it("are named when they are wrong", function()
      local function err(conf)
        local s, message = tls.server(conf)
        assert.is_nil(s)
        return message
      end
      local nowhere = { certificate = "/nowhere/a.pem", key = api.key }
      assert.matches("/nowhere/a.pem: No such file", err({ certificates = { nowhere } }), 1, true)
      assert.matches("is no PEM certificate chain",
        err({ certificates = { { certificate = api.key, key = api.key } } }), 1, true)
      assert.matches("is no unencrypted PEM private key",
        err({ certificates = { { certificate = api.certificate, key = api.certificate } } }), 1,
        true)
      assert.matches("is not the key of",
        err({ certificates = { { certificate = api.certificate, key = wild.key } } }), 1, true)
      assert.matches("expected modern or intermediate",
        err({ certificates = { api }, preset = "old" }), 1, true)
      assert.matches("at least one certificate", err({ certificates = {} }), 1, true)
      assert.matches("need a file of CAs", err({ certificates = { api }, client_mode = REQUIRED }),
        1, true)
      assert.matches("CRLs", err({ certificates = { api }, client_mode = REQUIRED,
        client_ca = clients_ca, client_crl = clients_ca }), 1, true)
      tls.sh(("openssl rsa -aes128 -passout pass:x -in %s -out %s/locked.key"):format(api_rsa.key,
        tls.dir()))
      assert.matches("is no unencrypted PEM private key", err({ certificates = { {
        certificate = api_rsa.certificate, key = tls.dir() .. "/locked.key" } } }), 1, true)
    end)

    it("hold an OCSP response that is stapled while it is fresh", function()
      local base = tls.dir() .. "/"
      local serial = tls.sh("openssl x509 -noout -serial -in " .. api.certificate):match("=(%x+)")
      local index = io.open(base .. "ocsp.db", "w")
      index:write(("V\t350101000000Z\t\t%s\tunknown\t/CN=api\n"):format(serial))
      index:close()
      tls.sh(("cd %s && openssl ocsp -issuer ca.pem -cert api.pem -reqout req.der -no_nonce && " ..
        "openssl ocsp -index ocsp.db -rsigner ca.pem -rkey ca.key -CA ca.pem -reqin req.der " ..
        "-respout api.ocsp -ndays 3650"):format(base))
      local l = serve(server({ certificates = { { certificate = api.certificate, key = api.key,
        ocsp = base .. "api.ocsp" } } }))
      local pipe = io.popen(("cd %s && timeout 20 openssl s_client -connect 127.0.0.1:%d -status " ..
        "-servername api.contoso.test </dev/null > out 2>&1; touch done"):format(base, l.port))
      assert.is_true(net.turn_until(function()
        local file = io.open(base .. "done")
        return file and file:close() or false
      end))
      pipe:close()
      os.remove(base .. "done")
      assert.matches("OCSP Response Status: successful", io.open(base .. "out"):read("*a"), 1, true)
      local s, message = tls.server({ certificates = { { certificate = api.certificate,
        key = api.key, ocsp = api.certificate } } })
      assert.is_nil(s)
      assert.matches("no successful OCSP response", message, 1, true)
    end)
  end)

  assert(NONE == 0)
end)
