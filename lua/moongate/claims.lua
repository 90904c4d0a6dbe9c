-- SPDX-License-Identifier: Apache-2.0
--- What a token's claims must say: times, issuer, audience, and claims by name. Rules are built
--- once; a token that passed is remembered until it expires, so that it costs a look-up next time.

local jwt = require("moongate.jwt")
local new_table = require("table.new")

local M = {}

---@class moongate.ClaimRules
---@field issuers? string[]
---@field audiences? string[]
---@field required_claims? table<string, any>
---@field require_expiration_time? boolean default true
---@field clock_skew? number seconds, default 0
---@field max_age? number seconds since `iat`
---@field typ? string what the header's `typ` must be (RFC 8725, 3.11)
---@field cache_entries? integer tokens remembered, default 1024; 0: none

local CACHE_BYTES = 2 * 1024 * 1024 -- of token text
local CACHED_TOKEN_MAX = 8192

local function set_of(list)
  if not list or #list == 0 then
    return nil
  end
  local set = {}
  for _, item in ipairs(list) do
    set[item] = true
  end
  return set
end

-- Claims whose text is a list of words (RFC 8693, 4.2; Entra's scp).
local WORDS = { scope = " ", scp = " " }

--- One entry of required_claims in its normal form.
local function claim_rule(name, wanted)
  local rule = { name = name, values = {}, any = false, separator = WORDS[name] }
  if type(wanted) == "table" and (wanted.values or wanted.match or wanted.separator) then
    rule.any = wanted.match == "any"
    rule.separator = wanted.separator or rule.separator
    wanted = wanted.values or {}
  end
  if type(wanted) ~= "table" then
    wanted = { wanted }
  end
  for i, value in ipairs(wanted) do
    rule.values[i] = value
  end
  local path = {}
  for part in name:gmatch("[^.]+") do
    path[#path + 1] = part
  end
  rule.path = #path > 1 and path or nil
  return rule
end

--- The claim of that name; else what the name's dots lead to.
local function find(claims, rule)
  local value = claims[rule.name]
  if value ~= nil or not rule.path then
    return value
  end
  value = claims
  for _, part in ipairs(rule.path) do
    if type(value) ~= "table" then
      return nil
    end
    value = value[part]
  end
  return value
end

--- The values that a claim holds, as a set.
local function values_of(value, separator)
  local set = {}
  if type(value) == "table" then
    for _, item in ipairs(value) do
      set[item] = true
    end
  elseif type(value) == "string" and separator then
    local from = 1
    while true do
      local first, last = value:find(separator, from, true)
      set[value:sub(from, (first or 0) - 1)] = true
      if not first then
        break
      end
      from = last + 1
    end
  else
    set[value] = true
  end
  return set
end

local function check_claim(claims, rule)
  local value = find(claims, rule)
  if value == nil then
    return "TokenClaimNotFound", ("claim %s is missing"):format(rule.name)
  end
  if #rule.values == 0 then
    return nil
  end
  local has, found = values_of(value, rule.separator), 0
  for _, wanted in ipairs(rule.values) do
    if has[wanted] then
      found = found + 1
    end
  end
  if found == #rule.values or rule.any and found > 0 then
    return nil
  end
  return "TokenClaimValueNotAllowed", ("claim %s has a value that is not allowed"):format(rule.name)
end

---@class moongate.Rules
local Rules = {}
Rules.__index = Rules

--- A time claim: nil when absent, false when it is no number (or not one that a clock can show).
local function time_of(claims, name)
  local value = claims[name]
  if value == nil then
    return nil
  end
  if type(value) ~= "number" or value ~= value or value < -1e13 or value > 1e13 then
    return false
  end
  return value
end

--- Checks the times; returns when the token begins and ceases to be good.
function Rules:check_times(claims, now)
  local skew = self.clock_skew
  local exp, nbf, iat = time_of(claims, "exp"), time_of(claims, "nbf"), time_of(claims, "iat")
  if exp == false or nbf == false or iat == false then
    return "JwtInvalid", "a time in the token is no number"
  elseif not exp and self.require_expiration_time then
    return "TokenClaimNotFound", "claim exp is missing"
  elseif self.max_age and not iat then
    return "TokenClaimNotFound", "claim iat is missing"
  end
  local till = exp and exp + skew or math.huge
  local from = nbf and nbf - skew or -math.huge
  if self.max_age then
    till = math.min(till, iat + self.max_age + skew)
    from = math.max(from, iat - skew)
  end
  if now >= till then
    return "TokenExpired", "the token has expired"
  elseif now < from then
    return "JwtInvalid", "the token is not valid yet"
  end
  return nil, nil, from, till
end

local function has_audience(claims, audiences)
  local aud = claims.aud
  if type(aud) == "string" then
    return audiences[aud] == true
  elseif type(aud) ~= "table" then
    return false
  end
  for _, item in ipairs(aud) do
    if audiences[item] then
      return true
    end
  end
  return false
end

--- Checks the claims of a token whose signature is known to be good.
---@param claims table
---@param header table
---@param now number seconds
---@return string? reason nil when all is well
---@return string? message
---@return number? from
---@return number? till when the token ceases to be good
function Rules:check(claims, header, now)
  if self.typ then
    local typ = type(header.typ) == "string" and header.typ:lower():gsub("^application/", "") or ""
    if typ ~= self.typ then
      return "JwtInvalid", "the token is of another type"
    end
  end
  local reason, message, from, till = self:check_times(claims, now)
  if reason then
    return reason, message
  end
  if self.issuers and not self.issuers[claims.iss] then
    return "TokenIssuerNotAllowed", "the token's issuer is not allowed"
  end
  if self.audiences and not has_audience(claims, self.audiences) then
    return "TokenAudienceNotAllowed", "the token is for another audience"
  end
  for _, rule in ipairs(self.required) do
    reason, message = check_claim(claims, rule)
    if reason then
      return reason, message
    end
  end
  return nil, nil, from, till
end

--- Claims made ready for being copied for each request: as two lists, which cost a tenth of walking a
--- table from C.
local function folded(claims)
  local names, values, nested = {}, {}, {}
  for name, value in pairs(claims) do
    names[#names + 1], values[#values + 1] = name, value
    nested[#nested + 1] = type(value) == "table" and #names or nil
  end
  return { names = names, values = values, nested = nested, meta = getmetatable(claims) }
end

--- A copy that shares nothing that could be written to.
local function unfolded(fold)
  local names, values, nested = fold.names, fold.values, fold.nested
  local claims = new_table(0, #names)
  for i = 1, #names do
    claims[names[i]] = values[i]
  end
  for i = 1, #nested do
    local at = nested[i]
    claims[names[at]] = jwt.copy(values[at])
  end
  return fold.meta and setmetatable(claims, fold.meta) or claims
end

--- The claims of what was remembered: a copy that the caller may change.
local function unfold(entry)
  return unfolded(entry.fold)
end

--- The same, where the keys that vouched for it are those of now.
local function recalled(entry, keyset)
  if entry and entry.keyset == keyset then
    return unfold(entry)
  end
  return nil
end

--- What was remembered of a token, or nil.
---@param key string what the token was found under: the whole header field, say
---@param keyset any the keys of now
---@return table? claims
function Rules:recall(key, keyset)
  return recalled(self.memo:get(key), keyset)
end

--- What was remembered of the token in a request field, or nil.
---@param ctx moongate.Ctx
---@param name string the field's
---@param keyset any the keys of now
---@return table? claims
function Rules:recall_field(ctx, name, keyset)
  return recalled(self.memo:field(ctx, name), keyset)
end

--- What does the same without Lua (moongate/act.h), once `trust` has said which keys count.
---@param name string the field's
---@param strips boolean whether the backend does not get it
function Rules:act(name, strips)
  return self.memo:act(name, strips)
end

--- For the act: these keys count, and nobody has to ask for others before that time.
function Rules:trust(keyset, till)
  self.memo:trust(keyset, till)
end

--- Remembers a token that passed.
function Rules:remember(key, keyset, claims, from, till)
  if self.cache_entries > 0 and #key <= CACHED_TOKEN_MAX then
    local entry = { fold = folded(jwt.copy(claims)), keyset = keyset, unfold = unfold }
    self.memo:put(key, entry, claims, from, till)
  end
end

--- Verifies a token's signature and checks its claims.
---@param keyset any from jwt.keyset
---@param token string
---@param key? string remembered under it; the token itself by default
---@return table? claims
---@return string? reason
---@return string? message
function Rules:verify(keyset, token, key)
  local claims, header, message = keyset:verify(token)
  if not claims then
    return nil, header, message
  end
  local reason, why, from, till = self:check(claims, header, jwt.now())
  if reason then
    return nil, reason, why
  end
  self:remember(key or token, keyset, claims, from, till)
  return claims
end

--- Builds rules.
---@param options moongate.ClaimRules
---@return moongate.Rules
function M.rules(options)
  local required, names = {}, {}
  for name in pairs(options.required_claims or {}) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    required[i] = claim_rule(name, options.required_claims[name])
  end
  return setmetatable({
    issuers = set_of(options.issuers), audiences = set_of(options.audiences), required = required,
    require_expiration_time = options.require_expiration_time ~= false,
    clock_skew = options.clock_skew or 0, max_age = options.max_age,
    typ = options.typ and options.typ:lower():gsub("^application/", "") or nil,
    cache_entries = options.cache_entries or 1024,
    memo = jwt.memo(options.cache_entries or 1024, CACHE_BYTES),
  }, Rules)
end

return M
