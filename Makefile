# iotoll: `make help` lists the targets. Needs Go 1.26 and Debian 12; `make deps`
# installs the rest with apt-get, and the other targets call it.

SHELL := /bin/bash
GO    ?= go
SUDO  := $(if $(filter 0,$(shell id -u)),,sudo)
DEPS  := gcc libc6-dev mosquitto mosquitto-clients mosquitto-dev libmosquitto-dev

LEDGER   ?= legacy
FUZZTIME ?= 1m
SOAK     ?= 10m

.DEFAULT_GOAL := help
.PHONY: help deps build demo run test test-brokers test-compose deb test-deb bench soak fuzz lint clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install what is missing on a bare Debian 12 (apt-get)
	@missing=$$(for p in $(DEPS); do dpkg -s $$p >/dev/null 2>&1 || printf '%s ' $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing $$missing"; \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

build: deps ## build/iotoll and build/iotoll.so
	@mkdir -p build
	$(GO) build -o build/iotoll ./cmd/iotoll
	$(GO) build -buildmode=c-shared -o build/iotoll.so ./plugin

demo: build ## the whole story in under a minute, simulated, on free ports; LEDGER=iota: on today's network
	@$(GO) build -o build/demo ./cmd/demo && build/demo -ledger $(LEDGER)

run: build ## the same system, kept up in the foreground
	@$(GO) build -o build/demo ./cmd/demo && build/demo -ledger $(LEDGER) -keep

test: build ## every test, with the race detector and the real broker
	$(GO) vet ./...
	$(GO) test -race -timeout 10m ./...

test-brokers: build ## the tests against Mosquitto 2.0.21 and 2.1, in chroots (root)
	cmd/e2e/brokers.sh

test-compose: deps ## docker-compose up, on base images made from Debian packages
	cmd/e2e/compose.sh

deb: ## Debian packages for amd64 and arm64 in build/dist
	cmd/dist/build.sh

test-deb: deb ## install the packages in bare Debian 12 and 13 chroots (root)
	cmd/dist/test.sh

bench: build ## the measured claims: ratios to other plugins, latencies, costs
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

soak: deps ## random users against a model on the real broker, for SOAK (10m)
	IOTOLL_SOAK=$(SOAK) $(GO) test -tags soak -count 1 -run '^TestSoak$$' -timeout 0 -v ./plugin

fuzz: deps ## every fuzz target for FUZZTIME (1m)
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

lint: ## vet, staticcheck, govulncheck
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

clean: ## remove what was built
	rm -rf build
