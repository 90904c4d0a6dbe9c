-- SPDX-License-Identifier: Apache-2.0
--- An API by its definition: operations, validation and mocks.
local json = require("moongate.json")
local moongate = require("moongate.test")

local gateway = [[
return {
  name = "spec",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { pets = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } },
}]]

local definition = [[
openapi: 3.0.3
info: { title: Pets, version: "1" }
paths:
  /pets:
    get:
      operationId: list
      summary: All pets
      parameters:
        - { name: limit, in: query, schema: { type: integer, minimum: 1, maximum: 100 } }
        - { name: tags, in: query, explode: false, schema: { type: array, items: { type: string, maxLength: 3 } } }
        - { name: X-Trace, in: header, schema: { type: string, pattern: "^[a-f0-9]+$" } }
        - { name: since, in: query, schema: { type: string, format: date-time } }
        - { name: offset, in: query, schema: { type: integer, format: int32 } }
        - name: filter
          in: query
          style: deepObject
          schema: { type: object, properties: { age: { type: integer } } }
      responses:
        "200":
          description: pets
          headers:
            X-Total: { required: true, schema: { type: integer } }
            X-Next: { schema: { type: string, format: uuid } }
          content:
            application/json:
              schema: { type: array, items: { $ref: "models.yaml#/Pet" } }
    post:
      operationId: create
      requestBody:
        required: true
        content:
          application/json:
            schema: { $ref: "models.yaml#/Pet" }
      responses:
        "201":
          description: made
          content:
            application/json:
              schema: { $ref: "models.yaml#/Pet" }
  /pets/{id}:
    get:
      operationId: get
      parameters: [ { name: id, in: path, required: true, schema: { type: integer } } ]
      responses:
        "200": { description: one, content: { application/json: { example: { id: 7, name: "Rex" } } } }
]]

local models = [[
Pet:
  type: object
  required: [id, name]
  properties:
    id: { type: integer, readOnly: true }
    name: { type: string, maxLength: 10 }
    note: { type: string, nullable: true }
    kind: { type: string, enum: [cat, dog] }
    born: { type: string, format: date }
    chip: { type: integer, format: int64 }
    weight: { type: number, format: float }
    colour: { type: string, format: colour-name }
]]

local function start(api, answers, other)
  return moongate.gateway({ files = { ["gateway.lua"] = gateway, ["openapi/pets.yaml"] = other or definition,
    ["openapi/models.yaml"] = models, ["apis/pets.lua"] = api }, backends = { pets = answers } })
end

local function created(request)
  return 201, { ["Content-Type"] = "application/json" }, request.body
end

local function post(gw, body, media)
  return gw:post("/v1/pets", { body = body,
    headers = { ["Content-Type"] = media or "application/json" } })
end

describe("an API by its definition", function()
  local gw

  after_each(function()
    if gw then
      gw:close()
      gw = nil
    end
  end)

  it("has its operations, and refuses what it does not allow", function()
    gw = start('return { name = "pets", paths = { "/v1" }, backend = "pets", '
      .. 'openapi = "openapi/pets.yaml" }', created)
    assert.equal(201, post(gw, '{"name":"Rex"}').status)
    assert.equal(201, post(gw, '{"name":"Rex","note":null}', "application/json; charset=utf-8").status)
    local refused = post(gw, '{"name":"A name too long"}')
    assert.equal(400, refused.status)
    assert.is_nil(refused.body:find("maxLength", 1, true))
    assert.equal(400, post(gw, '{"name":"Rex","name":"Max"}').status)
    assert.equal(400, post(gw, "{").status)
    assert.equal(400, post(gw, "").status)
    assert.equal(400, post(gw, "name=Rex", "application/x-www-form-urlencoded").status)
    assert.equal(404, gw:get("/v1/cats").status)
    assert.equal("ContentInvalid", gw:access_log()[3].reason or gw:access_log()[3].error)
  end)

  it("reads parameters as their style says", function()
    gw = start('return { name = "pets", paths = { "/v1" }, backend = "pets", '
      .. 'openapi = "openapi/pets.yaml" }', { status = 200, body = "[]" })
    local cases = {
      [""] = 200, ["?limit=10"] = 200, ["?limit=0"] = 400, ["?limit=ten"] = 400,
      ["?limit=1.5"] = 400, ["?tags=a,b"] = 200, ["?tags=a,long"] = 400, ["?filter[age]=3"] = 200,
      ["?filter[age]=old"] = 400, ["?other=1"] = 200,
    }
    for query, status in pairs(cases) do
      assert.equal(status, gw:get("/v1/pets" .. query).status, query)
    end
    assert.equal(200, gw:get("/v1/pets", { headers = { ["X-Trace"] = "0af" } }).status)
    assert.equal(400, gw:get("/v1/pets", { headers = { ["X-Trace"] = "xyz" } }).status)
    assert.equal(200, gw:get("/v1/pets/12").status)
    assert.equal(400, gw:get("/v1/pets/twelve").status)
  end)

  it("checks what the backend answers", function()
    local answer = { 200, { ["Content-Type"] = "application/json", ["X-Total"] = "1" },
      '[{"id":1,"name":"Rex"}]' }
    gw = start('return { name = "pets", paths = { "/v1" }, backend = "pets", '
      .. 'openapi = "openapi/pets.yaml", validation = { response = "prevent" } }', function()
      return answer[1], answer[2], answer[3]
    end)
    assert.equal(200, gw:get("/v1/pets").status)
    answer[3] = '[{"name":"Rex"}]'
    assert.equal(502, gw:get("/v1/pets").status)
    answer[3] = "[]"
    answer[2] = { ["Content-Type"] = "application/json" }
    assert.equal(502, gw:get("/v1/pets").status)
    answer[1] = 418
    assert.equal(502, gw:get("/v1/pets").status)
  end)

  it("checks fields of requests that the definition does not have, and places apart, where it shall", function()
    gw = start([[
local p = require("moongate.policies")
return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "openapi/pets.yaml",
  validation = { request = "ignore" },
  policies = { inbound = { p.validate_parameters { unspecified_header_action = "prevent",
    specified_query_action = "ignore", overrides = { ["X-Known"] = "ignore" } } } } }]], created)
    local function status(headers, query)
      return gw:get("/v1/pets" .. (query or ""), { headers = headers }).status
    end
    assert.equal(201, status({ ["X-Trace"] = "0af", ["Accept-Language"] = "it", Cookie = "a=b" }))
    assert.equal(201, status({ ["x-known"] = "1" }))
    assert.equal(400, status({ ["X-Debug"] = "1" }))
    assert.equal(400, status({ ["X-Trace"] = "xyz" }))
    assert.equal(201, status(nil, "?limit=1000"))
  end)

  it("checks fields of answers that the definition does not have, where it shall", function()
    local fields = { ["Content-Type"] = "application/json", ["X-Total"] = "1", ["Cache-Control"] = "no-store" }
    gw = start([[
local p = require("moongate.policies")
return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "openapi/pets.yaml",
  policies = { outbound = { p.validate_headers { unspecified_action = "prevent",
    overrides = { ["X-Known"] = "ignore" } } } } }]], function()
      return 200, fields, "[]"
    end)
    assert.equal(200, gw:get("/v1/pets").status)
    fields["X-Known"] = "1"
    assert.equal(200, gw:get("/v1/pets").status)
    fields["X-Leak"] = "1"
    assert.equal(502, gw:get("/v1/pets").status)
  end)

  it("asserts the formats of its schemas", function()
    gw = start('return { name = "pets", paths = { "/v1" }, backend = "pets", '
      .. 'openapi = "openapi/pets.yaml" }', created)
    for members, wanted in pairs({
      ['"born":"2024-02-29"'] = 201, ['"born":"2023-02-29"'] = 400, ['"born":"yesterday"'] = 400,
      ['"chip":9223372036854775807'] = 201, ['"chip":9223372036854775808'] = 400,
      ['"chip":-9223372036854775808'] = 201, ['"chip":-9223372036854775809'] = 400,
      ['"weight":4.2'] = 201, ['"weight":1e39'] = 400, ['"colour":"octarine"'] = 201,
    }) do
      assert.equal(wanted, post(gw, '{"name":"Rex",' .. members .. "}").status, members)
    end
    for query, wanted in pairs({
      ["since=2024-05-01T10:00:00Z"] = 201, ["since=2024-05-01"] = 400,
      ["offset=2147483647"] = 201, ["offset=2147483648"] = 400,
    }) do
      assert.equal(wanted, gw:get("/v1/pets?" .. query).status, query)
    end
  end)

  it("asserts formats of the answer's fields, and none where it shall not", function()
    local function answers()
      return 200, { ["Content-Type"] = "application/json", ["X-Total"] = "1", ["X-Next"] = "42" },
        '[{"id":1,"name":"Rex","born":"yesterday"}]'
    end
    local api = [[return { name = "pets", paths = { "/v1" }, backend = "pets",
      openapi = "openapi/pets.yaml", validation = { response = "prevent", formats = %s } }]]
    gw = start(api:format("false"), answers)
    assert.equal(200, gw:get("/v1/pets?since=yesterday").status)
    gw:close()
    gw = start([[local p = require("moongate.policies")
      return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "openapi/pets.yaml",
        policies = { outbound = { p.validate_headers {} } } }]], answers)
    assert.equal(502, gw:get("/v1/pets").status)
  end)

  it("only tells where it shall detect", function()
    gw = start([[
local p = require("moongate.policies")
return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "openapi/pets.yaml",
  validation = { request = "detect" },
  operations = { create = { policies = { outbound = { function(ctx)
    local one = ctx.vars["validate_content.errors"][1]
    ctx.response.headers["X-Errors"] = one.name .. " " .. one.rule .. " " .. one.action
  end } } } } }]], created)
    local answer = post(gw, '{"name":1}')
    assert.equal(201, answer.status)
    assert.equal("request/name type detect", answer.headers["x-errors"])
  end)

  it("mocks with its examples, else with samples of its schemas", function()
    gw = start([[
local p = require("moongate.policies")
return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "openapi/pets.yaml",
  policies = { inbound = { p.mock_response {} } } }]], created)
    assert.same({ id = 7, name = "Rex" }, json.decode(gw:get("/v1/pets/7").body))
    local list = json.decode(gw:get("/v1/pets").body)
    assert.equal("string", type(list[1].name))
    assert.equal("cat", list[1].kind)
  end)

  it("mocks with the example that is asked for, by name or number", function()
    local named = definition:gsub("example: { id: 7, name: \"Rex\" }",
      'examples: { tom: { value: { id: 1, name: "Tom" } }, ada: { value: { id: 2, name: "Ada" } } }')
    local function name_of(wanted)
      gw = start(([[
local p = require("moongate.policies")
return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "openapi/pets.yaml",
  policies = { inbound = { p.mock_response { example = %s } } } }]]):format(wanted), created, named)
      local name = json.decode(gw:get("/v1/pets/7").body).name
      gw:close()
      return name
    end
    assert.same({ "Tom", "Ada", "Tom", "Ada" }, { name_of('"tom"'), name_of("1"), name_of("2"), name_of('"none"') })
    gw = nil
  end)

  it("takes a schema in the policy", function()
    gw = start([[
local p = require("moongate.policies")
return { name = "pets", paths = { "/v1" }, backend = "pets",
  operations = { any = { method = "*", path = "/*" } },
  policies = { inbound = { p.validate_content { max_size = 64,
    schema = { type = "object", required = { "id" } } } } } }]], created)
    assert.equal(201, post(gw, '{"id":1}').status)
    assert.equal(400, post(gw, "{}").status)
    local large = post(gw, '{"id":"' .. ("x"):rep(100) .. '"}').status
    assert.is_true(large == 400 or large == 413)
  end)

  it("says where a definition is wrong", function()
    local errors = moongate.errors({ files = { ["gateway.lua"] = gateway, ["apis/pets.lua"] =
      'return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "none.yaml" }' } })
    assert.matches("none.yaml", errors, 1, true)
    errors = moongate.errors({ files = { ["gateway.lua"] = gateway,
      ["a.yaml"] = "openapi: 3.0.0\npaths: { /a: { get: { parameters: [ { name: x, in: query, "
        .. "schema: { type: strin } } ], responses: {} } } }",
      ["apis/pets.lua"] =
      'return { name = "pets", paths = { "/v1" }, backend = "pets", openapi = "a.yaml" }' } })
    assert.matches("#/paths//a/get/parameters/0/schema/type: expected null", errors, 1, true)
  end)
end)
