-- SPDX-License-Identifier: Apache-2.0
--- The proof-of-work challenge: who is asked has to find a number whose hash with the challenge
--- begins with so many zero bits, and gets a signed cookie for it. Nothing is kept here: a challenge
--- and a cookie carry what is to be known of them, signed, and are bound to the caller's address.
local clock = require("moongate.clock")
local crypto = require("moongate.crypto")
local reply = require("moongate.reply")

local M = {}
M.__index = M

local floor, byte = math.floor, string.byte

M.CHALLENGE_HEADER, M.RESPONSE_HEADER = "X-Moongate-Challenge", "X-Moongate-Response"

local PAGE = [[<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">
<meta name="viewport" content="width=device-width"><title>One moment</title></head>
<body><p id="m">Checking your browser&hellip;</p><noscript><p>This page needs JavaScript.</p></noscript>
<script nonce="@NONCE@">
"use strict";
(function () {
  var token = "@TOKEN@", bits = @BITS@, n = 0;
  var K = [], P = [];
  (function () {
    for (var c = 2; K.length < 64; c++) {
      var prime = true;
      for (var d = 2; d * d <= c; d++) if (c % d === 0) { prime = false; break; }
      if (!prime) continue;
      if (P.length < 8) P.push((Math.pow(c, 1 / 2) * 4294967296) | 0);
      K.push((Math.pow(c, 1 / 3) * 4294967296) | 0);
    }
  })();
  function block(H, w) {
    var a = H[0], b = H[1], c = H[2], d = H[3], e = H[4], f = H[5], g = H[6], h = H[7], i, x, y, t;
    for (i = 0; i < 64; i++) {
      if (i > 15) {
        x = w[i - 15]; y = w[i - 2];
        w[i] = (w[i - 16] + ((x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3) + w[i - 7] +
          ((y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10)) | 0;
      }
      t = (h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) +
        ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
      x = (((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) +
        ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g; g = f; f = e; e = (d + t) | 0; d = c; c = b; b = a; a = (t + x) | 0;
    }
    return [H[0] + a | 0, H[1] + b | 0, H[2] + c | 0, H[3] + d | 0, H[4] + e | 0, H[5] + f | 0,
      H[6] + g | 0, H[7] + h | 0];
  }
  function sha256(s) {
    var w = [], l = s.length, total = ((l + 8 >> 6) + 1) * 16, H = P, i;
    for (i = 0; i < total; i++) w[i] = 0;
    for (i = 0; i < l; i++) w[i >> 2] |= s.charCodeAt(i) << 24 - i % 4 * 8;
    w[l >> 2] |= 128 << 24 - l % 4 * 8;
    w[total - 1] = l * 8;
    for (i = 0; i < total; i += 16) H = block(H, w.slice(i, i + 16));
    return H;
  }
  function send() {
    var r = new XMLHttpRequest();
    r.open("GET", location.pathname + location.search);
    r.setRequestHeader("X-Moongate-Challenge", token);
    r.setRequestHeader("X-Moongate-Response", String(n));
    r.setRequestHeader("X-Moongate-Verify", "1");
    r.onload = function () {
      if (r.status === 204) location.reload();
      else document.getElementById("m").textContent = "The check failed. Please load the page again.";
    };
    r.send();
  }
  (function work() {
    var until = Date.now() + 40;
    do {
      for (var i = 0; i < 256; i++, n++) {
        if (Math.clz32(sha256(token + ":" + n)[0]) >= bits) return send();
      }
    } while (Date.now() < until);
    setTimeout(work, 0);
  })();
})();
</script></body></html>
]]

--- What configures a challenge, for the schemas of the policies that have one.
function M.schema()
  return {
    secret = { type = "string", minLength = 16,
      description = "Signs challenges and cookies; the same on all nodes. At least 16 bytes." },
    difficulty = { type = "integer", minimum = 1, maximum = 30, default = 16,
      description = "Zero bits to be found; one more doubles the work (16: some 65,000 hashes)." },
    lifetime = { type = "integer", minimum = 60, maximum = 86400, default = 1800,
      description = "How long a passed challenge holds, in seconds." },
    cookie = { type = "string", pattern = "^[%w_-]+$", default = "moongate_clearance",
      description = "Name of the cookie." },
  }
end

---@param conf { secret: string, difficulty?: integer, lifetime?: integer, cookie?: string }
function M.new(conf)
  return setmetatable({
    secret = conf.secret, bits = conf.difficulty or 16, lifetime = conf.lifetime or 1800,
    cookie = conf.cookie or "moongate_clearance", answer_within = 300,
  }, M)
end

local function sign(self, text)
  return crypto.base64url(crypto.hmac("sha256", self.secret, text))
end

function M:token(ip)
  local body = ("%d.%d.%s"):format(clock.now() + self.answer_within, self.bits,
    crypto.base64url(crypto.random(12)))
  return body .. "." .. sign(self, "challenge|" .. body .. "|" .. ip)
end

local function has_zero_bits(hash, bits)
  local whole = floor(bits / 8)
  for i = 1, whole do
    if byte(hash, i) ~= 0 then
      return false
    end
  end
  return byte(hash, whole + 1) < 2 ^ (8 - bits % 8)
end

--- Whether a challenge of ours was answered, by this address, in time.
function M:is_answered(token, answer, ip)
  if #token > 256 or not answer:find("^%d+$") or #answer > 20 then
    return false
  end
  local body, mac = token:match("^(.+)%.([%w_-]+)$")
  local expires, bits = (body or ""):match("^(%d+)%.(%d+)%.")
  if not expires or tonumber(expires) < clock.now() or tonumber(bits) < self.bits then
    return false
  end
  return crypto.equal(mac, sign(self, "challenge|" .. body .. "|" .. ip))
    and has_zero_bits(crypto.sha256(token .. ":" .. answer), self.bits)
end

--- The cookie that proves it.
function M:clearance(ip)
  local expires = ("%d"):format(clock.now() + self.lifetime)
  return expires .. "." .. sign(self, "clearance|" .. expires .. "|" .. ip)
end

local function holds_clearance(self, value, ip)
  local expires, mac = (value or ""):match("^(%d+)%.([%w_-]+)$")
  return expires ~= nil and #expires < 16 and tonumber(expires) > clock.now()
    and crypto.equal(mac, sign(self, "clearance|" .. expires .. "|" .. ip))
end

local function set_cookie(self, ctx)
  return ("%s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s"):format(self.cookie,
    self:clearance(ctx.request.client_ip), self.lifetime,
    ctx.request.scheme == "https" and "; Secure" or "")
end

local function page(self, ctx, status)
  local nonce = crypto.base64url(crypto.random(12))
  local values = { NONCE = nonce, TOKEN = self:token(ctx.request.client_ip), BITS = self.bits }
  return { status = status, body = PAGE:gsub("@(%u+)@", values), headers = {
    ["Content-Type"] = "text/html; charset=utf-8", ["Cache-Control"] = "no-store",
    ["Content-Security-Policy"] = "default-src 'none'; connect-src 'self'; script-src 'nonce-"
      .. nonce .. "'",
  } }
end

local function problem(self, ctx, status)
  return reply.refuse(status, "ChallengeRequired",
    "send " .. M.CHALLENGE_HEADER .. " again with " .. M.RESPONSE_HEADER, {
      ["Cache-Control"] = "no-store", [M.CHALLENGE_HEADER] = self:token(ctx.request.client_ip),
      ["X-Moongate-Difficulty"] = tostring(self.bits),
    })
end

--- What to do with a request: nil, "passed" | reply, "issued" or "verified" or "failed".
---@return moongate.Reply? reply
---@return string outcome
function M:check(ctx, status)
  local request = ctx.request
  local headers, ip = request.headers, request.client_ip or ""
  local token, answer = headers[M.CHALLENGE_HEADER], headers[M.RESPONSE_HEADER]
  local verifies = headers["X-Moongate-Verify"] ~= nil
  if token and answer then
    local is_good = self:is_answered(token, answer, ip)
    if is_good and verifies then
      return { status = 204, headers = { ["Set-Cookie"] = set_cookie(self, ctx),
        ["Cache-Control"] = "no-store" } }, "verified"
    elseif is_good then
      headers[M.CHALLENGE_HEADER], headers[M.RESPONSE_HEADER] = nil, nil
      return nil, "passed"
    end
    return problem(self, ctx, status), "failed"
  end
  if holds_clearance(self, request.cookies[self.cookie], ip) then
    return nil, "passed"
  end
  local accept = headers["Accept"] or ""
  if request.method == "GET" and accept:find("text/html", 1, true) then
    return page(self, ctx, status), "issued"
  end
  return problem(self, ctx, status), "issued"
end

return M
