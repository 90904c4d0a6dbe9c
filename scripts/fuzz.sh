#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs one libFuzzer target on its seeds: spec/fuzz/seeds/NAME, and the shared corpora where they exist.
# New inputs are kept in build/fuzz-corpus/NAME; an input that crashes, in build/test/fuzz/.
# usage: scripts/fuzz.sh build/fuzz/NAME_fuzz SECONDS
set -eu
target=$1
seconds=$2
name=$(basename "$target" _fuzz)
shared=${MOONGATE_SHARED:-../shared}/conformance/fuzz
corpus=build/fuzz-corpus/$name
mkdir -p "$corpus" build/test/fuzz
folders=("$corpus")
options=()
[ -d "spec/fuzz/seeds/$name" ] && folders+=("spec/fuzz/seeds/$name")

# seeds_of ARCHIVE [FOLDER]: unpacks the shared archive once and adds it, or a folder of it, to the corpus
seeds_of() {
  local into=build/fuzz-corpus/shared/$1
  [ -f "$shared/$1.tar.gz" ] || return 0
  if [ ! -d "$into" ]; then
    local part=$into.part.$$ # another target may be at the same archive
    mkdir -p "$part" && tar -xzf "$shared/$1.tar.gz" -C "$part"
    mv -T "$part" "$into" 2>/dev/null || rm -rf "$part"
  fi
  folders+=("$into${2:+/$2}")
}

case $name in
h1* | *http1*) seeds_of h2o-http1 ;;
h2* | *http2*) seeds_of h2o-http2 && seeds_of nghttp2 ;;
waf_json) ;; # some 2 ms an input: its own seeds only
waf_urlencoded) seeds_of h2o-url ;;
waf_multipart) seeds_of go-json-url-multipart multipart ;;
*uri* | *url*) seeds_of h2o-url && seeds_of go-json-url-multipart url ;;
*json* | *jwt*) seeds_of go-json-url-multipart json ;;
esac
case $name in
h1* | h2* | *http*) [ -f "$shared/http.dict" ] && options+=("-dict=$shared/http.dict") ;;
esac
[ -f "spec/fuzz/$name.dict" ] && options+=("-dict=spec/fuzz/$name.dict")

exec "$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -print_final_stats=1 \
  -artifact_prefix=build/test/fuzz/"$name"- "${options[@]}" "${folders[@]}"
