-- SPDX-License-Identifier: Apache-2.0
--- Scripts that try to outlive their budget. Each is a chunk; none ends by itself in reasonable
--- time.
--- Used by the unit spec here and by the specs of the real runtime.
return {
  ["an endless while loop"] = "while true do end",
  ["an endless repeat loop"] = "repeat until false",
  ["an endless numeric loop"] = "for i = 1, math.huge do end",
  ["nested loops"] = "for i = 1, 1e9 do for j = 1, 1e9 do local x = i * j end end",
  ["a loop with goto"] = "::again:: goto again",
  ["a loop with goto and concatenation"] = "local s ::again:: s = 'a' .. 'b' goto again",
  ["goto into a nested block's label"] = "do ::top:: do goto top end end",
  ["tail recursion"] = "local function f(n) return f(n + 1) end return f(0)",
  ["mutual tail recursion"] =
    "local f, g function f() return g() end function g() return f() end return f()",
  ["deep recursion, again and again"] = [[
    local function f(n) return 1 + f(n + 1) end
    while true do pcall(f, 0) end]],
  ["exponential recursion"] =
    "local function f(n) if n < 2 then return n end return f(n - 1) + f(n - 2) end return f(60)",
  ["recursion through pcall"] =
    "local function f() pcall(f) return pcall(f) end while true do pcall(f) end",
  ["a pcall that swallows"] = "while true do pcall(function() while true do end end) end",
  ["a pcall that swallows, from inside"] = [[
    local function spin() while true do end end
    while true do local ok = pcall(spin) if ok then return end end]],
  ["pcall of pcall of pcall"] = [[
    while true do pcall(pcall, pcall, function() while true do end end) end]],
  ["an xpcall handler that loops"] =
    "xpcall(function() error('x') end, function() while true do end end)",
  ["an xpcall handler after the budget"] = [[
    while true do
      xpcall(function() while true do end end, function() while true do end end)
    end]],
  ["an error in an error handler"] = [[
    local function h(e) return xpcall(error, h, e) end
    while true do xpcall(error, h, 'x') end]],
  ["a coroutine that loops"] =
    "local co = coroutine.create(function() while true do end end) coroutine.resume(co)",
  ["coroutines that are resumed for ever"] = [[
    local co = coroutine.wrap(function() while true do coroutine.yield() end end)
    while true do co() end]],
  ["coroutines made for ever"] = [[
    while true do coroutine.resume(coroutine.create(function() while true do end end)) end]],
  ["a coroutine that catches"] = [[
    while true do
      local co = coroutine.create(function() pcall(function() while true do end end) end)
      coroutine.resume(co)
    end]],
  ["coroutines within coroutines"] = [[
    local function nest(n)
      return coroutine.wrap(function() if n > 0 then nest(n - 1)() end while true do end end)
    end
    while true do pcall(nest(50)) end]],
  ["an endless iterator"] = "for _ in function() return 1 end do end",
  ["an iterator that is a C function"] = "for _ in rawequal, 1, 1 do end",
  ["an iterator made of next"] = "local t = { 1 } while true do for k in next, t do end end",
  ["an __index that loops"] = [[
    local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end })
    while true do pcall(function() return t[1] end) end]],
  ["an __index that spins"] = [[
    local t = setmetatable({}, { __index = function() while true do end end })
    return t.x]],
  ["an __add that spins"] = [[
    local t = setmetatable({}, { __add = function(a, b) while true do end end })
    return t + 1]],
  ["an __eq, __lt and __concat that spin"] = [[
    local mt = {}
    mt.__lt = function() while true do end end
    mt.__eq, mt.__concat = mt.__lt, mt.__lt
    local a, b = setmetatable({}, mt), setmetatable({}, mt)
    pcall(function() return a == b end) pcall(function() return a < b end) return a .. b]],
  ["a __tostring that spins"] = [[
    local t = setmetatable({}, { __tostring = function() while true do end end })
    return tostring(t)]],
  ["a __call that calls itself"] = [[
    local t = setmetatable({}, {}) getmetatable(t).__call = function(self) return self() end
    return t()]],
  ["a __newindex that loops"] = [[
    local t = setmetatable({}, { __newindex = function(t, k, v) t[k] = v end })
    while true do pcall(function() t.x = 1 end) end]],
  ["a gsub callback that spins"] = "('x'):gsub('.', function() while true do end end)",
  ["gsub over and over"] = [[
    local s = ('x'):rep(1000)
    while true do s:gsub('.', function() end) end]],
  ["a gsub with a table that spins"] = [[
    ('x'):gsub('.', setmetatable({}, { __index = function() while true do end end }))]],
  ["a sort comparison that spins"] =
    "table.sort({ 3, 2, 1 }, function() while true do end end)",
  ["a sort of much"] = [[
    local t = {} for i = 1, 1e6 do t[i] = (i * 7919) % 1000003 end
    while true do table.sort(t) table.sort(t, function(a, b) return a > b end) end]],
  ["a sort by a library function"] = [[
    local t = {} for i = 1, 50000 do t[i] = i end
    while true do pcall(table.sort, t, rawequal) end]],
  ["a pattern that backtracks"] = "local s = ('a'):rep(1e5) return s:find('.-.-.-.-b')",
  ["a pattern with many stars"] = "return ('a'):rep(5000):match('a*a*a*a*a*a*a*b')",
  ["a pattern with optional items"] = "return ('a'):rep(60):match(('a?'):rep(60) .. ('a'):rep(61))",
  ["a pattern with balances"] = "return ('('):rep(2e5):find('%b()')",
  ["a gmatch whose ^ is no anchor"] =
    "for _ in (('^'):rep(2e5)):gmatch('^.*b') do end",
  ["a gmatch that backtracks"] =
    "for _ in (('a'):rep(1e5)):gmatch('.-.-.-b') do end",
  ["a gsub that backtracks"] = "return (('a'):rep(1e5)):gsub('.-.-.-b', '')",
  ["a back reference over much"] = "return (('a'):rep(3e4)):find('(.-)%1b')",
  ["a plain search of the worst kind"] = [[
    local s, p = ('a'):rep(8e6), ('a'):rep(4e6) .. 'b'
    return s:find(p, 1, true)]],
  ["small patterns, many times"] = [[
    local s = ('a'):rep(150)
    while true do s:find('.-.-.-b') end]],
  ["string.rep over and over"] = "while true do local s = ('x'):rep(1e7) end",
  ["a string that doubles"] = "local s = 'x' while true do s = s .. s end",
  ["a string that grows"] = "local s = ('x'):rep(1e6) while true do s = s .. 'y' end",
  ["long strings joined again and again"] = [[
    local s = ('x'):rep(1.5e7)
    for i = 1, 1e9 do local t = s .. i end]],
  ["sub of a long string"] = "local s = ('x'):rep(1.6e7) while true do local t = s:sub(2) end",
  ["case of a long string"] = "local s = ('x'):rep(1e7) while true do local t = s:upper() end",
  ["format of long strings"] = [[
    local s = ('x'):rep(1e6)
    while true do local t = string.format('%s%s%s', s, s, s) end]],
  ["concat of much"] = [[
    local t = {} for i = 1, 1e5 do t[i] = 'x' end
    while true do table.concat(t) end]],
  ["unpack of much"] = [[
    local t = {} for i = 1, 7000 do t[i] = i end
    while true do select('#', unpack(t)) end]],
  ["insert at the front"] = [[
    local t = {} for i = 1, 3e6 do t[i] = i end
    while true do table.insert(t, 1, 0) end]],
  ["remove at the front"] = [[
    local t = {} for i = 1, 3e6 do t[i] = i end
    while true do table.remove(t, 1) end]],
  ["next on an emptied table"] = [[
    local t = {} for i = 1, 3e6 do t[i] = true end
    for i = 1, 3e6 - 1 do t[i] = nil end
    while true do next(t) end]],
  ["pairs on an emptied table"] = [[
    local t = {} for i = 1, 3e6 do t[i] = true end
    for i = 1, 3e6 - 1 do t[i] = nil end
    while true do for _ in pairs(t) do break end end]],
  ["a table that grows"] = "local t = {} while true do t[#t + 1] = {} end",
  ["tables within tables"] = "local t = {} while true do t = { t } end",
  ["closures for ever"] =
    "local t = {} while true do t[#t + 1] = function() return t end end",
  ["strings for ever"] = "local t = {} for i = 1, 1e9 do t[i] = ('%d'):format(i):rep(10) end",
  ["load for ever"] = "while true do load('return 1')() end",
  ["loops in loaded code"] = "load('while true do end')()",
  ["a loop in code that a function gives to load"] = [[
    local sent load(function() if not sent then sent = true return 'while true do end' end end)()]],
  ["tonumber of long texts"] = "local s = ('1'):rep(1e7) while true do tonumber(s) end",
  ["method definitions"] = "local o = {} function o:spin() return self:spin() end o:spin()",
  ["loops hidden behind comments"] = "while --[[ do ]] true --[==[ end ]==] do --\nend",
  ["loops hidden behind strings"] = "local s = [==[ while ]] ]==] while s do local t = 'do end' end",
}
