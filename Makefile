# Two commands: `make quickstart` runs the whole pipeline on real images, `make test` runs every test.
# Both make .venv with the pinned dependencies first, from nothing but Python 3.11+, pip and make.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test unit slow lint install generated clean

quickstart: .venv/.installed
	$(BIN)/sslflow run workflows/quickstart.yaml

test: unit slow

unit: .venv/.installed
	$(BIN)/pytest -q -m "not slow and not gpu" -n 2 --dist loadfile --durations=5

slow: .venv/.installed
	$(BIN)/pytest -q -m slow -n 2 --dist loadfile --durations=5 --ignore tests/workflows/test_quickstart.py
	$(BIN)/pytest -q -m slow --durations=5 tests/workflows/test_quickstart.py  # alone, since it says how long it takes

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

generated: .venv/.installed
	$(BIN)/python -m schemas.json_schema
	$(BIN)/python -m schemas.reference
	$(BIN)/python -m ssl_tasks.methods.pages
	$(BIN)/python -m ssl_tasks.curate.pages
	$(BIN)/python -m ssl_tasks.distill.pages
	$(BIN)/python -m ssl_tasks.evaluate.pages

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable ".[train,evaluate,export,orchestrate,s3,dask,dev]"
	touch $@

clean:
	rm -rf .sslflow mlflow.db mlartifacts
