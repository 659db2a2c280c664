# Two commands: `make demo` and `make test`. Both set up .venv first, from constraints.txt, and reuse it afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.ready
DOCS_STAMP := $(VENV)/.docs-ready
# NSL-KDD is not part of the repository; where a copy lies beside it, tests and benchmarks use it.
export HAUBERK_DATA ?= $(wildcard $(abspath ../shared/data))

.PHONY: demo test lint types arrows unit docs bench clean

demo: $(STAMP)
	@$(BIN)/python examples/demo.py

test: lint types arrows unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

arrows: $(STAMP)
	$(BIN)/lint-imports

unit: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=25

# On an otherwise idle machine; results belong in docs/benchmarks/ with date and machine.
bench: $(STAMP)
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/serving.py

docs: $(DOCS_STAMP)
	$(BIN)/mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[harden,serve,openvino,nncf,test]'
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis
