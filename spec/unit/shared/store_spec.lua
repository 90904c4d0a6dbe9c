-- SPDX-License-Identifier: Apache-2.0
local ffi = require("ffi")
local shared = require("spec.unit.shared.support")
local helper = shared.helper

local C = helper.lib([[
struct moon_store;
struct moon_store_seat;
struct moon_store_key { uint64_t hi, lo; };
struct moon_store_tag { uint32_t cell, generation; };
struct moon_store_info {
  int64_t stamp_ms; int64_t keep_until_ms; uint64_t variant; struct moon_store_tag tags[10];
  uint32_t tag_count; bool is_marker; uint64_t facts[12];
};
struct moon_store_object {
  struct moon_store_seat *seat; struct moon_slice head; struct moon_slice first;
  uint64_t body_bytes; int64_t stamp_ms; uint64_t facts[12]; bool is_copied;
  uint32_t shard, epoch, pin, first_extent;
};
struct moon_store_cursor { uint32_t extent, used; };
struct moon_store_writer {
  struct moon_store_seat *seat; struct moon_store_key key; uint64_t body_bytes;
  uint32_t shard, entry, epoch, pin, last_extent; bool is_admitted;
};
struct moon_store_figures {
  uint64_t bytes, used_bytes, objects, evictions, dropped_shards, refused;
};
struct moon_store *moon_store_new(struct moon_region *region, size_t bytes, int workers);
size_t moon_store_region_bytes(size_t bytes, int workers);
void moon_store_close(struct moon_store *store);
struct moon_store_seat *moon_store_seat_new(struct moon_store *store, int worker);
void moon_store_seat_free(struct moon_store_seat *seat);
int moon_store_find(struct moon_store_seat *seat, struct moon_store_key key, int64_t now_ms,
  bool (*match)(const struct moon_store_info *, struct moon_slice, void *), void *arg,
  char *room, struct moon_store_object *out);
void moon_store_release(struct moon_store_object *object);
bool moon_store_is_intact(const struct moon_store_object *object);
void moon_store_rewind(const struct moon_store_object *, struct moon_store_cursor *);
struct moon_slice moon_store_next(const struct moon_store_object *, struct moon_store_cursor *,
  uint64_t most);
bool moon_store_begin(struct moon_store_seat *seat, struct moon_store_key key,
  struct moon_slice head, int64_t expected_body, struct moon_store_writer *out);
bool moon_store_write(struct moon_store_writer *writer, struct moon_slice data);
bool moon_store_commit(struct moon_store_writer *writer, const struct moon_store_info *info);
void moon_store_abort(struct moon_store_writer *writer);
void moon_store_remove(struct moon_store_seat *seat, struct moon_store_key key);
struct moon_store_tag moon_store_tag(const struct moon_store *store, uint64_t hash);
void moon_store_purge(struct moon_store *store, uint64_t hash);
int moon_store_flight_begin(struct moon_store_seat *seat, struct moon_store_key key, bool waits);
void moon_store_flight_end(struct moon_store_seat *seat, struct moon_store_key key);
int moon_store_seat_fd(const struct moon_store_seat *seat);
void moon_store_figures(const struct moon_store *store, struct moon_store_figures *out);
long read(int fd, void *into, size_t n);
void abort(void);
]])

local NONE, OBJECT = 0, 3
local OURS, WAIT = 0, 1
local MIB = 1048576

local function key(n)
  local mixed = (n * 2654435761) % 2 ^ 32
  return ffi.new("struct moon_store_key", { mixed * 2 ^ 32 + n, n * 40503 + 7 })
end

local function open(bytes, workers)
  local region = shared.region(tonumber(C.moon_store_region_bytes(bytes, workers or 2)))
  local store = C.moon_store_new(region, bytes, workers or 2)
  assert(store ~= nil)
  return store, region
end

local function info(more)
  local i = ffi.new("struct moon_store_info", { keep_until_ms = 1000 })
  for name, value in pairs(more or {}) do
    i[name] = value
  end
  return i
end

local function put(seat, n, body, more, expected)
  local writer = ffi.new("struct moon_store_writer")
  return C.moon_store_begin(seat, key(n), helper.slice("head" .. n), expected or #body, writer)
    and C.moon_store_write(writer, helper.slice(body)) and C.moon_store_commit(writer, info(more))
end

local function body_of(object)
  local cursor = ffi.new("struct moon_store_cursor")
  local parts = {}
  C.moon_store_rewind(object, cursor)
  while true do
    local run = C.moon_store_next(object, cursor, 2 ^ 40)
    if run.len == 0 then
      return table.concat(parts)
    end
    parts[#parts + 1] = helper.text(run)
  end
end

local function take(seat, n, now, room)
  local object = ffi.new("struct moon_store_object")
  local found = C.moon_store_find(seat, key(n), now or 0, nil, nil, room, object)
  return found, object
end

local function get(seat, n, now)
  local found, object = take(seat, n, now)
  if found ~= OBJECT then
    return nil
  end
  local body, head = body_of(object), helper.text(object.head)
  C.moon_store_release(object)
  return body, head
end

local function figures(store)
  local f = ffi.new("struct moon_store_figures")
  C.moon_store_figures(store, f)
  return f
end

describe("store", function()
  local store, region, seat, other

  before_each(function()
    store, region = open(4 * MIB)
    seat, other = C.moon_store_seat_new(store, 0), C.moon_store_seat_new(store, 1)
  end)

  after_each(function()
    C.moon_store_seat_free(seat)
    C.moon_store_seat_free(other)
    C.moon_store_close(store)
    assert(region) -- held until here
  end)

  it("gives every worker what one has stored, of any size", function()
    for n, size in ipairs({ 0, 1, 100, 511, 4096, 30000, 40000 }) do
      local body = ("x"):rep(size)
      assert.is_true(put(seat, n, body))
      local got, head = get(other, n)
      assert.equal(#body, #got)
      assert.equal("head" .. n, head)
      assert.is_true(put(seat, n, body .. "y", nil, -1), "without a length")
      assert.equal(body .. "y", (get(other, n)))
    end
  end)

  it("forgets what is past its time, removed, or purged by a tag", function()
    put(seat, 1, "a")
    assert.equal("a", (get(seat, 1, 999)))
    assert.is_nil(get(seat, 1, 1000))
    put(seat, 2, "b")
    C.moon_store_remove(other, key(2))
    assert.is_nil(get(seat, 2))
    local tagged = info({ tag_count = 1 })
    tagged.tags[0] = C.moon_store_tag(store, 77)
    local writer = ffi.new("struct moon_store_writer")
    assert(C.moon_store_begin(seat, key(3), helper.slice("h"), 1, writer))
    assert(C.moon_store_write(writer, helper.slice("c")) and C.moon_store_commit(writer, tagged))
    C.moon_store_purge(store, 78)
    assert.equal("c", (get(seat, 3)))
    C.moon_store_purge(store, 77)
    assert.is_nil(get(seat, 3))
  end)

  it("keeps an object that is being sent, whatever happens to its key", function()
    put(seat, 1, ("a"):rep(5000))
    local _, object = take(other, 1)
    C.moon_store_remove(seat, key(1))
    for n = 2, 3000 do
      put(seat, n, ("b"):rep(5000))
    end
    assert.is_true(C.moon_store_is_intact(object))
    assert.equal(("a"):rep(5000), body_of(object))
    C.moon_store_release(object)
  end)

  it("copies what is small where there is room for it, and gives it up all the same", function()
    local room = ffi.new("char[1024]")
    for n, size in ipairs({ 0, 1, 400, 1024 - #"head4", 1024 - #"head5" + 1, 5000 }) do
      local body = ("x"):rep(size)
      for _, expected in ipairs({ size, -1 }) do
        put(seat, n, body, nil, expected)
        local found, object = take(other, n, 0, room)
        assert.equal(OBJECT, found)
        assert.equal(size <= 1024 - 5, object.is_copied)
        assert.equal(body, body_of(object))
        assert.equal("head" .. n, helper.text(object.head))
        local cursor = ffi.new("struct moon_store_cursor")
        C.moon_store_rewind(object, cursor)
        assert.equal(math.min(size, 3), tonumber(C.moon_store_next(object, cursor, 3).len))
        assert.equal(math.max(size - 3, 0), tonumber(C.moon_store_next(object, cursor, 2 ^ 40).len))
        C.moon_store_remove(seat, key(n))
        if object.is_copied then
          assert.equal(0, tonumber(figures(store).used_bytes))
        end
        assert.is_true(C.moon_store_is_intact(object))
        assert.equal(body, body_of(object))
        C.moon_store_release(object)
        assert.equal(0, tonumber(figures(store).used_bytes))
      end
    end
  end)

  it("makes room by giving up what was not used", function()
    for n = 1, 20 do
      put(seat, n, ("hot"):rep(500))
    end
    for n = 100, 4000 do
      put(seat, n, ("cold"):rep(500))
      if n % 50 == 0 then
        for hot = 1, 20 do
          get(other, hot)
        end
      end
    end
    local kept = 0
    for n = 1, 20 do
      kept = kept + (get(seat, n) and 1 or 0)
    end
    assert.is_true(kept >= 18, kept)
    assert.is_true(figures(store).evictions > 1000)
    assert.is_true(figures(store).used_bytes <= 4 * MIB)
  end)

  it("takes a large object only when it is asked for again", function()
    local large = ("x"):rep(100000)
    assert.is_false(put(seat, 1, large))
    assert.is_true(put(seat, 1, large))
    assert.equal(large, (get(other, 1)))
    assert.is_false(put(seat, 2, ("x"):rep(2 * MIB)))
    assert.is_false(put(seat, 2, ("x"):rep(2 * MIB)))
  end)

  it("gives all memory back", function()
    for n = 1, 200 do
      put(seat, n, ("x"):rep(n * 97))
    end
    for n = 1, 200 do
      C.moon_store_remove(seat, key(n))
    end
    assert.equal(0, tonumber(figures(store).used_bytes))
    local writer = ffi.new("struct moon_store_writer")
    assert(C.moon_store_begin(seat, key(1), helper.slice("h"), -1, writer))
    C.moon_store_abort(writer)
    assert.equal(0, tonumber(figures(store).used_bytes))
  end)

  it("lets one fill what many miss, and wakes the others", function()
    assert.equal(OURS, C.moon_store_flight_begin(seat, key(1), true))
    assert.equal(WAIT, C.moon_store_flight_begin(other, key(1), true))
    local count = ffi.new("uint64_t[1]")
    assert.equal(-1, tonumber(C.read(C.moon_store_seat_fd(other), count, 8)))
    C.moon_store_flight_end(seat, key(1))
    assert.equal(8, tonumber(C.read(C.moon_store_seat_fd(other), count, 8)))
    assert.equal(OURS, C.moon_store_flight_begin(other, key(1), true))
  end)

  it("gives a dead worker's flight to the next who asks", function()
    local pid = shared.child(function()
      local own = C.moon_store_seat_new(store, 0)
      assert(C.moon_store_flight_begin(own, key(1), true) == OURS)
      ffi.C.kill(ffi.C.getpid(), shared.KILL)
    end)
    shared.wait(pid)
    assert.equal(OURS, C.moon_store_flight_begin(other, key(1), true))
  end)

  it("takes back what a dead worker held", function()
    put(other, 1, "a")
    local pid = shared.child(function()
      local own = C.moon_store_seat_new(store, 0)
      take(own, 1)
      local writer = ffi.new("struct moon_store_writer")
      assert(C.moon_store_begin(own, key(2), helper.slice("h"), 1000, writer))
      ffi.C.kill(ffi.C.getpid(), shared.KILL)
    end)
    shared.wait(pid)
    C.moon_store_remove(other, key(1))
    assert.is_true(figures(store).used_bytes > 0)
    C.moon_store_seat_free(C.moon_store_seat_new(store, 0))
    assert.equal(0, tonumber(figures(store).used_bytes))
  end)

  it("drops a shard in which a worker died, and does without it for a while", function()
    put(seat, 1, "a")
    local _, held = take(other, 1)
    local pid = shared.child(function()
      local own = C.moon_store_seat_new(store, 0)
      local die = ffi.cast(
        "bool (*)(const struct moon_store_info *, struct moon_slice, void *)", ffi.C.abort)
      C.moon_store_find(own, key(1), 0, die, nil, nil,
        ffi.new("struct moon_store_object"))
    end)
    assert.equal(6, shared.wait(pid) % 128) -- SIGABRT, under the lock
    assert.equal(NONE, (take(other, 1)))
    assert.equal(1, tonumber(figures(store).dropped_shards))
    assert.is_false(C.moon_store_is_intact(held))
    C.moon_store_release(held)
    assert.is_false(put(other, 2, "b"))
    C.moon_store_seat_free(C.moon_store_seat_new(store, 0))
    assert.equal(NONE, (take(other, 1)))
  end)

  it("survives workers that are killed at any instruction", function()
    local function work(own, rounds)
      for round = 1, rounds do
        local n = (round * 7919) % 500 + 1
        if round % 3 == 0 then
          local body = get(own, n)
          assert(body == nil or body == ("%06d"):format(n):rep(#body / 6), "a body of another key")
        elseif round % 50 == 1 then
          C.moon_store_remove(own, key(n))
        else
          put(own, n, ("%06d"):format(n):rep(n * 3))
        end
      end
    end
    for round = 1, 25 do
      local pid = shared.child(function()
        work(C.moon_store_seat_new(store, 0), 10000000)
      end)
      ffi.C.usleep(2000 + round * 531)
      ffi.C.kill(pid, shared.KILL)
      shared.wait(pid)
      work(other, 2000)
    end
    C.moon_store_seat_free(C.moon_store_seat_new(store, 0))
    assert.equal(NONE, (take(other, 100000)))
  end)

  it("keeps bodies whole while several processes work on the same keys", function()
    shared.together(2, function(i)
      local own = C.moon_store_seat_new(store, i - 1)
      for round = 1, 20000 do
        local n = (round * 31 * i) % 100 + 1
        if round % 2 == 0 then
          put(own, n, ("%06d"):format(n):rep(n * 10))
        else
          local body = get(own, n)
          assert(body == nil or body == ("%06d"):format(n):rep(n * 10))
        end
      end
    end)
  end)
end)
