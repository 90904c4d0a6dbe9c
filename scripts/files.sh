#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lists the files of the tree whose path matches one of the patterns, in which `*` stands for slashes too:
# scripts/files.sh 'runtime/*.[ch]'. By find, not by git, which a machine may not have; none found is an error.
set -eu
cd "$(dirname "$0")/.."

test=
for pattern in "$@"; do
  test="$test${test:+ -o }-path './$pattern'"
done
found=$(eval "find . -mindepth 1 \( -path ./.git -o -path ./.cache -o -path ./build -o -name node_modules \) -prune -o \
  -type f \( $test \) -print" | sed 's|^\./||' | LC_ALL=C sort)
[ -n "$found" ] || {
  echo "files: nothing matches $*" >&2
  exit 1
}
echo "$found"
