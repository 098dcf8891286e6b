# Every target sets up .venv by itself; where nothing changed that costs nothing.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
BUSY := $(VENV)/.installing
RUN := $(VENV)/bin/python
PACKAGES := -e '.[experiments,benchmarks,docs]' --group dev
# A file stays on one worker, where its tests share compilations. The folders, in which a
# file may be one long test, come first: at the end the other worker would wait for it.
PYTEST := $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: demo test test-slow coverage test-oldest test-clients lint format docs linkcheck bench gpu dist clean help

# BUSY is left behind only where an installation was interrupted: packages may then be
# half written in a way that pip does not see, so the environment is made anew.
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

coverage: $(STAMP)  ## run the library's tests; fails below 98 % of its branches
	$(PYTEST) --cov=dtnh_jax tests/composition tests/sharding tests/test_*.py

test-oldest:  ## run the tests on the oldest supported JAX, Optax and Flax
	PIP_CONSTRAINT=$(CURDIR)/tests/oldest.txt $(MAKE) VENV=.venv-oldest test

test-clients:  ## run the tests inside trainers of others
	$(MAKE) VENV=.venv-clients PACKAGES='-e . --group clients' .venv-clients/.installed
	.venv-clients/bin/python -m pip install --quiet --no-deps kauldron==1.4.2
	.venv-clients/bin/python -m pytest tests/clients

lint: $(STAMP)  ## check style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright

format: $(STAMP)  ## put imports, format and generated tables in pages right
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(RUN) tests/composition/table.py
	$(RUN) -m benchmarks report
	$(RUN) docs/fill.py

docs: $(STAMP)  ## build the documentation into docs/_build/html
	$(RUN) -m benchmarks report --check
	$(RUN) docs/fill.py --check
	$(RUN) -m sphinx -W -b html docs docs/_build/html

linkcheck: $(STAMP)  ## look whether the links that leave the pages lead somewhere
	$(RUN) -m sphinx -b linkcheck docs docs/_build/linkcheck

bench: $(STAMP)  ## measure what DTNH costs; fills benchmarks/README.md
	$(RUN) -m benchmarks
	$(RUN) -m benchmarks report

gpu: $(STAMP)  ## test and measure what is worth most on a GPU, in ten minutes
	$(RUN) -m benchmarks gpu
	$(RUN) -m benchmarks report

dist: $(STAMP)  ## build the sdist and the wheel into dist/, and check them
	rm -rf dist
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*

clean:  ## remove what was built; .venv and runs/ stay
	rm -rf dist docs/_build docs/generated .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
