# The one door for people. Every target sets up whatever it needs, from nothing.
#
#   make demo    the main job: 68 years of portfolio returns to forecasts and a report
#   make test    all tests
#   make quick   the tests that take no more than a moment each, under two minutes
#   make check   formatting, lints, types, layers, stubs, all tests
#   make thorough  the property tests with fresh and many more examples (FILES=... for some)
#   make bench   the benches that print ratios and append to benches/RESULTS.md
#   make wheel   one abi3 wheel in dist/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
STAMPS := .stamps
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

RUST := $(shell find rust -name '*.rs') $(wildcard rust/*/Cargo.toml) Cargo.toml Cargo.lock
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.PHONY: demo test quick thorough check lint test-rust test-python test-peers bench wheel setup build clean

demo: build
	$(BIN)/python examples/french_portfolios.py --output demo-output

test: test-rust test-python test-peers

quick: build
	$(BIN)/python -m pytest -q -x -m "not slow" --ignore tests/peers

FILES ?= tests
thorough: build
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -q --ignore tests/peers $(FILES)

check: lint test

lint: build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff format --check python tests benches examples
	$(BIN)/ruff check python tests benches examples
	$(BIN)/mypy
	PYTHONPATH=python $(BIN)/lint-imports >$(STAMPS)/layers.log || { cat $(STAMPS)/layers.log; exit 1; }
	@printf '[mypy]\nfollow_imports = skip\nignore_missing_imports = true\n' >$(STAMPS)/stubtest.ini
	MYPYPATH=python $(BIN)/stubtest --mypy-config-file $(STAMPS)/stubtest.ini ml4t.models._core

test-rust: build
	cargo $(NEXTEST) --release -p ml4t-models-core

test-python: build
	$(BIN)/python -m pytest -q --ignore tests/peers

# The backtester and the diagnosis that forecasts are handed to need Python 3.12 or later.
test-peers: wheel
	@python=$$(sh tests/peers/find_python); \
	if [ -z "$$python" ]; then echo "tests/peers skipped: no Python 3.12 or later here"; exit; fi; \
	test -x $(PEERS)/bin/python || "$$python" -m venv --without-pip $(PEERS) && \
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --group peers dist/*.whl \
	    --reinstall-package ml4t-models && \
	$(PEERS)/bin/python -m pytest -q tests/peers

bench: build
	for bench in benches/python/bench_*.py; do $(BIN)/python $$bench || exit 1; done

wheel: $(STAMPS)/environment
	@rm -rf dist
	$(BIN)/maturin build --release --quiet --out dist

setup: $(STAMPS)/environment
build: $(STAMPS)/extension

clean:
	rm -rf $(VENV) $(PEERS) $(STAMPS) target dist demo-output python/ml4t/models/_core*.so

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
