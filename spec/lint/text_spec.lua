-- SPDX-License-Identifier: Apache-2.0
--- What every text file of the tree has in common.

local tree = require("spec.lint.tree")

local sources = {
  "*.c", "*.h", "*.def", "*.lua", "*.sh", "*.py", "*.cmake", "*.yml", "*.yaml", "*.redis",
  "Makefile", "CMakeLists.txt",
  ".clang-format", ".clang-tidy", ".editorconfig", ".luacheckrc", ".busted",
}
local texts = { "*.md", "*.json", "*.txt", "*.conf", "*.cfg", unpack(sources) }

-- Bytes that a test keeps as they came are no text of ours.
local function is_foreign(path)
  return path:match("^spec/fuzz/seeds/") or path:match("/fixtures/")
end

local function complaints(patterns, look)
  local found = {}
  for _, path in ipairs(tree.files(unpack(patterns))) do
    if not is_foreign(path) then
      look(path, tree.read(path), function(number, text)
        found[#found + 1] = ("%s:%d: %s"):format(path, number, text)
      end)
    end
  end
  return found
end

describe("text files", function()
  it("name their licence in one of the first three lines", function()
    assert.same({}, complaints(sources, function(path, text, complain)
      local head = text:match("^([^\n]*\n?[^\n]*\n?[^\n]*)")
      if not head:find("SPDX-License-Identifier: Apache-2.0", 1, true) then
        complain(1, "no SPDX-License-Identifier: Apache-2.0 in " .. path)
      end
    end))
  end)

  it("name no folder of the machine they were written on", function()
    local folders = { "/wo" .. "rk/", "/ro" .. "ot/", "/home/[a-z]" }
    assert.same({}, complaints(texts, function(_, text, complain)
      tree.each_line(text, function(line, number)
        for _, folder in ipairs(folders) do
          if line:find("%f[^%s\"'=:(]" .. folder) or line:find("^" .. folder) then
            complain(number, "a path of one machine: " .. line)
          end
        end
      end)
    end))
  end)

  it("leave nothing for later", function()
    local marks = { "TO" .. "DO", "FIX" .. "ME", "X" .. "XX" }
    assert.same({}, complaints(sources, function(_, text, complain)
      tree.each_line(text, function(line, number)
        for _, mark in ipairs(marks) do
          if line:find("%f[%w]" .. mark .. "%f[%W]") then
            complain(number, line)
          end
        end
      end)
    end))
  end)

  it("end with one newline, have no trailing blanks and no carriage returns", function()
    assert.same({}, complaints(texts, function(_, text, complain)
      if #text > 0 and (text:sub(-1) ~= "\n" or text:sub(-2) == "\n\n") then
        complain(select(2, text:gsub("\n", "")) + 1, "does not end with one newline")
      end
      tree.each_line(text, function(line, number)
        if line:find("[ \t\r]$") then
          complain(number, "trailing blank")
        end
      end)
    end))
  end)

  it("are indented with blanks, but for Makefile", function()
    assert.same({}, complaints(texts, function(path, text, complain)
      if path:match("Makefile$") then
        return
      end
      tree.each_line(text, function(line, number)
        if line:find("^%s*\t") then
          complain(number, "indented with a tab")
        end
      end)
    end))
  end)

  it("of C and Lua stay below 1,000 lines", function()
    local ours = { "runtime/*", "plugins/*", "lua/*", "policies/*" }
    assert.same({}, complaints(ours, function(path, text, complain)
      if path:match("_data%.lua$") then
        return -- data of others, made by a script
      end
      local _, lines = text:gsub("\n", "")
      if lines > 1000 then
        complain(lines, "past 1,000 lines: look for the seam")
      end
    end))
  end)
end)
