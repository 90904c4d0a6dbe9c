-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (patterns)
--- Rules of the profile for APIs for an attack behind a few words: `nice post <img src=x onerror=alert(1)>`. As the
--- words come first, such a value is prose, or tells of what it holds, and the rules for machines count little there.
--- These want few words before the attack, none of those that people begin with who ask, explain or report; of the
--- attack all that makes it run; and next to nothing after it: who speaks of it goes on. Case never matters; a quote is
--- \x22. docs/waf-api-profile.md has each in words.
local M = {}

-- Words of questions, of explanations, of what one does about an attack, or with a shell.
local TALK = [==[(?:how|what|why|when|where|which|who|does|did?|do|can|could|should|would|is|are|was|if|without|like|please|]==]
  .. [==[e\.g|i\.e|see|run|try|call|write|wrote|type|use|uses|using|add|put|paste|insert|remove|escape\w*|strip\w*|block\w*|]==]
  .. [==[filter\w*|prevent\w*|avoid\w*|reject\w*|allow\w*|accept\w*|contain\w*|render\w*|show\w*|explain|fix|report\w*|]==]
  .. [==[xss|sqli?|csp|injection|payload|attack\w*|exploit\w*|bug|error|warning|scanner|finding|html|markup|snippet|example|]==]
  .. [==[echo|cd|sudo|mkdir|export|set|git|npm|npx|yarn|pnpm|docker|podman|kubectl|helm|make|cmake|apt|apt-get|dnf|yum|brew|]==]
  .. [==[pip3?|python3?|node|go|cargo|mvn|gradle|cat|cp|mv|rm|ls|tar|chmod|chown|ssh|scp|curl|wget|test|time|env|for|while)\b]==]
local WORD = [==[(?!]==] .. TALK .. [==[)[a-z\d][\w.,!'-]{0,24}]==]

local function few(least, most)
  return ("^[\\s(>-]{0,4}(?:%s\\s{1,3}){%d,%d}"):format(WORD, least, most)
end

-- Calls that only attacks begin with, as a handler or in a script.
local RUNS = [==[(?:\w{1,12}\s*=\s*)?(?:alert|confirm|prompt|eval|atob|import|fetch|set(?:timeout|interval)|function|new\s+(?:image|function)|]==]
  .. [==[document\s*\.\s*(?:cookie|domain|location|write)|location|(?:window|self|top|parent)\s*[.\[]\s*['\x22]?(?:alert|eval|name|location|document))]==]
  .. [==[\s*(?:[(\x60.=\[&;,)'\x22\s/]|$)]==]
local HANDLER = [==[on(?:error|load\w{0,8}|focus\w{0,3}|blur|toggle|start|begin|end|repeat|finish|bounce|mouse\w{2,6}|pointer\w{2,10}|]==]
  .. [==[(?:animation|transition)\w{3,10}|pageshow|hashchange|message|wheel|scroll\w{0,4}|cut|copy|paste|invalid|play\w{0,5}|canplay\w{0,7}|]==]
  .. [==[resize|beforeunload|popstate|show)\s*=\s*['\x22\x60]?\s*(?:javascript:)?\s*]==]
-- The rest of the tag, an element's end or two, a word.
local END = [==[[^<>]{0,200}(?:</?[a-z][^<>]{0,40})?(?:>|$)(?:['\x22]?\s*</?[a-z][^<>]{0,60}>?|\s{0,2}[\w.]{1,16}){0,3}\s*$]==]
local BREAK = [==[(?:[\w.]{0,24}['\x22]?\s*>\s*)?]==]

local QUOTE = few(0, 3) .. [==[[\w.%)-]{0,24}(?:[\w.%)]\s{0,2}|[\w.%)]\s)['\x22]\)*(?:\s|/\*.{0,20}?\*/|\+)*]==]
local SPACE = [==[(?:\s|/\*.{0,20}?\*/|\+){0,9}]==]

local RULES = {
  { 9801000, "Cross-site scripting behind words", {
    few(1, 4) .. BREAK .. [==[(?:<[a-z][^<>]{0,60}>\s*){0,2}<[a-z][^<>]{0,120}?[\s/'\x22]]==] .. HANDLER .. RUNS .. END,
    few(1, 4) .. BREAK .. [==[(?:<[a-z][^<>]{0,60}>\s*){0,2}<script\b[^>]{0,60}>[^<]{0,80}?(?<![\w.])]==] .. RUNS .. END,
    few(1, 4) .. BREAK .. [==[<script\s[^>]{0,40}?src\s*=\s*(?:https?:)?//[^\s>'\x22]{3,100}\s*>?\s*(?:</script>)?\s*$]==],
    few(1, 4) .. BREAK .. [==[(?:<[a-z][^<>]{0,60}>\s*){0,2}<[a-z][^<>]{0,80}?\b(?:src|href|data|action|formaction|xlink:href|to|from|values)\s*=\s*['\x22]?\s*javascript:\s*]==]
      .. RUNS .. END,
    few(1, 4) .. BREAK .. [==[<iframe\s[^>]{0,60}?srcdoc\s*=\s*['\x22]?<[a-z][^>]{0,80}>?[^<]{0,40}\b(?:alert|eval|confirm|prompt)\b]==],
    few(0, 3) .. [==[[\w.-]{1,24}['\x22]\s+(?:[a-z]{3,12}\s+){0,2}]==] .. HANDLER .. RUNS,
  } },
  { 9801010, "SQL injection behind words", {
    QUOTE .. [==[(?:x?or|and|\|\||&&)(?:[\s('\x22]|/\*.{0,20}?\*/)[^a-z]{0,12}['\x22]?\w{0,12}['\x22]?\s*(?:=|<|>|\blike\b)\s*['\x22]?%?\w{0,12}%?['\x22)]*\s*(?:--.{0,8}|#.{0,8}|/\*.{0,4})?\s*$]==],
    QUOTE .. [==[(?:x?or|and|\|\||&&)\W{0,8}(?:\w{0,12}\W{1,4})?(?:select|ascii|substr\w{0,6}|mid|sleep|benchmark|extractvalue|updatexml|pg_sleep|exists|concat|char|version)\s*[(\s]]==],
    QUOTE .. [==[(?:group\s+by\s+\S{1,20}\s+)?having\s+['\x22]?\d+['\x22]?\s*[=<>]]==],
    QUOTE .. [==[order\s+by\s+\d+\s*(?:--|#)]==],
    few(0, 4) .. [==[(?:[\w.-]{0,24}['\x22]?\)*]==] .. SPACE .. [==[)?\d*\)*]==] .. SPACE
      .. [==[\bunion]==] .. SPACE .. [==[(?:all|distinct)?]==] .. SPACE .. [==[select\b[\s(/*+][\w.\x2c*()@\s'\x22:]{1,80}(?:\bfrom\s+[a-z_]\w{1,40}\s*(?:--.{0,8}|#.{0,8}|where\b.{0,60})?|--.{0,8}|#.{0,8})$]==],
  } },
  { 9801020, "Command behind words", {
    few(0, 3) .. WORD .. [==[\s{0,3}(?:;|\|\|?|&&?)\s*(?:cat|head|tail|less|more|nl)\s+/(?:etc|proc|root)/\S{1,60}\s*$]==],
    few(0, 3) .. WORD .. [==[\s{0,3}(?:;|\|\|?|&&?)\s*(?:(?:nc|ncat|netcat)\s+(?:-\w+\s+){0,3}[\w.-]+\.\w+\s+\d+|(?:wget|curl)\s+(?:-\w+\s+){0,3}https?://\S+(?:\s*\|\s*(?:ba)?sh)?|ping\s+-[cn]\s*\d+\s+\S+|rm\s+-rf?\s+(?:/|/\*|~))\s*$]==],
    few(0, 3) .. WORD .. [==[(?:\s{0,3}[|]{1,2}\s?|&&\s?)(?:id|whoami)\s*$]==],
    -- "name; id" is a list of columns
    few(0, 3) .. [==[(?!\w*(?:name|mail|date|time|key|number|type|label|status|value|column|field|by|or|and)\b)]==] .. WORD
      .. [==[\s{0,3};\s?(?:id|whoami|pwd|uname(?:\s+-\w+)?|ls(?:\s+-\w+|\s+/\w*)?|ps(?:\s+-?\w+)?)\s*;?\s*$]==],
    few(0, 3) .. [==[(?:]==] .. WORD .. [==[)?(?:\$\((?:id|whoami|uname(?:\s+-a)?|cat\s+/\S{1,60}|(?:curl|wget)\s[^)]{1,100})\)|\x60(?:id|whoami|uname(?:\s+-a)?|cat\s+/\S{1,60})\x60)\s*$]==],
    [==[^\s*(?:[a-z][\w.,-]{0,24}\s){1,3}(?:\.{2,4}[/\x5c]{1,2}){3,}(?:etc|proc|root|windows|winnt)[/\x5c]\S{1,60}\s*$]==],
  } },
  { 9801030, "Template that computes behind words", {
    few(1, 3) .. [==[(?:\{\{-?|\$\{|#\{|<%=?)\s*\{?\s*(?:\d{1,6}\s*\*\s*'?\d{1,6}|(?:system|exec|popen|eval)\s*\(|config\.items\(\)|['\x22(\[]{2,3}\W?\.__\w+|\w{1,20}(?:\.\w{1,20}){0,3}\.__(?:class|init|globals)__)[^{}%]{0,100}[}%]{1,3}>?\s*$]==],
  } },
}

-- What holds code by its name, or is said to a language model, may hold all of this.
local EXCEPT = [==[!%s:/(?i)(?:messages\.content|contents\.parts|input\.content|(?:^|\.)(?:code|sql|script|html|css|js|source|]==]
  .. [==[snippet|markup|query|cmd|command|diff|patch|template|expression|payload|prompt|input_text))$/]==]

--- As SecLang, each adding what `actions` say.
function M.rules(actions)
  local lines = {}
  local targets = ("ARGS|ARGS_PROSE|%s|%s"):format(EXCEPT:format("ARGS"), EXCEPT:format("ARGS_PROSE"))
  for _, r in ipairs(RULES) do
    lines[#lines + 1] = ('SecRule "%s" "@rx (?i)(?:%s)" "id:%d,phase:2,block,capture,t:none,t:urlDecodeUni,msg:\'%s\','
      .. "logdata:'%%{MATCHED_VAR}',tag:'moongate-api',tag:'paranoia-level/1',severity:'CRITICAL',%s\"")
      :format(targets, table.concat(r[3], "|"):gsub('"', "\\x22"), r[1], r[2], actions)
  end
  return table.concat(lines, "\n")
end

return M
