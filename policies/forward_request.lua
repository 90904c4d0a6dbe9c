-- SPDX-License-Identifier: Apache-2.0
--- Says how the backend is called. The call itself is the runtime's, after the `backend` section.

local M = {
  name = "forward_request",
  summary = "Says how the backend is called, where the backend's own settings do not fit.",
  description = "A marker: the innermost one counts, and nothing runs for it.",
  sections = { "backend" },
  azure = "forward-request",
  differences = "The call needs no policy: a route with a backend calls it. Timeouts and protocol are "
    .. "settings of the backend; here is only what differs for this scope.",
  example = "p.forward_request { timeout = 20 }",
  is_marker = true,
}

M.schema = {
  type = "object", additionalProperties = false,
  order = { "timeout", "retries", "fail_on_error_status", "buffer_request", "buffer_response" },
  properties = {
    timeout = { type = "number", minimum = 0, maximum = 86400,
      description = "Seconds for the whole call; 0: no limit." },
    retries = { type = "integer", minimum = 0, maximum = 10,
      description = "Further attempts." },
    fail_on_error_status = { type = "boolean", default = false,
      description = "Whether a status of 400 and more goes to `on_error`." },
    buffer_request = { type = "boolean", default = false,
      description = "Whether the request's body is read whole before the call, so that it can be "
        .. "sent again." },
    buffer_response = { type = "boolean", default = false,
      description = "Whether the response's body is read whole before it goes to the client." },
  },
}

function M.needs(conf)
  return { request_body = conf.buffer_request or false,
    response_body = conf.buffer_response or false }
end

function M.backend() end

return M
