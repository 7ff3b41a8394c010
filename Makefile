# cdc-sink: `make help` lists what can be made. Needs Python >= 3.11 and a JDK >= 17; the rest is fetched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
FUZZ_SECONDS ?= 20

.DEFAULT_GOAL := help
.PHONY: help venv system check fuzz spark chain chaos workload test demo bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## the locked requirements, with hashes, in .venv

$(STAMP): requirements.lock pyproject.toml
	@echo "installing the locked requirements into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

system: venv ## system parts that the embedded chain needs (JDK, libaio)
	@bash .ci/install_system_parts.sh

check: venv ## format, lint, types, unit tests; no JVM
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(PYTEST) tests/unit -q

fuzz: venv ## hostile input for FUZZ_SECONDS (20); a finding is kept as a case
	@$(PYTEST) tests/fuzz -q
	@$(BIN)/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS)

spark: system ## tests in one local Spark session
	@$(PYTEST) tests/spark -q

chain: system ## tests on the real chain
	@$(PYTEST) tests/chain -q

chaos: system ## kills at every step, then equality
	@$(PYTEST) tests/chaos -q

workload: system ## random changes on one database for minutes, then equality
	@$(BIN)/python -m tests.workload $(or $(WORKLOAD_ARGS),--database postgresql)

test: system ## everything, three groups at once; the longest begin first
	@$(MAKE) --no-print-directory -j3 -Oline spark chain chaos check fuzz

demo: system ## a small shop through the whole chain, live, then verified
	@$(BIN)/cdc-sink demo $(DEMO_ARGS)

bench: system ## the figures of the README, measured here
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

lock: venv ## make requirements.lock anew from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml --extra spark --extra chain --group dev --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock

clean: ## remove what was made here; the caches of pip and of the jars stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis work spark-warehouse
