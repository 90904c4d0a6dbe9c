-- SPDX-License-Identifier: Apache-2.0
local helper = require("spec.unit.helper")
local h1 = require("spec.unit.http.http_helper")

local function ok(rest, status_line)
  return (status_line or "HTTP/1.1 200 OK") .. "\r\n" .. rest .. "\r\n"
end

-- All of them are the upstream's fault, and have one name.
local refused = {
  { "another protocol", "HTTQ/1.1 200 OK\r\n\r\n" },
  { "a lower-case name of the protocol", "http/1.1 200 OK\r\n\r\n" },
  { "HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n" },
  { "HTTP/0.9 by name", "HTTP/0.9 200 OK\r\n\r\n" },
  { "text without a status line", "<html>hello</html>\r\n\r\n" },
  { "an ICY status line", "ICY 200 OK\r\n\r\n" },
  { "a status of two digits", "HTTP/1.1 20 OK\r\n\r\n" },
  { "a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n" },
  { "a status with a letter", "HTTP/1.1 2x0 OK\r\n\r\n" },
  { "a status below 100", "HTTP/1.1 099 OK\r\n\r\n" },
  { "a status past 599", "HTTP/1.1 600 OK\r\n\r\n" },
  { "a negative status", "HTTP/1.1 -20 OK\r\n\r\n" },
  { "two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n" },
  { "a tab before the status", "HTTP/1.1\t200 OK\r\n\r\n" },
  { "a tab behind the status", "HTTP/1.1 200\tOK\r\n\r\n" },
  { "no status", "HTTP/1.1\r\n\r\n" },
  { "a version of two digits", "HTTP/1.10 200 OK\r\n\r\n" },
  { "a NUL in the reason", "HTTP/1.1 200 O\0K\r\n\r\n" },
  { "a bare LF behind the status line", "HTTP/1.1 200 OK\n\r\n" },
  { "a bare CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n" },
  { "an empty line before it", "\r\nHTTP/1.1 200 OK\r\n\r\n" },
  { "a bare LF in the fields", ok "A: b\nC: d\r\n" },
  { "a folded line", ok "A: b\r\n c\r\n" },
  { "a space inside a name", ok "A b: c\r\n" },
  { "a space for a name", ok " : b\r\n" },
  { "a length that stands twice, once with a space before the colon",
    ok "Content-Length: 1\r\nContent-Length : 2\r\n" },
  { "an empty name", ok ": b\r\n" },
  { "a NUL in a value", ok "A: b\0\r\n" },
  { "a control byte in a value", ok "A: b\8\r\n" },
  { "two different lengths", ok "Content-Length: 1\r\nContent-Length: 2\r\n" },
  { "two equal lengths", ok "Content-Length: 1\r\nContent-Length: 1\r\n" },
  { "a list of lengths", ok "Content-Length: 1, 1\r\n" },
  { "a negative length", ok "Content-Length: -1\r\n" },
  { "an empty length", ok "Content-Length:\r\n" },
  { "a length past 2^63", ok "Content-Length: 9223372036854775808\r\n" },
  { "a length beside a coding", ok "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" },
  { "an unknown coding", ok "Transfer-Encoding: gzip, chunked\r\n" },
  { "identity", ok "Transfer-Encoding: identity\r\n" },
  { "chunked twice", ok "Transfer-Encoding: chunked, chunked\r\n" },
  { "a coding in HTTP/1.0", ok("Transfer-Encoding: chunked\r\n", "HTTP/1.0 200 OK") },
}

local accepted = {
  { "no framing as until the end", ok "", { framing = "close", is_keep_alive = false } },
  { "a length", ok "Content-Length: 7\r\n", { framing = "length", content_length = 7,
    is_keep_alive = true } },
  { "a length with white space before the colon", ok "Content-Length \t: 7\r\n",
    { framing = "length", content_length = 7 } },
  { "a coding with white space before the colon", ok "Transfer-Encoding : chunked\r\n",
    { framing = "chunked" } },
  { "a chunked body", ok "Transfer-Encoding: Chunked\r\n", { framing = "chunked",
    is_keep_alive = true } },
  { "an empty reason", ok("Content-Length: 0\r\n", "HTTP/1.1 200 "), { reason = "" } },
  { "no space before an empty reason", ok("Content-Length: 0\r\n", "HTTP/1.1 200"),
    { reason = "", status = 200 } },
  { "a reason with a byte from 0x80 on", ok("Content-Length: 0\r\n", "HTTP/1.1 200 \233t\233"),
    { reason = "\233t\233" } },
  { "a status without a name", ok("Content-Length: 0\r\n", "HTTP/1.1 299 What"), { status = 299 } },
  { "HTTP/1.0", ok("Content-Length: 1\r\n", "HTTP/1.0 200 OK"), { is_keep_alive = false,
    version_minor = 0 } },
  { "HTTP/1.0 that keeps alive", ok("Content-Length: 1\r\nConnection: keep-alive\r\n",
    "HTTP/1.0 200 OK"), { is_keep_alive = true } },
  { "Connection: close", ok "Content-Length: 1\r\nConnection: close\r\n",
    { is_keep_alive = false } },
  { "100", ok("", "HTTP/1.1 100 Continue"), { framing = "none", is_keep_alive = true } },
  { "103 with fields", ok("Link: </a>\r\n", "HTTP/1.1 103 Early Hints"), { framing = "none" } },
  { "204", ok("", "HTTP/1.1 204 No Content"), { framing = "none", is_keep_alive = true,
    content_length = -1 } },
  { "204 that announces a body", ok("Content-Length: 5\r\n", "HTTP/1.1 204 No Content"),
    { framing = "none", is_keep_alive = false, content_length = -1 } },
  { "304 with a length", ok("Content-Length: 5\r\n", "HTTP/1.1 304 Not Modified"),
    { framing = "none", is_keep_alive = true, content_length = 5 } },
  { "the answer to HEAD with a length", ok "Content-Length: 5\r\n",
    { framing = "none", content_length = 5, is_keep_alive = true }, "HEAD" },
  { "the answer to HEAD with a coding", ok "Transfer-Encoding: chunked\r\n",
    { framing = "none", is_keep_alive = true }, "HEAD" },
  { "the answer to HEAD without framing", ok "", { framing = "none", is_keep_alive = true },
    "HEAD" },
  { "205 with a length of 0", ok("Content-Length: 0\r\n", "HTTP/1.1 205 Reset Content"),
    { framing = "length", content_length = 0 } },
  { "a tunnel", ok("", "HTTP/1.1 200 OK"), { framing = "none" }, "CONNECT" },
}

describe("http/h1_parse_response", function()
  for _, case in ipairs(refused) do
    it("refuses " .. case[1], function()
      assert.equal("upstream_protocol", (h1.parse_response(case[2])))
    end)
  end

  for _, case in ipairs(accepted) do
    it("reads " .. case[1], function()
      local rc, response = h1.parse_response(case[2], { method = case[4] })
      assert.equal("ok", rc)
      for key, want in pairs(case[3]) do
        local got = response[key]
        if key == "framing" then
          got = h1.FRAMING[got]
        elseif key == "reason" then
          got = helper.text(got)
        elseif type(want) == "number" then
          got = tonumber(got)
        end
        assert.equal(want, got, key)
      end
    end)
  end

  it("answers alike however the bytes arrive", function()
    for _, list in ipairs { refused, accepted } do
      for _, case in ipairs(list) do
        local whole = h1.parse_response(case[2])
        for cut = 1, #case[2] - 1 do
          local rc = h1.parse_response(case[2], { cuts = { cut } })
          assert.equal(whole, rc, case[1])
        end
      end
    end
  end)

  it("bounds head and field count", function()
    local small = { head_bytes = 128, header_count = 2 }
    local function rc(bytes)
      return (h1.parse_response(bytes, { limits = small }))
    end
    assert.equal("ok", rc(ok "A: b\r\nC: d\r\n"))
    assert.equal("upstream_protocol", rc(ok "A: b\r\nC: d\r\nE: f\r\n"))
    assert.equal("upstream_protocol", rc(ok("A: " .. ("x"):rep(200) .. "\r\n")))
  end)
end)
