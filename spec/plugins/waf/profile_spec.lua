-- SPDX-License-Identifier: Apache-2.0
--- What the profile "api" catches and refuses: gotestwaf's attacks and texts (shared data), and the
--- requests of spec/plugins/waf/benign/. Prints the figures that docs/benchmarks.md has.
package.path = "spec/plugins/waf/?.lua;./lua/?.lua;" .. package.path
local engine, gotestwaf = require("engine"), require("gotestwaf")
local json = require("cjson")

local rules_dir = "/usr/share/modsecurity-crs/rules/"
local attacks = (os.getenv("MOONGATE_SHARED") or "../shared") .. "/conformance/waf/gotestwaf"
local PREVENTION = 3

local function read(path)
  local f = io.open(path, "rb")
  local text = f and f:read("*a")
  if f then
    f:close()
  end
  return text
end

local function load(profile)
  local settings = read("policies/waf.lua"):match("local BEFORE = %[%[\n(.-)%]%]")
  local api = profile == "api" and require("moongate.waf_api")
  return assert(engine.load({
    { name = "settings", text = settings }, { name = "before", text = api and api.before() or "" },
    "/etc/modsecurity/crs/crs-setup.conf", rules_dir .. "*.conf",
    { name = "after", text = api and api.after or "" },
  }))
end

local function is_refused(rules, request)
  return engine.run(rules, request, nil, { mode = PREVENTION, quiet = true }).status ~= nil
end

-- The sanitizers' build, which looks for other faults than these, takes each fourth of thousands of requests.
local STEP = (os.getenv("MOONGATE_BUILD") or ""):find("dev$") and 4 or 1

local function share(rules, requests)
  local refused, those, step = 0, {}, #requests > 5000 and STEP or 1
  for i = 1, #requests, step do
    local r = requests[i]
    if is_refused(rules, r) then
      refused = refused + 1
      those[#those + 1] = r.method .. " " .. r.uri .. " " .. (r.body or ""):sub(1, 200)
    end
  end
  return 100 * refused / math.ceil(#requests / step), those
end

local function attack_requests()
  local list = {}
  for _, dir in ipairs({ "community", "owasp", "owasp-api" }) do
    for _, c in ipairs(gotestwaf.load(attacks .. "/" .. dir)) do
      list[#list + 1] = c.request
    end
  end
  return list
end

local function form(fields)
  local parts = {}
  for name, value in pairs(fields) do
    parts[#parts + 1] = name .. "=" .. gotestwaf.encoders.URL(value)
  end
  table.sort(parts)
  return table.concat(parts, "&")
end

local benign_dir = "spec/plugins/waf/benign/"

-- Written while the profile was made, and so no measure of it; the others were written afterwards.
local TUNED_ON = { "browsers", "sdks", "json_apis", "forms", "chat" }

local function requests_of(paths)
  local list = {}
  for _, path in ipairs(paths) do
    for _, c in ipairs(json.decode((assert(read(path))))) do
      local headers = {}
      local body = c.body or c.json and json.encode(c.json) or c.form and form(c.form)
      for field, value in pairs(c.headers) do
        headers[#headers + 1] = { field, value }
      end
      if c.json or c.form then
        headers[#headers + 1] = { "Content-Type",
          c.json and "application/json" or "application/x-www-form-urlencoded" }
      end
      list[#list + 1] = gotestwaf.request(c.method or "GET", c.uri, headers, body)
    end
  end
  return list
end

local function all_benign()
  local paths, pipe = {}, assert(io.popen("ls " .. benign_dir))
  for name in pipe:lines() do
    paths[#paths + 1] = benign_dir .. name
  end
  pipe:close()
  return requests_of(paths)
end

local function tuned_on()
  local paths = {}
  for i, name in ipairs(TUNED_ON) do
    paths[i] = benign_dir .. name .. ".json"
  end
  return requests_of(paths)
end

-- Lines of documents, code and scripts of this tree, in the places where developers' tools send such.
local function request_of_text(i, text)
  local encoded = json.encode(text)
  local places = {
    { "POST", "/v1/chat/completions", '{"model":"m","messages":[{"role":"user","content":' .. encoded .. "}]}" },
    { "PUT", "/api/files/7", '{"path":"a","content":' .. encoded .. "}" },
    { "PATCH", "/api/items/7", '[{"op":"replace","path":"/value","value":' .. encoded .. "}]" },
    { "POST", "/snippets", "text=" .. gotestwaf.encoders.URL(text), "application/x-www-form-urlencoded" },
    { "GET", "/search?q=" .. gotestwaf.encoders.URL(text:sub(1, 80)) },
    { "POST", "/api/log", '{"lines":[{"msg":' .. encoded .. "}]}" },
  }
  local p = places[i % #places + 1]
  return gotestwaf.request(p[1], p[2], p[3] and { { "Content-Type", p[4] or "application/json" } } or {}, p[3])
end

local function requests_of_texts()
  local list, pipe = {}, assert(io.popen("ls docs/*.md lua/moongate/*.lua gateway/*.c base/*.c scripts/* *.md Makefile"
    .. " CMakeLists.txt 2>/dev/null | grep -v waf"))
  for path in pipe:lines() do
    local lines = {}
    for line in (read(path) or ""):gmatch("[^\n]+") do
      lines[#lines + 1] = line
    end
    for i = 1, #lines, 11 do
      list[#list + 1] = request_of_text(#list, table.concat(lines, "\n", i, math.min(#lines, i + i % 5)))
    end
  end
  pipe:close()
  return list
end

-- Each attack of attacks.json as a member of JSON, in the query and in a form.
local function attacks_of_ours()
  local list = {}
  for _, payloads in pairs(json.decode((assert(read("spec/plugins/waf/attacks.json"))))) do
    for _, payload in ipairs(payloads) do
      local encoded = gotestwaf.encoders.URL(payload)
      list[#list + 1] = gotestwaf.request("GET", "/api/items?id=" .. encoded, {})
      list[#list + 1] = gotestwaf.request("POST", "/api/items", { { "Content-Type", "application/json" } },
        json.encode({ name = "x", value = payload }))
      list[#list + 1] = gotestwaf.request("POST", "/api/items",
        { { "Content-Type", "application/x-www-form-urlencoded" } }, "a=b&value=" .. encoded)
    end
  end
  return list
end

-- What the profile is lenient to: words come first, or the field is one for text.
local function attacks_behind_words(file)
  local list = {}
  for _, payload in ipairs(json.decode((assert(read("spec/plugins/waf/" .. file))))) do
    local encoded = gotestwaf.encoders.URL(payload)
    list[#list + 1] = gotestwaf.request("GET", "/search?q=" .. encoded, {})
    list[#list + 1] = gotestwaf.request("GET", "/items?id=" .. encoded, {})
    list[#list + 1] = gotestwaf.request("POST", "/comments",
      { { "Content-Type", "application/x-www-form-urlencoded" } }, "post=1&comment=" .. encoded)
    for _, name in ipairs({ "message", "name" }) do
      list[#list + 1] = gotestwaf.request("POST", "/api/items", { { "Content-Type", "application/json" } },
        json.encode({ [name] = payload }))
    end
  end
  return list
end

describe("the profile for APIs", function()
  local is_here = engine.lib and read(rules_dir .. "REQUEST-901-INITIALIZATION.conf")

  it("refuses less than 1 of 100 benign requests", function()
    if not is_here then
      return pending("neither the engine's library nor the rules are here")
    end
    local api, crs, requests = load("api"), load("crs"), all_benign()
    local part, those = share(api, requests)
    print(("waf: api refuses %.1f %% of %d benign requests, crs %.1f %%"):format(part, #requests,
      (share(crs, requests))))
    assert.is_true(#requests > 6000)
    assert.is_true(part < 1, table.concat(those, "\n"))
    assert.are.same({}, select(2, share(api, tuned_on())))
  end)

  it("refuses no more of them where a program calls by address, without Accept and User-Agent", function()
    if not is_here then
      return pending("neither the engine's library nor the rules are here")
    end
    local requests = all_benign()
    for _, r in ipairs(requests) do
      local kept = { { "Host", "127.0.0.1:8080" } }
      for _, h in ipairs(r.headers) do
        local name = h[1]:lower()
        if name ~= "host" and name ~= "accept" and name ~= "user-agent" then
          kept[#kept + 1] = h
        end
      end
      r.headers = kept
    end
    local part, those = share(load("api"), requests)
    print(("waf: api refuses %.1f %% of them called by address, without Accept and User-Agent"):format(part))
    assert.is_true(part < 1.5, table.concat(those, "\n"))
  end)

  it("refuses less than 1 of 100 requests made of the texts of this tree", function()
    if not is_here then
      return pending("neither the engine's library nor the rules are here")
    end
    local requests = requests_of_texts()
    local part, those = share(load("api"), requests)
    print(("waf: api refuses %.2f %% of %d requests made of texts"):format(part, #requests))
    assert.is_true(#requests > 1000)
    assert.is_true(part < 1, table.concat(those, "\n"))
  end)

  it("catches at least 95 of 100 common attacks in JSON, queries and forms", function()
    if not is_here then
      return pending("neither the engine's library nor the rules are here")
    end
    local requests = attacks_of_ours()
    local caught = share(load("api"), requests)
    print(("waf: api catches %.1f %% of %d attacks of ours, crs %.1f %%"):format(caught, #requests,
      (share(load("crs"), requests))))
    assert.is_true(caught >= 95)
  end)

  for what, file in pairs({ ["in the places where APIs take values"] = "attack_requests.json",
    ["as outsiders would place them"] = "attacks_of_outsiders.json",
    ["as strangers would place them"] = "attacks_of_strangers.json",
    ["as passers-by would place them"] = "attacks_of_passers_by.json" }) do
    it("catches at least 95 of 100 attacks " .. what, function()
      if not is_here then
        return pending("neither the engine's library nor the rules are here")
      end
      local requests = requests_of({ "spec/plugins/waf/" .. file })
      local caught = share(load("api"), requests)
      print(("waf: api catches %.1f %% of %d attacks %s, crs %.1f %%"):format(caught, #requests, what,
        (share(load("crs"), requests))))
      assert.is_true(caught >= 95)
    end)
  end

  for what, file in pairs({ ["behind words"] = "attacks_behind_words.json",
    ["behind few words"] = "attacks_few_words.json" }) do
    it("catches at least 90 of 100 attacks " .. what .. ", in fields that hold text and others", function()
      if not is_here then
        return pending("neither the engine's library nor the rules are here")
      end
      local requests = attacks_behind_words(file)
      local caught = share(load("api"), requests)
      print(("waf: api catches %.1f %% of %d attacks %s, crs %.1f %%"):format(caught, #requests, what,
        (share(load("crs"), requests))))
      assert.is_true(caught >= 90)
    end)
  end

  it("catches at least 80 of 100 attacks of gotestwaf, and refuses less than 2 of its texts", function()
    if not is_here or not read(attacks .. "/LICENSE") then
      return pending("gotestwaf's cases are not here")
    end
    local rules = load("api")
    local caught = share(rules, attack_requests())
    local texts = {}
    for _, c in ipairs(gotestwaf.load(attacks .. "/false-pos")) do
      texts[#texts + 1] = c.request
    end
    local refused, those = share(rules, texts)
    print(("waf: api catches %.1f %% of gotestwaf, refuses %.1f %% of its texts; crs catches %.1f %%")
      :format(caught, refused, (share(load("crs"), attack_requests()))))
    assert.is_true(caught >= 95)
    assert.is_true(refused < 2, table.concat(those, "\n"))
  end)
end)
