# SPDX-License-Identifier: Apache-2.0
#
# The image, and the manifests of its DaemonSet.

.PHONY: test-deploy image test-image

# A module of its own, which takes Kubernetes' types.
test-deploy: ## Check the manifests of the DaemonSet against the types of Kubernetes' API
	cd deploy && go test -count=1 ./...

image: ## Build the image of dpservice, with a DPDK for 132 ports, into build/image/ (root, network; BASE=, GO=: images to build on)
	tools/setup.sh image
	deploy/image.sh

test-image: image ## Start the image's dpservice with more ports than Debian's DPDK has room for (root)
	deploy/image-test.sh
