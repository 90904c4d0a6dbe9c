-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local ffi = require("ffi")
local net = require("spec.unit.net.support")
local C = net.helper.lib([[
struct moon_dns_answer { int rc; struct moon_ip addresses[32]; size_t count; bool is_stale; };
struct moon_dns; struct moon_dns_query;
struct moon_dns_srv { char target[256]; uint16_t port, priority, weight; };
struct moon_dns *moon_dns_new(struct moon_loop *loop, const char *servers);
void moon_dns_free(struct moon_dns *dns);
int moon_dns_resolve(struct moon_dns *dns, struct moon_slice name,
  void (*)(void *owner, const struct moon_dns_answer *), void *owner,
  struct moon_dns_answer *answer, struct moon_dns_query **query);
void moon_dns_cancel(struct moon_dns_query *query);
int moon_dns_resolve_srv(struct moon_dns *dns, struct moon_slice name,
  void (*)(void *owner, int rc, const struct moon_dns_srv *, size_t, int64_t), void *owner,
  struct moon_dns_query **query);
int moon_dns_resolve_ptr(struct moon_dns *dns, const struct moon_ip *ip,
  void (*)(void *owner, int rc, const char *name), void *owner, struct moon_dns_query **query);
size_t moon_dns_read_srv(struct moon_slice reply, struct moon_dns_srv into[64], int64_t *ttl_ms);
size_t moon_ip_format(const struct moon_ip *ip, char into[46]);
bool moon_ip_parse(struct moon_slice text, struct moon_ip *out);
int socket(int domain, int type, int protocol);
int bind(int fd, const void *address, uint32_t len);
ssize_t recvfrom(int fd, void *buf, size_t n, int flags, void *from, uint32_t *len);
ssize_t sendto(int fd, const void *buf, size_t n, int flags, const void *to, uint32_t len);
]])

local function u16(n)
  return string.char(math.floor(n / 256) % 256, n % 256)
end

local function encode(name)
  return (name:gsub("([^.]+)%.?", function(label)
    return string.char(#label) .. label
  end)) .. "\0"
end

--- A name server on UDP. `zone[type .. name]`: { ttl, rdata... }, "refused", "silent" or nil.
local function serve(zone)
  local s = { asked = {} }
  local address = ffi.new("struct moon_listen_address")
  C.moon_listen_address_parse("127.0.0.1:0", address)
  s.fd = C.socket(2, 2 + 2048, 0)
  assert(C.bind(s.fd, address.sa, address.len) == 0)
  s.port = C.moon_listen_port(s.fd)
  local buf, from, len = ffi.new("char[2048]"), ffi.new("char[128]"), ffi.new("uint32_t[1]")
  s.io = net.io(s.fd, function()
    len[0] = 128
    local n = C.recvfrom(s.fd, buf, 2048, 0, from, len)
    if n <= 12 then
      return
    end
    local query = ffi.string(buf, n)
    local name, at = {}, 13
    while query:byte(at) ~= 0 do
      name[#name + 1] = query:sub(at + 1, at + query:byte(at))
      at = at + 1 + query:byte(at)
    end
    local question = query:sub(13, at + 4)
    local type = query:byte(at + 1) * 256 + query:byte(at + 2)
    local key = ({ [1] = "A ", [28] = "AAAA ", [33] = "SRV ", [12] = "PTR " })[type] ..
      table.concat(name, "."):lower()
    s.asked[key] = (s.asked[key] or 0) + 1
    local records = zone[key]
    if records == "silent" then
      return
    end
    local code = records == "refused" and 5 or records == nil and 3 or 0
    local answers = {}
    for i = 2, _G.type(records) == "table" and #records or 0 do
      answers[i - 1] = "\192\12" .. u16(type) .. "\0\1" .. u16(math.floor(records[1] / 65536)) ..
        u16(records[1] % 65536) .. u16(#records[i]) .. records[i]
    end
    local reply = query:sub(1, 2) .. string.char(0x81, 0x80 + code) .. "\0\1" .. u16(#answers) ..
      "\0\0\0\0" .. question .. table.concat(answers)
    C.sendto(s.fd, reply, #reply, 0, from, len[0])
  end)
  C.moon_io_watch(s.io, net.READ)
  function s.close()
    C.moon_io_stop(s.io)
    C.close(s.fd)
  end
  return s
end

local function texts(answer)
  local list, into = {}, ffi.new("char[46]")
  for i = 0, tonumber(answer.count) - 1 do
    list[i + 1] = ffi.string(into, C.moon_ip_format(answer.addresses[i], into))
  end
  table.sort(list)
  return list
end

describe("DNS", function()
  local zone, server, dns, results, callbacks, restore_log

  before_each(function()
    restore_log = select(2, net.catch_log())
    zone, results = {}, {}
    server = serve(zone)
    dns = C.moon_dns_new(net.loop(), "127.0.0.1:" .. server.port)
    assert(dns ~= nil)
    callbacks = {
      ffi.cast("void (*)(void *, const struct moon_dns_answer *)", function(_, answer)
        results[#results + 1] = { rc = net.rc(answer.rc), addresses = texts(answer),
          is_stale = answer.is_stale }
      end),
      ffi.cast("void (*)(void *, int, const struct moon_dns_srv *, size_t, int64_t)",
        function(_, rc, records, count, ttl_ms)
          local list = {}
          for i = 0, tonumber(count) - 1 do
            list[i + 1] = ("%s:%d %d %d"):format(ffi.string(records[i].target), records[i].port,
              records[i].priority, records[i].weight)
          end
          results[#results + 1] = { rc = net.rc(rc), records = list, ttl_ms = tonumber(ttl_ms) }
        end),
      ffi.cast("void (*)(void *, int, const char *)", function(_, rc, name)
        results[#results + 1] = { rc = net.rc(rc), name = ffi.string(name) }
      end),
    }
    C.moon_clock_freeze(true)
  end)

  after_each(function()
    C.moon_dns_free(dns)
    server.close()
    C.moon_clock_freeze(false)
    net.close_loop()
    for _, callback in ipairs(callbacks) do
      callback:free()
    end
    restore_log()
  end)

  local answer, query = ffi.new("struct moon_dns_answer"), ffi.new("struct moon_dns_query *[1]")

  local function start(name)
    return net.rc(C.moon_dns_resolve(dns, net.helper.slice(name), callbacks[1], nil, answer, query))
  end

  --- Resolves, waiting where need be. @return { rc, addresses, is_stale, asked = true|nil }
  local function resolve(name)
    local rc = start(name)
    if rc == "ok" then
      return { rc = rc, addresses = texts(answer), is_stale = answer.is_stale }
    elseif rc ~= "again" then
      return { rc = rc }
    end
    local before = #results
    assert.is_true(net.turn_until(function()
      return #results > before
    end, 15000))
    results[#results].asked = true
    return results[#results]
  end

  local function advance(seconds)
    C.moon_clock_advance_us(seconds * 1000000)
    C.moon_loop_catch_up(net.loop())
  end

  it("answers literal addresses at once", function()
    assert.same({ "192.0.2.1" }, resolve("192.0.2.1").addresses)
    assert.same({ "2001:db8::1" }, resolve("[2001:db8::1]").addresses)
    assert.same({}, server.asked)
  end)

  it("honours /etc/hosts", function()
    local found = resolve("localhost")
    assert.equal("ok", found.rc)
    assert.is_truthy(found.addresses[1] == "127.0.0.1" or found.addresses[1] == "::1")
    assert.is_nil(server.asked["A localhost"])
  end)

  it("asks for both families, and caches by the TTL", function()
    zone["A api.test"] = { 60, "\192\0\2\1", "\192\0\2\2" }
    zone["AAAA api.test"] = { 100, "\32\1\13\184" .. ("\0"):rep(11) .. "\1" }
    local found = resolve("api.test")
    assert.same({ "192.0.2.1", "192.0.2.2", "2001:db8::1" }, found.addresses)
    assert.is_true(found.asked)
    advance(40)
    found = resolve("API.test")
    assert.is_nil(found.asked)
    assert.is_false(found.is_stale)
    assert.equal(1, server.asked["A api.test"])
    advance(300)
    zone["A api.test"] = { 60, "\192\0\2\9" }
    zone["AAAA api.test"] = { 60 }
    found = resolve("api.test")
    assert.is_true(found.asked)
    assert.same({ "192.0.2.9" }, found.addresses)
  end)

  it("refreshes before the TTL ends, without making anyone wait", function()
    zone["A api.test"] = { 100, "\192\0\2\1" }
    zone["AAAA api.test"] = { 100 }
    resolve("api.test")
    advance(95)
    zone["A api.test"] = { 100, "\192\0\2\2" }
    assert.same({ "192.0.2.1" }, resolve("api.test").addresses)
    assert.is_true(net.turn_until(function()
      return server.asked["A api.test"] == 2 and start("api.test") == "ok" and
        texts(answer)[1] == "192.0.2.2"
    end))
    assert.equal(0, #results - 1)
  end)

  it("keeps a TTL of zero for a second", function()
    zone["A zero.test"] = { 0, "\192\0\2\1" }
    zone["AAAA zero.test"] = { 0 }
    resolve("zero.test")
    assert.is_nil(resolve("zero.test").asked)
    advance(1)
    assert.is_true(resolve("zero.test").asked)
  end)

  it("gives the old addresses, marked stale, while the servers fail", function()
    zone["A api.test"] = { 10, "\192\0\2\1" }
    zone["AAAA api.test"] = { 10 }
    resolve("api.test")
    advance(11)
    zone["A api.test"], zone["AAAA api.test"] = "refused", "refused"
    local found = resolve("api.test")
    assert.same({ "ok", { "192.0.2.1" }, true }, { found.rc, found.addresses, found.is_stale })
    found = resolve("api.test") -- the failure is remembered
    assert.is_nil(found.asked)
    assert.is_true(found.is_stale)
    advance(6)
    zone["A api.test"], zone["AAAA api.test"] = { 10, "\192\0\2\5" }, { 10 }
    found = resolve("api.test")
    assert.same({ "192.0.2.5" }, found.addresses)
    assert.is_false(found.is_stale)
  end)

  it("remembers for a few seconds that a name does not exist", function()
    local found = resolve("nowhere.test")
    assert.same({ "dns", true }, { found.rc, found.asked })
    local asked = server.asked["A nowhere.test"]
    assert.same({ rc = "dns" }, resolve("nowhere.test"))
    assert.equal(asked, server.asked["A nowhere.test"])
    advance(6)
    zone["A nowhere.test"], zone["AAAA nowhere.test"] = { 10, "\192\0\2\1" }, { 10 }
    assert.equal("ok", resolve("nowhere.test").rc)
  end)

  it("does not keep the addresses of a name that is gone", function()
    zone["A api.test"], zone["AAAA api.test"] = { 10, "\192\0\2\1" }, { 10 }
    resolve("api.test")
    advance(11)
    zone["A api.test"], zone["AAAA api.test"] = nil, nil
    assert.equal("dns", resolve("api.test").rc)
  end)

  it("asks once for many who wait, and forgets who cancelled", function()
    zone["A api.test"], zone["AAAA api.test"] = { 10, "\192\0\2\1" }, { 10 }
    assert.equal("again", start("api.test"))
    local first = query[0]
    assert.equal("again", start("api.test"))
    assert.equal("again", start("api.test"))
    C.moon_dns_cancel(first)
    assert.is_true(net.turn_until(function()
      return #results == 2
    end))
    assert.equal(1, server.asked["A api.test"])
  end)

  it("may be freed while queries are under way", function()
    zone["A slow.test"], zone["AAAA slow.test"] = "silent", "silent"
    assert.equal("again", start("slow.test"))
    net.turn(10)
    assert.equal(0, #results)
  end)

  it("refuses names that are none", function()
    for _, name in ipairs({ "", "a b", "a\0b", ("x"):rep(300), "a\nb" }) do
      assert.same({ rc = "dns" }, resolve(name))
    end
  end)

  it("remembers thousands of names, and no more", function()
    for i = 1, 5000 do
      start("\1bad" .. i) -- refused: no entry
    end
    for i = 1, 4200 do
      start(("n%d.invalid"):format(i))
      if i % 200 == 0 then
        net.turn(0)
      end
    end
  end)

  it("finds SRV records, by priority and weight", function()
    zone["SRV _http._tcp.api.test"] = { 90,
      u16(20) .. u16(1) .. u16(8081) .. encode("b.api.test"),
      u16(10) .. u16(5) .. u16(8080) .. encode("light.api.test"),
      u16(10) .. u16(60) .. u16(8080) .. encode("heavy.api.test") }
    assert.equal("again", net.rc(C.moon_dns_resolve_srv(dns,
      net.helper.slice("_http._tcp.api.test"), callbacks[2], nil, query)))
    assert.is_true(net.turn_until(function()
      return #results == 1
    end))
    assert.same({ rc = "ok", ttl_ms = 90000, records = { "heavy.api.test:8080 10 60",
      "light.api.test:8080 10 5", "b.api.test:8081 20 1" } }, results[1])
  end)

  it("reads no SRV reply past its end, whatever it holds", function()
    local reply = "\0\1\129\128\0\1\0\1\0\0\0\0" .. encode("_s._tcp.a.test") .. "\0\33\0\1" ..
      "\192\12\0\33\0\1\0\0\0\60" .. u16(6 + 16) .. u16(1) .. u16(2) .. u16(3) ..
      encode("host.test.local")
    local into, ttl = ffi.new("struct moon_dns_srv[64]"), ffi.new("int64_t[1]")
    for n = 0, #reply do
      C.moon_dns_read_srv(net.helper.guarded_slice(reply:sub(1, n)), into, ttl)
    end
    local loop = reply:sub(1, -18) .. "\192\12"
    C.moon_dns_read_srv(net.helper.guarded_slice(loop), into, ttl)
    math.randomseed(3)
    for _ = 1, 2000 do
      local at = math.random(#reply)
      local broken = reply:sub(1, at - 1) .. string.char(math.random(0, 255)) .. reply:sub(at + 1)
      C.moon_dns_read_srv(net.helper.guarded_slice(broken), into, ttl)
    end
  end)

  it("finds the name of an address", function()
    zone["PTR 1.2.0.192.in-addr.arpa"] = { 60, encode("crawler.test") }
    local ip = ffi.new("struct moon_ip")
    assert(C.moon_ip_parse(net.helper.slice("192.0.2.1"), ip))
    assert.equal("again", net.rc(C.moon_dns_resolve_ptr(dns, ip, callbacks[3], nil, query)))
    assert.is_true(net.turn_until(function()
      return #results == 1
    end))
    assert.same({ rc = "ok", name = "crawler.test" }, results[1])
  end)

  it("tells an address without a name, of either family, from a server that is silent", function()
    local ip = ffi.new("struct moon_ip")
    for i, text in ipairs({ "192.0.2.77", "2001:db8::77" }) do
      assert(C.moon_ip_parse(net.helper.slice(text), ip))
      assert.equal("again", net.rc(C.moon_dns_resolve_ptr(dns, ip, callbacks[3], nil, query)))
      assert.is_true(net.turn_until(function()
        return #results == i
      end))
      assert.same({ rc = "ok", name = "" }, results[i])
    end
    local nibbles = ("7.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa")
    zone["PTR " .. nibbles] = { 60, encode("six.test") }
    assert.equal("again", net.rc(C.moon_dns_resolve_ptr(dns, ip, callbacks[3], nil, query)))
    assert.is_true(net.turn_until(function()
      return #results == 3
    end))
    assert.same({ rc = "ok", name = "six.test" }, results[3])
  end)
end)
