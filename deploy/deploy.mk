# SPDX-License-Identifier: Apache-2.0
#
# The manifests of the DaemonSet.

.PHONY: test-deploy

# A module of its own, which takes Kubernetes' types.
test-deploy: ## Check the manifests of the DaemonSet against the types of Kubernetes' API
	cd deploy && go test -count=1 ./...
