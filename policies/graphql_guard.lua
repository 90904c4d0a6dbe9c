-- SPDX-License-Identifier: Apache-2.0
--- Bounds what a GraphQL request may ask for.
local graphql = require("moongate.graphql")
local json = require("moongate.json")
local reply = require("moongate.reply")
local validation = require("moongate.validation")

local M = {
  name = "graphql_guard",
  summary = "Bounds what a GraphQL request may ask for.",
  description = "Reads the document of a POST (JSON, or `application/graphql`) or of `?query=`, "
    .. "follows its fragments, and checks depth, number of fields, introspection and single fields. "
    .. "`remove` takes a field out of the document before it goes on. What was wrong stands in the "
    .. "log and in a variable.",
  sections = { "inbound" },
  azure = "validate-graphql-request",
  differences = "Rules name fields by their path from the root: `/Query/user/email`, `/Mutation`; "
    .. "types of inner fields are not known here. Introspection is refused unless allowed, batches "
    .. "too, and so are a mutation by GET and a request with a query in both URL and body. "
    .. "`max_complexity` counts the fields asked for, over all of a batch.",
  statuses = { ["400"] = "with GraphQL's `errors`" },
  example = [[p.graphql_guard {
  max_depth = 5, max_complexity = 100,
  rules = {
    { path = "/Mutation", action = "reject" },
    { path = "/Query/user/email", action = "remove" },
  },
}]],
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "max_size", "max_depth", "max_complexity", "introspection", "batches", "rules",
    "errors_variable" },
  properties = {
    max_size = { type = "integer", minimum = 1, default = 102400, unit = "bytes",
      description = "Largest request that is read." },
    max_depth = { type = "integer", minimum = 1, maximum = 60, default = 6,
      description = "How deeply fields may nest." },
    max_complexity = { type = "integer", minimum = 1, default = 1000,
      description = "How many fields may be asked for, fragments counted where they are used." },
    introspection = { enum = { "allow", "reject" }, default = "reject",
      description = "Whether `__schema` and `__type` may be asked for." },
    batches = { enum = { "allow", "reject" }, default = "reject",
      description = "Whether one request may hold a list of them." },
    rules = { type = "array", description = "Fields by path; the longest path that fits counts.",
      items = { type = "object", required = { "path", "action" }, additionalProperties = false,
        description = "A rule.", order = { "path", "action" },
        properties = {
          path = { type = "string", pattern = "^/%u%a+[%w_/]*$",
            expected = 'a path such as "/Query/user/email"',
            description = "From the root; what lies below follows it." },
          action = { enum = { "allow", "reject", "remove" }, description = "What happens to it." },
        } } },
    errors_variable = { type = "string", minLength = 1, default = "graphql_guard.errors",
      description = "Name in `ctx.vars` that gets the mistakes." },
  },
}

function M.needs(conf)
  return { request_body = true, max_body_bytes = conf.max_size }
end

function M.prepare(conf)
  local self = { max_size = conf.max_size or 102400, max_depth = conf.max_depth or 6,
    max_complexity = conf.max_complexity or 1000, variable = conf.errors_variable
      or "graphql_guard.errors",
    allows_introspection = conf.introspection == "allow", allows_batches = conf.batches == "allow",
    rules = {} }
  for _, rule in ipairs(conf.rules or {}) do
    self.rules[rule.path] = rule.action
  end
  return self
end

--- The action of the longest rule that a path lies under.
local function action_of(self, path)
  while path do
    local action = self.rules[path]
    if action then
      return action
    end
    path = path:match("^(.+)/[^/]*$")
  end
  return "allow"
end

--- Judges one document; `cost` adds up the fields of all of a request's documents.
--- @return new text or nil, and what is wrong
local function judge(self, text, cost)
  local document, err = graphql.parse(text)
  if not document then
    return nil, "the document cannot be read: " .. err
  end
  local removed, wrong = {}, nil
  local function visit(path, depth, selection, owner, index)
    cost.fields = cost.fields + 1
    local name = selection.name
    if depth > self.max_depth then
      wrong = wrong or ("fields nest deeper than %d"):format(self.max_depth)
    elseif (name == "__schema" or name == "__type") and not self.allows_introspection then
      wrong = wrong or "introspection is not allowed"
    end
    local action = action_of(self, path)
    if action == "reject" then
      wrong = wrong or ("%s is not allowed"):format(path)
    elseif action == "remove" then
      removed[owner] = removed[owner] or {}
      removed[owner][index] = true
    end
  end
  for _, operation in ipairs(document.operations) do
    err = graphql.walk(document, operation, visit)
    if err then
      return nil, err
    elseif cost.fields > self.max_complexity then
      return nil, wrong or ("more than %d fields are asked for"):format(self.max_complexity)
    elseif cost.is_get and operation.kind ~= "query" then
      return nil, ("a %s cannot be asked for by GET"):format(operation.kind)
    end
  end
  if wrong then
    return nil, wrong
  end
  return next(removed) and graphql.without(text, removed) or text
end

local function refuse(self, ctx, message)
  ctx.vars[self.variable] = { { message = message } }
  ctx.log:warning("graphql_guard: " .. message)
  return reply.json(400, { errors = { { message = message } } })
end

--- One request of the body: { query = … }.
local function judge_request(self, request, cost)
  if type(request) ~= "table" or type(request.query) ~= "string" then
    return nil, "there is no query"
  end
  local text, err = judge(self, request.query, cost)
  if not text then
    return nil, err
  end
  return true, nil, text ~= request.query and text or nil
end

local function judge_body(self, ctx)
  local text = ctx.request:body() or ""
  if #text > self.max_size then
    return "the request is larger than max_size"
  end
  local cost = { fields = 0 }
  if validation.media_type(ctx.request.headers["Content-Type"]) == "application/graphql" then
    local changed, err = judge(self, text, cost)
    if changed and changed ~= text then
      ctx.request:set_body(changed)
    end
    return err
  end
  local body, err = json.decode(text, { depth = 64, duplicates = "refuse" })
  if type(body) ~= "table" then
    return "the body is no JSON object" .. (err and ": " .. err or "")
  end
  local list = { body }
  if body[1] ~= nil or text:find("^%s*%[") then
    if not self.allows_batches then
      return "batches are not allowed"
    end
    list = body
  end
  local changes, is_changed = {}, false
  for _, request in ipairs(list) do
    local ok, why, changed = judge_request(self, request, cost)
    if not ok then
      return why
    elseif changed then
      changes[request.query], is_changed = changed, true
    end
  end
  if is_changed then
    ctx.request:set_body(graphql.replace_queries(text, function(query)
      return changes[query] or query
    end))
  end
  return nil
end

local function judge_url(self, ctx, queries)
  local query = queries[1]
  if not query or #query > self.max_size then
    return query and "the request is larger than max_size" or "there is no query"
  end
  local text, wrong = judge(self, query, { fields = 0, is_get = true })
  if text and text ~= query then
    ctx.request.query.query = text
  end
  return wrong
end

function M.inbound(self, ctx)
  local wrong
  local is_get = ctx.request.method == "GET" or ctx.request.method == "HEAD"
  local queries = ctx.request:query_values("query")
  if #queries > (is_get and 1 or 0) then
    wrong = "the request has more than one query" -- and the backend may take either
  elseif is_get then
    wrong = judge_url(self, ctx, queries)
  elseif ctx.request.method == "OPTIONS" then
    return nil
  else
    wrong = judge_body(self, ctx)
  end
  if wrong then
    return refuse(self, ctx, wrong)
  end
end

return M
