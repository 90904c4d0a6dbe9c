-- SPDX-License-Identifier: Apache-2.0
local host = require("spec.plugins.host")
local json = host("json")
local jsonschema = host("jsonschema")

local function lines(command)
  local out, pipe = {}, assert(io.popen(command))
  for line in pipe:lines() do
    out[#out + 1] = line
  end
  pipe:close()
  return out
end

local function compile(schema, options)
  local s, err = jsonschema.compile(schema, options)
  return assert(s, err)
end

-- What we do not do, and why.
local EXCEPTIONS = {}
for _, draft in ipairs({ "draft7", "draft2020-12" }) do
  -- IDNA's tables (Punycode, contextual rules, bidi) are not part of this build.
  EXCEPTIONS[draft .. "/optional/format/idn-hostname.json"] = true
  EXCEPTIONS[draft .. "/optional/format/hostname.json: validation of A-label (punycode) host names"]
    = true
  -- PCRE2 10.42 has no lookbehind of variable width.
  EXCEPTIONS[draft .. "/optional/format/ecmascript-regex.json: ECMA 262 lookbehind is valid, "
    .. "including variable width: a variable-width lookbehind (ES2018)"] = true
end
-- contentEncoding and contentMediaType are annotations, as in 2020-12.
EXCEPTIONS["draft7/optional/content.json"] = true
-- One rule for host names in all drafts, the later one.
EXCEPTIONS["draft4/optional/format/hostname.json: validation of host names: hostname with "
  .. "consecutive hyphens (RFC1123)"] = true
-- The spec itself writes 1.0 as 1, and a large integer with a fraction and an exponent.
EXCEPTIONS["draft4/optional/bignum.json: integer"] = true
EXCEPTIONS["draft4/optional/zeroTerminatedFloats.json"] = true

local function run_suite(folder, draft)
  local root = host.shared("conformance/json-schema/LICENSE")
  if not root then
    pending("the shared vectors are absent")
    return
  end
  root = root:match("(.*)/")
  local function resolve(uri)
    local path = uri:match("^http://localhost:1234/(.*)$")
    local file = path and io.open(root .. "/remotes/" .. path, "rb")
    if not file then
      return nil
    end
    local text = file:read("*a")
    file:close()
    return text
  end
  local failures, passed = {}, 0
  for _, file in ipairs(lines(("find '%s/tests/%s' -name '*.json' | sort"):format(root, folder))) do
    local name = file:sub(#root + #"/tests/" + 1)
    local text = host.slurp(file)
    local is_format = name:find("optional/format/", 1, true) ~= nil
    for _, group in ipairs(assert(json.decode(text, { depth = 512 }))) do
      local label = name .. ": " .. group.description
      if not EXCEPTIONS[name] and not EXCEPTIONS[label] then
        local ok, schema, err = pcall(jsonschema.compile, group.schema,
          { draft = draft, resolve = resolve, formats = is_format })
        if not ok or not schema then
          failures[#failures + 1] = label .. ": " .. tostring(err or schema)
        else
          for _, test in ipairs(group.tests) do
            local encoded = json.encode({ test.data })
            local valid, errors = schema:validate((encoded:sub(2, -2)))
            if (valid == true) == test.valid then
              passed = passed + 1
            elseif not EXCEPTIONS[label .. ": " .. test.description] then
              failures[#failures + 1] = label .. ": " .. test.description .. " "
                .. (errors and errors[1] and (errors[1].keyword .. " " .. errors[1].message) or "")
            end
          end
        end
      end
    end
  end
  assert.same({}, failures)
  return passed
end

describe("jsonschema", function()
  it("passes the official suite of draft 4", function()
    run_suite("draft4", "4")
  end)

  it("passes the official suite of draft 7", function()
    run_suite("draft7", "7")
  end)

  it("passes the official suite of 2020-12", function()
    run_suite("draft2020-12", "2020-12")
  end)

  it("names the place, the keyword and what was expected", function()
    local s = compile({ type = "object", required = { "name" }, additionalProperties = false,
      properties = { name = { type = "string", maxLength = 3 },
        tags = { type = "array", items = { type = "integer" } } } })
    assert.is_true(s:validate('{"name":"abc"}'))
    local _, errors = s:validate('{"name":"abcd","tags":[1,"x"],"more":1}')
    local seen = {}
    for i, e in ipairs(errors) do
      seen[i] = ("%s %s %s"):format(e.path, e.keyword, e.message)
    end
    table.sort(seen)
    assert.same({ "/more additionalProperties is not allowed here",
      "/name maxLength has more than 3 characters", "/tags/1 type expected integer, got string" },
      seen)
    _, errors = s:validate("{}")
    assert.equal('lacks "name"', errors[1].message)
  end)

  it("takes members in any order", function()
    local s = compile({ type = "object", required = { "a", "c" }, additionalProperties = false,
      properties = { a = { type = "integer" }, b = { type = "string" }, c = { type = "boolean" } } })
    for _, text in ipairs({ '{"a":1,"b":"x","c":true}', '{"c":true,"b":"x","a":1}',
      '{"b":"x","a":1,"c":true}', '{"c":true,"a":1}' })
    do
      assert.is_true(s:validate(text))
    end
    for text, rule in pairs({ ['{"c":true,"b":"x"}'] = "required", ['{"c":1,"a":1}'] = "type",
      ['{"a":1,"d":1,"c":true}'] = "additionalProperties" })
    do
      local _, errors = s:validate(text)
      assert.equal(rule, errors[1].keyword)
    end
  end)

  it("judges numbers by what was written, at the bounds and below what a double has", function()
    local s = compile({ type = "integer", minimum = 1, exclusiveMaximum = 10 })
    for text, rule in pairs({ ["1"] = "", ["1.0"] = "", ["9"] = "", ["90e-1"] = "", ["0"] = "minimum",
      ["10"] = "exclusiveMaximum", ["1.5"] = "type", ["9.99999999999999999999"] = "type" })
    do
      local _, errors = s:validate(text)
      assert.equal(rule, errors and errors[1].keyword or "", text)
    end
    s = compile({ exclusiveMinimum = 0, ["not"] = { type = "integer" } })
    assert.is_true(s:validate("1e-400"))
    assert.is_nil(s:validate("0e-400"))
  end)

  it("asserts the formats of OpenAPI's numbers, exactly", function()
    local ranges = { int8 = { "-128", "127", "-129", "128" }, uint8 = { "0", "255", "-1", "256" },
      int16 = { "-32768", "32767", "-32769", "32768" }, uint16 = { "0", "65535", "-1", "65536" },
      int32 = { "-2147483648", "2147483647.0", "-2147483649", "2147483648" },
      uint32 = { "0", "4294967295", "-1", "4294967296" },
      int64 = { "-9223372036854775808", "9223372036854775807", "-9223372036854775809",
        "9223372036854775808" },
      uint64 = { "0", "18446744073709551615", "-1", "18446744073709551616" },
      float = { "-3.4028234e38", "0.1", "-3.5e38", "1e39" } }
    for name, numbers in pairs(ranges) do
      local s = compile({ format = name }, { formats = true })
      for i, number in ipairs(numbers) do
        assert.equal(i <= 2, s:validate(number) == true, name .. " " .. number)
      end
      assert.is_true(s:validate('"12"'))
      assert.equal(name == "float", s:validate("1.5") == true)
      assert.is_true(compile({ format = name }):validate("1e60"))
    end
    local _, errors = compile({ type = "integer", format = "int32" }, { formats = true })
      :validate("3000000000")
    assert.same({ { path = "", keyword = "format", message = "is above 2147483647" } }, errors)
  end)

  it("refuses what is no JSON, and members that occur twice", function()
    local s = compile(true)
    local _, errors = s:validate('{"a":1,"a":2}')
    assert.equal("json", errors[1].keyword)
    assert.matches("duplicate member", errors[1].message)
    _, errors = s:validate('{"a":')
    assert.equal("json", errors[1].keyword)
    _, errors = s:validate(("["):rep(200) .. ("]"):rep(200))
    assert.matches("nested too deeply", errors[1].message)
  end)

  it("ends on references in circles", function()
    local s = compile({ ["$ref"] = "#/$defs/a",
      ["$defs"] = { a = { ["$ref"] = "#/$defs/b" }, b = { ["$ref"] = "#/$defs/a" } } })
    local ok, errors = s:validate("1")
    assert.is_nil(ok)
    assert.equal("limit", errors[1].keyword)
  end)

  it("gives up on work without end", function()
    local a = { anyOf = { { ["$ref"] = "#/$defs/n" }, { ["$ref"] = "#/$defs/n" } } }
    local s = compile({ ["$ref"] = "#/$defs/n", ["$defs"] = { n = { type = "array",
      items = { anyOf = { { allOf = { a, { type = "string" } } }, { allOf = { a, { type =
      "number" } } } } } } } })
    local ok, errors = s:validate(("["):rep(100) .. ("]"):rep(100))
    assert.is_nil(ok)
    assert.is_true(#errors > 0)
  end)

  it("tells numbers apart that doubles do not", function()
    local s = compile('{"const": 9007199254740993}')
    assert.is_true(s:validate("9007199254740993"))
    assert.is_nil(s:validate("9007199254740992"))
    assert.is_true(compile('{"multipleOf": 0.01}'):validate("4.35"))
    assert.is_nil(compile('{"multipleOf": 0.01}'):validate("4.355"))
    assert.is_true(compile('{"maximum": 1}'):validate("1.0e0"))
  end)

  it("reads the schemas of OpenAPI 3.0 in place, for requests and responses", function()
    local set = jsonschema.set({ draft = "openapi-3.0", definition = true })
    assert(set:add("file:///api.json", { components = { schemas = { Pet = { type = "object",
      required = { "id", "name", "secret" }, properties = {
        id = { type = "integer", readOnly = true }, name = { type = "string", nullable = true },
        age = { type = "integer", minimum = 0, exclusiveMinimum = true },
        secret = { type = "string", writeOnly = true } } } } } }))
    local request = assert(set:compile("#/components/schemas/Pet", "request"))
    local response = assert(set:compile("#/components/schemas/Pet", "response"))
    assert.is_true(request:validate('{"name":null,"secret":"x"}'))
    assert.is_nil(response:validate('{"name":null,"secret":"x"}'))
    assert.is_true(response:validate('{"id":1,"name":"a"}'))
    assert.is_nil(response:validate('{"id":1,"name":"a","age":0}'))
    local none, err = set:compile("#/components/schemas/Cat")
    assert.is_nil(none)
    assert.matches("there is nothing at", err)
  end)

  it("says where a schema is wrong", function()
    local s, err = jsonschema.compile({ properties = { a = { type = "strin" } } })
    assert.is_nil(s)
    assert.matches("#/properties/a/type: expected null, boolean", err, 1, true)
    s, err = jsonschema.compile({ pattern = "(" })
    assert.is_nil(s)
    assert.matches("not a pattern", err)
    s, err = jsonschema.compile({ ["$ref"] = "other.json" })
    assert.is_nil(s)
    assert.matches('nothing is known of "other.json"', err, 1, true)
  end)
end)
