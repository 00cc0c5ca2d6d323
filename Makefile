# Sets up with the standard library's venv and pip alone; versions come from requirements/*.lock, with hashes.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
RING ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check bench cluster cluster-down images generate lock tiny-model clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/runtime ## Replay real traffic through round robin, then cache-aware routing, and compare (about 4 minutes)
	$(PY) -m kvpool_cli.demo

test: $(VENV)/dev ## Check and test; RING=unit|embedded|cluster|vllm|all installs what that ring needs and runs it alone
	$(PY) tests/rings.py $(RING)

check: $(VENV)/dev ## Format, lint, types and layers only
	$(PY) tests/rings.py check

bench: $(VENV)/dev ## Run every benchmark in its quick form; those that need a node or real vLLM only where it is at hand
	$(PY) -m benchmarks.index --quick
	$(PY) -m benchmarks.events --quick
	$(PY) -m benchmarks.offload --quick
	$(PY) -m benchmarks.proxy --quick
	$(PY) -m benchmarks.replicas --quick
	$(PY) -m benchmarks.tokens --quick
	$(PY) -m benchmarks.cluster --quick --if-here
	$(PY) -m benchmarks.rollouts --quick --if-here
	$(PY) -m benchmarks.real_vllm --quick --if-here

cluster: $(VENV)/runtime ## Start a Kubernetes cluster for trials and load kvpool's images (needs root, or docker and kind; builds it first)
	@$(KVNODE) up

cluster-down: ## Stop it; nothing of it is left
	@$(KVNODE) down
KVNODE = PYTHONPATH=tests/node $(PYTHON) -m kvnode

images: ## Build the images; REGISTRY=registry.example/team pushes them there, BASE=IMAGE builds on another Python
	$(PYTHON) deploy/images/build.py --registry "$(REGISTRY)" --base "$(BASE)"
REGISTRY ?=
BASE ?=

generate: $(VENV)/dev ## Write what is generated from the API's models: crds/*.yaml, and the Helm chart's copies
	$(PY) -m kvpool_api.crd > crds/inferencepools.yaml
	cp crds/inferencepools.yaml deploy/role/role.yaml deploy/users/roles.yaml deploy/chart/files/

lock: $(VENV)/dev $(VENV)/bin/uv ## Renew requirements/*.lock
	$(VENV)/bin/uv pip compile $(LOCK) --all-extras pyproject.toml -o requirements/runtime.lock
	$(VENV)/bin/uv pip compile $(LOCK) --all-extras --group dev -c requirements/runtime.lock pyproject.toml -o requirements/dev.lock
	for image in operator router sim; do $(VENV)/bin/uv pip compile $(LOCK) --extra $$image -c requirements/runtime.lock pyproject.toml -o requirements/$$image.lock || exit 1; done
LOCK := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

$(VENV)/bin/uv:
	$(PY) -m pip install --quiet --disable-pip-version-check uv

tiny-model: $(VENV)/dev ## Make the small random model that examples/cpu-vllm.yaml serves (installs vLLM for CPU first)
	$(PY) tests/vllm/environment.py

clean: ## Remove the environment and everything that runs left behind
	rm -rf $(VENV) .kvpool .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/runtime: requirements/runtime.lock pyproject.toml
	@echo "Setting up $(VENV) (about half a minute)"
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/dev: requirements/dev.lock $(VENV)/runtime
	@echo "Adding the tools for tests (about half a minute)"
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@
