# `make help` lists every task.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCKS := core demo dev index minilm multilingual postgresql mysql plots telemetry
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
.DEFAULT_GOAL := help
.PHONY: help demo test check fast format clean lock proto bench-quick bench-env bench-accounting bench-metrics bench-serving bench-table bench-vocabulary bench-trade e2e transcript

help:  ## list the tasks
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml requirements/install $(wildcard requirements/*.lock)
	PYTHON=$(PYTHON) requirements/install $(VENV) $(LOCKS)
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/installed  ## simulate a private federation of four grocery platforms and a newcomer
	$(BIN)/fedcart simulate

test: check  ## run everything but the failure matrix: style, types, layers, docs examples, tests
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not e2e'

e2e: $(VENV)/installed  ## the failure matrix with real processes (docs/operations.md), under fifteen minutes
	$(BIN)/pytest -n 2 --dist loadfile tests/e2e

transcript: $(VENV)/installed  ## write docs/transcript.md anew: from init to recommendations over gRPC, with real processes (minutes)
	$(BIN)/python -m tests.e2e.transcript docs/transcript.md

check: $(VENV)/installed  ## ruff, mypy, import-linter, examples in docstrings and docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -p no:cacheprovider --doctest-modules --doctest-glob='*.md' shared_model privacy federation clients server simulations benchmarks README.md docs --ignore=benchmarks/rectools

fast: $(VENV)/installed  ## the tests without the slow ones
	$(BIN)/pytest -n 2 --dist loadfile -m 'not slow and not e2e'

format: $(VENV)/installed  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-quick: $(VENV)/installed  ## what platforms reach alone, on tiny made-up shops (the real study: docs/benchmarks/transfer.md)
	$(BIN)/python -m benchmarks.transfer --quick

.venv-rectools/installed: requirements/install requirements/rectools.lock requirements/torch.lock
	PYTHON=$(PYTHON) requirements/install .venv-rectools rectools
	@touch $@

bench-env: .venv-rectools/installed  ## the environment of RecTools' baselines (SASRec, UniSRec), about 1.5 GB

bench-accounting: $(VENV)/installed  ## measure ε of record and the ledger against dp-accounting (two minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.accounting

bench-serving: $(VENV)/installed  ## measure lists over gRPC, the start, the exact pass, faiss, RecTools (minutes; … soak: docs/benchmarks/serving.md)
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks.serving

bench-metrics: $(VENV)/installed  ## measure ranking a million items for ten thousand shoppers (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.metrics

bench-vocabulary: $(VENV)/installed  ## measure the making of a vocabulary of 100,000 products (minutes)
	OMP_NUM_THREADS=2 $(BIN)/python -m benchmarks.vocabulary

bench-table: $(VENV)/installed  ## measure the product table's sums on a million shoppers (a minute)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.table

bench-trade: $(VENV)/installed  ## what joining brings within a trade, on tiny made-up shops (docs/benchmarks/trade.md)
	$(BIN)/python -m benchmarks.trade --quick

PROTO := federation/registry/v1/registry.proto clients/serving/v1/serving.proto

proto: $(VENV)/installed  ## generate the code of the gRPC interfaces from their .proto files
	$(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. --grpc_python_out=. $(PROTO)

lock: $(VENV)/installed  ## write requirements/*.lock after a change of pyproject.toml (newest versions: make lock UPGRADE=--upgrade)
	$(BIN)/python requirements/lock.py $(UPGRADE)

clean:  ## remove the environment and caches (runs/ stays)
	rm -rf $(VENV) .venv-rectools build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
