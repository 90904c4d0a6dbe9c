-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (patterns)
--- What `profile = "api"` of p.waf adds to the Core Rule Set, as SecLang; docs/waf-api-profile.md
--- has the reason of each rule.
local M = {}

local VALUES = "ARGS|ARGS_NAMES|REQUEST_COOKIES|XML:/*"
local ANY = VALUES .. "|ARGS_PROSE"
local LAST = "setvar:'tx.anomaly_score_pl1=+%{tx.critical_anomaly_score}',"
  .. "setvar:'tx.inbound_anomaly_score_pl1=+%{tx.critical_anomaly_score}'"

-- id, variables, name of the attack, pattern. Case never matters; a quote is \x22, a comma \x2c.
local RULES = {
  { 9800100, VALUES, "NoSQL injection", [==[[\x22'\[{,]?\s*\$(?:where|n?or|and|ne|n?in|[gl]te?|regex|exists|expr|function)\b[\x22']?\s*[\]:=]|'\s*(?:\|\||&&)\s*'?[^']{0,20}'?\s*==|['\x22];\s*return\b|\bdb\.\w[\w.]*\.(?:insert|find|remove|delete|update|drop|aggregate|mapreduce)\w*\s*\(]==] },
  { 9800101, VALUES, "JavaScript loop", [==[;\s*(?:var|let|const)\s+\w+\s*=\s*new\s+date\s*\(|\bdo\s*\{.{0,80}\}\s*while\s*\(]==] },
  { 9800110, VALUES, "LDAP injection", [==[\([|&]\s*\(|\(!\s*\([|&\w]|\*\s*\)\s*\(|\*\(\||\(\s*\w+\s*[~<>]?=\s*\*\s*\)|\w:\d+(?:\.\d+)+:=]==] },
  { 9800120, VALUES, "Mail command injection", [==[[\r\n]\s*(?:quit\s*(?:[\r\n]|\z)|rcpt\s+to:|mail\s+from:|(?:helo|ehlo)\s|[a-z]\d+\s+(?:capability|fetch|select|login|logout)\b)]==] },
  { 9800130, VALUES, "Template injection", [==[\{\{\s*[\x22']?\d+[\x22']?\s*[*+-]\s*[\x22']?\d+|\{\{[^}]{0,120}(?:__class__|__globals__|\bconfig\.|\.mro\b|lipsum|cycler|_self\b|constructor)|[#$@*]\{\s*[\x22']?\d+\s*[*+-]\s*\d+|[#$@*]\{[^}]{0,80}(?:runtime|getclass|processbuilder|\bT\()]==] },
  { 9800140, ANY, "Code for another machine", [==[^\s*<%[=@!]?\s|^ro0ab[\w+/]|^aced0005|!!(?:javax?\.|python|java|ruby|perl)/|\bserver\.(?:scripttimeout|createobject)|\bon\s+error\s+resume\s+next\b]==] },
  { 9800150, VALUES, "Command injection", [==[\x60\s*(?:id|whoami|uname|pwd|ls|cat|curl|wget|ping|nslookup|dig|sleep|env|hostname|ifconfig)\b[^\x60]{0,200}\x60|^\s*[;|&]+\s*(?:id|ls|ps|pwd|env|w|who|dir|set)\b|[|;&]\s*(?:getent|nslookup|dig|host|ping|curl|wget|nc|ncat|telnet)[\s+]+\S]==] },
  { 9800151, VALUES, "Expression of a Unix shell", [==[\$\(\(?\s*[a-z/<{\d][^)]*\)|[<>]\(\s*[a-z/][^)]*\)|\$\{?ifs\b|\$\{[^}]{0,60}[:%/(]|\$@\w|\{[a-z]{1,16},[^}\s]{1,80}\}\s*[;|&]]==] },
  { 9800152, VALUES, "Program of a Unix shell", [==[(?:^|[;|&\x60(=\s])/?(?:usr/)?(?:local/)?s?bin/[a-z0-9]{1,16}\d?\s*(?:[;|&<>\x60]|\s-[a-z]|\s['\x22]?/)|(?:^|[;|&\x60(\s])/dev/(?:tcp|udp)/]==] },
  { 9800153, VALUES, "Call of PHP", [==[\b(?:system|exec|passthru|shell_exec|popen|proc_open|pcntl_exec|assert|phpinfo|eval|call_user_func|create_function|file_(?:get|put)_contents|fopen|readfile|fsockopen|base64_decode|gzinflate|str_rot13|preg_replace|unserialize|move_uploaded_file|chmod|unlink)\s*\(\s*(?:['\x22$@)]|[a-z_]+\s*\()]==] },
  { 9800160, VALUES, "SQL injection", [==[^[^'\x22\s]{0,40}['\x22]\)*\s*(?:#|--)\s*$|(?:\d|^[^a-z]{0,8})['\x22]?\)+\s*(?:and|or)\b.{1,80}(?:[=<>]|\blike\b)|\bjson_(?:depth|extract|keys|length|valid|contains)\s*\(\s*['\x22]]==] },
  { 9800170, VALUES, "Cross-site scripting", [==[\b(?:alert|confirm|prompt|eval)\s*(?:\?\.\s*\(|\??\.\s*(?:call|apply|bind)\s*\()|\bconstructor\s*\(\s*['\x22]|<\s*<\s*scr|\b__proto__\s*\[]==] },
  { 9800180, VALUES, "Windows share or profile", [==[\x5c\x5c[^\x5c\s]{1,64}\x5c[a-z]\$\x5c|\bntuser\.dat\b]==] },
  { 9800190, "ARGS:xml.dtd", "Document type in XML", [==[<!|utf-7|<x[si]:include]==] },
  { 9800200, VALUES, "Header injection", [==[(?:[\r\n]|\xe5\x98[\x8a\x8d])\s*(?:(?:set-cookie|location|content-(?:type|length)|http/1)\b\s*[:.]|(?:get|post|head|put|options|delete|patch|trace|connect)\s+\S+\s+http/\d)]==] },
  { 9800210, "ARGS|ARGS_PROSE|XML:/*|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer", "Look-up or callback of a scanner", [==[\$\{(?:jndi|(?:lower|upper|env|sys|::-)[^}]*\}?)\s*:|\$\{\s*\$\{|\b(?:burpcollaborator\.net|interact\.sh|oast\.(?:me|pro|live|site|online|fun)|oastify\.com)\b]==] },
  { 9800220, "ARGS|XML:/*", "Host of enclosed letters", [==[://[^\s/]{0,64}\xe2[\x91-\x93]]==] },
  { 9800230, VALUES .. "|REQUEST_URI_RAW", "Path that climbs out", [==[(?:^|[=:'\x22(\x2c;&?])\s*(?:\.?[/\x5c])*\.\.[;\x00]?[/\x5c]|\.\.[/\x5c]+\.\.(?:[/\x5c]|$)|\.{4}[/\x5c]{2}|%(?:c0%a[ef]|e0%80%a[ef]|uff0e|u221[56])|\xc0[\xae\xaf]|\xe0\x80[\xae\xaf]|\xc1\x9c]==] },
  { 9800240, VALUES, "Scheme that only servers read", [==[^\s*(?:gopher|dict|jar|netdoc|expect|php|phar|zip|glob|ogg|rar|compress\.zlib)://]==] },
  { 9800250, VALUES, "XPath injection", [==[\bcount\s*\(\s*/|['\x22]\]\s*\|\s*/|['\x22]\s*(?:or|and)\s+(?:contains|starts-with|string-length|name)\s*\(]==] },
  { 9800310, "ARGS_PROSE", "SQL injection behind words", [==[^[^'\x22]*['\x22]\)*\s*(?:union\s+(?:all\s+|distinct\s+)?select\b|(?:or|and)\s+(?:not\s+)?['\x22]?\w{1,30}['\x22]?\s*(?:=|<|>|like\b)\s*['\x22]?\w|;\s*(?:drop|delete|insert|update|select)\s)]==] },
  { 9800300, "ARGS_PROSE", "SQL injection among words", [==[^(?:(?!select\b|with\b)[^\n]){0,40}\bunion\s+(?:all\s+|distinct\s+)?select\b]==] },
}

-- What libinjection takes for SQL, where a mark of an injection stands beside: arithmetic and searches with
-- operators have none.
local SQLI = ([[
SecRule %s "@detectSQLi" "id:9800161,phase:2,block,capture,chain,t:none,t:utf8toUnicode,t:urlDecodeUni,t:removeNulls,msg:'SQL injection by its fingerprint',logdata:'%%{MATCHED_VAR_NAME}: %%{TX.0}',tag:'moongate-api',tag:'paranoia-level/1',severity:'CRITICAL'"
  SecRule MATCHED_VAR "@rx (?i)['\x22\x60;#=<>]|--|/\*|\b(?:union|select|sleep|benchmark|waitfor|exec(?:ute)?|case|having|between|r?like|regexp|is\s+(?:not\s+)?null|delay|procedure|char|concat)\b" "t:none,%s"
]]):format(VALUES .. "|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer", LAST)

local function rule(r)
  return ('SecRule %s "@rx (?i)%s" "id:%d,phase:2,block,capture,t:none,t:urlDecodeUni,msg:\'%s\','
    .. "logdata:'%%{MATCHED_VAR}',tag:'moongate-api',tag:'paranoia-level/1',severity:'CRITICAL',%s\"")
    :format(r[2], (r[4]:gsub('"', "\\x22")), r[1], r[3], LAST)
end

--- Before the rule set. The methods are those of `allowed_methods` where it is said.
function M.before()
  local lines = { "SecMoonValues On" }
  for _, r in ipairs(RULES) do
    lines[#lines + 1] = rule(r)
  end
  lines[#lines + 1] = SQLI
  lines[#lines + 1] = [[SecRule &TX:allowed_methods "@eq 0" "id:9800001,phase:1,pass,nolog,t:none,]]
    .. [[setvar:'tx.allowed_methods=GET HEAD POST OPTIONS PUT PATCH DELETE'"]]
  return table.concat(lines, "\n") .. "\n"
end

--- After it: rules that judge what the route's operations and schemas judge better, and rules in whose
--- place ours look closer (docs/waf-api-profile.md names each with its reason).
M.after = [[
SecRuleRemoveById 920420 920440
SecRuleRemoveById 200004 921110 921130 930100 930110 932130 932150 932160 933160 942100
]]

return M
