# SPDX-License-Identifier: Apache-2.0
.PHONY: run test test-browser test-crs test-tls chaos lint format bench fuzz docs help build build-dev clean install

FORMATTED = scripts/files.sh 'runtime/*.[ch]' 'plugins/*.[ch]' 'spec/*.[ch]' 'bench/*.[ch]' 'scripts/*.c'

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 18

run: build ## build and serve examples/protect-apis in the foreground
	@scripts/deps.sh run
	@exec build/release/moongate run examples/protect-apis

build: ## the release binary: build/release/moongate
	@scripts/deps.sh build
	@cmake --preset release >/dev/null && cmake --build --preset release

build-dev: ## the debug binary with ASan and UBSan: build/dev/moongate
	@scripts/deps.sh build
	@cmake --preset dev >/dev/null && cmake --build --preset dev

test: ## every check; ends with `N passed, M failed`
	@scripts/deps.sh build test && exec scripts/test.sh

test-crs: ## the WAF against the Core Rule Set's regression tests: CRS_TESTS=DIR
	@scripts/deps.sh build test && CRS_TESTS='$(CRS_TESTS)' CRS_RULES='$(CRS_RULES)' \
		CRS_VERSION='$(CRS_VERSION)' exec scripts/test.sh crs

test-browser: build ## the challenge in Debian's chromium, which this installs
	@scripts/deps.sh browser && SPEC=challenge_browser exec scripts/test.sh integration

test-tls: build ## testssl.sh at the default preset (PRESET), every level; two minutes
	@scripts/deps.sh tls && exec scripts/test-tls.sh $(PRESET)

chaos: ## CHAOS_SECONDS (60) of failing backends, killed workers and reloads under load; CHAOS_SEED repeats one
	@scripts/deps.sh build test && CHAOS_SECONDS=$${CHAOS_SECONDS:-60} SPEC=chaos exec scripts/test.sh integration

lint: ## formatting, clang-tidy, luacheck, layers, texts
	@scripts/deps.sh build test && exec scripts/test.sh lint tidy

format: ## rewrite the C sources in the house's form
	@$(FORMATTED) | xargs -r clang-format -i

bench: ## Moongate beside nginx, HAProxy and nginx-lua; see docs/benchmarks.md
	@scripts/deps.sh build bench && exec bench/run.sh

fuzz: ## fuzz targets, FUZZ_SECONDS (600) each
	@scripts/deps.sh build test && FUZZ_SECONDS=$${FUZZ_SECONDS:-600} exec scripts/test.sh fuzz

docs: build ## docs/policies.md and docs/configuration.md from the schemas
	@build/release/moongate docs docs

install: build ## GNU directories; PREFIX and DESTDIR are honoured
	@DESTDIR=$(DESTDIR) cmake --install build/release --prefix $(or $(PREFIX),/usr/local)

clean: ## remove build/
	@rm -rf build
