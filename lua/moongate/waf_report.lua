-- SPDX-License-Identifier: Apache-2.0
--- `moongate waf report LOG`: which rules fired on what, with the exclusion that would silence each.
--- Reads both forms of `audit_log`, and the gateway's own log, where other lines are passed over.
local json = require("moongate.json")

local M = {}

local PATHS_SHOWN = 3

-- The rules that add up scores fire with every other one.
local function is_sum(id)
  return id >= 949000 and id < 950000 or id >= 959000 and id < 960000 or id >= 980000 and id < 981000
end

local function add(report, hit)
  if is_sum(hit.id) then
    return
  end
  local key = hit.id .. " " .. (hit.variable or "")
  local entry = report.by_key[key]
  if not entry then
    entry = { id = hit.id, variable = hit.variable, msg = hit.msg or "", count = 0, paths = {},
      path_list = {} }
    report.by_key[key] = entry
    report.list[#report.list + 1] = entry
  end
  entry.count = entry.count + 1
  local path = hit.path or "?"
  if not entry.paths[path] then
    entry.paths[path] = 0
    entry.path_list[#entry.path_list + 1] = path
  end
  entry.paths[path] = entry.paths[path] + 1
end

local function add_json(report, line)
  local at = line:find("{", 1, true)
  local ok, record = pcall(json.decode, at and line:sub(at) or "")
  record = ok and type(record) == "table" and type(record.waf) == "table" and record.waf or record
  if not ok or type(record) ~= "table" or type(record.rules) ~= "table" then
    return false
  end
  for _, rule in ipairs(record.rules) do
    if type(rule) == "table" and tonumber(rule.id) then
      add(report, { id = tonumber(rule.id), variable = rule.variable, msg = rule.msg,
        path = record.path })
    end
  end
  return true
end

local function add_modsecurity(report, line)
  local id = tonumber(line:match('%[id "(%d+)"%]'))
  if not id then
    return false
  end
  local head = line:match('^(.-)%[file "') or line
  add(report, { id = id, variable = head:match(" at ([%w_]+:?[^%s]-)%.%s"),
    msg = line:match('%[msg "(.-)"%]'), path = line:match('%[uri "(.-)"%]') })
  return true
end

--- Takes a log in, line by line.
---@param lines function  an iterator
---@return table report  `list`: per rule and variable `id`, `variable`, `msg`, `count`, `paths`;
---                      most frequent first. `read`, `skipped`: lines
function M.collect(lines)
  local report = { list = {}, by_key = {}, read = 0, skipped = 0 }
  for line in lines do
    if line:find('"rules":[', 1, true) and add_json(report, line) or add_modsecurity(report, line) then
      report.read = report.read + 1
    else
      report.skipped = report.skipped + 1
    end
  end
  table.sort(report.list, function(a, b)
    if a.count ~= b.count then
      return a.count > b.count
    end
    return a.id ~= b.id and a.id < b.id or a.id == b.id and (a.variable or "") < (b.variable or "")
  end)
  return report
end

--- The entry of `exclusions` that silences one line of the report.
function M.exclusion(entry)
  if not entry.variable or entry.variable:find("^TX") then
    return ("{ rules = { %d } }"):format(entry.id)
  end
  return ("{ rules = { %d }, variables = { %q } }"):format(entry.id, entry.variable)
end

local function paths_of(entry)
  table.sort(entry.path_list, function(a, b)
    if entry.paths[a] ~= entry.paths[b] then
      return entry.paths[a] > entry.paths[b]
    end
    return a < b
  end)
  local shown = {}
  for i = 1, math.min(#entry.path_list, PATHS_SHOWN) do
    local path = entry.path_list[i]
    shown[i] = ("%s (%d)"):format(path:gsub("%c", "?"), entry.paths[path])
  end
  if #entry.path_list > PATHS_SHOWN then
    shown[#shown + 1] = ("%d more"):format(#entry.path_list - PATHS_SHOWN)
  end
  return table.concat(shown, ", ")
end

--- The report as people read it.
function M.render(report)
  local out = { ("%d rules and variables in %d lines; %d other lines\n"):format(#report.list,
    report.read, report.skipped) }
  for _, entry in ipairs(report.list) do
    out[#out + 1] = ("\n%6d x  rule %d  %s  %s\n          at %s\n          %s,\n"):format(entry.count,
      entry.id, (entry.variable or "-"):gsub("%c", "?"), (entry.msg:gsub("%c", "?")), paths_of(entry),
      M.exclusion(entry))
  end
  return table.concat(out)
end

--- Reads a file. @return text | nil, error
function M.run(path)
  local file, err = io.open(path, "rb")
  if not file then
    return nil, err
  end
  local report = M.collect(file:lines())
  file:close()
  return M.render(report)
end

return M
