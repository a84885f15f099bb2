# Every target sets up what it needs; `make` alone lists the targets.
SHELL := /bin/bash
VENV := .venv
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)-uv/bin/uv)
MEMBERS := $(sort $(dir $(wildcard libs/*/pyproject.toml services/*/pyproject.toml)))
READY := $(VENV)/.ready
PYTEST := $(VENV)/bin/python -m pytest
# Tests wait for real parts most of the time.
JOBS ?= 4
# Bytecode is kept, whatever the environment says: else each of a thousand processes compiles anew
# what it imports, which is half of its start.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup lock lint unit test browser prometheus pgbouncer demo up manifests bench load chaos

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## .venv with the locked dependencies and every member of the workspace

# uv brings nothing but itself; where the machine has none it goes into a folder of its own.
$(VENV)-uv/bin/uv:
	@python3 -c 'import venv, ensurepip' 2>/dev/null || { echo "python3-venv is missing: install it (Debian: apt-get install python3-venv) and run make again"; exit 1; }
	@python3 -m venv $(VENV)-uv
	@$(VENV)-uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

# `uv pip sync` removes editable members, so they are installed after it, always.
$(READY): requirements.lock $(wildcard libs/*/pyproject.toml services/*/pyproject.toml) | $(if $(findstring $(VENV)-uv,$(UV)),$(VENV)-uv/bin/uv)
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed as python3"; exit 1; }
	@echo "setting up $(VENV) (once; a minute or more)" >&2
	@test -x $(VENV)/bin/python || $(UV) venv --quiet --python "$$(command -v python3)" $(VENV)
	@$(UV) pip sync --quiet --python $(VENV)/bin/python --require-hashes requirements.lock
	@$(UV) pip install --quiet --python $(VENV)/bin/python --no-deps $(addprefix -e ,$(MEMBERS))
	@touch $@

lock: | $(if $(findstring $(VENV)-uv,$(UV)),$(VENV)-uv/bin/uv) ## requirements.lock anew from the pyproject files
	@$(UV) export --quiet --all-packages --all-groups --no-emit-workspace --no-annotate --no-header --format requirements.txt -o requirements.lock

lint: $(READY) ## ruff, mypy strict, import-linter, squawk over the migrations
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy libs services tests demo bench deploy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/python -m deploy.migrations

demo: $(READY) ## the main job on real photographs, compared with the truth
	@rm -rf demo-dataset && $(VENV)/bin/python -m demo --output demo-dataset

up: $(READY) ## standalone mode until Ctrl-C
	@$(VENV)/bin/pixcrawler up

manifests: $(READY) ## deploy/k8s rendered and checked, against schemas and the code
	@$(VENV)/bin/python -m deploy check

bench: $(READY) ## the benchmarks, side by side with their references
	@for each in bench/[a-z]*.py; do name=$$(basename $$each .py); echo "== $$name"; $(VENV)/bin/python -m bench.$$name || exit 1; done

load: $(READY) ## 50 and 500 users of the API at a time, against a standalone of their own [LOAD="--users 50 --seconds 30"]
	@$(VENV)/bin/python -m bench.load $(LOAD)

chaos: $(READY) ## jobs under kills, outages and replays for a night, held against the promise [SECONDS=… SEED=…]
	@$(VENV)/bin/python -m tests.chaos --seconds $(or $(SECONDS),28800) $(if $(SEED),--seed $(SEED)) $(CHAOS)

unit: $(READY) ## the unit tests alone, in seconds
	@$(PYTEST) -q -n 2 tests/unit

# Root on Debian can install them; anyone else is told, and the tests that need them are skipped.
# $(call debian,programs of which one is enough,the package,what it is,whose tests)
define debian
	@command -v $(1) >/dev/null && exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "no $(3) here: the tests of $(4) are skipped (Debian: apt-get install $(2))" >&2; exit 0; fi; \
	echo "installing $(3) for the tests of $(4) (once; a minute)" >&2; \
	log=$$(mktemp); install() { DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y --no-install-recommends $(2); }; \
	{ install || { apt-get update && install; }; } >$$log 2>&1 || tail -5 $$log >&2; rm -f $$log
endef

browser: ## a Chromium for the browser tests, unless there is one
	$(call debian,chromium chromium-browser google-chrome-stable google-chrome chrome,chromium,Chromium,the page)

prometheus: ## a Prometheus for the tests of rules and of the dashboard, unless there is one
	$(call debian,promtool,prometheus,Prometheus,rules and the dashboard)

pgbouncer: ## a PgBouncer for the tests through it, unless there is one
	$(call debian,/usr/sbin/pgbouncer pgbouncer,pgbouncer,PgBouncer,what stands behind it)

# Beside lint there is a core to spare: the programs are fetched meanwhile, and collecting compiles
# what tests import and rewrites their assertions: once, and not once in every worker.
test: $(READY) ## everything: lint, unit, integration, e2e, browser
	@$(MAKE) --no-print-directory browser prometheus pgbouncer & \
	$(PYTEST) -q --collect-only tests >/dev/null 2>&1 & collecting=$$!; \
	$(MAKE) --no-print-directory lint || { kill $$collecting; wait; exit 1; }; wait
	@$(PYTEST) -q -n $(JOBS) tests || { \
	  echo "what failed beside others runs once more, alone: on noisy cores a deadline may pass"; \
	  $(PYTEST) -q --last-failed --last-failed-no-failures none tests; }
