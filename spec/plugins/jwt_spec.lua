-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local json = host("json")
local jwt = host("jwt")

local SECRET = ("k"):rep(64)

local function keyset(keys, algorithms, more)
  local options = { keys = keys, algorithms = algorithms }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  return jwt.keyset(options)
end

local function generate(options)
  local pipe = assert(io.popen("openssl genpkey " .. options .. " 2>/dev/null"))
  local pem = pipe:read("*a")
  pipe:close()
  return pem
end

local function public_of(pem)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(pem)
  file:close()
  local pipe = assert(io.popen("openssl pkey -pubout -in " .. path))
  local text = pipe:read("*a")
  pipe:close()
  os.remove(path)
  return text
end

local KINDS = {
  { "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    { "RS256", "RS384", "RS512", "PS256", "PS384", "PS512" } },
  { "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", { "ES256" } },
  { "-algorithm EC -pkeyopt ec_paramgen_curve:P-384", { "ES384" } },
  { "-algorithm EC -pkeyopt ec_paramgen_curve:P-521", { "ES512" } },
  { "-algorithm ED25519", { "EdDSA" } },
  { "-algorithm ED448", { "EdDSA" } },
}

describe("jwt", function()
  it("verifies with the public key what the private one signed, in every algorithm", function()
    for _, kind in ipairs(KINDS) do
      local pem = generate(kind[1])
      for _, alg in ipairs(kind[2]) do
        local signer = assert(keyset({ { pem = pem, kid = "1" } }, { alg }))
        local verifier = assert(keyset({ { pem = public_of(pem), kid = "1" } }, { alg }))
        local token = assert(signer:sign('{"sub":"a"}', { alg = alg, kid = "1" }))
        local claims, header = verifier:verify(token)
        assert.equal("a", claims and claims.sub, alg)
        assert.equal(alg, header.alg)
        local dot = token:find(".", 1, true)
        local changed = token:sub(1, dot) .. "eyJzdWIiOiJiIn0" .. token:match("%.[^.]*$")
        assert.same({ nil, "TokenSignatureInvalid" }, { (select(1, verifier:verify(changed))),
          (select(2, verifier:verify(changed))) })
        assert.is_nil((verifier:sign("{}", { alg = alg }))) -- there is no private part
      end
    end
  end)

  it("does not take a public key for a secret", function()
    local pem = public_of(generate("-algorithm RSA -pkeyopt rsa_keygen_bits:2048"))
    local forger = assert(keyset({ { kty = "oct", value = pem } }, { "HS256" }))
    local token = assert(forger:sign('{"sub":"a"}', { alg = "HS256" }))
    local both = assert(keyset({ pem }, { "RS256", "HS256" }))
    local claims, reason = both:verify(token)
    assert.is_nil(claims)
    assert.equal("TokenSignatureKeyNotFound", reason)
  end)

  it("refuses weak keys and wrong curves", function()
    local set, err = keyset({ generate("-algorithm RSA -pkeyopt rsa_keygen_bits:1024") },
      { "RS256" })
    assert.is_nil(set)
    assert.matches("2048 bits", err)
    set, err = keyset({ generate("-algorithm EC -pkeyopt ec_paramgen_curve:P-384") }, { "ES256" })
    assert.is_nil(set)
    assert.matches("none of the algorithms", err)
    set, err = keyset({ generate("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1") },
      { "ES256" })
    assert.is_nil(set)
    assert.matches("of a kind that tokens do not use", err)
  end)

  it("reads keys from files, and says which entry is wrong", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(json.encode({ keys = { { kty = "oct", value = SECRET } } }))
    file:close()
    assert.truthy(keyset({ { file = path } }, { "HS256" }))
    os.remove(path)
    local set, err = keyset({ { kty = "oct", value = SECRET }, { file = path } }, { "HS256" })
    assert.is_nil(set)
    assert.equal(("keys[2]: cannot read %s"):format(path), err)
    assert.equal("keys[1]: its kty is not oct, RSA, EC or OKP",
      select(2, keyset({ { kty = "x" } }, { "HS256" })))
    assert.equal("keys[1]: expected a JWK, a PEM text, or a table with file or pem",
      select(2, keyset({ 1 }, { "HS256" })))
    assert.equal("algorithms[1]: there is no algorithm none",
      select(2, keyset({ { kty = "oct", value = SECRET } }, { "none" })))
    assert.equal("no key can be used (0 left out)", select(2, keyset({}, { "HS256" })))
  end)

  it("wants a signature within an encrypted token unless told otherwise", function()
    local vector = host.shared(
      "conformance/jose/cookbook/jwe/5_6.direct_encryption_using_aes-gcm.json")
    if vector then
      local v = json.decode(host.slurp(vector))
      local set = assert(keyset({ v.input.key }, { "dir" }))
      assert.equal(v.input.plaintext, (set:open(v.output.compact)))
      assert.equal("JwtInvalid", select(2, set:verify(v.output.compact)))
    end
  end)

  it("refuses wrong arguments in Lua's terms", function()
    local set = assert(keyset({ { kty = "oct", value = SECRET } }, { "HS256" }))
    assert.has_error(function() jwt.keyset() end,
      "jwt.keyset: options must be a table, got no value")
    assert.has_error(function() set:verify(1) end,
      "keyset:verify: token must be a string, got number")
    assert.has_error(function() set.verify({}, "a") end,
      "keyset:verify: self must be a keyset, got table")
    assert.has_error(function() set.verify(io.stdout, "a") end,
      "keyset:verify: self must be a keyset, got userdata")
    local shared = {}
    for _ = 1, 30 do
      shared = { shared, shared }
    end
    assert.has_error(function() jwt.copy(shared) end, "jwt.copy: more than 65536 values")
  end)
end)
