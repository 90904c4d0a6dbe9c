-- SPDX-License-Identifier: Apache-2.0
--- Answers that a policy gives itself. Returned from a section function, a reply ends the pipeline.

-- Notes where a reply was made, for the warning about one that is not returned. Without the runtime
-- (unit specs) nobody warns.
local has_core, core = pcall(require, "moongate.reply.core")
local made = has_core and core.made or function() end

local M = {}

local CODES = {
  [200] = "OK", [201] = "Created", [202] = "Accepted", [204] = "No Content",
  [301] = "Moved Permanently", [302] = "Found", [303] = "See Other", [304] = "Not Modified",
  [307] = "Temporary Redirect", [308] = "Permanent Redirect", [400] = "Bad Request",
  [401] = "Unauthorized", [402] = "Payment Required", [403] = "Forbidden", [404] = "Not Found",
  [405] = "Method Not Allowed", [406] = "Not Acceptable", [408] = "Request Timeout",
  [409] = "Conflict", [410] = "Gone", [411] = "Length Required", [412] = "Precondition Failed",
  [413] = "Content Too Large", [414] = "URI Too Long", [415] = "Unsupported Media Type",
  [416] = "Range Not Satisfiable", [417] = "Expectation Failed", [421] = "Misdirected Request",
  [422] = "Unprocessable Content", [425] = "Too Early", [426] = "Upgrade Required",
  [428] = "Precondition Required", [429] = "Too Many Requests",
  [431] = "Request Header Fields Too Large", [451] = "Unavailable For Legal Reasons",
  [500] = "Internal Server Error", [501] = "Not Implemented", [502] = "Bad Gateway",
  [503] = "Service Unavailable", [504] = "Gateway Timeout", [505] = "HTTP Version Not Supported",
}

local function check_status(status, name)
  if type(status) ~= "number" or status < 200 or status > 599 or status % 1 ~= 0 then
    error(("reply.%s: status must be 200 to 599, got %s"):format(name,
      type(status) == "string" and ("%q"):format(status) or tostring(status)), 3)
  end
end

--- Copies the author's header fields over ours, names compared without regard to case.
local function merge(own, given)
  if given then
    for name, value in pairs(given) do
      for known in pairs(own) do
        if known:lower() == name:lower() then
          own[known] = nil
        end
      end
      own[name] = value
    end
  end
  return own
end

local function encode(value)
  local text, err = require("moongate.json").encode(value)
  if not text then
    error("reply: the value cannot be written as JSON: " .. tostring(err), 3)
  end
  return text
end

--- The standard phrase of a status, or "Status NNN".
---@param status integer
---@return string
function M.phrase(status)
  return CODES[status] or ("Status " .. status)
end

--- A plain answer; `text/plain` unless the headers say otherwise.
---@param status integer
---@param body? string
---@param headers? table<string, string|string[]>
---@return moongate.Reply
function M.text(status, body, headers)
  check_status(status, "text")
  made()
  local own = body and body ~= "" and { ["Content-Type"] = "text/plain; charset=utf-8" } or {}
  return { status = status, headers = merge(own, headers), body = body }
end

--- An answer as JSON.
---@param status integer
---@param value any what to write
---@param headers? table<string, string|string[]>
---@return moongate.Reply
function M.json(status, value, headers)
  check_status(status, "json")
  made()
  local own = { ["Content-Type"] = "application/json" }
  return { status = status, headers = merge(own, headers), body = encode(value) }
end

--- An answer as `application/problem+json` (RFC 9457).
---@param status integer
---@param detail? string|table a text, or the members of the problem
---@param headers? table<string, string|string[]>
---@return moongate.Reply
function M.problem(status, detail, headers)
  check_status(status, "problem")
  made()
  local problem = { type = "about:blank", title = M.phrase(status), status = status }
  if type(detail) == "table" then
    for name, value in pairs(detail) do
      problem[name] = value
    end
  else
    problem.detail = detail
  end
  local own = { ["Content-Type"] = "application/problem+json" }
  return { status = status, headers = merge(own, headers), body = encode(problem) }
end

--- Sends the client elsewhere.
---@param status 301|302|303|307|308
---@param location string
---@param headers? table<string, string|string[]>
---@return moongate.Reply
function M.redirect(status, location, headers)
  check_status(status, "redirect")
  made()
  if status < 300 or status > 308 then
    error(("reply.redirect: status must be 300 to 308, got %d"):format(status), 2)
  end
  if type(location) ~= "string" or location:find("[%c ]") then
    error("reply.redirect: location must be a URI", 2)
  end
  return { status = status, headers = merge({ Location = location }, headers) }
end

--- Refuses the request: `on_error` runs first, with `ctx.error`, and may answer otherwise. What the
--- client gets without that is `application/problem+json` as for the gateway's own errors: `status`,
--- `title`, `detail` (the message), `reason`, `request_id`.
---@param status integer
---@param reason string one word that logs and metrics carry: "RateLimitExceeded"
---@param message? string what the client is told
---@param headers? table<string, string|string[]>
---@return moongate.Reply
function M.refuse(status, reason, message, headers)
  check_status(status, "refuse")
  made()
  if type(reason) ~= "string" or not reason:find("^%w[%w_]*$") then
    error(("reply.refuse: reason must be one word, got %q"):format(tostring(reason)), 2)
  end
  return {
    status = status, headers = headers or {},
    refuse = { reason = reason, message = message or M.phrase(status) },
  }
end

return M
