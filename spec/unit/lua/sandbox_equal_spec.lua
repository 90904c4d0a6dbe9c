-- SPDX-License-Identifier: Apache-2.0
--- Instrumented code does what plain code does.

local fuel = require("moongate.fuel")
local lexer = require("moongate.lexer")
local sandbox = require("moongate.sandbox")

local programs = {
  ["loops of all kinds"] = [[
    local out = {}
    for i = 1, 3 do out[#out + 1] = i end
    for i = 3, 1, -1 do out[#out + 1] = i end
    for k, v in pairs({ 5 }) do out[#out + 1] = k + v end
    local n = 0
    while n < 3 do n = n + 1 if n == 2 then break end end
    repeat local m = n n = n + 1 until m > 5
    do local n = 9 out[#out + 1] = n end
    out[#out + 1] = n
    return table.concat(out, ",")]],
  ["goto continue before the block's end"] = [[
    local out = {}
    for i = 1, 5 do
      if i % 2 == 0 then goto continue end
      local x = i * 10
      out[#out + 1] = x
      ::continue::
    end
    return table.concat(out, ",")]],
  ["goto continue in repeat"] = [[
    local n, sum = 0, 0
    repeat
      n = n + 1
      if n == 2 then goto continue end
      sum = sum + n
      ::continue::
    until n > 4
    return sum]],
  ["goto backwards"] = [[
    local n = 0
    ::top::
    n = n + 1
    if n < 5 then goto top end
    return n]],
  ["two labels at an end"] = [[
    local n = 0
    do if n == 0 then goto b end n = 1 ::a:: ::b:: end
    return n]],
  ["closures in loops"] = [[
    local fs = {}
    for i = 1, 3 do fs[i] = function() return i end end
    return fs[1]() + fs[2]() * 10 + fs[3]() * 100]],
  ["methods, varargs and tail calls"] = [[
    local o = { n = 1 }
    function o:add(...) for _, v in ipairs({ ... }) do self.n = self.n + v end return self.n end
    function o.sub.x() end
    return o:add(1, 2, 3)]],
  ["method definitions in depth"] = [[
    local a = { b = { c = {} } }
    function a.b.c:d(x, ...) return x, select('#', ...), self == a.b.c end
    return a.b.c:d(1, nil, nil)]],
  ["a call in parentheses after a function head"] = [[
    local out = {}
    local function f() (function() out[1] = 'x' end)() return out[1] end
    return f()]],
  ["strings and comments that look like code"] = [==[
    local a = "while true do" local b = 'for' local c = [[ repeat
    until ]] -- while true do
    --[[ function ( ]] local d = "\"end\\"
    --[=[ ]] ]=]
    return a .. b .. c .. d .. "a\
b" .. "x\z
       y"]==],
  ["numbers of all kinds"] = [[
    return 0x10 + 1e2 + .5 + 3. + 0xA.8p1, 1LL + 2, 10ULL, 5 ..6, 1 .. 2]],
  ["numeric edge cases"] = "local t = {} for i = 1, 0 do t[1] = 1 end return #t, -2 ^ 2, 7 % -3",
  ["varargs of the chunk"] = "return select('#', ...), ...",
  ["a shebang"] = "#!/usr/bin/moongate\nreturn 7",
  ["names that are used for fuel"] = [[
    local FUEL, FUEL1, left = 1, 2, 3
    local t = { FUEL = 4 }
    for i = 1, 3 do FUEL = FUEL + t.FUEL end
    return FUEL, FUEL1, left]],
  ["goto as a name"] = "local goto_ = 1 local t = { goto_ = 2 } return t.goto_ + goto_",
  ["pcall, error and nil"] = [[
    local a = { pcall(error) } local b = { pcall(error, { 1 }) }
    return #a, b[1], b[2][1], (select(2, pcall(error, 'x', 0)))]],
  ["xpcall with a handler"] = [[
    return xpcall(function(x) error(x, 0) end, function(e) return e .. '!' end, 'arg')]],
  ["xpcall with a handler that fails"] =
    "return (xpcall(error, function() error('again', 0) end, 'x'))",
  ["coroutines"] = [[
    local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
    local _, x = coroutine.resume(co, 1)
    local _, y = coroutine.resume(co, 10)
    return x, y, coroutine.status(co), (coroutine.resume(co))]],
  ["a generator"] = [[
    local sum = 0
    for v in coroutine.wrap(function() for i = 1, 4 do coroutine.yield(i) end end) do
      sum = sum + v
    end
    return sum]],
  ["string methods"] = [[
    local s = 'Hello, World'
    return s:upper(), s:lower():rep(2, '-'), s:find('o'), s:find('o', 6, true), s:match('(%a+), (%a+)'),
      s:gsub('o', '0'), s:gsub('%w+', { Hello = 'Bye' }), s:gsub('l', string.upper, 2), s:byte(1, 2),
      s:sub(-5), s:reverse(), s:len(), ('%5.1f|%q'):format(1.25, 'a"b')]],
  ["sort"] = [[
    local t = {} for i = 1, 2000 do t[i] = (i * 7919) % 2003 end
    table.sort(t) local a = table.concat(t, ',', 1, 20)
    table.sort(t, function(x, y) return x > y end)
    return a, table.concat(t, ',', 1, 20)]],
  ["table functions"] = [[
    local t = { 1, 2, 3 }
    table.insert(t, 4) table.insert(t, 1, 0) table.insert(t, 99)
    return table.remove(t), table.remove(t, 1), table.concat(t, '/'), #t, table.maxn(t),
      unpack(t, 2, 3)]],
  ["metatables"] = [[
    local V = {} V.__index = V
    V.__add = function(a, b) return setmetatable({ a[1] + b[1] }, V) end
    V.__call = function(self, x) return self[1] * x end
    function V.new(x) return setmetatable({ x }, V) end
    return (V.new(1) + V.new(2))(10), getmetatable(V.new(1)) == V]],
  ["a fold with many upvalues"] = [[
    local a1,a2,a3,a4,a5,a6,a7,a8,a9,a10 = 1,2,3,4,5,6,7,8,9,10
    local function f() return a1+a2+a3+a4+a5+a6+a7+a8+a9+a10 end
    return f()]],
  ["errors name the line"] = "local a\nlocal b\nreturn pcall(function()\n  return a.x\nend)",
}

--- Runs a chunk and gives its results as a list, errors included.
local function results(chunk)
  local n = select("#", chunk)
  local list = { n = n, pcall(chunk, "v1", nil, "v3") }
  for i = 1, 40 do
    if type(list[i]) == "table" then
      list[i] = "table"
    end
  end
  return list
end

describe("the sandbox", function()
  local restore
  before_each(function()
    restore = sandbox.install()
  end)
  after_each(function()
    restore()
  end)

  for name, text in pairs(programs) do
    it("runs as plain Lua would: " .. name, function()
      local plain = assert(load(text, "=p", "t"))
      local fuelled = assert(sandbox.load(text, "=p"))
      assert.same(results(plain), results(fuelled))
    end)
  end

  it("moves no line", function()
    local text = "local x\n\n--[[\n]]\nfor i = 1, 2 do\n  x = 1\nend\nerror('here')"
    local ok, err = pcall(assert(sandbox.load(text, "@f.lua")))
    assert.is_false(ok)
    assert.equal("f.lua:8: here", err)
    local instrumented = fuel.instrument(text)
    assert.equal(select(2, text:gsub("\n", "")) + 1, (select(2, instrumented:gsub("\n", ""))))
  end)

  it("tells a syntax error as plain Lua does", function()
    for _, text in ipairs({ "x = = 1", "for", "return 1 2", "goto nowhere", "local s = 'a", "x = [[" }) do
      local _, plain = load(text, "@f.lua", "t")
      local chunk, err = sandbox.load(text, "@f.lua")
      assert.is_nil(chunk)
      assert.equal(plain, err)
    end
  end)

  it("lets no text close the function around it", function()
    for _, text in ipairs({ "end do", "end, function() ", "end return function(...)", ") end (" }) do
      assert.is_nil((sandbox.load(text, "=x")))
    end
  end)

  it("instruments whatever mixture of tokens compiles", function()
    local pieces = { "do", "end", "while", "true", "repeat", "until", "function", "(", ")", "f", "=",
      "local", "x", "1", "..", "'s'", "[[t]]", "::a::", "goto", "a", "if", "then", "else", "return",
      ",", ";", "{", "}", "for", "i", "in", "--[[c]]", "--c\n", "\n", "not", "-", "...", "break", "." }
    local seed = 7
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return math.floor(seed / 65536) % n + 1
    end
    local compiled = 0
    for _ = 1, 30000 do
      local parts = {}
      for i = 1, random(12) do
        parts[i] = pieces[random(#pieces)]
      end
      local text = table.concat(parts, " ")
      local plain = load(text, "=soup", "t")
      local chunk, err = sandbox.load(text, "=soup")
      if plain then
        compiled = compiled + 1
        assert(chunk, ("%s\n%s"):format(tostring(err), text))
      else
        assert.is_nil(chunk)
      end
    end
    assert.is_true(compiled > 100)
  end)

  it("survives bytes of any kind", function()
    local seed = 11
    for _ = 1, 5000 do
      local bytes = {}
      for i = 1, 40 do
        seed = (seed * 1103515245 + 12345) % 2147483648
        bytes[i] = string.char(math.floor(seed / 65536) % 256)
      end
      local text = table.concat(bytes)
      sandbox.load(text, "=bytes")
      lexer.scan(text)
    end
  end)
end)
