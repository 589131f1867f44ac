# Everything works on a fresh clone with python3 (3.11 or newer) and make; the second run of a target sets nothing up.
#
#   make demo   solve real data and print what was proved      make docs    build the documentation
#   make test   the default tests                              make bench   benchmarks of this checkout (asv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Compiled kernels survive reinstallation; one BLAS thread makes times and roundings comparable.
export NUMBA_CACHE_DIR ?= $(CURDIR)/.cache/numba
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

WORKERS ?= 2
ASV := $(BIN)/python -m asv
ASV_CONFIG := --config benchmarks/asv.conf.json

.PHONY: demo test test-slow test-bounds docs bench bench-check peers lint setup clean
.DEFAULT_GOAL := test

demo: $(VENV)/.stamp
	$(BIN)/python -m solvers demo

test: $(VENV)/.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: $(VENV)/.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "slow and not gpu"

# Kernels compiled with bounds checks, in a cache of their own: the tests marked so, and the demo's real data.
test-bounds: export NUMBA_BOUNDSCHECK := 1
test-bounds: export NUMBA_CACHE_DIR := $(CURDIR)/.cache/numba-bounds
test-bounds: $(VENV)/.stamp
	$(BIN)/python -m pytest -q -m "kernels and not gpu" || test $$? -eq 5
	$(BIN)/python -m solvers demo

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "open docs/_build/html/index.html"

# The commit is named because asv saves results of an existing environment only then.
bench: $(VENV)/.bench
	$(ASV) machine $(ASV_CONFIG) --machine here --yes > /dev/null
	$(ASV) run $(ASV_CONFIG) --machine here --environment existing:$(CURDIR)/$(BIN)/python \
		--set-commit-hash "$$(git rev-parse HEAD)" --launch-method spawn --show-stderr $(BENCH)

bench-check: $(VENV)/.bench
	$(ASV) check $(ASV_CONFIG) --environment existing:$(CURDIR)/$(BIN)/python

peers: $(VENV)/.bench
	@missed=0; for script in benchmarks/peers/[a-z]*.py; do $(BIN)/python $$script $(PEERS) || missed=1; echo; done; exit $$missed

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

setup: $(VENV)/.stamp $(VENV)/.lint $(VENV)/.docs $(VENV)/.bench

$(VENV)/.stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; run make PYTHON=/path/to/newer/python3"; exit 1; }
	@echo "Setting up $(VENV) (once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --editable ".[plot]" --group test
	@touch $@

# One stamp per further dependency group of pyproject.toml.
$(VENV)/.%: $(VENV)/.stamp
	$(PIP) --group $*
	@touch $@

clean:
	rm -rf $(VENV) .cache .asv .mypy_cache .pytest_cache .ruff_cache .hypothesis .nox build dist demo_output \
		docs/_build docs/gallery docs/api/generated docs/sg_execution_times.rst benchmarks/.asv
	find solvers clustering matching ranking tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
