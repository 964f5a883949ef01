# SPDX-License-Identifier: Apache-2.0
#
# Captures over all nodes of a Kubernetes cluster: a Go module of its own, which takes Kubernetes' libraries. It has no C, and
# is compiled once only, for programs and tests.

.PHONY: setup-fleet build-fleet lint-fleet vuln-fleet race-fleet test-fleet scale-fleet

setup-fleet build-fleet lint-fleet vuln-fleet test-fleet scale-fleet: export CGO_ENABLED = 0

setup-fleet:
	tools/setup.sh fleet

build-fleet: ## Build dpservice-agent, dpservice-summary, dpservice-collector and kubectl-dpcapture into build/fleet/
	mkdir -p build/fleet
	cd tools/fleet && go build -o ../../build/fleet/ ./cmd/...

lint-fleet: setup-lint ## Check the style of what is for Kubernetes
	cd tools/fleet && ../../build/bin/golangci-lint run --allow-parallel-runners -c ../../.golangci.yaml ./...

vuln-fleet: setup-lint ## Look for known vulnerabilities in what is for Kubernetes
	cd tools/fleet && go run dpservice/tools/vulncheck ../../build/bin/govulncheck ../../build/vulndb-fleet

race-fleet: export CGO_ENABLED = 1
race-fleet: setup-fleet ## Run the unit tests of what is for Kubernetes under the race detector, which compiles Kubernetes' libraries anew
	cd tools/fleet && go test -race -count=1 -p 1 ./agent ./collector ./merge ./summary ./internal/...

test-fleet: setup-fleet build-fleet ## Test captures over all nodes on a real API server, with real daemons (root; after make build)
	cd tools/fleet && go vet ./... && go test -count=1 -p 1 ./...

scale-fleet: export NODES ?= 1000
scale-fleet: setup-fleet ## Measure captures over NODES=1000 simulated nodes
	cd tools/fleet && go test -count=1 -v -timeout 60m ./test/scale -args -nodes $$NODES -steady 60s 2>&1 | grep -E '^(---|ok|FAIL)|_test.go'
