# Thin: each recipe line is a command a person could type.
PYTHON ?= python3
PRESET ?= quick
BIN := .venv/bin

.PHONY: figures beyond test lint bench

figures: .venv/run
	$(BIN)/python -m figures.reproduce --preset $(PRESET)

beyond: .venv/run
	$(BIN)/python -m figures.reproduce --preset $(PRESET) --beyond

test: .venv/dev
	$(BIN)/python -m pytest

bench: .venv/dev
	$(BIN)/python -m benchmarks.parity_mlp
	$(BIN)/python -m benchmarks.blocked
	$(BIN)/python -m benchmarks.pcfg_bert
	$(BIN)/python -m benchmarks.pcfg_gpt2
	$(BIN)/python -m benchmarks.pcfg_sampler
	$(BIN)/python -m mlm.prepare sample --vocabulary-size 1024 --out corpora/sample
	$(BIN)/python -m benchmarks.mlm_bert
	$(BIN)/python -m benchmarks.mlm_feed --corpus corpora/sample

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
