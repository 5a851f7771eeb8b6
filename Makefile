# `make demo` and `make test` do all the set-up; a second run installs nothing again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

OLDEST := $(VENV)-oldest

.PHONY: help demo test test-oldest lint docs clean

help:
	@echo "make demo   learn a force field of ethanol and run molecular dynamics with it (4 minutes)"
	@echo "make test   run all tests"
	@echo "make test-oldest  run them with the oldest versions that are admitted (on Linux downloads 3 GB)"
	@echo "make lint   ruff and mypy"
	@echo "make docs   the documentation, into build/docs"
	@echo "make clean  remove the virtual environment and all results"

# torch is installed first and by itself: with the constraint this takes a CPU build where pip finds one
$(STAMP): pyproject.toml .ci/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint .ci/constraints.txt torch
	$(PIP) --constraint .ci/constraints.txt --editable ".[all,test]"
	@touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest

$(OLDEST)/installed: pyproject.toml .ci/constraints-oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint .ci/constraints-oldest.txt --editable ".[all,test]"
	@touch $@

test-oldest: $(OLDEST)/installed
	NUMBA_CACHE_DIR=$(CURDIR)/$(OLDEST)/compiled $(OLDEST)/bin/python -m pytest

lint: $(STAMP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

$(VENV)/installed-docs: $(STAMP)
	$(PIP) --constraint .ci/constraints.txt --editable ".[all,docs,test]"
	@touch $@

# the same python finds the package and the builder; warnings are errors, nothing is fetched
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees examples/site build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf $(VENV) $(OLDEST) results build/docs build/doctrees examples/site/gallery examples/site/notebooks
