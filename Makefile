# The workbook's commands; `make help` lists them. Each one first sees that there is an environment.
#
# That is the active one (VIRTUAL_ENV, or a conda environment other than base), which gets only what
# it lacks. Where none is active it is `.venv` in this folder, made the first time; that needs
# nothing but make and Python 3.11 or newer: `make PYTHON3=/path/to/python3.12 …` names another.

PYTHON3 ?= python3

ifneq ($(VIRTUAL_ENV),)
  ENVIRONMENT := $(VIRTUAL_ENV)
  ACTIVE := yes
else ifneq ($(and $(CONDA_PREFIX),$(filter-out base,$(CONDA_DEFAULT_ENV))),)
  ENVIRONMENT := $(CONDA_PREFIX)
  ACTIVE := yes
else
  ENVIRONMENT := $(CURDIR)/.venv
  ACTIVE :=
endif
PYTHON := $(ENVIRONMENT)/bin/python
STAMP := $(ENVIRONMENT)/.ebclib-setup

# Notebooks start `python3`, a kernel other environments have, too: ours is found before theirs.
export PATH := $(ENVIRONMENT)/bin:$(PATH)
export JUPYTER_PATH := $(ENVIRONMENT)/share/jupyter$(if $(JUPYTER_PATH),:$(JUPYTER_PATH))

# Many containers forbid it; then every process and kernel compiles PyTorch anew: 20 s each.
unexport PYTHONDONTWRITEBYTECODE

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

NOTEBOOKS := $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))

.PHONY: help setup reproduce test store lab lint clean

help: ## List these commands
	@echo "Usage: make COMMAND   (environment: $(ENVIRONMENT))"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

reproduce: setup ## Train the demo's runs and run every notebook, offline; what is done stays
	@"$(PYTHON)" -m snakemake --cores all --config experiment=demo
	@"$(PYTHON)" -m ebclib report

test: setup ## Run the whole test: examples, tests and notebooks, offline, a process a core
	@OMP_NUM_THREADS=1 "$(PYTHON)" -m pytest --nbval --numprocesses auto --dist loadfile --no-loadscope-reorder

# Where crowds are drawn or the demo is trained for it, progress is stored, too: then once more.
store: setup ## Run the notebooks and save their outputs in them, before a change of them is committed
	@"$(PYTHON)" -m nbconvert --to notebook --execute --inplace \
	    --ExecutePreprocessor.kernel_name=python3 --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	@tar czf tests/data/demo_runs.tgz -C results/runs $$(cd results/runs && ls synthetic_small-*/*.json synthetic_small-*/*.csv)
	@cp results/figures/synthetic/04_maps_synthetic-clip_lite-text-demo-seed0.png results/figures/overview.png

lab: setup ## Open the notebooks in JupyterLab, with data/ and results/ beside them
	@"$(PYTHON)" -m jupyter lab --ServerApp.root_dir="$(CURDIR)" \
	    --LabApp.default_url=/lab/tree/notebooks

lint: setup ## Check code and notebooks with ruff, and the method's types with mypy
	@"$(PYTHON)" -m ruff check
	@"$(PYTHON)" -m ruff format --check
	@"$(PYTHON)" -m mypy

clean: ## Remove caches and executed notebooks; keeps .venv, data/ and the runs in results/
	@rm -rf results/notebooks .snakemake .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	@find ebclib tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

# The demo and its test fetch nothing.
test reproduce store: export HF_HUB_OFFLINE := 1
test reproduce store: export TRANSFORMERS_OFFLINE := 1

# Is this checkout's package (not another's) installed, since pyproject.toml last changed?
INSTALLED = [ "$(STAMP)" -nt pyproject.toml ] && "$(PYTHON)" -P -c 'import pathlib, sys, ebclib; \
    sys.exit(pathlib.Path(ebclib.__file__).resolve().parents[1] != pathlib.Path.cwd().resolve())'
IS_NEW_ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 11))'

setup: ## Make or complete the environment (about 6 GB on Linux); at once where nothing has changed
	@if $(INSTALLED) 2>/dev/null; then exit 0; fi; \
	fail() { printf 'make: %s\n' "$$@" >&2; exit 1; }; \
	if [ -z "$(ACTIVE)" ] && ! "$(PYTHON)" -c '' 2>/dev/null; then \
	    command -v "$(PYTHON3)" >/dev/null \
	        || fail "no $(PYTHON3) here; install Python 3.11 or newer." \
	            "Debian, Ubuntu: sudo apt install python3 python3-venv"; \
	    "$(PYTHON3)" $(IS_NEW_ENOUGH) \
	        || fail "$$("$(PYTHON3)" --version) is too old: Python 3.11 or newer is needed." \
	            "Where there is another: make PYTHON3=/path/to/python3.12"; \
	    "$(PYTHON3)" -c 'import venv, ensurepip' 2>/dev/null \
	        || fail "$(PYTHON3) cannot make environments: its venv module is missing." \
	            "Debian, Ubuntu: sudo apt install python3-venv (or python3.12-venv, as the version is)"; \
	    echo "Making .venv with $$("$(PYTHON3)" --version)."; \
	    "$(PYTHON3)" -m venv --clear .venv; \
	fi; \
	"$(PYTHON)" -c '' 2>/dev/null \
	    || fail "the active environment $(ENVIRONMENT) has no bin/python that runs." \
	        "Activate another one, or none (deactivate) to let make use .venv."; \
	"$(PYTHON)" $(IS_NEW_ENOUGH) \
	    || fail "$(ENVIRONMENT) has $$("$(PYTHON)" --version); Python 3.11 or newer is needed." \
	        "Activate a newer one, or none (deactivate; delete an old .venv) to let make use .venv."; \
	echo "Setting up $(ENVIRONMENT), this once. On Linux, where PyTorch carries CUDA, that is"; \
	echo "3.5 GB to fetch and 6 GB on disk: some minutes on a fast line; half a minute from a cache."; \
	if [ -z "$(ACTIVE)" ] && [ ! -x .venv/bin/uv ] && "$(PYTHON)" -m pip --version >/dev/null 2>&1; then \
	    "$(PYTHON)" -m pip install --quiet --disable-pip-version-check uv; \
	fi; \
	if command -v uv >/dev/null; then \
	    uv pip install --python "$(PYTHON)" -e '.[workbook,offline,export,heif,dev]'; \
	elif "$(PYTHON)" -m pip --version >/dev/null 2>&1; then \
	    "$(PYTHON)" -m pip install --disable-pip-version-check -e '.[workbook,offline,export,heif,dev]'; \
	else \
	    fail "$(ENVIRONMENT) has no pip, and there is no uv on PATH." \
	        "Install uv (https://docs.astral.sh/uv), or: \"$(PYTHON)\" -m ensurepip"; \
	fi; \
	touch "$(STAMP)"
