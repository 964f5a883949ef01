# SPDX-License-Identifier: Apache-2.0
#
# A thin face of the tools underneath: go, meson, golangci-lint, tools/setup.sh. `make help` lists the targets.

export GOFLAGS := -buildvcs=false
# The toolchain that go.mod names, whatever is installed: a newer one mends what govulncheck finds in the standard library.
export GOTOOLCHAIN := $(shell sed -n 's/^toolchain //p' go.mod)
SHELL := /bin/bash
version := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# What makes faults harder to exploit: meson.build has the same for the test NIC. A test looks at the built files.
export CGO_CFLAGS := -O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2
# Among DPDK's own flags, where the compiler knows them: on amd64 since 24.11, and on arm64.
export CGO_CFLAGS_ALLOW := -mrtm|-moutline-atomics
named := -X dpservice/dpservice/version.version=$(version)
gobuild := go build -buildmode=pie -ldflags "-linkmode=external -extldflags '-Wl,-z,relro,-z,now' $(named)"
# Without C: one file for any sink; and it gives up privileges, which the threads of C libraries could keep.
gobuild_pure := CGO_ENABLED=0 go build -buildmode=pie -ldflags "-bindnow $(named)"

EXTCAP_DIR ?= $(HOME)/.local/lib/wireshark/extcap
LUA_DIR ?= $(HOME)/.local/lib/wireshark/plugins
DPCTL ?= $(CURDIR)/build/dpctl

# The NIC of the demo and the end-to-end tests: net_eswitch, or net_mlx5 over a virtual ConnectX; and which card: cx5, cx6dx, cx7.
NIC ?= net_eswitch
CARD ?= cx6dx
export DPLAB_NIC := $(NIC)
export DPLAB_CARD := $(CARD)

.DEFAULT_GOAL := help
.PHONY: help setup build programs build-asan test demo lint format vuln unit cunit e2e e2e-mlx5 e2e-asan kill model fuzz bench draw try-bench install-extcap clean

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
	$(MAKE) -j2 e2e lint vuln unit e2e-mlx5 e2e-asan model cunit RUN='^Test(CaptureOffloadedTraffic|PathsRewriteAlike|EveryCallFails)/filtered|tx|interface'
	$(MAKE) try-bench
	$(MAKE) test-deb test-deploy test-fleet lint-fleet vuln-fleet
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
	$(gobuild) -o build/ ./tools/demo
	$(MAKE) programs

out := build

# Without asking for packages: whoever builds elsewhere brings a DPDK that pkg-config finds.
programs: ## Build dpservice and dpctl alone, into out=build
	$(gobuild) -o $(out)/ ./dpservice
	$(gobuild_pure) -o $(out)/ ./tools/dpctl

lint: ## Check the Go code's style and the C code with clang's warnings as errors
	build/bin/golangci-lint run --allow-parallel-runners
	@! grep -rl --include='*.go' '^import "C"' . | grep -vE '^\./(cgo|rteflow|graph)/' || \
		{ echo 'lint: import "C" outside cgo/, rteflow/ and graph/' >&2; exit 1; }
	@! git grep -nw __rte_packed -- '*.c' '*.h' || \
		{ echo 'lint: DPDK 25.11 refuses __rte_packed: write __attribute__((__packed__))' >&2; exit 1; }
	git ls-files '*.c' '*.h' | xargs clang-format-14 --dry-run -Werror
	git ls-files 'cgo/*.c' 'graph/*.c' | xargs clang -fsyntax-only -std=gnu11 -Wall -Wextra -Werror -Watomic-implicit-seq-cst \
		-D_GNU_SOURCE -DALLOW_EXPERIMENTAL_API $$(pkg-config --cflags libdpdk | sed 's/-I/-isystem /g')
	[ -f build/meson-clang/build.ninja ] || CC=clang meson setup build/meson-clang
	ninja -C build/meson-clang

format: ## Bring the C code into the style of .clang-format
	git ls-files '*.c' '*.h' | xargs clang-format-14 -i

vuln: ## Look for known vulnerabilities in the Go code, its modules and its toolchain; fail on those that can be mended
	go run ./tools/vulncheck build/bin/govulncheck build/vulndb

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

# Targets of their own run these.
not_unit := /test/(e2e|model)$$|/tools/(bench|package)$$

unit: ## Run the Go unit tests under the race detector, one package at a time: many start workers on both CPUs
	@$(in_runtime_dir) go test -race -count=1 -p 1 $$(go list ./... | grep -vE '$(not_unit)')

try-bench: ## Have the bench measure a little, to see that it can
	@$(in_runtime_dir) go test -race -count=1 ./tools/bench

e2e: ## Run the end-to-end tests on the built binaries (root; NIC=net_mlx5, CARD=cx5|cx6dx|cx7)
	go test -count=1 -timeout 20m ./test/e2e/...

e2e-mlx5: ## Run the end-to-end tests on the distribution's net_mlx5 over the virtual ConnectX (root)
	$(MAKE) e2e NIC=net_mlx5

kill: export DPSERVICE_KILLS ?= 200
kill: build ## Kill a daemon DPSERVICE_KILLS=200 times at random moments under changes, and look at what it has kept (root)
	go test -count=1 -timeout 60m ./test/e2e -run '^TestRandomKills$$'

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

# The same cases each time, of which as many as there is time for; MODEL= plays new ones, MODEL='-model.seed=N' those of a failure.
MODEL ?= -model.seed=1

model: ## Compare the test NIC and net_mlx5 with a reference, and with each other, on random rules and packets (root)
	@$(in_runtime_dir) go test -race -count=1 -v ./test/model -args $(MODEL)

draw: ## Draw docs/graph.svg anew, after the packet graph has changed (root)
	@$(in_runtime_dir) go test -count=1 ./graph -run TestDrawing -draw

bench: build ## Measure forwarding beside dpdk-testpmd, rules beside dpdk-test-flow-perf; write build/bench.json and .svg (root)
	go build -o build/ ./tools/bench
	build/bench

include tools/package/package.mk
include deploy/deploy.mk
include tools/fleet/fleet.mk
include tools/systems.mk

# Wireshark before 4.2 looks for an extcap in the system's folder only: EXTCAP_DIR=/usr/lib/x86_64-linux-gnu/wireshark/extcap.
install-extcap: ## Show the daemon's interfaces, and copies, in Wireshark (EXTCAP_DIR=, LUA_DIR=, DPCTL=, DPSERVICE_SOCKET=)
	install -d "$(EXTCAP_DIR)" "$(LUA_DIR)"
	install -m 644 tools/wireshark/dpservice.lua "$(LUA_DIR)/"
	printf '#!/bin/sh\n%sexec "%s" extcap "$$@"\n' '$(if $(DPSERVICE_SOCKET),export DPSERVICE_SOCKET="$(DPSERVICE_SOCKET)"; )' \
		'$(DPCTL)' >"$(EXTCAP_DIR)/dpservice"
	chmod 755 "$(EXTCAP_DIR)/dpservice"

clean: ## Remove everything that was built
	rm -rf build
