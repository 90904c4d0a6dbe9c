-- SPDX-License-Identifier: Apache-2.0
--- The demonstration's origins: small services on loopback that the gateway itself answers for,
--- over real connections. Each says its name, so that balancing shows.

local p = require("moongate.policies")

local M = {}

local orders = {
  { id = "41", item = "lamp", quantity = 2, status = "shipped" },
  { id = "42", item = "desk", quantity = 1, status = "open" },
}

local items = {
  { id = "desk", title = "Standing desk", price = 480 },
  { id = "lamp", title = "Reading lamp", price = 35 },
}

local function find(list, id)
  for _, one in ipairs(list) do
    if one.id == id then
      return one
    end
  end
end

--- A route that answers GET from a list: all of it, or one by the `{id}` of the path.
local function read(service, path, name, list)
  return {
    path = path,
    methods = { "GET", "HEAD" },
    reply = { status = 404 },
    policies = {
      inbound = {
        p.return_response {
          status = function(ctx)
            local id = ctx.request.params.id
            return (id == nil or find(list, id)) and 200 or 404
          end,
          headers = { ["X-Served-By"] = service },
          json = function(ctx)
            local id = ctx.request.params.id
            if id == nil then
              return { served_by = service, [name] = list }
            end
            return find(list, id) or { error = "no such thing: " .. id }
          end,
        },
      },
    },
  }
end

--- The site of one origin. Its answers are made by return_response; nothing is stored.
---@param service string also the name of the listener
---@param address string what its listener is bound to
function M.site(service, address)
  return {
    name = service,
    hosts = { address },
    listeners = { service },
    access_log = false,
    routes = {
      { path = "/health", reply = { status = 200, body = "ok\n" } },
      read(service, "/v2/items", "items", items),
      read(service, "/v2/items/{id}", "items", items),
      read(service, "/v2/orders", "orders", orders),
      read(service, "/v2/orders/{id}", "orders", orders),
      {
        path = "/v2/orders",
        methods = { "POST" },
        reply = { status = 404 },
        policies = {
          inbound = {
            p.return_response {
              status = 201,
              headers = { ["X-Served-By"] = service, ["Location"] = "/v2/orders/43" },
              json = function(ctx)
                local headers = ctx.request.headers
                return {
                  id = "43",
                  status = "open",
                  placed_by = headers["X-User"],
                  tenant = headers["X-Contoso-Tenant"],
                }
              end,
            },
          },
        },
      },
      { path = "/*", reply = { status = 404, body = "not here\n" } },
    },
  }
end

return M
