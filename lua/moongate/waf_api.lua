-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (patterns)
--- What `profile = "api"` of p.waf adds to the Core Rule Set, as SecLang; docs/waf-api-profile.md
--- has the reason of each rule.
local M = {}

local VALUES = "ARGS|ARGS_NAMES|REQUEST_COOKIES|XML:/*"
local LAST = "setvar:'tx.anomaly_score_pl1=+%{tx.critical_anomaly_score}',"
  .. "setvar:'tx.inbound_anomaly_score_pl1=+%{tx.critical_anomaly_score}'"

-- id, variables, name of the attack, pattern. Case never matters; a quote is \x22, a comma \x2c.
local RULES = {
  { 9800100, VALUES, "NoSQL injection", [==[[\x22'\[{,]?\s*\$(?:where|n?or|and|ne|n?in|[gl]te?|regex|exists|expr|function)\b[\x22']?\s*[\]:=]|\bdb\.\w[\w.]*\.(?:insert|find|remove|delete|update|drop|aggregate|mapreduce)\w*\s*\(]==] },
  { 9800101, VALUES, "JavaScript loop", [==[;\s*(?:var|let|const)\s+\w+\s*=\s*new\s+date\s*\(|\bdo\s*\{.{0,80}\}\s*while\s*\(]==] },
  { 9800110, VALUES, "LDAP injection", [==[\([|&]\s*\(|\(!\s*\([|&\w]|\*\s*\)\s*\(|\*\(\||\(\s*\w+\s*[~<>]?=\s*\*\s*\)|\w:\d+(?:\.\d+)+:=]==] },
  { 9800120, VALUES, "Mail command injection", [==[[\r\n]\s*(?:quit\s*(?:[\r\n]|\z)|rcpt\s+to:|mail\s+from:|(?:helo|ehlo)\s|[a-z]\d+\s+(?:capability|fetch|select|login|logout)\b)]==] },
  { 9800130, VALUES, "Template injection", [==[\{\{\s*[\x22']?\d+[\x22']?\s*[*+-]\s*[\x22']?\d+|\{\{[^}]{0,120}(?:__class__|__globals__|\bconfig\.|\.mro\b|lipsum|cycler|_self\b|constructor)|[#$@*]\{\s*[\x22']?\d+\s*[*+-]\s*\d+|[#$@*]\{[^}]{0,80}(?:runtime|getclass|processbuilder|\bT\()]==] },
  { 9800140, VALUES, "Code for another machine", [==[!!(?:python|java|ruby|perl)/|\bserver\.(?:scripttimeout|createobject)|\bon\s+error\s+resume\s+next\b]==] },
  { 9800150, VALUES, "Command injection", [==[\x60\s*(?:id|whoami|uname|pwd|ls|cat|curl|wget|ping|nslookup|dig|sleep|env|hostname|ifconfig)\b[^\x60]{0,200}\x60|[|;&]\s*(?:getent|nslookup|dig|host|ping|curl|wget|nc|ncat|telnet)[\s+]+\S]==] },
  { 9800160, VALUES, "SQL injection", [==[(?:\d|^[^a-z]{0,8})['\x22]?\)+\s*(?:and|or)\b.{1,80}(?:[=<>]|\blike\b)|\bjson_(?:depth|extract|keys|length|valid|contains)\s*\(\s*['\x22]]==] },
  { 9800170, VALUES, "Cross-site scripting", [==[\b(?:alert|confirm|prompt|eval)\s*(?:\?\.\s*\(|\??\.\s*(?:call|apply|bind)\s*\()|\bconstructor\s*\(\s*['\x22]|<\s*<\s*scr|\b__proto__\s*\[]==] },
  { 9800180, VALUES, "Windows share or profile", [==[\x5c\x5c[^\x5c\s]{1,64}\x5c[a-z]\$\x5c|\bntuser\.dat\b]==] },
  { 9800190, "ARGS:xml.dtd", "Document type in XML", [==[<!|utf-7]==] },
  { 9800200, VALUES, "Header injection", [==[(?:[\r\n]|\xe5\x98[\x8a\x8d])\s*(?:set-cookie|location|content-(?:type|length)|http/1)\b\s*[:.]]==] },
  { 9800210, "ARGS|ARGS_PROSE|XML:/*|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer", "Look-up or callback of a scanner", [==[\$\{(?:jndi|(?:lower|upper|env|sys|::-)[^}]*\}?)\s*:|\$\{\s*\$\{|\b(?:burpcollaborator\.net|interact\.sh|oast\.(?:me|pro|live|site|online|fun)|oastify\.com)\b]==] },
  { 9800220, "ARGS|XML:/*", "Host of enclosed letters", [==[://[^\s/]{0,64}\xe2[\x91-\x93]]==] },
  { 9800300, "ARGS_PROSE", "SQL injection among words", [==[^[^\n]{0,40}\bunion\s+(?:all\s+|distinct\s+)?select\b]==] },
}

local function rule(r)
  return ('SecRule %s "@rx (?i)%s" "id:%d,phase:2,block,capture,t:none,t:urlDecodeUni,msg:\'%s\','
    .. "logdata:'%%{MATCHED_VAR}',tag:'moongate-api',tag:'paranoia-level/1',severity:'CRITICAL',%s\"")
    :format(r[2], (r[4]:gsub('"', "\\x22")), r[1], r[3], LAST)
end

--- Before the rule set.
---@param methods? string[]
function M.before(methods)
  local lines = { "SecMoonValues On" }
  for _, r in ipairs(RULES) do
    lines[#lines + 1] = rule(r)
  end
  lines[#lines + 1] = ('SecAction "id:9800001,phase:1,pass,nolog,t:none,setvar:\'tx.allowed_methods=%s\'"')
    :format(table.concat(methods or { "GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE" }, " "))
  return table.concat(lines, "\n") .. "\n"
end

--- After it: rules that judge what the route's operations and schemas judge better.
M.after = [[
SecRuleRemoveById 920420 920440
]]

return M
