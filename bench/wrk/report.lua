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

local function prepare()
  if kind == "browser" then
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
