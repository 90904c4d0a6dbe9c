---@meta
-- SPDX-License-Identifier: Apache-2.0
--- What policies see, for editors (LuaCATS). Nothing here runs.

---@class moongate.Headers: { [string]: string|string[]|nil }
--- Reading gives the field's value, several of one name joined by ", ". Assigning replaces all of
--- that name; a list makes a line each; nil removes. Names are compared without regard to case.

---@class moongate.Query: { [string]: string|nil }
--- Reading gives the first value, decoded. Assigning replaces all of that name; nil removes.

---@class moongate.Tls
---@field version string "TLSv1.3"
---@field cipher string
---@field sni? string
---@field alpn string "h2", "http/1.1"; empty where none was agreed on
---@field resumed boolean whether the session was resumed
---@field ja4? string fingerprint of the client hello
---@field client? moongate.TlsClient the client's certificate, where it sent one

---@class moongate.TlsClient
---@field subject string
---@field issuer string
---@field serial string
---@field fingerprint string SHA-256 in hex
---@field common_name string
---@field not_before string ISO 8601
---@field not_after string ISO 8601
---@field dns_names string
---@field verified boolean
---@field verify_error string why not
---@field pem string the certificate itself, for backends that look at it

---@class moongate.Request
---@field method string assignable
---@field scheme "http"|"https"
---@field host string lower case, without port; `headers.Host` is as the client sent it
---@field path string normal form; assigning changes what the backend gets
---@field raw_path string as the client sent it
---@field url string
---@field query_string string without "?"; assignable
---@field params table<string, string> path parameters, decoded
---@field query moongate.Query
---@field headers moongate.Headers
---@field cookies table<string, string>
---@field version string "1.1", "2"
---@field client_ip string behind trusted proxies
---@field client_port integer
---@field peer_ip string of the connection
---@field tls? moongate.Tls
local Request = {}

--- The whole body; waits for it. Reading does not consume it.
---@return string
function Request:body() end

--- The body as JSON, or nil and what is wrong with it.
---@return any
---@return string? err
function Request:json() end

--- The body as form fields.
---@return table<string, string>?
---@return string? err
function Request:form() end

--- Replaces the body; Content-Length follows.
---@param text string
function Request:set_body(text) end

--- Replaces texts in the body; in one that streams, while it passes. At most eight times a message.
---@param rules string[][] { from, to }; at each place the first that fits. `from` has at most 1 KiB
---@param is_link? boolean the texts are starts of URLs up to the host: letters in either case, and not
---where the host's name goes on
function Request:replace(rules, is_link) end

--- Adds a field line.
---@param name string
---@param value string
function Request:add_header(name, value) end

---@return string[] names in the order in which they came, repeated as they came
function Request:header_names() end

---@param name string
---@return string[] values one for each line
function Request:header_values(name) end

---@return string[] names decoded, in order, repeated as they came
function Request:query_names() end

---@param name string
---@return string[] values decoded
function Request:query_values(name) end

--- A path parameter as it stands in the path, with its escapes: a `%2C` is another thing than a comma.
---@param name string
---@return string?
function Request:raw_param(name) end

--- Reads a text as a form.
---@param text string
---@return table<string, string> fields the first value of each
function Request:parse_form(text) end

--- Adds a query parameter; name and value are encoded as they need.
---@param name string
---@param value string
function Request:add_query(name, value) end

---@class moongate.Response
---@field status integer assignable
---@field reason string assignable; HTTP/1.1 only
---@field headers moongate.Headers
local Response = {}

---@return string
function Response:body() end

---@return any
---@return string? err
function Response:json() end

---@param text string
function Response:set_body(text) end

--- As that of the request.
---@param rules string[][]
---@param is_link? boolean
function Response:replace(rules, is_link) end

---@param name string
---@param value string
function Response:add_header(name, value) end

---@return string[]
function Response:header_names() end

---@param name string
---@return string[]
function Response:header_values(name) end

---@class moongate.Subscription
---@field id string
---@field name? string
---@field product? string
---@field api? string
---@field state "active"|"suspended"|"cancelled"

---@class moongate.Product
---@field name string

---@class moongate.Deployment
---@field name string
---@field region? string
---@field node? string

---@class moongate.Error
---@field source string what raised it: a policy's name, "backend", "gateway"
---@field reason string one word: "RateLimitExceeded", "BackendConnectionFailure", "Timeout"
---@field message string
---@field section "inbound"|"backend"|"outbound"|"on_error"
---@field scope? "gateway"|"site"|"route"|"product"|"api"|"operation" of the policy
---@field policy? string its `id`, else its place
---@field path? string its place in the scope: "inbound[2].policies[1]"
---@field status integer of the answer that is going to be given

---@class moongate.Geo
---@field country? string
---@field registered_country? string
---@field continent? string
---@field city? string
---@field org? string
---@field asn? integer
---@field is_anonymous? boolean

---@class moongate.Log
---@field debug fun(self: moongate.Log, message: string)
---@field info fun(self: moongate.Log, message: string)
---@field warning fun(self: moongate.Log, message: string)
---@field error fun(self: moongate.Log, message: string)

--- The exchange, as policies see it.
---@class moongate.Ctx
---@field id string
---@field request moongate.Request
---@field response moongate.Response from `outbound` on
---@field vars table<string, any> what policies leave for one another
---@field jwt? table claims, after `validate_jwt`
---@field geo? moongate.Geo
---@field subscription? moongate.Subscription the one whose key came with the request
---@field subscription_given boolean whether a key came, good or bad
---@field product? moongate.Product
---@field user? table
---@field api? { name: string }
---@field operation? { name: string }
---@field backend string? assignable: a name from `backends`
---@field backend_url string? assignable: a URL in place of a backend
---@field client_certificate integer which certificate the backend is shown; `authentication_certificate`
---sets it
---@field site string
---@field route string
---@field section "inbound"|"backend"|"outbound"|"on_error"|"log"
---@field elapsed number seconds since the request's first byte
---@field bytes integer of both bodies, so far
---@field deployment moongate.Deployment
---@field error? moongate.Error in `on_error`
---@field http moongate.Http
---@field cache moongate.Values
---@field log moongate.Log
local Ctx = {}

--- Waits.
---@param seconds number
function Ctx:sleep(seconds) end

--- Runs functions side by side, so that what they wait for overlaps.
---@param functions table a list, or { all = list }, { any = list }: the first that ends is enough
---@return table results in the order of the functions
function Ctx:parallel(functions) end

--- Writes a line about the request to the log.
---@param message string
---@param fields? table<string, any>
---@param severity? "verbose"|"information"|"error"
function Ctx:trace(message, fields, severity) end

--- Calls the backend, in a `backend` section: `ctx.response` is its answer then.
---@param timeout? number seconds until its head
---@return true? ok
---@return string? reason "BackendConnectionFailure", "Timeout"
---@return string? message
---@return integer? status
function Ctx:forward(timeout) end

--- Forgets the answer of `forward`, so that the request can be changed and sent again.
function Ctx:drop_response() end

---@class moongate.HttpRequest
---@field method? string default GET
---@field url? string either a URL,
---@field backend? string or a backend
---@field path? string with a path
---@field headers? table<string, string|string[]>
---@field body? string
---@field timeout? number seconds, default 60
---@field tls? moongate.HttpTls of a URL; a backend has its own

--- Files are seen from the configuration directory.
---@class moongate.HttpTls
---@field ca? string PEM file with the authorities that are trusted
---@field certificate? string PEM file with the certificate that is shown, and
---@field key? string its key
---@field sni? string name that the certificate must be for
---@field verify? boolean default true
---@field min_version? "1.2"|"1.3"

---@class moongate.HttpResponse
---@field status integer
---@field headers moongate.Headers
---@field body string

---@class moongate.Http
local Http = {}

--- Calls and waits for the answer.
---@param request moongate.HttpRequest
---@return moongate.HttpResponse?
---@return string? err
function Http:request(request) end

--- Calls and does not wait.
---@param request moongate.HttpRequest
---@return boolean queued
function Http:send(request) end

--- Values of policies, kept in the store that all workers share.
---@class moongate.Values
local Values = {}

---@param key string
---@return any? value
function Values:get(key) end

---@param key string
---@param value any
---@param ttl number seconds
---@return boolean kept whether there was room
function Values:set(key, value, ttl) end

---@param key string
function Values:delete(key) end

--- Removes cached responses, or everything.
---@param what { url?: string, tag?: string, key?: string, all?: boolean }
function Values:purge(what) end

--- The value, made by one caller for all where it is not there.
---@param key string
---@param options table
---@return any? value
function Values:fetch(key, options) end

--- An answer of a policy's own: what `moongate.reply` makes.
---@class moongate.Reply
---@field status integer
---@field headers table<string, string|string[]>
---@field body? string
---@field refuse? { reason: string, message: string } goes through `on_error` first

---@class moongate.PrepareEnv
---@field id string of this listing; stable over reloads
---@field scope string gateway, site, route, product, api, operation
---@field scope_name string
---@field section string
---@field file string
---@field line? integer
---@field api? string
---@field products? string[] products that hold the API
---@field named_values table<string, string>
---@field networks table<string, string[]>
---@field backends table<string, integer>
---@field plan table
---@field source moongate.Source
---@field log fun(text: string) adds a warning to the load

--- What a policy needs of the bodies.
---@class moongate.Needs
---@field request_body? boolean it is read whole
---@field response_body? boolean it is read whole, and asked for without a coding
---@field response_text? boolean it is changed while it passes: asked for without a coding
---@field max_body_bytes? integer

--- A policy: what a file of `policies/` returns.
---@class moongate.Policy
---@field name string
---@field summary string
---@field schema table
---@field sections? string[] where it may be listed; its other functions follow any listing
---@field needs? moongate.Needs
---|fun(conf: table): table
---@field idle? fun(conf: table): table<string, boolean> sections in which it has nothing to do
---@field prepare? fun(conf: table, env: moongate.PrepareEnv): table
---@field inbound? fun(self: table, ctx: moongate.Ctx): moongate.Reply?
---@field backend? fun(self: table, ctx: moongate.Ctx): moongate.Reply?
---@field outbound? fun(self: table, ctx: moongate.Ctx): moongate.Reply?
---@field on_error? fun(self: table, ctx: moongate.Ctx): moongate.Reply?
---@field log? fun(self: table, ctx: moongate.Ctx)
