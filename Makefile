# The four things to do here. Each makes .venv by itself when it is missing or its lock has changed.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test check chaos bench routing docs clean

run: $(VENV)/.run                      ## the gateway with the local model, and one answer (ONCE=1: stop after it)
	@$(BIN)/llmwise quickstart $(if $(ONCE),--once)

test: $(VENV)/.dev                     ## everything: style, types, contracts, the whole suite
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -n auto --dist loadgroup

check: $(VENV)/.dev                    ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev                    ## this gateway beside LiteLLM, TensorZero and nginx, CPU per request first
	@bash bench/rig/run.sh

# Asked for 550 requests/s, so that with the seconds that a killed one is away 500 come; it fails below nine tenths of 550.
chaos: $(VENV)/.dev                    ## kill -9 of gateway, workers, PostgreSQL and Valkey under load, ten rounds of a minute
	@$(BIN)/python -m tests.chaos.durability --rate 550 --seconds 60 --rounds 10
	@$(BIN)/python -m tests.chaos.durability --rate 550 --seconds 60 --rounds 10 --workers 2 --postgresql --valkey
	@$(BIN)/python -m tests.chaos.outage --rate 300 --minutes 10

docs: $(VENV)/.dev                     ## docs/reference, generated from the code
	@$(BIN)/python -m docs.generate

lock:                                  ## requirements/*.txt from pyproject.toml, with hashes
	@$(BIN)/python requirements/lock.py

# Installed from the lock, with hashes; the package itself from this checkout, without its dependencies.
$(VENV)/.run: requirements/run.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the gateway (about 40 packages) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

clean:
	@rm -rf $(VENV)
