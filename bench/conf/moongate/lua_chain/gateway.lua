-- SPDX-License-Identifier: Apache-2.0
local regex = require("moongate.regex")
local reply = require("moongate.reply")

local refused = regex.new(
  [[(?:sqlmap|nikto|masscan|nmap|zgrab|python-requests/1\.|libwww-perl|bad[-_ ]?bot)]],
  "i"
)

local function check_agent(ctx)
  local agent = ctx.request.headers["User-Agent"]
  if not agent or refused:match(agent) then
    return reply.refuse(403, "BotRefused", "this client is not served")
  end
end

local function set_request_id(ctx)
  ctx.request.headers["X-Request-Id"] = ctx.id
end

local function clean_query(ctx)
  local query = ctx.request.query
  query.utm_source = nil
  query.utm_medium = nil
  query.utm_campaign = nil
  query.gclid = nil
  query.fbclid = nil
end

local function set_response_headers(ctx)
  local headers = ctx.response.headers
  headers["X-Request-Id"] = ctx.id
  headers["X-Content-Type-Options"] = "nosniff"
end

return {
  name = "bench",
  workers = 1,
  access_log = false,
  listeners = { { name = "in", address = "127.0.0.1:@PORT@" } },
  backends = {
    origin = {
      targets = { "http://127.0.0.1:@ORIGIN@" },
      keepalive = { idle = 2048, requests = 0 },
    },
  },
  policies = {
    inbound = { check_agent, set_request_id, clean_query },
    outbound = { set_response_headers },
  },
  sites = { { hosts = { "*" }, routes = { { path = "/*", backend = "origin" } } } },
}
