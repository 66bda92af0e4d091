# Tocsin: `make help` explains every target. Nothing is needed but Python 3.11+ and make.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PATHS := libs/contracts libs/client libs/kit libs/timers libs/stack libs/testkit services/ingest services/escalation services/notify
SOURCES := libs services tests tools docker
T ?= tests
# Twice the cores that CI has: a third of the time of each worker is waiting.
WORKERS ?= 4
# How long each flood of `make abuse` lasts; the same tests take a second each in `make test`.
ABUSE_SECONDS ?= 60
# How long `make chaos` breaks things; more options in CHAOS, such as CHAOS="--seed 7 --only notify".
MINUTES ?= 5
CHAOS ?=
# How `make test-jitter` delays; tests/jitter.py explains each.
JITTER ?= short,rare,loops,test,sockets,stalls
# How many schedules `make fuzz-schedules` compares, and with which seed.
SCHEDULES ?= 100000
SEED ?= 9

.PHONY: help setup demo up test test-long test-unit abuse chaos check bench protos lint format types boundaries containers pin migrate logs lock clean

help: ## Explain every target
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-20s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv and install everything from the hashed lock

# The Makefile as well: it lists the members that are linked into .venv.
$(READY): requirements.lock Makefile
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Tocsin needs Python 3.11 or newer; set PYTHON=/path/to/python3")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian and Ubuntu install the package python3-venv"; rm -rf $(VENV); exit 1; }
	@echo "Making $(VENV) from the lock: a minute or more, once"
	@awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@$(PY) tools/link_members.py $(PATHS)
	@touch $(READY)

demo: $(READY) ## Show the main job on real servers, check what was shown, and stop
	@$(PY) -m tocsin_testkit.demo

up: $(READY) ## Run the whole stack with readable logs until Ctrl-C
	@$(PY) -m tocsin_stack up

test: $(READY) ## Run the tests (T=path to choose)
	@$(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder -m "not long" $(T)

test-long: $(READY) ## As make test, with the tests that stay under load for long, and longer rounds
	@TEST_ROUNDS=long $(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder $(T)

.PHONY: test-jitter
test-jitter: $(READY) ## Run the tests with random delays, which show what only a fast machine passes (JITTER=rare JITTER_SEED=7)
	@JITTER=$(JITTER) $(if $(JITTER_SEED),JITTER_SEED=$(JITTER_SEED)) $(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder -m "not long" $(T)

test-unit: $(READY) ## Run the tests that need no server
	@$(PY) -m pytest -n auto --no-loadscope-reorder tests/unit tests/architecture

abuse: $(READY) ## Attack the product from outside for longer than the tests do (ABUSE_SECONDS=60)
	@ABUSE_SECONDS=$(ABUSE_SECONDS) $(PY) -m pytest tests/abuse

.PHONY: fuzz-schedules
fuzz-schedules: $(READY) ## Compare who is on call with a slow walk through every minute of random schedules (SCHEDULES=100000)
	@FUZZ_SCHEDULES=$(SCHEDULES) FUZZ_SEED=$(SEED) $(PY) -m pytest -n auto tests/unit/escalation/schedules/test_against_oracle.py

chaos: $(READY) ## Break the running product at random, check what came of it, print a table (MINUTES=5)
	@$(PY) -m tests.chaos --minutes $(MINUTES) $(CHAOS)

check: $(READY) ## Format, lint, types, boundaries, contracts, docs, containers
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint types boundaries protos-check configuration-check metrics-check containers

lint: $(READY) ## Check format and lint
	@$(VENV)/bin/ruff format --check $(SOURCES)
	@$(VENV)/bin/ruff check $(SOURCES)

format: $(READY) ## Format and mend what can be mended
	@$(VENV)/bin/ruff format $(SOURCES)
	@$(VENV)/bin/ruff check --fix $(SOURCES)

types: $(READY) ## Check types (mypy, strict)
	@$(VENV)/bin/mypy $(SOURCES)

boundaries: $(READY) ## Check who may import whom
	@$(PY) -m pytest tests/architecture

protos: $(READY) ## Generate libs/contracts from protos/
	@$(PY) tools/protos.py generate

.PHONY: protos-check
protos-check: $(READY) ## Lint the contracts, look for breaking changes and stale generated code
	@$(PY) tools/protos.py check

.PHONY: configuration configuration-check
configuration: $(READY) ## Generate docs/configuration.md from the settings classes
	@$(PY) tools/configuration.py generate

configuration-check: $(READY) ## Look whether docs/configuration.md is stale
	@$(PY) tools/configuration.py check

.PHONY: metrics metrics-check
metrics: $(READY) ## Generate docs/metrics.md from the metrics classes
	@$(PY) tools/metrics.py generate

metrics-check: $(READY) ## Look whether docs/metrics.md is stale
	@$(PY) tools/metrics.py check

pin: ## Name the images in .env by digest, as their registry has them now
	@python3 tools/containers.py pin

containers: $(READY) ## Validate the Dockerfile and docker-compose.yml with the real tools
	@$(PY) tools/containers.py

bench: $(READY) ## Run every benchmark, or B=bench_name: one JSON line each, with a floor from the same run
	@$(PY) -m tests.bench $(B)

migrate: $(READY) ## Bring the databases named by *_DATABASE_URL (or the embedded ones) to the newest schema
	@$(PY) -m tocsin_stack migrate

logs: ## Follow the logs of `make up`
	@tail -n 200 -F .data/logs/*.log

.PHONY: wheels
wheels: $(READY) ## Build the wheels of all packages into dist/: the client for other systems, the testkit with all that it runs
	@$(PY) tools/wheels.py $(PATHS)

lock: $(READY) ## Compile requirements.lock (everything) and requirements.runtime.lock (images) anew
	@$(PY) tools/lock.py

clean: ## Remove the virtual environment, embedded data and caches
	@rm -rf $(VENV) .data dist libs/*/build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
