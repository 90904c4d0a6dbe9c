-- SPDX-License-Identifier: Apache-2.0
--- HTTP/1.1 codec as Lua functions: what the specs of runtime/http share.
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local lib = helper.lib [[
struct moon_fields {
  struct moon_arena *arena; struct moon_field *items; uint8_t *ids; size_t count; size_t cap;
};
struct moon_request {
  int method;
  int client_method;
  struct moon_slice method_name;
  int target_form;
  struct moon_slice target, line, scheme, authority, host, path_raw, path, query;
  int version_major, version_minor;
  struct moon_fields fields, trailers;
  int framing;
  int64_t content_length;
  bool is_keep_alive, expects_continue, wants_upgrade;
};
struct moon_response {
  int status;
  struct moon_slice reason;
  int version_major, version_minor;
  struct moon_fields fields, trailers;
  int framing;
  int64_t content_length;
  bool is_keep_alive;
};
struct moon_h1_limits { size_t head_bytes, uri_bytes, header_count; };
struct moon_h1_scan { size_t at, line_start, lines; bool is_response, is_line_checked; size_t line_len; };
struct moon_h1_body {
  int framing, state;
  uint64_t left, total;
  size_t extension_bytes, trailer_bytes, trailer_count;
  struct moon_fields *trailers;
  struct moon_buf trailer_line;
  bool is_done, is_response;
};
void moon_fields_init(struct moon_fields *fields, struct moon_arena *arena);
int moon_field_id(struct moon_slice name);
struct moon_slice moon_field_name(int id);
unsigned moon_field_flags(int id);
int moon_fields_add(struct moon_fields *f, struct moon_slice name, struct moon_slice value);
int moon_fields_set(struct moon_fields *f, struct moon_slice name, struct moon_slice value);
size_t moon_fields_remove(struct moon_fields *fields, struct moon_slice name);
const struct moon_field *moon_fields_find(const struct moon_fields *f, struct moon_slice name);
struct moon_slice moon_fields_joined(const struct moon_fields *fields, struct moon_slice name);
bool moon_field_name_is_valid(struct moon_slice name);
bool moon_field_value_is_valid(struct moon_slice value);
void moon_fields_remove_hop_by_hop(struct moon_fields *fields);
void moon_request_init(struct moon_request *request, struct moon_arena *arena);
void moon_response_init(struct moon_response *response, struct moon_arena *arena);
int moon_method_parse(struct moon_slice name);
bool moon_method_is_idempotent(int method);
bool moon_method_is_safe(int method);
struct moon_slice moon_status_reason(int status);
int moon_h1_scan(struct moon_h1_scan *scan, struct moon_slice in,
                 const struct moon_h1_limits *limits, size_t *head_len);
size_t moon_h1_skip_empty_lines(struct moon_slice in);
int moon_h1_parse_request(struct moon_request *request, struct moon_slice head,
                          const struct moon_h1_limits *limits, bool is_tls);
int moon_h1_parse_response(struct moon_response *response, struct moon_slice head, int method,
                           const struct moon_h1_limits *limits);
void moon_h1_body_init(struct moon_h1_body *body, int framing, int64_t content_length,
                       struct moon_fields *trailers, bool is_response);
void moon_h1_body_fini(struct moon_h1_body *body);
int moon_h1_body_look(const struct moon_h1_body *, struct moon_slice in);
int moon_h1_body_next(struct moon_h1_body *body, struct moon_slice in, size_t *used,
                      struct moon_slice *data);
int moon_h1_body_eof(struct moon_h1_body *body);
int moon_h1_write_request(struct moon_buf *out, const struct moon_request *request,
                          struct moon_slice target, bool keep_alive);
int moon_h1_write_response(struct moon_buf *out, const struct moon_response *response, int method,
                           int client_minor, bool keep_alive);
size_t moon_h1_chunk_line(uint64_t len, char into[20]);
int moon_h1_write_last_chunk(struct moon_buf *out, const struct moon_fields *trailers);
]]

local M = { lib = lib }

M.FRAMING = { [0] = "none", "length", "chunked", "close" }
M.FORM = { [0] = "origin", "absolute", "authority", "asterisk" }
M.METHOD = {
  OTHER = 0, GET = 1, HEAD = 2, POST = 3, PUT = 4, DELETE = 5, CONNECT = 6, OPTIONS = 7,
  TRACE = 8, PATCH = 9,
}

--- Limits as a listener has them by default; `over` replaces some.
function M.limits(over)
  over = over or {}
  return ffi.new("struct moon_h1_limits", {
    over.head_bytes or 32768, over.uri_bytes or 8192, over.header_count or 100,
  })
end

--- Scans bytes that arrive in the given pieces, each time from fresh memory that ends at a guard
--- page.
---@param cuts integer[]  lengths received, ascending; the whole is added at the end
---@return string rc
---@return integer? head_len
function M.scan(bytes, cuts, limits, is_response)
  local scan = ffi.new("struct moon_h1_scan")
  scan.is_response = is_response or false
  local head_len = ffi.new("size_t[1]")
  local rc = "again"
  local function feed(len)
    local code = lib.moon_h1_scan(scan, helper.guarded_slice(bytes:sub(1, len)), limits, head_len)
    rc = helper.rc(code)
    return rc == "again"
  end
  for _, cut in ipairs(cuts or {}) do
    if not feed(cut) then
      return rc, tonumber(head_len[0])
    end
  end
  feed(#bytes)
  return rc, rc == "ok" and tonumber(head_len[0]) or nil
end

--- Scans and parses. The request keeps what it borrows from.
---@return string rc
---@return ffi.cdata* request
function M.parse_request(bytes, options)
  options = options or {}
  local limits = M.limits(options.limits)
  local skipped = tonumber(lib.moon_h1_skip_empty_lines(helper.slice(bytes)))
  local text = bytes:sub(skipped + 1)
  local rc, head_len = M.scan(text, options.cuts, limits, false)
  if rc ~= "ok" then
    return rc
  end
  local arena = helper.arena(options.ceiling)
  local request = ffi.new("struct moon_request")
  lib.moon_request_init(request, arena)
  local head = helper.slice(text:sub(1, head_len))
  M.kept = { text, arena, text:sub(1, head_len) }
  rc = helper.rc(lib.moon_h1_parse_request(request, head, limits, options.is_tls or false))
  return rc, request, arena
end

function M.parse_response(bytes, options)
  options = options or {}
  local limits = M.limits(options.limits)
  local rc, head_len = M.scan(bytes, options.cuts, limits, true)
  if rc ~= "ok" then
    return rc
  end
  local arena = helper.arena(options.ceiling)
  local response = ffi.new("struct moon_response")
  lib.moon_response_init(response, arena)
  local head = bytes:sub(1, head_len)
  M.kept = { head, arena }
  local method = M.METHOD[options.method or "GET"]
  rc = helper.rc(lib.moon_h1_parse_response(response, helper.slice(head), method, limits))
  return rc, response, arena
end

--- The fields as a list of "Name: value".
function M.field_lines(fields)
  local lines = {}
  for i = 0, tonumber(fields.count) - 1 do
    local field = fields.items[i]
    lines[#lines + 1] = helper.text(field.name) .. ": " .. (helper.text(field.value) or "")
  end
  return lines
end

--- Reads a body that arrives cut at the given places; each piece ends at a guard page.
---@return table result  { rc, data, used, trailers, done }
function M.read_body(bytes, cuts, options)
  options = options or {}
  local arena = helper.arena(options.ceiling)
  local trailers = ffi.new("struct moon_fields")
  lib.moon_fields_init(trailers, arena)
  local body = ffi.gc(ffi.new("struct moon_h1_body"), lib.moon_h1_body_fini)
  lib.moon_h1_body_init(body, options.framing or 2, options.length or -1, trailers,
    options.is_response or false)
  local used, data = ffi.new("size_t[1]"), ffi.new("struct moon_slice")
  local parts, at, rc = {}, 0, "again"
  local function feed(piece)
    local offset = 0
    while true do
      rc = helper.rc(lib.moon_h1_body_next(body, helper.guarded_slice(piece:sub(offset + 1)), used,
        data))
      offset = offset + tonumber(used[0])
      at = at + tonumber(used[0])
      if rc ~= "ok" then
        return rc == "again"
      end
      parts[#parts + 1] = ffi.string(data.data, data.len)
      if body.is_done then
        return false
      end
    end
  end
  local before = 0
  for _, cut in ipairs(cuts or {}) do
    if not feed(bytes:sub(before + 1, cut)) then
      before = nil
      break
    end
    before = cut
  end
  local looked
  if before then
    looked = helper.rc(lib.moon_h1_body_look(body, helper.guarded_slice(bytes:sub(before + 1))))
    feed(bytes:sub(before + 1))
  end
  return {
    looked = looked or rc, -- what was told before it was read
    rc = rc, data = table.concat(parts), done = body.is_done,
    used = (rc == "ok" or rc == "again") and at or nil,
    trailers = M.field_lines(trailers),
    holds_memory = body.trailer_line.data ~= nil,
    eof = helper.rc(lib.moon_h1_body_eof(body)),
  }
end

return M
