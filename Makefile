# Everything a checkout needs, from a Python, pip and make: `make` lists it.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
CODE := orchestra transfers schedulers tests examples
BENCHMARK := examples.benchmarks.broadcasts --plot bench.png

.DEFAULT_GOAL := help
.PHONY: help demo test lint check bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# PIP_CONSTRAINT reaches the build of the package as well, which -c does not.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e '.[examples,benchmarks,tests]'
	@touch $@

demo: $(STAMP) ## K-Means on a photograph, then 256 MB to 7 nodes by each mechanism
	$(BIN)/python -m orchestra demo

# Two hundred simulated runs with faults go on beside the tests, and give way to them.
test: $(STAMP) ## all tests, with the share of branches they reach
	@rm -f .coverage .coverage.*
	nice -n 19 $(BIN)/python -m orchestra.simulation.soak --seeds 200 & soak=$$!; \
		$(BIN)/coverage run -m pytest || { kill $$soak; exit 1; }; \
		wait $$soak
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lint: $(STAMP) ## style, types, and who may import whom
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

check: lint test ## what CI runs: lint and test

bench: $(STAMP) ## our mechanisms and other systems on emulated hosts, side by side (as root)
	@echo "running $(BENCHMARK)"
	$(BIN)/python -m $(BENCHMARK)

clean: ## remove what these targets made
	rm -rf .venv build dist *.egg-info demo-output htmlcov .coverage .coverage.*
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
