# The one door for people. `make demo` and `make test` set up whatever they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
STAMPS := .stamps
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

RUST := $(shell find rust -name '*.rs') Cargo.toml Cargo.lock $(wildcard rust/*/Cargo.toml)

.PHONY: demo test check setup build clean

# A virtual environment with the locked-range dependencies, by uv inside that environment.
$(STAMPS)/environment: pyproject.toml
	@mkdir -p $(STAMPS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/python -m pip install --quiet uv
	$(UV) pip install --quiet "maturin>=1.9,<2" numpy safetensors narwhals polars \
	    --group test --group check
	@touch $@

# The extension in release mode, installed in place.
$(STAMPS)/extension: $(STAMPS)/environment $(RUST)
	$(BIN)/maturin develop --release --quiet --uv
	@touch $@

setup: $(STAMPS)/environment
build: $(STAMPS)/extension
