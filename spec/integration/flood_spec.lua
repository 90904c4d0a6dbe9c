-- SPDX-License-Identifier: Apache-2.0
local gateway = require("spec.support.gateway")
local socket = require("socket")

local config = [[
local p = require("moongate.policies")
return {
  name = "spec", workers = 2,
  listeners = { { name = "http", address = "127.0.0.1:PORT" } },
  sites = { { name = "shop", hosts = { "*" },
    policies = { inbound = { p.flood_defence { learn = 3, minimum_rate = 60 } } },
    routes = { { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
]]

-- Clients with source addresses of their own, each on a connection of its own.
local function client(address, port)
  local self = { address = address, ok = 0, refused = 0, last_ok = 0, sent = 0 }
  function self.ask()
    if not self.socket then
      local s = socket.tcp()
      assert(s:bind(address, 0))
      s:settimeout(5)
      assert(s:connect("127.0.0.1", port))
      s:setoption("tcp-nodelay", true)
      self.socket = s
    end
    self.sent = self.sent + 1
    self.socket:send("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
    local line = self.socket:receive("*l")
    local length, closes = 0, false
    local header = line and self.socket:receive("*l")
    while header and header ~= "" do
      length = tonumber(header:lower():match("^content%-length: (%d+)")) or length
      closes = closes or header:lower() == "connection: close"
      header = self.socket:receive("*l")
    end
    if length > 0 then
      self.socket:receive(length)
    end
    if not line or closes then
      self.socket:close()
      self.socket = nil
    end
    if line and line:find(" 200 ", 1, true) then
      self.ok, self.last_ok = self.ok + 1, socket.gettime()
    elseif line and line:find(" 429 ", 1, true) then
      self.refused = self.refused + 1
    end
  end
  return self
end

describe("flood_defence", function()
  if not gateway.is_there() then
    pending("needs the binary of " .. gateway.build)
    return
  end

  it("refuses a flood from many addresses within 5 s, and no ordinary client", function()
    local port = gateway.free_ports(1)
    local dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir -p " .. dir)
    local file = assert(io.open(dir .. "/gateway.lua", "w"))
    file:write((config:gsub("PORT", tostring(port))))
    file:close()
    local gw = gateway.start({ from = dir, port = port })
    finally(function()
      gw:stop()
      os.execute("rm -rf " .. dir)
    end)

    local ordinary, flooders = {}, {}
    for i = 1, 10 do
      ordinary[i] = client("127.0.2." .. i, port)
    end
    for i = 1, 40 do
      flooders[i] = client("127.1.3." .. i, port)
    end

    -- Ordinary clients ask twice a second, first alone; flooders twenty times a second. Gives for how long,
    -- at most, the machine left a round standing.
    local function drive(seconds, with_flood)
      local began, tick, last, stall = socket.gettime(), 0, nil, 0
      while socket.gettime() - began < seconds do
        stall, last = math.max(stall, last and socket.gettime() - last or 0), socket.gettime()
        for i, one in ipairs(ordinary) do
          if tick % 10 == i - 1 then
            one.ask()
          end
        end
        for _, one in ipairs(with_flood and flooders or {}) do
          one.ask()
        end
        tick = tick + 1
        socket.sleep(math.max(0, began + tick * 0.05 - socket.gettime()))
      end
      return stall
    end

    drive(4.5, false)
    for _, one in ipairs(ordinary) do
      assert.equal(one.sent, one.ok)
    end
    local flood_began = socket.gettime()
    local stall = drive(8, true)

    local sent, ok = 0, 0
    for _, one in ipairs(ordinary) do
      sent, ok = sent + one.sent, ok + one.ok
    end
    assert.is_true(ok >= 0.99 * sent, ("%d of %d ordinary requests succeeded"):format(ok, sent))
    for _, one in ipairs(flooders) do
      assert.is_true(one.refused > 0, one.address .. " was never refused")
      local held_after = one.last_ok - flood_began
      assert.is_true(held_after < 5 + stall, ("%s got in for %.1f s"):format(one.address, held_after))
    end
  end)
end)
