#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the checks stage by stage and adds them up. Last line: `N passed, M failed`.
# Logs: build/test/STAGE/; how long each spec took: build/test/STAGE.times.
# usage: scripts/test.sh [STAGE...]   (without a stage: all of $all_stages; `crs` only when named)
# SPEC=part-of-a-path runs only the spec files that have it in their name.
set -u
cd "$(dirname "$0")/.." || exit 2

all_stages="build lint unit unit-asan integration integration-asan example fuzz leaks tidy"
stages=${*:-$all_stages}
logs=$PWD/build/test
jobs=${JOBS:-$(nproc)}
fuzz_seconds=${FUZZ_SECONDS:-2}
file_seconds=${SPEC_SECONDS:-300}
# Absolute: specs may start processes elsewhere. Specs of shared data are pending where it is absent.
MOONGATE_SHARED=$(realpath -m "${MOONGATE_SHARED:-../shared}")
MOONGATE_BUILD=build/release
export MOONGATE_SHARED MOONGATE_BUILD LC_ALL=C.UTF-8

mkdir -p "$logs"
total_passed=0 total_failed=0

# count STAGE PASSED FAILED [PENDING]
count() {
  echo "$2 $3 ${4:-0}" >>"$logs/$1.tally"
}

# check STAGE NAME COMMAND...: one check; its output is shown only when it fails.
check() {
  local stage=$1 name=$2 log
  shift 2
  log=$logs/$stage/$(tr '/ ' '__' <<<"$name").log
  mkdir -p "$logs/$stage"
  if "$@" >"$log" 2>&1 </dev/null; then
    count "$stage" 1 0
  else
    echo "FAIL  $stage: $name (exit $?)"
    tail -n 40 "$log" | sed 's/^/      /'
    count "$stage" 0 1
  fi
}

# Whether a spec loads sanitized libraries into busted's own LuaJIT, which has no sanitizer by itself.
loads_units() {
  [[ $1 == spec/unit/* || $1 == spec/plugins/* || $1 == spec/policies/* ]] ||
    grep -q 'require("spec.\(unit\|plugins\|integration\)\.\|require("spec.support.redis")' "$1"
}

# spec_file STAGE FILE: one busted process for one file, so that a crash costs only that file. Specs
# of the in-process gateway run inside the binary under test.
spec_file() {
  local stage=$1 file=$2 log status began=$EPOCHREALTIME runner=(busted)
  if grep -q 'require("moongate.test")' "$file"; then
    runner=("$MOONGATE_BUILD/moongate" test)
  elif [[ $stage == *-asan ]] && loads_units "$file"; then
    runner=(env "LD_PRELOAD=$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" busted)
  fi
  log=$logs/$stage/${file//\//_}.log
  [[ $stage != *-asan ]] || local -x ASAN_OPTIONS=$ASAN_OPTIONS:log_path=$logs/$stage/sanitizer.${file//\//_} \
    UBSAN_OPTIONS=$UBSAN_OPTIONS:log_path=$logs/$stage/sanitizer.${file//\//_}
  MOONGATE_UNIT_LIB=$MOONGATE_BUILD/libmoon_unit.so timeout -k 5 "$file_seconds" "${runner[@]}" \
    -o spec/support/tally.lua "$file" >"$log" 2>&1 </dev/null
  status=$?
  echo "$(((${EPOCHREALTIME/./} - ${began/./}) / 1000)) ms $file" >>"$logs/$stage.times"
  if ! tail -n 1 "$log" | grep -q '^tally: '; then
    echo "FAIL  $stage: $file ended without a tally (exit $status)"
    tail -n 40 "$log" | sed 's/^/      /'
    count "$stage" "$(grep -c '^ok    ' "$log")" "$(($(grep -c '^FAIL  ' "$log") + 1))"
    return
  fi
  grep -A 30 '^FAIL  ' "$log" | grep -v '^\(ok\|skip\|tally\)' | sed "s|^FAIL  |FAIL  $stage: $file: |" || true
  # shellcheck disable=SC2046 # three numbers
  count "$stage" $(tail -n 1 "$log" | tr -dc '0-9 ')
}

# specs STAGE JOBS FOLDER... [TEST OF find...]; MOONGATE_BUILD tells the specs which build is under test.
specs() {
  local stage=$1 at_once=$2 file
  shift 2
  mkdir -p "$logs/$stage"
  while read -r file; do
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
    spec_file "$stage" "$file" &
  done < <(find "$@" -name '*_spec.lua' 2>/dev/null | grep -- "${SPEC:-}" | sort)
  wait
}

# A report that a sanitizer wrote counts as a failure, even when a supervisor hid the crash.
sanitizer_reports() {
  local report
  for report in "$logs/$1"/sanitizer.*; do
    [ -s "$report" ] || continue
    echo "FAIL  $1: sanitizer report $report"
    head -n 30 "$report" | sed 's/^/      /'
    count "$1" 0 1
  done
}

stage_build() {
  local preset werror
  for preset in release dev fuzz; do
    # gcc is the yardstick for warnings; clang, which builds the fuzz targets, counts differently.
    werror=$([ "$preset" = fuzz ] && echo OFF || echo ON)
    check build "configure $preset" cmake --preset "$preset" -DMOONGATE_WERROR="$werror"
    check build "compile $preset" cmake --build --preset "$preset" -j "$jobs" -- -k 0
  done
}

# A list that is empty is a failure, not a check that passes.
format_check() (
  set -o pipefail
  scripts/files.sh 'runtime/*.[ch]' 'plugins/*.[ch]' 'spec/*.[ch]' 'bench/*.[ch]' 'scripts/*.c' |
    xargs clang-format --dry-run -Werror
)

lua_check() (
  set -o pipefail
  scripts/files.sh '*.lua' | xargs luacheck --quiet --codes --no-color
)

stage_lint() {
  check lint "clang-format" format_check
  check lint "luacheck" lua_check
  specs lint "$jobs" spec/lint
}

stage_tidy() {
  mkdir -p "$logs/tidy"
  [ -f build/dev/compile_commands.json ] || cmake --preset dev >/dev/null
  scripts/tidy.py --build build/dev --jobs "$jobs" --seconds "${TIDY_SECONDS:-0}" >"$logs/tidy/tidy.log" 2>&1
  grep -v '^tally: ' "$logs/tidy/tidy.log"
  # shellcheck disable=SC2046
  count tidy $(tail -n 1 "$logs/tidy/tidy.log" | grep '^tally: ' | tr -dc '0-9 ' | grep . || echo 0 1)
}

stage_unit() {
  specs unit "$jobs" spec/unit spec/policies spec/plugins
}

# with_sanitizers COMMAND...: on the build that has them. Reports name the spec and the program.
with_sanitizers() {
  ASAN_OPTIONS=detect_leaks=0:log_exe_name=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    MOONGATE_BUILD=build/dev "$@"
}

# Leaks of a LuaJIT that has no sanitizer are not ours; the stage `leaks` looks for ours.
stage_unit-asan() {
  with_sanitizers specs unit-asan "$jobs" spec/unit spec/policies spec/plugins
  sanitizer_reports unit-asan
}

# What starts real processes is run one after the other, for the sake of what it measures; beside it those that
# mostly wait: of Redis, the cache and backends.
integration_specs() {
  local waiting=(-name '*redis*' -o -name 'cache*' -o -name 'backend*')
  specs "$1" "$jobs" spec/gateway
  (specs "$1" 1 spec/integration "(" "${waiting[@]}" ")") &
  (specs "$1" 1 spec/integration -not "(" "${waiting[@]}" ")" -not -name 'many_routes*') &
  wait
  specs "$1" 1 spec/integration -name 'many_routes*' # compares what the processor's caches decide
}

stage_integration() {
  integration_specs integration
}

stage_integration-asan() {
  with_sanitizers integration_specs integration-asan
  sanitizer_reports integration-asan
}

stage_example() {
  specs example 1 examples
}

stage_fuzz() {
  local target name seconds
  for target in build/fuzz/*_fuzz; do
    [ -x "$target" ] || continue
    name=$(basename "$target")
    case $name in *"${SPEC:-}"*) ;; *) continue ;; esac
    seconds=$fuzz_seconds
    case $name in # four targets of one kind: together they take little more than one
    waf_urlencoded_fuzz | waf_multipart_fuzz | waf_json_fuzz | waf_xml_fuzz) seconds=$(((fuzz_seconds + 2) / 3)) ;;
    esac
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    check fuzz "$name for $seconds s" timeout -k 5 $((seconds * 3 + 60)) \
      scripts/fuzz.sh "$target" "$seconds" &
  done
  wait
}

stage_leaks() {
  MOONGATE_BUILD=build/dev specs leaks 1 spec/leaks
}

# The engine against CRS_TESTS (a folder of test files), or what $MOONGATE_SHARED/crs has; `unit` runs that too.
stage_crs() {
  [ -z "${CRS_TESTS:-}" ] || CRS_TESTS=$(realpath -m "$CRS_TESTS")
  [ -e build/release/libwaf_unit.so ] || cmake --preset release >/dev/null && cmake --build --preset release >/dev/null
  CRS_TESTS=${CRS_TESTS:-} CRS_ALL=1 SPEC=/crs_ file_seconds=1800 specs crs "$jobs" spec/plugins/waf spec/integration
}

# In a run of everything clang-tidy has a budget; what it did not reach is said, and left to `make lint`.
[ "$stages" = "$all_stages" ] && : "${TIDY_SECONDS:=25}"

for stage in $stages; do
  if ! declare -F "stage_$stage" >/dev/null; then
    echo "test: no stage '$stage'; there are: $all_stages crs" >&2
    exit 2
  fi
done
for stage in $stages; do
  rm -rf "${logs:?}/$stage" "$logs/$stage".{tally,times}
  mkdir -p "$logs/$stage"
  : >"$logs/$stage.tally"
  SECONDS=0
  "stage_$stage"
  read -r passed failed pending < <(
    awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$logs/$stage.tally")
  printf '%-18s %5d passed, %d failed, %d pending  (%d s)\n' "$stage" "$passed" "$failed" "$pending" "$SECONDS"
  total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed))
done

echo "$total_passed passed, $total_failed failed"
[ "$total_failed" -eq 0 ] && [ "$total_passed" -gt 0 ]
