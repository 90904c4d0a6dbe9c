-- SPDX-License-Identifier: Apache-2.0
--- Requests of gotestwaf's test cases: payload x encoder x place, as that tool builds them.
local M = {}

local PARAMETER = "4f2c7a91d0"
local BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"

local function query_escape(s)
  return (s:gsub("[^%w%-_.~ ]", function(c) return ("%%%02X"):format(c:byte()) end):gsub(" ", "+"))
end

local function json_escape(s)
  return (s:gsub('[%c"\\]', function(c)
    return ("\\u%04x"):format(c:byte())
  end))
end

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64_flat(s)
  local out = {}
  for i = 1, #s, 3 do
    local a, b, c = s:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 0, b and (c and 3 or 2) or 1 do
      local at = math.floor(n / 64 ^ (3 - k)) % 64 + 1
      out[#out + 1] = ALPHABET:sub(at, at)
    end
  end
  return table.concat(out)
end

M.encoders = {
  Plain = function(s) return s end,
  URL = query_escape,
  Base64Flat = base64_flat,
}

local function request(method, uri, headers, body)
  local list = {
    { "Host", "waf.example.com" }, { "Accept", "*/*" },
    { "User-Agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
      .. "Chrome/126.0.0.0 Safari/537.36" },
  }
  for _, h in ipairs(headers or {}) do
    local at = #list + 1
    for i, known in ipairs(list) do
      at = known[1]:lower() == h[1]:lower() and i or at
    end
    list[at] = h
  end
  if body then
    list[#list + 1] = { "Content-Length", tostring(#body) }
  end
  return { method = method, uri = uri, headers = list, body = body, protocol = "HTTP/1.1" }
end
M.request = request

local function target(s)
  return (s:gsub("[^\33-\126]", function(c) return ("%%%02X"):format(c:byte()) end))
end

M.places = {
  URLPath = function(s)
    return request("GET", target("/" .. s))
  end,
  URLParam = function(s)
    return request("GET", target("/?" .. PARAMETER .. "=" .. s))
  end,
  Header = function(s)
    return request("GET", "/", { { "X-" .. PARAMETER, (s:gsub("[\r\n%z]", " ")) } })
  end,
  UserAgent = function(s)
    return request("GET", "/", { { "User-Agent", (s:gsub("[\r\n%z]", " ")) } })
  end,
  HTMLForm = function(s)
    return request("POST", "/", { { "Content-Type", "application/x-www-form-urlencoded" } },
      PARAMETER .. "=" .. s)
  end,
  HTMLMultipartForm = function(s)
    return request("POST", "/", { { "Content-Type", "multipart/form-data; boundary=" .. BOUNDARY } },
      ("--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n--%s--\r\n")
        :format(BOUNDARY, PARAMETER, s, BOUNDARY))
  end,
  JSONRequest = function(s)
    return request("POST", "/", { { "Content-Type", "application/json" } },
      '{"test": true, "' .. PARAMETER .. '": "' .. json_escape(s) .. '"}')
  end,
  JSONBody = function(s)
    return request("POST", "/", { { "Content-Type", "application/json" } }, s)
  end,
  XMLBody = function(s)
    return request("POST", "/", { { "Content-Type", "text/xml" } }, s)
  end,
  SOAPBody = function(s)
    local inner = s:gsub("[<>&]", { ["<"] = "&lt;", [">"] = "&gt;", ["&"] = "&amp;" })
    return request("POST", "/", { { "Content-Type", "text/xml" },
      { "SOAPAction", '"http://schemas.xmlsoap.org/soap/envelope/"' } },
      '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
      .. 'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Header>'
      .. "<ns1:RequestHeader soapenv:actor=\"http://schemas.xmlsoap.org/soap/actor/next\" "
      .. "soapenv:mustUnderstand=\"0\" xmlns:ns1=\"https://www.google.com/apis/ads/publisher/v202002\">"
      .. "</ns1:RequestHeader></soapenv:Header><soapenv:Body><getAdUnitsByStatement><filterStatement>"
      .. "<" .. "a" .. PARAMETER .. ">" .. inner .. "</a" .. PARAMETER .. "></filterStatement>"
      .. "</getAdUnitsByStatement></soapenv:Body></soapenv:Envelope>")
  end,
  GraphQL = function(s, options)
    if options and options.method == "GET" then
      return request("GET", "/graphql?query=" .. target(s))
    end
    return request("POST", "/graphql", { { "Content-Type", "application/json" } }, s)
  end,
  RawRequest = function(s, options)
    local headers = {}
    for name, value in pairs(options.headers or {}) do
      headers[#headers + 1] = { name, value }
    end
    table.sort(headers, function(a, b) return a[1] < b[1] end)
    local body = options.body and options.body:gsub("{{payload}}", (s:gsub("%%", "%%%%")))
    local path = options.path:gsub("{{payload}}", (s:gsub("%%", "%%%%")))
    return request(options.method, target(path), headers, body)
  end,
}

local function files(dir)
  local out, pipe = {}, assert(io.popen(("find '%s' -name '*.yml' | sort"):format(dir)))
  for path in pipe:lines() do
    out[#out + 1] = path
  end
  pipe:close()
  return out
end

--- All cases below `dir`: file, place, encoder, payload, request. gRPC is left out (another wire).
function M.load(dir)
  local lyaml = require("lyaml")
  local cases = {}
  for _, path in ipairs(files(dir)) do
    local f = assert(io.open(path, "rb"))
    local doc = lyaml.load((f:read("*a"):gsub("\\'", "'"))) -- an escape that Go's reader knows
    f:close()
    for _, payload in ipairs(doc.payload) do
      for _, encoder in ipairs(doc.encoder) do
        for _, place in ipairs(doc.placeholder) do
          local name, options = place, nil
          if type(place) == "table" then
            name, options = next(place)
          end
          local make, encode = M.places[name], M.encoders[encoder]
          if make and encode then
            cases[#cases + 1] = {
              file = path:match("([^/]+/[^/]+)%.yml$"), place = name, encoder = encoder,
              payload = payload, request = make(encode(tostring(payload)), options),
            }
          end
        end
      end
    end
  end
  return cases
end

return M
