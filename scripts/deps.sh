#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages of the named lists (scripts/deps/NAME.txt) that are not there yet.
# Starts no service: a package that brings a daemon (redis-server, nginx) leaves it stopped.
# usage: scripts/deps.sh build|run|test|bench...
set -eu

lists=$(dirname "$0")/deps
wanted=$(for name in "$@"; do grep -v '^#' "$lists/$name.txt"; done | sort -u)

if ! command -v dpkg-query >/dev/null 2>&1; then
  echo "deps: not a Debian system; these packages are taken to be there:" $wanted >&2
  exit 0
fi

missing=
for package in $wanted; do
  status=$(dpkg-query -W -f='${db:Status-Status} ' "$package" 2>/dev/null || true)
  case " $status" in
  *" installed "*) ;;
  *) missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
  as_root=sudo
  command -v sudo >/dev/null 2>&1 || {
    echo "deps: needs root or sudo to install:$missing" >&2
    exit 1
  }
fi

# policy-rc.d decides whether a package's script may start a service; 101 forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '$as_root rm -f "$policy"' EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
  $as_root chmod 755 "$policy"
fi

echo "deps: installing:$missing" >&2
apt() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >&2
}
apt update
# shellcheck disable=SC2086 # one word per package
apt install -y --no-install-recommends $missing
