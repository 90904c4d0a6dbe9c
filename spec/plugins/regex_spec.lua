-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local regex = host("regex")

describe("regex", function()
  it("tests, matches, finds and names groups", function()
    local r = regex.new("(?<year>\\d{4})-(\\d\\d)(x)?")
    assert.is_true(r:test("on 2026-11-23"))
    assert.is_false(r:test("on 2026"))
    assert.same({ "2026", "11", false }, { r:match("on 2026-11-23") })
    assert.same({ 4, 10, "2026", "11", false }, { r:find("on 2026-11-23") })
    assert.is_nil((r:find("on 2026-11-23", 5)))
    local m = r:exec("2026-11x")
    assert.same({ "2026-11x", "2026", "11", "x", "2026" }, { m[0], m[1], m[2], m[3], m.year })
    assert.equal("abc", regex.new("[a-c]+"):match("xabcx"))
    assert.is_nil((regex.new("a"):match("b")))
    assert.equal("b", regex.new("b"):match("abab", -1))
  end)

  it("finds its pieces wherever they stand, and nothing by a piece alone", function()
    local r = regex.new([[(?:sqlmap|nikto|b[aA]d[-_ ]?bot)]], "i")
    for _, yes in ipairs({ "sqlmap", "SQLMAP/1.0", "x NiKtO", "curl bAd_bot", "badbot" }) do
      assert.is_true(r:test(yes), yes)
    end
    for _, no in ipairs({ "", "s", "sqlma", "qlmap", "nikt", "bad", "bot", "like sql map" }) do
      assert.is_false(r:test(no), no)
    end
    assert.is_false(regex.new("(?:nikto)"):test("NIKTO"))
    assert.same({ 9, 13 }, { regex.new("nikto"):find("nikto - nikto", 2) })
  end)

  it("knows its flags", function()
    assert.is_true(regex.new("^b$", "im"):test("a\nB\nc"))
    assert.is_false(regex.new("a.b"):test("a\nb"))
    assert.is_true(regex.new("a.b", "s"):test("a\nb"))
    assert.is_true(regex.new("a b # c", "x"):test("ab"))
    assert.is_true(regex.new("^.$", "u"):test("\195\169"))
    assert.is_false(regex.new("^.$"):test("\195\169"))
    assert.is_false(regex.new("b", "a"):test("ab"))
    assert.is_false(regex.new("\\w", "u"):test("\255\254"))
  end)

  it("compiles the same pattern once", function()
    assert.equal(regex.new("same", "i"), regex.new("same", "i"))
    assert.are_not.equal(regex.new("same", "i"), regex.new("same"))
  end)

  it("replaces by template and by function", function()
    local r = regex.new("(?<a>\\w)(\\d)?")
    assert.same({ "<x1->;<y->", 2 }, { r:gsub("x1;y", "<${a}$2->") })
    assert.same({ "$x", 1 }, { r:gsub("x1", "$$${a}") })
    assert.equal("x2-y!", (regex.new("(\\d)"):gsub("x1-y!", function(d) return d + 1 end)))
    assert.equal("x1", (regex.new("\\d"):gsub("x1", function() end)))
    assert.same({ "-a-b-", 3 }, { regex.new(""):gsub("ab", "-") })
    assert.same({ "bbaa", 2 }, { regex.new("a"):gsub("aaaa", "b", 2) })
    assert.equal("-\195\169-", (regex.new("", "u"):gsub("\195\169", "-")))
    local inner = regex.new("b+")
    assert.equal("a<bb>c<b>", (inner:gsub("abbcb", function(x) return "<" .. inner:match(x)
      .. ">" end)))
  end)

  it("bounds what it makes", function()
    local big = ("x"):rep(5000)
    assert.has_error(function() regex.new("x"):gsub(big, big) end,
      "regex.gsub: the result would be longer than 16 MiB")
  end)

  it("gives up on a pattern that backtracks without end", function()
    local r = regex.new("^(a+)+$")
    local ok, err = r:test(("a"):rep(64) .. "b")
    assert.is_false(ok)
    if err then
      assert.equal("match limit reached", err)
    end
    ok, err = regex.new("^(?:a|aa)+$"):test(("a"):rep(60) .. "b")
    assert.is_false(ok)
    assert.equal("match limit reached", err)
  end)

  it("refuses wrong arguments in Lua's terms", function()
    assert.has_error(function() regex.new("(") end,
      "regex.new: missing closing parenthesis at byte 2")
    assert.has_error(function() regex.new("a", "z") end, 'regex.new: there is no flag "z"')
    assert.has_error(function() regex.new(1) end, "regex.new: pattern must be a string, got number")
    assert.has_error(function() regex.new("a"):test(nil) end,
      "regex.test: subject must be a string, got nil")
    assert.has_error(function() regex.new("a").test({}, "a") end,
      "regex:test: self must be one, got table")
    assert.has_error(function() regex.new("a").test(io.stdout, "a") end,
      "regex:test: self must be one, got userdata")
    assert.has_error(function() regex.new("a"):gsub("a", "$x") end,
      'regex.gsub: write "$$" for a dollar in the replacement')
    assert.has_error(function() regex.new("a"):gsub("a", "${b}") end,
      'regex.gsub: the pattern has no group "b"')
    assert.has_error(function() regex.new(("()"):rep(101)) end,
      "regex.new: a pattern has at most 100 groups")
  end)
end)

describe("regex.literals", function()
  it("finds many texts at once, in any case", function()
    local set = regex.literals({ "curl/", "Python", "bot", "robot", "t" })
    assert.is_true(set:test("CURL/8"))
    assert.is_false(set:test("wge"))
    assert.equal(1, set:match("my Curl/8"))
    assert.same({ 4, 3, 5 }, set:all("a ROBOT"))
    assert.same({}, set:all(""))
    assert.is_nil(set:match("x"))
    assert.same({ 1, 2 }, regex.literals({ "A", "a" }):all("a"))
  end)

  it("agrees with plain searching", function()
    math.randomseed(11)
    local function word(n)
      local t = {}
      for i = 1, n do
        t[i] = ("abAB"):sub(math.random(4)):sub(1, 1)
      end
      return table.concat(t)
    end
    for _ = 1, 300 do
      local texts = {}
      for i = 1, math.random(8) do
        texts[i] = word(math.random(4))
      end
      local set = regex.literals(texts)
      local subject = word(math.random(0, 12))
      local wanted = {}
      for i, text in ipairs(texts) do
        if subject:lower():find(text:lower(), 1, true) then
          wanted[#wanted + 1] = i
        end
      end
      local got = set:all(subject)
      table.sort(got)
      assert.same(wanted, got)
      assert.equal(#wanted > 0, set:test(subject))
    end
  end)

  it("refuses wrong lists", function()
    assert.has_error(function() regex.literals() end,
      "regex.literals: texts must be a list, got no value")
    assert.has_error(function() regex.literals({}) end,
      "regex.literals: texts must have 1 to 100000 items, got 0")
    assert.has_error(function() regex.literals({ "a", "" }) end,
      "regex.literals: texts: item 2 must be a string that is not empty")
  end)
end)

describe("regex.set", function()
  it("says which patterns match", function()
    local set = regex.set({ "^curl/", "bot\\b", "spider|crawl", "^$", "[0-9]{3}" }, "i")
    assert.equal(1, set:match("Curl/8.0"))
    assert.same({ 2, 3 }, set:all("GoogleBot crawler"))
    assert.is_false(set:test("Mozilla/5.0"))
    assert.equal(4, set:match(""))
    assert.equal(5, set:match("x123"))
  end)

  it("agrees with matching each pattern alone", function()
    math.randomseed(5)
    local pieces = { "ab", "b", "a", "c+", "ab?", "(?:ab|c)", "[ab]", "\\.", "\\d", "a{0,2}",
      "bc{2}", "^", "$", "|",
      ".", "(a)?", "abc", "b*", "A", "\\bab", "c{x", "\\x61", "(?i)B", "[]a]", "a|", "\\Qa|b\\E",
        "ca+" }
    local function subject()
      local t = {}
      for i = 1, math.random(0, 8) do
        local n = math.random(6)
        t[i] = ("abcA.1"):sub(n, n)
      end
      return table.concat(t)
    end
    for _ = 1, 1500 do
      local patterns = {}
      for i = 1, math.random(3) do
        local t = {}
        for j = 1, math.random(5) do
          t[j] = pieces[math.random(#pieces)]
        end
        local text = table.concat(t)
        patterns[i] = pcall(regex.new, text) and text ~= "" and text or "a"
      end
      local set = regex.set(patterns)
      for _ = 1, 6 do
        local s, wanted = subject(), {}
        for i, text in ipairs(patterns) do
          if regex.new(text):test(s) then
            wanted[#wanted + 1] = i
          end
        end
        assert.same(wanted, set:all(s), table.concat(patterns, "  ") .. " on " .. s)
      end
    end
  end)

  it("names the item that is wrong", function()
    assert.has_error(function() regex.set({ "a", "(b" }) end,
      "regex.set: item 2: missing closing parenthesis at byte 3")
  end)
end)

describe("regex sets that were made to cost", function()
  local texts = {}
  for i = 1, 3000 do
    texts[i] = ("a"):rep(i)
  end
  local subject = ("a"):rep(100000)

  it("literals give up past a million occurrences", function()
    assert.is_true(regex.literals(texts):test(subject))
    assert.has_error(function() regex.literals(texts):all(subject) end,
      "literals:all: more than 1000000 occurrences")
  end)

  it("finds a pattern with an escaped NUL, which the filter cannot look for", function()
    local set = regex.set({ "\\\0e\247", "never" })
    assert.is_true(set:test("E\230\\\0e\247A"))
    assert.is_false(set:test("E\230\\e\247A"))
  end)

  it("patterns are all tried where the filter finds too much", function()
    local set = regex.set({ "^" .. ("a"):rep(60), ("a"):rep(50) .. "b", ("a"):rep(40), "aa" })
    assert.same({ 1, 3, 4 }, set:all(subject))
  end)
end)
