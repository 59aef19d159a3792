# Needs Python 3.11 or newer and the package index. `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
BENCH_STAMP := .venv/installed-bench
SITE := _build/html
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test lint lab sync site bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

run: $(STAMP) ## execute every page, build the site, say where it is
	$(BIN)/python tools/run_pages.py
	@$(MAKE) --no-print-directory site

test: $(STAMP) lint ## run all that CI runs
	$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbval --nbval-current-env --nbval-cell-timeout=240 notebooks air_tutorials tests

lint: $(STAMP) ## style, types, and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: $(STAMP) ## open the pages in JupyterLab
	$(BIN)/jupyter lab notebooks

sync: $(STAMP) ## execute every page and store its outputs in the .ipynb beside it
	$(BIN)/python tools/run_pages.py --sync

site: $(STAMP) ## build the site from the stored outputs
	$(BIN)/python -m sphinx -W --keep-going -q -b html . $(SITE)
	@echo "The site: $(CURDIR)/$(SITE)/index.html"
	@echo "In a browser: $(BIN)/python -m http.server --directory $(SITE) 8000, then http://localhost:8000"

bench: $(STAMP) $(BENCH_STAMP) ## measure against plain PyTorch, torchrun, FastAPI, Optuna and others; 15 minutes
	$(BIN)/python -m benchmarks $(BENCH)

clean: ## remove the environment and all that was built
	rm -rf .venv _build notebooks/results notebooks/data .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -r {} +

# Made anew only when what it is made from has changed.
$(STAMP): pyproject.toml constraints.txt jupyter_config/default_setting_overrides.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version 2>&1`." \
	    "Name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into .venv; the first time this loads about 5 GB and takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

# What is only measured against; `make bench BENCH="--quick --only training"` passes options on.
$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	@touch $@
