# Everything runs from a virtual environment in .venv, which the first target that needs it makes.
# Variables:
#   PYTHON=python3.12      another interpreter (3.11 or 3.12) than the one found on PATH
#   TORCH_INDEX=<url>      one more package index, such as one with CPU builds of torch
#   PYTEST_ARGS="-k name"  handed to pytest
#   WORKERS=1              files of tests that run at once; one more than there are cores, at most 8

# Each candidate is started, not only looked up: a name on PATH may belong to no installed Python.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	2>/dev/null && echo "$$p" && break; done)
TORCH_INDEX ?=
PYTEST_ARGS ?=
# One more than cores: many tests wait for processes that they have started.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 7 ? n + 1 : 8)))

VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP := $(VENV_PYTHON) -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv smoke test test-parity lint format clean

help: ## list the targets
	@echo "Targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; done
	@echo "Variables:"
	@sed -n 's/^#   \([A-Z_]*=.*\)/  \1/p' Makefile

venv: $(STAMP) ## make .venv with the project and its development tools

# An environment that is there and works is kept; a half-made one is made anew.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! $(PIP) --version >/dev/null 2>&1; then \
		python="$(PYTHON)"; \
		if [ -z "$$python" ]; then \
			echo "error: no Python 3.11 or 3.12 on PATH; install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			package="$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; \
			if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
				echo "$$python cannot make virtual environments; installing $$package"; \
				apt-get update -q; \
				DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$$package"; \
			else \
				echo "error: $$python cannot make virtual environments; on Debian or Ubuntu run" >&2; \
				echo "    sudo apt-get install $$package" >&2; \
				exit 1; \
			fi; \
		fi; \
		echo "making $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV); \
	fi
	$(PIP) install $(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -c constraints.txt -e '.[dev]'
	@touch $@

smoke: venv ## train the multiplication model with two orders of the answer, in minutes
	$(VENV_PYTHON) -m tools.compare_strategies --config configs/smoke/multiplication.yaml \
		--strategies ntp,max_mi --seeds 0 --out runs/smoke

# By file: what a file's tests share is made once. In the order of their names, not by their number:
# files with few tests can be the longest. Those that fill the machine by themselves come last, one
# after the other; pytest ends with 5 where PYTEST_ARGS chooses none of them.
test: venv ## run the tests
	$(VENV_PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-m 'not parity and not alone' $(PYTEST_ARGS)
	$(VENV_PYTHON) -m pytest -m 'not parity and alone' $(PYTEST_ARGS) || [ $$? = 5 ]

test-parity: venv ## train every parallel layout and compare it with one process; long resumed runs
	$(VENV_PYTHON) -m pytest -m parity tests/distributed/test_parity.py \
		tests/training/checkpoint/test_resume.py $(PYTEST_ARGS)

lint: venv ## check style, format and types
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check
	$(VENV_PYTHON) -m mypy pretrain launcher tools

format: venv ## put the code into its format, and mend what can be mended
	$(VENV_PYTHON) -m ruff check --fix --exit-zero
	$(VENV_PYTHON) -m ruff format

clean: ## remove .venv, caches and build files; results in runs/ stay
	rm -rf $(VENV) build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
