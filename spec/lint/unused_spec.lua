-- SPDX-License-Identifier: Apache-2.0
--- What a header offers, somebody calls; what is measured, a page tells.

local tree = require("spec.lint.tree")

-- What only specs, fuzz targets and the benchmark call, to see what cannot be seen otherwise.
local FOR_SPECS = {
  moon_clock_cpu_us = true, moon_flood_bytes = true, moon_json_read_is_valid = true,
  moon_log_set_sink = true, moon_metrics_read = true, moon_random_seed = true, moon_redis_stats = true,
  moon_stream_has_pending = true, moon_utf8_is_valid = true,
}

local function code_of(path)
  return (tree.read(path):gsub("/%*.-%*/", " "):gsub("//[^\n]*", " "))
end

describe("functions", function()
  it("of headers in runtime are called, or kept for specs", function()
    local declared, mentions, heads = {}, {}, {}
    for _, path in ipairs(tree.files("runtime/*.[ch]", "plugins/*.[ch]")) do
      local code = "\n" .. code_of(path)
      for name in code:gmatch("%f[%w_](moon_[%w_]+)%f[^%w_]") do
        mentions[name] = (mentions[name] or 0) + 1
      end
      -- Declarations and definitions begin at the margin, calls do not.
      for line in code:gmatch("\n(%a[^\n]*)") do
        local name = line:match("%f[%w_](moon_[%w_]+)%(")
        if name then
          heads[name] = (heads[name] or 0) + 1
          declared[name] = declared[name] or path:find("^runtime/.*%.h$") and path
        end
      end
    end
    local unused = {}
    for name, path in pairs(declared) do
      if path and mentions[name] <= heads[name] and not FOR_SPECS[name] then
        unused[#unused + 1] = path .. ": " .. name
      end
    end
    table.sort(unused)
    assert.same({}, unused)
    for name in pairs(FOR_SPECS) do
      assert.truthy(declared[name], name .. " is kept for specs, and is not there")
    end
  end)
end)

describe("metrics", function()
  it("are those of docs/operations.md, no more and no fewer", function()
    local made, told = {}, {}
    for _, path in ipairs(tree.files("runtime/*.c", "policies/*.lua")) do
      for name in code_of(path):gmatch('"(moongate_[%l_]+_%l+)"') do
        made[name] = made[name] or path
      end
    end
    made.moongate_affinity, made.moongate_hit = nil, nil -- a cookie, a variable of the rule engine
    for name in tree.read("docs/operations.md"):gmatch("\n| `(moongate_[%l_]+)`") do
      told[name] = "docs/operations.md"
    end
    for name, path in pairs(made) do
      assert.truthy(told[name], ("%s of %s is not in docs/operations.md"):format(name, path))
    end
    for name in pairs(told) do
      assert.truthy(made[name], name .. " of docs/operations.md is not made anywhere")
    end
  end)
end)
