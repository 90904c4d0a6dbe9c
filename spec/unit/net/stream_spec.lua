-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local net = require("spec.unit.net.support")
local C = net.C

describe("a plain stream", function()
  local open

  before_each(function()
    open = {}
  end)

  after_each(function()
    for _, s in ipairs(open) do
      s:close()
    end
    net.close_loop()
  end)

  local function keep(s)
    open[#open + 1] = s
    return s
  end

  local function pair()
    local a, b = net.socketpair()
    return keep(net.accept(a)), keep(net.accept(b))
  end

  it("carries bytes both ways, several pieces in one write", function()
    local a, b = pair()
    assert.equal("ok", a:write("GET / ", "", "HTTP/1.1\r\n"))
    assert.equal("ok", b:write("hello"))
    assert.is_true(net.turn_until(function()
      return b:text() == "GET / HTTP/1.1\r\n" and a:text() == "hello"
    end))
    assert.equal(16, tonumber(C.moon_stream_bytes_read(a.c)))
    assert.equal("again", a.result)
  end)

  it("answers again without a system call once a short read has drained the socket", function()
    local a, b = pair()
    a:write("x")
    b.on_readable = function() end
    net.turn(100)
    assert.equal("ok", (b:read_once()))
    a:write("y")
    assert.equal("again", (b:read_once())) -- epoll has not told yet
    net.turn(100)
    assert.equal("ok", (b:read_once()))
    assert.equal("xy", b:text())
  end)

  it("tells the end once, and goes on writing", function()
    local a, b = pair()
    C.moon_stream_shutdown_write(a.c)
    assert.is_true(net.turn_until(function()
      return b.result == "eof"
    end))
    local calls = b.readable_calls
    net.turn(10)
    net.turn(10)
    assert.equal(calls, b.readable_calls)
    assert.equal("ok", b:write("still"))
    assert.is_true(net.turn_until(function()
      return a:text() == "still"
    end))
    assert.equal("io", a:write("no more"))
  end)

  it("tells whether anything but the end is left, and takes nothing by that", function()
    local a, b = pair()
    b.on_readable = function() end
    assert.is_false(C.moon_stream_has_ended(b.c))
    a:write("x")
    C.moon_stream_shutdown_write(a.c)
    net.turn(10)
    assert.is_false(C.moon_stream_has_ended(b.c))
    assert.equal("ok", (b:read_once()))
    assert.equal("x", b:text())
    assert.is_true(C.moon_stream_has_ended(b.c))
    b.on_readable = function(s)
      s:read_once()
    end
    assert.is_true(net.turn_until(function()
      return b.result == "eof"
    end))
    assert.is_true(C.moon_stream_has_ended(b.c))
  end)

  it("queues what the socket does not take, and tells when it is out", function()
    local a, b = pair()
    local big = ("0123456789abcdef"):rep(256 * 1024) -- 4 MiB
    b.on_readable = function() end
    C.moon_stream_pause_reading(b.c, true)
    assert.equal("again", a:write("head:", big))
    assert.is_true(C.moon_stream_queued(a.c) > 0)
    assert.equal("again", a:write("tail"))
    net.turn(10)
    assert.equal(0, a.writable_calls)
    b.on_readable = nil
    C.moon_stream_pause_reading(b.c, false)
    assert.is_true(net.turn_until(function()
      return #b:text() == 5 + #big + 4
    end))
    assert.is_true(b:text() == "head:" .. big .. "tail")
    assert.equal(1, a.writable_calls)
    assert.equal(0, tonumber(C.moon_stream_queued(a.c)))
  end)

  it("sends what is queued before the end", function()
    local a, b = pair()
    local big = ("x"):rep(2 * 1024 * 1024)
    b.on_readable = function() end
    assert.equal("again", a:write(big))
    C.moon_stream_shutdown_write(a.c)
    b.on_readable = nil
    assert.is_true(net.turn_until(function()
      return b.result == "eof"
    end))
    assert.equal(#big, #b:text())
  end)

  it("hears nothing while paused", function()
    local a, b = pair()
    net.turn(0)
    C.moon_stream_pause_reading(b.c, true)
    a:write("x")
    net.turn(20)
    assert.equal(0, b.readable_calls)
    C.moon_stream_pause_reading(b.c, false)
    net.turn(100)
    assert.equal("x", b:text())
  end)

  it("may be freed by its own callback", function()
    local a, b = pair()
    b.on_readable = function(s)
      s:close()
    end
    a:write("x")
    net.turn(100)
    assert.is_nil(b.c)
    assert.is_true(net.turn_until(function()
      return a.result == "eof" or a.result == "io"
    end))
  end)

  it("keeps what it read when the buffer is full", function()
    local a, b = pair()
    b.on_readable = function() end
    b.buf.ceiling = 4
    a:write("123456")
    net.turn(100)
    assert.equal("ok", (b:read_once()))
    assert.equal("limit", (b:read_once()))
    assert.equal("1234", b:text())
  end)

  describe("over TCP", function()
    local listener, accepted

    before_each(function()
      accepted = {}
      listener = net.listen(function(fd)
        accepted[#accepted + 1] = keep(net.accept(fd))
      end)
    end)

    after_each(function()
      listener.close()
    end)

    it("connects, and sends what was written before", function()
      local c = keep(net.connect(listener.port))
      assert.equal("again", c:state())
      assert.equal("again", c:write("early"))
      assert.is_true(net.turn_until(function()
        return accepted[1] and accepted[1]:text() == "early"
      end))
      assert.equal("ok", c:state())
      assert.equal(1, c.writable_calls)
    end)

    it("tells a refused connection", function()
      local port = listener.port
      listener.close()
      listener.close = function() end
      local c, rc = net.connect(port)
      if c then
        keep(c)
        assert.is_true(net.turn_until(function()
          return c.writable_calls > 0
        end))
        rc = c:state()
        assert.equal("refused", c:write("x"))
      end
      assert.equal("refused", rc)
    end)

    it("aborts with a reset", function()
      local c = keep(net.connect(listener.port))
      assert.is_true(net.turn_until(function()
        return #accepted == 1
      end))
      C.moon_stream_abort(accepted[1].c)
      assert.is_true(net.turn_until(function()
        return c.result == "io"
      end))
      assert.equal("io", c:state())
    end)

    it("meets a peer that is gone with an error, not with a signal", function()
      local c = keep(net.connect(listener.port))
      assert.is_true(net.turn_until(function()
        return #accepted == 1
      end))
      C.moon_stream_abort(accepted[1].c)
      c.on_readable = function() end
      net.turn(20)
      local rc
      for _ = 1, 3 do
        rc = c:write("x")
      end
      assert.equal("io", rc)
    end)
  end)
end)
