-- SPDX-License-Identifier: Apache-2.0
--- Answers with an example instead of calling the backend.
local reply = require("moongate.reply")

local M = {
  name = "mock_response",
  summary = "Answers with an example instead of calling the backend.",
  description = "The example is the policy's own (`body`, `json`), or the operation's (`examples`, or "
    .. "those of `openapi`) for the status and media type, else a sample of the definition's schema.",
  sections = { "inbound", "outbound", "on_error" },
  azure = "mock-response",
  differences = "The example may stand in the policy itself.",
  statuses = { ["200"] = "unless `status` says otherwise" },
  example = 'p.mock_response { status = 200, json = { id = 1 } }',
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "status", "content_type", "example", "body", "json" },
  properties = {
    status = { type = "integer", minimum = 200, maximum = 599, default = 200,
      description = "Status of the answer." },
    content_type = { type = "string", description = "Media type of the example; without it the "
      .. "first in alphabetical order, JSON before others." },
    example = { type = { "string", "integer" }, minimum = 1, description = "Which of the definition's "
      .. "`examples`, by name, or by number in the order of their names. Where an operation has no such "
      .. "example it answers as without." },
    body = { type = "string", description = "The example, as a text." },
    json = { type = { "object", "array" }, description = "The example, as a table sent as JSON." },
  },
}

--- The example that is asked for by name or number.
local function example_of(content, wanted)
  for i, one in ipairs(content.examples or {}) do
    if one.name == wanted or i == wanted then
      return one.value
    end
  end
end

--- The answers of a definition: the example that is asked for, and where there is none at all, one made
--- from the schema.
local function add_samples(out, api, definition, conf)
  for name, operation in pairs(definition.by_name) do
    local response = operation.responses[tostring(conf.status)] or operation.responses.default
    local media = conf.content_type or "application/json"
    local content = response and response.content[media]
    local chosen = content and conf.example and example_of(content, conf.example)
    if content and (chosen ~= nil or not out[api][name]) then
      local sample = chosen
      if sample == nil then
        sample = content.example
      end
      if sample == nil then
        sample = definition:sample(content.schema)
      end
      local body = sample ~= nil and reply.json(200, sample).body
      out[api][name] = body and { body = body, media = media } or nil
    end
  end
end

--- Answers by API and operation, made once.
local function answers_of(examples, conf, definitions)
  local out = {}
  for api, operations in pairs(examples or {}) do
    out[api] = {}
    for operation, by_status in pairs(operations) do
      local by_type = by_status[tostring(conf.status)] or {}
      local media = conf.content_type
      if not media then
        local names = {}
        for name in pairs(by_type) do
          names[#names + 1] = name
        end
        table.sort(names)
        media = by_type["application/json"] and "application/json" or names[1]
      end
      local example = media and by_type[media]
      if example ~= nil then
        if type(example) ~= "string" then
          example = reply.json(200, example).body
        end
        out[api][operation] = { body = example, media = media }
      end
    end
    if definitions and definitions[api] then
      add_samples(out, api, definitions[api], conf)
    end
  end
  return out
end

function M.prepare(conf, env)
  local self = { status = conf.status or 200, media = conf.content_type, body = conf.body }
  if conf.json then
    self.body = reply.json(200, conf.json).body
    self.media = self.media or "application/json"
  elseif not conf.body then
    self.answers = answers_of(env and env.examples, { status = self.status,
      content_type = conf.content_type, example = conf.example }, env and env.definitions)
  end
  return self
end

local function name_of(value)
  return type(value) == "table" and value.name or value
end

local function act(self, ctx)
  local body, media = self.body, self.media
  if self.answers then
    local of_api = self.answers[name_of(ctx.api) or ""]
    local answer = of_api and of_api[name_of(ctx.operation) or ""]
    if answer then
      body, media = answer.body, answer.media
    end
  end
  return reply.text(self.status, body, body and media and { ["Content-Type"] = media } or nil)
end

M.inbound, M.outbound, M.on_error = act, act, act

return M
