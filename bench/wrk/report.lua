-- SPDX-License-Identifier: Apache-2.0
--- For wrk: requests of the scenario named by BENCH_REQUEST, and a last line that a program reads.

local kind = os.getenv("BENCH_REQUEST") or "plain"
local tokens_file = os.getenv("BENCH_TOKENS")
local prepared, at = {}, 0

local browser = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    .. "Chrome/120.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    .. "*/*;q=0.8",
  ["Accept-Encoding"] = "gzip, deflate, br",
  ["Accept-Language"] = "en-US,en;q=0.9,de;q=0.8",
  ["Cache-Control"] = "max-age=0",
  ["Cookie"] = "session=4f3b2a1c9d8e7f605142332415067788; theme=dark; "
    .. "consent=eyJhIjp0cnVlLCJiIjpmYWxzZX0; "
    .. "_ga=GA1.2.1234567890.1700000000; _gid=GA1.2.987654321.1700000000",
  ["Referer"] = "https://portal.contoso.test/orders?page=2&sort=created",
  ["Sec-Ch-Ua"] = '"Not_A Brand";v="8", "Chromium";v="120"',
  ["Sec-Ch-Ua-Mobile"] = "?0",
  ["Sec-Ch-Ua-Platform"] = '"Linux"',
  ["Sec-Fetch-Dest"] = "document",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Upgrade-Insecure-Requests"] = "1",
}

-- What the WAF scenarios send; bench/waf_engine.c has the same.
local shop = {
  ["Host"] = "shop.example.com",
  ["User-Agent"] = browser["User-Agent"],
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
  ["Accept-Language"] = "en-US,en;q=0.9,de;q=0.8",
  ["Accept-Encoding"] = "gzip, deflate, br",
  ["Referer"] = "https://shop.example.com/catalog/books?page=2",
  ["Connection"] = "keep-alive",
  ["Cookie"] = "session=9f8c2b7a61d34e5f; theme=dark; cart=3f2504e0-4f89-11d3-9a0c-0305e82c3301",
  ["Cache-Control"] = "max-age=0",
  ["Sec-Fetch-Mode"] = "navigate",
  ["X-Request-Id"] = "7b1d4c2e-88f0-4f0e-a9e5-2d6b1a3c4d5e",
}

local function form_body()
  local words = { "river", "mountain", "delivery", "invoice", "window", "garden", "reference",
    "customer", "morning", "quality" }
  local fields = {}
  for f = 0, 24 do
    local text, w = "", f
    while #text < 395 do
      text = text .. words[(w * 7 + f) % 10 + 1] .. (w % 9 == 8 and "%2C+" or "+")
      w = w + 1
    end
    fields[#fields + 1] = ("field_%d=%s"):format(f, text:sub(1, -2))
  end
  return table.concat(fields, "&")
end

local function json_body()
  local items = {}
  for i = 0, 4 do
    items[#items + 1] = ('{"sku":"AB-%d-X","title":"Steel bottle number %d in forest green",'
      .. '"quantity":%d,"price":%d.95,"note":"Please wrap item %d well, it is a present for a '
      .. 'friend"}'):format(1000 + i, i, i + 1, 20 + i, i)
  end
  return '{"order":{"id":48213,"currency":"EUR","items":[' .. table.concat(items, ",")
    .. '],"customer":{"name":"Anna Example"}}}'
end

local function of_shop(method, path, body, content_type)
  local headers = { ["Content-Type"] = content_type }
  for name, value in pairs(shop) do
    headers[name] = value
  end
  return wrk.format(method, path, headers, body)
end

local waf = {
  waf_get = function()
    return of_shop("GET", "/catalog/books?page=2&sort=price_asc&q=garden+design&lang=en&ref=newsletter")
  end,
  waf_json = function()
    return of_shop("POST", "/api/orders", json_body(), "application/json")
  end,
  waf_form = function()
    return of_shop("POST", "/contact", form_body(), "application/x-www-form-urlencoded")
  end,
  waf_attack = function()
    return of_shop("GET", "/catalog/books?page=2&q=1%27+UNION+SELECT+name%2Cpassword+FROM+users--+-")
  end,
}

--- An order of about 1 KiB.
local function order()
  local lines = {}
  for i = 0, 12 do
    lines[#lines + 1] = ('{"sku":"A-%05d","title":"Part number %d","quantity":%d,"price":%d.%02d}')
      :format(i * 37, i, i + 1, i * 3 + 1, i * 7)
  end
  return '{"id":"o-4711","customer":{"name":"Ada Lovelace","email":"ada@example.test","country":"NL"},'
    .. '"lines":[' .. table.concat(lines, ",") .. '],"note":null,"total":1234.56}'
end

local function prepare()
  if waf[kind] then
    prepared[1] = waf[kind]()
  elseif kind == "browser" then
    prepared[1] = wrk.format("GET", wrk.path, browser)
  elseif kind == "lua_chain" then
    local path = "/shop/items?page=2&utm_source=mail&sort=price&utm_campaign=spring&q=lamp"
    prepared[1] = wrk.format("GET", path, browser)
    prepared[2] = wrk.format("GET", "/shop/items?page=3&sort=price&q=lamp", browser)
  elseif kind == "api_chain" then
    for token in io.lines(tokens_file) do
      prepared[#prepared + 1] = wrk.format("GET", "/orders/" .. (#prepared + 1), {
        ["Authorization"] = "Bearer " .. token,
        ["Ocp-Apim-Subscription-Key"] = "bench-key-primary-0001",
        ["Accept"] = "application/json",
        ["User-Agent"] = "contoso-app/2.1",
      })
    end
  elseif kind == "client" then
    for i = 1, 64 do
      prepared[i] = wrk.format("GET", wrk.path, { ["X-Client"] = "client-" .. i })
    end
  elseif kind == "key" then
    prepared[1] = wrk.format("GET", wrk.path,
      { ["Ocp-Apim-Subscription-Key"] = "bench-key-primary-0001" })
  elseif kind == "hs256" or kind == "rs256" then
    for token in io.lines(tokens_file .. (kind == "rs256" and ".rs256" or "")) do
      prepared[#prepared + 1] = wrk.format("GET", wrk.path, { ["Authorization"] = "Bearer " .. token })
    end
  elseif kind == "order" then
    prepared[1] = wrk.format("POST", wrk.path, { ["Content-Type"] = "application/json" }, order())
  else
    prepared[1] = wrk.format("GET", wrk.path)
  end
end

function init()
  wrk.headers["Host"] = "api.contoso.test"
  browser["Host"] = "api.contoso.test"
  prepare()
end

function request()
  at = at % #prepared + 1
  return prepared[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(("\nBENCH %d %d %d %d %d %d\n"):format(
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
