-- SPDX-License-Identifier: Apache-2.0
--- A name server for specs, in a process of its own: luajit dns_server.lua PORT NAME=TYPE=VALUE...
--- What it was not told does not exist; "*=silent" names are not answered.
local socket = require("socket")

local records, silent = {}, {}
for i = 2, #arg do
  local name, kind, value = arg[i]:match("^([^=]+)=([^=]+)=(.*)$")
  if kind == "silent" then
    silent[name] = true
  else
    records[name .. " " .. kind] = value
  end
end

local TYPES = { [1] = "A", [12] = "PTR", [28] = "AAAA" }

local function encode(name)
  return (name:gsub("([^.]+)%.?", function(label)
    return string.char(#label) .. label
  end)) .. "\0"
end

local function data_of(kind, value)
  if kind == "PTR" then
    return encode(value)
  elseif kind == "A" then
    return (value:gsub("(%d+)%.?", function(n)
      return string.char(tonumber(n))
    end))
  end
end

local function name_of(query)
  local labels, at = {}, 13
  while query:byte(at) ~= 0 do
    local length = query:byte(at)
    labels[#labels + 1] = query:sub(at + 1, at + length)
    at = at + length + 1
  end
  return table.concat(labels, "."):lower(), at
end

local server = socket.udp()
assert(server:setsockname("127.0.0.1", tonumber(arg[1])))
local _, own_port = server:getsockname()
io.stdout:write(own_port, "\n")
io.stdout:flush()
server:settimeout(30) -- left alone, it ends by itself; an empty datagram ends it at once
while true do
  local query, ip, port = server:receivefrom()
  if not query or query == "" then
    break
  end
  local name, at = name_of(query)
  local kind = TYPES[query:byte(at + 1) * 256 + query:byte(at + 2)]
  local value = kind and records[name .. " " .. kind]
  local known = value or records[name .. " A"]
  local head = query:sub(1, 2) .. "\129" .. (known and "\128" or "\131") .. "\0\1"
    .. (value and "\0\1" or "\0\0") .. "\0\0\0\0" .. query:sub(13, at + 4)
  if value then
    local data = data_of(kind, value)
    head = head .. "\192\12" .. query:sub(at + 1, at + 4) .. "\0\0\1\44\0" .. string.char(#data) .. data
  end
  if not silent[name] then
    server:sendto(head, ip, port)
  end
end
