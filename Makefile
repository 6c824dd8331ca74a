# make demo   sets everything up and runs the main job
# make test   sets everything up and passes the tests
# make bench  sets up another environment, with other libraries, and measures sumgrad beside them; BENCH="a f --quick" chooses
# make bench-service measures the service beside an echo server
# make check  lint, format, types, layers
# make proto  makes the Python code of the .proto files again
# make format puts the code into the form that make check wants
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
BENCH_BIN := .venv-bench/bin
# The first of these that is Python 3.11 or newer; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
TOOLS_VERSION := 1.66.2
PROTO_STAMP := .stamps/proto-$(TOOLS_VERSION)
PROTO_OUT ?= proto
PROTOS := proto/sumgrad_proto/v1/graph.proto proto/sumgrad_proto/v1/service.proto

.PHONY: demo test bench bench-service check proto format clean

demo: .stamps/demo
	$(BIN)/sumgrad demo

test: .stamps/dev $(PROTO_STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --max-worker-restart 0 $(PYTEST_ARGS)

bench: .stamps/bench
	$(BENCH_BIN)/python -m benchmarks $(BENCH)

bench-service: .stamps/demo
	$(BIN)/python -m benchmarks.service $(BENCH)

check: .stamps/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .stamps/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The generated code is made by the oldest supported generator, in its own environment, and committed.
# A test makes it again under another PROTO_OUT and compares.
proto: $(PROTO_STAMP)
	.stamps/proto-venv/bin/python -m grpc_tools.protoc -I proto --python_out=$(PROTO_OUT) --pyi_out=$(PROTO_OUT) --grpc_python_out=$(PROTO_OUT) $(PROTOS)

clean:
	rm -rf $(VENV) .venv-bench .stamps dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "sumgrad needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

.stamps/demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@mkdir -p .stamps && touch $@

.stamps/dev: pyproject.toml requirements-dev.lock | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@mkdir -p .stamps && touch $@ .stamps/demo

.stamps/bench: pyproject.toml benchmarks/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv .venv-bench
	$(BENCH_BIN)/python -m pip install --quiet --upgrade pip
	$(BENCH_BIN)/python -m pip install --quiet --requirement benchmarks/requirements.txt --editable '.[server]'
	@mkdir -p .stamps && touch $@

$(PROTO_STAMP): | $(BIN)/python
	@mkdir -p .stamps
	$(BIN)/python -m venv --clear .stamps/proto-venv
	.stamps/proto-venv/bin/python -m pip install --quiet grpcio-tools==$(TOOLS_VERSION) 'setuptools<81'
	@touch $@
