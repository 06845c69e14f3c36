# Everything a newcomer types. Needs make and Python 3.11 or newer; each target makes what it needs, in .venv/ and .model/.

.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

# The one line that checks everything; pre-commit, CI and the README run it too. Three test processes: every suite brings its own ports and files,
# and much of it waits.
LINT := $(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy --strict gateway && $(BIN)/lint-imports
TEST := $(BIN)/python -m pytest -n 3 --dist loadfile

.PHONY: help run test conformance test-browser screenshots test-backends collector test-extra test-all check model run-model bench bench-docs clean

help:
	@echo 'make run        the demo: simulated providers, the gateway, traffic'
	@echo 'make test       lint, types, layers and the tests (under ten minutes)'
	@echo 'make conformance the official SDKs of Python and Node through Weir (about two minutes)'
	@echo 'make test-browser the console in a real Chromium'
	@echo 'make test-backends spans of real streams, read back from real backends (about two minutes)'
	@echo 'make collector  Jaeger and the OpenTelemetry Collector from source, for these tests too (needs Go; minutes)'
	@echo 'make test-all   all of these and the slow tests, with a real model'
	@echo 'make model      build a real llama.cpp server and a small model into .model/ (needs gcc, g++, cmake)'
	@echo 'make run-model  that server behind Weir'
	@echo 'make bench      added latency, CPU and memory beside nginx and a plain relay'
	@echo 'make screenshots take the pictures of the console anew'
	@echo 'make clean      remove everything that these made'

# `exec` puts the program in the shell's place, so that a signal to the process group or to make reaches it with nothing in between.
run: .venv/installed
	@exec $(BIN)/weir demo

test: .venv/installed-dev
	$(LINT) && $(TEST) -m "not slow and not model and not conformance and not browser and not backends"

# The official SDKs of Python and Node, every client dialect against every target dialect; needs nothing that pip and npm do not bring.
conformance: .conformance/installed
	WEIR_CONFORMANCE=1 $(TEST) -m conformance tests/conformance

# The console in Debian's Chromium, which is looked for before anything is installed.
test-browser: chromium .venv/installed-browser
	$(TEST) -m browser tests/browser

# The pictures of docs/img, over a gateway that has run for a minute; on a machine that has nothing else to do.
screenshots: chromium .venv/installed-browser
	$(BIN)/python docs/screenshots.py

# Real streams into real backends. They live in an environment of their own: what they want of their libraries is not what Weir wants.
test-backends: .venv/installed-dev .backends/installed
	WEIR_TEST_BACKENDS=1 $(BIN)/python -m pytest -m backends tests/backends

# Once they are there, `make test-backends` tries them too, and `make test` shows the collector its configuration.
collector:
	@exec tests/backends/build.sh .backends

# Without a slow or model test pytest answers 5, "nothing collected", which is no failure here. One process: these measure.
test-extra: .venv/installed-dev model
	$(BIN)/python -m pytest -m "slow or model" || [ $$? -eq 5 ]

test-all: test
	@$(MAKE) --no-print-directory conformance
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory test-backends
	@$(MAKE) --no-print-directory test-extra

check: .venv/installed-dev
	$(LINT)

model:
	@PYTHON='$(PYTHON)' exec deploy/model/build.sh .model

run-model: .venv/installed model
	@exec deploy/model/run.sh .model

bench: .venv/installed
	@exec $(BIN)/weir bench

# Replaces the result section of the page; on a machine that has nothing else to do.
bench-docs: .venv/installed
	$(BIN)/weir bench --markdown docs/benchmarks.new
	sed -i '/^<!-- results -->$$/q' docs/benchmarks.md
	cat docs/benchmarks.new >>docs/benchmarks.md
	rm docs/benchmarks.new

clean:
	rm -rf .venv .model .conformance .backends build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find gateway tests -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: pyproject.toml
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$(command -v '$(PYTHON)' >/dev/null && '$(PYTHON)' --version 2>&1 || echo missing); \
	  echo "Weir needs Python 3.11 or newer; '$(PYTHON)' is $$found. Say which one to use: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	'$(PYTHON)' -m venv .venv
	$(PIP) install --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install --editable '.[dev]'
	@touch $@

.PHONY: chromium
chromium:
	@command -v "$${WEIR_CHROMIUM:-chromium}" >/dev/null || { \
	  echo 'No Chromium: apt-get install chromium, or say where one is: WEIR_CHROMIUM=/path/to/chromium make ...'; exit 1; }

.venv/installed-browser: .venv/installed-dev
	$(PIP) install --editable '.[dev,browser]'
	@touch $@

# Node comes from PyPI, its packages from npm by the lock file; they stand outside of tests/, where they would be taken for tests.
.conformance/installed: .venv/installed-dev tests/conformance/node/package-lock.json
	$(PIP) install --editable '.[dev,conformance]'
	mkdir -p .conformance
	cp tests/conformance/node/package.json tests/conformance/node/package-lock.json .conformance/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm ci --prefix .conformance --silent --no-audit --no-fund --ignore-scripts
	@touch $@

.backends/installed: tests/backends/requirements.txt
	'$(PYTHON)' -m venv .backends/venv
	.backends/venv/bin/python -m pip --quiet --disable-pip-version-check install --requirement $<
	@touch $@
