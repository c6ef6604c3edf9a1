# Every target sets up .venv by itself; `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What runs and reports need, and what tests, linters and benchmarks need besides.
READY := $(VENV)/.installed
ALL_READY := $(VENV)/.installed-dev

.PHONY: demo test lint bench bench-gpu simulate siege tensorboard clean

$(READY): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $(READY)

$(ALL_READY): $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(ALL_READY)

demo: $(READY)
	$(BIN)/kd-study run configs/studies/quickstart.yaml --run_dir runs/quickstart --report

test: $(ALL_READY)
	$(BIN)/pytest

lint: $(ALL_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(ALL_READY)
	$(BIN)/python -m benchmarks.door
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.distillation
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.private_step
	$(BIN)/python -m benchmarks.sampling
	$(BIN)/python -m benchmarks.memorization
	$(BIN)/python -m benchmarks.blocks
	$(BIN)/python -m benchmarks.scoring_memory
	$(BIN)/python -m benchmarks.teacher_cache
	$(BIN)/python -m benchmarks.estimates
	$(BIN)/python -m benchmarks.scaling

bench-gpu: $(ALL_READY)
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/pytest -n 0 -m gpu

simulate: $(ALL_READY)
	$(BIN)/python -m benchmarks.simulate_intervals
	$(BIN)/python -m benchmarks.simulate_verdicts
	$(BIN)/python -m benchmarks.simulate_epsilon
	$(BIN)/python -m benchmarks.simulate_mu
	$(BIN)/python -m benchmarks.simulate_tail
	$(BIN)/kd-study run configs/studies/quickstart.yaml --run_dir runs/quickstart
	$(BIN)/python -m benchmarks.simulate_sets
	$(BIN)/python -m benchmarks.simulate_blind
	$(BIN)/python -m benchmarks.simulate_claims
	$(BIN)/python -m benchmarks.simulate_replicates
	$(BIN)/python -m benchmarks.block_localisation
	$(BIN)/pytest -m slow

siege: $(ALL_READY)
	$(BIN)/pytest -m "" --dist worksteal tests/siege tests/integration/test_kill_storm.py \
		tests/integration/test_interruption.py tests/integration/test_damaged_runs.py

tensorboard: $(READY)
	$(BIN)/tensorboard --logdir runs/quickstart/tensorboard

clean:
	rm -rf $(VENV) runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache
