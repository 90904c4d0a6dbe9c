-- SPDX-License-Identifier: Apache-2.0
--- Certificates made by the openssl program, and TLS servers and clients over the unit library.
jit.off(true, true)
local ffi = require("ffi")
local net = require("spec.unit.net.support")

local M = {}

local C = net.helper.lib([[
struct moon_tls_certificate_conf { const char *certificate; const char *key; const char *ocsp; };
struct moon_tls_server_conf {
  const struct moon_tls_certificate_conf *certificates; size_t certificate_count;
  const char *preset; bool is_http2; bool has_tickets; int client_mode;
  const char *client_ca; const char *client_crl; int client_depth;
};
struct moon_tls_ticket_key { uint8_t name[16]; uint8_t aes[32]; uint8_t hmac[32]; };
struct moon_tls_tickets {
  uint32_t sequence; uint32_t count; int64_t rotated_wall_ms; struct moon_tls_ticket_key keys[3];
};
struct moon_tls_client_conf {
  bool is_verified; const char *ca; const char *certificate; const char *key;
  const char *server_name; bool is_http2; const char *minimum;
};
void moon_tls_ticket_rotate(struct moon_tls_tickets *tickets, int64_t now_wall_ms);
int moon_tls_server_new(const struct moon_tls_server_conf *, struct moon_tls_tickets *,
                        char *error, size_t error_cap, struct moon_tls_server **out);
void moon_tls_server_release(struct moon_tls_server *server);
bool moon_tls_server_refresh(struct moon_tls_server *server);
int64_t moon_tls_server_expires_in_s(const struct moon_tls_server *server, const char **path);
int moon_tls_client_new(const struct moon_tls_client_conf *, char *error, size_t error_cap,
                        struct moon_tls_client **out);
void moon_tls_client_release(struct moon_tls_client *client);
]])

M.C = C

function M.sh(command)
  local pipe = io.popen("{ " .. command .. "; } 2>&1; echo \"rc=$?\"")
  local out = pipe:read("*a")
  pipe:close()
  assert(out:match("rc=(%d+)%s*$") == "0", command .. "\n" .. out)
  return out
end

local dir

--- A folder for this run's certificates.
function M.dir()
  if not dir then
    dir = os.tmpname()
    os.remove(dir)
    M.sh("mkdir -m 700 " .. dir)
  end
  return dir
end

function M.remove_dir()
  if dir then
    os.execute("rm -rf " .. dir)
    dir = nil
  end
end

local kinds = {
  ecdsa = "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
  rsa = "-newkey rsa:2048",
}

--- A CA: name.pem and name.key.
function M.ca(name)
  local base = M.dir() .. "/" .. name
  M.sh(("openssl req -x509 -nodes %s -keyout %s.key -out %s.pem -days 30 -subj '/CN=%s' " ..
    "-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign")
    :format(kinds.ecdsa, base, base, name))
  return base .. ".pem"
end

--- A certificate by a CA. `names`: DNS names; the common name is `name`.
function M.certificate(ca, name, names, kind, days)
  local base, issuer = M.dir() .. "/" .. name, M.dir() .. "/" .. ca
  local alternatives = {}
  for i, one in ipairs(names) do
    alternatives[i] = (one:match("^[%d.]+$") and "IP:" or "DNS:") .. one
  end
  local extensions = io.open(base .. ".ext", "w")
  extensions:write("subjectAltName=" .. table.concat(alternatives, ",") .. "\n")
  extensions:close()
  M.sh(("openssl req -nodes -new %s -keyout %s.key.new -out %s.csr -subj '/O=Contoso/CN=%s' && " ..
    "openssl x509 -req -in %s.csr -CA %s.pem -CAkey %s.key -CAcreateserial -days %d " ..
    "-extfile %s.ext -out %s.pem.new && mv %s.key.new %s.key && mv %s.pem.new %s.pem"):format(
    kinds[kind or "ecdsa"], base, base, name, base, issuer, issuer, days or 20, base, base, base,
    base, base, base))
  return { certificate = base .. ".pem", key = base .. ".key" }
end

--- The CRL of a CA; `revoked` are certificates that it names.
function M.crl(ca, revoked)
  local base = M.dir() .. "/" .. ca
  local conf = io.open(base .. ".cnf", "w")
  conf:write(("[ca]\ndefault_ca=d\n[d]\ndatabase=%s.db\ndefault_md=sha256\ndefault_crl_days=10\n")
    :format(base))
  conf:close()
  M.sh(": > " .. base .. ".db")
  local with = (" -config %s.cnf -cert %s.pem -keyfile %s.key"):format(base, base, base)
  for _, certificate in ipairs(revoked or {}) do
    M.sh("openssl ca -revoke " .. certificate .. with)
  end
  M.sh("openssl ca -gencrl -out " .. base .. ".crl" .. with)
  return base .. ".crl"
end

--- A server; `conf` as the C struct, `certificates` a list. @return nil and the error otherwise
function M.server(conf)
  local count = #conf.certificates
  local certificates = ffi.new("struct moon_tls_certificate_conf[?]", math.max(count, 1))
  for i, c in ipairs(conf.certificates) do
    certificates[i - 1].certificate = c.certificate
    certificates[i - 1].key = c.key
    certificates[i - 1].ocsp = c.ocsp
  end
  local c = ffi.new("struct moon_tls_server_conf")
  c.certificates, c.certificate_count = certificates, count
  c.preset, c.is_http2 = conf.preset, conf.is_http2 or false
  c.has_tickets = conf.has_tickets ~= false
  c.client_mode = conf.client_mode or 0
  c.client_ca, c.client_crl = conf.client_ca, conf.client_crl
  local err, out = ffi.new("char[512]"), ffi.new("struct moon_tls_server *[1]")
  local rc = C.moon_tls_server_new(c, conf.tickets, err, 512, out)
  if rc ~= 0 then
    return nil, ffi.string(err)
  end
  return out[0]
end

function M.client(conf)
  local c = ffi.new("struct moon_tls_client_conf")
  c.is_verified = conf.is_verified ~= false
  c.ca, c.certificate, c.key = conf.ca, conf.certificate, conf.key
  c.server_name, c.minimum, c.is_http2 = conf.server_name, conf.minimum, conf.is_http2 or false
  local err, out = ffi.new("char[512]"), ffi.new("struct moon_tls_client *[1]")
  local rc = C.moon_tls_client_new(c, err, 512, out)
  if rc ~= 0 then
    return nil, ffi.string(err)
  end
  return out[0]
end

function M.tickets()
  local tickets = ffi.new("struct moon_tls_tickets")
  C.moon_tls_ticket_rotate(tickets, 1)
  return tickets
end

return M
