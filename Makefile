PYTHON ?= python3
BIN := .venv/bin
# Files of tests run beside each other, a file in one process.
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test check bench docs

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/developed: .venv/installed
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

.venv/documented: .venv/installed
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

demo: .venv/installed        ## Train and measure on real films, then their shop window
	$(BIN)/segue demo

test: .venv/developed        ## All tests
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

check: .venv/developed       ## Lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/developed       ## This machine's numbers
	$(BIN)/python benchmarks/reading.py

docs: .venv/documented       ## The site, into site/; a warning fails
	$(BIN)/python docs/tools/build.py
