-- SPDX-License-Identifier: Apache-2.0
--- Wycheproof's and the IETF cookbook's vectors, every one. Where we decide otherwise than the
--- vector, it is listed with the reason.
local host = require("spec.plugins.host")
local json = host("json")
local jwt = host("jwt")
local crypto = host("crypto")

local SIGNING = { "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
  "ES256", "ES384", "ES512", "EdDSA" }
local SEALING = { "RSA-OAEP", "RSA-OAEP-256", "A128KW", "A192KW", "A256KW", "A128GCMKW",
  "A192GCMKW",
  "A256GCMKW", "dir", "ECDH-ES", "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW" }

local function load(name)
  local path = host.shared("conformance/jose/" .. name)
  return path and json.decode(host.slurp(path))
end

--- Opens a token with the keys of a vector's group.
local function open(group, token, algorithms)
  local key = group.public or group.private
  if algorithms == SEALING then
    key = group.private
  end
  local set, err
  if key.keys then
    set, err = jwt.keyset({ jwks = json.encode(key), algorithms = algorithms })
  else
    set, err = jwt.keyset({ keys = { key }, algorithms = algorithms })
  end
  if not set then
    return nil, err
  end
  return set:open(token)
end

local function check(name, algorithms, otherwise, count)
  local vectors = load("wycheproof/" .. name)
  if not vectors then
    pending("the shared vectors are absent")
    return
  end
  local seen = 0
  for _, group in ipairs(vectors.testGroups) do
    for _, test in ipairs(group.tests) do
      local token = test.jws or test.jwe
      if type(token) == "table" then
        token = json.encode(token) -- the JSON serialization, which is no compact token
      end
      local bytes, reason = open(group, token, algorithms)
      local wanted = test.result == "valid"
      if otherwise[test.tcId] then
        wanted = not wanted
      end
      local label = ("%s %d %s: %s"):format(name, test.tcId, test.comment, tostring(reason))
      assert.equal(wanted, bytes ~= nil, label)
      if bytes and test.pt then
        assert.equal(test.pt, crypto.hex(bytes), label)
      end
      seen = seen + 1
    end
  end
  assert.equal(count, seen)
end

describe("jwt and Wycheproof", function()
  it("agree on 401 signed tokens", function()
    check("json_web_signature_test.json", SIGNING, {
      -- The JWK names another algorithm (PS256, ES521) than the token: RFC 7517, 4.4 binds the key.
      [346] = true, [347] = true, [350] = true, [351] = true,
      -- Byte for byte the token of the valid 357; called invalid for padding that they lack.
      [367] = true, [370] = true,
      [372] = true, [373] = true, -- a '?' stands in the base64url: RFC 7515, 2 allows none
    }, 401)
  end)

  it("agree on 26 kinds of keys", function()
    check("json_web_key_test.json", SIGNING, {}, 26)
  end)

  it("agree on 139 encrypted tokens", function()
    local rsa1_5 = "RSA1_5 is not offered (RFC 8725, 3.2)"
    check("json_web_encryption_test.json", SEALING, {
      [100] = rsa1_5, [101] = rsa1_5, [102] = rsa1_5, [103] = rsa1_5, [104] = rsa1_5,
        [105] = rsa1_5,
      [112] = rsa1_5, [128] = rsa1_5,
      [135] = "compression is not offered (RFC 8725, 3.6)",
    }, 139)
  end)

  it("agree on 83 tokens of both kinds", function()
    local vectors = load("wycheproof/json_web_crypto_test.json")
    if not vectors then
      pending("the shared vectors are absent")
      return
    end
    for _, group in ipairs(vectors.testGroups) do
      for _, test in ipairs(group.tests) do
        local token = test.jws or test.jwe
        local bytes, reason = open(group, type(token) == "table" and json.encode(token) or token,
          test.jws and SIGNING or SEALING)
        assert.equal(test.result == "valid", bytes ~= nil,
          ("%d %s: %s"):format(test.tcId, test.comment, tostring(reason)))
      end
    end
  end)
end)

describe("jwt and the JOSE cookbook", function()
  local function open_file(name)
    local v = load("cookbook/" .. name)
    if not v then
      return
    end
    local key = v.input.key
    local algorithms = v.output.compact and name:find("jwe") and SEALING or SIGNING
    return v, function(token)
      local set, err = jwt.keyset({ keys = { key }, algorithms = algorithms })
      if not set then
        return nil, err
      end
      return set:open(token)
    end
  end

  it("agree on compact signatures", function()
    for _, name in ipairs({ "jws/4_1.rsa_v15_signature.json",
      "jws/4_4.hmac-sha2_integrity_protection.json",
      "curve25519/jws.json" }) do
      local v, opened = open_file(name)
      if v then
        assert.equal(v.input.payload, (opened(v.output.compact)), name)
      end
    end
  end)

  it("agree on what the algorithms offered can decrypt", function()
    for _, name in ipairs({ "5_2.key_encryption_using_rsa-oaep_with_aes-gcm.json",
      "5_4.key_agreement_with_key_wrapping_using_ecdh-es_and_aes-keywrap_with_aes-gcm.json",
      "5_5.key_agreement_using_ecdh-es_with_aes-cbc-hmac-sha2.json",
        "5_6.direct_encryption_using_aes-gcm.json",
      "5_7.key_wrap_using_aes-gcm_keywrap_with_aes-cbc-hmac-sha2.json",
      "5_8.key_wrap_using_aes-keywrap_with_aes-gcm.json" }) do
      local v, opened = open_file("jwe/" .. name)
      if v then
        assert.equal(v.input.plaintext, (opened(v.output.compact)), name)
      end
    end
  end)

  it("refuse an unencoded payload", function()
    local v, opened = open_file("rfc7797/4.2.hmac-sha2_b64_false.json")
    if v and v.output.compact then
      local bytes, reason = opened(v.output.compact)
      assert.is_nil(bytes)
      assert.equal("JwtInvalid", reason)
    end
  end)
end)
