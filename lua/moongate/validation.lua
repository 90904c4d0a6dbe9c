-- SPDX-License-Identifier: Apache-2.0
--- What the validating policies share: finding the definition's operation, telling mistakes, and
--- deciding what follows from them.

local reply = require("moongate.reply")

local M = {}

M.ACTIONS = { "prevent", "detect", "ignore" }

--- Of a value that does not have the form of its `style`.
M.NOT_SO = "is not written as the definition says"

--- The option of the policies that judge by a definition alone.
M.FORMATS = { type = "boolean", default = true,
  description = "Whether `format` is asserted: `int32`, `int64`, `float`, `date`, `date-time`, `uuid`, "
    .. "`email`, `uri`, `byte` and the like. One that is not known says nothing." }

local MAX_TOLD = 16

--- The definitions that a listing may meet: that of its own API, or those of all.
function M.definitions(env)
  local all = env and env.definitions or {}
  if env and env.api then
    return { [env.api] = all[env.api] }
  end
  return all
end

local function name_of(value)
  return type(value) == "table" and value.name or value
end

--- Something made once for each operation: `make(definition, operation)`.
function M.by_operation(env, make)
  local out = {}
  for api, definition in pairs(M.definitions(env)) do
    out[api] = {}
    for name, operation in pairs(definition.by_name) do
      out[api][name] = make(definition, operation)
    end
  end
  return out
end

--- What `by_operation` made for the operation of this request.
function M.find(map, ctx)
  local of_api = map[name_of(ctx.api) or ""]
  return of_api and of_api[name_of(ctx.operation) or ""]
end

--- Compiles, or raises for the loader to tell. `formats`: false where `format` is not asserted.
function M.validator(definition, place, direction, formats)
  if not place then
    return nil
  end
  local validator, err = definition:validator(place, direction, formats ~= false)
  if not validator then
    error(("the schema cannot be used: %s"):format(err), 0)
  end
  return validator
end

--- "application/json" of a Content-Type.
function M.media_type(field)
  local media = field and field:match("^%s*([^;,%s]+)")
  return media and media:lower()
end

function M.is_json(media)
  return media == "application/json" or media:find("+json", 1, true) ~= nil
    or media == "text/json"
end

--- The entry of a media type in a map by media type, which may hold ranges.
function M.entry(content, media)
  return content[media] or content[media:match("^[^/]*") .. "/*"] or content["*/*"]
end

--- Adds what a schema says to the list of mistakes.
function M.add(mistakes, name, kind, errors, action)
  for _, one in ipairs(errors) do
    mistakes[#mistakes + 1] = { name = name .. one.path, type = kind, rule = one.keyword,
      details = one.message, action = action }
  end
end

--- Logs the mistakes, leaves them in the variable, and refuses where one of them is to be prevented.
---@param ctx moongate.Ctx
---@param options { variable: string, status: integer, reason: string, message: string, policy: string }
---@param mistakes table[]
---@return table? reply
function M.conclude(ctx, options, mistakes)
  if #mistakes == 0 then
    return nil
  end
  local known = ctx.vars[options.variable]
  if type(known) == "table" then
    for _, one in ipairs(mistakes) do
      known[#known + 1] = one
    end
  else
    ctx.vars[options.variable] = mistakes
  end
  local prevents, told = false, {}
  for i, one in ipairs(mistakes) do
    prevents = prevents or one.action == "prevent"
    if i <= MAX_TOLD then
      told[i] = ("%s %s: %s (%s)"):format(one.type, one.name, one.details, one.rule)
    end
  end
  ctx.log:warning(("%s: %s%s"):format(options.policy, prevents and "" or "detected: ",
    table.concat(told, "; ")))
  if prevents then
    return reply.refuse(options.status, options.reason, options.message)
  end
  return nil
end

return M
