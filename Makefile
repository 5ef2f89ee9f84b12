# `make` alone lists the targets. Every target that needs it creates the environment in .venv first.

# The first of these that is Python 3.11 or newer; choose another with `make PYTHON=/path/to/python run`.
PYTHON ?= $(firstword $(foreach name,python3 python3.12 python3.11 python,$(shell \
	$(name) -c 'import sys; sys.version_info < (3, 11) or print(sys._base_executable)' 2>/dev/null)))
ENVIRONMENT := .venv/.installed
PACKAGES := --constraint constraints.txt --editable '.[all]'
REPORT := artifacts/tiny/report

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Installs into .venv with these versions, whatever the machine's pip is configured to do.
export PIP_USER = 0
export PIP_CONSTRAINT = constraints.txt
export DO_NOT_TRACK ?= 1
export DVC_NO_ANALYTICS ?= 1
export GRADIO_ANALYTICS_ENABLED ?= False
export HF_HUB_OFFLINE ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
ifeq ($(wildcard /dev/nvidia0),)
export DS_ACCELERATOR ?= cpu
endif
# With it, every stage would compile torch and transformers anew.
unexport PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE

.PHONY: help run test lint figures ablations paper standins

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

run: $(ENVIRONMENT) ## run the tiny pipeline, from drawing the images to the report
	@python -m dvc repro
	@echo
	@echo "Report:    $(REPORT)/report.html, $(REPORT)/report.md"
	@echo "Pictures:  $(REPORT)/"
	@echo "MLflow:    experiment calico-tiny in mlflow.db; to look at it:"
	@echo "           .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db"

test: $(ENVIRONMENT) ## run the tests
	@python -m pytest

lint: $(ENVIRONMENT) ## check style, types and imports
	@ruff check
	@ruff format --check
	@mypy
	@lint-imports

figures: $(ENVIRONMENT) ## print the figures of the last tiny run as one JSON line
	@python -m calico figures

ablations: $(ENVIRONMENT) ## run Table 2 and figure 8 at tiny size, seven trainings more
	@python -m dvc repro ablations/dvc.yaml
	@echo
	@echo "Report:    artifacts/tiny/ablations/report/report.html"

paper: $(ENVIRONMENT) ## run the paper's pipeline (GPU)
	@python -m dvc repro paper/dvc.yaml

standins: $(ENVIRONMENT) ## train the stand-ins for the published checkpoints again (about two hours)
	@python -m calico.standins

# uv is quick; pip is the second try, as a user may have set it up for a mirror or proxy that uv does not know.
$(ENVIRONMENT): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; install one, or name it: make PYTHON=..." >&2; exit 1; }
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv || { \
		echo "venv without ensurepip; taking pip from $(PYTHON)"; \
		$(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python .venv/bin/python install --quiet pip; }
	.venv/bin/python -m pip install --quiet --constraint constraints.txt uv
	.venv/bin/uv pip install --python .venv/bin/python $(PACKAGES) || .venv/bin/python -m pip install $(PACKAGES)
	@touch $@
