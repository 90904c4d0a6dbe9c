-- SPDX-License-Identifier: Apache-2.0
--- What README.md shows can be done as it stands there: its files, its commands, in its order. Only
--- ports, the placeholder of a key and the place of the binary are filled in.
local gateway = require("spec.support.gateway")
local process = require("spec.support.process")

local KEY = "acme-key-of-the-readme"
local README = process.read("README.md")

--- The fenced blocks of a language.
local function blocks(language)
  local found = {}
  for text in README:gmatch("\n```" .. language .. "\n(.-)\n```") do
    found[#found + 1] = text
  end
  return found
end

describe("README.md", function()
  local root, http, management, run_pid

  setup(function()
    root = process.run("mktemp -d /tmp/moongate-readme.XXXXXX"):match("%S+")
    local first, second
    http, management, first, second = gateway.free_ports(4)
    local fill = { ["8080"] = http, ["3443"] = management, ["9101"] = first, ["9102"] = second,
      ["…"] = KEY }
    for _, text in ipairs(blocks("lua")) do
      local path = text:match("^%-%- (shop/%S+%.lua)\n")
      assert(path, "an example that is no file of the shop:\n" .. text)
      for old, new in pairs(fill) do
        text = text:gsub(old, tostring(new))
      end
      process.run(("mkdir -p '%s/%s'"):format(root, path:match("^(.*)/")))
      process.write(root .. "/" .. path, text)
    end
  end)

  teardown(function()
    if run_pid then
      process.run("kill " .. run_pid)
    end
    process.run(("rm -rf '%s'"):format(root))
  end)

  --- Runs a command of the README in the folder that has the shop.
  local function run(command, tail)
    local binary = process.run("realpath " .. process.binary):match("%S+")
    command = command:gsub("^moongate ", "'" .. binary .. "' "):gsub(":3443", ":" .. management)
    return process.run(("cd '%s' && ACME_KEY='%s' MOONGATE_RUN_DIR='%s' %s %s"):format(root, KEY, root,
      command, tail or ""))
  end

  it("has the files of a shop", function()
    for _, path in ipairs({ "gateway.lua", "apis/orders.lua", "spec/orders_spec.lua" }) do
      assert.not_equal("", process.read(root .. "/shop/" .. path), path)
    end
  end)

  it("has commands that check, explain and run it, and answer", function()
    local commands = {}
    for _, text in ipairs(blocks("sh")) do
      for line in text:gmatch("[^\n]+") do
        local command = line:match("^(%l.-)%s*#") or line
        commands[#commands + 1] = not command:find("^make ") and command or nil
      end
    end
    assert.is_true(#commands >= 4, table.concat(commands, "\n"))
    for _, command in ipairs(commands) do
      if command:find("^moongate run ") then
        run_pid = run(command, (">'%s/log' 2>&1 & echo $!"):format(root)):match("%d+")
        assert.truthy(process.eventually(function()
          return process.read(root .. "/log"):find("ready: ", 1, true)
        end), process.read(root .. "/log"))
      else
        local said, status = run(command)
        assert.equal(0, status, command .. ":\n" .. said)
        assert.not_equal("", said, command)
      end
    end
    local said = run("moongate explain shop GET http://api.shop.test/external/orders/7")
    for _, part in ipairs({ "/external/", "orders", "get", "rate_limit", "rewrite_uri" }) do
      assert.truthy(said:find(part, 1, true), part .. " is missing:\n" .. said)
    end
    -- It serves what it says: an unknown path is the sinkpool's, the API asks for a key.
    local function status_of(path, fields)
      return (process.run(("curl -s -o /dev/null -w '%%{http_code}' -H 'Host: api.shop.test' %s "
        .. "http://127.0.0.1:%d%s"):format(fields or "", http, path)))
    end
    assert.equal("404", status_of("/nowhere"))
    assert.equal("401", status_of("/external/orders"))
    assert.equal("502", status_of("/external/orders", -- nobody is there
      ("-H 'Ocp-Apim-Subscription-Key: %s'"):format(KEY)))
  end)

  it("has commands for policies and specs that do what it says", function()
    local seen = 0
    for command in README:gmatch("`(moongate [^`\n]+)`") do
      if command:find("^moongate policy ") or command:find("^moongate test shop") then
        local said, status = run(command)
        assert.equal(0, status, command .. ":\n" .. said)
        seen = seen + 1
      end
    end
    assert.equal(3, seen)
    local said = run("moongate test shop/spec")
    assert.truthy(said:find("1 success", 1, true), said)
  end)

  it("links to files that are there", function()
    for path in README:gmatch("%]%(([%w/._-]+)%)") do
      assert.equal(0, (select(2, process.run(("test -e '%s'"):format(path)))), path)
    end
  end)
end)
