-- SPDX-License-Identifier: Apache-2.0
--- What the specs of runtime/shared share: declarations, regions, and processes that are forked to
--- work on them at the same time.
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local M = { helper = helper }

M.C = helper.lib([[
struct moon_region;
struct moon_region *moon_region_new(size_t bytes);
void moon_region_free(struct moon_region *region);
void *moon_region_carve(struct moon_region *region, const char *name, size_t bytes);
size_t moon_region_left(const struct moon_region *region);

struct moon_lock { char bytes[40]; };
void moon_lock_init(struct moon_lock *lock);
bool moon_lock_take(struct moon_lock *lock);
void moon_lock_give(struct moon_lock *lock);

struct moon_counters;
struct moon_counter_key { uint64_t hi, lo; };
struct moon_limit_mark { int64_t at, taken_us; };
struct moon_limit_decision {
  bool is_allowed; int64_t remaining; int64_t retry_after_ms;
  int64_t reset_ms; struct moon_limit_mark mark;
};
struct moon_counters *moon_counters_new(struct moon_region *region, size_t cells);
struct moon_counter_key moon_counter_key(struct moon_slice limit, struct moon_slice key);
struct moon_limit_decision moon_counters_gcra(struct moon_counters *, struct moon_counter_key,
  int64_t calls, int64_t period_ms, int64_t burst, int64_t amount, int how, int64_t now_us);
struct moon_limit_decision moon_counters_window(struct moon_counters *, struct moon_counter_key,
  int64_t calls, int64_t period_ms, int64_t amount, int how, int64_t now_wall_ms);
struct moon_limit_decision moon_counters_fixed(struct moon_counters *, struct moon_counter_key,
  int64_t calls, int64_t period_ms, int64_t amount, int how, int64_t now_wall_ms);
int64_t moon_counters_add(struct moon_counters *, struct moon_counter_key, int64_t amount,
  int64_t window_ms, int64_t now_wall_ms);
void moon_counters_gcra_give_back(struct moon_counters *, struct moon_counter_key, int64_t calls,
  int64_t period_ms, int64_t amount, struct moon_limit_mark mark, int64_t now_us);
void moon_counters_window_give_back(struct moon_counters *, struct moon_counter_key, int64_t amount,
  struct moon_limit_mark mark);
void moon_counters_shared_give_back(struct moon_counters *, struct moon_counter_key, int64_t amount,
  struct moon_limit_mark mark);
void moon_counters_block(struct moon_counters *, struct moon_counter_key, int64_t until_us,
  int64_t trusted_us, int64_t now_us);
int64_t moon_counters_blocked_ms(struct moon_counters *, struct moon_counter_key, int64_t now_us);
uint64_t moon_counters_evictions(const struct moon_counters *counters);

struct moon_shared_limit {
  struct moon_slice name; int64_t calls; int64_t period_ms; int64_t nodes;
  bool is_fixed; bool is_store_down;
};
struct moon_shared_decision { struct moon_limit_decision limit; bool is_urgent; };
struct moon_shared_decision moon_counters_shared(struct moon_counters *, struct moon_counter_key,
  const struct moon_shared_limit *, int64_t amount, int how, int64_t now_wall_ms);
struct moon_counter_delta {
  size_t cell; struct moon_counter_key key; char name[121]; size_t name_len; int64_t period_ms;
  int64_t window; int64_t amount; bool wants_previous;
};
bool moon_counters_shared_next(struct moon_counters *, size_t *at, int64_t now_wall_ms,
  struct moon_counter_delta *);
void moon_counters_shared_told(struct moon_counters *, const struct moon_counter_delta *,
  int64_t total);
void moon_counters_shared_previous(struct moon_counters *, const struct moon_counter_delta *,
  int64_t total);
void moon_counters_shared_unsent(struct moon_counters *, const struct moon_counter_delta *);
void moon_counters_shared_lost(struct moon_counters *, const struct moon_counter_delta *);
uint64_t moon_counters_lost(const struct moon_counters *counters);

int fork(void);
int getpid(void);
int kill(int pid, int signal);
int waitpid(int pid, int *status, int options);
int usleep(unsigned int us);
void _exit(int status);
]])

M.TAKE, M.CHARGE = 0, 1
M.KILL = 9

M.held = {} -- the latest regions
local made = 0

--- A region. It is held while the next few are made: what lies in it does not keep it, and it is
--- unmapped when it is collected, under a forked child too.
function M.region(bytes)
  local region = M.C.moon_region_new(bytes or 16 * 1048576)
  assert(region ~= nil, "no region")
  made = made + 1
  M.held[made % 8] = ffi.gc(region, M.C.moon_region_free)
  return region
end

--- A key; the texts are held by the caller while it is made only.
function M.key(limit, key)
  return M.C.moon_counter_key(helper.slice(limit), helper.slice(key))
end

--- Runs `work` in a process of its own; gives its pid.
function M.child(work)
  io.stdout:flush()
  local pid = ffi.C.fork()
  assert(pid >= 0, "fork failed")
  if pid == 0 then
    local ok = pcall(work)
    ffi.C._exit(ok and 0 or 1)
  end
  return pid
end

--- Waits for a process; gives its raw status (0: it ended well).
function M.wait(pid)
  local status = ffi.new("int[1]")
  assert(ffi.C.waitpid(pid, status, 0) == pid)
  return status[0]
end

--- Runs `work(i)` in `n` processes at once and waits for all of them.
function M.together(n, work)
  local pids = {}
  for i = 1, n do
    pids[i] = M.child(function()
      work(i)
    end)
  end
  for i = 1, n do
    assert(M.wait(pids[i]) == 0, "a process failed")
  end
end

return M
