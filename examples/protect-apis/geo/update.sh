#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches a country database of all networks from npm (@ip-location-db/geo-whois-asn-country-mmdb) as
# geo/all.mmdb. Then write it into gateway.lua: geoip = { country = "geo/all.mmdb" }.
set -eu
cd "$(dirname "$0")"
command -v npm >/dev/null 2>&1 || {
  echo "geo: needs npm (apt-get install npm)" >&2
  exit 1
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm pack --silent --pack-destination "$folder" @ip-location-db/geo-whois-asn-country-mmdb >/dev/null
tar -xzf "$folder"/*.tgz -C "$folder"
database=$(find "$folder/package" -name '*-country.mmdb' | head -n 1)
[ -n "$database" ] || {
  echo "geo: the package holds no country database" >&2
  exit 1
}
mv "$database" all.mmdb.new
mv all.mmdb.new all.mmdb
ls -l all.mmdb
