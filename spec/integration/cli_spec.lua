-- SPDX-License-Identifier: Apache-2.0
--- The command line: what it prints where, and its exit codes.
local json = require("cjson")
local process = require("spec.support.process")

local CONFIG = [[
return {
  name = "cli", access_log = false, %s
  listeners = { { name = "http", address = "127.0.0.1:0" } },
  sites = { { name = "all", hosts = { "*" }, routes = {
    { path = "/*", reply = { status = 200, body = "ok" } },
  } } },
}
]]

local dir

--- Standard output, standard error, and the exit code.
local function moongate(line)
  local errors = dir .. ".err"
  local output, status = process.run(("%s MOONGATE_RUN_DIR='%s.run' '%s' %s 2>'%s'")
    :format("", dir, process.binary, line, errors))
  return output, process.read(errors), status
end

local function write(path, text)
  process.run(("mkdir -p '%s'"):format((dir .. "/" .. path):match("^(.*)/")))
  process.write(dir .. "/" .. path, text)
end

describe("moongate", function()
  before_each(function()
    dir = process.run("mktemp -d /tmp/moongate-cli.XXXXXX"):match("%S+")
    process.run(("mkdir -m 700 '%s.run'"):format(dir))
  end)

  after_each(function()
    process.run(("rm -rf '%s' '%s.err' '%s.run'"):format(dir, dir, dir))
  end)

  it("lists its commands", function()
    local output, errors, status = moongate("help")
    assert.equal(0, status)
    assert.equal("", errors)
    for _, name in ipairs({ "run", "check", "explain", "reload", "status", "upgrade" }) do
      assert.truthy(output:find("\n  " .. name .. " "), name)
    end
    assert.equal(0, (select(3, moongate("--help"))))
    output, errors, status = moongate("")
    assert.equal("", output)
    assert.truthy(errors:find("usage:", 1, true))
    assert.equal(2, status)
  end)

  it("has help for each command", function()
    local output = moongate("help")
    local count = 0
    for name in output:gsub("\n  test [^\n]+", ""):gmatch("\n  (%l+) ") do -- busted's own
      local help, errors, status = moongate(name .. " --help")
      assert.equal(0, status, name)
      assert.equal("", errors)
      assert.truthy(help:find("^usage: moongate " .. name), help)
      count = count + 1
    end
    assert.is_true(count >= 10)
  end)

  it("names the near miss of a command and of an option", function()
    local output, errors, status = moongate("chekc .")
    assert.equal("", output)
    assert.equal(2, status)
    assert.truthy(errors:find('no command "chekc"; did you mean "check"?', 1, true), errors)
    output, errors, status = moongate("check --jsno .")
    assert.equal("", output)
    assert.equal(2, status)
    assert.truthy(errors:find('no option "--jsno"; did you mean "--json"?', 1, true), errors)
    errors = select(2, moongate("check -j ."))
    assert.truthy(errors:find('no option "-j"\n', 1, true), errors)
  end)

  it("refuses values and arguments that do not fit", function()
    for line, part in pairs({
      ["run --workers=many ."] = "a number from 0 to 256 is wanted",
      ["run --workers"] = "a value is missing",
      ["check --json=yes ."] = "it takes no value",
      ["check"] = "an argument is missing",
      ["check a b"] = "there are too many arguments",
    }) do
      local _, errors, status = moongate(line)
      assert.equal(2, status, line)
      assert.truthy(errors:find(part, 1, true), errors)
    end
  end)

  it("says its version", function()
    local output, _, status = moongate("version")
    assert.equal(0, status)
    assert.truthy(output:find("^moongate %d+%.%d+%.%d+\n$"))
    assert.truthy(json.decode((moongate("version --json"))).version)
  end)

  describe("check", function()
    it("is content with a good configuration", function()
      write("gateway.lua", CONFIG:format(""))
      local output, errors, status = moongate("check " .. dir)
      assert.equal(0, status, errors)
      assert.truthy(output:find("valid", 1, true))
      assert.is_true(json.decode((moongate("check --json " .. dir))).valid)
    end)

    it("reports every mistake with file, line and near miss", function()
      write("gateway.lua", CONFIG:format("lisseners = {}, region = 7,"))
      write("apis/orders.lua", "return {\n name = 'orders', path = '/orders' }\n")
      local output, errors, status = moongate("check " .. dir)
      assert.equal(1, status)
      assert.equal("", output)
      assert.truthy(errors:find('error: gateway.lua:2: lisseners: unknown field', 1, true), errors)
      assert.truthy(errors:find('did you mean "listeners"?', 1, true), errors)
      assert.truthy(errors:find("gateway.lua:2: region: expected", 1, true), errors)
      assert.truthy(errors:find("apis/orders.lua:2: path: unknown field", 1, true), errors)
      local told = json.decode((moongate("check --json " .. dir)))
      assert.is_false(told.valid)
      assert.is_true(#told.errors >= 3)
    end)

    it("warns of a certificate that has expired", function()
      process.run(("cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=t "
        .. "-days -1 -keyout old.key -out old.pem 2>&1 || openssl req -new -newkey ec -pkeyopt "
        .. "ec_paramgen_curve:P-256 -nodes -subj /CN=t -keyout old.key 2>/dev/null | openssl x509 -req "
        .. "-signkey old.key -days -1 -out old.pem 2>&1"):format(dir))
      write("gateway.lua", CONFIG:format('management = { address = ":1", tls = { certificates = '
        .. '{ { certificate = "old.pem", key = "old.key" } } } },'))
      local output, errors, status = moongate("check " .. dir)
      assert.equal(0, status, errors)
      assert.truthy(output:find("valid", 1, true))
      assert.matches("warning: gateway.lua:2: management.tls: the certificate .*/old.pem has expired", errors)
      assert.equal(1, #json.decode((moongate("check --json " .. dir))).warnings)
    end)

    it("warns of files that the workers' user may not read", function()
      if process.run("id -u"):match("%d+") ~= "0" then
        pending("needs root")
        return
      end
      process.run(("cd %s && chmod 755 . && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
        .. "-subj /CN=t -keyout own.key -out own.pem 2>&1 && chmod 644 own.pem && chmod 600 own.key"):format(dir))
      local config = CONFIG:format('user = "nobody", management = { address = ":1", tls = { certificates = '
        .. '{ { certificate = "own.pem", key = "own.key" } } } },')
      write("gateway.lua", config)
      local output, errors, status = moongate("check " .. dir)
      assert.equal(0, status, errors)
      assert.truthy(output:find("valid", 1, true))
      assert.matches("warning: user: workers run as nobody, who cannot load this: .*own.key", errors)
      process.run(("chmod 644 %s/own.key"):format(dir))
      assert.equal("", (select(2, moongate("check " .. dir))))
      write("gateway.lua", (config:gsub("nobody", "no-such-user")))
      assert.matches("warning: user: there is no user no%-such%-user", (select(2, moongate("check " .. dir))))
    end)

    it("waits for no file that is none, and misses none that a link has lost", function()
      local key = [[named_values = { key = { file = "key" } },]]
      local cases = {
        { "mkfifo key", key, "gateway.lua:2: named_values.key: file key cannot be read: is no regular file" },
        { "ln -s /dev/zero key", key, "file key cannot be read: is no regular file" },
        { "mkfifo geo", [[geoip = { country = "geo" },]], "geoip.country: expected an MMDB file" },
        { "mkfifo waf.conf", [[policies = { inbound = {
            require("moongate.policies").waf { ruleset = "waf.conf" } } },]], "waf.conf': Invalid argument" },
        { "mkdir apis; ln -s nowhere apis/orders.lua", "", "/apis/orders.lua: is a link to nothing" },
        { "mkdir apis; ln -s orders.lua apis/orders.lua", "", "/apis/orders.lua: is a link to nothing" },
        { "mkdir apis; mkfifo apis/orders.lua", "", "/apis/orders.lua: is no regular file" },
        { "mkdir lib; ln -s /dev/null lib/a.lua", "", "/lib/a.lua: is no regular file" },
      }
      for _, case in ipairs(cases) do
        process.run(("rm -rf '%s'/* && cd '%s' && %s"):format(dir, dir, case[1]))
        write("gateway.lua", CONFIG:format(case[2]))
        local _, errors, status = moongate(("check '%s'"):format(dir))
        assert.equal(1, status, case[1])
        assert.truthy(errors:find(case[3], 1, true), errors)
      end
    end)

    it("says that there is nothing to check", function()
      local _, errors, status = moongate("check " .. dir)
      assert.equal(1, status)
      assert.truthy(errors:find("there is no gateway.lua", 1, true), errors)
      assert.equal(1, (select(3, moongate("check /nowhere"))))
    end)
  end)

  it("explains a request", function()
    write("gateway.lua", CONFIG:format(""))
    local output, _, status = moongate("explain " .. dir .. " GET http://t.test/a/../b")
    assert.equal(0, status)
    assert.truthy(output:find("reply 200", 1, true), output)
    assert.truthy(output:find("gateway.lua:5", 1, true), output)
    local told = json.decode((moongate("explain --json " .. dir .. " http://t.test/")))
    assert.equal("all", told.route.site)
    write("gateway.lua", CONFIG:format([[policies = { inbound = {
      require("moongate.policies").set_header { name = "X-A", value = "a" }, function() end,
      require("moongate.policies").set_header { name = "X-B", value = "b" } } },]]))
    output = moongate("explain " .. dir .. " http://t.test/")
    assert.matches("1%. set_header [^\n]* %(without Lua%)\n", output)
    assert.matches("3%. set_header [^\n]*:%d+\n", output)
    for words, method in pairs({ ["GET http://t.test/"] = "GET", ["post http://t.test/"] = "POST",
      ["http://t.test/"] = "GET" })
    do
      local said = process.run(("own=$(realpath '%s') && cd '%s' && \"$own\" explain %s"):format(process.binary,
        dir, words))
      assert.truthy(said:find("^" .. method .. " http://t.test/\nsite       all\n"), said)
    end
    local _, errors, failed = moongate("explain " .. dir .. " GET nonsense")
    assert.equal(1, failed)
    assert.truthy(errors:find("nonsense", 1, true), errors)
  end)

  it("shows policies and their options", function()
    local output = moongate("policy list")
    assert.truthy(output:find("\nset_header "), output)
    output = moongate("policy show set_header")
    assert.truthy(output:find("exists_action", 1, true), output)
    local _, errors, status = moongate("policy show set_heder")
    assert.equal(1, status)
    assert.truthy(errors:find('did you mean "set_header"?', 1, true), errors)
    assert.equal(2, (select(3, moongate("policy lsit"))))
  end)

  it("writes a configuration to start from, and overwrites nothing", function()
    local _, errors, status = moongate("init " .. dir .. "/new")
    assert.equal(0, status, errors)
    assert.equal(0, (select(3, moongate("check " .. dir .. "/new"))))
    assert.equal(1, (select(3, moongate("init " .. dir .. "/new"))))
    assert.equal(0, (select(3, moongate("init --force " .. dir .. "/new"))))
  end)

  it("does not start where the access log cannot be written", function()
    write("gateway.lua", CONFIG:format('access_log = { path = "/nowhere/access.log" },'))
    local _, errors, status = moongate("run " .. dir)
    assert.equal(1, status)
    assert.truthy(errors:find('gateway.lua: access_log.path: expected a file that can be written, got '
      .. '"/nowhere/access.log": No such file or directory', 1, true), errors)
  end)

  it("does not start with a configuration that has a mistake", function()
    write("gateway.lua", "return {")
    for _, workers in ipairs({ 0, 2 }) do
      local output, errors, status = moongate(("run --workers=%d %s"):format(workers, dir))
      assert.equal(1, status)
      assert.equal("", output)
      assert.truthy(errors:find("gateway.lua:1:", 1, true), errors)
    end
  end)

  it("does not start where somebody listens already", function()
    write("gateway.lua", CONFIG:format(""))
    local gw = process.start { files = { ["gateway.lua"] = CONFIG:format("") }, workers = 2 }
    finally(function()
      gw:stop()
    end)
    write("gateway.lua", (CONFIG:format(""):gsub("127.0.0.1:0", "127.0.0.1:" .. gw:port("http"))))
    local _, errors, status = moongate("run --workers=2 " .. dir)
    assert.equal(1, status)
    assert.truthy(errors:find("cannot listen on 127.0.0.1:%d+: Address already in use"), errors)
  end)

  it("says that nobody serves a directory", function()
    write("gateway.lua", CONFIG:format(""))
    for _, command in ipairs({ "reload", "status", "upgrade" }) do
      local _, errors, status = moongate(command .. " " .. dir)
      assert.equal(2, status)
      assert.truthy(errors:find("no gateway of this user serves", 1, true), errors)
    end
  end)

  it("prints what it serves, and what there is to try", function()
    write("gateway.lua", CONFIG:format(""))
    write("try.txt", "Try this.\n")
    local ready = dir .. ".err.ready"
    local pid = process.run(("'%s' run --workers=0 --ready-file='%s' '%s' >'%s.out' 2>&1 & echo $!")
      :format(process.binary, ready, dir, dir)):match("%d+")
    assert.truthy(process.eventually(function()
      return process.read(dir .. ".out"):find("Try this.", 1, true)
    end))
    process.run("kill " .. pid)
    local said = process.read(dir .. ".out")
    process.run(("rm -f '%s.out' '%s'"):format(dir, ready))
    assert.truthy(said:find("http on 127.0.0.1:%d+"), said)
    assert.truthy(said:find("sites: all", 1, true), said)
  end)
end)
