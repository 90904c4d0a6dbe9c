-- SPDX-License-Identifier: Apache-2.0
--- Keys that an issuer publishes: a JWK Set by URL, or found by OpenID discovery. Fetched when
--- first needed, kept for an hour, fetched again when a token names a key that is not known (at
--- most once in five minutes), and kept on when the issuer does not answer.

local flight = require("moongate.flight")
local http = require("moongate.http")
local json = require("moongate.json")
local jwt = require("moongate.jwt")
local log = require("moongate.log")

local M = {}

local BODY_MAX = 1024 * 1024
local RETRY_AFTER_FAILURE = 30 -- seconds; without keys at all: FIRST_RETRY
local FIRST_RETRY = 1

---@class moongate.JwksOptions
---@field uri? string the JWK Set
---@field openid_config? string the discovery document
---@field algorithms string[]
---@field ttl? number seconds that keys are kept, default 3600
---@field refetch? number seconds between fetches for unknown keys, default 300
---@field timeout? number seconds for one fetch, default 5
---@field require_signed? boolean
---@field decryption_keys? table[] our own, for encrypted tokens

---@class moongate.JwksSource
local Source = {}
Source.__index = Source

--- The document at a URL as a table.
local function fetch_json(url, timeout)
  local response, err = http.request({
    method = "GET", url = url, timeout = timeout, headers = { Accept = "application/json" },
  })
  if not response then
    return nil, ("%s: %s"):format(url, tostring(err))
  elseif response.status ~= 200 then
    return nil, ("%s: status %d"):format(url, response.status)
  end
  local body = response.body or ""
  if #body > BODY_MAX then
    return nil, ("%s: longer than 1 MiB"):format(url)
  end
  local document, why = json.decode(body, { depth = 32 })
  if type(document) ~= "table" then
    return nil, ("%s: %s"):format(url, why or "no JSON object")
  end
  return document, nil, body
end

--- An https stays an https: a discovery document cannot send us to plain HTTP.
local function is_downgrade(from, to)
  return from:lower():sub(1, 6) == "https:" and to:lower():sub(1, 6) ~= "https:"
end

function Source:discover()
  local document, err = fetch_json(self.openid_config, self.timeout)
  if not document then
    return nil, err
  end
  local uri, issuer = document.jwks_uri, document.issuer
  if type(uri) ~= "string" or type(issuer) ~= "string" then
    return nil, ("%s: jwks_uri or issuer is missing"):format(self.openid_config)
  elseif is_downgrade(self.openid_config, uri) then
    return nil, ("%s: jwks_uri leads from https to %s"):format(self.openid_config, uri)
  end
  return uri, nil, issuer
end

--- Fetches the keys and puts them in the place of the old ones; those stay where it fails.
function Source:load()
  local uri, issuer = self.uri, nil
  if self.openid_config then
    local err
    uri, err, issuer = self:discover()
    if not uri then
      return err
    end
  end
  local document, why, text = fetch_json(uri, self.timeout)
  if not document then
    return why
  elseif type(document.keys) ~= "table" then
    return ("%s: no JWK Set"):format(uri)
  end
  if text == self.text and issuer == self.issuer then
    return nil -- the same keys: what they vouched for stays remembered
  end
  local set, wrong = jwt.keyset({
    jwks = text, keys = self.decryption_keys, algorithms = self.algorithms,
    require_signed = self.require_signed,
    public_only = true, -- a secret that is published is none
  })
  if not set then
    return ("%s: %s"):format(uri, wrong)
  end
  self.set, self.text, self.issuer = set, text, issuer
  return nil
end

function Source:refresh()
  local ok, err = self.flight:run(self.load, self)
  local now = jwt.now()
  self.tried_at = now
  if not ok or err then
    self.error = tostring(err)
    self.next_at = now + (self.set and RETRY_AFTER_FAILURE or FIRST_RETRY)
    log.error("jwks: " .. self.error)
  else
    self.error = nil
    self.next_at = now + self.ttl
  end
  self:tell()
end

--- Tells those who watch which keys count now, and how long.
function Source:tell()
  if self.set then
    for watcher in pairs(self.watchers) do
      watcher:trust(self.set, self.next_at)
    end
  end
end

--- From now on `watcher:trust(keyset, till)` is called for keys that are had.
function Source:watch(watcher)
  self.watchers[watcher] = true
  self:tell()
end

--- The keys of now. Fetches them where there are none or they are old.
---@param ctx any for waiting
---@return any? keyset
---@return string? err
function Source:keys(ctx)
  if jwt.now() >= self.next_at then
    if not self.flight:is_busy() then
      self:refresh()
    elseif not self.set then
      self.flight:wait(ctx)
    end
  elseif not self.set and self.flight:is_busy() then
    self.flight:wait(ctx)
  end
  if not self.set then
    return nil, self.error or "the keys were not fetched in time"
  end
  return self.set
end

--- Fetches again because a token's key is not known, if that is not too soon.
---@return boolean is_changed whether there are other keys now
function Source:refetch(ctx)
  local before = self.set
  if self.flight:is_busy() then
    self.flight:wait(ctx)
  elseif jwt.now() >= (self.tried_at or 0) + self.refetch_s then
    self:refresh()
  end
  return self.set ~= before
end

--- A source by its options; policies with the same ones share it.
local sources = setmetatable({}, { __mode = "v" })

---@param options moongate.JwksOptions
---@return moongate.JwksSource
function M.source(options)
  local id = table.concat({
    options.uri or "", options.openid_config or "", table.concat(options.algorithms, ","),
    tostring(options.ttl), tostring(options.refetch), tostring(options.timeout),
    tostring(options.require_signed),
  }, "\n")
  local source = not options.decryption_keys and sources[id] or nil
  if not source then
    source = setmetatable({
      uri = options.uri, openid_config = options.openid_config, algorithms = options.algorithms,
      ttl = options.ttl or 3600, refetch_s = options.refetch or 300,
      timeout = options.timeout or 5, require_signed = options.require_signed,
      decryption_keys = options.decryption_keys, next_at = 0,
      watchers = setmetatable({}, { __mode = "k" }),
      flight = flight.new(2 * (options.timeout or 5) + 1), -- the discovery document and the keys
    }, Source)
    if not options.decryption_keys then
      sources[id] = source
    end
  end
  return source
end

return M
