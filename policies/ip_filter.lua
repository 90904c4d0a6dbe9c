-- SPDX-License-Identifier: Apache-2.0
--- Lets callers in, or keeps them out, by address.
local net = require("moongate.net")
local near = require("moongate.near")
local reply = require("moongate.reply")

local M = {
  name = "ip_filter",
  summary = "Lets callers in, or keeps them out, by address.",
  sections = { "inbound" },
  azure = "ip-filter",
  differences = "`allow` and `deny` in one policy: what is denied is refused, then, where `allow` is "
    .. "given, what it does not hold. Networks by CIDR, by name, or from files.",
  statuses = {
    ["403"] = "`CallerIpBlocked`, `CallerIpNotAllowed`, `FailedToParseCallerIP` (a Unix socket); "
      .. "`status` changes it",
  },
  description = "An item is a network, an address, a name from `networks`, or `file:PATH`: a file "
    .. "with a network a line (or JSON, as operators publish their addresses), below the "
    .. "configuration where the path is relative. It is read again when it is replaced; one that "
    .. "cannot be read leaves the list as it was.",
  example = [[p.ip_filter { allow = { "internal", "203.0.113.0/24" },
  deny = { "file:lists/drop.txt" } }]],
}

local list = {
  type = "array", minItems = 1,
  items = { type = "string", minLength = 1,
    description = "A network, an address, a name, or `file:PATH`." },
}

local function networks(description)
  return { type = list.type, minItems = 1, items = list.items, description = description }
end

M.schema = {
  type = "object", additionalProperties = false, order = { "allow", "deny", "source", "status" },
  properties = {
    allow = networks("Networks (`10.0.0.0/8`), addresses, or names from `networks`: only these."),
    deny = networks("Networks, addresses, or names: not these."),
    source = {
      enum = { "client", "peer" }, default = "client",
      description = "`client`: the address behind `trusted_proxies`; `peer`: the connection's own.",
    },
    status = { type = "integer", minimum = 400, maximum = 599, default = 403,
      description = "Status of a refusal." },
  },
}

local function listfile(path)
  local file, err = net.listfile(path)
  return file or error(err, 0)
end

--- Sets of networks, names from the configuration's `networks` taken apart, and files.
local function sets_of(items, known)
  if not items then
    return nil
  end
  local cidrs, sets = {}, {}
  for _, item in ipairs(items) do
    if known[item] then
      for _, cidr in ipairs(known[item]) do
        cidrs[#cidrs + 1] = cidr
      end
    elseif item:find("^file:.") then
      sets[#sets + 1] = listfile(item:sub(6))
    elseif item:find("^[%x:.]+/?%d*$") and item:find("[:.]") then
      cidrs[#cidrs + 1] = item
    else
      local hint = near.find(item, near.keys(known))
      error(("%q is no network and no name from networks%s"):format(item,
        hint and ("; did you mean %q?"):format(hint) or ""), 0)
    end
  end
  if #cidrs > 0 then
    local set, err = net.cidrset(cidrs)
    sets[#sets + 1] = set or error(err, 0)
  end
  return sets
end

local function is_in(sets, address)
  for i = 1, #sets do
    if sets[i]:contains(address) then
      return true
    end
  end
  return false
end

function M.prepare(conf, env)
  if not conf.allow and not conf.deny then
    error("allow or deny is needed", 0)
  end
  local known = env and env.networks or {}
  return {
    allow = sets_of(conf.allow, known), deny = sets_of(conf.deny, known),
    status = conf.status or 403, uses_peer = conf.source == "peer",
  }
end

function M.inbound(self, ctx)
  local request = ctx.request
  local address = self.uses_peer and request.peer_ip or request.client_ip
  if address == "unix" then -- of a Unix socket, with no trusted proxy on it that tells the address
    return reply.refuse(self.status, "FailedToParseCallerIP", "the caller's address is not known")
  end
  if self.deny and is_in(self.deny, address) then
    return reply.refuse(self.status, "CallerIpBlocked", "the caller's address is blocked")
  end
  if self.allow and not is_in(self.allow, address) then
    return reply.refuse(self.status, "CallerIpNotAllowed", "the caller's address is not allowed")
  end
end

return M
