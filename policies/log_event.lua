-- SPDX-License-Identifier: Apache-2.0
--- Sends an event somewhere, without waiting for it.
local clock = require("moongate.clock")
local expression = require("moongate.expression")
local http = require("moongate.http")
local json = require("moongate.json")
local metrics = require("moongate.metrics")
local sink = require("moongate.sink")

local M = {
  name = "log_event",
  summary = "Sends an event to a file, syslog, an HTTP endpoint or a Redis stream.",
  description = "Nothing waits for it and nothing fails by it: what is not taken at once is dropped and "
    .. "counted in `moongate_events_dropped_total`. An event is a text, or a table sent as JSON, of at "
    .. "most 200 KiB; line breaks become spaces in files and syslog. Exactly one of `file`, `syslog`, "
    .. "`http` and `redis_stream` says where it goes.",
  sections = { "inbound", "backend", "outbound", "on_error" },
  azure = "log-to-eventhub",
  differences = "Sinks of one's own instead of Event Hubs.",
  example = [[p.log_event { file = "/var/log/moongate/orders.jsonl",
  value = function(ctx) return { id = ctx.id, order = ctx.request.params.id } end }]],
}

M.schema = {
  type = "object", required = { "value" }, additionalProperties = false,
  order = { "value", "file", "syslog", "http", "redis_stream" },
  properties = {
    value = { type = { "string", "function" },
      description = "The event: a text, with `${…}`, or a function of `ctx` that gives a text or a "
        .. "table." },
    file = { type = "string", minLength = 1,
      description = "Path of a file, as seen from the configuration's folder; a line an event." },
    syslog = { type = "object", additionalProperties = false,
      order = { "address", "port", "unix", "facility", "severity" },
      properties = {
        address = { type = "string", description = "Numeric address of the server (UDP)." },
        port = { type = "integer", minimum = 1, maximum = 65535, default = 514,
          description = "Its port." },
        unix = { type = "string", minLength = 1, description = "Or a local socket: `/dev/log`." },
        facility = { type = "integer", minimum = 0, maximum = 23, default = 16,
          description = "Number of the facility; 16 is `local0`." },
        severity = { type = "integer", minimum = 0, maximum = 7, default = 6,
          description = "Number of the severity; 6 is informational." },
      },
      description = "Syslog (RFC 5424)." },
    http = { type = "object", additionalProperties = false,
      order = { "url", "backend", "path", "headers" },
      properties = {
        url = { type = "string", minLength = 1, description = "URL to POST to." },
        backend = { type = "string", minLength = 1, description = "Or a name from `backends`." },
        path = { type = "string", default = "/", description = "Path there." },
        headers = { type = "object", additionalProperties = { type = "string" },
          description = "Header fields." },
      },
      description = "An HTTP endpoint; one request an event, 256 under way at most." },
    redis_stream = { type = "object", required = { "name" }, additionalProperties = false,
      order = { "name", "max_entries" },
      properties = {
        name = { type = "string", minLength = 1, description = "Key of the stream." },
        max_entries = { type = "integer", minimum = 1, default = 100000,
          description = "About how many entries are kept." },
      },
      description = "A stream of the configuration's Redis: field `event`." },
  },
}

local function to_file(path, env)
  if path:sub(1, 1) ~= "/" and env.dir then
    path = env.dir .. "/" .. path
  end
  local out, err = sink.file(path)
  if not out then
    error("file: " .. err, 0)
  end
  return function(text)
    return out:write(text:gsub("[\r\n]", " ") .. "\n")
  end
end

local function to_syslog(conf, env)
  local out, err
  if (conf.address == nil) == (conf.unix == nil) then
    error("syslog: exactly one of address and unix is needed", 0)
  elseif conf.unix then
    out, err = sink.unix(conf.unix)
  else
    out, err = sink.udp(conf.address, tostring(conf.port or 514))
  end
  if not out then
    error("syslog: " .. err, 0)
  end
  local head = ("<%d>1 "):format((conf.facility or 16) * 8 + (conf.severity or 6))
  local from = (" %s moongate - event - "):format((env.plan.name:gsub("[^%w._-]", "_")))
  return function(text)
    local time = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(clock.now()))
    return out:write(head .. time .. from .. text:gsub("[%c]", " "))
  end
end

local function to_http(conf)
  if (conf.url == nil) == (conf.backend == nil) then
    error("http: exactly one of url and backend is needed", 0)
  end
  local headers = {}
  for name, value in pairs(conf.headers or {}) do
    headers[name] = value
  end
  return function(text, is_json)
    headers["Content-Type"] = is_json and "application/json" or "text/plain; charset=utf-8"
    return http.send({ method = "POST", url = conf.url, backend = conf.backend, path = conf.path,
      headers = headers, body = text })
  end
end

local function to_stream(conf, env)
  if not env.plan.redis then
    error("redis_stream: the configuration has no redis", 0)
  end
  local most = tostring(conf.max_entries or 100000)
  return function(text)
    return sink.stream(conf.name, most, text)
  end
end

function M.prepare(conf, env)
  local kinds = { file = to_file, syslog = to_syslog, http = to_http, redis_stream = to_stream }
  local kind
  for name in pairs(kinds) do
    if conf[name] ~= nil then
      if kind then
        error("exactly one of file, syslog, http and redis_stream is needed", 0)
      end
      kind = name
    end
  end
  if not kind then
    error("exactly one of file, syslog, http and redis_stream is needed", 0)
  end
  return { value = expression.required(conf.value, "value"), send = kinds[kind](conf[kind], env),
    labels = { sink = kind } }
end

local function send(self, ctx)
  local value = expression.get(self.value, ctx)
  local is_json = type(value) == "table"
  local text = is_json and assert(json.encode(value)) or value ~= nil and tostring(value)
  if text and not self.send(text, is_json) then
    metrics.add("moongate_events_dropped_total", 1, self.labels)
  end
end

local function act(self, ctx)
  local ok, err = pcall(send, self, ctx)
  if not ok then
    ctx.log:warning("log_event: " .. tostring(err))
  end
end

M.inbound, M.backend, M.outbound, M.on_error = act, act, act, act

return M
