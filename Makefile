# Quorate: `make help` lists the commands.
CARGO ?= cargo
LAB = $(CARGO) run --quiet --locked -p quorate-e2e --bin quorate-lab --
CRD = storeclusters.quorate.io.yaml
.DEFAULT_GOAL := help

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

CONSENSUS ?= Raft
up: ## Kubernetes, the operator and a StoreCluster on this machine (root; or KUBECONFIG and QUORATE_REGISTRY; CONSENSUS=Zab)
	@$(LAB) up --consensus $(CONSENSUS)

down: ## remove everything that `make up` made
	@$(LAB) down

kubernetes-up: ## the embedded Kubernetes alone
	@$(LAB) kubernetes-up

kubernetes-down: ## end it
	@$(LAB) kubernetes-down

images: ## OCI archives of node and operator in target/images
	@$(LAB) images

build: ## the release binaries in target/release
	$(CARGO) build --release --locked -p quorate-server -p quorate-cli -p quorate-operator

playground: build ## three members in this terminal (no Kubernetes, no root)
	@target/release/quorate playground

fix: ## format, and generate what is generated
	$(CARGO) fmt --all
	$(CARGO) run --quiet -p quorate-operator --bin crdgen > crds/$(CRD).new
	mv crds/$(CRD).new crds/$(CRD)
	cp crds/$(CRD) charts/quorate-operator/crds/$(CRD)

verify: ## formats, lints, unit and simulation tests (no root, no Kubernetes)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace

KILLS ?= 1000
MINUTES ?= 1
JOBS ?= 1
sim: ## simulate for MINUTES on JOBS threads and print what was checked
	$(CARGO) run --profile simulation --locked -p quorate-sim --bin sim -- run --minutes $(MINUTES) --jobs $(JOBS)

mutants: ## plant every known bug, one at a time, and see whether explorer and simulator catch it (JOBS=2)
	$(CARGO) test --profile simulation --locked -p quorate-consensus --features mutants --lib explore -- --include-ignored
	$(CARGO) test --profile simulation --locked -p quorate-sim --features mutants --lib --test shrinking
	$(CARGO) run --profile simulation --locked -p quorate-sim --features mutants --bin sim -- mutants --jobs $(JOBS) --docs docs/mutants.md --date $$(date +%F)

partitions: ## cut links in every way that matters: how long each protocol took to serve again (docs/partitions.md)
	$(CARGO) run --profile simulation --locked -p quorate-sim --bin sim -- partitions > docs/partitions.md.new
	mv docs/partitions.md.new docs/partitions.md

kills: ## kill real members under load KILLS times with each protocol, and check every client's history
	KILLS=$(KILLS) $(CARGO) test --release --locked -p quorate-server --test processes kills:: -- --nocapture --test-threads=1

BENCH = $(CARGO) run --quiet --locked -p quorate-e2e --bin quorate-benchmarks --
bench: ## Quorate beside etcd, one and three members, with three generators; results go to docs/benchmarks (half an hour)
	@$(BENCH) full

bench-quick: ## its short form, under 4 minutes; recorded for bench-check
	@$(BENCH) quick

bench-check: ## the short form again: an error if a ratio to etcd is more than 15 % worse than recorded
	@$(BENCH) check

bench-growth: ## clients, values, keys and members grow: tables and plots (an hour and a half)
	@$(BENCH) growth

KILLS_OF_LEADERS ?= 50
STOPS_OF_LEADERS ?= 50
bench-failover: ## the leader is killed and stopped: gaps between acknowledged writes, beside etcd's
	@$(BENCH) failover --kills $(KILLS_OF_LEADERS) --stops $(STOPS_OF_LEADERS)

profile: ## flame graphs of a member, and the budget of one Put (linux-perf)
	@$(BENCH) profile

test: verify ## every test, those on the embedded Kubernetes too (root)
	$(CARGO) test --locked -p quorate-e2e --test charts -- --ignored
	$(CARGO) test --locked -p quorate-e2e --test kubernetes -- --ignored --test-threads=1
	$(CARGO) test --locked -p quorate-e2e --test leftovers -- --ignored

# The playground's test and the lab start each other's programs: they are built first.
.PHONY: help bench bench-quick bench-check bench-growth bench-failover profile playground up down kubernetes-up kubernetes-down images build fix verify sim mutants partitions kills test
