# SPDX-License-Identifier: Apache-2.0
#
# Debian packages of dpservice.

.PHONY: setup-deb deb test-deb test-chroot

setup-deb:
	tools/setup.sh deb

deb: build setup-deb ## Make Debian packages of dpservice, dpctl and the test NIC in build/package/
	tools/package/build.sh

test-deb: deb ## Check the packages, the unit, a confined daemon, and the alerts with a real Prometheus (root)
	go test -count=1 ./tools/package

test-chroot: deb ## Install the packages on a clean Debian 12 and try the README there (root, network)
	tools/package/chroot-test.sh
