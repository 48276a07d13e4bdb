# One tool for everything. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Without byte code every start parses the whole of aws_cdk again: 6 seconds instead of 1.
unexport PYTHONDONTWRITEBYTECODE
# An active environment of another project must not leak into this one.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

PYTHON3 := $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PYTHON := .venv/bin/python
# Node and npm come with the requirements.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# --- set-up: done once, and again only when a lock file changes ---

.venv/python.stamp: requirements.txt
	@test -n "$(PYTHON3)" || { echo "Python 3.11 or newer, with venv, is needed."; exit 1; }
	@echo "setting up: Python packages (once, about half a minute)"
	@rm -rf .venv && $(PYTHON3) -m venv .venv
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --no-compile --no-deps --require-hashes \
		--requirement requirements.txt
	@touch $@

node_modules/npm.stamp: package-lock.json .venv/python.stamp
	@echo "setting up: npm packages (once)"
	@npm ci --silent --no-fund --no-audit --no-update-notifier
	@touch $@

.PHONY: setup
setup: .venv/python.stamp node_modules/npm.stamp ## Install what everything else needs, into the checkout

# --- the front door ---

.PHONY: demo
demo: setup ## Deploy to an embedded AWS and drive real work through it (INPUT=folder, ONLY=semaphore)
	@$(PYTHON) -m demo $(if $(INPUT),--input "$(INPUT)") $(if $(ONLY),--only "$(ONLY)")

.PHONY: test
test: lint types tests ## Pass every check: lint, format, types, all tests with coverage

.PHONY: lint
lint: setup
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check

.PHONY: types
types: setup
	@$(PYTHON) -m mypy

.PHONY: tests
tests: setup
	@$(PYTHON) -m pytest -n 2 --dist loadfile --cov --cov-report=term

.PHONY: snapshots
snapshots: setup ## Record the snapshots anew; read the diff before you commit it
	@$(PYTHON) -m pytest -q tests/constructs/test_snapshots.py --snapshot-update

.PHONY: soak
soak: setup ## Run the semaphore's protocol for a million steps against its model
	@$(PYTHON) -m tests.lambda_src.semaphore.soak

.PHONY: bench
bench: setup build/bench/peer/python.stamp ## Measure what the library costs, as ratios (ONLY=semaphore, SIZES=20,100, OBJECTS=1000000)
	@$(PYTHON) -m benchmarks $(ONLY) $(if $(SIZES),--sizes $(SIZES)) $(if $(OBJECTS),--objects $(OBJECTS))

# What ours is compared with has an environment of its own.
build/bench/peer/python.stamp: benchmarks/peer-requirements.txt | .venv/python.stamp
	@echo "setting up: what ours is compared with (once)"
	@rm -rf $(@D) && $(PYTHON3) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --no-compile --no-deps --require-hashes \
		--requirement benchmarks/peer-requirements.txt
	@touch $@

# --- a real account ---

CDK := node_modules/.bin/cdk

.PHONY: synth
synth: setup ## Synthesize the example app into cdk.out
	@$(CDK) synth --quiet

.PHONY: deploy
deploy: setup ## Deploy the example app to the account of your AWS credentials
	@$(CDK) deploy --all

.PHONY: destroy
destroy: setup ## Remove it again
	@$(CDK) destroy --all

# --- housekeeping ---

.PHONY: lock
lock: setup ## Pin the newest versions that pyproject.toml and package.json allow
	@$(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev --upgrade \
		--no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml --output-file requirements.txt
	@echo state-machine-semaphore | $(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --upgrade --no-emit-index-url --no-emit-find-links --no-annotate --no-header - \
		--output-file benchmarks/peer-requirements.txt
	@npm install --package-lock-only --omit-lockfile-registry-resolved --no-fund --no-audit
	@$(PYTHON) -c 'import json, pathlib; p = pathlib.Path("package-lock.json"); d = json.loads(p.read_text()); \
		[v.pop("funding", None) for v in d["packages"].values()]; p.write_text(json.dumps(d, indent=2) + "\n")'

.PHONY: clean
clean: ## Remove everything that was made here
	@rm -rf .venv node_modules build dist cdk.out .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.*
