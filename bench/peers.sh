#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Unpacks Debian's nginx Lua module and the LuaJIT that it wants, without installing them: they
# conflict with the LuaJIT that Moongate is built with.
# usage: bench/peers.sh FOLDER
set -eu
into=$1
[ -e "$into/.complete" ] && exit 0
packages="libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache
  libluajit2-5.1-2 libluajit2-5.1-common lua-cjson"
mkdir -p "$into/deb"
# shellcheck disable=SC2086 # one word per package
(cd "$into/deb" && chmod 777 . && apt-get download $packages)
for package in "$into"/deb/*.deb; do
  dpkg -x "$package" "$into"
done
touch "$into/.complete"
