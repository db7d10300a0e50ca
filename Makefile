# linearized: everything a checkout needs, from one file.
#
#   make demo          set up, run the demonstration and leave it running until Ctrl-C
#   make demo ONCE=1   the same, checked, then everything is stopped; the exit status says whether all of it held
#   make test          all tests, the coverage gate on the pure packages, and one checked run of the demo
#   make soak          the simulated day of three servers, the room of five kinds and requests made up from the
#                      document of the client API, longer and with many seeds; a large import; and beside a real
#                      homeserver its day, fifty rounds of kills, and a burst from another homeserver
#   make lint          formatting, static checks and types
#   make bench         the benchmarks
#   make clean         remove what this file made inside the checkout (the shared cache stays)
#
# Needs Python 3.11 or later with venv, and a Rust toolchain; `make test` also node 18.20 or later and Chromium. Nothing installed
# globally with pip is used: the project gets .venv in the checkout; the homeserver, matrix-nio and mautrix, which only
# run as programs, get environments of their own in the cache, one for each pinned version, so that a second checkout
# finds them ready. So do ts-mls and matrix-js-sdk, peers in tests.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= $(firstword $(shell command -v python3.11 python3))
SYNAPSE_VERSION := 1.163.2
NIO_VERSION := 0.26.0
MATURIN_VERSION := 1.16.0
MAUTRIX_VERSION := 0.21.1
TS_MLS_PACKAGE := openmls-python/tests/peers/ts_mls/package.json
TS_MLS_VERSION := $(shell sed -n 's/.*"ts-mls": "\(.*\)".*/\1/p' $(TS_MLS_PACKAGE))
JS_SDK_PACKAGE := tests/interop/js_sdk/package.json
JS_SDK_VERSION := $(shell sed -n 's/.*"matrix-js-sdk": "\(.*\)".*/\1/p' $(JS_SDK_PACKAGE))

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/linearized
export CARGO_TARGET_DIR := $(CACHE)/cargo-target
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
BIN := $(VENV)/bin
SYNAPSE := $(CACHE)/synapse-$(SYNAPSE_VERSION)
NIO := $(CACHE)/nio-$(NIO_VERSION)
MAUTRIX := $(CACHE)/mautrix-$(MAUTRIX_VERSION)
MATURIN := $(CACHE)/maturin-$(MATURIN_VERSION)
TS_MLS := $(CACHE)/ts-mls-$(TS_MLS_VERSION)
JS_SDK := $(CACHE)/js-sdk-$(JS_SDK_VERSION)
export LINEARIZED_SYNAPSE_PYTHON := $(SYNAPSE)/bin/python
export LINEARIZED_NIO_PYTHON := $(NIO)/bin/python
export LINEARIZED_MAUTRIX_PYTHON := $(MAUTRIX)/bin/python
export LINEARIZED_JS_SDK := $(JS_SDK)/node_modules
# Where a test needs another implementation of MLS: it is installed here, so that a test without it has to fail.
export LINEARIZED_TS_MLS := $(TS_MLS)/node_modules
export LINEARIZED_PEERS_REQUIRED := 1

BINDING_SOURCES := $(sort $(addprefix openmls-python/,Cargo.toml Cargo.lock pyproject.toml README.md) \
	$(shell find openmls-python/src openmls-python/python -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name py.typed))
PURE := linearized/protocol/*,linearized/mimi/*,linearized/room/*

PURE_TESTS := tests/protocol tests/mimi tests/room

ONCE ?=
DEMO_FLAGS := $(if $(filter-out 0 no,$(ONCE)),--once)

.PHONY: debian debian-node debian-chromium demo test test-binding soak lint lint-python lint-rust bench clean venv synapse nio mautrix ts-mls js-sdk

demo: venv synapse nio
	$(BIN)/linearized demo $(DEMO_FLAGS)

test: venv synapse nio mautrix ts-mls js-sdk debian-chromium
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --cov --cov-report= $(PURE_TESTS)
	$(BIN)/coverage report --include='$(PURE)' --fail-under=100
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal tests $(addprefix --ignore=,$(PURE_TESTS))
	$(MAKE) --jobs 2 --output-sync=target test-binding demo ONCE=1

test-binding: venv ts-mls
	cd openmls-python && ../$(BIN)/python -m pytest

SOAK_SEEDS ?= 20
SOAK_SUBMISSIONS ?= 1000
SOAK_ROUNDS ?= 5
SOAK_IMPORT ?= 20000 1000 0 5
SOAK_DAYS ?= 5
SOAK_KILLS ?= 50
SOAK_BURST ?= 500
SOAK_REQUESTS ?= 50
soak: venv synapse
	LINEARIZED_SOAK_SEEDS=$(SOAK_SEEDS) LINEARIZED_SOAK_ROUNDS=$(SOAK_ROUNDS) $(BIN)/python -m pytest tests/simulation
	LINEARIZED_SOAK_SUBMISSIONS=$(SOAK_SUBMISSIONS) $(BIN)/python -m pytest tests/interop/test_five_kinds.py
	LINEARIZED_SOAK_REQUESTS=$(SOAK_REQUESTS) $(BIN)/python -m pytest tests/server/clients/test_fuzzed.py
	LINEARIZED_SOAK_IMPORT="$(SOAK_IMPORT)" $(BIN)/python -m pytest tests/bridges/imports
	LINEARIZED_SOAK_DAY=$(SOAK_DAYS) LINEARIZED_SOAK_KILLS=$(SOAK_KILLS) LINEARIZED_SOAK_BURST=$(SOAK_BURST) \
		$(BIN)/python -m pytest tests/homeserver

lint: lint-python lint-rust

lint-python: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd openmls-python && ../$(BIN)/mypy

lint-rust:
	cd openmls-python && cargo fmt --check
	cd openmls-python && cargo clippy --quiet --release --locked -- -D warnings

bench: venv synapse
	mkdir -p benchmarks/results
	for file in benchmarks/bench_*.py; do \
		name=$$(basename "$$file" .py); \
		$(BIN)/python -m "benchmarks.$$name" | tee "benchmarks/results/$$name.json"; \
	done

clean:
	rm -rf $(VENV) build dist demo-data .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments ---------------------------------------------------------------------------------------------------

# Debian keeps what a new environment and the Rust linker need in packages of their own.
debian:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update && apt-get install --yes python3-venv; }
	@command -v cc >/dev/null || { apt-get update && apt-get install --yes gcc libc6-dev; }

# Debian's npm is apart from its nodejs; other builds of node bring theirs.
debian-node:
	@command -v node >/dev/null || { apt-get update && apt-get install --yes nodejs; }
	@command -v npm >/dev/null || { apt-get update && apt-get install --yes npm; }

# The browser that the web page is tested in, and what drives it.
debian-chromium:
	@{ command -v chromium && command -v chromedriver; } >/dev/null || \
		{ apt-get update && apt-get install --yes --no-install-recommends chromium chromium-driver; }

venv: $(VENV)/.ready
synapse: $(SYNAPSE)/.ready
nio: $(NIO)/.ready
mautrix: $(MAUTRIX)/.ready

$(VENV)/.created: | debian
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	touch $@

# The wheel is kept in the cache under the hash of its sources: a second checkout only installs it. maturin has an
# environment of its own there, because the interpreter it is run by is part of what cargo rebuilds for. The lock
# keeps two checkouts from building at once.
$(VENV)/.binding: $(VENV)/.created $(MATURIN)/.ready $(BINDING_SOURCES)
	mkdir -p build "$(CACHE)/wheels"
	wheels="$(CACHE)/wheels/$$(sha256sum $(BINDING_SOURCES) | sha256sum | cut -c1-16)"; \
	exec {lock}>"$(CACHE)/binding.lock"; flock "$$lock"; \
	if ! test -d "$$wheels"; then \
		rm -rf build/wheels "$$wheels.partial"; \
		source "$(MATURIN)/bin/activate"; \
		maturin build --release --locked --manifest-path openmls-python/Cargo.toml --out build/wheels; \
		mv build/wheels "$$wheels.partial"; \
		mv "$$wheels.partial" "$$wheels"; \
	fi; \
	$(BIN)/pip install --quiet --force-reinstall --no-deps "$$wheels"/*.whl
	touch $@

$(VENV)/.ready: $(VENV)/.binding pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# $(1): directory, $(2): requirement. Made again from nothing unless it was finished.
define environment
	@mkdir -p "$(CACHE)"
	@flock "$(CACHE)/environments.lock" bash -euo pipefail -c ' \
		test -e "$(1)/.ready" && exit 0; \
		echo "installing $(2)"; \
		rm -rf "$(1)"; \
		"$(PYTHON)" -m venv "$(1)"; \
		"$(1)/bin/pip" install --quiet "$(2)"; \
		touch "$(1)/.ready"'
endef

$(SYNAPSE)/.ready: | debian
	$(call environment,$(SYNAPSE),matrix-synapse==$(SYNAPSE_VERSION))

$(NIO)/.ready: | debian
	$(call environment,$(NIO),matrix-nio==$(NIO_VERSION))

$(MAUTRIX)/.ready: | debian
	$(call environment,$(MAUTRIX),mautrix==$(MAUTRIX_VERSION))

$(MATURIN)/.ready: | debian
	$(call environment,$(MATURIN),maturin==$(MATURIN_VERSION))

# $(1): directory, $(2): package.json, $(3): name. Made again from nothing unless it was finished with the very same
# package.json. Nothing but files is taken from the packages: npm runs no scripts of theirs.
define node_modules
	@mkdir -p "$(CACHE)"
	@flock "$(CACHE)/environments.lock" bash -euo pipefail -c ' \
		test -e "$(1)/.ready" && cmp --silent "$(2)" "$(1)/package.json" && exit 0; \
		echo "installing $(3)"; \
		rm -rf "$(1)"; \
		mkdir "$(1)"; \
		cp "$(2)" "$(1)"; \
		npm install --prefix "$(1)" --silent --no-package-lock --no-audit --no-fund --ignore-scripts; \
		touch "$(1)/.ready"'
endef

# The MLS implementation that the tests of openmls-python talk to.
ts-mls: | debian-node
	$(call node_modules,$(TS_MLS),$(TS_MLS_PACKAGE),ts-mls==$(TS_MLS_VERSION))

# The Matrix client that the tests let talk to the server.
js-sdk: | debian-node
	$(call node_modules,$(JS_SDK),$(JS_SDK_PACKAGE),matrix-js-sdk==$(JS_SDK_VERSION))
