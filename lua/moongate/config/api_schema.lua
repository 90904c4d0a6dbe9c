-- SPDX-License-Identifier: Apache-2.0
--- What a file of `apis/` may hold.

local f = require("moongate.config.fields")

local subscription = f.record("Whether callers need a subscription key, and where it stands.", {
  { "required", f.bool("Callers without a valid key get 401.", true) },
  { "header", f.str("Header field that carries the key.", { default = "Ocp-Apim-Subscription-Key" }) },
  { "query", f.str("Query parameter that is looked at where the header is absent.",
    { default = "subscription-key" }) },
})

local examples = {
  type = "object",
  additionalProperties = { type = "any" },
  description = "Example bodies by media type, for `mock_response`: a text, or a table sent as JSON.",
}

local method = f.method("Method, or \"*\" for all.")

local checked = { "prevent", "detect", "ignore" }

local validation = f.record("How `openapi` is enforced.", {
  { "request", f.enum("Requests that it does not allow: refused, told, or let pass.", checked,
    "prevent") },
  { "response", f.enum("Answers that it does not have: refused, told, or let pass.", checked,
    "ignore") },
  { "max_size", f.bytes("Largest body that is checked.", { minimum = 1, default = 1048576 }) },
  { "formats", f.bool("Whether `format` of its schemas is asserted: numbers' ranges, dates, UUIDs and "
    .. "the like.", true) },
})

local operation = f.record("One operation.", {
  { "method", { oneOf = { method, f.list("Methods.", method, { minItems = 1 }) },
    description = "Method or list of methods; \"*\" for all." }, true },
  { "path", f.str("Path below the API's, with `{params}`; a last segment `*` takes the rest.",
    { pattern = "^/", expected = "a path that starts with \"/\"" }), true },
  { "title", f.str("Name for people.") },
  { "description", f.str("What it does.") },
  { "backend", f.str("Backend of this operation instead of the API's.") },
  { "policies", f.policies("Policies of this operation: the innermost scope.") },
  { "limits", f.scoped_limits("Limits of this operation.") },
  { "compression", f.compression() },
  { "access_log", f.bool("Whether its requests are in the access log.") },
  { "streaming", f.bool("Bodies go on as they come; a policy that keeps one is then a load error.") },
  { "examples", { type = "object", description = "Example responses by status, as text: "
    .. '`["200"] = { ["application/json"] = { id = 1 } }`.', propertyNames = "^%d%d%d$",
    nameExpected = 'a status as text: "200"', additionalProperties = examples } },
})

return f.record("One API: a file of `apis/`.", {
  { "name", f.str("Name, unique in the gateway; in logs, metrics and products.",
    { pattern = "^[%w_][%w_.-]*$", expected = "a name of letters, digits, '_', '.', '-'" }), true },
  { "title", f.str("Name for people.") },
  { "description", f.str("What it is for.") },
  { "version", f.str("Version for people.") },
  { "paths", f.list("Where it is reached, below routes that have `apis`.",
    f.str("A path.", { pattern = "^/[^*{}?#]*$",
      expected = "a path that starts with \"/\", without parameters" }),
    { minItems = 1 }), true },
  { "backend", f.str("Backend that serves it, unless a policy says otherwise.") },
  { "subscription", subscription },
  { "openapi", f.str("OpenAPI definition (2.0, 3.0, 3.1; JSON or YAML), relative to the "
    .. "configuration: its operations are the API's, those of `operations` laid over them by name, or "
    .. "by method and path.") },
  { "validation", validation },
  { "operations", f.map("Operations by name.", operation), true },
  { "policies", f.policies("Policies of this API: inside gateway, site, route and product.") },
  { "limits", f.scoped_limits("Limits of this API.") },
  { "compression", f.compression() },
  { "access_log", f.bool("Whether its requests are in the access log.") },
  { "streaming", f.bool("Bodies go on as they come; a policy that keeps one is then a load error.") },
})
