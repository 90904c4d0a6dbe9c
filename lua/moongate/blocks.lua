-- SPDX-License-Identifier: Apache-2.0
--- What policies that hold other policies have in common.

local M = {}

--- Takes options apart whose list part is the policies inside.
---@param conf table
---@return table own the options with names
---@return table[] lists one, with the policies
function M.split(conf)
  local own, list = {}, {}
  for key, value in pairs(conf) do
    if type(key) == "number" then
      list[key] = value
    else
      own[key] = value
    end
  end
  return own, { { at = "", list = list } }
end

--- Gives a policy its function for each section that it may be listed in.
---@param policy moongate.Policy
---@param acting fun(section: string): fun(self: table, ctx: moongate.Ctx): moongate.Reply?
function M.act(policy, acting)
  for _, section in ipairs(policy.sections) do
    policy[section] = acting(section)
  end
end

--- A later section: the policies inside that act there run as they stand.
function M.follow(self, ctx, section)
  return self.blocks[section](ctx)
end

return M
