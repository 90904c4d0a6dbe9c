-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
struct moon_authority { struct moon_slice host; bool is_ip_literal; int port; };
struct moon_url {
  struct moon_slice scheme; struct moon_authority authority; struct moon_slice authority_text;
  struct moon_slice path; struct moon_slice query; int port;
};
int moon_uri_normalize_path(struct moon_arena *arena, struct moon_slice raw, unsigned allow,
                            struct moon_slice *path);
bool moon_uri_parse_authority(struct moon_slice text, struct moon_authority *out);
bool moon_url_parse(struct moon_slice text, struct moon_url *out);
struct moon_slice moon_uri_decode(struct moon_arena *arena, struct moon_slice in, bool is_form);
struct moon_slice moon_uri_encode(struct moon_arena *arena, struct moon_slice in);
bool moon_query_next(struct moon_slice *rest, struct moon_slice *name, struct moon_slice *value);
bool moon_cookies_next(struct moon_slice *rest, struct moon_slice *name, struct moon_slice *value);
struct moon_slice moon_cookies_find(struct moon_slice field, struct moon_slice name);
]]

local ENCODED_SLASH, KEEP_SLASHES = 1, 2

local function normalize(raw, allow)
  local path = ffi.new("struct moon_slice")
  local arena = helper.arena()
  local rc = helper.rc(lib.moon_uri_normalize_path(arena, helper.guarded_slice(raw), allow or 0,
    path))
  return rc == "ok" and helper.text(path) or rc
end

local normal = {
  ["/"] = "/", ["/a"] = "/a", ["/a/"] = "/a/", ["/a/b.c"] = "/a/b.c", ["//"] = "/",
  ["//a"] = "/a", ["/a//b"] = "/a/b", ["/a///"] = "/a/", ["/."] = "/", ["/./"] = "/",
  ["/a/."] = "/a/", ["/a/./b"] = "/a/b", ["/a/.."] = "/", ["/a/../"] = "/", ["/a/b/.."] = "/a/",
  ["/a/b/../c"] = "/a/c", ["/a/b/../../c"] = "/c", ["/a//../b"] = "/b", ["/..."] = "/...",
  ["/.a"] = "/.a", ["/a/.well-known/x"] = "/a/.well-known/x", ["/a/..b"] = "/a/..b",
  ["/%41%7a%2d%2E%5f%7e"] = "/Az-._~", ["/%2e"] = "/", ["/a/%2e%2E/b"] = "/b",
  ["/a/.%2e/b"] = "/b", ["/%c3%a9"] = "/%C3%A9", ["/%3a%40"] = "/%3A%40", ["/:@"] = "/:@",
  ["/a+b"] = "/a+b", ["/%2b"] = "/%2B", ["/%20"] = "/%20", ["/%25"] = "/%25", ["/%25x"] = "/%25x",
  ["/%0a"] = "/%0A", ["/%7f"] = "/%7F", ["/%3f%23"] = "/%3F%23", ["/a;b=c"] = "/a;b=c",
  ["/a;/b"] = "/a;/b", ["/!$&'()*+,;=:@"] = "/!$&'()*+,;=:@", ["/<a>"] = "/%3Ca%3E",
  ["/a|b"] = "/a%7Cb", ["/%7C"] = "/%7C", ["/a^`{}\""] = "/a%5E%60%7B%7D%22",
  ["/[a]"] = "/%5Ba%5D", ["/...;a"] = "/...;a", ["/a..;b"] = "/a..;b",
}

local bad = {
  "", "a", "?", "/..", "/../a", "/a/../..", "/%2e%2e", "/a/../../b", "/./..", "//..", "/%2f",
  "/a%2Fb", "/\\", "/a\\b", "/%5c", "/a%5Cb", "/%00", "/a%00", "/%", "/%4", "/%zz", "/%g0", "/%0g",
  "/a%", "/%252f", "/%252E", "/%2541", "/%25%32%46", "/%%32f", "/..;/a", "/a/..;x/b", "/.;a",
  "/%2e%2e;/a", "/a b", "/a\0b", "/a\127", "/a\128", "/caf\195\169", "/a?b", "/a#b", "/a\r\nb",
}

describe("http/uri", function()
  it("brings paths to their normal form", function()
    for raw, want in pairs(normal) do
      assert.equal(want, normalize(raw), raw)
    end
  end)

  it("leaves a normal form as it is", function()
    for _, want in pairs(normal) do
      assert.equal(want, normalize(want), want)
    end
  end)

  it("refuses what readers understand differently", function()
    for _, raw in ipairs(bad) do
      assert.equal("bad_target", normalize(raw), raw)
    end
  end)

  it("keeps an encoded slash where the route allows it, but not beside dots", function()
    assert.equal("/a%2Fb", normalize("/a%2fb", ENCODED_SLASH))
    assert.equal("/%2F", normalize("/%2F", ENCODED_SLASH))
    assert.equal("/a%2F.b", normalize("/a%2F.b", ENCODED_SLASH))
    for _, raw in ipairs { "/..%2f", "/a%2f..", "/a%2f../b", "/a%2f.%2fb", "/%2e%2e%2fb", "/.%2f",
      "/a/..%2f..%2fb" } do
      assert.equal("bad_target", normalize(raw, ENCODED_SLASH), raw)
    end
  end)

  it("keeps slashes where the route allows it", function()
    assert.equal("//a//b", normalize("//a//b", KEEP_SLASHES))
    assert.equal("//a/", normalize("//a/b/..", KEEP_SLASHES))
    assert.equal("/a//", normalize("/a//b/..", KEEP_SLASHES))
    assert.equal("/a/", normalize("/a//..", KEEP_SLASHES))
    assert.equal("bad_target", normalize("//../..", KEEP_SLASHES))
  end)

  it("says when the arena is full", function()
    local path = ffi.new("struct moon_slice")
    assert.equal("memory", helper.rc(lib.moon_uri_normalize_path(helper.arena(4),
      helper.slice("/a/../b"), 0, path)))
  end)

  it("reads authorities", function()
    local out = ffi.new("struct moon_authority")
    for text, want in pairs {
      ["a"] = { "a", 0 }, ["a:80"] = { "a", 80 }, ["a:"] = { "a", 0 }, ["a.b."] = { "a.b.", 0 },
      ["1.2.3.4:8080"] = { "1.2.3.4", 8080 }, ["[::1]"] = { "::1", 0 }, ["[::1]:"] = { "::1", 0 },
      ["[2001:db8::1]:443"] = { "2001:db8::1", 443 }, ["a:65535"] = { "a", 65535 },
    } do
      assert.is_true(lib.moon_uri_parse_authority(helper.guarded_slice(text), out), text)
      assert.same(want, { helper.text(out.host), out.port })
    end
    for _, text in ipairs { "", ":", ":80", "a:b", "a:65536", "a:0", "a@b", "[", "[]", "[:", "]",
      "[::1", "[::1]80", "[a]", "a b", "a/b", "a:80:80", "a..b" } do
      assert.is_false(lib.moon_uri_parse_authority(helper.guarded_slice(text), out), text)
    end
  end)

  it("reads URLs", function()
    local url = ffi.new("struct moon_url")
    local function parse(text)
      if not lib.moon_url_parse(helper.guarded_slice(text), url) then
        return nil
      end
      return { helper.text(url.scheme), helper.text(url.authority.host), url.port,
        helper.text(url.path), helper.text(url.query) }
    end
    assert.same({ "http", "a", 80, "" }, parse "http://a")
    assert.same({ "HTTPS", "a", 443, "/" }, parse "HTTPS://a/")
    assert.same({ "http", "a", 81, "/b", "c?d/e" }, parse "http://a:81/b?c?d/e")
    assert.same({ "http", "a", 80, "", "" }, parse "http://a?")
    assert.same({ "redis", "::1", 6379, "/0" }, parse "redis://[::1]/0")
    for _, text in ipairs { "", "a", "http:", "http:/a", "http://", "http:///a", "://a", "1x://a",
      "http://u@a", "http://a b", "http://a#b", "http://a:x", "h_p://a", "http://a\n" } do
      assert.is_nil(parse(text), text)
    end
  end)

  it("decodes and encodes", function()
    local function decode(text, is_form)
      return helper.text(lib.moon_uri_decode(helper.arena(), helper.guarded_slice(text), is_form))
    end
    assert.equal("a b", decode("a%20b", false))
    assert.equal("a+b%", decode("a+b%", false))
    assert.equal("a b%4", decode("a+b%4", true))
    assert.equal("%zz\0", decode("%zz%00", true))
    local function encode(text)
      return helper.text(lib.moon_uri_encode(helper.arena(), helper.guarded_slice(text)))
    end
    assert.equal("aZ09-._~", encode "aZ09-._~")
    assert.equal("a%20%2F%25%C3%A9%00", encode "a /%\195\169\0")
    for byte = 0, 255 do
      assert.equal(string.char(byte), decode(encode(string.char(byte)), true))
    end
  end)

  local function pairs_of(next_pair, text)
    local rest, name, value = helper.slice(text), helper.slice(), helper.slice()
    local out = {}
    while next_pair(rest, name, value) do
      out[#out + 1] = (helper.text(name) or "") .. "=" .. (helper.text(value) or "nil")
    end
    return out
  end

  it("takes queries apart", function()
    assert.same({ "a=b", "c=nil", "d=", "=e", "f=g=h" },
      pairs_of(lib.moon_query_next, "a=b&c&&d=&=e&f=g=h&"))
    assert.same({}, pairs_of(lib.moon_query_next, ""))
    assert.same({ "=" }, pairs_of(lib.moon_query_next, "="))
  end)

  it("takes cookies apart", function()
    assert.same({ "a=b", "c=d=e", "f=", 'g="h"' },
      pairs_of(lib.moon_cookies_next, 'a=b; c=d=e;f=;; =x; flag;  g = "h" '))
    assert.equal("2", helper.text(lib.moon_cookies_find(helper.slice("a=1; b=2; b=3"),
      helper.slice("b"))))
    assert.is_nil(helper.text(lib.moon_cookies_find(helper.slice("a=1"), helper.slice("A"))))
  end)
end)
