-- SPDX-License-Identifier: Apache-2.0
local helper = require("spec.unit.helper")
local h1 = require("spec.unit.http.http_helper")

-- Adds what a case does not care for.
local function get(rest, line)
  return (line or "GET / HTTP/1.1") .. "\r\nHost: a.test\r\n" .. rest .. "\r\n"
end

local function line(text)
  return text .. "\r\nHost: a.test\r\n\r\n"
end

-- { what it is, bytes, result }
local refused = {
  -- Request line.
  { "a line without a version (HTTP/0.9)", "GET /\r\n\r\n", "bad_request_line" },
  { "an empty target", line "GET  HTTP/1.1", "bad_request_line" },
  { "two spaces before the target", line "GET  / HTTP/1.1", "bad_request_line" },
  { "two spaces before the version", line "GET /  HTTP/1.1", "bad_request_line" },
  { "a space behind the version", line "GET / HTTP/1.1 ", "bad_request_line" },
  { "a space before the method", line " GET / HTTP/1.1", "bad_request_line" },
  { "a tab for a space", line "GET\t/ HTTP/1.1", "bad_request_line" },
  { "a tab before the version", line "GET /\tHTTP/1.1", "bad_request_line" },
  { "a space inside the target", line "GET /a b HTTP/1.1", "bad_request_line" },
  { "a method with a bracket", line "G(T / HTTP/1.1", "bad_request_line" },
  { "a method with a colon", line "GET: / HTTP/1.1", "bad_request_line" },
  { "a method with a NUL", line "GE\0T / HTTP/1.1", "bad_request_line" },
  { "no method", line " / HTTP/1.1", "bad_request_line" },
  { "a method that is too long", line(("M"):rep(65) .. " / HTTP/1.1"), "method" },
  { "a lower-case name of the protocol", line "GET / http/1.1", "bad_request_line" },
  { "another protocol", line "GET / HTTQ/1.1", "bad_request_line" },
  { "a version without a dot", line "GET / HTTP/11", "bad_request_line" },
  { "a version with a comma", line "GET / HTTP/1,1", "bad_request_line" },
  { "a minor version of two digits", line "GET / HTTP/1.10", "bad_request_line" },
  { "a major version of two digits", line "GET / HTTP/01.1", "bad_request_line" },
  { "a version that is cut short", line "GET / HTTP/1.", "bad_request_line" },
  { "a space inside the version", line "GET / HTTP/ 1.1", "bad_request_line" },
  { "HTTP/0.9 by name", line "GET / HTTP/0.9", "bad_request_line" },
  { "HTTP/2.0", line "GET / HTTP/2.0", "bad_version" },
  { "HTTP/3.0", line "GET / HTTP/3.0", "bad_version" },
  { "HTTP/9.9", line "GET / HTTP/9.9", "bad_version" },
  { "the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_version" },
  { "a second empty line before the request", "\r\n\r\n" .. get "", "bad_request_line" },
  { "a bare LF before the request", "\n" .. get "", "bad_request_line" },
  { "a TLS hello", "\22\3\1\2\0\1\0\1\252\3\3", "bad_request_line" },
  { "a bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "bad_request_line" },
  { "a bare CR behind the request line", "GET / HTTP/1.1\rHost: a\r\n\r\n", "bad_request_line" },
  { "CR CR LF behind the request line", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "bad_request_line" },
  -- Target.
  { "a query without a path", line "GET ?x=1 HTTP/1.1", "bad_target" },
  { "a relative path", line "GET index.html HTTP/1.1", "bad_target" },
  { "a fragment", line "GET /a#b HTTP/1.1", "bad_target" },
  { "a fragment in the query", line "GET /a?b#c HTTP/1.1", "bad_target" },
  { "a byte from 0x80 on", line "GET /caf\195\169 HTTP/1.1", "bad_target" },
  { "a NUL in the target", line "GET /a\0b HTTP/1.1", "bad_request_line" },
  { "DEL in the target", line "GET /a\127 HTTP/1.1", "bad_request_line" },
  { "an asterisk with GET", line "GET * HTTP/1.1", "bad_target" },
  { "an asterisk with more", line "OPTIONS *x HTTP/1.1", "bad_target" },
  { "an asterisk path", line "OPTIONS */a HTTP/1.1", "bad_target" },
  { "an authority with GET", line "GET a.test:80 HTTP/1.1", "bad_target" },
  { "a path with CONNECT", line "CONNECT / HTTP/1.1", "bad_target" },
  { "CONNECT without a port", line "CONNECT a.test HTTP/1.1", "bad_target" },
  { "CONNECT of a URL", line "CONNECT http://a.test/ HTTP/1.1", "bad_target" },
  { "another scheme", line "GET ftp://a.test/ HTTP/1.1", "bad_target" },
  { "a scheme without an authority", line "GET http:///a HTTP/1.1", "bad_target" },
  { "a scheme with one slash", line "GET http:/a.test/ HTTP/1.1", "bad_target" },
  { "a scheme only", line "GET http: HTTP/1.1", "bad_target" },
  { "user information in the target", line "GET http://u:p@a.test/ HTTP/1.1", "bad_target" },
  { "an empty user name in the target", line "GET http://@a.test/ HTTP/1.1", "bad_target" },
  { "a port past 65535 in the target", line "GET http://a.test:65536/ HTTP/1.1", "bad_target" },
  { "a https target on a plain connection", line "GET https://a.test/ HTTP/1.1", "misdirected" },
  { "dot segments past the root", line "GET /../etc/passwd HTTP/1.1", "bad_target" },
  { "an encoded slash", line "GET /a%2Fb HTTP/1.1", "bad_target" },
  { "a bad escape", line "GET /a%zz HTTP/1.1", "bad_target" },
  -- Field lines.
  { "a space before the colon", get "X-A : b\r\n", "bad_field" },
  { "a tab before the colon", get "X-A\t: b\r\n", "bad_field" },
  { "a space inside a name", get "X A: b\r\n", "bad_field" },
  { "an empty name", get ": b\r\n", "bad_field" },
  { "a line without a colon", get "X-A\r\n", "bad_field" },
  { "a folded line with a space", get "X-A: b\r\n c\r\n", "bad_field" },
  { "a folded line with a tab", get "X-A: b\r\n\tc\r\n", "bad_field" },
  { "a folded line that is empty", get "X-A: b\r\n \r\n", "bad_field" },
  { "a folded first line", "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", "bad_field" },
  { "a NUL in a value", get "X-A: b\0c\r\n", "bad_field" },
  { "a control byte in a value", get "X-A: b\1c\r\n", "bad_field" },
  { "DEL in a value", get "X-A: b\127\r\n", "bad_field" },
  { "an escape byte in a value", get "X-A: \27[0m\r\n", "bad_field" },
  { "a bare CR in a value", get "X-A: b\rc\r\n", "bad_field" },
  { "a bare LF in a value", get "X-A: b\nc: d\r\n", "bad_field" },
  { "CR CR LF behind a value", get "X-A: b\r\r\n", "bad_field" },
  { "a bare LF at the end of the head", "GET / HTTP/1.1\r\nHost: a\r\n\n", "bad_field" },
  { "a NUL in a name", get "X\0A: b\r\n", "bad_field" },
  { "a byte from 0x80 on in a name", get "X-\195\169: b\r\n", "bad_field" },
  { "a quote in a name", get "\"X\": b\r\n", "bad_field" },
  { "a bracket in a name", get "X[0]: b\r\n", "bad_field" },
  { "a slash in a name", get "X/A: b\r\n", "bad_field" },
  -- Host.
  { "no Host in HTTP/1.1", "GET / HTTP/1.1\r\n\r\n", "bad_host" },
  { "no Host in HTTP/1.2", "GET / HTTP/1.2\r\n\r\n", "bad_host" },
  { "no Host beside an absolute target", "GET http://a.test/ HTTP/1.1\r\n\r\n", "bad_host" },
  { "two Hosts", get "Host: b.test\r\n", "bad_host" },
  { "two equal Hosts", get "Host: a.test\r\n", "bad_host" },
  { "two Hosts in HTTP/1.0", get("host: b\r\n", "GET / HTTP/1.0"), "bad_host" },
  { "an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "bad_host" },
  { "a Host of white space", "GET / HTTP/1.1\r\nHost:  \t \r\n\r\n", "bad_host" },
}

for _, host in ipairs {
  "a b", "a.test, b.test", "a,b", "u@a.test", "u:p@a.test", "a.test/", "/a", "a.test?x", "a#b",
  "http://a.test", "a.test:80:80", "a.test:x", "a.test:-1", "a.test:+80", "a.test:65536",
  "a.test:0", "a.test:999999", ":80", "a.test: 80", "a..test", ".a.test", "..", ".", "a\\b",
  "a%00b", "a%2fb", "a_b;c", "[::1", "::1", "[::1]x", "[::1]:x", "[]", "[1.2.3.4]", "[v1.a]",
  "[::1%25eth0]", "[[::1]]", "a<b", "a|b", "\195\169.test", "a'b", ("a"):rep(256),
} do
  refused[#refused + 1] =
    { "the Host '" .. host .. "'", "GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n", "bad_host" }
end

for _, length in ipairs {
  "", "+5", "-5", "-0", "0x5", "5a", "a5", "5 5", "5,5", "5, 5", "5,", ",5", "5;", "5.0", "1e3",
  "\"5\"", "9223372036854775808", "18446744073709551616", "99999999999999999999999",
  "5\v", "\f5", "0b1", "٥",
} do
  local rc = (length:find("[\1-\8\11-\31]")) and "bad_field" or "bad_length"
  refused[#refused + 1] = {
    "the Content-Length '" .. length .. "'",
    get("Content-Length: " .. length .. "\r\n", "POST / HTTP/1.1"), rc,
  }
end

for _, coding in ipairs {
  { "", "bad_length" }, { "identity", "bad_length" }, { "gzip", "bad_length" },
  { "xchunked", "bad_length" }, { "chunkedx", "bad_length" }, { "\"chunked\"", "bad_length" },
  { "'chunked'", "bad_length" }, { "chunked;q=1", "bad_length" }, { "chunked, chunked",
    "bad_length" },
  { "chunked, gzip", "bad_length" }, { "chunked, identity", "bad_length" },
  { "chunked,", "bad_length" }, { ",chunked", "bad_length" }, { "chunk", "bad_length" },
  { "chunked chunked", "bad_length" }, { "chun\tked", "bad_length" }, { "gzip, chunked",
    "unknown_coding" },
  { "identity, chunked", "unknown_coding" }, { "foo, bar, chunked", "unknown_coding" },
  { "\vchunked", "bad_field" }, { "chunked\0", "bad_field" }, { "\195\133chunked", "bad_length" },
} do
  refused[#refused + 1] = {
    "the Transfer-Encoding '" .. coding[1] .. "'",
    get("Transfer-Encoding: " .. coding[1] .. "\r\n", "POST / HTTP/1.1"), coding[2],
  }
end

local post = "POST / HTTP/1.1"
for _, case in ipairs {
  { "two different lengths", get("Content-Length: 5\r\nContent-Length: 6\r\n", post),
    "bad_length" },
  { "two equal lengths", get("Content-Length: 5\r\ncontent-length: 5\r\n", post), "bad_length" },
  { "a length before a coding", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", post),
    "bad_length" },
  { "a length behind a coding", get("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", post),
    "bad_length" },
  { "a length of 0 beside a coding", get("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    post),
    "bad_length" },
  { "two codings in two lines",
    get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", post), "bad_length" },
  { "identity and chunked in two lines",
    get("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", post), "bad_length" },
  { "a coding in HTTP/1.0", get("Transfer-Encoding: chunked\r\n", "POST / HTTP/1.0"),
    "bad_length" },
  { "a folded coding", get("Transfer-Encoding:\r\n chunked\r\n", post), "bad_field" },
  { "a coding with a space before the colon", get("Transfer-Encoding : chunked\r\n", post),
    "bad_field" },
  { "another expectation", get("Expect: 200-ok\r\nContent-Length: 1\r\n", post), "expectation" },
  { "one expectation of two unknown", get("Expect: 100-continue, x\r\n", post), "expectation" },
} do
  refused[#refused + 1] = case
end

-- { what it is, bytes, what is checked }
local accepted = {
  { "the shortest request", get "", { path = "/", framing = "none", is_keep_alive = true } },
  { "one empty line before it", "\r\n" .. get "", { path = "/" } },
  { "HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", { host = "", is_keep_alive = false } },
  { "HTTP/1.0 that keeps alive", get("Connection: Keep-Alive\r\n", "GET / HTTP/1.0"),
    { is_keep_alive = true } },
  { "HTTP/1.0 that says both", get("Connection: keep-alive, close\r\n", "GET / HTTP/1.0"),
    { is_keep_alive = false } },
  { "a higher minor version as 1.1", line "GET / HTTP/1.2", { version_minor = 1 } },
  { "Connection: close", get "Connection: close\r\n", { is_keep_alive = false } },
  { "close in a second Connection line", get "Connection: x\r\nConnection: a, CLOSE\r\n",
    { is_keep_alive = false } },
  { "a method of another name", line "M-SEARCH / HTTP/1.1", { method_name = "M-SEARCH" } },
  { "a lower-case method as another one", line "get / HTTP/1.1", { method = 0 } },
  { "a query", line "GET /a?b=c&d HTTP/1.1", { path = "/a", query = "b=c&d" } },
  { "an empty query", line "GET /a? HTTP/1.1", { path = "/a", query = "" } },
  { "a query with a question mark and a slash", line "GET /?a?/.. HTTP/1.1", { query = "a?/.." } },
  { "a path in its normal form", line "GET /a//b/./%41 HTTP/1.1",
    { path = "/a/b/A", path_raw = "/a//b/./%41" } },
  { "two slashes at the start as a path", line "GET //b.test/x HTTP/1.1",
    { path = "/b.test/x", host = "a.test", form = "origin" } },
  { "an absolute target over Host", line "GET http://B.test:81/x?y HTTP/1.1",
    { form = "absolute", host = "b.test", authority = "B.test:81", path = "/x", query = "y",
      host_field = "B.test:81" } },
  { "an absolute target without a path", line "GET http://b.test?y HTTP/1.1",
    { path = "/", query = "y" } },
  { "an absolute target in upper case", line "GET HTTP://b.test HTTP/1.1",
    { scheme = "http", path = "/" } },
  { "OPTIONS of a server by URL", line "OPTIONS http://b.test HTTP/1.1", { path = "*" } },
  { "OPTIONS of the server", line "OPTIONS * HTTP/1.1", { form = "asterisk", path = "*" } },
  { "CONNECT", line "CONNECT b.test:443 HTTP/1.1",
    { form = "authority", host = "b.test", path = "" } },
  { "a host in upper case with a port and a final dot",
    "GET / HTTP/1.1\r\nHost: A.Test.:8080\r\n\r\n", { host = "a.test",
      authority = "A.Test.:8080" } },
  { "an empty port", "GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", { host = "a.test" } },
  { "an IPv6 literal", "GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n",
    { host = "2001:db8::1" } },
  { "an IPv4 address", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", { host = "127.0.0.1" } },
  { "a name with an underscore", "GET / HTTP/1.1\r\nHost: a_b.test\r\n\r\n",
    { host = "a_b.test" } },
  { "white space around a value", "GET / HTTP/1.1\r\nHost: \t a.test \t\r\n\r\n",
    { host = "a.test" } },
  { "no white space behind the colon", "GET / HTTP/1.1\r\nHost:a.test\r\n\r\n",
    { host = "a.test" } },
  { "a byte from 0x80 on in a value", get "X-A: caf\233\r\n", {} },
  { "an empty value", get "X-A:\r\n", {} },
  { "every tchar in a name", get "!#$%&'*+-.^_`|~09azAZ: b\r\n", {} },
  { "a length", get("Content-Length: 5\r\n", post), { framing = "length", content_length = 5 } },
  { "a length of 0", get("Content-Length: 0\r\n", post), { framing = "length",
    content_length = 0 } },
  { "a length with zeros before it", get("Content-Length: 0005\r\n", post),
    { content_length = 5 } },
  { "a length with GET", get "Content-Length: 5\r\n", { framing = "length" } },
  { "a chunked body", get("Transfer-Encoding: chunked\r\n", post), { framing = "chunked" } },
  { "a chunked body in other case", get("transfer-encoding:\tChunKed \r\n", post),
    { framing = "chunked" } },
  { "an expectation", get("Expect: 100-Continue\r\nContent-Length: 5\r\n", post),
    { expects_continue = true } },
  { "an expectation without a body", get "Expect: 100-continue\r\n", { expects_continue = false } },
  { "an expectation in HTTP/1.0",
    get("Expect: 100-continue\r\nContent-Length: 5\r\n", "POST / HTTP/1.0"),
    { expects_continue = false } },
  { "an upgrade", get "Connection: Upgrade\r\nUpgrade: websocket\r\n", { wants_upgrade = true } },
  { "an Upgrade that Connection does not name", get "Upgrade: websocket\r\n",
    { wants_upgrade = false } },
  { "an upgrade in HTTP/1.0",
    get("Connection: upgrade\r\nUpgrade: websocket\r\n", "GET / HTTP/1.0"),
    { wants_upgrade = false } },
}

local function visible(bytes)
  return (("%q"):format(bytes:sub(1, 60)):gsub("\\\n", "\\n"):gsub("[%c\127-\255]", "?"))
end

describe("http/h1_parse_request", function()
  for _, case in ipairs(refused) do
    it("refuses " .. visible(case[1]), function()
      assert.equal(case[3], (h1.parse_request(case[2])))
    end)
  end

  for _, case in ipairs(accepted) do
    it("reads " .. case[1], function()
      local rc, request = h1.parse_request(case[2])
      assert.equal("ok", rc)
      for key, want in pairs(case[3]) do
        local got
        if key == "framing" then
          got = h1.FRAMING[request.framing]
        elseif key == "form" then
          got = h1.FORM[request.target_form]
        elseif key == "host_field" then
          got = helper.text(h1.lib.moon_fields_find(request.fields, helper.slice("host")).value)
        elseif key == "content_length" or key == "method" or key == "version_minor" then
          got = tonumber(request[key])
        elseif type(want) == "boolean" then
          got = request[key]
        else
          got = helper.text(request[key]) or ""
        end
        assert.equal(want, got, key)
      end
    end)
  end

  it("answers alike however the bytes arrive", function()
    for _, list in ipairs { refused, accepted } do
      for _, case in ipairs(list) do
        local whole = h1.parse_request(case[2])
        for cut = 1, #case[2] - 1 do
          local rc = h1.parse_request(case[2], { cuts = { cut } })
          if rc ~= whole then
            assert.equal(whole, rc, ("%s, cut at %d"):format(case[1], cut))
          end
        end
        local every = {}
        for cut = 1, #case[2] - 1 do
          every[cut] = cut
        end
        assert.equal(whole, (h1.parse_request(case[2], { cuts = every })), case[1])
      end
    end
  end)

  it("refuses a bad line before the head is whole", function()
    assert.equal("bad_request_line", (h1.scan("GET  / HTTP/1.1", {}, h1.limits())))
    assert.equal("bad_version", (h1.scan("GET / HTTP/2.0\r\n", {}, h1.limits())))
    assert.equal("bad_field", (h1.scan("GET / HTTP/1.1\r\nX: a\nb", {}, h1.limits())))
    assert.equal("again", (h1.scan("GET / HTTP/1.1\r\nHost: a\r\n\r", {}, h1.limits())))
    assert.equal("again", (h1.scan("\r", {}, h1.limits())))
    assert.equal("again", (h1.scan("", {}, h1.limits())))
  end)

  it("bounds target, head and field count, and says which", function()
    local small = { uri_bytes = 16, head_bytes = 256, header_count = 3 }
    local function rc(bytes, cuts)
      return (h1.parse_request(bytes, { limits = small, cuts = cuts }))
    end
    assert.equal("ok", rc(line("GET /" .. ("a"):rep(15) .. " HTTP/1.1")))
    assert.equal("uri_too_long", rc(line("GET /" .. ("a"):rep(16) .. " HTTP/1.1")))
    assert.equal("uri_too_long", rc("GET /" .. ("a"):rep(16)))
    assert.equal("ok", rc(get "A: b\r\nC: d\r\n"))
    assert.equal("head_too_large", rc(get "A: b\r\nC: d\r\nE: f\r\n"))
    local fit = 256 - #get "A: \r\n"
    assert.equal("ok", rc(get("A: " .. ("x"):rep(fit) .. "\r\n")))
    for cut = 0, 257 do
      local cuts = cut > 0 and { cut } or nil
      assert.equal("head_too_large", rc(get("A: " .. ("x"):rep(fit + 1) .. "\r\n"), cuts))
    end
    assert.equal("head_too_large", rc(get("A: " .. ("x"):rep(10000))))
  end)

  it("leaves what follows the head alone", function()
    local rc, len = h1.scan(get "" .. "GET /second", {}, h1.limits())
    assert.equal("ok", rc)
    assert.equal(#get "", len)
  end)

  it("survives an arena that is full at any size", function()
    local fields = {}
    for i = 1, 70 do
      fields[i] = ("X-%d: y\r\n"):format(i)
    end
    local bytes = get(table.concat(fields), "GET /A/%41/b%c3%a9 HTTP/1.1"):gsub("a.test", "A.Test")
    local seen = {}
    for ceiling = 0, 20000, 97 do
      seen[(h1.parse_request(bytes, { ceiling = ceiling }))] = true
    end
    assert.same({ memory = true, ok = true }, seen)
  end)

  it("keeps all fields in order with their case", function()
    local rc, request = h1.parse_request(get "X-b: 1\r\nx-A: 2\r\nX-b: 3\r\n")
    assert.equal("ok", rc)
    assert.same({ "Host: a.test", "X-b: 1", "x-A: 2", "X-b: 3" }, h1.field_lines(request.fields))
  end)
end)
