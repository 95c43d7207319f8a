# Each target builds .venv first when it is missing or older than pyproject.toml.
# `make` lists the targets; CI runs `make test` and nothing else.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
JOBS ?= auto
PYTEST := $(BIN)/python -m pytest
# Small pieces: the slow tests come first, and who has many of them would go on alone when the others are done.
SPREAD := --maxschedchunk=8
# Tests run side by side; `make test-cli JOBS=0 ARGS='-k version -x'` runs a few in one process.
ARGS ?=
# Where the environment says that no bytecode is written, each worker would compile all tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup check lint types imports compiled fmt unit test test-unit test-contract test-compat test-property test-faults test-cli \
	again demo dist bench power soak frameworks harnesses docs docs-check sweep clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with avfs and its tools

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "avfs needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

check: $(STAMP) ## What a commit must pass: lint, types, layers, the unit tests that are not slow (a minute)
	@$(MAKE) --no-print-directory --output-sync=target --jobs=4 lint types imports unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(PYTEST) -q $(SPREAD) -n $(JOBS) -m "not slow" tests/unit $(ARGS)

fmt: $(STAMP) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

# Two more than processors: a test waits for the disk or for a process a fifth of its time.
test test-unit test-contract test-compat test-property test-faults test-cli: JOBS = $(shell expr $$(nproc) + 2)

test: lint imports ## Everything that this machine can run
	@$(MAKE) --no-print-directory --output-sync=target --jobs=2 types compiled
	$(PYTEST) $(SPREAD) -n $(JOBS) tests $(ARGS) || { [[ $$? == 1 && -n "$${CI:-}" ]] && $(MAKE) --no-print-directory again; }

# What the workers would all do, and at the same time. What cannot be imported is told when the tests run.
compiled: $(STAMP)
	@$(BIN)/python -m compileall -q avfs_git tests/support
	@$(PYTEST) --collect-only -qq tests > /dev/null || true

# In CI a failure decides over work that cannot be run again; on a developer's machine it is looked into.
again: $(STAMP) ## Run alone what failed in the last run, and fail with it; more than three failures are no moment's bad luck
	$(BIN)/python -m tests.support.failed 3
	$(PYTEST) -n 0 --last-failed --last-failed-no-failures=none tests

test-unit: $(STAMP) ## Unit tests: no mount, no git command
test-contract: $(STAMP) ## The promises that each part makes to the ones above it
test-compat: $(STAMP) ## Against git itself
test-property: $(STAMP) ## Hypothesis: round trips and the state machine
test-faults: $(STAMP) ## Failing, killed and full disks at each named step
test-cli: $(STAMP) ## The command line: text, JSON, exit codes, help

test-unit test-contract test-compat test-property test-faults test-cli:
	$(PYTEST) $(SPREAD) -n $(JOBS) tests/$(patsubst test-%,%,$@) $(ARGS)

demo: $(STAMP) ## The main job on real input: vault, forks, checkpoints, restore, undo
	@PATH="$(CURDIR)/$(BIN):$$PATH" docs/demo.sh

dist: $(STAMP) ## Build the wheel into dist/, install it in a fresh environment, and run avfs from there
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(PYTHON) -m venv dist/check
	dist/check/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd / && "$(CURDIR)/dist/check/bin/avfs" --help > /dev/null && "$(CURDIR)/dist/check/bin/avfs" --version
	test "$$(find avfs_git -type f ! -name '*.pyc' | wc -l)" = "$$($(BIN)/python -m zipfile -l dist/*.whl | grep -c '^avfs_git/')"
	rm -rf dist/check
	@ls dist/*.whl

bench: $(STAMP) ## Measure the bars and write docs/design/benchmarks.md
	$(BIN)/python -m tests.bench $(ARGS)

power: $(STAMP) ## Cut the power 18 times on ext4 and on XFS, in loop-mounted images (root)
	$(BIN)/python -m tests.soak $(ARGS)

soak: $(STAMP) ## Fuzz all readers and the MCP server over HTTP, kill a session's server every 250 ms, each a minute, and writers of its hand-over 30,000 times; run what the policy calls reading; run all pairs of two actors as root and as an ordinary user (hours), 100 sequences of processes that take turns and 500 walks of a live tree beside pushes as each, each test that takes turns with all of its cases, users and backends, and the state machines with 50 times as many examples (hours); then cut the power 200 times each
	$(BIN)/python -m tests.support.fuzz 60
	$(BIN)/python -m tests.support.fuzz_http 60
	$(BIN)/python -m tests.support.killed_session 60 0.25
	$(BIN)/python -m tests.support.torn_handover 30000
	$(BIN)/python -m tests.support.policy_truth --count 20000
	$(BIN)/python -m tests.support.two_actors
	$(BIN)/python -m tests.support.two_actors --ordinary
	$(BIN)/python -m tests.support.turns --count 100
	$(BIN)/python -m tests.support.turns --count 100 --ordinary
	$(BIN)/python -m tests.support.walks --count 500 --steps 14 --jobs $$(nproc)
	$(BIN)/python -m tests.support.walks --count 500 --steps 14 --jobs $$(nproc) --ordinary
	AVFS_ALL=1 $(PYTEST) $(SPREAD) -n $(JOBS) $(shell grep -rlE --include='test_*.py' 'import (.*, )?(take_turns|take_points|one_in)$$|\bperson\b|import .*\bbackends\b' tests)
	$(PYTEST) -n $(JOBS) -o timeout=0 --hypothesis-profile=deep tests/property/test_merged* tests/property/test_redirected* tests/property/test_workspace*
	$(BIN)/python -m tests.soak --rounds 200 $(ARGS)

# langchain-tests brings plug-ins of pytest that have options of the same names, its tests are asynchronous, and frameworks leave streams open.
frameworks: $(STAMP) ## Install the large frameworks (450 MB) beside .venv, and run their own suites on the adapters
	$(PYTHON) -m venv $(VENV)-frameworks
	$(VENV)-frameworks/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,frameworks]'
	$(VENV)-frameworks/bin/python -m pytest -p no:syrupy -p no:benchmark -o asyncio_mode=auto \
		-o asyncio_default_fixture_loop_scope=function -W ignore::pytest.PytestUnraisableExceptionWarning tests/contract/test_deepagents.py tests/contract/test_inspect_ai.py \
		tests/contract/test_fsspec.py::test_pandas_reads_and_writes $(ARGS)

# Where they are installed, `make test` runs them too.
harnesses: $(STAMP) ## Install the coding agents (1.4 GB) beside .venv, and run them against a scripted model
	mkdir -p $(VENV)-harnesses
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --no-audit --no-fund --silent --prefix $(VENV)-harnesses @anthropic-ai/claude-code@2.1.330 \
		@openai/codex@0.169.0 @google/gemini-cli@0.61.0 opencode-ai@1.18.33 \
		@github/copilot@1.0.102
	$(PYTEST) tests/tools/test_harnesses.py $(ARGS)

docs: $(STAMP) ## Write docs/reference/cli.md and docs/reference/json.md from the code
	$(BIN)/python docs/generate.py

docs-check: $(STAMP) ## Fail if docs/reference/cli.md or docs/reference/json.md is stale
	$(BIN)/python docs/generate.py --check

sweep: $(STAMP) ## Unmount and remove what aborted test runs left behind
	$(BIN)/python -m tests.support.sweep

clean: ## Remove everything that was built
	rm -rf $(VENV) $(VENV)-frameworks $(VENV)-harnesses build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
