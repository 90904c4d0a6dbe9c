-- SPDX-License-Identifier: Apache-2.0
--- The API chain as an OpenResty user writes it: subscription key, HS256 token with claims, rate
--- limit in a shared dictionary, a header, a rewritten path. The HMAC is OpenSSL's through the
--- FFI, as lua-resty-openssl does it.

local ffi = require("ffi")
local cjson = require("cjson.safe")
local base64 = require("ngx.base64")
local lrucache = require("resty.lrucache")

local ngx = ngx
local decode_base64url = base64.decode_base64url
local find, sub, byte = string.find, string.sub, string.byte

ffi.cdef([[
  typedef struct evp_md_st EVP_MD;
  const EVP_MD *EVP_sha256(void);
  unsigned char *HMAC(const EVP_MD *md, const void *key, int key_len, const unsigned char *data,
                      size_t length, unsigned char *out, unsigned int *out_length);
  int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]])
local C = ffi.C
local digest, digest_length = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]")

local M = {}
M.__index = M

local key = "bench-signing-key-0123456789abcdef"
local issuer, audience, scope = "https://id.contoso.test", "api://orders", "orders.read"
local calls, period = 1000000000, 60
local subscriptions = {
  ["bench-key-primary-0001"] = { id = "s-1", product = "gold" },
  ["bench-key-secondary-0001"] = { id = "s-1", product = "gold" },
}

function M.new(options)
  return setmetatable({ tokens = options.cache_tokens and assert(lrucache.new(1000)) }, M)
end

local function refuse(status, reason)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print('{"error":"' .. reason .. '"}')
  return ngx.exit(status)
end

local function has_audience(claim)
  if type(claim) == "table" then
    for i = 1, #claim do
      if claim[i] == audience then
        return true
      end
    end
    return false
  end
  return claim == audience
end

local function has_scope(claim)
  return type(claim) == "string" and find(" " .. claim .. " ", " " .. scope .. " ", 1, true) ~= nil
end

local function verify(token)
  local first = find(token, ".", 1, true)
  local second = first and find(token, ".", first + 1, true)
  if not second then
    return nil
  end
  local header = cjson.decode(decode_base64url(sub(token, 1, first - 1)) or "")
  if type(header) ~= "table" or header.alg ~= "HS256" then
    return nil
  end
  local signature = decode_base64url(sub(token, second + 1))
  C.HMAC(C.EVP_sha256(), key, #key, sub(token, 1, second - 1), second - 1, digest, digest_length)
  if not signature or #signature ~= 32 or C.CRYPTO_memcmp(signature, digest, 32) ~= 0 then
    return nil
  end
  local claims = cjson.decode(decode_base64url(sub(token, first + 1, second - 1)) or "")
  if type(claims) ~= "table" or type(claims.exp) ~= "number" or claims.iss ~= issuer
    or not has_audience(claims.aud) or not has_scope(claims.scope) then
    return nil
  end
  return claims
end

function M:claims_of(token)
  local claims
  if self.tokens then
    claims = self.tokens:get(token)
  end
  if not claims then
    claims = verify(token)
    if claims and self.tokens then
      self.tokens:set(token, claims, 60)
    end
  end
  local now = ngx.time()
  if claims and now < claims.exp and (not claims.nbf or now >= claims.nbf) then
    return claims
  end
end

function M:access()
  local var = ngx.var
  local subscription = subscriptions[var.http_ocp_apim_subscription_key or ""]
  if not subscription then
    return refuse(401, "SubscriptionKeyInvalid")
  end
  local authorization = var.http_authorization
  if not authorization or sub(authorization, 1, 7) ~= "Bearer " then
    return refuse(401, "TokenNotPresent")
  end
  local claims = self:claims_of(sub(authorization, 8))
  if not claims then
    return refuse(401, "TokenInvalid")
  end
  local window = "orders:" .. claims.sub .. ":" .. math.floor(ngx.time() / period)
  local used = ngx.shared.limits:incr(window, 1, 0, period)
  if used > calls then
    return refuse(429, "RateLimitExceeded")
  end
  ngx.req.set_header("X-User", claims.sub)
  ngx.req.set_header("X-Product", subscription.product)
  local uri = var.uri
  if byte(uri, 1) ~= 47 then
    return refuse(400, "BadPath")
  end
  ngx.req.set_uri("/v2" .. uri)
end

function M:header_filter()
  ngx.header["X-Content-Type-Options"] = "nosniff"
end

return M
