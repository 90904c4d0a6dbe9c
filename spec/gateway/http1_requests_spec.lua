-- SPDX-License-Identifier: Apache-2.0
--- HTTP/1.1 with clients, byte by byte (RFC 9112, RFC 9110): what a client sends, what it is
--- answered, and what a recording origin has seen of it. Behind every request that is refused stands
--- another one, which nobody may ever serve; behind every request that is not, one that is served.
local moongate = require("moongate.test")
local wire = require("spec.support.wire")

local config = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  limits = { head_bytes = 4096, uri_bytes = 1024, header_count = 20, body_bytes = 1000 },
  backends = { origin = { targets = { "http://127.0.0.1:PORT" } },
    below = { targets = { "http://127.0.0.1:PORT/base" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } },
    { hosts = { "below" }, routes = { { path = "/*", backend = "below" } } } },
}
]]

local SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
local NEXT = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n"

--- A request: its first line, fields separated by CRLF (Host is put in front), a body.
local function req(line, fields, body)
  return line .. "\r\nHost: a\r\n" .. (fields and fields .. "\r\n" or "") .. "\r\n" .. (body or "")
end

local function get(fields, body)
  return req("GET / HTTP/1.1", fields, body)
end

local function post(fields, body)
  return req("POST / HTTP/1.1", fields, body)
end

local function chunked(body, fields)
  return post("Transfer-Encoding: chunked" .. (fields and "\r\n" .. fields or ""), body)
end

local function bare(line, fields)
  return line .. "\r\n" .. (fields and fields .. "\r\n" or "") .. "\r\n"
end

local gw, origin

setup(function()
  gw, origin = wire.serve(moongate, config)
end)

teardown(function()
  wire.close(gw, origin)
end)

--- { section, { { what, bytes, status }, ... } }
local refused = {
  ["a request line (RFC 9112 §3)"] = {
    { "with LF alone", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400 },
    { "with CR alone", "GET / HTTP/1.1\rHost: a\r\n\r\n", 400 },
    { "with CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400 },
    { "behind two empty lines", "\r\n\r\n" .. get(), 400 },
    { "behind an empty line of LF alone", "\n" .. get(), 400 },
    { "behind a space", " " .. get(), 400 },
    { "with two spaces before the target", req("GET  / HTTP/1.1"), 400 },
    { "with two spaces before the version", req("GET /  HTTP/1.1"), 400 },
    { "with a tab before the target", req("GET\t/ HTTP/1.1"), 400 },
    { "with a tab before the version", req("GET /\tHTTP/1.1"), 400 },
    { "with a space behind the version", req("GET / HTTP/1.1 "), 400 },
    { "with a tab behind the version", req("GET / HTTP/1.1\t"), 400 },
    { "with a fourth word", req("GET / HTTP/1.1 x"), 400 },
    { "with a space in the target", req("GET /a b HTTP/1.1"), 400 },
    { "with a form feed as white space", req("GET\12/ HTTP/1.1"), 400 },
    { "with a vertical tab as white space", req("GET /\11HTTP/1.1"), 400 },
    { "with a NUL in the method", req("G\0T / HTTP/1.1"), 400 },
    { "with a NUL in the target", req("GET /\0 HTTP/1.1"), 400 },
    { "with a NUL in the version", req("GET / HTTP/1.1\0"), 400 },
    { "with a control byte in the target", req("GET /\1 HTTP/1.1"), 400 },
    { "with DEL in the target", req("GET /\127 HTTP/1.1"), 400 },
    { "with a byte past ASCII in the target", req("GET /\195\164 HTTP/1.1"), 400 },
    { "without a method", req(" / HTTP/1.1"), 400 },
    { "without a target", req("GET HTTP/1.1"), 400 },
    { "with an empty target", req("GET  HTTP/1.1"), 400 },
    { "with a method that is no token", req("GE(T / HTTP/1.1"), 400 },
    { "with a quoted method", req('"GET" / HTTP/1.1'), 400 },
    { "with a method of 65 bytes", req(("M"):rep(65) .. " / HTTP/1.1"), 501 },
    { "of HTTP/0.9", "GET /\r\n\r\n", 400 },
    { "of HTTP/0.9, alone", "GET /\r\n", 400 },
    { "with a version in small letters", req("GET / http/1.1"), 400 },
    { "with a version of mixed case", req("GET / Http/1.1"), 400 },
    { "with a version of two digits", req("GET / HTTP/1.10"), 400 },
    { "with a major version of two digits", req("GET / HTTP/01.1"), 400 },
    { "with a version of one number", req("GET / HTTP/1"), 400 },
    { "with a version that ends in a dot", req("GET / HTTP/1."), 400 },
    { "with a comma in the version", req("GET / HTTP/1,1"), 400 },
    { "with a signed version", req("GET / HTTP/+1.1"), 400 },
    { "with a letter behind the version", req("GET / HTTP/1.1a"), 400 },
    { "with a hexadecimal version", req("GET / HTTP/1.a"), 400 },
    { "with another protocol's name", req("GET / HTCPCP/1.1"), 400 },
    { "with ICY for HTTP", req("GET / ICY/1.1"), 400 },
    { "with a space in the version", req("GET / HTTP /1.1"), 400 },
    { "with version 0.9 by name", req("GET / HTTP/0.9"), 400 },
    { "with version 2.0", req("GET / HTTP/2.0"), 505 },
    { "with version 3.0", req("GET / HTTP/3.0"), 505 },
    { "with version 9.9", req("GET / HTTP/9.9"), 505 },
    { "that is the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505 },
    { "past uri_bytes", req("GET /" .. ("a"):rep(1100) .. " HTTP/1.1"), 414 },
    { "past uri_bytes in the query", req("GET /?" .. ("a"):rep(1100) .. " HTTP/1.1"), 414 },
    { "past uri_bytes, of HEAD, whose answer has no body", req("HEAD /" .. ("a"):rep(1100) .. " HTTP/1.1"), 414 },
    { "with a bad version, of HEAD", req("HEAD / HTTP/1.x"), 400 },
    { "that is a TLS hello", "\22\3\1\2\0\1\0\1\252\3\3", 400 },
    { "that is a reply", "HTTP/1.1 200 OK\r\nHost: a\r\n\r\n", 400 },
    { "with a no-break space as white space", req("GET\160/ HTTP/1.1"), 400 },
    { "with a space and a tab before the target", req("GET \t/ HTTP/1.1"), 400 },
    { "with a colon behind the method", req("GET: / HTTP/1.1"), 400 },
    { "behind a byte order mark", "\239\187\191" .. get(), 400 },
    { "behind a NUL", "\0" .. get(), 400 },
    { "behind CR CR LF", "\r\r\n" .. get(), 400 },
    { "behind CR alone", "\r" .. get(), 400 },
    { "behind an empty line with a space", " \r\n" .. get(), 400 },
    { "with a semicolon behind the version", req("GET / HTTP/1.1;x"), 400 },
    { "with a third number in the version", req("GET / HTTP/1.1.1"), 400 },
    { "with two slashes in the version", req("GET / HTTP//1.1"), 400 },
    { "with a space behind the slash of the version", req("GET / HTTP/ 1.1"), 400 },
    { "with a space before the dot of the version", req("GET / HTTP/1 .1"), 400 },
    { "with a negative minor version", req("GET / HTTP/1.-1"), 400 },
    { "with version 2 and no minor one", req("GET / HTTP/2"), 400 },
    { "with a version and no name", req("GET / 1.1"), 400 },
    { "with a space in the query", req("GET /?a b HTTP/1.1"), 400 },
    { "with a tab in the target", req("GET /a\tb HTTP/1.1"), 400 },
    { "with a whole request line in the target", req("GET /a HTTP/1.1 /smuggled HTTP/1.1"), 400 },
    { "with CR in the target", req("GET /a\rb HTTP/1.1"), 400 },
  },

  ["a target (RFC 9112 §3.2)"] = {
    { "without a slash", req("GET a HTTP/1.1"), 400 },
    { "that is a query alone", req("GET ?a=1 HTTP/1.1"), 400 },
    { "with a fragment", req("GET /a#b HTTP/1.1"), 400 },
    { "that is an asterisk, with GET", req("GET * HTTP/1.1"), 400 },
    { "that begins with an asterisk", req("OPTIONS *a HTTP/1.1"), 400 },
    { "in authority form, with GET", req("GET a:80 HTTP/1.1"), 400 },
    { "of CONNECT without a port", req("CONNECT a HTTP/1.1"), 400 },
    { "of CONNECT in origin form", req("CONNECT /a HTTP/1.1"), 400 },
    { "of CONNECT in absolute form", req("CONNECT http://a:80/ HTTP/1.1"), 400 },
    { "of CONNECT, which no gateway takes", req("CONNECT b:443 HTTP/1.1"), 405 },
    { "with an unknown scheme", req("GET ftp://a/ HTTP/1.1"), 400 },
    { "with a scheme alone", req("GET http: HTTP/1.1"), 400 },
    { "without an authority", req("GET http:///a HTTP/1.1"), 400 },
    { "with one slash behind the scheme", req("GET http:/a HTTP/1.1"), 400 },
    { "with user information", req("GET http://u@a/ HTTP/1.1"), 400 },
    { "with user and password", req("GET http://u:p@a/ HTTP/1.1"), 400 },
    { "with a bad port", req("GET http://a:x/ HTTP/1.1"), 400 },
    { "with a port past 65535", req("GET http://a:65536/ HTTP/1.1"), 400 },
    { "with a backslash for the authority's end", req("GET http://a\\@b/ HTTP/1.1"), 400 },
    { "with a fragment in absolute form", req("GET http://a/#b HTTP/1.1"), 400 },
    { "of https on a plain connection", req("GET https://a/ HTTP/1.1"), 421 },
    { "with an escape that is cut", req("GET /%2 HTTP/1.1"), 400 },
    { "with an escape that is none", req("GET /%zz HTTP/1.1"), 400 },
    { "with an escaped NUL", req("GET /%00 HTTP/1.1"), 400 },
    { "with an escaped slash", req("GET /a%2fb HTTP/1.1"), 400 },
    { "with an escaped backslash", req("GET /a%5cb HTTP/1.1"), 400 },
    { "with dot segments past the root", req("GET /../a HTTP/1.1"), 400 },
    { "with escaped dots past the root", req("GET /%2e%2E/a HTTP/1.1"), 400 },
    { "with dots that hide behind a parameter", req("GET /a/..;/b HTTP/1.1"), 400 },
    { "with an unknown kind of escape", req("GET /%u0041 HTTP/1.1"), 400 },
    { "with an escape of one digit", req("GET /%4 HTTP/1.1"), 400 },
    { "with a backslash", req("GET /a\\..\\b HTTP/1.1"), 400 },
    { "with a NUL escaped in the middle", req("GET /a%00.html HTTP/1.1"), 400 },
    { "with half-escaped dots past the root", req("GET /.%2e/a HTTP/1.1"), 400 },
    { "with an escaped slash in the other case", req("GET /..%2F..%2Fa HTTP/1.1"), 400 },
    { "with dots past the root behind empty segments", req("GET //../a HTTP/1.1"), 400 },
    { "with dots and a parameter at the root", req("GET /..;a=b/c HTTP/1.1"), 400 },
    { "with dots that are escaped twice", req("GET /a/%252e%252e/b HTTP/1.1"), 400 },
    { "of a scheme that switches protocols", req("GET ws://a/ HTTP/1.1"), 400 },
    { "that runs a script", req("GET javascript:alert(1) HTTP/1.1"), 400 },
    { "that is no URL of a server", req("GET urn:a:b HTTP/1.1"), 400 },
    { "with empty user information", req("GET http://@a/ HTTP/1.1"), 400 },
    { "with user information and no host", req("GET http://a@/ HTTP/1.1"), 400 },
    { "with a port and no host", req("GET http://:80/ HTTP/1.1"), 400 },
    { "with an escape in the authority", req("GET http://a%2eb/ HTTP/1.1"), 400 },
    { "with an open bracket in the authority", req("GET http://[::1/ HTTP/1.1"), 400 },
    { "with a space in the authority", req("GET http://a b/ HTTP/1.1"), 400 },
    { "in absolute form beside two Hosts", bare("GET http://a/ HTTP/1.1", "Host: a\r\nHost: a"), 400 },
    { "that is an asterisk, with POST", req("POST * HTTP/1.1"), 400 },
    { "that is an asterisk, with HEAD", req("HEAD * HTTP/1.1"), 400 },
    { "that is an asterisk with a query", req("OPTIONS *?a HTTP/1.1"), 400 },
    { "of CONNECT with port 0", req("CONNECT a:0 HTTP/1.1"), 400 },
    { "of CONNECT with a port past 65535", req("CONNECT a:65536 HTTP/1.1"), 400 },
    { "of CONNECT without a host", req("CONNECT :80 HTTP/1.1"), 400 },
    { "of CONNECT with user information", req("CONNECT u@a:80 HTTP/1.1"), 400 },
    { "of CONNECT with a path", req("CONNECT a:80/ HTTP/1.1"), 400 },
    { "of CONNECT that is an asterisk", req("CONNECT * HTTP/1.1"), 400 },
    { "of CONNECT to an IPv6 address, which no gateway takes", req("CONNECT [::1]:80 HTTP/1.1"), 405 },
    { "of connect, which is another method", req("connect a:80 HTTP/1.1"), 400 },
  },

  ["a field (RFC 9112 §5)"] = {
    { "that ends in LF alone", "GET / HTTP/1.1\r\nHost: a\r\nX: a\n\r\n", 400 },
    { "that holds CR", get("X: a\rb"), 400 },
    { "that holds CR before another field", get("X: a\rContent-Length: 5"), 400 },
    { "that ends in CR CR LF", get("X: a\r"), 400 },
    { "with LF alone for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400 },
    { "with a space before the colon", get("X : a"), 400 },
    { "with a tab before the colon", get("X\t: a"), 400 },
    { "that is folded by a space", get("X: a\r\n b"), 400 },
    { "that is folded by a tab", get("X: a\r\n\tb"), 400 },
    { "that is folded without text", get("X: a\r\n "), 400 },
    { "that is the first and folded", "GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", 400 },
    { "whose Content-Length is folded", post("Content-Length:\r\n 5", "hello"), 400 },
    { "whose Transfer-Encoding is folded", post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), 400 },
    { "without a colon", get("X"), 400 },
    { "without a name", get(": a"), 400 },
    { "with a NUL in its name", get("X\0: a"), 400 },
    { "with a NUL in its value", get("X: a\0b"), 400 },
    { "with a NUL at its end", get("X: a\0"), 400 },
    { "with BEL in its value", get("X: a\7b"), 400 },
    { "with DEL in its value", get("X: a\127b"), 400 },
    { "with a vertical tab in its value", get("X: a\11b"), 400 },
    { "with a form feed in its value", get("X: a\12b"), 400 },
    { "with ESC in its value", get("X: \27[0m"), 400 },
    { "with parentheses in its name", get("X(y): a"), 400 },
    { "with a slash in its name", get("X/y: a"), 400 },
    { "with a space within its name", get("X y: a"), 400 },
    { "with a byte past ASCII in its name", get("X\195\164: a"), 400 },
    { "with a quoted name", get('"X": a'), 400 },
    { "with a byte order mark before its name", get("\239\187\191X: a"), 400 },
    { "that is one of too many", get(("X: a\r\n"):rep(20) .. "Y: b"), 431 },
    { "past head_bytes", get("X: " .. ("a"):rep(5000)), 431 },
    { "past head_bytes, of HEAD", req("HEAD / HTTP/1.1", "X: " .. ("a"):rep(5000)), 431 },
    { "that is folded, of HEAD", req("HEAD / HTTP/1.1", "X: a\r\n b"), 400 },
    { "whose name is past head_bytes", get(("x"):rep(5000) .. ": a"), 431 },
    { "whose name is a colon", get(":"), 400 },
    { "with an at sign in its name", get("X@y: a"), 400 },
    { "with a comma in its name", get("X,y: a"), 400 },
    { "with a semicolon in its name", get("X;y: a"), 400 },
    { "with an equals sign for the colon", get("X=a"), 400 },
    { "with brackets in its name", get("X[]: a"), 400 },
    { "with braces in its name", get("X{}: a"), 400 },
    { "with a backslash in its name", get("X\\y: a"), 400 },
    { "with a question mark in its name", get("X?: a"), 400 },
    { "with a no-break space before the colon", get("X\160: a"), 400 },
    { "with a vertical tab before the colon", get("X\11: a"), 400 },
    { "that holds another behind LF alone", post("X: a\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "that holds another behind CR CR LF", post("X: a\r\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "that begins with CR", post("\rTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "that is Host with a space before the colon", bare("GET / HTTP/1.1", "Host : a"), 400 },
    { "that is folded, and hides a length", post("X: a\r\n\tContent-Length: 5", "hello"), 400 },
    { "that is a request line", get("GET /smuggled HTTP/1.1"), 400 },
  },

  ["Host (RFC 9112 §3.2)"] = {
    { "is missing", bare("GET / HTTP/1.1"), 400 },
    { "is missing beside others", bare("GET / HTTP/1.1", "X: a"), 400 },
    { "is there twice", bare("GET / HTTP/1.1", "Host: a\r\nHost: b"), 400 },
    { "is there twice, the same", bare("GET / HTTP/1.1", "Host: a\r\nHost: a"), 400 },
    { "is there twice, in other letters", bare("GET / HTTP/1.1", "Host: a\r\nhOST: b"), 400 },
    { "is there twice in HTTP/1.0", bare("GET / HTTP/1.0", "Host: a\r\nHost: b"), 400 },
    { "is empty", bare("GET / HTTP/1.1", "Host:"), 400 },
    { "is white space", bare("GET / HTTP/1.1", "Host: \t "), 400 },
    { "is a list", bare("GET / HTTP/1.1", "Host: a, b"), 400 },
    { "has a space", bare("GET / HTTP/1.1", "Host: a b"), 400 },
    { "has a path", bare("GET / HTTP/1.1", "Host: a/b"), 400 },
    { "has a query", bare("GET / HTTP/1.1", "Host: a?b"), 400 },
    { "has a fragment", bare("GET / HTTP/1.1", "Host: a#b"), 400 },
    { "has user information", bare("GET / HTTP/1.1", "Host: u@a"), 400 },
    { "has a scheme", bare("GET / HTTP/1.1", "Host: http://a"), 400 },
    { "has a backslash", bare("GET / HTTP/1.1", "Host: a\\b"), 400 },
    { "has a port that is no number", bare("GET / HTTP/1.1", "Host: a:b"), 400 },
    { "has a signed port", bare("GET / HTTP/1.1", "Host: a:+80"), 400 },
    { "has a port past 65535", bare("GET / HTTP/1.1", "Host: a:65536"), 400 },
    { "has two ports", bare("GET / HTTP/1.1", "Host: a:80:80"), 400 },
    { "has port 0", bare("GET / HTTP/1.1", "Host: a:0"), 400 },
    { "is a port alone", bare("GET / HTTP/1.1", "Host: :80"), 400 },
    { "has an empty label", bare("GET / HTTP/1.1", "Host: a..b"), 400 },
    { "begins with a dot", bare("GET / HTTP/1.1", "Host: .a"), 400 },
    { "has an escape", bare("GET / HTTP/1.1", "Host: %61"), 400 },
    { "has a byte past ASCII", bare("GET / HTTP/1.1", "Host: \195\164"), 400 },
    { "is an open bracket", bare("GET / HTTP/1.1", "Host: [::1"), 400 },
    { "is brackets around nothing", bare("GET / HTTP/1.1", "Host: []"), 400 },
    { "is IPv4 in brackets", bare("GET / HTTP/1.1", "Host: [127.0.0.1]"), 400 },
    { "has text behind the bracket", bare("GET / HTTP/1.1", "Host: [::1]a"), 400 },
    { "has an IPv6 address with a zone", bare("GET / HTTP/1.1", "Host: [fe80::1%25eth0]"), 400 },
    { "is missing with an absolute target", bare("GET http://a/ HTTP/1.1"), 400 },
    { "is malformed with an absolute target", bare("GET http://a/ HTTP/1.1", "Host: a b"), 400 },
    { "is there twice, the second empty", bare("GET / HTTP/1.1", "Host: a\r\nHost:"), 400 },
    { "is there twice, with others between", bare("GET / HTTP/1.1", "Host: a\r\nX: a\r\nHost: a"), 400 },
    { "has a tab inside", bare("GET / HTTP/1.1", "Host: a\tb"), 400 },
    { "has a NUL", bare("GET / HTTP/1.1", "Host: a\0b"), 400 },
    { "is an IPv6 address without brackets", bare("GET / HTTP/1.1", "Host: ::1"), 400 },
    { "is an IPv6 address with a bad port", bare("GET / HTTP/1.1", "Host: [::1]:x"), 400 },
    { "is an address that is none", bare("GET / HTTP/1.1", "Host: [::g]"), 400 },
    { "has two brackets", bare("GET / HTTP/1.1", "Host: [[::1]]"), 400 },
    { "has a port of hexadecimal digits", bare("GET / HTTP/1.1", "Host: a:0x50"), 400 },
    { "has an at sign and a port", bare("GET / HTTP/1.1", "Host: a:80@b"), 400 },
    { "is quoted", bare("GET / HTTP/1.1", 'Host: "a"'), 400 },
  },

  ["Content-Length (RFC 9112 §6.2)"] = {
    { "differs from another", post("Content-Length: 5\r\nContent-Length: 6", "helloX"), 400 },
    { "is there twice, the same", post("Content-Length: 5\r\nContent-Length: 5", "hello"), 400 },
    { "is there three times", post("Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5", "hello"), 400 },
    { "is there twice, with zeros", post("Content-Length: 5\r\nContent-Length: 05", "hello"), 400 },
    { "is a list", post("Content-Length: 5, 5", "hello"), 400 },
    { "is a list of different numbers", post("Content-Length: 5, 6", "helloX"), 400 },
    { "is a list with empty elements", post("Content-Length: ,5", "hello"), 400 },
    { "ends in a comma", post("Content-Length: 5,", "hello"), 400 },
    { "is empty", post("Content-Length:", "hello"), 400 },
    { "is white space", post("Content-Length:  ", "hello"), 400 },
    { "is negative", post("Content-Length: -1", "hello"), 400 },
    { "is negative zero", post("Content-Length: -0", ""), 400 },
    { "has a plus", post("Content-Length: +5", "hello"), 400 },
    { "is hexadecimal", post("Content-Length: 0x5", "hello"), 400 },
    { "has a hexadecimal digit", post("Content-Length: a", "helloworld"), 400 },
    { "has a fraction", post("Content-Length: 5.0", "hello"), 400 },
    { "has an exponent", post("Content-Length: 5e0", "hello"), 400 },
    { "has a space inside", post("Content-Length: 1 0", "helloworld"), 400 },
    { "has an underscore inside", post("Content-Length: 1_0", "helloworld"), 400 },
    { "has a semicolon", post("Content-Length: 5;x", "hello"), 400 },
    { "is quoted", post('Content-Length: "5"', "hello"), 400 },
    { "is a word", post("Content-Length: five", "hello"), 400 },
    { "has digits of another script", post("Content-Length: \217\165", "hello"), 400 },
    { "is past 2^63", post("Content-Length: 9223372036854775808", ""), 400 },
    { "wraps around 2^64", post("Content-Length: 18446744073709551621", "hello"), 400 },
    { "has a hundred digits", post("Content-Length: " .. ("9"):rep(100), ""), 400 },
    { "has a vertical tab", post("Content-Length: \0115", "hello"), 400 },
    { "has a space before the colon", post("Content-Length : 5", "hello"), 400 },
    { "is malformed with GET", get("Content-Length: x"), 400 },
    { "is malformed in HTTP/1.0", bare("POST / HTTP/1.0", "Content-Length: 5, 5"), 400 },
    { "is past body_bytes", post("Content-Length: 1000001", ""), 413 },
    { "is there twice, with others between", post("Content-Length: 5\r\nX: a\r\nContent-Length: 5", "hello"), 400 },
    { "is 0 and then something", get("Content-Length: 0\r\nContent-Length: 43"), 400 },
    { "is there twice, one of it empty", post("Content-Length: 5\r\nContent-Length:", "hello"), 400 },
    { "has a comment", post("Content-Length: 5 (five)", "hello"), 400 },
    { "is in parentheses", post("Content-Length: (5)", "hello"), 400 },
    { "is in single quotes", post("Content-Length: '5'", "hello"), 400 },
    { "is two numbers", post("Content-Length: 5 5", "hello"), 400 },
    { "is binary", post("Content-Length: 0b101", "hello"), 400 },
    { "is octal by name", post("Content-Length: 0o5", "hello"), 400 },
    { "has a no-break space", post("Content-Length: \1605", "hello"), 400 },
    { "has a NUL behind it", post("Content-Length: 5\0", "hello"), 400 },
    { "has CR behind it", post("Content-Length: 5\r", "hello"), 400 },
    { "has a tab inside", post("Content-Length: 5\t0", "hello"), 400 },
    { "is 2^64", post("Content-Length: 18446744073709551616", ""), 400 },
    { "is 2^63 - 1, past body_bytes", post("Content-Length: 9223372036854775807", ""), 413 },
    { "is 2^32 + 5, past body_bytes", post("Content-Length: 4294967301", "hello"), 413 },
    { "has a NUL behind its name", post("Content-Length\0: 5", "hello"), 400 },
  },

  ["Transfer-Encoding (RFC 9112 §6.1)"] = {
    { "stands with Content-Length", post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), 400 },
    { "stands with Content-Length before it",
      post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "stands with a length of 0", post("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "stands with a malformed length", post("Content-Length: x\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "is there twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "is there twice, one of it unknown",
      post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "0\r\n\r\n"), 400 },
    { "is there twice, chunked last", post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "is chunked twice", post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), 400 },
    { "is chunked, but not last", post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"), 400 },
    { "is another coding before chunked", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), 501 },
    { "is another coding alone", post("Transfer-Encoding: gzip", "x"), 400 },
    { "is identity", post("Transfer-Encoding: identity", "x"), 400 },
    { "is identity before chunked", post("Transfer-Encoding: identity, chunked", "0\r\n\r\n"), 501 },
    { "is empty", post("Transfer-Encoding:", "0\r\n\r\n"), 400 },
    { "is a comma", post("Transfer-Encoding: ,", "0\r\n\r\n"), 400 },
    { "has an empty element", post("Transfer-Encoding: ,chunked", "0\r\n\r\n"), 400 },
    { "ends in a comma", post("Transfer-Encoding: chunked,", "0\r\n\r\n"), 400 },
    { "has a parameter", post("Transfer-Encoding: chunked;q=1", "0\r\n\r\n"), 400 },
    { "is quoted", post('Transfer-Encoding: "chunked"', "0\r\n\r\n"), 400 },
    { "is cut", post("Transfer-Encoding: chunke", "0\r\n\r\n"), 400 },
    { "has a letter too many", post("Transfer-Encoding: xchunked", "0\r\n\r\n"), 400 },
    { "has a vertical tab", post("Transfer-Encoding: \11chunked", "0\r\n\r\n"), 400 },
    { "ends in a vertical tab", post("Transfer-Encoding: chunked\11", "0\r\n\r\n"), 400 },
    { "has a NUL", post("Transfer-Encoding: chunked\0", "0\r\n\r\n"), 400 },
    { "has a byte past ASCII", post("Transfer-Encoding: \255chunked", "0\r\n\r\n"), 400 },
    { "has white space inside", post("Transfer-Encoding: chun ked", "0\r\n\r\n"), 400 },
    { "has a space before the colon", post("Transfer-Encoding : chunked", "0\r\n\r\n"), 400 },
    { "has a line end before the colon", post("Transfer-Encoding\r\n : chunked", "0\r\n\r\n"), 400 },
    { "is behind CR alone", post("X: a\rTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "comes in HTTP/1.0", bare("POST / HTTP/1.0", "Host: a\r\nTransfer-Encoding: chunked") .. "0\r\n\r\n", 400 },
    { "comes in HTTP/1.0 with a length",
      bare("POST / HTTP/1.0", "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked") .. "0\r\n\r\n", 400 },
    { "is chunked and then identity", post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), 400 },
    { "is chunked amid identity", post("Transfer-Encoding: identity, chunked, identity", "0\r\n\r\n"), 400 },
    { "is there twice, identity last",
      post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"), 400 },
    { "is there twice, empty last", post("Transfer-Encoding: chunked\r\nTransfer-Encoding:", "0\r\n\r\n"), 400 },
    { "is there twice, empty first", post("Transfer-Encoding:\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "is there twice, in other letters",
      post("Transfer-Encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n"), 400 },
    { "is there twice, with a length between",
      post("Transfer-Encoding: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "is trailers before chunked", post("Transfer-Encoding: trailers, chunked", "0\r\n\r\n"), 501 },
    { "is deflate alone", post("Transfer-Encoding: deflate", "x"), 400 },
    { "is in single quotes", post("Transfer-Encoding: 'chunked'", "0\r\n\r\n"), 400 },
    { "has a semicolon", post("Transfer-Encoding: chunked;", "0\r\n\r\n"), 400 },
    { "has a Kelvin sign for its k", post("Transfer-Encoding: chun\226\132\170ed", "0\r\n\r\n"), 400 },
    { "is two words", post("Transfer-Encoding: chunked chunked", "0\r\n\r\n"), 400 },
    { "is gzip and chunked in two words", post("Transfer-Encoding: gzip chunked", "0\r\n\r\n"), 400 },
    { "has a no-break space", post("Transfer-Encoding: \160chunked", "0\r\n\r\n"), 400 },
    { "has a form feed", post("Transfer-Encoding: \12chunked", "0\r\n\r\n"), 400 },
    { "has CR behind it", post("Transfer-Encoding: chunked\r", "0\r\n\r\n"), 400 },
    { "has CR before it", post("Transfer-Encoding: \rchunked", "0\r\n\r\n"), 400 },
    { "ends in LF alone", post("Transfer-Encoding: chunked\nX: a", "0\r\n\r\n"), 400 },
    { "has a vertical tab behind its name", post("Transfer-Encoding\11: chunked", "0\r\n\r\n"), 400 },
    { "has a NUL behind its name", post("Transfer-Encoding\0: chunked", "0\r\n\r\n"), 400 },
    { "has a tab behind its name", post("Transfer-Encoding\t: chunked", "0\r\n\r\n"), 400 },
    { "stands with a length that is named by Connection",
      post("Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "is named by Connection and stands with a length",
      post("Connection: Transfer-Encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "comes with GET and a length", get("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400 },
    { "comes in HTTP/1.0 that is kept",
      bare("POST / HTTP/1.0", "Host: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked") .. "0\r\n\r\n", 400 },
  },

  ["a chunked body (RFC 9112 §7.1)"] = {
    { "with a size that is no number", chunked("z\r\n"), 400 },
    { "with an empty size", chunked("\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with 0x before the size", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a plus before the size", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a minus before the size", chunked("-5\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a space before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a space behind the size", chunked("5 \r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a tab behind the size", chunked("5\t\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with an underscore in the size", chunked("1_0\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a dot in the size", chunked("5.\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a comma in the size", chunked("5,5\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a size that wraps around", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a size past 2^63", chunked("8000000000000000\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with many leading zeros", chunked(("0"):rep(20) .. "5\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with LF alone behind the size", chunked("5\nhello\r\n0\r\n\r\n"), 400 },
    { "with CR alone behind the size", chunked("5\rhello\r\n0\r\n\r\n"), 400 },
    { "with LF alone behind the data", chunked("5\r\nhello\n0\r\n\r\n"), 400 },
    { "with CR alone behind the data", chunked("5\r\nhello\r0\r\n\r\n"), 400 },
    { "with nothing behind the data", chunked("5\r\nhello0\r\n\r\n"), 400 },
    { "with more data than its size", chunked("4\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with less data than its size", chunked("6\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with LF alone behind the last size", chunked("0\n\r\n"), 400 },
    { "with LF alone at its end", chunked("0\r\n\n"), 400 },
    { "with CR alone at its end", chunked("0\r\n\rX"), 400 },
    { "with a NUL in the size", chunked("5\0\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a semicolon and no extension", chunked("5;\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with an extension without a value", chunked("5;a=\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with an extension without a name", chunked("5;=a\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with LF in an extension", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with CR in an extension", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a NUL in an extension", chunked("5;a\0\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a quote that stays open", chunked('5;a="b\r\nhello\r\n0\r\n\r\n'), 400 },
    { "with LF in a quoted value", chunked('5;a="\n"\r\nhello\r\n0\r\n\r\n'), 400 },
    { "with an extension past its limit", chunked("5;" .. ("a"):rep(2000) .. "\r\nhello\r\n0\r\n\r\n"), 400 },
    { "past body_bytes", chunked("3e9\r\n" .. ("x"):rep(1001) .. "\r\n0\r\n\r\n"), 413 },
    { "past body_bytes in a size that does not come", chunked("7fffffff\r\n" .. ("x"):rep(1001)), 413 },
    { "with a trailer without a colon", chunked("0\r\nX\r\n\r\n"), 400 },
    { "with a trailer without a name", chunked("0\r\n: a\r\n\r\n"), 400 },
    { "with a space before a trailer's colon", chunked("0\r\nX : a\r\n\r\n"), 400 },
    { "with a folded trailer", chunked("0\r\nX: a\r\n b\r\n\r\n"), 400 },
    { "with a trailer that ends in LF alone", chunked("0\r\nX: a\n\r\n"), 400 },
    { "with a NUL in a trailer", chunked("0\r\nX: a\0\r\n\r\n"), 400 },
    { "with CR in a trailer", chunked("0\r\nX: a\rb\r\n\r\n"), 400 },
    { "with trailers past their limit", chunked("0\r\nX: " .. ("a"):rep(9000) .. "\r\n\r\n"), 431 },
    { "with too many trailers", chunked("0\r\n" .. ("X: a\r\n"):rep(101) .. "\r\n"), 431 },
    { "with a size of 2^64 - 1", chunked("ffffffffffffffff\r\n"), 400 },
    { "with a size that wraps around 2^32", chunked("100000005\r\n" .. ("x"):rep(1001)), 413 },
    { "with minus zero", chunked("-0\r\n\r\n"), 400 },
    { "with plus zero", chunked("+0\r\n\r\n"), 400 },
    { "with 0x0", chunked("0x0\r\n\r\n"), 400 },
    { "with a letter behind the size", chunked("5h\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a vertical tab behind the size", chunked("5\11\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a no-break space behind the size", chunked("5\160\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a quote around the size", chunked('"5"\r\nhello\r\n0\r\n\r\n'), 400 },
    { "with CR CR LF behind the size", chunked("5\r\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with LF CR behind the size", chunked("5\n\rhello\r\n0\r\n\r\n"), 400 },
    { "with two other bytes for the line end behind the data", chunked("5\r\nhelloXX0\r\n\r\n"), 400 },
    { "with CR CR behind the data", chunked("5\r\nhello\r\r0\r\n\r\n"), 400 },
    { "with LF LF behind the data", chunked("5\r\nhello\n\n0\r\n\r\n"), 400 },
    { "with an empty line between chunks", chunked("5\r\nhello\r\n\r\n0\r\n\r\n"), 400 },
    { "with a space before the second size", chunked("5\r\nhello\r\n 0\r\n\r\n"), 400 },
    { "with an extension alone", chunked(";a\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a second semicolon and nothing", chunked("5;a;\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with LF for the extension", chunked("5;\nhello\r\n0\r\n\r\n"), 400 },
    { "with LF behind an extension", chunked("5;a\nhello\r\n0\r\n\r\n"), 400 },
    { "with LF in the last chunk's extension", chunked("0;\n\r\n"), 400 },
    { "with text behind a quoted value", chunked('5;a="b"c\r\nhello\r\n0\r\n\r\n'), 400 },
    { "with an escape at the line's end", chunked('5;a="\\\r\nhello\r\n0\r\n\r\n'), 400 },
    { "with a byte past ASCII in an extension", chunked("5;a\128\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with two values", chunked("5;a=b=c\r\nhello\r\n0\r\n\r\n"), 400 },
    { "with a request line for a trailer", chunked("0\r\nGET /smuggled HTTP/1.1\r\nX: a\r\n\r\n"), 400 },
    { "with a trailer that begins folded", chunked("0\r\n X: a\r\n\r\n"), 400 },
    { "with a trailer that is a colon", chunked("0\r\n:\r\n\r\n"), 400 },
    { "with LF for the last line, behind a trailer", chunked("0\r\nX: a\r\n\n"), 400 },
    { "with CR CR LF for the last line", chunked("0\r\n\r\r\n"), 400 },
  },

  ["other fields"] = {
    { "Expect of something else (RFC 9110 §10.1.1)", post("Expect: 200-ok\r\nContent-Length: 5", "hello"), 417 },
    { "Expect of something else beside 100-continue",
      post("Expect: 100-continue, x\r\nContent-Length: 5", "hello"), 417 },
    { "Expect with a parameter", post("Expect: 100-continue;a\r\nContent-Length: 5", "hello"), 417 },
    { "Expect of 100-continue in quotes", post('Expect: "100-continue"\r\nContent-Length: 5', "hello"), 417 },
    { "Expect twice, one of it unknown", post("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5", "hello"), 417 },
  },
}

--- { section, { { what, bytes, { sees = patterns, lacks = patterns, body = text } }, ... } }
local forwarded = {
  ["a request line"] = {
    { "behind an empty line (RFC 9112 §2.2)", "\r\n" .. get(), { sees = { "^GET / HTTP/1%.1\r\n" } } },
    { "of a higher minor version (RFC 9110 §2.5)", req("GET / HTTP/1.9"), { sees = { "^GET / HTTP/1%.1\r\n" } } },
    { "with a method that nobody knows", req("BREW /pot HTTP/1.1"), { sees = { "^BREW /pot HTTP/1%.1\r\n" } } },
    { "with a method in small letters", req("get / HTTP/1.1"), { sees = { "^get / " } } },
    { "with a method of token characters", req("M-SEARCH!#$ / HTTP/1.1"), { sees = { "^M%-SEARCH!#%$ / " } } },
    { "with a target of one byte less than uri_bytes", req("GET /" .. ("a"):rep(1022) .. " HTTP/1.1"), {} },
    { "with a query of anything", req("GET /?a=%00&b=<>&c=../.. HTTP/1.1"),
      { sees = { "^GET /%?a=%%00&b=<>&c=%.%./%.%. " } } },
    { "with dot segments", req("GET /a/./b/../c HTTP/1.1"), { sees = { "^GET /a/c " } } },
    { "with escaped dot segments", req("GET /a/%2e%2e/c HTTP/1.1"), { sees = { "^GET /c " } } },
    { "with doubled slashes", req("GET //a///b HTTP/1.1"), { sees = { "^GET /a/b " } } },
    { "with escapes of letters", req("GET /%61%62 HTTP/1.1"), { sees = { "^GET /ab " } } },
    { "with escapes in small letters", req("GET /%c3%a4 HTTP/1.1"), { sees = { "^GET /%%C3%%A4 " } } },
    { "with a parameter in a segment", req("GET /a;b=c/d HTTP/1.1"), { sees = { "^GET /a;b=c/d " } } },
    { "with half-escaped dots", req("GET /a/.%2e/b HTTP/1.1"), { sees = { "^GET /b " } } },
    { "with a line end that is escaped", req("GET /a%0d%0aX:%20y HTTP/1.1"),
      { sees = { "^GET /a%%0D%%0AX:%%20y HTTP" }, lacks = { "\r\nX:" } } },
    { "with a host for its first segment", req("GET //b.test/c HTTP/1.1"),
      { sees = { "^GET /b%.test/c ", "\r\nHost: a\r\n" } } },
    { "with a query that is a URL",
      req("GET /?u=http://b/%2e%2e/ HTTP/1.1"), { sees = { "^GET /%?u=http://b/%%2e%%2e/ " } } },
    { "with two question marks", req("GET /?a?b HTTP/1.1"), { sees = { "^GET /%?a%?b " } } },
  },

  ["a target"] = {
    { "in absolute form, as its path (RFC 9112 §3.2.2)", req("GET http://b/c?d HTTP/1.1"),
      { sees = { "^GET /c%?d HTTP", "\r\nHost: b\r\n" }, lacks = { "\r\nHost: a\r\n" } } },
    { "in absolute form without a path", req("GET http://b HTTP/1.1"),
      { sees = { "^GET / HTTP", "\r\nHost: b\r\n" } } },
    { "in absolute form with a query and no path", req("GET http://b?c HTTP/1.1"), { sees = { "^GET /%?c HTTP" } } },
    { "in absolute form with a port", req("GET http://b:81/ HTTP/1.1"), { sees = { "\r\nHost: b:81\r\n" } } },
    { "in absolute form with the scheme in capitals", req("GET HTTP://b/ HTTP/1.1"), { sees = { "^GET / HTTP" } } },
    { "in absolute form in HTTP/1.0 without Host", bare("GET http://b/ HTTP/1.0"),
      { sees = { "\r\nHost: b\r\n" }, closes = true } },
    { "that is an asterisk (RFC 9112 §3.2.4)", req("OPTIONS * HTTP/1.1"), { sees = { "^OPTIONS %* HTTP/1%.1\r\n" } } },
    { "that is a path, below the backend's own", bare("GET /c HTTP/1.1", "Host: below"),
      { sees = { "^GET /base/c HTTP/1%.1\r\n" } } },
    { "that is an asterisk, whatever the backend's own path", bare("OPTIONS * HTTP/1.1", "Host: below"),
      { sees = { "^OPTIONS %* HTTP/1%.1\r\n" } } },
    { "of OPTIONS in absolute form without a path", req("OPTIONS http://b HTTP/1.1"),
      { sees = { "^OPTIONS %* HTTP/1%.1\r\n", "\r\nHost: b\r\n" } } },
    { "in absolute form with an IPv6 address", req("GET http://[::1]:81/c HTTP/1.1"),
      { sees = { "^GET /c HTTP", "\r\nHost: %[::1%]:81\r\n" } } },
    { "in absolute form, normalised as others are",
      req("GET http://b//c/../d HTTP/1.1"), { sees = { "^GET /d HTTP" } } },
    { "of OPTIONS in absolute form with a path", req("OPTIONS http://b/ HTTP/1.1"),
      { sees = { "^OPTIONS / HTTP", "\r\nHost: b\r\n" } } },
  },

  ["Host"] = {
    { "with a port", bare("GET / HTTP/1.1", "Host: a:8080"), { sees = { "\r\nHost: a:8080\r\n" } } },
    { "with an empty port", bare("GET / HTTP/1.1", "Host: a:"), {} },
    { "in capitals", bare("GET / HTTP/1.1", "HOST: A"), { sees = { "\r\nHost: A\r\n" } } },
    { "that ends in a dot", bare("GET / HTTP/1.1", "Host: a."), {} },
    { "that is IPv4", bare("GET / HTTP/1.1", "Host: 127.0.0.1"), { sees = { "\r\nHost: 127%.0%.0%.1\r\n" } } },
    { "that is IPv6", bare("GET / HTTP/1.1", "Host: [::1]:80"), { sees = { "\r\nHost: %[::1%]:80\r\n" } } },
    { "behind other fields", bare("GET / HTTP/1.1", "X: a\r\nHost: a"), {} },
    { "without white space", bare("GET / HTTP/1.1", "Host:a"), { sees = { "\r\nHost: a\r\n" } } },
    { "amid white space", bare("GET / HTTP/1.1", "Host: \t a \t "), { sees = { "\r\nHost: a\r\n" } } },
    { "with an underscore", bare("GET / HTTP/1.1", "Host: a_b"), { sees = { "\r\nHost: a_b\r\n" } } },
    { "that is IPv4 inside IPv6", bare("GET / HTTP/1.1", "Host: [::ffff:127.0.0.1]"), {} },
  },

  ["a field"] = {
    { "with an empty value", get("X:"), { sees = { "\r\nX: ?\r\n" } } },
    { "with white space around its value", get("X: \t a b\t "), { sees = { "\r\nX: a b\r\n" } } },
    { "with a tab in its value", get("X: a\tb"), { sees = { "\r\nX: a\tb\r\n" } } },
    { "with bytes past ASCII in its value", get("X: \195\164\255"), { sees = { "\r\nX: \195\164\255\r\n" } } },
    { "with colons in its value", get("X: a:b:c"), { sees = { "\r\nX: a:b:c\r\n" } } },
    { "with every token character in its name", get("!#$%&'*+-.^_`|~9aZ: a"),
      { sees = { "\r\n!#%$%%&'%*%+%-%.%^_`|~9aZ: a\r\n" } } },
    { "of the same name as another", get("X: a\r\nX: b"), { sees = { "\r\nX: a\r\nX: b\r\n" } } },
    { "of the 19 that fit", get(("X: a\r\n"):rep(18) .. "Y: b"), { sees = { "\r\nY: b\r\n" } } },
    { "with C1 controls in its value, which are bytes past ASCII",
      get("X: \133\159"), { sees = { "\r\nX: \133\159\r\n" } } },
    { "that is like Transfer-Encoding with an underscore", post("Transfer_Encoding: chunked"), { body = "" } },
    { "that is like Content-Length with an underscore", post("Content_Length: 5"), { body = "" } },
    { "that ends like Transfer-Encoding", post("X-Transfer-Encoding: chunked"), { body = "" } },
    { "that is a coding, but not of the transfer", post("Content-Encoding: chunked\r\nContent-Length: 5", "hello"),
      { sees = { "\r\nContent%-Encoding: chunked\r\n", "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
    { "that is TE: chunked",
      post("TE: chunked\r\nContent-Length: 5", "hello"), { lacks = { "\r\nTE:" }, body = "hello" } },
  },

  ["a body"] = {
    { "of a length", post("Content-Length: 5", "hello"), { sees = { "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
    { "of a length with zeros", post("Content-Length: 0005", "hello"),
      { sees = { "\r\nContent%-Length: 5\r\n" }, lacks = { "0005" }, body = "hello" } },
    { "of a length amid white space", post("Content-Length: \t5\t ", "hello"),
      { sees = { "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
    { "of length 0", post("Content-Length: 0"), { sees = { "\r\nContent%-Length: 0\r\n" }, body = "" } },
    { "of GET", get("Content-Length: 5", "hello"), { sees = { "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
    { "of DELETE", req("DELETE / HTTP/1.1", "Content-Length: 5", "hello"), { body = "hello" } },
    { "of HEAD", req("HEAD / HTTP/1.1", "Content-Length: 5", "hello"), { body = "hello", method = "HEAD" } },
    { "of POST that has none", post(), { lacks = { "Content%-Length", "Transfer%-Encoding" }, body = "" } },
    { "that looks like a request", post("Content-Length: " .. #SMUGGLED, SMUGGLED), { body = SMUGGLED } },
    { "in chunks", chunked("5\r\nhello\r\n0\r\n\r\n"),
      { sees = { "\r\nTransfer%-Encoding: chunked\r\n" }, lacks = { "Content%-Length" },
        body = "5\r\nhello\r\n0\r\n\r\n" } },
    { "in chunks, in capitals", post("TRANSFER-ENCODING: CHUNKED", "5\r\nhello\r\n0\r\n\r\n"),
      { sees = { "\r\nTransfer%-Encoding: chunked\r\n" }, body = "5\r\nhello\r\n0\r\n\r\n" } },
    { "in chunks amid white space", post("Transfer-Encoding: \t chunked \t", "0\r\n\r\n"), { body = "0\r\n\r\n" } },
    { "in chunks of size 0", chunked("0\r\n\r\n"), { body = "0\r\n\r\n" } },
    { "in chunks of size 000", chunked("000\r\n\r\n"), { body = "0\r\n\r\n" } },
    { "in chunks with zeros and capitals", chunked("0A\r\nhelloworld\r\n0\r\n\r\n"), { joined = "helloworld" } },
    { "in many chunks", chunked("1\r\nh\r\n4\r\nello\r\n0\r\n\r\n"), { joined = "hello" } },
    { "in chunks with an extension", chunked("5;a=b\r\nhello\r\n0\r\n\r\n"), { joined = "hello", without = "a=b" } },
    { "in chunks with extensions",
      chunked('5;a;b=c;d="e;f\\"" \t; g = h\r\nhello\r\n0;i\r\n\r\n'):gsub('"" \t', '"" \t'),
      { joined = "hello" } },
    { "in chunks that hold CRLF", chunked("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"), { joined = "\r\n0\r\n\r\n" } },
    { "in chunks with a trailer", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
      { ends = "0\r\nX%-Sum: 1\r\n\r\n$" } },
    { "in chunks with a trailer that is announced (RFC 9110 §6.6.2)",
      chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "Trailer: X-Sum"),
      { sees = { "\r\nTrailer: X%-Sum\r\n" }, ends = "0\r\nX%-Sum: 1\r\n\r\n$" } },
    { "in chunks with trailers that frame", chunked("0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n"),
      { body = "0\r\n\r\n" } },
    { "in chunks with trailers that route", chunked("0\r\nHost: b\r\nX: a\r\n\r\n"), { body = "0\r\nX: a\r\n\r\n" } },
    { "in chunks with trailers that authenticate", chunked("0\r\nAuthorization: x\r\nCookie: y\r\n\r\n"),
      { body = "0\r\n\r\n" } },
    { "of a length without white space", post("Content-Length:5", "hello"), { body = "hello" } },
    { "in chunks without white space", post("Transfer-Encoding:chunked", "0\r\n\r\n"), { body = "0\r\n\r\n" } },
    { "in chunks of sixteen digits", chunked("0000000000000005\r\nhello\r\n0\r\n\r\n"), { joined = "hello" } },
    { "in chunks with white space before an extension", chunked("5 ;a=b\r\nhello\r\n0\r\n\r\n"), { joined = "hello" } },
    { "in chunks with bytes past ASCII in a quoted value",
      chunked('5;a="\128"\r\nhello\r\n0\r\n\r\n'), { joined = "hello" } },
    { "in chunks, of GET, that looks like a request",
      get("Transfer-Encoding: chunked", ("%x\r\n%s\r\n0\r\n\r\n"):format(#SMUGGLED, SMUGGLED)), { joined = SMUGGLED } },
    { "in chunks, of OPTIONS, that looks like a request (TE.0)", req("OPTIONS / HTTP/1.1", "Transfer-Encoding: chunked",
      ("%x\r\n%s\r\n0\r\n\r\n"):format(#SMUGGLED, SMUGGLED)), { joined = SMUGGLED } },
    { "of a length, of HEAD, that looks like a request",
      req("HEAD / HTTP/1.1", "Content-Length: " .. #SMUGGLED, SMUGGLED),
      { body = SMUGGLED, method = "HEAD" } },
    { "in chunks of HTTP/1.2", req("POST / HTTP/1.2", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
      { joined = "hello" } },
    { "in chunks with trailers that say who the client is",
      chunked("0\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"
        .. "X-Forwarded-Host: b\r\nX-Forwarded-Proto: https\r\nVia: 1.1 x\r\n\r\n"), { body = "0\r\n\r\n" } },
    { "in chunks with trailers that steer",
      chunked("0\r\nConnection: close\r\nTrailer: X\r\nExpect: 100-continue\r\nCache-Control: no-store\r\n"
        .. "Range: bytes=0-1\r\n"
        .. "TE: trailers\r\nMax-Forwards: 0\r\nContent-Type: a/b\r\nContent-Encoding: gzip\r\nDate: x\r\n\r\n"),
      { body = "0\r\n\r\n" } },
  },

  ["the connection (RFC 9110 §7.6.1)"] = {
    { "and its fields", get("Connection: keep-alive\r\nKeep-Alive: 5\r\nProxy-Connection: x"),
      { lacks = { "Keep%-Alive", "Proxy%-Connection", "keep%-alive" } } },
    { "and fields that it names", get("Connection: X-Hop, x-hop2\r\nX-Hop: a\r\nX-HOP2: b\r\nX-End: c"),
      { sees = { "\r\nX%-End: c\r\n" }, lacks = { "X%-Hop", "X%-HOP2" } } },
    { "and fields that several lines name", get("Connection: X-A\r\nX-A: a\r\nConnection: X-B\r\nX-B: b"),
      { lacks = { "X%-A:", "X%-B:" } } },
    { "that names Host", get("Connection: Host"), { sees = { "\r\nHost: a\r\n" } } },
    { "that names Content-Length", post("Connection: Content-Length\r\nContent-Length: 5", "hello"),
      { sees = { "\r\nContent%-Length: 5\r\n" }, body = "hello" } },
    { "that names Transfer-Encoding",
      post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        { joined = "hello" } },
    { "that names Authorization", get("Connection: Authorization\r\nAuthorization: x"),
      { sees = { "\r\nAuthorization: x\r\n" } } },
    { "that closes", get("Connection: close"), { closes = true, lacks = { "close" } } },
    { "that closes, in capitals and a list", get("Connection: x, CLOSE"), { closes = true } },
    { "that closes and keeps alive", get("Connection: keep-alive, close"), { closes = true } },
    { "with empty elements", get("Connection: , ,keep-alive,"), {} },
    { "of HTTP/1.0", bare("GET / HTTP/1.0", "Host: a"), { closes = true, sees = { "^GET / HTTP/1%.1\r\n" } } },
    { "of HTTP/1.0 without Host", bare("GET / HTTP/1.0"), { closes = true } },
    { "of HTTP/1.0 that is kept", bare("GET / HTTP/1.0", "Host: a\r\nConnection: keep-alive"),
      { lacks = { "keep%-alive" }, says = "\r\nConnection: keep%-alive\r\n" } },
    { "with TE: trailers", get("TE: trailers\r\nConnection: TE"),
      { sees = { "\r\nTE: trailers\r\n", "\r\nConnection: TE\r\n" } } },
    { "with TE of another coding", get("TE: gzip\r\nConnection: TE"), { lacks = { "TE:" } } },
    { "with Proxy-Authorization, which is ours", get("Proxy-Authorization: x"),
      { lacks = { "Proxy%-Authorization" } } },
    { "that names what the gateway says of the client",
      get("Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host"),
      { sees = { "\r\nX%-Forwarded%-For: 127%.0%.0%.1\r\n", "\r\nX%-Forwarded%-Proto: http\r\n" } } },
    { "that closes and names what the gateway says", get("Connection: close, X-Forwarded-For"),
      { sees = { "\r\nX%-Forwarded%-For: 127%.0%.0%.1\r\n" }, closes = true } },
    { "that names Via", get("Connection: Via"), { sees = { "\r\nVia: 1%.1 spec\r\n" } } },
  },

  ["Via (RFC 9110 §7.6.3)"] = {
    { "is added", get(), { sees = { "\r\nVia: 1%.1 spec\r\n" } } },
    { "is appended to", get("Via: 1.0 x"), { sees = { "\r\nVia: 1%.0 x, 1%.1 spec\r\n" } } },
    { "tells the version that came", bare("GET / HTTP/1.0", "Host: a"),
      { sees = { "\r\nVia: 1%.0 spec\r\n" }, closes = true } },
  },

  ["Upgrade (RFC 9110 §7.8)"] = {
    { "to h2c is passed over",
      get("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings"),
      { lacks = { "Upgrade", "h2c", "HTTP2%-Settings" } } },
    { "to TLS is passed over", get("Upgrade: TLS/1.0\r\nConnection: Upgrade"), { lacks = { "Upgrade" } } },
    { "without Connection is passed over", get("Upgrade: websocket"), { lacks = { "Upgrade", "websocket" } } },
    { "in HTTP/1.0 is passed over", bare("GET / HTTP/1.0", "Host: a\r\nUpgrade: websocket\r\nConnection: upgrade"),
      { lacks = { "websocket" }, closes = true } },
    { "with a body is passed over", post("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5", "hello"),
      { lacks = { "websocket" }, body = "hello" } },
    { "to a list is passed over", get("Upgrade: websocket, h2c\r\nConnection: upgrade"), { lacks = { "h2c" } } },
    { "to WebSocket goes on, and may be declined", get("Upgrade: WebSocket\r\nConnection: upgrade"),
      { sees = { "\r\nConnection: upgrade\r\n", "\r\nUpgrade: WebSocket\r\n" } } },
    { "of GET with a body is passed over",
      get("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5", "hello"),
      { lacks = { "websocket" }, body = "hello" } },
    { "of GET with chunks is passed over",
      get("Upgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
      { lacks = { "websocket" }, joined = "hello" } },
    { "to what nobody knows is passed over",
      get("Upgrade: foo\r\nConnection: upgrade"), { lacks = { "Upgrade", "foo" } } },
    { "to HTTP/2 by name is passed over", get("Upgrade: HTTP/2.0\r\nConnection: upgrade"), { lacks = { "HTTP/2" } } },
  },

  ["Expect (RFC 9110 §10.1.1)"] = {
    { "in HTTP/1.0 is passed over", bare("POST / HTTP/1.0", "Expect: 100-continue\r\nContent-Length: 5") .. "hello",
      { lacks = { "Expect" }, closes = true, body = "hello" } },
    { "without a body is passed over", get("Expect: 100-continue"), { lacks = { "Expect" } } },
    { "that is empty is passed over",
      post("Expect:\r\nContent-Length: 5", "hello"), { lacks = { "Expect" }, body = "hello" } },
    { "that is there twice counts once",
      post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5", "hello"),
      { lacks = { "Expect" }, body = "hello" } },
    { "in a list with empty elements", post("Expect: , 100-continue,\r\nContent-Length: 5", "hello"),
      { lacks = { "Expect" }, body = "hello" } },
  },

  ["Max-Forwards (RFC 9110 §7.6.2)"] = {
    { "counts down with OPTIONS", req("OPTIONS / HTTP/1.1", "Max-Forwards: 10"),
      { sees = { "\r\nMax%-Forwards: 9\r\n" } } },
    { "counts down with TRACE", req("TRACE / HTTP/1.1", "Max-Forwards: 1"), { sees = { "\r\nMax%-Forwards: 0\r\n" } } },
    { "is left alone with GET", get("Max-Forwards: 0"), { sees = { "\r\nMax%-Forwards: 0\r\n" } } },
  },
}

local function in_order(sections)
  local names = {}
  for name in pairs(sections) do
    names[#names + 1] = name
  end
  table.sort(names)
  return ipairs(names)
end

for _, section in in_order(refused) do
  describe("HTTP/1.1 refuses " .. section, function()
    for _, case in ipairs(refused[section]) do
      it(("%s: %d"):format(case[1], case[3]), function()
        local got = wire.exchange(gw, origin, case[2] .. SMUGGLED,
          { closed = true, methods = { case[2]:match("^HEAD") } })
        assert.equal(1, #got.answers, "answers: " .. got.bytes)
        assert.equal(case[3], got.answers[1].status)
        assert.is_true(got.is_closed, "the connection stays open")
        assert.equal("close", wire.field(got.answers[1].head, "Connection"))
        assert.equal("", got.rest)
        assert.equal(0, #got.requests)
        assert.is_nil(got.origin_bytes:find("smuggled", 1, true))
        assert.equal(case[3], gw:last_log().status)
        assert.is_string(gw:last_log().error)
      end)
    end
  end)
end

local function check_forwarded(case, wants)
  local got = wire.exchange(gw, origin, case .. (wants.closes and SMUGGLED or NEXT),
    { answers = wants.closes and 1 or 2, closed = wants.closes, methods = { wants.method } })
  assert.equal(wants.closes and 1 or 2, #got.answers, "answers: " .. got.bytes)
  assert.equal(200, got.answers[1].status)
  assert.equal(wants.closes or false, got.is_closed)
  assert.equal(wants.closes and 1 or 2, #got.requests)
  local seen = got.requests[1]
  if not wants.closes then
    assert.equal("GET /next HTTP/1.1", got.requests[2].line)
  end
  wire.check(seen, wants)
  if wants.says then
    assert.matches(wants.says, got.answers[1].head)
  end
end

for _, section in in_order(forwarded) do
  describe("HTTP/1.1 forwards " .. section, function()
    for _, case in ipairs(forwarded[section]) do
      it(case[1], function()
        check_forwarded(case[2], case[3])
      end)
    end
  end)
end

describe("HTTP/1.1 answers by itself", function()
  local function alone(bytes, methods)
    local got = wire.exchange(gw, origin, bytes .. NEXT, { answers = 2, methods = methods })
    assert.equal(2, #got.answers, "answers: " .. got.bytes)
    assert.equal(1, #got.requests)
    assert.equal("GET /next HTTP/1.1", got.requests[1].line)
    return got.answers[1]
  end

  it("OPTIONS that may go no further (RFC 9110 §7.6.2)", function()
    local answer = alone(req("OPTIONS / HTTP/1.1", "Max-Forwards: 0"))
    assert.equal(200, answer.status)
    assert.equal("", answer.body)
  end)

  it("OPTIONS of the server that may go no further", function()
    assert.equal(200, alone(req("OPTIONS * HTTP/1.1", "Max-Forwards: 0")).status)
  end)

  it("TRACE that may go no further, without what may be secret (RFC 9110 §9.3.8)", function()
    local answer = alone(req("TRACE /a?b HTTP/1.1",
      "Max-Forwards: 0\r\nVia: 1.1 x\r\nAuthorization: secret\r\nCookie: secret\r\nX-Key: secret"))
    assert.equal(200, answer.status)
    assert.equal("message/http", wire.field(answer.head, "Content-Type"))
    assert.equal("TRACE /a?b HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nVia: 1.1 x\r\n", answer.body)
  end)

  for what, fields in pairs({ ["no number"] = "Max-Forwards: x", ["a list"] = "Max-Forwards: 1, 2",
    ["there twice"] = "Max-Forwards: 1\r\nMax-Forwards: 2",
    ["negative"] = "Max-Forwards: -1", empty = "Max-Forwards:" }) do
    it("a request whose Max-Forwards is " .. what .. ": 400", function()
      assert.equal(400, alone(req("OPTIONS / HTTP/1.1", fields)).status)
    end)
  end
end)
