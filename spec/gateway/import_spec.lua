-- SPDX-License-Identifier: Apache-2.0
--- `moongate import openapi`: what it writes loads, and serves.
local importer = require("moongate.import")
local moongate = require("moongate.test")
local node = require("spec.support.node")

local function run(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local gateway = [[
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { api = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } } }]]

local dir

before_each(function()
  dir = os.tmpname()
  os.remove(dir)
  run(("mkdir -p '%s/apis'"):format(dir))
  write(dir .. "/gateway.lua", gateway)
end)

after_each(function()
  run(("rm -rf '%s'"):format(dir))
end)

local function import(file)
  run(("rm -rf '%s/apis' '%s/openapi'"):format(dir, dir))
  return importer.run("openapi", file, { out = dir .. "/apis/api.lua" })
end

--- The definitions of the shared set; nil where they are absent.
local function definitions()
  local root = (os.getenv("MOONGATE_SHARED") or "../shared") .. "/conformance/openapi"
  local list = {}
  for path in run(("find '%s' -name '*.json' -o -name '*.yaml' 2>/dev/null | sort"):format(root))
    :gmatch("[^\n]+") do
    list[#list + 1] = path
  end
  return #list > 0 and list or nil
end

describe("moongate import openapi", function()
  it("writes what loads, for every definition of the shared set", function()
    local list = definitions()
    if not list then
      pending("the shared definitions are absent")
      return
    end
    local failures = {}
    for _, file in ipairs(list) do
      local text, err = import(file)
      if text then
        local ok, gw = pcall(moongate.gateway, { dir = dir })
        if ok then
          gw:close()
        end
        err = not ok and gw or nil
      end
      if err then
        failures[#failures + 1] = file .. ": " .. tostring(err)
      end
    end
    assert.same({}, failures)
  end)

  it("serves what it wrote", function()
    write(dir .. "/source.yaml", [[
openapi: 3.1.0
info: { title: Orders, version: 2.1.0 }
servers: [ { url: "https://orders.test/v2" } ]
paths:
  /orders/{id}:
    get:
      operationId: get order
      summary: One order
      deprecated: true
      parameters: [ { name: id, in: path, required: true, schema: { type: integer } } ]
      responses: { "200": { description: it, content: { application/json: { example: { id: 1 } } } } }
]])
    assert.equal(dir .. "/apis/api.lua: 1 operations\n", (import(dir .. "/source.yaml")))
    local text = slurp(dir .. "/apis/api.lua")
    assert.matches('get_order = { method = "GET", path = "/orders/{id}", title = "One order" }, '
      .. "-- deprecated", text, 1, true)
    assert.matches('paths = { "/v2" }', text, 1, true)
    local gw = moongate.gateway({ dir = dir, backends = { api = function(request)
      return 200, {}, request.path
    end } })
    assert.equal("/v2/orders/7", gw:get("/v2/orders/7").body)
    assert.equal(400, gw:get("/v2/orders/seven").status)
    gw:close()
  end)

  it("writes one line for a title of many bytes that end one, and nothing that the title says", function()
    write(dir .. "/t.json", [[{"openapi": "3.0.0", "info": {"title": "]] .. "]] x() --[[\\n\\r\\u0000 y()"
      .. [[", "version": "1"}, "paths": {}}]])
    assert(import(dir .. "/t.json"))
    local text = slurp(dir .. "/apis/api.lua")
    assert.matches("^%-%- %]%] x%(%) %-%-%[%[ y%(%) 1%.\n", text)
    assert.matches("\n}\n$", text)
    assert.is_table(assert(loadstring(text))())
  end)

  it("tells what is no path and no operation", function()
    write(dir .. "/p.json", [[{"openapi": "3.0.0", "info": {"title": "t"}, "paths": {"a": {"get": {}},
      "/b": null, "/c": {"get": "x"}, "/d": {"get": {"responses": {}}}}}]])
    local source = { read = slurp }
    local definition = assert(require("moongate.openapi").read(dir .. "/p.json", source.read))
    assert.same({ "GET /c: expected an operation; left out",
      'paths: /b: expected a path that starts with "/", of operations by method; left out',
      'paths: a: expected a path that starts with "/", of operations by method; left out',
    }, (function(list) table.sort(list) return list end)(definition.warnings))
    assert.equal(1, #definition.operations)
  end)

  it("overwrites nothing, and tells what it cannot read", function()
    write(dir .. "/a.yaml", "openapi: 3.0.0\npaths: {}\n")
    assert.is_string((import(dir .. "/a.yaml")))
    local text, err = importer.run("openapi", dir .. "/a.yaml", { out = dir .. "/apis/api.lua" })
    assert.is_nil(text)
    assert.matches("is there already", err)
    write(dir .. "/b.yaml", "swagger: 1.2\n")
    text, err = import(dir .. "/b.yaml")
    assert.is_nil(text)
    assert.matches("expected `openapi: 3.0`", err, 1, true)
    text, err = import(dir .. "/none.yaml")
    assert.is_nil(text)
    assert.matches("none.yaml", err)
  end)

  it("imports GitHub's whole API in less than 5 s, and loads it in less than 1 s", function()
    if not node.has({ "@octokit/openapi" }) then
      pending("npm has no @octokit/openapi")
      return
    end
    local file = "build/node/node_modules/@octokit/openapi/generated/api.github.com.json"
    local begin = os.clock()
    local told = assert(import(file))
    local importing = os.clock() - begin
    local is_release = (os.getenv("MOONGATE_BUILD") or "build/release"):find("release$") ~= nil
    assert.is_true(importing < 5 or not is_release, ("imported in %.2f s"):format(importing))
    assert.is_true(tonumber(told:match("(%d+) operations")) > 900, told)
    local gw, seconds = nil, math.huge
    for _ = 1, is_release and 8 or 1 do -- the machine may be busy: the best counts
      if gw and seconds < 1 then
        break
      elseif gw then
        gw:close()
      end
      begin = os.clock()
      gw = moongate.gateway({ dir = dir, backends = { api = function()
        return 200, { ["Content-Type"] = "application/json" }, "{}"
      end } })
      seconds = math.min(seconds, os.clock() - begin)
    end
    assert.equal(200, gw:get("/repos/torvalds/linux/issues?per_page=100").status)
    assert.equal(400, gw:get("/repos/torvalds/linux/issues?per_page=many").status)
    gw:close()
    if os.getenv("MOONGATE_MEASURE") then
      print(("imported in %.2f s, loaded in %.2f s of CPU"):format(importing, seconds))
    end
    assert.is_true(seconds < 1 or not is_release, ("loaded in %.2f s"):format(seconds))
  end)
end)
