-- SPDX-License-Identifier: Apache-2.0
--- docs/writing-policies.md: its files are a gateway whose spec passes, and what it names is there.
local process = require("spec.support.process")

local PAGE = process.read("docs/writing-policies.md")

describe("docs/writing-policies.md", function()
  it("shows a gateway, a policy and a spec that pass", function()
    local dir = process.run("mktemp -d /tmp/moongate-page.XXXXXX"):match("%S+")
    finally(function()
      process.run(("rm -rf '%s'"):format(dir))
    end)
    local files = 0
    for text in PAGE:gmatch("\n```lua\n(.-)\n```") do
      local path = assert(text:match("^%-%- (%S+%.lua)\n"), "a block that is no file:\n" .. text)
      process.run(("mkdir -p '%s/%s'"):format(dir, path:match("^(.*)/") or "."))
      process.write(dir .. "/" .. path, text)
      files = files + 1
    end
    assert.equal(3, files)
    local said, status = process.run(("'%s' check '%s' 2>&1"):format(process.binary, dir))
    assert.equal(0, status, said)
    assert.is_nil(said:find("warning", 1, true), said)
    said, status = process.run(("'%s' test '%s/spec' 2>&1"):format(process.binary, dir))
    assert.equal(0, status, said)
    assert.truthy(said:find("1 success", 1, true), said)
  end)

  it("names every part of ctx that editors are told of", function()
    local types, missing = process.read("lua/moongate/types.lua"), {}
    for _, class in ipairs({ "Ctx", "Request", "Response" }) do
      local fields = types:match("\n%-%-%-@class moongate%." .. class .. "\n(.-)\nlocal ")
      for name in fields:gmatch("%-%-%-@field ([%w_]+)") do
        if not PAGE:find("%f[%w_]" .. name .. "%f[^%w_]") then
          missing[#missing + 1] = class .. "." .. name
        end
      end
      for name in types:gmatch("\nfunction " .. class .. ":([%w_]+)%(") do
        if not PAGE:find("`:" .. name .. "(", 1, true) then
          missing[#missing + 1] = class .. ":" .. name
        end
      end
    end
    assert.same({}, missing)
  end)

  it("names no module or function that policies do not have", function()
    local lines, calls = { 'local p = require("moongate.policies")', "return {",
      'listeners = { { address = "127.0.0.1:0" } },',
      'sites = { { hosts = { "*" }, routes = { { path = "/", reply = {} } } } } }' }, {}
    local modules = PAGE:match("## Modules(.-)\n## ")
    for row in modules:gmatch("\n| (`[%w`, ]+`) |") do
      for name in row:gmatch("`(%w+)`") do
        table.insert(lines, 1, ('local %s = require("moongate.%s")'):format(name, name))
      end
    end
    for module, name in modules:gmatch("`([a-z]+)%.([%w_]+)[({ ]") do
      if module ~= "p" then
        calls[#calls + 1] = ('assert(%s.%s ~= nil, "%s.%s")'):format(module, name, module, name)
      end
    end
    assert.is_true(#calls > 20)
    for i = #calls, 1, -1 do
      table.insert(lines, #lines - 3, calls[i])
    end
    local dir = process.run("mktemp -d /tmp/moongate-page.XXXXXX"):match("%S+")
    process.write(dir .. "/gateway.lua", table.concat(lines, "\n"))
    local said, status = process.run(("'%s' check '%s' 2>&1"):format(process.binary, dir))
    process.run(("rm -rf '%s'"):format(dir))
    assert.equal(0, status, said)
  end)
end)
