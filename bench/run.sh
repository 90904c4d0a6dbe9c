#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Measures Moongate beside its peers; `bench/run.sh --help` lists what can be chosen.
set -eu
cd "$(dirname "$0")/.."
mkdir -p build/bench
cc -O2 -Wall -Wextra -o build/bench/tls_client bench/client/tls_client.c -lssl -lcrypto
bench/peers.sh build/bench/peers || echo "bench: nginx-lua could not be fetched; it will be left out" >&2
if [ -z "${BENCH_NO_BUILD:-}" ]; then
  cmake --preset release >/dev/null && cmake --build --preset release >build/bench/build.log ||
    echo "bench: the release build failed (build/bench/build.log)" >&2
fi
export PYTHONDONTWRITEBYTECODE=1
exec python3 bench/bench.py "$@"
