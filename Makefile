# Quorate: `make help` lists the commands.
CARGO ?= cargo
.DEFAULT_GOAL := help

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

fix: ## format
	$(CARGO) fmt --all

verify: ## formats, lints, unit and simulation tests (no root, no Kubernetes)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --locked --workspace

MINUTES ?= 1
sim: ## simulate for MINUTES and print what was checked
	$(CARGO) run --release --locked -p quorate-sim --bin sim -- run --minutes $(MINUTES)

test: verify ## every test

.PHONY: help fix verify sim test
