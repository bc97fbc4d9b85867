# make demo   install into .venv and run the main job on the embedded model
# make test   the tests;  make test-all  the slow ones too;  make test-vllm  those of vLLM, installed into .venv-vllm
# make bench  the benchmarks, with all cores: an hour and more (ARGS=--quick: a minute)
# make lint   ruff and mypy;  make docs  write docs/cli.md;  make check  what continuous integration runs
PYTHON ?= python3
# Workers of the tests; each runs torch in one thread.
WORKERS ?= 2
ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

export OMP_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: install install-dev demo bench test test-all test-vllm lint format docs docs-check check clean

install:
	@$(PYTHON) install.py

install-dev:
	@$(PYTHON) install.py --extra dev

demo: install
	@$(BIN)/errata demo $(ARGS)

bench: install-dev
	@$(BIN)/python -m benchmarks $(ARGS)

test: install-dev
	@$(PYTEST) $(ARGS)

test-all: install-dev
	@$(PYTEST) -m "slow or not slow" $(ARGS)

# vLLM fixes versions of torch and transformers: an environment of its own.
test-vllm:
	@$(PYTHON) install.py --venv .venv-vllm --extra dev --extra vllm
	@.venv-vllm/bin/python -m pytest -m vllm tests/capability/test_vllm.py $(ARGS)

lint: install-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install-dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: install-dev
	@$(BIN)/python docs/generate.py

docs-check: install-dev
	@$(BIN)/python docs/generate.py --check

check: lint docs-check test

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache
