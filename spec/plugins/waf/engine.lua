-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (a case a line)
--- The rule engine through FFI, for specs and tools.
local ffi = require("ffi")

ffi.cdef([[
struct waf_str { const char *p; size_t n; };
struct waf_source { int kind; const char *name; const char *text; };
struct waf_error { char text[1024]; };
struct waf_verdict { int status; int rule_id; bool drop; struct waf_str redirect, reason; };
struct waf_fired { int id, phase, severity, line; bool denied; const char *file; const char *const *tags;
  size_t tag_count; const void *tested; struct waf_str operand, msg, logdata, variable, value, ver, rev;
  int maturity, accuracy, status; };
void *waf_ruleset_load(const struct waf_source *, size_t, struct waf_error *);
void *waf_ruleset_shared(const struct waf_source *, size_t, struct waf_error *);
void waf_ruleset_release(void *);
size_t waf_ruleset_memory(const void *);
size_t waf_ruleset_rule_count(const void *);
void *waf_overlay_new(void *, const char *, struct waf_error *);
void waf_overlay_free(void *);
void waf_set_prefilter(bool);
void *waf_tx_new(void *, const void *);
void waf_tx_free(void *);
void waf_tx_set_mode(void *, int);
void waf_tx_set_var(void *, struct waf_str, struct waf_str);
void waf_tx_connection(void *, struct waf_str, int, struct waf_str, int);
void waf_tx_unique_id(void *, struct waf_str);
void waf_tx_request_line(void *, struct waf_str, struct waf_str, struct waf_str);
void waf_tx_request_header(void *, struct waf_str, struct waf_str);
bool waf_tx_request_headers(void *, struct waf_verdict *);
bool waf_tx_wants_request_body(const void *);
bool waf_tx_request_body(void *, struct waf_str, struct waf_verdict *);
bool waf_tx_request_body_whole(void *, struct waf_str, struct waf_verdict *);
bool waf_tx_request_body_end(void *, struct waf_verdict *);
void waf_tx_response_line(void *, int, struct waf_str);
void waf_tx_response_header(void *, struct waf_str, struct waf_str);
bool waf_tx_response_headers(void *, struct waf_verdict *);
bool waf_tx_wants_response_body(const void *);
bool waf_tx_response_body(void *, struct waf_str, struct waf_verdict *);
bool waf_tx_response_body_end(void *, struct waf_verdict *);
void waf_tx_logging(void *, int);
size_t waf_tx_fired_count(const void *);
const struct waf_fired *waf_tx_fired(const void *, size_t);
struct waf_str waf_tx_error_log(void *, size_t);
struct waf_str waf_tx_get_var(void *, struct waf_str);
bool waf_tx_exhausted(const void *);
]])

local M = {}

local function library()
  local path = os.getenv("MOONGATE_WAF_LIB")
  if path then
    return ffi.load(path)
  end
  for _, dir in ipairs({ os.getenv("MOONGATE_BUILD") or "build/dev", "build/release", "build/lead" }) do
    local ok, lib = pcall(ffi.load, dir .. "/libwaf_unit.so")
    if ok then
      return lib
    end
  end
end

M.lib = library()

local function str(s)
  return ffi.new("struct waf_str", s, #s)
end

local function lua(s)
  return s.p ~= nil and ffi.string(s.p, s.n) or nil
end

--- Loads rules. `sources` holds paths, and texts as `{ text = … }`.
function M.load(sources)
  local list = ffi.new("struct waf_source[?]", #sources)
  local keep = {}
  for i, s in ipairs(sources) do
    local is_text = type(s) == "table"
    list[i - 1].kind = is_text and 1 or 0
    list[i - 1].name = is_text and (s.name or "inline") or s
    list[i - 1].text = is_text and s.text or nil
    keep[#keep + 1] = s
  end
  local err = ffi.new("struct waf_error")
  local rules = M.lib.waf_ruleset_load(list, #sources, err)
  if rules == nil then
    return nil, ffi.string(err.text)
  end
  return ffi.gc(rules, M.lib.waf_ruleset_release), keep
end

function M.overlay(rules, text)
  local err = ffi.new("struct waf_error")
  local o = M.lib.waf_overlay_new(rules, text, err)
  if o == nil then
    return nil, ffi.string(err.text)
  end
  return ffi.gc(o, M.lib.waf_overlay_free)
end

--- Runs one exchange. `req`: method, uri, protocol, headers (list of {name, value}), body;
--- `respond(tx)` gives status, headers, body when the request goes through.
--- @return table  status (of the refusal), ids, lines, fired
function M.run(rules, req, respond, opt)
  local lib, verdict = M.lib, ffi.new("struct waf_verdict")
  opt = opt or {}
  local tx = lib.waf_tx_new(rules, opt.overlay)
  local client, server, id = req.client or "127.0.0.1", "127.0.0.1", "AbC123"
  if opt.mode then
    lib.waf_tx_set_mode(tx, opt.mode)
  end
  for name, value in pairs(opt.vars or {}) do
    lib.waf_tx_set_var(tx, str(name), str(value))
  end
  lib.waf_tx_connection(tx, str(client), 1234, str(server), 80)
  lib.waf_tx_unique_id(tx, str(id))
  lib.waf_tx_request_line(tx, str(req.method), str(req.uri), str(req.protocol or "HTTP/1.1"))
  for _, h in ipairs(req.headers) do
    lib.waf_tx_request_header(tx, str(h[1]), str(h[2]))
  end
  local status
  local body = req.body or ""
  if lib.waf_tx_request_headers(tx, verdict) then
    status = verdict.status
  end
  if not status then
    if opt.before_body then
      opt.before_body()
    end
    if opt.whole then
      lib.waf_tx_request_body_whole(tx, str(body), verdict)
    else
      lib.waf_tx_request_body(tx, str(body), verdict)
    end
    if lib.waf_tx_request_body_end(tx, verdict) then
      status = verdict.status
    end
  end
  if not status and respond then
    local code, headers, rbody = respond(req)
    lib.waf_tx_response_line(tx, code, str("HTTP/1.1"))
    for _, h in ipairs(headers) do
      lib.waf_tx_response_header(tx, str(h[1]), str(h[2]))
    end
    if lib.waf_tx_response_headers(tx, verdict) then
      status = verdict.status
    else
      if lib.waf_tx_response_body(tx, str(rbody), verdict) or lib.waf_tx_response_body_end(tx, verdict) then
        status = verdict.status
      end
    end
  end
  lib.waf_tx_logging(tx, status or 0)
  local out = { status = status, rule_id = status and verdict.rule_id, ids = {}, lines = {}, fired = {} }
  for i = 0, tonumber(lib.waf_tx_fired_count(tx)) - 1 do
    local f = lib.waf_tx_fired(tx, i)
    out.ids[#out.ids + 1] = f.id
    if not opt.quiet then
      out.lines[#out.lines + 1] = lua(lib.waf_tx_error_log(tx, i))
      out.fired[#out.fired + 1] = {
        id = f.id, phase = f.phase, msg = lua(f.msg), data = lua(f.logdata),
        variable = lua(f.variable), value = lua(f.value),
      }
    end
  end
  out.exhausted = lib.waf_tx_exhausted(tx)
  if opt.get then
    out.vars = {}
    for _, name in ipairs(opt.get) do
      out.vars[name] = lua(lib.waf_tx_get_var(tx, str(name)))
    end
  end
  lib.waf_tx_free(tx)
  return out
end

return M
