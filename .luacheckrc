-- SPDX-License-Identifier: Apache-2.0
std = "luajit"
self = false
max_line_length = 100
exclude_files = { "build/**" }
files["spec"] = { std = "+busted" }
files["examples/**/spec"] = { std = "+busted" }
files["examples"] = { ignore = { "212/ctx" } }
files["bench/wrk"] = { globals = { "wrk", "init", "request", "done" } }
files["bench/conf/nginx-lua"] = { globals = { "ngx" } }
files["lua/moongate/types.lua"] = { ignore = { "212", "241" } }
