-- SPDX-License-Identifier: Apache-2.0
--- C# of policy documents as Lua: what it comes to, and what is refused.
require("moongate.test") -- the spec runs in the process that has the native modules
local cs = require("moongate.csharp")
local csharp = require("moongate.import.csharp")
local json = require("moongate.json")

local token = "e30.eyJzdWIiOiJhZGEiLCJncm91cHMiOlsiYSIsImIiXSwibiI6MX0.x"

local function body(text)
  return { body = function() return text end, json = function() return json.decode(text) end }
end

local function context()
  local request = body('{"id":7,"list":[{"k":1},{"k":2}],"none":null,"a":{"b":["x","y"]},"flag":true}')
  for name, value in pairs({ method = "GET", path = "/Orders/7", host = "a.test", scheme = "https",
    url = "https://a.test/Orders/7?q=1", query_string = "q=1", client_ip = "192.0.2.7",
    raw_path = "/orders/7", headers = { A = "b, c", Authorization = "Bearer " .. token,
      Basic = "Basic YWRhOnB3" }, query = { q = "1" }, params = { id = "7" } }) do
    request[name] = value
  end
  local response = body("plain")
  response.status, response.headers = 503, { ["Retry-After"] = "2" }
  return { id = "r-1", elapsed = 0.5, request = request, response = response,
    api = { name = "orders" }, operation = { name = "get", path = "/{id}", method = "GET" },
    deployment = { name = "contoso", region = "west" },
    error = { reason = "Timeout", message = "late" },
    vars = { text = "x", number = 3, no = false, answer = { status = 201, body = '{"t":"u"}',
      headers = { ["content-type"] = "text/a" } }, jwt = { sub = "bob", scp = "a b", aud = "x" },
      ["named.key"] = "secret" } }
end

local function evaluate(text, ctx)
  local out, err = csharp.read(text)
  assert(out, ("%s: %s"):format(text, err))
  local source = out.expression and "return " .. out.expression or table.concat(out.body, "\n")
  local chunk = assert(load("local ctx, cs = ... " .. source, text), source)
  return chunk(ctx or context(), cs)
end

describe("expressions of Azure's policies", function()
  local CASES = {
    -- context
    { '@(context.Request.Method == "GET" && context.Request.Url.Scheme != "http")', true },
    { "@(context.Request.Url.Path + context.Request.Url.QueryString)", "/Orders/7?q=1" },
    { "@(context.Request.OriginalUrl.Path)", "/orders/7" },
    { "@(context.Request.Url.ToString())", "https://a.test/Orders/7?q=1" },
    { '@(context.Request.Headers["A"][0])', "b, c" },
    { '@(context.Request.Headers["A"].First())', "b, c" },
    { '@(context.Request.Headers.GetValueOrDefault("Nope"))', nil },
    { '@(context.Request.Headers.GetValueOrDefault("Nope", "other"))', "other" },
    { '@(context.Request.Headers.ContainsKey("A") ? "yes" : "no")', "yes" },
    { '@(int.Parse(context.Request.MatchedParameters["id"]) + 1)', 8 },
    { '@(context.Request.Url.Query.GetValueOrDefault("q", "") + "-" + context.RequestId)', "1-r-1" },
    { "@(context.Response.StatusCode >= 500)", true },
    { "@(context.Api.Name + context.Operation.UrlTemplate)", "orders/{id}" },
    { '@(context.User?.Id ?? "anonymous")', "anonymous" },
    { '@(context.Subscription == null)', true },
    { '@(context.Product?.Name)', nil },
    { "@(context.LastError.Reason)", "Timeout" },
    { "@(context.Deployment.Region)", "west" },
    { "@(context.Elapsed.TotalMilliseconds)", 500 },
    -- variables
    { '@((string)context.Variables["text"])', "x" },
    { '@(context.Variables.GetValueOrDefault<int>("number") * 2)', 6 },
    { '@(context.Variables.GetValueOrDefault<bool>("no", true))', false },
    { '@((bool)context.Variables["no"] || context.Variables.ContainsKey("text"))', true },
    { '@(context.Variables["number"] + "a")', "3a" },
    { '@((string)context.Variables["nope"] ?? "z")', "z" },
    { '@(((IResponse)context.Variables["answer"]).StatusCode)', 201 },
    { '@(((IResponse)context.Variables["answer"]).Body.As<JObject>()["t"].ToString())', "u" },
    { '@(context.Variables.GetValueOrDefault<IResponse>("answer").Headers'
      .. '.GetValueOrDefault("Content-Type", ""))', "text/a" },
    { '@("k:{{key}}")', "k:secret" },
    -- bodies
    { '@(context.Request.Body.As<JObject>(preserveContent: true)["id"].ToString())', "7" },
    { '@((int)context.Request.Body.As<JObject>()["list"][1]["k"])', 2 },
    { '@((string)context.Request.Body.As<JObject>()["none"])', nil },
    { '@(context.Request.Body.As<JObject>()["none"] == null)', true },
    { '@(context.Request.Body.As<JObject>()["x"]?["y"]?.ToString() ?? "deep")', "deep" },
    { '@((string)context.Request.Body.As<JObject>()["a"]["b"].First())', "x" },
    { '@(context.Request.Body.As<JObject>().Value<bool>("flag").ToString())', "True" },
    { "@(context.Response.Body.As<string>().Length)", 5 },
    { '@(context.Request.Body.As<JObject>()["list"].Any(i => (int)i["k"] == 2))', true },
    { '@(string.Join("|", context.Request.Body.As<JObject>()["list"].Select(i => i["k"])))', "1|2" },
    { '@(context.Request.Body.As<JObject>()["list"].Where(x => (int)x["k"] > 1).Count())', 1 },
    { '@(new JObject(new JProperty("a", 1), new JProperty("b", null)).ToString())', '{"a":1,"b":null}',
      true },
    { '@(new JObject { ["a"] = new JArray(1, "x") }.ToString())', '{"a":[1,"x"]}' },
    { '@(JObject.Parse("{\\"a\\":[5]}")["a"][0])', 5 },
    -- tokens
    { '@(context.Request.Headers.GetValueOrDefault("Authorization","").AsJwt()?.Subject)', "ada" },
    { '@(context.Request.Headers.GetValueOrDefault("Authorization","").AsJwt()'
      .. '.Claims.GetValueOrDefault("groups", ""))', "a,b" },
    { '@("no token".AsJwt()?.Claims.GetValueOrDefault("a"))', nil },
    { '@(((Jwt)context.Variables["jwt"]).Claims.GetValueOrDefault("nope", "none"))', "none" },
    { '@(((Jwt)context.Variables["jwt"]).Claims["scp"].Contains("a b"))', true },
    { '@(context.Request.Headers.GetValueOrDefault("Basic", "").AsBasic()?.Password)', "pw" },
    -- texts
    { "@(\"a,b,c\".Split(',')[1].ToUpper())", "B" },
    { '@("Orders".StartsWith("ord", StringComparison.OrdinalIgnoreCase))', true },
    { '@("Orders".EndsWith("ERS"))', false },
    { '@("abcabc".IndexOf("ca") + "abcabc".LastIndexOf("bc"))', 6 },
    { '@("abc".Substring(1) + "abc".Substring(0, 1) + "abc"[2])', "bcac" },
    { '@("a.b.c".Replace(".", "") + " x ".Trim() + "/p/".TrimEnd(\'/\'))', "abcx/p" },
    { '@("7".PadLeft(3, \'0\'))', "007" },
    { '@("A".Equals("a", StringComparison.OrdinalIgnoreCase) && !"A".Equals("a"))', true },
    { '@(string.IsNullOrEmpty("") && string.IsNullOrWhiteSpace(" ") && !string.IsNullOrEmpty("a"))',
      true },
    { '@(string.Format("{0}-{1}", 1, "a") + string.Concat("b", 2))', "1-ab2" },
    { '@($"{context.Request.Method}:{1 + 1}{{}}")', "GET:2{}" },
    { '@(@"a\\b""c")', 'a\\b"c' },
    { '@(Regex.IsMatch(context.Request.Url.Path, "^/orders", RegexOptions.IgnoreCase))', true },
    { '@(Regex.Replace("a1b2", "[0-9]", "-"))', "a-b-" },
    { '@(Regex.Match("v=12", "v=(\\\\d+)").Groups[1].Value)', "12" },
    { '@(System.Net.WebUtility.UrlEncode("a b&") + Uri.UnescapeDataString("%41"))', "a%20b%26A" },
    { '@(Convert.ToBase64String(System.Text.Encoding.UTF8.GetBytes("ada:pw")))', "YWRhOnB3" },
    { '@(Encoding.UTF8.GetString(Convert.FromBase64String("YWRh")))', "ada" },
    { '@(Convert.ToBase64String(new HMACSHA256(Encoding.UTF8.GetBytes("k"))'
      .. '.ComputeHash(Encoding.UTF8.GetBytes("m"))).Length)', 44 },
    { "@(Guid.NewGuid().ToString().Length)", 36 },
    -- numbers and choices
    { "@(7 / 2 + 7 % 4 - -1)", 7 }, { "@(7.0 / 2)", 3.5 }, { "@((1 + 2) * 3)", 9 },
    { "@(1 - (2 - 3))", 2 }, { '@(1 + 2 + "a" + 1 + 2)', "3a12" },
    { "@(true ? false : true)", false }, { '@(1 > 2 ? "a" : 2 > 1 ? "b" : "c")', "b" },
    { '@("abc".Length < 4 && (1 < 2) && "a".Length < new[] { 2 }[0])', true },
    { '@("a" + true + null)', "aTrue" }, { "@(Math.Max(1, Math.Abs(-3)))", 3 },
    { '@(bool.Parse("True") && !bool.Parse("false"))', true },
    -- statements
    { '@{ return context.Request.Method; }', "GET" },
    { '@{ var a = 1; a += 2; if (a == 3) { return "three"; } return "no"; }', "three" },
    { '@{ string end = null; if (end == null) { end = "x"; } else { throw new Exception("e"); } '
      .. 'return end + "y"; }', "xy" },
    { '@{ var b = context.Request.Body.As<JObject>(true); b.Remove("a"); b["id"] = "8"; '
      .. 'b["none"] = null; int n = 0; foreach (var i in b["list"]) { n += (int)i["k"]; } '
      .. 'b["n"] = n; return b["n"].ToString() + b.ContainsKey("a") + b["id"]; }', "3False8" },
    { "@{ int i = 0; while (i < 5) { i++; } // five\n /* and */ return i; return 0; }", 5 },
    { '@{ if (false) return 1; else if (true) return 2; else return 3; }', 2 },
  }

  for _, case in ipairs(CASES) do
    it("come to the same: " .. case[1]:sub(1, 90), function()
      local got = evaluate(case[1])
      if case[3] then -- members in any order
        assert.same(json.decode(case[2]), json.decode(got))
      else
        assert.equal(case[2], got)
      end
    end)
  end

  it("format times", function()
    assert.equal("2009-02-13T23:31:30Z", cs.date(1234567890, "yyyy-MM-ddTHH:mm:ssZ"))
    assert.equal("Fri, 13 Feb 2009 23:31:30 GMT", cs.date(1234567890, "R"))
    assert.equal("13 February 09, 11:31 PM 250", cs.date(1234567890.25, "dd MMMM yy, hh:mm tt fff"))
    local out = csharp.read('@(DateTime.UtcNow.AddMinutes(5).ToString("o"))')
    assert.equal('cs.date(cs.now() + 5 * 60, "o")', out.expression)
  end)

  it("read as a person would write them", function()
    for text, wanted in pairs({
      ['@(context.Request.Method == "GET" || !(1 > 2))'] = 'ctx.request.method == "GET" or not (1 > 2)',
      ['@(context.Request.Url.Path.StartsWith("/a"))'] = 'ctx.request.path:sub(1, 2) == "/a"',
      ["@{ return context.Response.StatusCode; }"] = "ctx.response.status",
      ['@(context.Request.Url.Query.GetValueOrDefault("q", "").ToLower())'] =
        '(ctx.request.query["q"] or ""):lower()',
      ["@(context.Subscription?.Id ?? context.RequestId)"] =
        "(ctx.subscription and ctx.subscription.id) or ctx.id",
    }) do
      assert.equal(wanted, csharp.read(text).expression, text)
    end
    assert.same({ "a", "b" }, csharp.read('@("{{b}}" + "{{a}}" + "{{b}}")').named)
  end)

  it("raise where C# does", function()
    for _, text in ipairs({ '@(int.Parse("x"))', '@("abc".Substring(4))', "@(1 / (1 - 1))",
      '@(context.Request.Body.As<JObject>()["none"]["x"])', '@(bool.Parse("1"))',
      '@{ throw new Exception("no"); }', "@(context.Response.Body.As<JObject>())",
      '@(context.Request.Body.As<JObject>()["list"].First(x => (int)x["k"] == 9))' }) do
      assert.is_false(pcall(evaluate, text), text)
    end
  end)

  it("are refused where they cannot be told, with what it is", function()
    for text, wanted in pairs({ ["@(System.IO.File)"] = "IO.File", ['@("a)'] = "without its end",
      ["@(1 +)"] = "the end", ["@{ int a = 1; a; return a; }"] = "does nothing", ["@()"] = "the end",
      ["@{ return 1; "] = "no expression", ["@(context.User.Groups)"] = "context.User.Groups",
      ["@(new StringBuilder())"] = "new StringBuilder", ["@(x)"] = "x",
      ["@{ for (int i = 0; i < 1; i++) { } return 1; }"] = "the statement for",
      ['@($"{1:N2}")'] = "a format", ["@{ os = 1; return 1; }"] = "os", ["@(1 2)"] = "2",
      ["@(context.Request.Certificate.Thumbprint)"] = "Thumbprint",
      ['@(Regex.IsMatch("a", context.RequestId))'] = "regular expression",
      ['@("a".Normalize())'] = "Normalize" }) do
      local out, err = csharp.read(text)
      assert.is_nil(out, text)
      assert.truthy(err:find(wanted, 1, true), ("%s: %s"):format(text, err))
    end
  end)

  it("end, whatever they are cut to", function()
    for _, case in ipairs(CASES) do
      for cut = 1, #case[1] do
        local out, err = csharp.read(case[1]:sub(1, cut) .. ")")
        assert.is_true(out ~= nil or type(err) == "string")
        assert.is_nil((err or ""):find("lua:", 1, true), case[1]:sub(1, cut) .. ")")
        if out then
          assert.truthy(load(out.expression and "return " .. out.expression
            or table.concat(out.body, "\n")), case[1]:sub(1, cut))
        end
      end
    end
  end)
end)
