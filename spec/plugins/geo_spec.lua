-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local geo = host("geo")
local json = host("json")

local function base()
  local any = host.shared("conformance/mmdb/source-data/GeoIP2-Country-Test.json")
  return any and any:match("(.*)/source%-data/")
end

local function files(dir)
  local list, pipe = {}, assert(io.popen(("find '%s' -type f"):format(dir)))
  for name in pipe:lines() do
    list[#list + 1] = name
  end
  pipe:close()
  return list
end

local ADDRESSES = { "0.0.0.0", "1.1.1.1", "2.125.160.216", "81.2.69.142", "89.160.20.112",
  "216.160.83.56",
  "255.255.255.255", "::", "::1", "2001:218::", "2001:270::1", "2002:0102:0304::",
    "::ffff:2.125.160.216",
  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "1.1.1.3", "1.1.1.32" }

--- The answer that the source of a test database wants for a network.
local function expected(record)
  local country = record.country and record.country.iso_code
    or record.registered_country and record.registered_country.iso_code
  return country, record.continent and record.continent.code, record.autonomous_system_number,
    record.autonomous_system_organization
end

local function copy(from, to)
  local file = assert(io.open(to, "wb"))
  file:write(type(from) == "string" and host.slurp(from) or "")
  file:close()
end

describe("geo", function()
  it("answers as the sources of MaxMind's test databases say", function()
    local dir = base()
    if not dir then
      pending("the shared vectors are absent")
      return
    end
    local seen = 0
    for _, name in ipairs({ "GeoIP2-Country-Test", "GeoLite2-Country-Test", "GeoLite2-City-Test",
      "GeoLite2-ASN-Test" }) do
      local db = assert(geo.open(dir .. "/test-data/" .. name .. ".mmdb"))
      for _, entry in ipairs(assert(json.decode(host.slurp(dir .. "/source-data/" .. name
        .. ".json")))) do
        local network, record = next(entry)
        local ip = network:match("^[^/]+")
        local country, continent, asn, org = expected(record)
        local found = db:lookup(ip) or {}
        local label = name .. " " .. network
        assert.equal(country, found.country, label)
        assert.equal(continent, found.continent, label)
        assert.equal(asn, found.asn, label)
        assert.equal(org, found.org, label)
        assert.equal(country, db:country(ip), label)
        assert.equal(country, db:country(ip), label .. ", from the cache")
        seen = seen + 1
      end
    end
    assert.is_true(seen > 500)
  end)

  it("knows IPv4 in its IPv6 form", function()
    local dir = base()
    if dir then
      local db = geo.open(dir .. "/test-data/GeoIP2-Country-Test.mmdb")
      assert.equal("GB", db:country("81.2.69.160"))
      assert.equal("GB", db:country("::ffff:81.2.69.160"))
      assert.is_nil(db:country("not an address"))
      assert.is_nil(db:country(""))
      assert.is_nil(db:lookup("127.0.0.1"))
      assert.is_nil(db:lookup(("1"):rep(200)))
      assert.equal("GeoIP2-Country", db:info().type)
    end
  end)

  it("opens every other test database and looks about in it", function()
    local dir = base()
    for _, path in ipairs(dir and files(dir .. "/test-data") or {}) do
      local db = geo.open(path)
      for _, ip in ipairs(db and ADDRESSES or {}) do
        local found = db:lookup(ip)
        assert.is_true(found == nil or type(found) == "table")
      end
    end
  end)

  it("survives databases that were made to harm", function()
    local dir = base()
    for _, path in ipairs(dir and files(dir .. "/bad-data") or {}) do
      local db, err = geo.open(path)
      assert.is_true(db ~= nil or type(err) == "string")
      for _, ip in ipairs(db and ADDRESSES or {}) do
        db:lookup(ip)
        db:country(ip)
      end
    end
  end)

  it("survives every cut and every flipped byte of a database", function()
    local dir = base()
    if not dir then
      return
    end
    local whole = host.slurp(dir .. "/test-data/MaxMind-DB-test-ipv4-24.mmdb")
    local path = os.tmpname()
    for i = 0, #whole - 1, 11 do
      for _, text in ipairs({ whole:sub(1, i), whole:sub(1, i)
        .. string.char((whole:byte(i + 1) + 128) % 256)
        .. whole:sub(i + 2) }) do
        local file = assert(io.open(path, "wb"))
        file:write(text)
        file:close()
        local db = geo.open(path)
        if db then
          db:lookup("1.1.1.1")
          db:country("1.1.1.32")
        end
        db = nil -- luacheck: ignore
        collectgarbage()
      end
    end
    os.remove(path)
  end)

  it("reads a file that is replaced, and keeps the old one when the new one is broken", function()
    local dir = base()
    if not dir then
      return
    end
    local path = os.tmpname()
    host.set(1000)
    copy(dir .. "/test-data/GeoIP2-Country-Test.mmdb", path)
    local db = assert(geo.open(path))
    assert.equal("GB", db:country("81.2.69.160"))
    copy(nil, path) -- cut to nothing, in place
    assert.equal("GB", db:country("81.2.69.160"))
    host.log()
    host.set(1006)
    assert.equal("GB", db:country("81.2.69.160"))
    assert.matches("was replaced by what cannot be used", host.log())
    host.set(1012)
    assert.equal("GB", db:country("81.2.69.160"))
    assert.equal("", host.log()) -- told once
    copy(dir .. "/test-data/GeoLite2-ASN-Test.mmdb", path .. ".new")
    os.rename(path .. ".new", path)
    host.set(1018)
    assert.is_nil(db:country("81.2.69.160"))
    assert.equal(15169, db:lookup("1.0.0.1").asn)
    host.set(nil)
    os.remove(path)
  end)

  it("joins a country and an AS database in one answer", function()
    local dir = base()
    if dir then
      local locate = assert(geo.locator({ country = dir .. "/test-data/GeoIP2-Country-Test.mmdb",
        asn = dir .. "/test-data/GeoLite2-ASN-Test.mmdb" }))
      assert.equal("GB", locate("81.2.69.160").country)
      assert.equal(1221, locate("1.128.0.1").asn)
      assert.is_nil(locate("127.0.0.1"))
    end
    local locate, err = geo.locator({ country = "/nowhere.mmdb" })
    assert.is_nil(locate)
    assert.matches("/nowhere.mmdb: No such file", err)
  end)

  it("refuses wrong arguments in Lua's terms", function()
    assert.has_error(function() geo.open() end, "geo.open: path must be a string, got no value")
    local db, err = geo.open("/etc")
    assert.is_nil(db)
    assert.matches("/etc: not a regular file", err)
    local dir = base()
    if dir then
      db = geo.open(dir .. "/test-data/GeoIP2-Country-Test.mmdb")
      assert.has_error(function() db:country(1) end, "db:country: ip must be a string, got number")
      assert.has_error(function() db.country({}, "1.1.1.1") end,
        "db:country: self must be an open database, got table")
    end
  end)
end)
