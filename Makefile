# make demo: see the whole thing work.   make test: the tests, but those of test-slow and test-full.   make check: style, types, layers.
# make test-slow: those that are marked slow: every setting, kills, clocks, processes without MLflow (some minutes; .ci/run runs them too).
# make docs: docs/settings.md from the fields of the config, then the site of docs/ in site/ (installs the extra [docs]; no test needs it).
# make mutants: put plausible faults into a copy of the code, one after the other: do the tests notice? (half an hour on two cores)
# make test-lowest: unit and contract tests with the lowest versions that pyproject.toml allows, in a venv of their own.
# make test-readers KOHYA=… LYCORIS=… FORGE=…: other programs' own code on our files, from checkouts of sd-scripts, LyCORIS and Forge (docs/readers.md).
# make pictures FROM=…: the docs' pictures of the UI, from a folder in which fashion-ml demo was run with two seeds or more (needs Chromium).
# make fuzz: damaged inputs of every kind, ten minutes at most.   make audit: known faults of the pinned dependencies (needs a network; SECURITY.md).
# make test-full: also Stable Diffusion 1.5 and XL at their real sizes, a sweep on a cluster of Ray, and processes that are killed in many ways (minutes, 22 GiB).
PYTHON ?= python3
VENV ?= .venv
LOWEST = .venv-lowest
AUDIT = .venv-audit
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
DOCS_STAMP = $(VENV)/.docs_installed
# newer releases of torch and numpy have left Python 3.10, so it has tested versions of its own
CONSTRAINTS := $(shell $(PYTHON) -c 'import sys; print("constraints" + ("-py310" if sys.version_info < (3, 11) else "") + ".txt")')
# installed with uv where it is on the PATH, else, or where uv reaches no index, with pip
WANTED = --constraint $(CONSTRAINTS) --editable '.[test]'

SEED ?=

.PHONY: demo install pictures test test-slow test-lowest test-full test-readers mutants fuzz audit check docs format clean

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	command -v uv >/dev/null && uv pip install --compile-bytecode --python $(BIN)/python $(WANTED) || { \
	$(BIN)/python -m pip install --quiet --upgrade pip && \
	$(BIN)/python -m pip install --progress-bar off $(WANTED); }
	touch $(STAMP)

demo: $(STAMP)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/fashion-ml demo --seed "$(SEED)"

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

test-lowest: $(STAMP)
	$(BIN)/python -m venv --clear $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[test]'
	$(LOWEST)/bin/python -m pytest tests/unit tests/contract

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-full: $(STAMP)
	$(BIN)/python -m pytest tests/unit tests/runs tests/contract && $(BIN)/python -m pytest --numprocesses 0 tests/full

pictures: $(STAMP)
	$(BIN)/python -m tests.full.pictures $(FROM)

test-readers: $(STAMP)
	$(BIN)/python -m pytest --numprocesses 0 --capture=no tests/full/readers

mutants: $(STAMP)
	$(BIN)/python tests/mutants/run.py

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.run $(if $(SEED),--seed $(SEED))

audit:
	@PYTHON=$(PYTHON) .ci/audit $(AUDIT)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(DOCS_STAMP)
	$(BIN)/python -m fashion_ml.config.settings_table
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(DOCS_STAMP): $(STAMP)
	command -v uv >/dev/null && uv pip install --python $(BIN)/python --constraint $(CONSTRAINTS) --editable '.[docs]' || \
	$(BIN)/python -m pip install --progress-bar off --constraint $(CONSTRAINTS) --editable '.[docs]'
	touch $(DOCS_STAMP)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) $(AUDIT) build dist site *.egg-info
