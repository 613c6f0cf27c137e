# Everything sets itself up: `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

EPISODES ?= runs/demo/episodes

.PHONY: demo test bench lint check-lerobot clean

demo: $(STAMP)
	$(BIN)/cadenza demo --out runs/demo

test: lint
	sh scripts/test.sh $(BIN)/python

bench: $(STAMP)
	$(BIN)/python -m benchmarks --out runs/bench

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# LeRobot itself loads an export of EPISODES. Brings an environment of its own: gigabytes.
check-lerobot: $(STAMP)
	$(BIN)/python scripts/check_lerobot.py $(EPISODES)

$(STAMP): pyproject.toml constraints.txt scripts/debian-packages.sh
	sh scripts/debian-packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[sim,learn,dataset,view,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
