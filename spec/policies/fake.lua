-- SPDX-License-Identifier: Apache-2.0
--- A `ctx` in plain Lua, for policies whose behaviour needs no runtime.

local M = {}

local function headers(given)
  local store = {}
  local view = setmetatable({}, {
    __index = function(_, name)
      local value = store[name:lower()]
      return type(value) == "table" and table.concat(value, ", ") or value
    end,
    __newindex = function(_, name, value)
      store[name:lower()] = value
    end,
  })
  for name, value in pairs(given or {}) do
    view[name] = value
  end
  return view, store
end

local function message(given)
  local m = {}
  for key, value in pairs(given) do
    m[key] = value
  end
  m.headers, m.lines = headers(given.headers)
  function m:add_header(name, value)
    local old = self.lines[name:lower()]
    if old == nil then
      self.lines[name:lower()] = value
    else
      local list = type(old) == "table" and old or { old }
      list[#list + 1] = value
      self.lines[name:lower()] = list
    end
  end
  function m:set_body(text)
    self.sent = text
  end
  return m
end

--- Makes a ctx; `given.request` and `given.response` are laid over defaults.
function M.ctx(given)
  given = given or {}
  local request = { method = "GET", scheme = "https", host = "api.test", path = "/", params = {},
    query = {}, client_ip = "192.0.2.1", peer_ip = "10.0.0.1", added = {} }
  for key, value in pairs(given.request or {}) do
    request[key] = value
  end
  local response = { status = 200 }
  for key, value in pairs(given.response or {}) do
    response[key] = value
  end
  local ctx = { vars = {}, request = message(request), response = message(response) }
  function ctx.request:add_query(name, value)
    self.query[name] = self.query[name] and self.query[name] .. "," .. value or value
  end
  for key, value in pairs(given) do
    if key ~= "request" and key ~= "response" then
      ctx[key] = value
    end
  end
  return ctx
end

--- Checks options as the loader does, prepares, and gives the policy and its `self`.
function M.policy(name, conf, env)
  local module = require("policies." .. name)
  local result, errs = require("moongate.schema").compile(module.schema):check(conf)
  if errs then
    error(errs[1].path .. ": " .. errs[1].message, 0)
  end
  return module, module.prepare(result, env or {})
end

return M
