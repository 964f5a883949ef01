# SPDX-License-Identifier: Apache-2.0
#
# dpservice on other releases of Debian and on another processor, in chroots that are kept: see docs/operations.md.

.PHONY: test-trixie test-sid build-arm64 setup-image test-system test-system-nics test-system-programs programs-arm64

setup-image:
	tools/setup.sh image

test-trixie: setup-image ## Build and test on Debian 13, with DPDK 24.11 (root, network)
	tools/systems.sh trixie

test-sid: setup-image ## Build and test on Debian unstable, with DPDK 25.11 (root, network)
	tools/systems.sh sid

build-arm64: setup-image ## Build dpservice and dpctl for arm64 into build/arm64/ (root, network)
	tools/systems.sh arm64
	rm -rf build/arm64
	cp -r build/systems/arm64/build/arm64 build/

# The rest runs in the chroots. Not every mirror has the source of every DPDK: without it there are no test NICs.
test-system:
	tools/setup.sh programs
	if tools/setup.sh; then $(MAKE) test-system-nics; else $(MAKE) test-system-programs; fi

# Not under the race detector, which finds the same everywhere, but in the build's mode: Go compiles all packages once.
# Linters find the same, too, and there are none.
unit_tests = $(in_runtime_dir) go test -buildmode=pie -count=1 -p 1
unit_packages = $$(go list ./... | grep -vE '$(not_unit)|/test/layers$$$(1)')

# net_mlx5 asks the virtual card, which was written for that of DPDK 22.11, for what it does not know.
on_the_card := AnswersOfTheDriver|FlowPerfOnTheDriver

# With DPDK 25.11 testpmd ends over an item with a prefix, and Debian unstable has no ISC dhclient.
newest := |EveryItemActionAndRefusal|GuestsBoot
failing = '^Test($(on_the_card)$(if $(shell pkg-config --atleast-version=25.11 libdpdk && echo yes),$(newest)))$$'

test-system-nics: build
	meson test -C build/meson --print-errorlogs
	@$(unit_tests) -skip $(failing) $(call unit_packages,|/test/connectx/testpmd$$)
	go test -count=1 -timeout 30m -skip $(failing) ./test/e2e/...

tests_with_nic := ^Test(Life|PortsOfTheNIC|RulesLife|CreateBatch|DevDump|IndirectActions|Ageing|Refusals|ARefusalByTheCard$\
	|QueryWithoutCount|Isolate|ASetOnTheNIC|DestroyBatch|TestpmdReplaysTheCommands|RoundTripThroughTestpmd)$$
some_with_nic := /(dpservice/daemon|rteflow)$$
all_with_nic := /(cgo/ethdev|test/(connectx/testpmd|flowperf|testpmd))$$

test-system-programs: programs
	@$(unit_tests) $(call unit_packages,|$(some_with_nic)|$(all_with_nic))
	@$(unit_tests) -skip '$(tests_with_nic)' $$(go list ./... | grep -E '$(some_with_nic)')
	@echo 'test-system: without the source of DPDK, so without the test NICs and what needs them'

# As there is no arm64 machine: dpctl runs as an emulator runs it, and dpservice as far as it needs no NIC.
programs-arm64: export GOARCH := arm64
programs-arm64: export CGO_ENABLED := 1
programs-arm64: export CC := aarch64-linux-gnu-gcc
programs-arm64: export PKG_CONFIG_LIBDIR := /usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig
programs-arm64:
	$(MAKE) programs out=build/arm64
	file build/arm64/dpservice build/arm64/dpctl
	qemu-aarch64-static build/arm64/dpctl --help >/dev/null
	qemu-aarch64-static build/arm64/dpservice --help >/dev/null
