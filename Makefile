# Every target sets up .venv if needed.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
BUSY := $(VENV)/.installing
RUN := $(VENV)/bin/python
PACKAGES := -e '.[experiments,benchmarks,docs]' --group dev
# All tests of a file run on one worker, where they share compilations. The folders come
# first, because their files may be one long test: if that came last, the other worker
# would wait for it.
PYTEST := $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: demo test test-slow coverage test-oldest test-clients lint format docs linkcheck bench gpu dist clean help

# BUSY remains only if an installation was interrupted. Packages may then be incomplete
# without pip noticing, so the environment is created again.
$(STAMP): pyproject.toml
	@if [ -e $(BUSY) ] || ! $(RUN) -m pip --version >/dev/null 2>&1; then \
	    echo "making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); fi
	@touch $(BUSY)
	@echo "installing into $(VENV); the first time takes some minutes"
	@{ $(RUN) -m pip install --quiet --upgrade pip && \
	    $(RUN) -m pip install --quiet $(PACKAGES); \
	} || { rm -f $(BUSY); exit 1; }
	@rm -f $(BUSY)
	@touch $@

demo: $(STAMP)  ## show the steady rule from two sources; results in runs/demo/
	$(RUN) -m experiments run demo

test: $(STAMP)  ## run the tests
	$(PYTEST)

test-slow: $(STAMP)  ## run the slow tests, which `make test` leaves out
	$(PYTEST) -m slow

coverage: $(STAMP)  ## run the library's tests; fails below 98 % coverage
	$(PYTEST) --cov=dtnh_jax tests/composition tests/sharding tests/test_*.py

test-oldest:  ## run the tests on the oldest supported JAX, Optax and Flax
	PIP_CONSTRAINT=$(CURDIR)/tests/oldest.txt $(MAKE) VENV=.venv-oldest test

test-clients:  ## run the tests inside third-party trainers and with PyTorch
	$(MAKE) VENV=.venv-clients PACKAGES='-e .[peers] --group clients' .venv-clients/.installed
	.venv-clients/bin/python -m pip install --quiet --no-deps kauldron==1.4.2
	.venv-clients/bin/python -m pytest tests/clients

lint: $(STAMP)  ## check style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright

format: $(STAMP)  ## fix imports and formatting, update generated tables
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(RUN) tests/composition/table.py
	$(RUN) -m benchmarks report
	$(RUN) docs/fill.py

docs: $(STAMP)  ## build the documentation into docs/_build/html
	$(RUN) -m benchmarks report --check
	$(RUN) docs/fill.py --check
	$(RUN) -m sphinx -W -b html docs docs/_build/html

linkcheck: $(STAMP)  ## check the external links in the documentation
	$(RUN) -m sphinx -b linkcheck docs docs/_build/linkcheck

bench: $(STAMP)  ## measure the cost of DTNH; updates benchmarks/README.md
	$(RUN) -m benchmarks
	$(RUN) -m benchmarks report

gpu: $(STAMP)  ## run the most useful tests and benchmarks on a GPU, in ten minutes
	$(RUN) -m benchmarks gpu
	$(RUN) -m benchmarks report

dist: $(STAMP)  ## build the sdist and the wheel in dist/, and check them
	rm -rf dist
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*

clean:  ## remove build products; keeps .venv and runs/
	rm -rf dist docs/_build docs/generated .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
