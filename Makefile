# Two commands on a fresh machine: `make demo` and `make test`. Each does its own set-up.
# While you work: `make check`, two minutes; it needs no platform, cluster or browser.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# This exact release first: where a CPU build of it is at hand, nothing larger is fetched.
TORCH ?= torch==2.13.0
# The model of the demo; your own folder or bucket instead of the demo's corpus; what to ask.
MODEL ?= minilm-l6-v1
SOURCE ?=
QUESTION ?=

PYTEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

# Most of their files start a webserver, a daemon and runs.
PLATFORMS = $(addprefix rag_assets_tests/,browser kubernetes scenarios)

# What `make check` collects; the other folders need a platform, a cluster or a browser.
UNIT = $(wildcard rag_assets_tests/test_*.py) \
  $(addprefix rag_assets_tests/,core adapters pipeline models serving clients)

COMPILE = $(BIN)/uv pip compile setup.py --quiet --upgrade --universal --python-version 3.11 \
  --generate-hashes --no-header --no-annotate --override requirements/overrides.txt

.PHONY: demo check test dev lint types layers unit lock clouds chromium postgresql prometheus clean

demo: $(VENV)/.ready
	RAG_ASSETS_MODEL=$(MODEL) $(BIN)/rag-assets demo $(if $(SOURCE),--source '$(SOURCE)') \
	  $(if $(QUESTION),--question '$(QUESTION)')

dev: $(VENV)/.ready
	$(BIN)/rag-assets dev

check: $(VENV)/.ready
	$(MAKE) --jobs 4 --output-sync lint types layers unit

unit: $(VENV)/.ready
	$(PYTEST) --quiet --numprocesses 2 -m 'not slow' $(UNIT)

# Platforms two at a time: one that only waits takes half a core, so a third would leave two cores no
# time for its work.
test: $(VENV)/.ready .venv-milvus/.ready .helm/helm chromium postgresql prometheus
	$(PYTEST) --numprocesses 3 --durations 25 $(addprefix --ignore=,$(PLATFORMS))
	$(PYTEST) --numprocesses 2 --durations 25 $(PLATFORMS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

layers: $(VENV)/.ready
	$(BIN)/lint-imports

# The exact versions of the lock, by their hashes; torch is not in it, nor what only torch needs.
$(VENV)/.ready: setup.py requirements/dev.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements/dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# After a change of the requirements in setup.py: for each set of extras, the newest versions.
lock:
	for extras in kubernetes kubernetes,flagembedding; do $(COMPILE) --extra $${extras%,*} \
	  $$(case $$extras in *,*) echo --extra $${extras#*,};; esac) \
	  --output-file "requirements/$$extras.lock"; done
	$(COMPILE) --extra kubernetes --extra flagembedding --extra minilm --extra dev \
	  --output-file requirements/dev.lock

# The full Milvus engine for the contract tests; its old dependencies need a venv of their own.
.venv-milvus/.ready:
	$(PYTHON) -m venv .venv-milvus
	.venv-milvus/bin/python -m pip install --quiet 'setuptools<70' milvus==2.3.5
	touch $@

# The contract of sources on emulators of Google Cloud Storage and Azure, with what only they need.
clouds: $(VENV)/.ready .clouds/.ready
	$(BIN)/pytest -W default rag_assets_tests/clouds/contract.py

.clouds/.ready:
	$(BIN)/python -m pip install --quiet --target .clouds/python \
	  'gcsfs>=2026.9' 'adlfs>=2026.8' 'gcp-storage-emulator>=2026.7'
	npm install --silent --prefix .clouds azurite@3
	touch $@

# For the chart's tests, which are skipped without it.
.helm/helm: $(VENV)/.ready helm/get_helm.py
	$(BIN)/python helm/get_helm.py $@

# For tests that are skipped where these are not there and cannot be installed, as root from Debian.
debian_package = { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --yes $(apt) $@ >/dev/null; }

chromium:
	@command -v chromium >/dev/null || $(debian_package) || echo "No chromium: browser tests are skipped."

postgresql:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || $(debian_package) || \
	  echo "No PostgreSQL: the chart is not installed."

prometheus: apt = --no-install-recommends# which is a service
prometheus:
	@command -v promtool >/dev/null || $(debian_package) || \
	  echo "No promtool: alert rules and metrics are checked without it."

clean:
	rm -rf $(VENV) .venv-milvus .helm .rag-assets
