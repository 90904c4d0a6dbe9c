-- SPDX-License-Identifier: Apache-2.0
--- The annotations for editors (lua/moongate/types.lua) name what the runtime gives.

local tree = require("spec.lint.tree")

local TYPES = tree.read("lua/moongate/types.lua")

local NAMES = require("lua.moongate.ctx_names").ctx

--- Fields and methods that a class is annotated with.
local function annotated(class, variable)
  local found = {}
  local fields = assert(TYPES:match("\n%-%-%-@class moongate%." .. class .. "\n(.-)\nlocal "), class)
  for name in fields:gmatch("%-%-%-@field ([%w_]+)") do
    found[name] = true
  end
  for name in TYPES:gmatch("\nfunction " .. variable .. ":([%w_]+)%(") do
    found[name] = true
  end
  return found
end

--- Names in the tables of a C file: `{"name", KIND_…}` and `{"name", function}`.
local function registered(path, constants, functions)
  local found = {}
  for name, value in tree.read(path):gmatch('{"([%w_]+)",%s*([%w_]+)}') do
    if value:find("^" .. constants) or value:find("^" .. functions) or value:find("^moon_ctx_") then
      found[#found + 1] = name
    end
  end
  return found
end

describe("the annotations for editors", function()
  for class, source in pairs({
    Ctx = { "runtime/script/ctx.c", "CTX_", "ctx_" },
    Request = { "runtime/script/ctx_request.c", "REQUEST_", "request_" },
    Response = { "runtime/script/ctx_response.c", "RESPONSE_", "response_" },
  }) do
    it("name all that moongate." .. class .. " has", function()
      local has, missing = annotated(class, class), {}
      local names = registered(unpack(source))
      assert.is_true(#names > 5, table.concat(names, " "))
      for _, name in ipairs(names) do
        missing[#missing + 1] = not has[name] and name or nil
      end
      assert.same({}, missing)
    end)
  end

  it("name the parts of ctx that are written in Lua", function()
    local has = annotated("Ctx", "Ctx")
    for name in tree.read("lua/moongate/runtime.lua"):gmatch("keys%.([%w_]+)") do
      assert.is_true(has[name], name)
    end
    assert.is_true(has.log)
  end)

  it("name what expressions are checked by when they are loaded", function()
    for class, known in pairs({ Ctx = NAMES, Request = NAMES.request, Response = NAMES.response }) do
      local names = {}
      for name in pairs(known) do
        names[name] = true
      end
      assert.same(annotated(class, class), names)
    end
  end)

  it("and what is not there is checked by facts that the runtime has", function()
    local source = tree.read("runtime/script/ctx.c")
    for _, part in ipairs({ "subscription", "product", "api", "operation", "deployment", "error" }) do
      local from = source:match("static int ctx_push_" .. part .. "%b()\n(%b{})")
      local facts, count = from:match("const struct ctx_fact facts%[%] = (%b{})"), 0
      for name in facts:gmatch('{"([%w_]+)",') do
        assert.is_true(NAMES[part][name], part .. "." .. name)
        count = count + 1
      end
      for _ in pairs(NAMES[part]) do
        count = count - 1
      end
      assert.equal(0, count, part)
    end
    for variable, names in pairs({ tls_names = NAMES.request.tls, texts = NAMES.request.tls.client }) do
      local list = tree.read("runtime/script/ctx_fields.c"):match(variable .. "%[%] = (%b{})")
      for name in list:gmatch('{"([%w_]+)",') do
        assert.truthy(names[name], variable .. "." .. name)
      end
    end
  end)
end)
