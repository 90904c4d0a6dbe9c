-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local ffi = require("ffi")
local net = require("spec.unit.net.support")
local C = net.C

describe("listen addresses", function()
  local function parse(text)
    local address = ffi.new("struct moon_listen_address")
    local rc = C.moon_listen_address_parse(text, address)
    return rc == 0 and ffi.string(address.text) or net.rc(rc)
  end

  it("are read in all their forms", function()
    for text, want in pairs({
      ["0.0.0.0:8080"] = "0.0.0.0:8080",
      ["127.0.0.1:0"] = "127.0.0.1:0",
      ["[::1]:443"] = "[::1]:443",
      ["[::]:8080"] = "[::]:8080",
      [":80"] = "*:80",
      ["80"] = "*:80",
      ["*:80"] = "*:80",
      ["localhost:80"] = "127.0.0.1:80",
      ["unix:/run/x.sock"] = "unix:/run/x.sock",
    }) do
      assert.equal(want, parse(text))
    end
  end)

  it("are refused when they are none", function()
    for _, text in ipairs({ "", ":", "host:80", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "::1:80",
      "[1.2.3.4:80", "[::1]80", "1.2.3.4:-1", "1.2.3.4:8x", "unix:", "unix:" .. ("x"):rep(200) }) do
      assert.equal("config", parse(text), text)
    end
  end)
end)

describe("a listener", function()
  after_each(net.close_loop)

  it("accepts many connections", function()
    local fds, clients = {}, {}
    local l = net.listen(function(fd)
      fds[#fds + 1] = fd
    end)
    for i = 1, 60 do
      clients[i] = net.connect(l.port)
    end
    assert.is_true(net.turn_until(function()
      return #fds == 60
    end))
    for i = 1, 60 do
      clients[i]:close()
      C.close(fds[i])
    end
    l.close()
  end)

  it("says what could not be bound and why", function()
    local l = net.listen(function() end)
    local other, err = net.listen(function() end, "127.0.0.1:" .. l.port)
    assert.is_nil(other)
    local want = "cannot listen on 127.0.0.1:" .. l.port .. ": Address already in use"
    assert.matches(want, err, 1, true)
    l.close()
  end)

  it("takes over the file of a UNIX socket that nobody listens on, and no other", function()
    local path = os.tmpname()
    os.remove(path)
    local l = assert(net.listen(function() end, "unix:" .. path))
    assert.is_nil((net.listen(function() end, "unix:" .. path)))
    l.close()
    local again = assert(net.listen(function(fd)
      C.close(fd)
    end, "unix:" .. path))
    local client = net.connect(nil, nil, nil, "unix:" .. path)
    assert.is_true(net.turn_until(function()
      return client.result == "eof"
    end))
    client:close()
    again.close()
    os.remove(path)
  end)
end)
