-- SPDX-License-Identifier: Apache-2.0
--- What a definition says of parameters and forms, by the letter of OpenAPI: styles, repeated values,
--- fields of forms and parts, ranges of statuses.
local moongate = require("moongate.test")

local GATEWAY = [[
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { b = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } } }]]
local API = [[return { name = "d", paths = { "/v" }, backend = "b", openapi = "d.yaml",
  validation = { request = "prevent", response = "prevent" } }]]

local DEFINITION = [[
openapi: 3.0.3
info: { title: P, version: "1" }
paths:
  /q:
    get:
      parameters:
        - { name: n, in: query, schema: { type: integer } }
        - { name: empty, in: query, allowEmptyValue: true, schema: { type: integer } }
        - name: s
          in: query
          style: spaceDelimited
          explode: false
          schema: { type: array, items: { type: integer }, maxItems: 2 }
        - name: p
          in: query
          style: pipeDelimited
          explode: false
          schema: { type: array, items: { type: integer } }
        - { name: m, in: query, schema: { type: array, items: { type: integer } } }
        - { name: c, in: query, explode: false, schema: { type: array, items: { enum: [ "a,b", "c d" ] } } }
        - name: co
          in: query
          explode: false
          schema: { type: object, properties: { r: { enum: [ "1,2" ] } }, additionalProperties: false }
        - name: d
          in: query
          style: deepObject
          schema:
            type: object
            properties: { a: { type: integer }, l: { type: array, items: { type: integer } } }
            additionalProperties: false
        - name: j
          in: query
          content:
            application/json: { schema: { type: object, required: [a], properties: { a: { type: integer } } } }
        - { name: b, in: query, schema: { type: boolean } }
        - { name: nul, in: query, schema: { type: integer, nullable: true } }
        - { name: u, in: query, schema: { oneOf: [ { type: integer, maximum: 5 }, { type: string, pattern: "^x" } ] } }
        - { name: fo, in: query, schema: { type: object, properties: { r: { type: integer }, g: { type: integer } } } }
      responses: { "200": { description: ok } }
  /free:
    get:
      parameters:
        - { name: n, in: query, schema: { type: integer } }
        - { name: any, in: query, schema: { type: object, additionalProperties: { type: integer } } }
      responses: { "200": { description: ok } }
  /lists/{ids}:
    get:
      parameters:
        - { name: ids, in: path, required: true, schema: { type: array, items: { enum: [ "a,b", "c" ] } } }
      responses: { "200": { description: ok } }
  /matrix/{ids}:
    get:
      parameters:
        - name: ids
          in: path
          required: true
          style: matrix
          explode: true
          schema: { type: array, items: { type: integer } }
      responses: { "200": { description: ok } }
  /matrixn/{ids}:
    get:
      parameters:
        - name: ids
          in: path
          required: true
          style: matrix
          schema: { type: array, items: { type: integer } }
      responses: { "200": { description: ok } }
  /matrixs/{id}:
    get:
      parameters:
        - name: id
          in: path
          required: true
          style: matrix
          schema: { type: integer }
      responses: { "200": { description: ok } }
  /matrixo/{o}:
    get:
      parameters:
        - name: o
          in: path
          required: true
          style: matrix
          explode: true
          schema:
            type: object
            properties: { R: { type: integer }, G: { type: integer } }
            additionalProperties: false
      responses: { "200": { description: ok } }
  /label/{ids}:
    get:
      parameters:
        - name: ids
          in: path
          required: true
          style: label
          explode: true
          schema: { type: array, items: { type: integer } }
      responses: { "200": { description: ok } }
  /labeln/{ids}:
    get:
      parameters:
        - name: ids
          in: path
          required: true
          style: label
          schema: { type: array, items: { type: integer } }
      responses: { "200": { description: ok } }
  /labelo/{o}:
    get:
      parameters:
        - name: o
          in: path
          required: true
          style: label
          explode: true
          schema:
            type: object
            properties: { R: { type: integer }, G: { type: integer } }
            additionalProperties: false
      responses: { "200": { description: ok } }
  /simple/{ids}:
    get:
      parameters:
        - name: ids
          in: path
          required: true
          schema: { type: array, items: { type: integer } }
      responses: { "200": { description: ok } }
  /simpleo/{o}:
    get:
      parameters:
        - name: o
          in: path
          required: true
          explode: true
          schema: { type: object, properties: { R: { type: integer } }, additionalProperties: false }
      responses: { "200": { description: ok } }
  /nobody:
    post:
      responses:
        "2XX": { description: ok }
        default:
          description: err
          content: { application/json: { schema: { type: object, required: [code] } } }
  /form:
    post:
      requestBody:
        required: true
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              required: [name]
              properties:
                name: { type: string, maxLength: 3 }
                age: { type: integer }
                tags: { type: array, items: { type: integer } }
                o: { type: object, properties: { a: { type: integer } } }
              additionalProperties: false
            encoding: { tags: { style: form, explode: true } }
          multipart/form-data:
            schema:
              type: object
              required: [name]
              properties:
                name: { type: string, maxLength: 3 }
                meta: { type: object, properties: { a: { type: integer } } }
                file: { type: string, format: binary }
                tags: { type: array, items: { type: integer } }
              additionalProperties: false
            encoding: { file: { contentType: "image/png, application/*" } }
      responses: { "200": { description: ok } }
]]

local OLD = [[
swagger: "2.0"
info: { title: P, version: "1" }
paths:
  /form:
    post:
      consumes: [ application/x-www-form-urlencoded, multipart/form-data ]
      parameters:
        - { name: name, in: formData, type: string, required: true, maxLength: 3 }
        - { name: ids, in: formData, type: array, items: { type: integer }, collectionFormat: csv }
        - { name: file, in: formData, type: file }
      responses: { "200": { description: ok } }
]]

local URLENCODED = "application/x-www-form-urlencoded"
local NAME = 'Content-Disposition: form-data; name='

local QUERIES = {
  [200] = { "", "?n=1", "?n=1&n=2", "?n=1.0", "?n=%31", "?n=1e2", "?n=-5", "?empty", "?empty=", "?s=1%202", "?s=1+2",
    "?p=1|2", "?p=1%7C2", "?m=1&m=2", "?d[a]=1", "?d%5Ba%5D=1", "?d[l]=1&d[l]=2", "?j=%7B%22a%22:1%7D", "?b=true",
    "?nul=", "?nul=null", "?nul=1", "?u=3", "?u=x1", "?r=1&g=2", "?other=x",
    "?c=a%2Cb,c+d", "?c=c%20d", "?co=r,1%2C2" },
  [400] = { "?n=1&n=x", "?n=", "?n", "?n=01", "?n=0x10", "?empty=x", "?s=1%202%203", "?s=1,2", "?p=1,2", "?m=1&m=x",
    "?m=1,2", "?m=", "?d[a]=x", "?d[z]=1", "?d[a]=1&d[a]=x", "?d[l]=1&d[l]=x", "?j=%7B%22a%22:%221%22%7D",
    "?j=%7B%7D", "?j=x", "?b=1", "?b=TRUE", "?nul=x", "?u=6", "?u=y", "?r=x", "?r=1&r=x",
    "?c=a,b", "?c=a%2Cb%2Cc+d", "?c=c%2520d", "?co=r,1,2", "?co=r%2C1%252C2",
    "?" .. ("a&"):rep(1000) .. "n=x" },
}

local PATHS = {
  [200] = { "matrix/;ids=1;ids=2", "matrixn/;ids=1,2", "matrixs/;id=5", "matrixo/;R=1;G=2", "label/.1.2",
    "labeln/.1,2", "labelo/.R=1.G=2", "simple/1,2", "simpleo/R=1", "free?a=1&b=2", "free?n=1&a=2",
    "lists/a%2Cb,c", "lists/c" },
  [400] = { "matrix/;ids=1;ids=x", "matrixn/;ids=1,x", "matrixs/;id=x", "matrixs/5", "matrixo/;R=x", "matrixo/;Z=1",
    "label/.1.x", "label/1", "labeln/.1,x", "labelo/.R=x", "labelo/.Q=1", "simple/1,x", "simpleo/R=x",
    "simpleo/Q=1", "free?a=x", "free?n=x", "lists/a,b", "lists/a%2Cb%2Cc", "matrixn/;ids=1%2C2" },
}

local FORMS = {
  [200] = { "name=abc", "name=a&age=1", "name=a&tags=1&tags=2", "name=%61%62+", "name=a&o=%7B%22a%22%3A1%7D" },
  [400] = { "", "name=abcd", "age=1", "name=a&age=x", "name=a&tags=1&tags=x", "name=a&zzz=1", "name=a&name=abcd",
    "name=a&name=b", "name=a&o=%7B%22a%22%3A%22x%22%7D", "name=a&o=1%2C%22age%22%3A2", "name=a&" .. ("x&"):rep(1001) },
}

local function multipart(parts)
  local out = {}
  for i, part in ipairs(parts) do
    out[i] = ("--B\r\n%s\r\n\r\n%s\r\n"):format(part[1], part[2])
  end
  return table.concat(out) .. "--B--\r\n"
end

local ABC = { NAME .. '"name"', "abc" }
local OCTETS = '"file"; filename="x"\r\nContent-Type: application/octet-stream'
local JSON = '"meta"\r\nContent-Type: application/json'
local MULTIPART = {
  [200] = {
    multipart({ ABC }), multipart({ ABC, { NAME .. OCTETS, "\0\255\r\n--C\r\nabc" } }),
    multipart({ ABC, { NAME .. JSON, '{"a":1}' } }), multipart({ ABC, { NAME .. '"tags"', "1" } }),
    multipart({ ABC, { NAME .. "tags", "1" }, { NAME .. '"tags"', "2" } }),
  },
  [400] = {
    "garbage", multipart({ { NAME .. '"name"', "abcd" } }), multipart({ { NAME .. OCTETS, "abc" } }),
    multipart({ ABC, ABC }), multipart({ ABC, { NAME .. JSON, '{"a":"x"}' } }),
    multipart({ ABC, { NAME .. JSON, '{"a":1},"tags":[1]' } }), multipart({ ABC, { NAME .. '"zzz"', "1" } }),
    multipart({ ABC, { NAME .. '"tags"', "1" }, { NAME .. '"tags"', "x" } }),
    multipart({ ABC, { NAME .. '"file"; filename="x"\r\nContent-Type: text/html', "abc" } }),
    multipart({ ABC, { 'Content-Disposition: form-data; name="tags"; name="age"', "1" } }),
    multipart({ ABC, { NAME .. '"tags"\r\nContent-Transfer-Encoding: base64', "MQ==" } }),
    multipart({ ABC, { "Content-Type: text/plain", "1" } }),
    (multipart({ ABC }):gsub("\r\n%-%-B%-%-.*", "")), (multipart({ ABC }):gsub("\r\n", "\n")),
  },
}

describe("a definition, by its letter,", function()
  local gw, answer

  before_each(function()
    answer = { 200, {}, "" }
    gw = moongate.gateway({ files = { ["gateway.lua"] = GATEWAY, ["d.yaml"] = DEFINITION, ["apis/d.lua"] = API },
      backends = { b = function() return unpack(answer) end } })
  end)

  after_each(function()
    gw:close()
  end)

  local function post(path, media, text)
    return gw:post("/v/" .. path, { body = text, headers = { ["Content-Type"] = media } }).status
  end

  it("judges every value of a query parameter, as its style has it", function()
    for status, queries in pairs(QUERIES) do
      for _, query in ipairs(queries) do
        assert.equal(status, gw:get("/v/q" .. query).status, query)
      end
    end
  end)

  it("reads parameters of the path as matrix, label and simple, and takes a free-form query", function()
    for status, paths in pairs(PATHS) do
      for _, path in ipairs(paths) do
        assert.equal(status, gw:get("/v/" .. path).status, path)
      end
    end
  end)

  it("judges forms as the objects that they are", function()
    for status, forms in pairs(FORMS) do
      for _, form in ipairs(forms) do
        assert.equal(status, post("form", URLENCODED, form), form)
      end
    end
    for status, bodies in pairs(MULTIPART) do
      for _, body in ipairs(bodies) do
        assert.equal(status, post("form", "multipart/form-data; boundary=B", body), body)
      end
    end
    assert.equal(200, post("form", 'multipart/form-data; boundary="B"', multipart({ ABC })))
    assert.equal(400, post("form", "multipart/form-data", multipart({ ABC })))
  end)

  it("has no body where none is defined, and statuses by range and by default", function()
    assert.equal(200, gw:post("/v/nobody").status)
    assert.equal(400, post("nobody", "application/json", "{}"))
    answer[1] = 204
    assert.equal(204, gw:post("/v/nobody").status)
    answer = { 302, { ["Content-Type"] = "application/json" }, '{"code":1}' }
    assert.equal(302, gw:post("/v/nobody").status)
    answer[3] = "{}"
    assert.equal(502, gw:post("/v/nobody").status)
  end)

  it("of version 2.0 has a schema for each field of a form", function()
    gw:close()
    gw = moongate.gateway({ files = { ["gateway.lua"] = GATEWAY, ["d.yaml"] = OLD, ["apis/d.lua"] = API },
      backends = { b = function() return unpack(answer) end } })
    for form, status in pairs({ ["name=abc"] = 200, ["name=abcd"] = 400, ["ids=1"] = 400, ["name=a&ids=1,2"] = 200,
      ["name=a&ids=1,x"] = 400, ["name=a&name=abcd"] = 400, [""] = 400 })
    do
      assert.equal(status, post("form", URLENCODED, form), form)
    end
    assert.equal(200, post("form", "multipart/form-data; boundary=B", multipart({ ABC, { NAME .. OCTETS, "\0" } })))
    assert.equal(400, post("form", "multipart/form-data; boundary=B", multipart({ { NAME .. OCTETS, "\0" } })))
  end)
end)
