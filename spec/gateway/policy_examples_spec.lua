-- SPDX-License-Identifier: Apache-2.0
--- Every example of the policies' documentation is loaded and run as a reader would: taken out of the
--- reference, put where the text says that the policy stands, and asked once.
local ffi = require("ffi")
local json = require("moongate.json")
local moongate = require("moongate.test")

local function run(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local binary = (os.getenv("MOONGATE_BUILD") or "build/release") .. "/moongate"

local function slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

--- What the reference says of each policy: { name, text, example, section }.
local function documented()
  local out = os.tmpname()
  os.remove(out)
  run(("mkdir '%s' && %s docs '%s'"):format(out, binary, out))
  local list, one = {}, nil
  for line in io.lines(out .. "/policies.md") do
    local name = line:match("^## `([%w_]+)`$")
    if name then
      one = { name = name, text = "" }
      list[#list + 1] = one
    end
    if one then
      one.text = one.text .. line .. "\n"
    end
  end
  run(("rm -rf '%s'"):format(out))
  for _, policy in ipairs(list) do
    policy.example = policy.text:match("```lua\n(.-)\n```")
    policy.section = policy.text:match("Stands in: `(%w+)`")
    if policy.example and policy.example:find("p.forward_request", 1, true) then
      policy.section = "backend" -- where what is inside it stands
    elseif policy.section == "backend" and policy.text:find("Stands in: [^\n]*`outbound`") then
      policy.section = "outbound" -- where there is a response
    end
  end
  assert(#list > 40, "the reference has no policies")
  return list
end

local definition = [[
openapi: 3.1.0
info: { title: Orders, version: "1" }
paths:
  /{id}:
    parameters: [ { name: id, in: path, required: true, schema: { type: integer } } ]
    get:
      operationId: get
      responses:
        "200": { description: one, content: { application/json: { schema: { type: object } } } }
    post:
      operationId: change
      requestBody: { content: { application/json: {}, application/xml: {}, text/plain: {} } }
      responses: { "200": { description: one, content: { application/json: {} } } }
]]

local stylesheet = [[
<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
  <xsl:param name="user"/>
  <xsl:template match="/"><seen by="{$user}"><xsl:value-of select="/order/id"/></seen></xsl:template>
</xsl:stylesheet>]]

local dir

local function gateway_file()
  return ([[
return {
  name = "examples",
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  networks = { internal = { "127.0.0.0/8" } },
  named_values = { challenge_secret = "%s" },
  geoip = { country = "geo/country.mmdb", asn = "geo/country.mmdb" }, -- which knows no operator
  backends = {
    orders = { targets = { "http://127.0.0.1:1" } },
    ["orders-canary"] = { targets = { "http://127.0.0.1:1" } },
  },
  sites = { { hosts = { "*" }, routes = { { path = "/*", apis = true } } } },
}]]):format(("s"):rep(40))
end

local function api_file(one)
  local policies = one.name ~= "subscription" and ("policies = { %s = { %s } },"):format(one.section, one.example)
    or one.example .. ","
  return ([[
local p = require("moongate.policies")
return { name = "orders", paths = { "/orders" }, backend = "orders", openapi = "openapi/orders.yaml",
  %s %s
}]]):format(one.name == "subscription" and "" or "subscription = { required = false },", policies)
end

local function files(one)
  return {
    ["gateway.lua"] = gateway_file(),
    ["apis/orders.lua"] = api_file(one):gsub("/var/log/moongate", dir)
      :gsub("https://id%.contoso%.test", "http://127.0.0.1:1"),
    ["openapi/orders.yaml"] = definition,
    ["fragments/limits.lua"] = 'return function(given)\n'
      .. '  return { require("moongate.policies").rate_limit { calls = given.calls, period = 60 } }\n'
      .. 'end',
    ["orders.xsl"] = stylesheet,
    ["lists/drop.txt"] = "192.0.2.0/24\n", ["lists/threats.txt"] = "198.51.100.0/24\n",
    ["lists/googlebot.json"] = '{ "prefixes": [ { "ipv4Prefix": "66.249.64.0/27" } ] }',
    ["certs/gateway.pem"] = slurp(dir .. "/gateway.pem"),
    ["certs/gateway.key"] = slurp(dir .. "/gateway.key"),
    ["geo/country.mmdb"] = slurp("examples/protect-apis/geo/country.mmdb"),
  }
end

-- What a caller gets who brings nothing but the request; 200 from the backend where nothing stands here.
local refused = {
  bot_check = 403, challenge = 403, check_header = 401, geo_filter = 403, introspect_token = 401, oauth_token = 502,
  return_response = 503, set_status = 202, subscription = 401, validate_client_certificate = 403, validate_hmac = 401,
  validate_jwt = 401,
}

-- What else shows that the example did what it is there for.
local effects = {
  authentication_basic = function(_, call)
    assert.equal("Basic Z2F0ZXdheTpwYXNz", call.headers.authorization)
  end,
  find_and_replace = function(_, call)
    assert.equal("a laptop", call.body)
  end,
  json_to_xml = function(_, call)
    assert.matches("<item>a notebook</item>", call.body)
  end,
  rate_limit = function(answer)
    assert.truthy(answer.headers["ratelimit-policy"])
  end,
  mock_response = function(answer)
    assert.equal('{"id":1}', answer.body)
  end,
  return_response = function(answer)
    assert.equal("120", answer.headers["retry-after"])
  end,
  rewrite_uri = function(_, call)
    assert.equal("/v2/orders/7", call.path)
    assert.equal("view=full", call.query)
  end,
  set_body = function(_, call)
    assert.equal('{"ok":true}', call.body)
  end,
  set_header = function(_, call)
    assert.equal("127.0.0.1", call.headers["x-client"])
  end,
  set_method = function(_, call)
    assert.equal("POST", call.method)
  end,
  set_query_parameter = function(_, call)
    assert.equal("api-version=2", call.query)
  end,
}

-- Bodies that the policy is for; the others get none.
local bodies = {
  find_and_replace = { "a notebook", "text/plain" },
  json_to_xml = { '{"item":"a notebook"}', "application/json" },
  xml_to_json = { "<order><id>1</id></order>", "application/xml" },
  xslt = { "<order><id>1</id></order>", "application/xml" },
  validate_content = { '{"id":1}', "application/json" },
  graphql_guard = { '{"query":"{ a }"}', "application/json" },
  set_body = { "old", "text/plain" },
}

local function ask(gw, name)
  local body = bodies[name]
  local answer = body
    and gw:post("/orders/7", { body = body[1], headers = { ["Content-Type"] = body[2] } })
    or gw:get("/orders/7")
  return answer, gw.calls.orders[1]
end

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  run(("mkdir '%s'"):format(dir))
  run(("openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 2 -subj /CN=gateway "
    .. "-keyout '%s/gateway.key' -out '%s/gateway.pem' 2>/dev/null"):format(dir, dir))
  for name, value in pairs { ORDERS_PASS = "pass", GATEWAY_SECRET = "secret", HOOK_KEY = "key",
    MOONGATE_STATE_DIR = dir } do
    ffi.C.setenv(name, value, 1)
  end
end)

teardown(function()
  run(("rm -rf '%s'"):format(dir))
end)

describe("the documentation's example of", function()
  for _, one in ipairs(documented()) do
    it(one.name .. " loads, and does what it says", function()
      assert.truthy(one.example, "there is no example")
      assert.truthy(one.section, "where it stands is not told")
      local gw = moongate.gateway { files = files(one), backends = {
        orders = function() return 200, { ["Content-Type"] = "application/json" }, '{"id":1}' end,
        ["orders-canary"] = function() return 200, {}, "canary" end,
      } }
      local ok, err = pcall(function()
        local answer, call = ask(gw, one.name)
        assert.equal(refused[one.name] or 200, answer.status)
        if effects[one.name] then
          effects[one.name](answer, call)
        end
      end)
      gw:close()
      assert(ok, err)
    end)
  end

  it("stands in what programs read, too", function()
    for _, name in ipairs { "cors", "validate_jwt", "waf", "when" } do -- schemas with functions in them
      assert.is_table(json.decode(run(binary .. " policy show --json " .. name)), name)
    end
    local one = json.decode(run(binary .. " policy show --json rate_limit"))
    assert.matches("p.rate_limit {", one.example, 1, true)
    assert.equal("rate-limit, rate-limit-by-key", one.azure)
    assert.same({ "inbound" }, one.sections)
    assert.truthy(one.statuses["429"] and one.schema.properties.calls and one.differences)
  end)

  it("each policy tells which of API Management's it is, or that it is none", function()
    -- Ours alone: there is nothing to compare them with.
    local own = { bot_check = true, challenge = true, flood_defence = true, validate_hmac = true }
    for _, one in ipairs(documented()) do
      assert.is_true(one.text:find("In API Management: `", 1, true) ~= nil or own[one.name] == true,
        one.name)
    end
  end)
end)
