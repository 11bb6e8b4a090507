# The one door for people. Every target sets up whatever it needs, from nothing.
#
#   make demo    the main job: 68 years of portfolio returns to forecasts and a report
#   make test    all tests
#   make check   formatting, lints, types, stubs, all tests
#   make bench   the benches that print ratios and append to benches/RESULTS.md
#   make wheel   one abi3 wheel in dist/, tried on every Python found

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMPS := .stamps
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PYO3_PYTHON := $(BIN)/python

RUST := $(shell find rust -name '*.rs') $(wildcard rust/*/Cargo.toml) Cargo.toml Cargo.lock
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.PHONY: demo test check lint test-rust test-python test-peers bench wheel setup build clean

demo: build
	$(BIN)/python examples/french_portfolios.py --output demo-output

test: test-rust test-python test-peers

check: lint test

lint: build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff format --check python tests benches examples
	$(BIN)/ruff check python tests benches examples
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest ml4t.models._core --ignore-missing-stub

test-rust: build
	cargo $(NEXTEST) --release --quiet -p ml4t-models-core

test-python: build
	$(BIN)/python -m pytest -q

test-peers: build
	$(BIN)/python -m pytest -q tests/peers

wheel: $(STAMPS)/environment
	$(BIN)/maturin build --release --out dist
	$(BIN)/python tests/contract/try_wheel.py dist

setup: $(STAMPS)/environment
build: $(STAMPS)/extension

clean:
	rm -rf $(VENV) $(STAMPS) target dist demo-output python/ml4t/models/_core*.so

# A virtual environment with what pyproject.toml asks for; uv inside it does the installing.
$(STAMPS)/environment: pyproject.toml
	@mkdir -p $(STAMPS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --group test --group check -r pyproject.toml
	@touch $@

# The extension, built in release mode and installed in place.
$(STAMPS)/extension: $(STAMPS)/environment $(RUST)
	$(BIN)/maturin develop --release --quiet --uv
	@touch $@
