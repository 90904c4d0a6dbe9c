-- SPDX-License-Identifier: Apache-2.0
jit.off(true, true)
local ffi = require("ffi")
local helper = require("spec.unit.helper")

local C = helper.lib([[
struct moon_replace_rule { struct moon_slice from, to; bool is_link; };
struct moon_replace;
struct moon_replaces { struct moon_replace *stages[8]; size_t count; };
typedef int moon_replaces_source_fn(void *owner, struct moon_slice *data, bool *is_done);
int moon_replaces_add(struct moon_replaces *all, struct moon_arena *arena,
                      const struct moon_replace_rule *rules, size_t count);
int moon_replaces_read(struct moon_replaces *all, moon_replaces_source_fn *source, void *owner,
                       struct moon_slice *data, bool *is_done);
void moon_replaces_fini(struct moon_replaces *all);
]])

local kept, runs, at

-- Each run ends at a page that cannot be read.
local source = ffi.cast("moon_replaces_source_fn *", function(_, data, is_done)
  at = at + 1
  kept = runs[at]
  data[0] = helper.guarded_slice(kept)
  is_done[0] = at == #runs
  return 0
end)

local function rules_of(list, is_link)
  local rules = ffi.new("struct moon_replace_rule[?]", #list)
  for i, one in ipairs(list) do
    rules[i - 1].from, rules[i - 1].to = helper.slice(one[1]), helper.slice(one[2])
    rules[i - 1].is_link = is_link or false
  end
  return rules
end

--- Sends the runs through passes, each a list of { from, to }. @return the text, the longest run
local function replace(passes, given, is_link)
  local all, arena, anchors = ffi.new("struct moon_replaces"), helper.arena(), {}
  for i, list in ipairs(passes) do
    anchors[i] = rules_of(list, is_link)
    assert.equal("ok", helper.rc(C.moon_replaces_add(all, arena, anchors[i], #list)))
  end
  runs, at = given, 0
  local data, is_done = ffi.new("struct moon_slice"), ffi.new("bool[1]")
  local out, longest = {}, 0
  repeat
    assert.equal("ok", helper.rc(C.moon_replaces_read(all, source, nil, data, is_done)))
    out[#out + 1] = data.data ~= nil and helper.text(data) or ""
    longest = math.max(longest, tonumber(data.len))
    assert(data.len > 0 or is_done[0], "an empty run in the middle")
  until is_done[0]
  C.moon_replaces_fini(all)
  return table.concat(out), longest
end

local cases = {
  { { { "ab", "x" } }, "abaab ab", "xax x" },
  { { { "aab", "x" } }, "aaab", "ax" },
  { { { "aa", "b" } }, "aaaaa", "bba" },
  { { { "a", "" } }, "banana", "bnn" },
  { { { "a", "aa" } }, "aba", "aabaa" },
  { { { "abc", "1" }, { "ab", "2" } }, "ababcab", "212" },
  { { { "a\0b", "x" } }, "za\0b\0", "zx\0" },
  { { { "end", "x" } }, "the en", "the en" },
  { { { "x", "y" } }, "", "" },
}

local links = {
  { "<http://a.test/b>", "<OWN/b>" }, { "HTTP://A.TEST", "OWN" }, { "http://a.testing", "http://a.testing" },
  { "http://a.test:80/", "http://a.test:80/" }, { "http://a.test.b", "http://a.test.b" },
  { "http://a.test-b", "http://a.test-b" }, { "xhttp://a.test ", "xhttp://a.test " },
  { "1http://a.test\"", "1OWN\"" }, { "http://a.tes", "http://a.tes" }, { "http://a.test?q", "OWN?q" },
}

describe("replacing in a body", function()
  it("gives the same wherever a run ends", function()
    local function check(passes, text, wanted, is_link)
      assert.equal(wanted, (replace(passes, { text }, is_link)))
      for i = 0, #text do
        for k = i, #text do
          assert.equal(wanted, (replace(passes, { text:sub(1, i), text:sub(i + 1, k), text:sub(k + 1) },
            is_link)), ("%q at %d and %d"):format(text, i, k))
        end
      end
    end
    for _, case in ipairs(cases) do
      check({ case[1] }, case[2], case[3])
    end
    for _, case in ipairs(links) do
      check({ { { "http://a.test", "OWN" } } }, case[1], case[2], true)
    end
    check({ { { "ab", "c" } }, { { "cc", "dab" } }, { { "da", "!" } } }, "abcabab-c", "!b!b-c")
  end)

  it("goes on in runs of a bounded size, whatever a text becomes", function()
    local long = ("y"):rep(1000)
    local out, longest = replace({ { { "x", long } }, { { "y", "zz" } } }, { ("x"):rep(5000), "x" })
    assert.equal(5001 * 2000, #out)
    assert.is_nil(out:find("[^z]"))
    assert.is_true(longest < 65536 + 2 * 66536, longest)
  end)

  it("keeps back no more than the start of a text", function()
    local wanted = ("n"):rep(1023) .. "m"
    local out = replace({ { { wanted, "!" } } }, { ("n"):rep(3000), ("n"):rep(1000), "m" })
    assert.equal(("n"):rep(4000 - 1023) .. "!", out)
  end)

  it("refuses texts and passes past its bounds", function()
    local all, arena = ffi.new("struct moon_replaces"), helper.arena()
    for _, text in ipairs { "", ("x"):rep(1025) } do
      local rules = rules_of { { text, "" } }
      assert.equal("limit", helper.rc(C.moon_replaces_add(all, arena, rules, 1)))
    end
    local rules = rules_of { { "a", "b" } }
    for _ = 1, 8 do
      assert.equal("ok", helper.rc(C.moon_replaces_add(all, arena, rules, 1)))
    end
    assert.equal("limit", helper.rc(C.moon_replaces_add(all, arena, rules, 1)))
    C.moon_replaces_fini(all)
  end)
end)
