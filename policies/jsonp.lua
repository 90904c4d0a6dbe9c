-- SPDX-License-Identifier: Apache-2.0
--- Wraps a JSON answer in a call of the function that the client names.
local reply = require("moongate.reply")

local M = {
  name = "jsonp",
  summary = "Wraps a JSON answer in a call of the function that the client names (JSONP).",
  description = "Where the query parameter is there and the response is JSON, the answer becomes "
    .. "`/**/name(…);` as `application/javascript`; otherwise it stays. The name is a JavaScript "
    .. "identifier, or several with dots, of at most 128 characters; any other is refused with "
    .. "400.",
  sections = { "outbound" },
  azure = "jsonp",
  differences = "`X-Content-Type-Options: nosniff` and the leading comment keep the answer from "
    .. "being taken for something else.",
  statuses = { ["400"] = "`CallbackParameterInvalid`" },
  example = 'p.jsonp { callback_parameter_name = "cb" }',
}

M.schema = {
  type = "object", required = { "callback_parameter_name" }, additionalProperties = false,
  properties = {
    callback_parameter_name = { type = "string", minLength = 1, maxLength = 100,
      description = "Name of the query parameter." },
  },
}

M.needs = { response_body = true }

local RESERVED = {}
for word in ("break case catch class const continue debugger default delete do else enum export "
  .. "extends false finally for function if import in instanceof new null return super switch this "
  .. "throw true try typeof var void while with"):gmatch("%a+") do
  RESERVED[word] = true
end

local function is_callback(name)
  if #name > 128 or name:find("^%.") or name:find("%.$") or name:find("..", 1, true) then
    return false
  end
  for part in name:gmatch("[^.]+") do
    if not part:find("^[%a_$][%w_$]*$") or RESERVED[part] then
      return false
    end
  end
  return name ~= ""
end

function M.outbound(self, ctx)
  local name = ctx.request.query[self.callback_parameter_name]
  if not name then
    return nil
  elseif not is_callback(name) then
    return reply.refuse(400, "CallbackParameterInvalid", "the callback is no valid identifier")
  end
  local response = ctx.response
  local headers = response.headers
  local media = headers["Content-Type"]
  if not media or not media:lower():find("json", 1, true) or headers["Content-Encoding"] then
    return nil
  end
  -- These two end a line in JavaScript, though not in JSON.
  local body = response:body():gsub("\226\128[\168\169]", { ["\226\128\168"] = "\\u2028",
    ["\226\128\169"] = "\\u2029" })
  response:set_body("/**/" .. name .. "(" .. body .. ");")
  headers["Content-Type"] = "application/javascript"
  headers["X-Content-Type-Options"] = "nosniff"
  headers["ETag"] = nil
end

return M
