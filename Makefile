# Everything a fresh clone needs: `make demo`, `make test`. Each target makes the virtual environment it needs;
# a stamp file makes the second run quick.

VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.ready-run
DEV_STAMP := $(VENV)/.ready-dev
# Tests wait more than they work; more processes than cores make those fail that watch the clock. The tests of a file stay
# in one process, which shares daemons among them (groups of pytest-xdist 3.8 have no effect under pytest 9). Files come in
# the order of tests/conftest.py, those that take long first: xdist would put those with few tests last.
PROCESSES ?= 2
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# The first interpreter that is new enough and can make virtual environments; PYTHON=/path/to/python names another.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

# Tests start Python many hundred times: what is compiled once is kept, wherever the environment says otherwise.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo run test test-long bench fuzz check docs lock build wheels deb clean

help: ## show what can be made
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'qedge needs Python 3.11 or newer with its venv module; fix: install python3.11 and python3.11-venv, or run make PYTHON=/path/to/python' >&2; exit 69; }
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): locks/run.txt pyproject.toml | $(BIN)/python
	@echo 'Installing qedge'
	@$(PIP) install -r locks/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# What is not in locks/run.txt alone, so that both can be installed at once; most of it is never imported: Python compiles
# the rest when it is.
$(DEV_STAMP): locks/dev.txt locks/run.txt | $(BIN)/python
	@echo 'Installing what the tests and checks need'
	@grep -vxFf locks/run.txt locks/dev.txt > $(VENV)/dev-only.txt
	@$(PIP) install --no-deps --no-compile -r $(VENV)/dev-only.txt
	@touch $@

setup: | $(BIN)/python ## make the virtual environment with all tools
	@$(MAKE) --no-print-directory -j2 $(RUN_STAMP) $(DEV_STAMP)

demo: $(RUN_STAMP) ## start a real node and show it at work and under faults
	@$(BIN)/qedge demo $(ARGS)

run: $(RUN_STAMP) ## run a node in the foreground
	@$(BIN)/qedge run $(ARGS)

test: setup ## all tests but the long ones
	@$(BIN)/python -m pytest -m 'not long' -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: setup ## the same claims with larger numbers
	@$(BIN)/python -m pytest -m long $(ARGS)

bench: setup ## measure; NAMES="engine-latency …" for some
	@$(BIN)/python -c 'import ply, qiskit_aer' 2>/dev/null || $(PIP) install -e '.[bench]'
	@$(BIN)/python -m benchmarks $(NAMES)

fuzz: setup ## look for input that breaks the parsers, led by coverage; SECONDS=300
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP) install atheris
	@$(BIN)/python -m tests.fuzz.openqasm $(or $(SECONDS),300)
	@$(BIN)/python -m tests.fuzz.policy $(or $(SECONDS),300)
	@$(BIN)/python -m tests.fuzz.devices $(or $(SECONDS),300)
	@$(BIN)/python -m tests.fuzz.frames $(or $(SECONDS),300)

check: setup ## style, types, layers, fresh documentation, licences
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/python -m pytest -q -p no:randomly tests/house/test_licences.py

docs: setup ## write the generated pages and configs/agent.full.toml again
	@$(BIN)/python docs/generate.py

lock: setup ## write the installed versions to locks/
	@$(BIN)/python packaging/lock.py

build: setup ## build all wheels into dist/
	@$(BIN)/python -m hatchling build -t wheel -d dist
	@for part in packaging/*/pyproject.toml; do \
		(cd "$$(dirname "$$part")" && $(CURDIR)/$(BIN)/python -m hatchling build -t wheel -d $(CURDIR)/dist) || exit 1; done

wheels: $(RUN_STAMP) ## gather the wheels of qedge and of all that it needs into dist/wheels
	@rm -rf dist/wheels
	@$(PIP) wheel --wheel-dir dist/wheels --requirement locks/run.txt
	@$(BIN)/python -m hatchling build -t wheel -d dist/wheels

deb: wheels ## build the Debian package into dist/
	@$(BIN)/python packaging/deb/build.py

clean: ## remove the virtual environment and everything made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
