-- SPDX-License-Identifier: Apache-2.0
--- Comments in C, and pages, name functions and files that are there.

local tree = require("spec.lint.tree")

local SOURCES = { "runtime/*.[ch]", "runtime/*.def", "plugins/*.[ch]", "plugins/*.def", "spec/*.[ch]" }

--- Calls `visit(path, code, comments)` for each C file: its text without comments, and they alone.
local function each_source(visit)
  for _, path in ipairs(tree.files(unpack(SOURCES))) do
    local comments = {}
    local function keep(comment)
      comments[#comments + 1] = comment
      return " "
    end
    local code = tree.read(path):gsub("/%*.-%*/", keep):gsub("//[^\n]*", keep)
    visit(path, code, table.concat(comments, "\n"))
  end
end

local function exists(path)
  for _, folder in ipairs({ "", "runtime/", "runtime/include/", "plugins/" }) do
    local file = io.open(folder .. path)
    if file then
      file:close()
      return true
    end
  end
  return false
end

describe("comments", function()
  it("name functions that are there", function()
    local known, missing = {}, {}
    each_source(function(_, code)
      for word in code:gmatch("moon_[%w_]+") do
        known[word] = true
      end
    end)
    each_source(function(path, _, comments)
      for word, after in comments:gmatch("%f[%w_](moon_[%w_]+)(.?)") do
        -- moon_stream_* and moon_plugin_<name> stand for many
        if not known[word] and not word:find("_$") and after ~= "*" and after ~= "<" then
          missing[#missing + 1] = path .. ": " .. word
        end
      end
    end)
    assert.same({}, missing)
  end)

  it("name files that are there", function()
    local missing = {}
    each_source(function(path, _, comments)
      for file in comments:gmatch("%f[%w/]([%w_]+/[%w_/]+%.[chdl][eu]?[fa]?)%f[^%w]") do
        if not exists(file) and not file:find("^apis/") then -- those of a configuration
          missing[#missing + 1] = path .. ": " .. file
        end
      end
    end)
    assert.same({}, missing)
  end)
end)

describe("pages", function()
  it("name files of the tree that are there, and link to what is", function()
    local missing = {}
    for _, path in ipairs(tree.files("*.md")) do
      local text, folder = tree.read(path), path:match("^(.*/)") or ""
      for file in text:gmatch("`([%w_]+/[%w_./-]+%.[%a]+)`") do
        local first = file:match("^[^/]+")
        local is_ours = first == "runtime" or first == "lua" or first == "docs" or first == "scripts"
          or first == "bench" or first == "spec" and not path:find("^examples/")
        if is_ours and not file:find("NAME", 1, true) and not exists(file) and not exists(folder .. file) then
          missing[#missing + 1] = path .. ": " .. file
        end
      end
      for target in text:gmatch("%]%(([%w_./-]+)%)") do
        if not exists(folder .. target) then
          missing[#missing + 1] = path .. ": " .. target
        end
      end
    end
    assert.same({}, missing)
  end)
end)
