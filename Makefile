# Every target sets up .venv by itself; Python 3.11 or newer and make are all that is needed.
PYTHON ?= python3
# Processes that run the tests; one file of tests stays in one of them, and the longest files begin.
WORKERS ?= 2
BIN := .venv/bin
# A CPU build of torch where one is found first; the constraints pin what was tested.
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: setup quickstart test coverage test-all engines check docs docs-catalogues bench soak release-check clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable '.[all,quickstart,tensorboard,families,dev]'
	touch $@

quickstart: setup
	rm -rf quickstart
	$(BIN)/polytask quickstart --out quickstart

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# What `make test` runs of the package, at least the share that pyproject.toml asks for.
coverage: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov=polytask --cov-report=term:skip-covered

test-all: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not soak and not engines'

# Those of Ray, Spark and Beam that are installed: $(PIP) 'polytask[ray]'; Spark needs Java, Beam an older pyarrow.
engines: setup
	$(BIN)/python -m pytest -m engines -rs tests/batch tests/ray_cluster

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	$(BIN)/python -m sphinx -q -W --keep-going -b html -D language=zh_CN docs docs/_build/html/zh_CN
	@echo docs/_build/html/index.html

# PAGES="tuning onnx" begins the translation of these pages.
docs-catalogues: setup
	$(BIN)/python tools/catalogues.py $(PAGES)

bench: setup
	$(BIN)/python -m benchmarks

release-check: setup
	$(BIN)/python tools/release_check.py $(RELEASE_FLAGS)

soak: setup
	$(BIN)/python -m pytest -m soak

clean:
	rm -rf .venv quickstart runs build dist
