# The commands of this repository. `make demo` shows a complete run on one machine; `make test` runs the tests.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON3 ?= python3
VENV ?= .venv
PYTHON := $(VENV)/bin/python
# Number of processes that run tests; they mostly wait for daemons
WORKERS ?= 4
ROOT_ARGUMENT := $(if $(SANDBOX_ROOT),--root $(SANDBOX_ROOT))

# Timeout in seconds for one test of tests/container, including the fixtures that it starts
CONTAINER_TIMEOUT ?= 1800

IMAGE ?= biomeroworker
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE_LABELS = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) \
	$(if $(SOURCE),--build-arg SOURCE=$(SOURCE))

COMPILE := $(VENV)/bin/uv pip compile -q --no-annotate --only-binary :all: --no-binary zeroc-ice \
	--no-emit-package zeroc-ice --no-emit-package biomeroworker --no-emit-package biomero --no-emit-package omero-stand-in
IMAGE_LOCK := $(COMPILE) --generate-hashes --custom-compile-command 'make locks' \
	--python-version 3.11.2 --python-platform x86_64-manylinux_2_28 -c requirements.lock

export OMERO_HOST OMERO_PORT OMERO_ROOT_PASSWORD

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

packages: ## install missing Debian packages (as root), or list them
	@tools/install-packages

# Rebuilt when the requirements change
$(VENV)/.installed: pyproject.toml $(wildcard packages/*/pyproject.toml) requirements.lock tools/build_ice_wheel.py | packages
	@wheel=$$($(PYTHON3) tools/build_ice_wheel.py); \
	echo "creating $(VENV) with the versions of requirements.lock" >&2; \
	$(PYTHON3) -m venv $(VENV); \
	$(PYTHON) -m pip -q --disable-pip-version-check install "$$wheel"; \
	$(PYTHON) -m pip -q --disable-pip-version-check install -r requirements.lock; \
	$(PYTHON) -m pip -q --disable-pip-version-check install --no-deps -e . -e packages/biomero -e packages/omero-stand-in
	@touch $@

install: $(VENV)/.installed ## create the Python environment for development

demo: $(VENV)/.installed ## process a real image: from OMERO to SLURM, through a container, and back
	@$(PYTHON) -m sandbox.demo

sandbox-up: $(VENV)/.installed ## start an OMERO.grid, a SLURM cluster and their databases on this machine (WITH=web: also OMERO.web)
	@$(PYTHON) -m sandbox up $(if $(WITH),--with $(WITH)) $(ROOT_ARGUMENT)

sandbox-status: $(VENV)/.installed ## show each part of the sandbox with port, pid and health
	@$(PYTHON) -m sandbox status $(ROOT_ARGUMENT)

sandbox-env: $(VENV)/.installed ## print the variables of the running sandbox as shell assignments
	@$(PYTHON) -m sandbox env $(ROOT_ARGUMENT)

sandbox-down: $(VENV)/.installed ## stop the sandbox
	@$(PYTHON) -m sandbox down $(ROOT_ARGUMENT)

sandbox-purge: $(VENV)/.installed ## stop the sandbox and remove its data and its cluster account
	@$(PYTHON) -m sandbox down --purge $(ROOT_ARGUMENT)

test: $(VENV)/.installed ## run all tests except test-container and test-browser, and lint
	@$(MAKE) --no-print-directory -j2 test-product lint test-stand-in

test-product: $(VENV)/.installed
	@$(PYTHON) -m pytest -q -n $(WORKERS) $(PYTEST_ARGUMENTS)

test-stand-in: $(VENV)/.installed ## run the tests of packages/omero-stand-in
	@cd packages/omero-stand-in && $(abspath $(PYTHON)) -m pytest -q

lint: $(VENV)/.installed ## run the checks of pre-commit
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@$(VENV)/bin/lint-imports --no-cache --no-logo
	@git ls-files -z | xargs -0 grep -lIE '^#!.*\b(ba|da)?sh$$' | xargs shellcheck
	@git ls-files -z -- '*Dockerfile' | xargs -0 $(VENV)/bin/hadolint

test-container: $(VENV)/.installed ## test the images and the compose files on a Docker Engine (root, or DOCKER_HOST)
	@tools/install-packages packages-container.txt
	@$(PYTHON) -m pytest -q tests/container -o timeout=$(CONTAINER_TIMEOUT) $(PYTEST_ARGUMENTS)

test-browser: $(VENV)/.installed ## test OMERO.web, the dialogs and the run report in Chromium; needs root
	@tools/install-packages packages-browser.txt
	@$(PYTHON) -m pytest -q tests/browser $(PYTEST_ARGUMENTS)

image: ## build both images (SOURCE=URL for the label, BUILD_ARGUMENTS for more)
	@DOCKER_BUILDKIT=1 docker build $(IMAGE_LABELS) $(BUILD_ARGUMENTS) --target node -t $(IMAGE):$(VERSION) .
	@DOCKER_BUILDKIT=1 docker build $(IMAGE_LABELS) $(BUILD_ARGUMENTS) --target attached -t $(IMAGE):$(VERSION)-attached .

locks: $(VENV)/.installed ## update requirements.lock (versions in it are not changed) and container/image/*.lock
	@$(COMPILE) --no-header --all-extras --python-version 3.11.7 \
		-o requirements.lock pyproject.toml packages/*/pyproject.toml container/image/scripts.in
	@$(IMAGE_LOCK) --extra omero \
		-o container/image/requirements.lock pyproject.toml packages/biomero/pyproject.toml container/image/scripts.in
	@$(COMPILE) --no-header --python-version 3.12 -c requirements.lock --override sandbox/web/overrides.txt \
		--no-binary biomero --no-binary biomeroworker -o sandbox/web/requirements.lock sandbox/web/requirements.in
	@$(IMAGE_LOCK) -o container/image/build-environment.lock container/image/build-environment.in

bench: $(VENV)/.installed ## run the benchmarks (ONLY=name for one; takes minutes)
	@$(PYTHON) -m benchmarks $(ONLY) $(BENCH_ARGUMENTS)

docs: $(VENV)/.installed ## build the documentation; warnings are errors
	@$(PYTHON) -m sphinx -q -W --keep-going docs docs/_build

clean: ## remove build results of this checkout; caches elsewhere remain
	@rm -rf $(VENV) docs/_build build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

.PHONY: test-product test-stand-in test-browser help packages install demo sandbox-up sandbox-status sandbox-env sandbox-down sandbox-purge test test-container image locks bench lint docs clean
