# Everything a checkout needs, from a Python, pip and make: `make` lists it.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
CODE := orchestra transfers schedulers tests examples
TIMELESS := tests/orchestra/controller tests/orchestra/simulation tests/orchestra/test_topology.py tests/paper \
	tests/schedulers tests/transfers/planners tests/transfers/test_codec.py
TIMED_AMONG_THEM := tests/orchestra/controller/test_server.py
TIMELESS_ELSEWHERE := tests/examples/paper/test_figure14.py::test_priority_is_kept_in_simulation \
	tests/examples/paper/test_figure15.py::test_one_after_another_is_better_on_average_in_simulation \
	tests/examples/paper/test_racks_figures.py::test_given_and_inferred_racks_are_better_than_none_in_simulation \
	tests/examples/paper/test_racks_figures.py::test_nodes_are_put_in_the_plane_in_simulation
LONG_SIMULATIONS := $(patsubst %,tests/orchestra/simulation/test_%.py, \
	broadcast determinism learnt_rates planner_loop racks streams)
BENCHMARK := examples.benchmarks.broadcasts --plot bench.png

.DEFAULT_GOAL := help
.PHONY: help demo test test-timeless test-timed test-simulations test-soak lint check bench clean

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

# Two at a time: what runs by the clock; and beside it, giving way, what does not care how long it takes, in
# parts of which the last may begin when the former ends.
test: $(STAMP) ## all tests, with the share of branches that all reach but long simulations and scripts
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory -j2 test-timed test-timeless test-simulations test-soak
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Pure, or under virtual time. By one thread: while the other half is at work, threads of numerical libraries
# would spend their time waiting for each other. Long simulations, and all that scripts run, do not note the
# branches they reach: others reach nearly all, and noting takes several times as long, in every process of an
# emulated host as well.
test-timeless test-simulations test-soak: export OMP_NUM_THREADS = 1
test-timeless test-simulations test-soak: export OPENBLAS_NUM_THREADS = 1
test-timeless: $(STAMP)
	nice -n 19 $(BIN)/coverage run -m pytest $(TIMELESS) $(TIMED_AMONG_THEM:%=--ignore=%) $(LONG_SIMULATIONS:%=--ignore=%)

test-simulations: $(STAMP)
	nice -n 19 $(BIN)/python -m pytest $(LONG_SIMULATIONS) $(TIMELESS_ELSEWHERE)

# Two hundred simulated runs with faults.
test-soak: $(STAMP)
	nice -n 19 $(BIN)/python -m orchestra.simulation.soak --seeds 200

test-timed: $(STAMP)
	$(BIN)/coverage run -m pytest $(TIMED_AMONG_THEM)
	$(BIN)/coverage run -m pytest $(TIMELESS:%=--ignore=%) --ignore=tests/examples
	$(BIN)/python -m pytest tests/examples $(TIMELESS_ELSEWHERE:%=--deselect=%)

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
