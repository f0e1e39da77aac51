PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# uv does not read pip's variable for local wheel folders.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# An interrupted installation leaves no stamp, and the next one starts with an empty folder.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or choose an interpreter with make PYTHON=python3 ..."; exit 1; }
	@test -f $@ || rm -rf $(VENV)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); repeated only when dependencies change"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: install
install: $(STAMP) ## Create .venv and install the package and the development tools

.PHONY: demo
demo: $(STAMP) ## Run the whole loop on real feedback with the embedded stack
	@$(BIN)/recsys demo

# One worker a core, and no more than four: each has a Postgres and loads PyTorch.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4

.PHONY: test
test: $(STAMP) ## Run the tests, except those marked slow
	@$(PYTEST) -m "not slow"

.PHONY: test-slow
test-slow: $(STAMP) ## Run the tests marked slow
	@$(PYTEST) -m slow

.PHONY: lint
lint: $(STAMP) ## Check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

.PHONY: format
format: $(STAMP) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: wheel
wheel: $(STAMP) ## Build the wheel into dist
	@$(BIN)/uv build --quiet --wheel --build-constraint constraints.txt --out-dir dist

.PHONY: bench-peers
bench-peers: $(STAMP) ## Install the libraries that benchmarks compare with into .bench-peers
	@$(PYTHON) -m venv .bench-peers
	@$(BIN)/uv pip install --quiet --python .bench-peers/bin/python 'rectools[torch]==0.19.0' 'torch==2.13.0'

.PHONY: constraints
constraints: $(STAMP) ## Resolve all versions again into constraints.txt
	@$(BIN)/uv pip compile --quiet --no-annotate --no-header --all-extras --no-emit-find-links --no-emit-index-url --upgrade pyproject.toml > constraints.new
	@sed -E -e '/^-/d' -e 's/^(torch==[0-9.]+)\+.*/\1/' constraints.new > constraints.txt
	@echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" >> constraints.txt
	@rm constraints.new
