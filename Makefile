# Each target works alone on a bare checkout; a second run sets nothing up again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SWEEP ?= smoke
STORAGE ?= results

.PHONY: setup smoke test faults check report bench clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) --no-compile torch -e '.[test]'
	@# On all cores, and without the packages' tests; pip uses one core. A file for a newer Python stays as it is.
	$(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true
	@touch $@

smoke: setup
	$(BIN)/python run_sweep.py search_spaces/smoke.yaml

test: setup  # two processes; the tests of a file stay together, as some go on from the one before
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

faults: setup
	$(BIN)/python -m pytest -m faults

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

report: setup
	$(BIN)/python -m analysis.report $(STORAGE)/$(SWEEP)

bench: setup
	$(BIN)/python -m benchmarks.training_step --compiled
	$(BIN)/python -m benchmarks.reference_step
	$(BIN)/python -m benchmarks.beside_commit 5bad312
	$(BIN)/python -m benchmarks.loop_gain
	$(BIN)/python -m benchmarks.side_by_side
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.checkpoints
	$(BIN)/python -m benchmarks.trial_start
	$(BIN)/python -m benchmarks.roofline
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.scale

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
