-- SPDX-License-Identifier: Apache-2.0
--- What nginx, HAProxy, Kong, Envoy, Traefik and API Management call what is called otherwise here:
--- field names and policies. The first name that the place knows is the one that is meant.

return {
  -- fields
  algorithm = { "balance" }, apis_path = { "paths" }, base_url = { "backend" }, bind = { "address" },
  cert = { "certificate", "certificates" }, client_max_body_size = { "body_bytes" }, clusters = { "backends" },
  consumers = { "subscriptions" }, domains = { "hosts" }, endpoints = { "targets" }, filters = { "policies" },
  gzip = { "compression" }, brotli = { "compression" }, host = { "hosts" }, issuer = { "issuers" },
  large_client_header_buffers = { "head_bytes" }, lb_policy = { "balance" }, limit = { "calls" },
  listen = { "address" }, location = { "path" }, locations = { "routes" }, match = { "path" },
  max_fails = { "outlier" }, maxconn = { "connections" }, middlewares = { "policies" }, minute = { "period" },
  nodes = { "targets" }, plugins = { "policies" }, port = { "address" }, proxy_pass = { "backend" },
  proxy_connect_timeout = { "connect" }, proxy_read_timeout = { "idle" }, proxy_send_timeout = { "send" },
  real_ip_from = { "trusted_proxies" }, request_buffering = { "streaming" }, resolver = { "dns" },
  ["return"] = { "reply", "redirect" }, rules = { "routes" }, seconds = { "period" }, secret = { "keys" },
  server = { "targets" }, server_name = { "hosts" }, servers = { "sites", "targets" }, service = { "backend" },
  service_url = { "backend" }, services = { "backends" }, ssl = { "tls" }, ssl_certificate = { "tls", "certificate" },
  ssl_certificate_key = { "tls", "key" }, upstream = { "backend", "backends" }, upstream_url = { "backend" },
  upstreams = { "backends" }, uri = { "path", "url" }, url_template = { "path" }, urltemplate = { "path" },
  variables = { "named_values" }, virtual_hosts = { "sites" }, vhosts = { "sites" }, window = { "period" },
  worker_processes = { "workers" }, worker_connections = { "connections" }, nbthread = { "workers" },
  -- policies
  acl = { "ip_filter" }, allow = { "ip_filter" }, auth_basic = { "authentication_basic" },
  auth_jwt = { "validate_jwt" }, bot_detection = { "bot_check" }, cache_lookup = { "cache" },
  cache_store = { "cache" }, choose = { "when" }, circuit_breaker = { "retry" }, deny = { "ip_filter" },
  hmac_auth = { "validate_hmac" }, http_log = { "log_event" }, ip_restriction = { "ip_filter" },
  jwt = { "validate_jwt" }, jwt_authn = { "validate_jwt" }, key_auth = { "subscription" },
  limit_conn = { "limit_concurrency" }, limit_req = { "rate_limit" }, log_to_eventhub = { "log_event" },
  modsecurity = { "waf" }, mtls_auth = { "validate_client_certificate" }, oauth2_introspection = { "introspect_token" },
  oidc = { "validate_jwt" }, openid_connect = { "validate_jwt" }, proxy_cache = { "cache" }, rewrite = { "rewrite_uri" },
  redirect_content_urls = { "rewrite_links" }, request_termination = { "return_response" },
  request_transformer = { "set_header" }, request_validator = { "validate_content" },
  response_transformer = { "set_header" }, set_variable_value = { "set_variable" }, sub_filter = { "find_and_replace" },
  validate_azure_ad_token = { "validate_jwt" }, xsl_transform = { "xslt" },
}
