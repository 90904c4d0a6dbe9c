-- SPDX-License-Identifier: Apache-2.0
--- The matcher that can be stopped answers as the library's does.

local pattern = require("moongate.sandbox.pattern")
local strings = require("moongate.sandbox.strings")

local seed = 3
local function random(n)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return math.floor(seed / 65536) % n + 1
end

local items = { "a", "b", ".", "%a", "%d", "[ab]", "[^a]", "[a-c]", "%s", "[%w_]", "[]]", "[^]]", "%." }
local quantifiers = { "", "", "", "*", "+", "-", "?" }
local extras = { "()", "(a)", "(.-)", "(%a*)", "%b()", "%f[%a]", "%f[^a]", "(a(b?))", "%1" }

local function random_pattern()
  local parts = { random(5) == 1 and "^" or "" }
  for i = 1, random(4) do
    if random(4) == 1 then
      parts[i + 1] = extras[random(#extras)]
    else
      parts[i + 1] = items[random(#items)] .. quantifiers[random(#quantifiers)]
    end
  end
  parts[#parts + 1] = random(5) == 1 and "$" or ""
  return table.concat(parts)
end

local alphabet = { "a", "b", "c", "(", ")", "1", " ", ".", "]", "_" }

local function random_text()
  local parts = {}
  for i = 1, random(12) do
    parts[i] = alphabet[random(#alphabet)]
  end
  return table.concat(parts)
end

local function call(f, ...)
  local out = { pcall(f, ...) }
  if not out[1] then
    return "an error"
  end
  return out
end

describe("the sandbox's patterns", function()
  it("find, match, gsub and gmatch as the library does", function()
    for _ = 1, 5000 do
      local p, s = random_pattern(), random_text()
      local context = ("%q in %q"):format(p, s)
      assert.same(call(string.find, s, p, 1), call(pattern.find, s, p, 1), context)
      local init = random(#s + 1)
      assert.same(call(string.match, s, p, init), call(pattern.match, s, p, init), context)
      local most = random(4)
      assert.same(call(string.gsub, s, p, "<%0>", most), call(pattern.gsub, s, p, "<%0>", most), context)
      assert.same(call(string.gsub, s, p, "%1%%"), call(pattern.gsub, s, p, "%1%%", #s + 1), context)
      local replace = function(a)
        return a == "a" and "X" or nil
      end
      assert.same(call(string.gsub, s, p, replace), call(pattern.gsub, s, p, replace, #s + 1), context)
      if p:sub(1, 1) ~= "^" then
        local function all(gmatch)
          return function()
            local list = {}
            for a, b in gmatch(s, p) do
              list[#list + 1] = tostring(a) .. "," .. tostring(b)
            end
            return list
          end
        end
        assert.same(call(all(string.gmatch)), call(all(pattern.gmatch)), context)
      end
    end
  end)

  it("bound what a call may build", function()
    for _, text in ipairs({
      "return ('x'):rep(1e9)",
      "return ('x'):rep(1e8, 'yy')",
      "local s = ('x'):rep(1e7) return string.format('%s%s', s, s)",
      "local s, t = ('x'):rep(1e6), {} for i = 1, 100 do t[i] = s end return table.concat(t)",
      "return ('x'):rep(1e5):gsub('x', ('y'):rep(1e4))",
      "return ('x'):rep(1e5):gsub('x', { x = ('y'):rep(1e4) })",
      "return ('x'):rep(4000):gsub('x', function() return ('y'):rep(1e4) end)",
    }) do
      local chunk = assert(require("moongate.sandbox").load(text, "=big"))
      local restore = require("moongate.sandbox").install()
      local ok, err = pcall(chunk)
      restore()
      assert.is_false(ok)
      assert.truthy(err:find("exceeds", 1, true), err)
    end
  end)

  it("search plainly in windows as the library does", function()
    local s = ("ab"):rep(3e6) .. "abc" .. ("ab"):rep(1000)
    local wanted = ("ab"):rep(500) .. "abc"
    assert.same({ string.find(s, wanted, 1, true) }, { strings.find(s, wanted, 1, true) })
    assert.is_nil(strings.find(s, wanted .. "d", 1, true))
    assert.same({ 3, 2 }, { strings.find("abc", "", 3, true) })
    assert.is_nil(strings.find("abc", "c", 9))
    assert.equal(3, (strings.find("abc", "c", -1)))
  end)
end)
