-- SPDX-License-Identifier: Apache-2.0
local router = require("moongate.router")

local function leaves(list)
  local out = {}
  for i, item in ipairs(list) do
    out[i] = { id = i, host = item[1], method = item[2], path = item[3], networks = item[4], listeners = item[5],
      source = { file = "g", line = i } }
  end
  return out
end

local routes = router.new(leaves({
  { "a.test", "GET", "/orders/{id}" },
  { "a.test", "GET", "/orders/mine" },
  { "a.test", "*", "/orders/*" },
  { "a.test", "*", "/secret/*", { "internal" } },
  { "a.test", "*", "/*" },
  { "*.test", "*", "/*" },
  { "*.b.test", "*", "/*" },
  { "*", "*", "/only" },
  { "a.test", "POST", "/x/{a}/z" },
  { "a.test", "*", "/x/y/*" },
}))

local function id(method, host, path, inside)
  local leaf, params = routes:match(method, host, path, function()
    return inside or false
  end)
  return leaf and leaf.id, params
end

describe("the router", function()
  it("prefers the exact host, then the longest suffix, then any", function()
    assert.equal(5, (id("GET", "A.test:8080", "/")))
    assert.equal(6, (id("GET", "z.test", "/")))
    assert.equal(7, (id("GET", "x.y.b.test", "/")))
    assert.equal(8, (id("GET", "elsewhere", "/only")))
    assert.is_nil((id("GET", "elsewhere", "/")))
    assert.equal(8, (id("GET", "test", "/only")))
  end)

  it("prefers the most specific path at every segment", function()
    assert.equal(2, (id("GET", "a.test", "/orders/mine")))
    local leaf, params = id("GET", "a.test", "/orders/7")
    assert.equal(1, leaf)
    assert.same({ id = "7" }, params)
    assert.equal(3, (id("GET", "a.test", "/orders/7/lines")))
    assert.equal(3, (id("GET", "a.test", "/orders")))
    assert.equal(5, (id("GET", "a.test", "/")))
    assert.equal(10, (id("GET", "a.test", "/x/y/z")))
  end)

  it("goes on to the next less specific leaf where a method or network does not fit", function()
    assert.equal(3, (id("DELETE", "a.test", "/orders/mine")))
    assert.equal(5, (id("GET", "a.test", "/secret/x")))
    assert.equal(4, (id("GET", "a.test", "/secret/x", true)))
    assert.equal(9, (id("POST", "a.test", "/x/q/z")))
    assert.equal(5, (id("GET", "a.test", "/x/q/z")))
  end)

  it("looks only at what is served on a listener, and then at any host", function()
    local own = router.new(leaves({
      { "a.test", "*", "/*", nil, { "http" } },
      { "a.test", "*", "/*", nil, { "https", "local" } },
      { "b.test", "*", "/*", nil, { "http" } },
      { "*", "*", "/*" },
    }))
    for _, row in ipairs({ { "a.test", "http", 1 }, { "a.test", "local", 2 }, { "b.test", "https", 4 } }) do
      local leaf = own:match("GET", row[1], "/", nil, function(names)
        return (" " .. table.concat(names, " ") .. " "):find(" " .. row[2] .. " ", 1, true) ~= nil
      end)
      assert.equal(row[3], leaf.id)
    end
  end)

  it("knows one normal form of a path", function()
    for given, normal in pairs({ ["/a//b"] = "/a/b", ["/a/./b/../c"] = "/a/c", ["/%61%2d"] = "/a-",
      ["/a/"] = "/a/", ["/a/.."] = "/", ["/%c3%a9"] = "/%C3%A9", ["/"] = "/", ["/a/."] = "/a/",
      ["/a|b"] = "/a%7Cb", ["/{x}"] = "/%7Bx%7D" })
    do
      assert.equal(normal, (router.normal_path(given)), given)
    end
    for _, bad in ipairs({ "a", "/%", "/%2f", "/%2Fx", "/%5c", "/%00", "/..", "/%4", "/%zz", "/a b",
      "/\195\164", "/%252e", "/..;/a", "/\\", "/\127" }) do
      assert.is_nil((router.normal_path(bad)), bad)
    end
    assert.equal("/a%2Fb", (router.normal_path("/a%2fb", true)))
  end)

  it("refuses patterns that it cannot serve", function()
    for _, bad in ipairs({ "/a b", "/a?b", "/{a", "/{a}/{a}", "/*/x", "/x*", "/a//b", "/../x", "/{1}" }) do
      assert.truthy(router.check_path(bad), bad)
    end
    for _, good in ipairs({ "/", "/*", "/a/{b}/c", "/a/", "/a/{b}/*" }) do
      assert.is_nil(router.check_path(good), good)
    end
  end)
end)
