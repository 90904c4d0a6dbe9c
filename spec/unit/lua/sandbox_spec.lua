-- SPDX-License-Identifier: Apache-2.0
local sandbox = require("moongate.sandbox")

local function run(text, options)
  local chunk = assert(sandbox.load(text, "=t", sandbox.new_env(options)))
  return chunk()
end

describe("the sandbox", function()
  it("has the allow-list and nothing else", function()
    for _, name in ipairs({ "io", "debug", "package", "ffi", "jit", "collectgarbage", "dofile",
      "loadfile", "setfenv", "getfenv", "newproxy", "module", "arg", "gcinfo" })
    do
      assert.is_nil(run("return " .. name), name)
    end
    assert.is_nil(run("return string.dump"))
    assert.is_nil(run("return os.execute or os.getenv or os.exit or os.remove or os.tmpname"))
    assert.is_nil(run("return math.randomseed"))
    assert.equal("function", run("return type(os.clock)"))
  end)

  it("leaves no trace", function()
    local globals, strings, tables = {}, {}, {}
    for k, v in pairs(_G) do globals[k] = v end
    for k, v in pairs(string) do strings[k] = v end
    for k, v in pairs(table) do tables[k] = v end
    local index = getmetatable("").__index
    local restore = sandbox.install()
    run([[
      x = 1 _G.y = 2 _G.print = nil
      pcall(function() string.rep = nil end)
      pcall(function() table.concat = nil end)
      pcall(rawset, string, 'rep', 1)
      pcall(setmetatable, string, {})
      local mt = getmetatable('') if mt then mt.__index = nil end
      string = {}]])
    restore()
    for k, v in pairs(_G) do assert.equal(globals[k], v, k) end
    for k, v in pairs(string) do assert.equal(strings[k], v, k) end
    for k, v in pairs(table) do assert.equal(tables[k], v, k) end
    assert.equal(index, getmetatable("").__index)
    assert.is_nil(rawget(_G, "x"))
    assert.equal("function", run("return type(string.rep)"))
  end)

  it("passes over a byte order mark, and never takes bytecode for text", function()
    assert.equal(7, run("\239\187\191return 7"))
    assert.is_nil(sandbox.load("\239\187\191" .. string.dump(function() end), "=t"))
  end)

  it("takes numbers for texts where the library does", function()
    assert.equal("23 5 5 21 12", run([[
      return table.concat({ string.sub(12345, 2, 3), string.lower(5), string.upper(5), string.reverse(12),
        string.rep(12, 1) }, " ")]]))
    assert.is_false(pcall(run, "return string.sub({}, 1)"))
  end)

  it("gives each environment its own globals", function()
    local a, b = sandbox.new_env(), sandbox.new_env()
    assert(sandbox.load("shared = 1", "=a", a))()
    assert.is_nil(assert(sandbox.load("return shared", "=b", b))())
  end)

  it("keeps libraries from being changed", function()
    for _, text in ipairs({ "string.rep = 1", "table.x = 1", "math.pi = 3", "os.time = nil",
      "coroutine.yield = 1", "rawset(string, 'rep', 1)", "setmetatable(math, nil)" })
    do
      assert.is_false(pcall(run, text), text)
    end
    assert.is_false(run("return getmetatable(string)"))
    assert.is_nil(run("return getmetatable('')"))
  end)

  it("hides the string metatable, and gives strings the safe methods", function()
    local restore = sandbox.install()
    assert.is_false(pcall(run, "return ('x'):rep(1e9)"))
    assert.is_nil(run("return ('x').dump"))
    restore()
  end)

  it("accepts texts only", function()
    local code = string.dump(function() end)
    assert.is_nil((sandbox.load(code, "=b")))
    local env = sandbox.new_env({ globals = { code = code } })
    assert.is_nil((assert(sandbox.load("return (load(code))", "=t", env))()))
    assert.is_nil((assert(sandbox.load("return (loadstring(code))", "=t", env))()))
    assert.is_nil((assert(sandbox.load("return (load(code, 'x', 'b'))", "=t", env))()))
  end)

  it("compiles what `load` gets in the same sandbox", function()
    assert.is_nil(run("return load('return io')()"))
    assert.equal(3, run("x = 3 return load('return x')()"))
    assert.equal(4, run("return load('return x', 'n', 't', { x = 4 })()"))
    assert.same({ nil, "(load):1: unexpected symbol near '<eof>'" }, { run("return load('x =')") })
  end)

  it("refuses requires that nobody allowed", function()
    assert.is_false(pcall(run, "require('ffi')"))
    assert.is_false(pcall(run, "require('os')"))
  end)

  it("does not let rawequal, rawget or next reach around", function()
    assert.is_nil(run("return rawget(string, 'rep')"))
    assert.is_nil(run("return (next(string))"))
  end)
end)
