-- SPDX-License-Identifier: Apache-2.0
--- Loads the C units through FFI. Each spec declares the functions that it calls; the types that
--- all of them share are declared here.
local ffi = require("ffi")

local M = {}

-- busted loads this file anew for each spec, and the FFI forgets nothing: each declaration is made
-- on its own, and one that stands already is left as it is.
local function declare(cdefs)
  local start, depth = 1, 0
  for at = 1, #cdefs do
    local c = cdefs:sub(at, at)
    depth = depth + (c == "{" and 1 or c == "}" and -1 or 0)
    if c == ";" and depth == 0 then
      local ok, err = pcall(ffi.cdef, cdefs:sub(start, at))
      if not ok and not err:find("attempt to redefine", 1, true) then
        error(err, 0)
      end
      start = at + 1
    end
  end
end

declare [[
struct moon_slice { const char *data; size_t len; };
struct moon_field { struct moon_slice name; struct moon_slice value; };
struct moon_arena_chunk;
struct moon_arena {
  struct moon_arena_chunk *chunks; char *at; char *end; size_t used_bytes; size_t ceiling_bytes;
};
struct moon_buf { char *data; size_t start; size_t end; size_t cap; size_t ceiling; };
struct moon_ip { uint8_t bytes[16]; };

const char *moon_rc_name(int rc);
int moon_rc_status(int rc);
void moon_arena_init(struct moon_arena *arena, size_t ceiling_bytes);
void moon_arena_reset(struct moon_arena *arena);
void *moon_arena_alloc(struct moon_arena *arena, size_t size);
void moon_buf_init(struct moon_buf *buf, size_t ceiling);
void moon_buf_fini(struct moon_buf *buf);

void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
int mprotect(void *addr, size_t len, int prot);
int munmap(void *addr, size_t length);
]]

local loaded

--- The unit library, with `cdefs` declared. MOONGATE_UNIT_LIB names another build of it.
---@param cdefs string?
function M.lib(cdefs)
  if cdefs then
    declare(cdefs)
  end
  loaded = loaded or ffi.load(os.getenv("MOONGATE_UNIT_LIB") or "build/release/libmoon_unit.so")
  return loaded
end

--- A slice of a Lua string; the string must be kept by the caller.
---@param text string?  nil gives the empty slice without data
function M.slice(text)
  if text == nil then
    return ffi.new("struct moon_slice", { nil, 0 })
  end
  return ffi.new("struct moon_slice", { text, #text })
end

--- The bytes of a slice; nil where it has no data.
function M.text(slice)
  if slice.data == nil then
    return nil
  end
  return ffi.string(slice.data, slice.len)
end

--- The name of a result: "ok", "again", "bad_field".
function M.rc(code)
  return ffi.string(M.lib().moon_rc_name(code))
end

--- An arena that is given back when it is collected.
---@param ceiling integer?
function M.arena(ceiling)
  local lib = M.lib()
  local arena = ffi.gc(ffi.new("struct moon_arena"), function(self)
    lib.moon_arena_reset(self)
  end)
  lib.moon_arena_init(arena, ceiling or 1048576)
  return arena
end

--- A growing buffer that is given back when it is collected.
function M.buf(ceiling)
  local lib = M.lib()
  local buf = ffi.gc(ffi.new("struct moon_buf"), function(self)
    lib.moon_buf_fini(self)
  end)
  lib.moon_buf_init(buf, ceiling or 1048576)
  return buf
end

function M.buf_text(buf)
  if buf.data == nil then
    return ""
  end
  return ffi.string(buf.data + buf["start"], buf["end"] - buf["start"])
end

local PAGE, PROT_NONE, PROT_RW, MAP_PRIVATE_ANON = 4096, 0, 3, 0x22
local guard -- reused: { base, bytes }

--- Copies bytes so that the last one is followed by a page that cannot be read: one byte too far
--- ends the process. The memory is reused by the next call.
---@return ffi.cdata* data
function M.guarded(bytes)
  local need = math.ceil((#bytes + 1) / PAGE) * PAGE
  if not guard or guard.bytes < need then
    local base = ffi.C.mmap(nil, need + PAGE, PROT_RW, MAP_PRIVATE_ANON, -1, 0)
    assert(ffi.cast("intptr_t", base) ~= -1, "mmap failed")
    guard = { base = ffi.cast("char *", base), bytes = need }
    assert(ffi.C.mprotect(guard.base + need, PAGE, PROT_NONE) == 0, "mprotect failed")
  end
  local at = guard.base + guard.bytes - #bytes
  ffi.copy(at, bytes, #bytes)
  return at
end

--- A slice of guarded memory.
function M.guarded_slice(bytes)
  return ffi.new("struct moon_slice", { M.guarded(bytes), #bytes })
end

--- The folder of shared vectors, or nil where this machine has none.
function M.shared(path)
  local root = (os.getenv("MOONGATE_SHARED") or "../shared") .. "/" .. path
  local file = io.open(root)
  if file then
    file:close()
    return root
  end
  return nil
end

return M
