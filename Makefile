# Thin: each recipe line is a command a person could type.
PYTHON ?= python3
PRESET ?= quick
LAW_PRESETS := quick laptop
BIN := .venv/bin

.PHONY: figures test lint bench

figures: .venv/run
	$(BIN)/python -m parity.experiment --preset $(PRESET)
	$(if $(filter $(PRESET),$(LAW_PRESETS)),$(BIN)/python -m parity.law --preset $(PRESET))
	$(BIN)/python -m figures.make --preset $(PRESET)
	$(BIN)/python -m parity.experiment --preset transformer-$(PRESET)
	$(BIN)/python -m figures.make --preset transformer-$(PRESET)
	$(BIN)/python -m pcfg.experiment --preset $(PRESET)
	$(BIN)/python -m figures.make --experiment pcfg --preset $(PRESET)

test: .venv/dev
	$(BIN)/python -m pytest

bench: .venv/dev
	$(BIN)/python -m benchmarks.parity_mlp
	$(BIN)/python -m benchmarks.blocked
	$(BIN)/python -m benchmarks.pcfg_sampler

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	touch $@
