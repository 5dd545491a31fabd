# What one can do here. `make` alone lists it.

CARGO ?= cargo
export CARGO
BIN = $(or $(CARGO_TARGET_DIR),target)/debug

.DEFAULT_GOAL := help
.PHONY: help setup build demo up test lint fmt docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: Redis, PostgreSQL, a C compiler
	@scripts/setup

build: setup ## Build all programs
	$(CARGO) build --workspace --bins

demo: build ## Start the system, send it the samples, show the history, stop
	$(BIN)/imgsys-local demo samples

up: build ## Start the system and keep it running (DATA=dir keeps its data elsewhere)
	$(BIN)/imgsys-local up $(if $(DATA),--data $(DATA))

# Programs and tests are built in one go: tests start the programs beside them, and built one after
# the other both would build some dependencies twice, with different features.
test: setup ## Run every test
	$(CARGO) build --workspace --bins --tests
	$(CARGO) test --workspace --doc --quiet
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --workspace; \
	else \
		set -x; $(CARGO) test --workspace --bins --lib --tests --no-fail-fast; \
	fi

lint: setup ## Check format, lints, documentation and the length of files
	$(CARGO) fmt --all --check
	scripts/check-length
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

fmt: ## Format the code
	$(CARGO) fmt --all

docs: ## Build the documentation of the crates
	$(CARGO) doc --workspace --no-deps

clean: ## Remove what was built
	$(CARGO) clean
