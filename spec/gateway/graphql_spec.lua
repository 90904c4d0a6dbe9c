-- SPDX-License-Identifier: Apache-2.0
local graphql = require("moongate.graphql")
local json = require("moongate.json")
local moongate = require("moongate.test")

local config = [[
local p = require("moongate.policies")
return { name = "spec", listeners = { { name = "http", address = "127.0.0.1:0" } },
  backends = { api = { targets = { "http://127.0.0.1:1" } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "api", policies = { inbound = {
    p.graphql_guard { max_depth = 3, max_complexity = 8, max_size = 2000, rules = {
      { path = "/Mutation", action = "reject" }, { path = "/Mutation/like", action = "allow" },
      { path = "/Query/user/email", action = "remove" } } } } } } } } } }]]

describe("graphql_guard", function()
  local gw

  setup(function()
    gw = moongate.gateway({ files = { ["gateway.lua"] = config }, backends = {
      api = function(request)
        return 200, {}, request.body ~= "" and request.body or request.query or request.path
      end } })
  end)

  teardown(function()
    gw:close()
  end)

  local function ask(query)
    return gw:post("/graphql", { headers = { ["Content-Type"] = "application/json" },
      body = json.encode({ query = query }) })
  end

  it("lets pass what is within bounds, byte for byte", function()
    local query = 'query Q($id: ID! = "a}b") @live { user(id: $id, tags: ["}"]) { ...F } } '
      .. "fragment F on User { name # a comment }\n }"
    local answer = ask(query)
    assert.equal(200, answer.status)
    assert.equal(query, json.decode(answer.body).query)
  end)

  it("judges every query that a backend might take: of the URL, of the body, of a form of either", function()
    local function status(path, body, media)
      return gw:post("/graphql" .. path, { headers = { ["Content-Type"] = media }, body = body }).status
    end
    assert.equal(400, status("?query=%7Ba%7D", '{"query":"{a}"}', "application/json"))
    assert.equal(400, status("?query=%7Ba%7D", "{a}", "application/graphql"))
    assert.equal(200, status("", "{a}", "Application/GraphQL; charset=utf-8"))
    assert.equal(400, status("", "query=%7Ba%7D", "application/x-www-form-urlencoded"))
    local hash = '{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}'
    assert.equal(400, status("", hash, "application/json"))
    assert.equal(400, gw:get("/graphql?query=%7Ba%7D&query=%7Bb%7D").status)
    assert.equal(400, gw:get("/graphql?query=mutation%7Blike%7D").status)
    assert.equal(200, gw:get("/graphql?query=%7Ba%7D&variables=%7B%7D").status)
  end)

  it("takes a field out and leaves all else as it was written", function()
    local body = [[ { "variables" : {"id":9007199254740993,"query":"{x}","l":["query",1e400,{"query":{}}]},
      "qu\u0065ry" :"{ user { email name } }" , "operationName":null } ]]
    local answer = gw:post("/graphql", { headers = { ["Content-Type"] = "application/json" }, body = body })
    assert.equal(400, answer.status) -- a number that nobody can hold
    body = body:gsub("1e400", "1.10")
    answer = gw:post("/graphql", { headers = { ["Content-Type"] = "application/json" }, body = body })
    assert.equal((body:gsub("{ user { email name } }", "{ user {   name } }")), answer.body)
  end)

  it("bounds all operations of a document together", function()
    local fragments, operations = {}, {}
    for i = 1, 12 do
      fragments[i] = ("fragment F%d on T{...F%d ...F%d}"):format(i, i + 1, i + 1)
    end
    fragments[13] = "fragment F13 on T{a}"
    for i = 1, 50 do
      operations[i] = ("query q%d{...F1}"):format(i)
    end
    local document = graphql.parse(table.concat(operations) .. table.concat(fragments))
    local visited, err = 0, nil
    for _, operation in ipairs(document.operations) do
      err = err or graphql.walk(document, operation, function()
        visited = visited + 1
      end)
    end
    assert.equal("asks for too many fields", err)
    assert.is_true(visited <= 20000)
  end)

  it("refuses what is deeper, more, or not allowed", function()
    local cases = {
      ["{ a { b { c { d } } } }"] = "deeper than 3",
      ["{ ...A } fragment A on Query { a { ...B } } fragment B on A { b { c { d } } }"] = "deeper than 3",
      ["{ a b c d e f g h i }"] = "more than 8 fields",
      ["{ __schema { types { name } } }"] = "introspection",
      ["mutation { drop }"] = "/Mutation/drop is not allowed",
      ["{ ...A } fragment A on Q { ...B } fragment B on Q { ...A }"] = "includes itself",
      ["{ ...None }"] = "no fragment",
      ["{ a"] = "cannot be read", [""] = "cannot be read", ["{ }"] = "cannot be read",
      ["type A { b: C }"] = "cannot be read", ['{ a(b: "c) }'] = "cannot be read",
    }
    for query, wanted in pairs(cases) do
      local answer = ask(query)
      assert.equal(400, answer.status, query)
      assert.matches(wanted, json.decode(answer.body).errors[1].message, 1, true)
    end
    assert.equal(200, ask("mutation { like { count } }").status)
  end)

  it("takes fields out before they go on", function()
    local answer = ask("{ user { name email(x: 1) { y } ...F } } fragment F on User { e: email }")
    assert.equal("{ user { name   ...F } } fragment F on User { __typename }",
      (json.decode(answer.body).query:gsub("{  +__typename +}", "{ __typename }")))
    assert.truthy(graphql.parse(json.decode(answer.body).query))
  end)

  it("bounds documents made to cost much", function()
    local parts = { "{ ...F0 }" }
    for i = 0, 40 do
      parts[#parts + 1] = ("fragment F%d on Q { ...F%d ...F%d }"):format(i, i + 1, i + 1)
    end
    parts[#parts + 1] = "fragment F41 on Q { a }"
    local document = assert(graphql.parse(table.concat(parts)))
    assert.equal("asks for too many fields",
      graphql.walk(document, document.operations[1], function() end))
    assert.is_nil(graphql.parse(("{a"):rep(100000)))
    assert.is_nil(graphql.parse("{ a(x: " .. ("["):rep(100000)))
    assert.equal(400, gw:post("/graphql", { headers = { ["Content-Type"] = "application/json" },
      body = "[" .. json.encode({ query = "{ a }" }) .. "]" }).status)
  end)

  it("reads GET and application/graphql", function()
    assert.equal(200, gw:get("/graphql?query=%7Ba%7D").status)
    assert.equal(400, gw:get("/graphql?query=%7B__schema%7Bx%7D%7D").status)
    assert.equal(400, gw:get("/graphql").status)
    assert.equal(200, gw:post("/graphql", { headers = { ["Content-Type"] = "application/graphql" },
      body = "{ a }" }).status)
  end)
end)
