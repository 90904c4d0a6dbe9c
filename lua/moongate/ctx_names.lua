-- SPDX-License-Identifier: Apache-2.0
--- The names that `ctx` and its parts have, for expressions in configuration: a slip is told when the
--- configuration is loaded, not by the first request that comes that way. What a request, a token or a
--- policy brings (header names, claims, vars) may be anything.

local lexer = require("moongate.lexer")
local near = require("moongate.near")

local M = {}

local function set(names, parts)
  local known = {}
  for name in names:gmatch("%S+") do
    known[name] = true
  end
  for name, part in pairs(parts or {}) do
    known[name] = part
  end
  return known
end

--- By name: true for a value that is not looked into, a table of its names for a part. The annotations
--- in types.lua have the same names (spec/lint/types_spec.lua).
M.ctx = set("vars jwt user backend backend_url client_certificate subscription_given site route section "
  .. "elapsed bytes id sleep parallel trace forward drop_response", {
  request = set("method scheme host path raw_path url query_string params query headers cookies version "
    .. "client_ip client_port peer_ip body json form set_body replace add_header header_names "
    .. "header_values query_names query_values parse_form raw_param add_query", {
    tls = set("version cipher sni alpn resumed ja4", {
      client = set("subject issuer serial fingerprint common_name not_before not_after dns_names "
        .. "verified verify_error pem"),
    }),
  }),
  response = set("status reason headers body json set_body replace add_header header_names "
    .. "header_values"),
  subscription = set("id name product api state"),
  geo = set("country registered_country continent city org asn is_anonymous"),
  product = set("id name"),
  api = set("id name"),
  operation = set("id name method path"),
  deployment = set("name region"),
  error = set("source reason message section scope policy path status"),
  http = set("request send"),
  log = set("debug info warning error"),
  cache = set("get set delete purge fetch"),
})

-- Whether something in the text may be named `ctx` other than the exchange: a function's parameter or a
-- local.
local function is_shadowed(text, tokens)
  local is_inside = false
  for i, kind in ipairs(tokens.kind) do
    if kind == "function" or kind == "local" or kind == "for" then
      is_inside = true
    elseif kind == ")" or kind == "=" or kind == "in" then
      is_inside = false
    elseif is_inside and kind == "name" and text:sub(tokens.first[i], tokens.last[i]) == "ctx" then
      return true
    end
  end
  return false
end

--- Follows `ctx.a.b` from the token after `ctx`.
local function follow(text, tokens, at)
  local known, what = M.ctx, "ctx"
  while type(known) == "table" and (tokens.kind[at] == "." or tokens.kind[at] == ":")
    and tokens.kind[at + 1] == "name" do
    local name = text:sub(tokens.first[at + 1], tokens.last[at + 1])
    if known[name] == nil then
      return near.unknown(what, name, known)
    end
    known, what, at = known[name], what .. "." .. name, at + 2
  end
  return nil
end

--- What is wrong with the names of an expression; nil when nothing is.
---@param text string an expression that is good Lua
---@return string? err "ctx.request has no field 'heders'; did you mean \"headers\"?"
function M.check(text)
  if not text:find("ctx", 1, true) then
    return nil
  end
  local tokens = lexer.scan(text)
  if not tokens or is_shadowed(text, tokens) then
    return nil
  end
  for i, kind in ipairs(tokens.kind) do
    local before = tokens.kind[i - 1]
    if kind == "name" and before ~= "." and before ~= ":"
      and text:sub(tokens.first[i], tokens.last[i]) == "ctx" then
      local err = follow(text, tokens, i + 1)
      if err then
        return err
      end
    end
  end
  return nil
end

return M
