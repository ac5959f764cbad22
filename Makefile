# The two commands of the README are `make demo` and `make test`; everything else is for those who work on Gauntlet.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: install demo demo-short test check bench bench-statistics bench-drift lock clean

install: $(READY)

demo: $(READY)
	$(BIN)/gauntlet demo

demo-short: $(READY)
	$(BIN)/gauntlet demo --days 75 --run runs/demo-short

test: $(READY)
	$(BIN)/python -m pytest -n 3 --dist loadgroup

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks

# The long forms, about an hour: the A/A grid beside two packages, few and correlated blocks, real flights.
bench-statistics: $(READY)
	$(BIN)/python -m benchmarks.sequential
	$(BIN)/python -m benchmarks.clustered_null --runs 20000
	$(BIN)/python -m benchmarks.spending
	$(BIN)/python -m benchmarks.tails
	$(BIN)/python -m benchmarks.live_tails
	$(BIN)/python -m benchmarks.flights_evidence

bench-drift: $(READY)
	$(BIN)/python -m benchmarks.drift_grid
	$(BIN)/python -m benchmarks.drift_concept
	$(BIN)/python -m benchmarks.drift_modes
	$(BIN)/python -m benchmarks.drift_confidence
	$(BIN)/python -m benchmarks.drift_flights

# Exactly the locked versions, by their hashes, then this tree.
$(READY): requirements/lock.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Gauntlet needs Python 3.11 or later')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(READY)

# Needs uv. `--universal`: one lock for every platform and every Python from 3.11, of every extra but PyTorch. What a service needs to run, without the
# tools of those who work on it, has a lock of its own with the same versions; the image is made from that.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --generate-hashes
lock:
	$(COMPILE) pyproject.toml --extra demo --extra postgres --extra mlflow --extra notify --extra onnx --group dev --output-file requirements/lock.txt
	$(COMPILE) pyproject.toml --extra postgres --extra mlflow --extra notify --constraint requirements/lock.txt --output-file requirements/runtime.txt
	$(COMPILE) requirements/mlflow-server.in --output-file requirements/mlflow-server.txt
	$(COMPILE) requirements/airflow.in --output-file requirements/airflow.txt
	$(COMPILE) requirements/ray.in --output-file requirements/ray.txt

clean:
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
