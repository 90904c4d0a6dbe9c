-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local crypto = host("crypto")

describe("crypto", function()
  it("digests as FIPS 180 says", function()
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", crypto.hex(crypto.sha1("abc")))
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      crypto.hex(crypto.sha256("abc")))
    assert.equal("cb00753f45a35e8b", crypto.hex(crypto.sha384("abc")):sub(1, 16))
    assert.equal("ddaf35a193617aba", crypto.hex(crypto.sha512("abc")):sub(1, 16))
  end)

  it("authenticates as RFC 4231 says", function()
    assert.equal("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
      crypto.hex(crypto.hmac("sha256", ("\11"):rep(20), "Hi There")))
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      crypto.hex(crypto.hmac("sha256", "Jefe", "what do ya want for nothing?")))
    assert.equal("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad",
      crypto.hex(crypto.hmac("sha256", "", "")))
    assert.has_error(function() crypto.hmac("md5", "k", "d") end, "crypto.hmac: unknown digest md5")
  end)

  it("writes base64 and base64url and reads them strictly", function()
    for text, coded in pairs({ [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v",
      foob = "Zm9vYg==" }) do
      assert.equal(coded, crypto.base64(text))
      assert.equal(text, crypto.from_base64(coded))
      local url = coded:gsub("=", "")
      assert.equal(url, crypto.base64url(text))
      assert.equal(text, crypto.from_base64url(url))
    end
    assert.equal("-_-_", crypto.base64url("\251\255\191"))
    for _, wrong in ipairs({ "Zg", "Zh==", "Zg=", "Zm9v\n", "Z===", "====", "Zm-v", "Zg==Zg==" }) do
      assert.is_nil((crypto.from_base64(wrong)), wrong)
    end
    for _, wrong in ipairs({ "Zh", "Zg==", "Z", "Zm+v", "Zm9v ", "Zm9" .. "w" .. "=" }) do
      assert.is_nil((crypto.from_base64url(wrong)), wrong)
    end
  end)

  it("reads back every byte at every length", function()
    for len = 0, 300, 7 do
      local bytes = len > 0 and crypto.random(len) or ""
      assert.equal(bytes, crypto.from_base64(crypto.base64(bytes)))
      assert.equal(bytes, crypto.from_base64url(crypto.base64url(bytes)))
      assert.equal(bytes, crypto.from_hex(crypto.hex(bytes)))
    end
    assert.equal(1000, #crypto.from_base64(crypto.base64(("x"):rep(1000))))
    assert.is_nil((crypto.from_hex("0")))
    assert.is_nil((crypto.from_hex("zz")))
  end)

  it("compares without looking where they differ", function()
    assert.is_true(crypto.equal("abc", "abc"))
    assert.is_false(crypto.equal("abc", "abd"))
    assert.is_false(crypto.equal("abc", "ab"))
    assert.is_true(crypto.equal("", ""))
  end)

  it("refuses wrong arguments in Lua's terms", function()
    assert.has_error(function() crypto.sha256() end,
      "crypto.sha256: data must be a string, got no value")
    assert.has_error(function() crypto.random(0) end, "crypto.random: n must be 1 to 65536")
    assert.has_error(function() crypto.random("9") end, "crypto.random: n must be 1 to 65536")
    assert.are_not.equal(crypto.random(16), crypto.random(16))
  end)
end)
