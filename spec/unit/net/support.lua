-- SPDX-License-Identifier: Apache-2.0
--- What the specs of runtime/net share: declarations, a loop to turn, streams whose callbacks are
--- Lua functions. C calls back into Lua, so nothing here may be compiled by the JIT.
jit.off(true, true)
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local M = {}

local C = helper.lib([[
struct moon_list { struct moon_list *prev; struct moon_list *next; };
struct moon_loop;
struct moon_io {
  struct moon_loop *loop; void (*callback)(struct moon_io *io, int events); void *owner;
  int fd; int events; void *impl[8];
};
struct moon_timer {
  struct moon_list link; struct moon_loop *loop; void (*callback)(struct moon_timer *timer);
  void *owner; int64_t deadline_ms; int64_t slot_ms; bool is_linked;
};
struct moon_task {
  struct moon_list link; void (*run)(struct moon_task *task); void *owner; bool is_queued;
};
struct moon_loop *moon_loop_new(void);
void moon_loop_free(struct moon_loop *loop);
void moon_loop_run(struct moon_loop *loop);
void moon_loop_turn(struct moon_loop *loop, int max_wait_ms);
void moon_loop_stop(struct moon_loop *loop);
int64_t moon_loop_now_ms(const struct moon_loop *loop);
void moon_loop_catch_up(struct moon_loop *loop);
void moon_loop_on_turn(struct moon_loop *loop, void (*callback)(void *arg), void *arg);
void moon_loop_on_signal(struct moon_loop *loop, int signal, void (*callback)(void *, int), void *);
void moon_io_init(struct moon_io *io, struct moon_loop *loop, int fd,
                  void (*callback)(struct moon_io *io, int events), void *owner);
void moon_io_watch(struct moon_io *io, int events);
void moon_io_stop(struct moon_io *io);
void moon_timer_init(struct moon_timer *, struct moon_loop *, void (*)(struct moon_timer *),
                     void *);
void moon_timer_set(struct moon_timer *timer, int64_t after_ms);
void moon_timer_set_at(struct moon_timer *timer, int64_t deadline_ms);
void moon_timer_stop(struct moon_timer *timer);
void moon_task_init(struct moon_task *task, void (*run)(struct moon_task *task), void *owner);
void moon_task_post(struct moon_loop *loop, struct moon_task *task);
void moon_task_cancel(struct moon_task *task);
int64_t moon_clock_us(void);
int64_t moon_clock_wall_ms(void);
void moon_clock_freeze(bool is_frozen);
void moon_clock_advance_us(int64_t us);

struct iovec { void *iov_base; size_t iov_len; };
struct moon_stream;
struct moon_tls_server;
struct moon_tls_client;
struct moon_stream_events { void (*on_readable)(void *owner); void (*on_writable)(void *owner); };
struct moon_tls_info {
  const char *version; const char *cipher;
  struct moon_slice sni, alpn, ja4;
  bool is_resumed, has_client_certificate, is_client_verified;
  struct moon_slice client_verify_error, client_subject, client_issuer, client_serial,
    client_fingerprint, client_common_name, client_not_before, client_not_after,
    client_dns_names, client_pem;
};
struct moon_stream *moon_stream_accept(struct moon_loop *, int fd, struct moon_tls_server *,
                                       const struct moon_stream_events *, void *owner);
int moon_stream_connect(struct moon_loop *, const void *address, uint32_t len,
                        struct moon_tls_client *, const char *name,
                        const struct moon_stream_events *, void *owner, struct moon_stream **out);
void moon_stream_free(struct moon_stream *stream);
int moon_stream_state(const struct moon_stream *stream);
int moon_stream_read(struct moon_stream *, struct moon_buf *into, size_t most, size_t *n_read);
int moon_stream_write(struct moon_stream *, const struct iovec *iov, int count);
size_t moon_stream_queued(const struct moon_stream *stream);
void moon_stream_pause_reading(struct moon_stream *stream, bool is_paused);
bool moon_stream_has_pending(const struct moon_stream *stream);
bool moon_stream_has_ended(struct moon_stream *stream);
void moon_stream_shutdown_write(struct moon_stream *stream);
void moon_stream_abort(struct moon_stream *stream);
const struct moon_tls_info *moon_stream_tls(struct moon_stream *stream);
struct moon_slice moon_stream_client_pem(struct moon_stream *stream);
int moon_stream_fd(const struct moon_stream *stream);
uint64_t moon_stream_bytes_read(const struct moon_stream *stream);

struct moon_listen_address { char sa[128]; uint32_t len; char text[128];
  uint32_t mode; bool is_dual; };
int moon_listen_address_parse(const char *text, struct moon_listen_address *out);
int moon_listen_bind(const struct moon_listen_address *, int backlog, bool is_reuseport,
                     char *error, size_t error_cap, int *fd_out);
uint16_t moon_listen_port(int fd);
struct moon_acceptor;
struct moon_acceptor *moon_acceptor_new(struct moon_loop *, int listen_fd,
  void (*)(void *owner, int fd, const void *peer, uint32_t peer_len), void *owner);
void moon_acceptor_free(struct moon_acceptor *acceptor);

void moon_log_set_sink(void (*sink)(void *arg, const char *line, size_t len), void *arg);
int socketpair(int domain, int type, int protocol, int sv[2]);
int close(int fd);
int raise(int signal);
ssize_t write(int fd, const void *buf, size_t n);
ssize_t read(int fd, void *buf, size_t n);
]])

M.C = C
M.READ, M.WRITE = 1, 2

--- Results of C functions, by name.
M.rc = helper.rc

-- Callbacks take a number as owner and find the Lua function here: LuaJIT has few callback slots.
local handlers, last_id, failure = {}, 0, nil

local function call(kind, owner, ...)
  local entry = handlers[tonumber(ffi.cast("intptr_t", owner))]
  if entry and entry[kind] then
    local ok, err = pcall(entry[kind], ...)
    if not ok then
      failure = failure or err -- an error may not cross C: M.turn raises it
    end
  end
end

--- Registers Lua functions; gives the `void *owner` for C.
function M.owner(functions)
  last_id = last_id + 1
  handlers[last_id] = functions
  return ffi.cast("void *", last_id), last_id
end

function M.forget(id)
  handlers[id] = nil
end

local callbacks = {
  timer = ffi.cast("void (*)(struct moon_timer *)", function(timer)
    call("fired", timer.owner, timer)
  end),
  task = ffi.cast("void (*)(struct moon_task *)", function(task)
    call("run", task.owner, task)
  end),
  io = ffi.cast("void (*)(struct moon_io *, int)", function(io, events)
    call("ready", io.owner, io, events)
  end),
  readable = ffi.cast("void (*)(void *)", function(owner)
    call("readable", owner)
  end),
  writable = ffi.cast("void (*)(void *)", function(owner)
    call("writable", owner)
  end),
  accept = ffi.cast("void (*)(void *, int, const void *, uint32_t)", function(owner, fd)
    call("accept", owner, fd)
  end),
}
M.callbacks = callbacks

local events = ffi.new("struct moon_stream_events", { callbacks.readable, callbacks.writable })

local loop

--- The loop of this spec.
function M.loop()
  loop = loop or C.moon_loop_new()
  return loop
end

function M.close_loop()
  if loop then
    C.moon_loop_free(loop)
    loop = nil
  end
  handlers = {}
end

function M.turn(wait_ms)
  C.moon_loop_turn(M.loop(), wait_ms or 0)
  if failure then
    local err = failure
    failure = nil
    error(err, 0)
  end
end

--- Turns the loop until `is_done()`, or until the limit (20 s) has passed; tells whether it was done.
function M.turn_until(is_done, limit_ms)
  local ends = os.time() + math.ceil((limit_ms or 20000) / 1000) + 1
  while not is_done() do
    if os.time() > ends then
      return false
    end
    M.turn(20)
  end
  return true
end

function M.timer(on_fired)
  local timer = ffi.new("struct moon_timer")
  local owner = M.owner({
    fired = function()
      on_fired(timer)
    end,
  })
  C.moon_timer_init(timer, M.loop(), callbacks.timer, owner)
  return timer
end

function M.task(run)
  local task = ffi.new("struct moon_task")
  C.moon_task_init(task, callbacks.task, (M.owner({ run = run })))
  return task
end

function M.io(fd, ready)
  local io = ffi.new("struct moon_io")
  C.moon_io_init(io, M.loop(), fd, callbacks.io, (M.owner({ ready = ready })))
  return io
end

function M.socketpair()
  local fds = ffi.new("int[2]")
  assert(C.socketpair(1, 1 + 2048 + 524288, 0, fds) == 0)
  return fds[0], fds[1]
end

local Stream = {}
Stream.__index = Stream

local function wrap()
  local s = setmetatable({ received = {}, readable_calls = 0, writable_calls = 0 }, Stream)
  s.buf = helper.buf(64 * 1024 * 1024)
  s.owner, s.id = M.owner({
    readable = function()
      s.readable_calls = s.readable_calls + 1
      if s.on_readable then
        return s.on_readable(s)
      end
      s:read()
    end,
    writable = function()
      s.writable_calls = s.writable_calls + 1
      if s.on_writable then
        s.on_writable(s)
      end
    end,
  })
  return s
end

function M.accept(fd, tls)
  local s = wrap()
  s.c = C.moon_stream_accept(M.loop(), fd, tls, events, s.owner)
  assert(s.c ~= nil)
  return s
end

--- @return stream, or nil and the result
function M.connect(port, tls, name, host)
  local s = wrap()
  local address = ffi.new("struct moon_listen_address")
  local text = host and host or ("127.0.0.1:" .. port)
  assert(C.moon_listen_address_parse(text, address) == 0)
  local out = ffi.new("struct moon_stream *[1]")
  local rc = C.moon_stream_connect(M.loop(), address.sa, address.len, tls, name, events, s.owner,
    out)
  if rc ~= 0 then
    return nil, M.rc(rc)
  end
  s.c = out[0]
  return s
end

local n_read = ffi.new("size_t[1]")

--- Reads until nothing more is there; `s.result` is what ended it.
function Stream:read(most)
  repeat
    self.result = M.rc(C.moon_stream_read(self.c, self.buf, most or 16384, n_read))
  until self.result ~= "ok"
  return self.result
end

function Stream:read_once(most)
  self.result = M.rc(C.moon_stream_read(self.c, self.buf, most or 16384, n_read))
  return self.result, tonumber(n_read[0])
end

function Stream:text()
  return helper.buf_text(self.buf)
end

function Stream:write(...)
  local parts = { ... }
  local iov = ffi.new("struct iovec[?]", #parts)
  for i, part in ipairs(parts) do
    iov[i - 1].iov_base = ffi.cast("void *", part)
    iov[i - 1].iov_len = #part
  end
  return M.rc(C.moon_stream_write(self.c, iov, #parts))
end

function Stream:state()
  return M.rc(C.moon_stream_state(self.c))
end

function Stream:tls()
  local info = C.moon_stream_tls(self.c)
  return info ~= nil and info or nil
end

function Stream:close()
  if self.c then
    C.moon_stream_free(self.c)
    self.c = nil
    M.forget(self.id)
  end
end

--- A listener on a port of the system's choice; accepted descriptors go to `on_accept(fd)`.
function M.listen(on_accept, text)
  local address = ffi.new("struct moon_listen_address")
  assert(C.moon_listen_address_parse(text or "127.0.0.1:0", address) == 0)
  local fd, err = ffi.new("int[1]"), ffi.new("char[256]")
  local rc = C.moon_listen_bind(address, 128, false, err, 256, fd)
  if rc ~= 0 then
    return nil, ffi.string(err)
  end
  local l = { fd = fd[0], port = C.moon_listen_port(fd[0]) }
  l.c = C.moon_acceptor_new(M.loop(), l.fd, callbacks.accept, (M.owner({ accept = on_accept })))
  function l.close()
    C.moon_acceptor_free(l.c)
    C.close(l.fd)
  end
  return l
end

--- Catches log lines until the function that it returns is called.
function M.catch_log()
  local lines = {}
  local sink = ffi.cast("void (*)(void *, const char *, size_t)", function(_, line, len)
    lines[#lines + 1] = ffi.string(line, len)
  end)
  C.moon_log_set_sink(sink, nil)
  return lines, function()
    C.moon_log_set_sink(nil, nil)
    sink:free()
  end
end

M.helper = helper
return M
