-- SPDX-License-Identifier: Apache-2.0
local chain = require("moongate.chain")

local uid = 0

local function listing(name, acts, more)
  uid = uid + 1
  local l = { uid = uid, policy = name, id = name, scope = "site", scope_name = "s", section = "inbound",
    file = "gateway.lua", line = uid, acts = acts, takes_self = true, own = { name = name },
    continues = false, needs = {} }
  for key, value in pairs(more or {}) do
    l[key] = value
  end
  return l
end

local function note(self, ctx)
  ctx.seen[#ctx.seen + 1] = self.name
end

local function scope(kind, lists, name)
  local s = { kind = kind, name = name or kind, lists = {} }
  for _, section in ipairs({ "inbound", "backend", "outbound", "on_error", "log" }) do
    s.lists[section] = {}
    for i, item in ipairs(lists[section] or {}) do
      s.lists[section][i] = item == "base" and "base" or listing(item, { [section] = note })
    end
  end
  return s
end

local function names(entries)
  local out = {}
  for i, entry in ipairs(entries) do
    out[i] = entry.listing.policy .. (entry.product and "@" .. entry.product or "")
  end
  return table.concat(out, " ")
end

describe("a chain", function()
  it("runs outer policies first inbound and last outbound, or where base stands", function()
    local outer = scope("gateway", { inbound = { "a" }, outbound = { "x" }, on_error = { "e" } })
    local plain = scope("site", { inbound = { "b" }, outbound = { "y" }, on_error = { "f" } })
    local placed = scope("api", { inbound = { "c", "base", "d" }, outbound = { "base", "z" } })
    assert.equal("a b", names(chain.compose({ outer, plain }, "inbound")))
    assert.equal("y x", names(chain.compose({ outer, plain }, "outbound")))
    assert.equal("f e", names(chain.compose({ outer, plain }, "on_error")))
    assert.equal("c a b d", names(chain.compose({ outer, plain, placed }, "inbound")))
    assert.equal("y x z", names(chain.compose({ outer, plain, placed }, "outbound")))
  end)

  it("runs a product's policies for its keys only", function()
    local outer = scope("gateway", { inbound = { "a" } })
    local gold = scope("product", { inbound = { "g1", "base", "g2" } }, "gold")
    local free = scope("product", { inbound = { "f" } }, "free")
    local inner = scope("api", { inbound = { "z" } })
    local entries = chain.compose({ outer, { gold, free }, inner }, "inbound")
    assert.equal("g1@gold a g2@gold f@free z", names(entries))
    local built = chain.build(entries, "inbound", {})
    local function seen(product)
      local ctx = { seen = {}, product = product and { name = product } }
      built.fn(ctx)
      return table.concat(ctx.seen, " ")
    end
    assert.equal("g1 a g2 z", seen("gold"))
    assert.equal("a f z", seen("free"))
    assert.equal("a z", seen(nil))
  end)

  it("ends at a reply, and tells the line that gave it", function()
    local answer = { status = 403 }
    local entries = {
      { listing = listing("one", { inbound = note }) },
      { listing = listing("two", { inbound = function() return answer end }) },
      { listing = listing("three", { inbound = note }) },
    }
    local built = chain.build(entries, "inbound", {})
    local ctx = { seen = {} }
    local reply, line = built.fn(ctx)
    assert.equal(answer, reply)
    assert.same({ "one" }, ctx.seen)
    local place = chain.describe("=" .. built.name, line)
    assert.equal("two", place.policy)
    assert.equal("inbound", place.section)
    assert.equal("gateway.lua", place.file)
  end)

  it("names the line of a raised error", function()
    local built = chain.build({
      { listing = listing("fine", { inbound = note }) },
      { listing = listing("broken", { inbound = function() error({}) end }) },
    }, "inbound", {})
    local line
    xpcall(built.fn, function()
      for level = 2, 8 do
        local info = debug.getinfo(level, "Sl")
        if info and info.source == "=" .. built.name then
          line = info.currentline
        end
      end
    end, { seen = {} })
    assert.equal("broken", chain.describe(built.name, line).policy)
  end)

  it("goes past a failing policy that says so, and runs one only where its condition holds", function()
    local built = chain.build({
      { listing = listing("bad", { inbound = function() error("x") end }, { continues = true }) },
      { listing = listing("never", { inbound = note }, { when = function() return false end }) },
      { listing = listing("always", { inbound = note }, { when = function() return true end }) },
      { listing = listing("f", { inbound = function(ctx) ctx.seen[#ctx.seen + 1] = "f" end },
        { takes_self = false }) },
    }, "inbound", {})
    local ctx = { seen = {} }
    assert.is_nil(built.fn(ctx))
    assert.same({ "always", "f" }, ctx.seen)
  end)

  it("takes any number of policies", function()
    local entries = {}
    for i = 1, 300 do
      entries[i] = { listing = listing("p" .. i, { inbound = note }) }
    end
    local ctx = { seen = {} }
    chain.build(entries, "inbound", {}).fn(ctx)
    assert.equal(300, #ctx.seen)
    assert.equal("p300", ctx.seen[300])
  end)

  it("enters a policy of inbound in the later sections in which it acts", function()
    local cache = listing("cache", { inbound = note, outbound = note })
    local s = scope("api", { outbound = { "last" } })
    s.lists.inbound[1] = cache
    local all = chain.compose_all({ s })
    assert.equal("cache", names(all.inbound))
    assert.equal("cache last", names(all.outbound))
  end)

  it("is made once for equal lists", function()
    local cache, one = {}, listing("one", { inbound = note })
    local a = chain.build({ { listing = one } }, "inbound", cache)
    assert.equal(a, chain.build({ { listing = one } }, "inbound", cache))
    assert.is_nil(chain.build({}, "inbound", cache))
  end)

  it("allocates nothing per request", function()
    local built = chain.build({
      { listing = listing("a", { inbound = function(self, ctx) ctx.n = ctx.n + self.name:len() end }) },
      { listing = listing("b", { inbound = function() end }), product = "gold" },
    }, "inbound", {})
    local ctx = { n = 0, product = { name = "gold" } }
    local fn = built.fn
    for _ = 1, 1000 do fn(ctx) end
    collectgarbage() collectgarbage("stop")
    local before = collectgarbage("count")
    for _ = 1, 100000 do fn(ctx) end
    local grown = collectgarbage("count") - before
    collectgarbage("restart")
    assert.is_true(grown < 64, ("%.1f KiB"):format(grown))
  end)
end)
