-- SPDX-License-Identifier: Apache-2.0
-- luacheck: no max line length (patterns)
--- What `profile = "api"` of p.waf adds to the Core Rule Set, as SecLang; docs/waf-api-profile.md
--- has the reason of each rule.
local M = {}

local words = require("moongate.waf_words")

local VALUES = "ARGS|ARGS_NAMES|REQUEST_COOKIES|XML:/*"
local ANY = VALUES .. "|ARGS_PROSE"
-- What OpenTelemetry's exporters report: addresses that somebody called, and not those to call.
local TELEMETRY = "!ARGS:/^resource(?:Spans|Logs|Metrics)\\.resource/|!ARGS_PROSE:/^resource(?:Spans|Logs|Metrics)\\.resource/"
local LAST = "setvar:'tx.anomaly_score_pl1=+%{tx.critical_anomaly_score}',"
  .. "setvar:'tx.inbound_anomaly_score_pl1=+%{tx.critical_anomaly_score}'"

-- id, variables, name of the attack, patterns of which one must match. Case never matters; a quote is \x22, a comma \x2c.
local RULES = {
  { 9800100, VALUES, "NoSQL injection", {
    [==[^\s*\{\s*['\x22]?\$(?:where|ne|n?in|regex|exists|expr|function)\b]==],
    [==[^\s*\{\s*['\x22]?\$[gl]te?['\x22]?\s*:(?!\s*-?\d|\s*\x22\d{4}-\d\d)]==],
    [==[^\s*\{\s*['\x22]?\$(?:n?or|and)\b(?!['\x22]?\s*:\s*\[\s*\{\s*['\x22]?[a-z_][\w.]*['\x22]?\s*:)]==],
    [==[\[\$(?:where|n?or|ne|regex|exists|expr)\]]==],
    [==[\$where\b['\x22]?\s*[:=]]==],
    [==[^[^'\x22]*['\x22]\s*[,}\]]+\s*['\x22]?\$\w+['\x22]?\s*:]==],
    [==[(?:pass\w*|user\w*|e?mail|login|token)['\x22]?\s*:\s*\{\s*['\x22]?\$]==],
    [==[^[^']*'\s*(?:\|\||&&)\s*'?[^']{0,20}'?\s*[!=]=]==],
    [==[^[^'\x22]*['\x22];\s*(?:return\b|(?:sleep|while)\s*\()]==],
    [==[\bdb\.\w[\w.]*\.(?:insert|remove|delete|update|drop|mapreduce)\w*\s*\(]==],
    [==[[^\s].{0,200}\bdb\.\w[\w.]*\.(?:find|aggregate)\w*\s*\(]==],
    [==[\bthis\.\w+.{0,40}\|\|\s*['\x22]?1['\x22]?\s*==]==],
    [==[^(?:json\.)?(?:\w+\.)*\$where$]==],
    [==[^(?:json\.)?(?!(?:\w+\.)*(?:where|filters?|query|selector|match|find|conditions?|criteria)\.)(?:\w+\.)*(?:pass\w*|user\w*|e?mail|login|token)\.\$(?:[gl]te?|ne|n?in|regex|exists)$]==],
    [==[^[^'\x22]*['\x22]\s*(?:\|\||&&)\s*this\.]==],
  } },
  { 9800101, VALUES, "JavaScript loop", {
    [==[;\s*(?:var|let|const)\s+\w+\s*=\s*new\s+date\s*\(]==],
    [==[\bdo\s*\{.{0,80}\}\s*while\s*\(]==],
  } },
  { 9800110, VALUES, "LDAP injection", {
    [==[\([|&]\s*\(]==],
    [==[\(!\s*\([|&\w]]==],
    [==[\*\s*\)\s*\(]==],
    [==[\*\(\|]==],
    [==[\(\s*\w+\s*[~<>]?=\s*\*\s*\)]==],
    [==[\w:\d+(?:\.\d+)+:=]==],
  } },
  { 9800120, VALUES, "Mail command injection", {
    [==[^[^\s@<>]{1,64}@[^\s@]{1,80}[\r\n]\s*(?:b?cc|to|from|subject|reply-to|content-type)\s*:]==],
    [==[[\r\n]\s*(?:quit\s*(?:[\r\n]|\z)|rcpt\s+to:|mail\s+from:|(?:helo|ehlo)\s|[a-z]\d+\s+(?:capability|fetch|select|login|logout)\b)]==],
  } },
  { 9800130, VALUES, "Template injection", {
    [==[\{\{\s*[\x22']?\d+[\x22']?\s*[*+-]\s*[\x22']?\d+]==],
    [==[\{\{[^}]{0,120}(?:__class__|__globals__|\bconfig\.|\.mro\b|lipsum|cycler|_self\b|constructor)]==],
    [==[[#$@*]\{\s*[\x22']?\d+\s*[*+-]\s*\d+]==],
    [==[[#$@*]\{[^}]{0,80}(?:runtime|getclass|processbuilder|\bT\()]==],
    [==[\{%[^%]{0,120}(?:__class__|__globals__)]==],
    [==[<#assign\b]==],
    [==[\bfreemarker\.template]==],
    [==[\?new\(\)]==],
    [==[#set\s*\(\s*\$\w+\s*=.{0,80}(?:class|inspect|forname|exec)]==],
    [==[^@\(\d+\s*[*+-]\s*\d+\)]==],
    [==[\{php\}]==],
    [==[\{\{[^}]{0,80}\|\s*attr\s*\(]==],
    [==[^\s*\{\{\s*(?:config|self|request|settings|dump\(\))\s*\}\}\s*$]==],
  } },
  { 9800140, ANY, "Code for another machine", {
    [==[^\s*<%[=@!]?\s*(?:\d+\s*[*+-]\s*\d|[^%]{0,200}\b(?:system|exec|eval|runtime|process|popen|spawn|file\.|io\.|request\s*[.(]|response\.write|server\.|createobject))]==],
    [==[^ro0ab[\w+/]|/ro0ab[\w+/-]{16}]==],
    [==[^aced0005]==],
    [==[!!(?:javax?\.|com\.sun\.|org\.|(?:python|java|ruby|perl)/)]==],
    [==[<!--#\s*(?:exec|include|echo|printenv|config)\b]==],
    [==[\b[oc]:\d+:\x22[\w\x5c]+\x22:\d+:\{]==],
    [==[^c(?:os|posix|builtins)\n(?:system|eval|exec)\n]==],
    [==[\bserver\.(?:scripttimeout|createobject)]==],
    [==[\bon\s+error\s+resume\s+next\b]==],
    [==[^gasv[\w+/]{8}]==],
    [==[\bcom\.sun\.rowset\.|\b(?:jdbcrowset|templates)impl\b|\borg\.apache\.commons\.collections\.functors\.]==],
    [==[<x[is]:include\b]==],
    [==[^\s*\{\s*\x22@type\x22\s*:\s*\x22(?:java|javax|com\.sun|org\.apache)\.]==],
    [==[^class\.(?:module\.)?classloader\.]==],
    [==[^\s*\{\s*\x22(?:__proto__|constructor\x22\s*:\s*\{\s*\x22prototype)\x22\s*:]==],
  } },
  { 9800150, VALUES, "Command injection", {
    [==[\x60\s*(?:whoami|uname|cat|curl|wget|ping|nslookup|dig|sleep|hostname|ifconfig)\b[^\x60]{0,200}\x60]==],
    [==[\x60\s*(?:id|ls|pwd|env)\s+[-/][^\x60]{0,200}\x60]==],
    [==[^[^\x60]{0,40}\x60\s*(?:id|ls|pwd|env)\s*\x60[^\x60,]{0,40}$]==],
    [==[^\s*[;|&]+\s*(?:id|ls|ps|pwd|env|w|who|whoami|dir|set|cat|rm|wget|curl|tftp|ftp|perl|python\d?|php|ruby|bash|sh|nc|uname|powershell|net|type|cmd|certutil|bitsadmin|sleep|echo|touch|mkfifo|ping|nslookup)\b(?=\s|$|[;|&<>$\x60\x22'])]==],
    [==[[|;&]\s*(?:getent|nslookup|dig|host|ping|curl|wget|nc|ncat|telnet)[\s+]+\S]==],
    [==[(?:^|[=\s])\d{1,3}(?:\.\d{1,3}){3}\s*(?:[;|]|&&?)+\s*[a-z/]]==],
    [==[^[\w.@:/\x22'-]{0,40}\s*(?:;|&&|\|\|?|&)\s*(?:cat|whoami|uname|wget|curl|nc|ncat|bash|sh|sleep|ping|rm|ls)\s+(?:[-/$~\d]|\S+\.\S)]==],
    [==[^[\w.@:/\x22'-]{0,40}\s*(?:;\s+|\|\|?\s+|&&?\s*)(?:id|whoami|uname|ls|pwd)\s*[\x22'#]?\s*$]==],
    [==[[;|&]\s*\{\w+,[^\s}]+\}]==],
    [==[/\?{2,}[/?\w]*\s+/[?*]]==],
    [==[^\s*(?:ls|cat)\s+(?:-\w+\s+)?/(?:etc|root)\b]==],
    [==[^\(\)\s*\{]==],
    [==[[\r\n]\s*(?:wget|curl|nc|cat|bash)\s+(?:[-/]|https?:)\S*]==],
    [==[^\s*[;|]\s*[a-z]{4,}\s*$]==],
    [==[^\d+\s*[&|;]{1,2}\s*[a-z]{2,12}\s+[-/]\w]==],
    [==[[\r\n]\s*(?:id|whoami|ls|pwd|uname)\s*(?:[\r\n]|$)]==],
    [==[^\s*(?:;|\|\|?|&&?)\s*[a-z][\w.+-]{1,30}\s+(?:[-/\x22'~$<]|https?:|\w+://)]==],
  } },
  { 9800155, VALUES, "Command of Windows, or into a file", {
    [==[[&|;]\s*(?:cmd(?:\.exe)?\s+/c|powershell(?:\.exe)?\s+[-i]|certutil\s+-|net\s+(?:user|localgroup)\s|type\s+[a-z]:|dir\s+(?:[a-z]:|/)|bitsadmin\s)]==],
    [==[^\s*cmd(?:\.exe)?\s+/c\s+['\x22]?(?:dir|type|whoami|net|ping|nslookup|certutil|bitsadmin|powershell|echo|set|ipconfig|systeminfo|tasklist|calc|notepad|del|copy|curl|ver|hostname)\b]==],
    [==[\bpowershell(?:\.exe)?\s+(?:-\w+\s+(?:\w+\s+)?){0,6}-e(?:nc?|ncodedcommand|c)?\s+[a-z\d+/=]{16}]==],
    [==[^[\w.@:/\x22'-]{0,40}\s*(?:;|&&|\|\|?|&)\s*echo\s.{1,80}>+\s*/\w]==],
  } },
  { 9800151, VALUES, "Expression of a Unix shell", {
    [==[\$\(\s*(?:id|whoami|uname|pwd|ls|cat|curl|wget|ping|nslookup|dig|sleep|env|hostname|ifconfig|printf|echo|expr|bash|sh|nc|python\d?|perl|php|type|dir)\b[^)]*\)]==],
    [==[\$\([</{]]==],
    [==[\$\(\s*[a-z][\w-]*\s+/]==],
    [==[<\(\s*(?:cat|curl|wget|echo|ls|id|bash|sh)\b]==],
    [==[\$\{?ifs\b]==],
    [==[\$\{@?(?:system|exec|print|phpinfo|eval|passthru|alert)\s*\(]==],
    [==[\$\{\w{1,20}:\d+:\d+\}]==],
    [==[\$\{[^}\s]{1,40}(?:%%|//)]==],
    [==[\w\$@\w]==],
    [==[\{[a-z]{1,16},[^}\s]{1,80}\}\s*[;|&]]==],
    [==[^\{(?:cat|ls|curl|wget|nc|bash|sh|ping|head|tail),[^}\s]{1,80}\}]==],
  } },
  { 9800152, VALUES, "Program of a Unix shell", {
    [==[(?:^|[;|&\x60(=\s])/?(?:usr/)?(?:local/)?s?bin/(?:(?:ba|da|z|k|c|tc)?sh|cat|ls|id|nc|netcat|ncat|curl|wget|ping|whoami|uname|head|tail|more|less|nl|base64|xxd|telnet|printenv|echo)\s*(?:[;|&<>\x60]|\s-[a-z]|\s['\x22]?(?:/(?:etc|proc|root|flag|home|var/www)|\$))]==],
    [==[(?:^|[;|&\x60(\s])/dev/(?:tcp|udp)/]==],
    [==[^\s*[;|&]+\s*/(?:usr/)?(?:local/)?s?bin/\w+\s*$]==],
  } },
  { 9800153, VALUES, "Call of PHP", {
    [==[\bphpinfo\s*\(\s*\)]==],
    [==[^-d\s+(?:allow_url_include|auto_prepend_file|disable_functions)\b]==],
    [==[(?<![\w.>])(?:system|exec|passthru|shell_exec|popen|proc_open|pcntl_exec|assert|eval|call_user_func|create_function|file_(?:get|put)_contents|fopen|readfile|p?fsockopen|base64_decode|gzinflate|str_rot13|preg_replace|unserialize|move_uploaded_file|chmod|unlink)\s*\(\s*(?:['\x22$@]|[a-z_]+\s*\()]==],
    [==[(?<![\w.>#])(?:include|require)(?:_once)?\s*\(?\s*['\x22](?:https?|ftp|php|data|expect)://]==],
    [==[\bget_defined_(?:vars|functions|constants)\s*\(]==],
    [==[^[^'\x22]*['\x22]\s*\.\s*[a-z_]\w*\s*\([^)]*\)\s*\.\s*['\x22]]==],
  } },
  { 9800154, VALUES, "Call of Java, Node.js or Python", {
    [==[\bjava\.lang\.(?:runtime|processbuilder|class)\b]==],
    [==[\bjavax\.script\.]==],
    [==[\bognl\.ognl]==],
    [==[_memberaccess\b]==],
    [==[%\{\s*\(*#\w+(?:\s*=\s*['\x22@#(]|\[|\.)]==],
    [==[\$\{\s*\(*#\w+\s*(?:=\s*@|\[\s*['\x22])]==],
    [==[\bimport\s*\(\s*['\x22](?:node:)?child_process]==],
    [==[\brequire\s*\(\s*['\x22](?:node:)?fs['\x22]\s*\)\s*\.\s*\w+\s*\(\s*['\x22]/(?:etc|proc|root|flag)]==],
    [==[\bclass\.(?:module\.)?classloader\b]==],
    [==[\bgetruntime\s*\(\s*\)\s*\.\s*exec\b]==],
    [==[\brequire\s*\(\s*['\x22](?:node:)?(?:child_process|vm)['\x22]\s*\)\s*\.]==],
    [==[\bprocess\.(?:mainmodule\.require|binding\s*\()]==],
    [==[\bglobal\.process\.]==],
    [==[_\$\$nd_func]==],
    [==[\b__import__\s*\(]==],
    [==[__(?:class|init|base|mro)__\.__\w{1,20}__\.__\w{1,20}__]==],
    [==[\bos\.(?:system|popen)\s*\(\s*['\x22]]==],
    [==[system\.diagnostics\.process]==],
    [==[\b(?:(?:clone|invoker|instantiate)transformer|forclosure|whileclosure|instantiatefactory|prototype(?:clone|serialization)factory|xmldecoder)\b]==],
    [==[\brequire\.main\b]==],
    [==[\bprocess\s*\[\s*['\x22]?(?:env|mainmodule)]==],
  } },
  { 9800160, VALUES, "SQL injection", {
    [==[^[^'\x22\s]{0,40}['\x22]\)*\s*(?:#|--)\s*$]==],
    [==[^[^(]{0,60}(?:\d|^[^a-z]{0,8})['\x22]?\)+\s*(?:and|or)\b.{1,80}(?:[=<>]|\blike\b)]==],
    [==[\bprocedure\s+analyse\s*\(]==],
    [==[^\s*-?\d+['\x22]?\)*\s+(?:order|group)\s+by\s*\(]==],
    [==[^\s*-?\d+['\x22]?\)*\s+(?:x?or|and)\s+\(*[\d.][\d.+*/()\s-]*[=<>]+[\d.+*/()\s-]+(?:--|#|$)]==],
    [==[\bjson_(?:depth|extract|keys|length|valid|contains)\s*\(\s*['\x22]]==],
    [==[^[^'\x22]{0,80}['\x22]\)*[\s/*+]*(?:(?:x?or|and)\b|\|\||&&).{0,100}\(\s*select\b]==],
    [==[^[^'\x22]{0,80}['\x22]\)*\s*;\s*(?:copy|declare|exec|create|alter|drop|insert|update|delete|truncate|grant|shutdown|call)\s+\w]==],
    [==[^[\d\s,]*\(\s*select\b]==],
    [==[\bexec(?:ute)?\s+(?:master\.\.?)?xp_\w]==],
    [==[\bselect\s+pg_sleep\b]==],
    [==[;\s*waitfor\s+delay\b]==],
    [==[\bload_file\s*\(]==],
    [==[\bconcat\s*\(\s*0x[\da-f]]==],
  } },
  { 9800170, VALUES .. "|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer", "Cross-site scripting", {
    [==[<script\b[^>]*>]==],
    [==[(?:[\s/'\x22>]|^)on[a-z]{3,20}(?:=|\s*&equals;)\s*[^\s=]*(?:alert|confirm|prompt|eval|fetch|location|document)\b]==],
    [==[\b(?:alert|confirm|prompt|eval)\s*(?:\?\.\s*\(|\??\.\s*(?:call|apply|bind)\s*\()]==],
    [==[\bconstructor\s*\(\s*['\x22]]==],
    [==[<\s*<\s*scr]==],
    [==[\b__proto__\s*[\[.\x22\]]]==],
    [==[(?:^|[?&;])constructor\s*[.\[]\s*prototype]==],
    [==[^[^'\x22\x60]{0,40}['\x22\x60]\)?\s*[-+*;,]+\s*(?:\w+\s*=\s*)?(?:alert|confirm|prompt|eval|settimeout|setinterval|import)\s*[(\x60]]==],
    [==[^\W{0,4}\(\s*(?:alert|confirm|prompt)\s*\)\s*\(]==],
    [==[\bdocument\s*\[\s*['\x22\x60]]==],
    [==[^\s*(?:j\s*a\s*v\s*a|v\s*b)\s*s\s*c\s*r\s*i\s*p\s*t\s*:\s*(?!void\b|;?\s*$)(?://[^\r\n]{0,40}[\r\n]+)?\S*\w\s*[(\x60=[]]==],
    [==[[\s/'\x22>]on[a-z]{3,20}\s*=\s*['\x22\x60]?\s*(?:alert|confirm|prompt|eval)\b]==],
    [==[\bstring\.fromcharcode\s*\(\s*\d]==],
    [==[<\w[^>]*\bstyle\s*=[^>]*\b(?:expression\s*\(|url\s*\(\s*['\x22]?\s*javascript:)]==],
    [==[\(!\[\]\s*\+?\s*\[\]\)\s*\[]==],
    [==[\bdocument\s*(?:/\*.{0,40}?\*/\s*)+\.]==],
    [==[\b(?:window|self|this|top|document)\)?\s*\[\s*(?:/\*.{0,40}?\*/\s*)?['\x22](?:alert|eval|document|cookie|location)]==],
    [==[\]\s*\.\s*(?:sort|map|find|filter)\s*\.\s*call\s*\x60]==],
  } },
  { 9800171, "ARGS_NAMES", "Prototype of all objects", { [==[(?:^|\.)constructor\.prototype\.]==] } },
  { 9800180, VALUES, "Windows share or profile", {
    [==[\x5c\x5c[^\x5c\s]{1,64}\x5c[a-z]\$\x5c]==],
    [==[\bntuser\.dat\b]==],
  } },
  { 9800190, "ARGS:xml.dtd|ARGS_PROSE:xml.dtd", "Document type in XML", {
    [==[<!]==],
    [==[utf-7]==],
    [==[<x[si]:include]==],
  } },
  { 9800200, VALUES, "Header injection", {
    [==[\r\n[\w-]{1,40}:[^\r\n]{0,200}\r\n\r\n\s*<]==],
    [==[(?:[\r\n]|\xe5\x98[\x8a\x8d])\s*(?:(?:set-cookie|location|content-(?:type|length)|http/1)\b\s*[:.]|(?:get|post|head|put|options|delete|patch|trace|connect)\s+\S+\s+http/\d)]==],
  } },
  { 9800210, "ARGS|ARGS_PROSE|XML:/*|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer", "Look-up or callback of a scanner", {
    [==[\$\{jndi\s*:\s*\w+:(?://)?[\w$\[{#]]==],
    [==[\$\{(?:lower|upper):\S\}]==],
    [==[\$\{::-]==],
    [==[\$\{(?:env|sys):[^}]{1,40}:-]==],
    [==[\$\{[^}\s]{0,40}\$\{\w{0,12}:[^}\s]{0,30}:-]==],
    [==[\$\{[^}\s]{0,40}\$\{(?:jndi|lower|upper|env|sys|date|ctx|::)]==],
    [==[\b(?:burpcollaborator\.net|interact\.sh|oast\.(?:me|pro|live|site|online|fun)|oastify\.com)\b]==],
    [==[[{;]\s*jndi:(?:ldaps?|rmi|dns|iiop|nis|nds|corba)://\w]==],
  } },
  { 9800220, ANY, "Host of enclosed letters", { [==[://[^\s/]{0,64}\xe2[\x91-\x93]]==] } },
  { 9800230, VALUES .. "|REQUEST_URI_RAW", "Path that climbs out", {
    [==[(?:\.\.[/\x5c]+){4}]==],
    [==[\.\.[/\x5c]+(?:\.\.?[/\x5c]+)*(?:etc|proc|windows|winnt|boot\.ini|bin|usr|var|root|home|\.env|\.git|\.ssh|\.aws|\.ht|web\.config|web-inf|wp-config|conf/|passwd|shadow)\b]==],
    [==[\.\.[;\x00][/\x5c]]==],
    [==[\.{4}[/\x5c]{2}]==],
    [==[%(?:c0%a[ef]|e0%80%a[ef]|uff0e|u221[56])]==],
    [==[\xc0[\xae\xaf]]==],
    [==[\xe0\x80[\xae\xaf]]==],
    [==[\xc1\x9c]==],
  } },
  { 9800231, "REQUEST_FILENAME|ARGS_GET|ARGS:url.path", "Path of a server in a target", {
    [==[(?:\.\.[/\x5c]+){2}]==],
    [==[^(?:\.?[/\x5c])*\.\.[/\x5c]\.\w]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*etc[/\x5c.]+(?:hosts|group|issue)(?=\s*$|[\x00?#;|&'\x22%])]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*(?:windows|winnt)[/\x5c]+system32[/\x5c]+drivers[/\x5c]+etc[/\x5c]+hosts(?=\s*$|[\x00?#;|&'\x22%])]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*var/log/(?:(?:apache2?|httpd)/\w+\.log|auth\.log|secure)(?=\s*$|[\x00?#;|&'\x22%])]==],
  } },
  { 9800232, ANY, "File of the system", {
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*etc[/\x5c.]+(?:passwd|g?shadow|sudoers|master\.passwd)(?=\s*$|[\x00?#;|&'\x22%])]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*proc/(?:self|\d+)/[\w/]+(?=\s*$|[\x00?#;|&'\x22%])]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*(?:(?:windows|winnt)[/\x5c]+(?:win|system)\.ini|boot\.ini)(?=\s*$|[\x00?#;|&'\x22%])]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*(?:windows|winnt)[/\x5c]+system32[/\x5c]+(?:cmd\.exe|config[/\x5c])]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*(?:~|root|home/\w+|users/\w+)[/\x5c]+\.(?:ssh[/\x5c]+id_\w+|aws[/\x5c]+credentials|bash_history)(?=\s*$|[\x00?#;|&'\x22%])]==],
    [==[^\s*(?:file:[/\x5c]*(?:localhost/+)?)?(?:[a-z]:)?[/\x5c.]*web-inf/web\.xml(?=\s*$|[\x00?#;|&'\x22%])]==],
    [==[^[^\s]*[=|;&`]\s*(?:\w+\s+)?/etc/(?:passwd|shadow|group|hosts|issue)\b]==],
  } },
  { 9800233, "REQUEST_FILENAME", "File that no site serves", {
    [==[/\.(?:git|svn|hg|env|ht(?:access|passwd)|ssh|aws|ds_store)(?:[/.~]|$)]==],
    [==[/wp-config\.]==],
    [==[/web-inf/]==],
    [==[/(?:etc/(?:passwd|shadow)|proc/self/)]==],
  } },
  { 9800240, ANY, "Scheme that only servers read", { [==[^\s*(?:gopher|rmi|iiop|corbaname|dict|jar|netdoc|expect|php|phar|zip|glob|ogg|rar|compress\.zlib)://|^\s*jar:(?:https?|ftp|file):]==] } },
  { 9800241, ANY .. "|" .. TELEMETRY, "Address that only the server reaches", { [==[^\s*(?:https?|ftp|ldaps?|tftp|wss?)://(?:[^/?#@]*@)?(?:169\.254\.\d|100\.100\.100\.200|127\.\d+(?:[:/]|$)|0x[\da-f]{2}|\d{8,12}(?:[:/]|$)|0+\d+\.|0(?:[:/]|$)|0\.0\.0\.0|\[(?:::1|(?:0:){5}|::ffff:|::\])|metadata\.google\.internal|(?:127\.\d+\.\d+\.\d+|localhost)(?:/|$|:(?:\d{1,3}|11211|6379|2375)(?:/|$)))]==] } },
  { 9800242, "ARGS_GET|ARGS_PROSE", "Inclusion of a remote file", {
    [==[^\s*(?:ht|f)tps?://[^?#]*\.(?:txt|php\d?|phtml|inc)\?+\s*$]==],
    [==[^\s*(?:ht|f)tps?://(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?/[^?#\s]*\.(?:php\d?|phtml|txt)\b]==],
  } },
  { 9800250, VALUES, "XPath injection", {
    [==[\bcount\s*\(\s*/]==],
    [==[['\x22]\]\s*\|\s*/]==],
    [==[['\x22]\s*(?:or|and)\s+(?:contains|starts-with|string-length|name)\s*\(]==],
  } },
  { 9800260, "REQUEST_HEADERS:User-Agent", "Scanner", {
    [==[\b(?:sqlmap|nikto|nuclei|openvas|ffuf|fuzz faster|gobuster|dirbuster|wpscan|masscan|zgrab|acunetix|nessus|w3af|arachni|commix|havij|netsparker|jaeles)]==],
    [==[\.nasl\b]==],
    [==[^\(\)\s*\{]==],
  } },
  { 9800270, "FILES", "Script as an upload", {
    [==[\.ph(?:p\d?|tml|ar|ps)\.*\s*(?:$|[\x00;])]==],
    [==[\.ph(?:p\d?|tml|ar)\.(?:jpe?g|png|gif|pdf|txt)$]==],
  } },
  { 9800271, "FILES|FILES_NAMES", "File name that breaks out", {
    [==[[\x22\x00]]==],
    [==[;\s*\w+\s*=]==],
    [==[\.\.[/\x5c]]==],
  } },
  { 9800310, "ARGS_PROSE", "SQL injection behind words", { [==[^(?!\W{0,4}(?:report\w*|bug|finding|example|payload|scanner|attack\w*|sqli?|injection|security)\b)[^'\x22]*[\w)%.]['\x22]\)*\s*(?:union\s+(?:all\s+|distinct\s+)?select\b|(?:or|and)\s+(?:not\s+)?(?:(?:['\x22]\w{0,30}['\x22]|\w{1,30})\s*(?:=|<|>|like\b)\s*['\x22]?\w|\w{1,30}\(['\x22{\d])|;\s*(?:drop|delete|insert|update|select)\s)]==] } },
  { 9800300, "ARGS_PROSE", "SQL injection among words", { [==[^[^\w\x60]*(?:[\w.-]+[^\w\x60]+){0,2}union\s+(?:all\s+|distinct\s+)?select\s+(?:[\w.@(*]+\s*,|null\b|\S{1,60}\s+from\s+[^\d\s]|[^\x2c*(@]{0,40}[\x2c*(@].{0,40}\bfrom\b|\d|@@|\w+\()]==] } },
}

-- Marks of an injection into SQL: what breaks out of a quotation, a number or a call, and goes on as a statement does.
local EVIDENCE = {
  [==[^[^'\x22\x60]*['\x22\x60]\s*\)*(?:\s|/\*.*?\*/|\+)*(?:(?:(?:x?or|and|not)\b|\|\||&&).{0,120}(?:[=<>(]|\b(?:like|in|is|between|true|false|rlike|regexp|div)\b)|union[\s(/+]+(?:all|distinct|select|/)|having\b.{0,40}[=<>]|(?:order|group)\s+by\s|limit\s+\d|into\s+(?:out|dump|@)|r?like\b\s+['\x22(%\d]|;(?!\s*$)|[=#|]|[<>+*]\s*[\w(]|--|/\*)]==],
  [==[^\s*-?\d+['\x22]?\)*\s*;\s*[/\w]]==],
  [==[^\s*-?\d[\d.]*['\x22]?\)*(?:\s|/\*.*?\*/|\+)+(?:(?:(?:x?or|and|r?like)\b|\|\||&&).{0,120}[=<>(]|union\b|having\b|order\s+by|group\s+by|limit\b|procedure\b|;|--)]==],
  [==[\bunion\b[\s(+/*!\d]*(?:all\b|distinct\b)?[\s(+/*!\d]*select\b]==],
  [==[;\s*(?:select|insert|update|delete|drop|alter|create|exec(?:ute)?|declare|shutdown|waitfor|truncate|merge)\b]==],
  [==[[^\s].*\b(?:sleep|benchmark|pg_sleep|extractvalue|updatexml|load_file|randomblob|dbms_\w+\.\w+|utl_\w+\.\w+|xp_\w+|sp_\w+)\s*\(]==],
  [==[\bwaitfor\s+delay\b]==],
  [==[^(?:sleep|pg_sleep|benchmark)\([\d,]+[^)]*\)$]==],
  [==[[\w)'\x22]\s*/\*.*?\*/\s*[\w(]]==],
  [==[/\*!\d{5}]==],
  [==[\(\s*select\b]==],
  [==[\bcase\s+when\b(?!\s+[a-z_]\w*(?:\.\w+)?\s*(?:[=<>]|(?:is|in|like)\b))]==],
  [==[[^\s].*\bcase\s+when\b]==],
  [==[@@\w]==],
  [==[\binformation_schema\b]==],
  [==[\bsqlite_master\b]==],
  [==[^[^(]*\)\s*(?:or|and|union)\b]==],
}

-- What libinjection takes for SQL, where a mark of an injection stands beside: arithmetic and searches with
-- operators have none.
local SQLI = ([[
SecRule %s "@detectSQLi" "id:9800161,phase:2,block,capture,chain,t:none,t:utf8toUnicode,t:urlDecodeUni,t:removeNulls,msg:'SQL injection by its fingerprint',logdata:'%%{MATCHED_VAR_NAME}: %%{TX.0}',tag:'moongate-api',tag:'paranoia-level/1',severity:'CRITICAL'"
  SecRule MATCHED_VAR "@rx (?i)%s" "t:none,%s"
]]):format(VALUES .. "|REQUEST_HEADERS:User-Agent|REQUEST_HEADERS:Referer", table.concat(EVIDENCE, "|"), LAST)

-- Of APIs, of WebDAV and its calendars, of searches; neither TRACE nor CONNECT.
local METHODS = "GET HEAD POST OPTIONS PUT PATCH DELETE QUERY SEARCH PROPFIND PROPPATCH MKCOL MKCALENDAR COPY MOVE "
  .. "LOCK UNLOCK REPORT ACL LINK UNLINK"

-- Fields that CRS refuses: kept are those that hide a body from it, or speak to the server behind. Parts of uploads,
-- conditions and locks of WebDAV pass.
local RESTRICTED = [[SecRule &TX:restricted_headers "@eq 0" "id:9800002,phase:1,pass,nolog,t:none,]]
  .. [[setvar:'tx.restricted_headers=/accept-charset/ /content-encoding/ /proxy/'"]] .. "\n"
  .. [[SecRule &TX:restricted_headers_basic "@eq 0" "id:9800003,phase:1,pass,nolog,t:none,]]
  .. [[setvar:'tx.restricted_headers_basic=/content-encoding/ /proxy/ /x-http-method-override/ /x-http-method/ ]]
  .. [[/x-method-override/ /x-middleware-subrequest/'"]]

-- Searches send what they look for as JSON with a GET; such a body is inspected as any other.
local SEARCHES = [[SecRule REQUEST_HEADERS:Content-Type "@rx (?i)^application/(?:[\w.-]+\+)?json\b" ]]
  .. [["id:9800004,phase:1,pass,nolog,t:none,chain"]] .. "\n"
  .. [[SecRule REQUEST_METHOD "@streq GET" "t:none,ctl:ruleRemoveById=920170"]]

local function rule(r)
  return ('SecRule "%s" "@rx (?i)%s" "id:%d,phase:2,block,capture,t:none,t:urlDecodeUni,msg:\'%s\','
    .. "logdata:'%%{MATCHED_VAR}',tag:'moongate-api',tag:'paranoia-level/1',severity:'CRITICAL',%s\"")
    :format(r[2], (table.concat(r[4], "|"):gsub('"', "\\x22")), r[1], r[3], LAST)
end

--- Before the rule set. The methods are those of `allowed_methods` where it is said.
function M.before()
  local lines = { "SecMoonValues On", "SecMoonCorroborate 920300 920349 1",
    "SecMoonCorroborate 930000 940999 1 0", "SecMoonCorroborate 941000 941999 2 1",
    "SecMoonCorroborate 942000 942999 1 0", "SecMoonCorroborate 944000 944999 1 0",
    "SecMoonCorroborate 9800100 9800999 5 3" }
  for _, r in ipairs(RULES) do
    lines[#lines + 1] = rule(r)
  end
  lines[#lines + 1] = SQLI
  lines[#lines + 1] = words.rules(LAST)
  lines[#lines + 1] = [[SecRule &TX:allowed_methods "@eq 0" "id:9800001,phase:1,pass,nolog,t:none,]]
    .. [[setvar:'tx.allowed_methods=]] .. METHODS .. [['"]]
  lines[#lines + 1] = RESTRICTED
  lines[#lines + 1] = SEARCHES
  return table.concat(lines, "\n") .. "\n"
end

--- After it: rules that judge what the route's operations and schemas judge better, and rules in whose
--- place ours look closer (docs/waf-api-profile.md names each with its reason).
M.after = [[
SecRuleRemoveById 920120 920350 920420 920440 920470
SecRuleRemoveById 200004 921110 921130 930100 930110 932130 932150 932160 933160 942100
]]

return M
