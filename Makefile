# `make demo` shows what Headwater does, `make test` checks that it does it.
# Both make .venv first: it takes some minutes once, and nothing after that.

SHELL := /bin/bash
VENV := .venv
INSTALLED := $(VENV)/.installed

# The first Python that is new enough; Debian splits what venv needs off into a package.
define FIND_PYTHON
for python in python3 python3.11 python3.12 python3.13 python3.14; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
  "$$python" -c 'import ensurepip, venv' 2>/dev/null && break; \
  echo "$$python cannot make environments: apt-get install python3-venv" >&2; exit 1; \
done; \
"$$python" -c 'import ensurepip' 2>/dev/null \
  || { echo "Headwater needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2; exit 1; }
endef

.PHONY: help demo test lint docs clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(INSTALLED)  ## Draw pictures, ask whose drawings they came from, show the answers
	$(VENV)/bin/headwater demo

test: lint  ## Check style and types, start PostgreSQL and Redis where missing, run the tests
	services=$$($(VENV)/bin/python tests/start_services.py) \
	  && env $$services OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses=auto --dist=loadfile

lint: $(INSTALLED)  ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy benchmarks/*.py

docs: $(INSTALLED)  ## Build the documentation's site into .cache/site
	$(VENV)/bin/sphinx-build --fail-on-warning --keep-going --quiet docs .cache/site

clean:  ## Remove .venv and what the demo has built
	rm -rf $(VENV) demo/data demo/var demo/out

$(INSTALLED): pyproject.toml client/pyproject.toml constraints.txt
	@$(FIND_PYTHON); "$$python" -m venv $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]' -e ./client
	touch $@
