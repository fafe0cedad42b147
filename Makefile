# Two commands: `make demo` trains and shows a small FCN, `make test` checks everything.
# PYTHON=python3.12 picks the interpreter, VENV=folder another environment, TESTS="tests/test_x.py -k y" some tests.

PYTHON ?= python3
VENV ?= .venv
TESTS ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.PHONY: demo test lint docs clean

demo: $(VENV)/.installed
	$(BIN)/fcnlite train shapes

# Each test process computes on one core: two of them use two cores better than one that shares its matrices out.
# Where the environment has CuPy ('.[cuda12]') and there is a GPU, FCNLITE_DEVICE=cuda compares it with Caffe, too.
test: lint $(VENV)/.installed-cupy
	OPENBLAS_NUM_THREADS=$${OPENBLAS_NUM_THREADS:-1} $(BIN)/python -m pytest -n auto --dist worksteal $(TESTS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site in build/site; a warning fails the build.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[docs]'
	@touch $(VENV)/.installed $@

# The real CuPy, for the tests of what happens where it finds no GPU. It lies beside the environment's packages, where only
# those tests look; where there is no wheel for it they are skipped.
$(VENV)/.installed-cupy: | $(BIN)/python
	-$(INSTALL) --target $(VENV)/cupy --no-deps --only-binary :all: 'cupy-cuda12x>=14' cuda-pathfinder
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "fcnlite needs Python 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "cannot make $(VENV): install Python's venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
