-- SPDX-License-Identifier: Apache-2.0
local shared = require("spec.unit.shared.support")
local helper = shared.helper

local C = helper.lib([[
struct moon_metrics;
struct moon_metrics *moon_metrics_new(struct moon_region *region, int workers, size_t series);
void moon_metrics_bind(struct moon_metrics *metrics, int worker);
int moon_metrics_series(struct moon_metrics *metrics, int kind, const char *family,
                        const char *help, struct moon_slice labels);
void moon_metrics_add(struct moon_metrics *metrics, int id, int64_t amount);
void moon_metrics_set(struct moon_metrics *metrics, int id, int64_t value);
void moon_metrics_observe(struct moon_metrics *metrics, int id, int64_t us);
int64_t moon_metrics_read(const struct moon_metrics *metrics, int id);
int moon_metrics_label(struct moon_buf *into, const char *name, struct moon_slice value);
int moon_metrics_write(const struct moon_metrics *metrics, struct moon_buf *out);
]])

local COUNTER, GAUGE, HISTOGRAM = 0, 1, 2

describe("metrics", function()
  local region, metrics

  before_each(function()
    region = shared.region(64 * 1048576)
    metrics = C.moon_metrics_new(region, 4, 100)
  end)

  local function series(kind, family, labels)
    return C.moon_metrics_series(metrics, kind, family, "Help.", helper.slice(labels or ""))
  end

  local function written()
    local buf = helper.buf(16 * 1048576)
    assert.equal("ok", helper.rc(C.moon_metrics_write(metrics, buf)))
    return helper.buf_text(buf)
  end

  it("has no series where a name is too long, of another kind, or one too many", function()
    assert.is_true(series(HISTOGRAM, "a_seconds") >= 0)
    assert.equal(-1, series(COUNTER, "a_seconds"))
    assert.is_true(series(COUNTER, ("n"):rep(95)) >= 0)
    assert.equal(-1, series(COUNTER, ("n"):rep(96)))
    local made = 0
    for i = 1, 300 do
      made = made + (series(COUNTER, ("c%d_total"):format(i)) >= 0 and 1 or 0)
    end
    assert.equal(254, made)
    C.moon_metrics_add(metrics, -1, 1)
    C.moon_metrics_set(metrics, -1, 1)
    C.moon_metrics_observe(metrics, -1, 1)
    assert.equal(0, tonumber(C.moon_metrics_read(metrics, -1)))
    assert.matches("c254_total", written())
  end)

  it("writes Prometheus' text format", function()
    C.moon_metrics_add(metrics, series(COUNTER, "a_total", 'x="1"'), 3)
    C.moon_metrics_add(metrics, series(COUNTER, "a_total", 'x="2"'), 4)
    C.moon_metrics_set(metrics, series(GAUGE, "b"), 7)
    C.moon_metrics_observe(metrics, series(HISTOGRAM, "c_seconds", 'r="q"'), 30000)
    local text = written()
    assert.truthy(text:find('# HELP a_total Help.\n# TYPE a_total counter\na_total{x="1"} 3\n'
      .. 'a_total{x="2"} 4\n', 1, true))
    assert.truthy(text:find("# TYPE b gauge\nb 7\n", 1, true))
    assert.truthy(text:find('c_seconds_bucket{r="q",le="0.025"} 0\n'
      .. 'c_seconds_bucket{r="q",le="0.05"} 1\n', 1, true))
    assert.truthy(text:find('c_seconds_bucket{r="q",le="+Inf"} 1\n'
      .. 'c_seconds_sum{r="q"} 0.030000\nc_seconds_count{r="q"} 1\n', 1, true))
  end)

  it("finds the same series again", function()
    assert.equal(series(COUNTER, "a_total", 'x="1"'), series(COUNTER, "a_total", 'x="1"'))
    assert.not_equal(series(COUNTER, "a_total", 'x="1"'), series(COUNTER, "b_total", 'x="1"'))
  end)

  it("sums what workers add, and clears the gauges of one that is replaced", function()
    local count, gauge = series(COUNTER, "a_total"), series(GAUGE, "b")
    shared.together(4, function(i)
      C.moon_metrics_bind(metrics, i - 1)
      for _ = 1, 10000 do
        C.moon_metrics_add(metrics, count, 1)
      end
      C.moon_metrics_set(metrics, gauge, 5)
    end)
    assert.equal(40000, tonumber(C.moon_metrics_read(metrics, count)))
    assert.equal(20, tonumber(C.moon_metrics_read(metrics, gauge)))
    shared.together(1, function()
      C.moon_metrics_bind(metrics, 2)
    end)
    assert.equal(40000, tonumber(C.moon_metrics_read(metrics, count)))
    assert.equal(15, tonumber(C.moon_metrics_read(metrics, gauge)))
  end)

  it("sends what goes past the cap to one series a family", function()
    for i = 1, 5000 do
      C.moon_metrics_add(metrics, series(COUNTER, "a_total", ('x="%d"'):format(i)), 1)
    end
    C.moon_metrics_add(metrics, series(HISTOGRAM, "late_seconds", 'y="1"'), 0)
    local text = written()
    assert.equal(5000 - 99, tonumber(text:match('a_total{overflow="other"} (%d+)')) + 1)
    assert.truthy(text:find('late_seconds_count{overflow="other"} 0', 1, true))
  end)

  it("makes one series when processes ask for it at once", function()
    shared.together(4, function()
      for i = 1, 50 do
        C.moon_metrics_add(metrics, series(COUNTER, "race_total", ('x="%d"'):format(i)), 0)
      end
    end)
    local n = select(2, written():gsub('race_total{x="', ""))
    assert.equal(50, n)
  end)

  it("works on after a worker was killed while it made a series", function()
    for round = 1, 20 do
      local many = C.moon_metrics_new(shared.region(64 * 1048576), 2, 20000)
      local pid = shared.child(function()
        for i = 1, 19000 do
          C.moon_metrics_series(many, COUNTER, "a_total", "", helper.slice(('x="%d"'):format(i)))
        end
        while true do end
      end)
      require("ffi").C.usleep(500 + round * 100)
      require("ffi").C.kill(pid, shared.KILL)
      shared.wait(pid)
      local a = C.moon_metrics_series(many, COUNTER, "a_total", "", helper.slice('x="1"'))
      local b = C.moon_metrics_series(many, COUNTER, "a_total", "", helper.slice('x="1"'))
      assert.equal(a, b)
    end
  end)

  it("escapes label values", function()
    local buf = helper.buf()
    assert.equal("ok", helper.rc(C.moon_metrics_label(buf, "a", helper.slice('x"\\\n\0y'))))
    assert.equal("ok", helper.rc(C.moon_metrics_label(buf, "b", helper.slice(""))))
    assert.equal('a="x\\"\\\\\\n?y",b=""', helper.buf_text(buf))
  end)
end)
