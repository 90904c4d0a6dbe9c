-- SPDX-License-Identifier: Apache-2.0
--- Includes and requires go down only. The table is the one of docs/architecture.md.

local tree = require("spec.lint.tree")

-- What each folder of runtime/ may include, and the foreign headers that it alone touches.
local common = { moongate = true, base = true }
local function below(...)
  local allowed = setmetatable({}, { __index = common })
  for _, folder in ipairs({ ... }) do
    allowed[folder] = true
  end
  return allowed
end

local layers = {
  ["runtime/include/moongate"] = { may = { moongate = true } },
  ["runtime/base"] = { may = below() },
  ["runtime/shared"] = { may = below("shared") },
  ["runtime/net"] = { may = below("net") },
  ["runtime/http"] = { may = below("http") },
  ["runtime/upstream"] = { may = below("shared", "net", "http", "upstream") },
  ["runtime/script"] = { may = below("shared", "net", "http", "upstream", "script") },
  ["runtime/gateway"] = { may = below("shared", "net", "http", "upstream", "script", "gateway") },
  ["runtime/process"] = {
    may = below("shared", "net", "http", "upstream", "script", "gateway", "process"),
  },
}

local foreign = {
  { header = "^ev%.h$", only = { "runtime/net" } },
  { header = "^ares", only = { "runtime/net" } },
  { header = "^openssl/", only = { "runtime/net", "plugins" } },
  { header = "^nghttp2/", only = { "runtime/http" } },
  { header = "^hiredis/", only = { "runtime/upstream" } },
  { header = "^lua", only = { "runtime/script", "plugins", "runtime/include/moongate" } },
  { header = "^lauxlib", only = { "runtime/script", "plugins", "runtime/include/moongate" } },
  { header = "^pcre2", only = { "plugins" } },
  { header = "^maxminddb", only = { "plugins" } },
  { header = "^zlib%.h$", only = { "plugins", "runtime/http" } },
  { header = "^brotli/", only = { "plugins", "runtime/http" } },
  { header = "^libxml/", only = { "plugins" } },
  { header = "^libxslt/", only = { "plugins" } },
  { header = "^sqlite3", only = { "plugins" } },
}

local function folder_of(path)
  return path:match("^(runtime/include/moongate)/") or path:match("^(runtime/[^/]+)/")
    or path:match("^(plugins)/")
end

local function is_among(list, folder)
  for _, one in ipairs(list) do
    if one == folder then
      return true
    end
  end
  return false
end

--- Each `#include` of the C sources: visit(where, folder, kind, header).
local function each_include(visit)
  for _, path in ipairs(tree.files("runtime/*.c", "runtime/*.h", "plugins/*.c", "plugins/*.h")) do
    tree.each_line(tree.read(path), function(line, number)
      local open, header = line:match('^%s*#%s*include%s*([<"])([^>"]+)[>"]')
      if header then
        local kind = open == "<" and "system" or "ours"
        visit(path .. ":" .. number, folder_of(path), kind, header, path)
      end
    end)
  end
end

describe("layers of C", function()
  it("include only the layers below them", function()
    local wrong = {}
    each_include(function(where, folder, kind, header)
      local target = header:match("^([^/]+)/")
      local layer = layers[folder]
      local is_generated = header == "plugins.def"
      if kind == "ours" and layer and not is_generated and not (target and layer.may[target]) then
        wrong[#wrong + 1] = ('%s: %s may not include "%s"'):format(where, folder, header)
      end
    end)
    assert.same({}, wrong)
  end)

  it("leave each foreign library to its one folder", function()
    local wrong = {}
    each_include(function(where, folder, kind, header, path)
      -- The test kit is where busted's Lua state and the runtime meet.
      local is_test_kit = path:match("^runtime/process/testkit") and header:match("^l?u?a")
      for _, rule in ipairs(kind == "system" and foreign or {}) do
        if header:match(rule.header) and not is_among(rule.only, folder) and not is_test_kit then
          wrong[#wrong + 1] = ("%s: %s may not include <%s>"):format(where, folder, header)
        end
      end
    end)
    assert.same({}, wrong)
  end)
end)

-- What other plugins build on, so that there is one decoder of JSON and one of base64.
local plugin_libraries = { json = true, crypto = true }

describe("plugins", function()
  it("include public headers, their own, json and crypto; nothing of the runtime", function()
    local wrong = {}
    each_include(function(where, folder, kind, header, path)
      if folder == "plugins" and kind == "ours" then
        local own = path:match("^plugins/([^/]+)/")
        local target = header:match("^([^/]+)/")
        local is_ours = target == nil or target == own or plugin_libraries[target]
        if target ~= "moongate" and not is_ours then
          wrong[#wrong + 1] = ('%s: a plugin may not include "%s"'):format(where, header)
        end
      end
    end)
    assert.same({}, wrong)
  end)
end)

--- Each `require("…")` of the Lua sources under the patterns: visit(where, module).
local function each_require(patterns, visit)
  for _, path in ipairs(tree.files(unpack(patterns))) do
    tree.each_line(tree.read(path), function(line, number)
      local code = line:gsub("^%s*%-%-.*", "")
      for module in code:gmatch("require%s*%(?%s*[\"']([^\"']+)[\"']") do
        visit(path .. ":" .. number, module)
      end
    end)
  end
end

describe("Lua modules", function()
  it("of lua/moongate require moongate.* only, and ffi where they make the fuel cell", function()
    local wrong = {}
    local may_use_ffi = { ["lua/moongate/fuel.lua"] = true }
    local builtin = { bit = true, ["table.new"] = true, ["table.clear"] = true }
    each_require({ "lua/*.lua" }, function(where, module)
      local path = where:match("^(.-):")
      local is_test_kit = path:match("^lua/moongate/test") ~= nil
      local is_fine = module:match("^moongate%f[%W]") or builtin[module]
        or ((may_use_ffi[path] or is_test_kit) and module == "ffi")
        or (is_test_kit and module:match("^[a-z]+$"))
      if not is_fine then
        wrong[#wrong + 1] = ("%s: lua/moongate may not require %s"):format(where, module)
      end
    end)
    assert.same({}, wrong)
  end)

  it("of policies/ require moongate.* only: never ffi, never another policy", function()
    local wrong = {}
    each_require({ "policies/*.lua", "examples/*/policies/*.lua" }, function(where, module)
      local is_own_library = where:match("^examples/") and module:match("^lib%.")
      if not (module:match("^moongate%f[%W]") or module == "bit" or is_own_library) then
        wrong[#wrong + 1] = ("%s: a policy may not require %s"):format(where, module)
      end
    end)
    assert.same({}, wrong)
  end)
end)
