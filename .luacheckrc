-- SPDX-License-Identifier: Apache-2.0
std = "luajit"
self = false
max_line_length = 105 -- 100 is the aim; a text that ends a little later is not worth a break
exclude_files = { "build/**" }
files["spec"] = { std = "+busted", max_line_length = 120 } -- tables of cases
files["examples/**/spec"] = { std = "+busted", max_line_length = 120 }
files["examples"] = { ignore = { "212/ctx" } }
files["bench/wrk"] = { globals = { "wrk", "init", "request", "done" } }
files["bench/conf/nginx-lua"] = { globals = { "ngx" } }
files["lua/moongate/types.lua"] = { ignore = { "212", "241" } }
