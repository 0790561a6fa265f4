# Quorate: `make help` lists the commands.
CARGO ?= cargo
.DEFAULT_GOAL := help

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## release binaries under target/release
	$(CARGO) build --release --locked --workspace --bins --exclude quorate-e2e --exclude quorate-sim

fix: ## format, apply lint fixes, regenerate what is generated
	$(CARGO) fmt --all

verify: ## formats, lints, unit and simulation tests (no root, no Kubernetes)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) test --locked --workspace

test: verify ## every test

.PHONY: help build fix verify test
