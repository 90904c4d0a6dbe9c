#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# testssl.sh against a gateway at the default preset, with an RSA and an ECDSA certificate of a CA
# made for it, stapled. Fails on any finding of severity LOW and above. Left out is what no server
# can change: DNS_CAArecord is a record of the name's zone.
# usage: scripts/test-tls.sh [preset]
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d /tmp/moongate-tls.XXXXXX)
trap 'kill "$gateway" 2>/dev/null || true; rm -rf "$dir"' EXIT
gateway=
preset=${1:-intermediate}

quietly() {
  "$@" >>"$dir/openssl.log" 2>&1 || { cat "$dir/openssl.log" >&2; return 1; }
}

# certificate NAME KEY-OPTIONS...: NAME.key, NAME.pem by the CA, NAME.ocsp
certificate() {
  local name=$1
  shift
  quietly openssl req "$@" -nodes -subj /CN=localhost -keyout "$dir/$name.key" -out "$dir/$name.csr"
  quietly openssl ca -batch -config "$dir/ca.cnf" -in "$dir/$name.csr" -out "$dir/$name.pem" \
    -notext -days 90
  quietly openssl ocsp -index "$dir/index" -CA "$dir/ca.pem" -rsigner "$dir/ca.pem" \
    -rkey "$dir/ca.key" -issuer "$dir/ca.pem" -cert "$dir/$name.pem" -ndays 7 -noverify \
    -respout "$dir/$name.ocsp"
}

: >"$dir/index"
cat >"$dir/ca.cnf" <<CNF
[ca]
default_ca = own
[own]
database = $dir/index
new_certs_dir = $dir
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
rand_serial = yes
unique_subject = no
policy = any
x509_extensions = server
[any]
commonName = supplied
[server]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
authorityInfoAccess = OCSP;URI:http://ocsp.example/
CNF
quietly openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj "/CN=CA of a test" \
  -keyout "$dir/ca.key" -out "$dir/ca.pem" -addext keyUsage=critical,keyCertSign,cRLSign
certificate ec -newkey ec -pkeyopt ec_paramgen_curve:P-256
certificate rsa -newkey rsa:2048

mkdir "$dir/conf"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$dir/conf/gateway.lua" <<LUA
return {
  name = "tls", workers = 1,
  listeners = { { name = "https", address = "127.0.0.1:$port", http2 = true, tls = {
    preset = "$preset", certificates = {
      { certificate = "$dir/ec.pem", key = "$dir/ec.key", ocsp = "$dir/ec.ocsp" },
      { certificate = "$dir/rsa.pem", key = "$dir/rsa.key", ocsp = "$dir/rsa.ocsp" } } } } },
  sites = { { hosts = { "*" }, routes = { { path = "/*", reply = { status = 200, body = "ok" } } } } },
}
LUA
build/release/moongate run "$dir/conf" >"$dir/gateway.log" 2>&1 &
gateway=$!
for _ in $(seq 50); do
  curl -sf --cacert "$dir/ca.pem" "https://localhost:$port/" >/dev/null && break
  sleep 0.1
done

testssl --quiet --color 0 --warnings off --add-ca "$dir/ca.pem" --severity LOW \
  --jsonfile "$dir/found.json" "https://localhost:$port/" >"$dir/report" 2>&1 || true
grep -q "Testing vulnerabilities" "$dir/report" || { cat "$dir/report"; exit 1; }

python3 - "$dir/found.json" <<'PYTHON'
import json, sys

found = [f for f in json.load(open(sys.argv[1])) if not f["id"].startswith("DNS_CAArecord")]
for f in found:
    print("FAIL  testssl: %(severity)s %(id)s: %(finding)s" % f)
print("testssl: %d findings at LOW and above" % len(found))
sys.exit(len(found) > 0)
PYTHON
