# make demo: see the whole thing work.   make test: the whole suite.   make check: style, types, layers.
# make docs: docs/settings.md from the fields of the config.
# make mutants: put plausible faults into a copy of the code, one after the other: do the tests notice? (an hour on two cores)
# make test-full: also Stable Diffusion 1.5 at its real size (minutes, 12 GiB).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# newer releases of torch and numpy have left Python 3.10, so it has tested versions of its own
CONSTRAINTS := $(shell $(PYTHON) -c 'import sys; print("constraints" + ("-py310" if sys.version_info < (3, 11) else "") + ".txt")')

SEED ?=

.PHONY: demo install test test-full mutants check docs format clean

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar off --constraint $(CONSTRAINTS) --editable '.[test]'
	touch $(STAMP)

demo: $(STAMP)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/fashion-ml demo --seed "$(SEED)"

test: $(STAMP)
	$(BIN)/python -m pytest

test-full: $(STAMP)
	$(BIN)/python -m pytest tests/unit tests/runs tests/contract && $(BIN)/python -m pytest --numprocesses 0 tests/full

mutants: $(STAMP)
	$(BIN)/python tests/mutants/run.py

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(STAMP)
	$(BIN)/python -m fashion_ml.config.settings_table

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info
