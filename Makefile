# SPDX-License-Identifier: Apache-2.0
#
# A thin face of the tools underneath: go, meson, golangci-lint, tools/setup.sh. `make help` lists the targets.

export GOFLAGS := -buildvcs=false
SHELL := /bin/bash
version := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
gobuild := go build -ldflags "-X dpservice/dpservice/version.version=$(version)"

EXTCAP_DIR ?= $(HOME)/.local/lib/wireshark/extcap
DPCTL ?= $(CURDIR)/build/dpctl

# The NIC of the demo and the end-to-end tests: net_eswitch, or net_mlx5 over a virtual ConnectX; and which card: cx5, cx6dx, cx7.
NIC ?= net_eswitch
CARD ?= cx6dx
export DPLAB_NIC := $(NIC)
export DPLAB_CARD := $(CARD)

.DEFAULT_GOAL := help
.PHONY: help setup build build-asan test demo lint unit cunit e2e e2e-asan model fuzz bench try-bench install-extcap clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: build ## Install what is missing, build, and show a capture of offloaded packets (root; NIC=net_mlx5: on the real driver)
	build/demo

# go test hides what passing tests print, so they write here what they have tried. The end-to-end tests mostly wait for
# packets: meanwhile all others run, one after the other, but for the one that takes the CPUs from all.
report := $(CURDIR)/build/test-report.txt

test: export DPSERVICE_TEST_REPORT := $(report)
test: ## Install what is missing, build, lint, run every test, and say how much these have tried (root)
	rm -f $(report)
	$(MAKE) setup-lint build
	$(MAKE) -j2 e2e lint unit e2e-asan model cunit RUN='^Test(CaptureOffloadedTraffic|PathsRewriteAlike|EveryCallFails)/filtered|tx|interface'
	$(MAKE) try-bench
	@echo 'The tests have tried:'
	@sed 's/^/  /' $(report)

setup: ## Install packages and fetch DPDK's driver headers
	tools/setup.sh

setup-lint:
	tools/setup.sh lint

build: setup ## Build dpservice, dpctl and the test NICs into build/
	[ -f build/meson/build.ninja ] || meson setup build/meson
	ninja -C build/meson
	cp build/meson/test/net_eswitch/librte_net_eswitch.so build/meson/test/connectx/libconnectx.so build/
	$(gobuild) -o build/ ./dpservice ./tools/dpctl ./tools/demo

lint: ## Check the Go code's style and the C code with clang's warnings as errors
	build/bin/golangci-lint run --allow-parallel-runners
	@! grep -rl --include='*.go' '^import "C"' . | grep -vE '^\./(cgo|rteflow|graph)/' || \
		{ echo 'lint: import "C" outside cgo/, rteflow/ and graph/' >&2; exit 1; }
	[ -f build/meson-clang/build.ninja ] || CC=clang meson setup build/meson-clang
	ninja -C build/meson-clang

build-asan:
	[ -f build/meson-asan/build.ninja ] || meson setup build/meson-asan -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C build/meson-asan

cunit: build-asan ## Test the NIC's C code, also under ASan and UBSan, and with what the fuzzers have found
	meson test -C build/meson --print-errorlogs
	env -u DPSERVICE_TEST_REPORT meson test -C build/meson-asan --print-errorlogs
	tools/fuzz.sh replay

fuzz: build ## Look for new inputs that break a parser, FUZZ_SECONDS=60 for each fuzzer (root)
	tools/fuzz.sh run

# EAL leaves a folder for each of its runs.
in_runtime_dir = dir=$$(mktemp -d /run/dpservice-test.XXXXXX); trap "rm -rf $$dir" EXIT; RUNTIME_DIRECTORY=$$dir

unit: ## Run the Go unit tests under the race detector, one package at a time: many start workers on both CPUs
	@$(in_runtime_dir) go test -race -count=1 -p 1 $$(go list ./... | grep -vE '/test/(e2e|model)$$|/tools/bench$$')

try-bench: ## Have the bench measure a little, to see that it can
	@$(in_runtime_dir) go test -race -count=1 ./tools/bench

e2e: ## Run the end-to-end tests on the built binaries (root; NIC=net_mlx5, CARD=cx5|cx6dx|cx7)
	go test -count=1 -timeout 20m ./test/e2e/...

asan_reports := $(CURDIR)/build/asan/reports

# Not every test looks at how a daemon ends, so what the sanitizers say goes to files. Leaks are the C unit tests' to find.
e2e-asan: build-asan ## Run the end-to-end tests, or those that match RUN, on a dpservice and a NIC under ASan and UBSan (root)
	rm -rf $(asan_reports)
	mkdir -p $(asan_reports)
	CGO_CFLAGS='-O1 -g -fsanitize=undefined -fno-sanitize-recover=all' CGO_LDFLAGS=-fsanitize=undefined \
		$(gobuild) -asan -o build/asan/ ./dpservice
	cp build/meson-asan/test/net_eswitch/librte_net_eswitch.so build/dpctl build/demo build/asan/
	DPLAB_BUILD=$(CURDIR)/build/asan ASAN_OPTIONS=detect_leaks=0:log_path=$(asan_reports)/asan \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path=$(asan_reports)/ubsan \
		go test -count=1 -timeout 20m ./test/e2e/... -run '$(or $(RUN),.)'; \
		status=$$?; ! cat $(asan_reports)/* 2>/dev/null && exit $$status

model: ## Compare the test NIC and net_mlx5 with a reference, and with each other, on random rules and packets (root)
	@$(in_runtime_dir) go test -race -count=1 -v ./test/model -args $(MODEL)

bench: build ## Measure forwarding beside dpdk-testpmd, rules beside dpdk-test-flow-perf; write build/bench.json and .svg (root)
	go build -o build/ ./tools/bench
	build/bench

# Wireshark before 4.2 looks into the system's folder only: EXTCAP_DIR=/usr/lib/x86_64-linux-gnu/wireshark/extcap.
install-extcap: ## Show the daemon's interfaces in Wireshark (EXTCAP_DIR=, DPCTL=, DPSERVICE_SOCKET=)
	install -d "$(EXTCAP_DIR)"
	printf '#!/bin/sh\n%sexec "%s" extcap "$$@"\n' '$(if $(DPSERVICE_SOCKET),export DPSERVICE_SOCKET="$(DPSERVICE_SOCKET)"; )' \
		'$(DPCTL)' >"$(EXTCAP_DIR)/dpservice"
	chmod 755 "$(EXTCAP_DIR)/dpservice"

clean: ## Remove everything that was built
	rm -rf build
