-- SPDX-License-Identifier: Apache-2.0
--- The Lua chain as an OpenResty user writes it: user agents by regex, a request id, a query
--- without tracking parameters, a response header.

local ngx = ngx
local re_find = ngx.re.find

local M = {}

local refused = [[(?:sqlmap|nikto|masscan|nmap|zgrab|python-requests/1\.|libwww-perl|bad[-_ ]?bot)]]
local tracking = { "utm_source", "utm_medium", "utm_campaign", "gclid", "fbclid" }

function M.access()
  local agent = ngx.var.http_user_agent
  if not agent or re_find(agent, refused, "ijo") then
    return ngx.exit(403)
  end
  local args = ngx.req.get_uri_args()
  local is_changed = false
  for i = 1, #tracking do
    if args[tracking[i]] ~= nil then
      args[tracking[i]] = nil
      is_changed = true
    end
  end
  if is_changed then
    ngx.req.set_uri_args(args)
  end
end

function M.header_filter()
  local headers = ngx.header
  headers["X-Request-Id"] = ngx.var.request_id
  headers["X-Content-Type-Options"] = "nosniff"
end

return M
