# SPDX-License-Identifier: Apache-2.0
#
# dpservice on other releases of Debian and on another processor.

.PHONY: test-trixie test-sid test-system build-arm64 programs-arm64

# The packages of another release are installed in a chroot that is kept; see docs/operations.md.
test-trixie: ## Build and test on Debian 13, with DPDK 24.11 (root, network)
	tools/setup.sh image
	tools/systems.sh trixie

test-sid: ## Build and test on Debian unstable, with DPDK 25.11 (root, network)
	tools/setup.sh image
	tools/systems.sh sid

# In the chroot. Some mirrors have no source of its DPDK: then there are no test NICs, and no tests that need them.
# Without the race detector, which finds the same on every system, and with the mode of the build: so Go compiles all once.
test-system:
	tools/setup.sh programs
	if tools/setup.sh; then \
		$(MAKE) build && meson test -C build/meson --print-errorlogs && $(MAKE) unit race=-buildmode=pie && $(MAKE) e2e; \
	else \
		$(MAKE) programs && $(MAKE) unit race=-buildmode=pie without='$(needs_nic)'; \
	fi

needs_nic := /test/(connectx/testpmd|flowperf|testpmd|topology)$$

build-arm64: ## Build dpservice and dpctl for arm64 into build/arm64/ (root, network)
	tools/setup.sh image
	tools/systems.sh arm64
	rm -rf build/arm64
	cp -r build/systems/arm64/build/arm64 build/

# As there is no arm64 machine: dpctl runs as an emulator runs it, and dpservice as far as it needs no NIC.
programs-arm64: arm64 := GOARCH=arm64 CGO_ENABLED=1 CC=aarch64-linux-gnu-gcc PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig
programs-arm64:
	$(arm64) $(MAKE) programs out=build/arm64
	file build/arm64/dpservice build/arm64/dpctl
	qemu-aarch64-static build/arm64/dpctl --help >/dev/null
	qemu-aarch64-static build/arm64/dpservice --help >/dev/null
