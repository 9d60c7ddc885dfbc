# The verbs of the project. Each does the set-up that it needs; "make" alone lists them.
PYTHON ?= python3
BIN := .venv/bin
SAMPLE := README.md docs
ARGS ?=
MINUTES ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup serve ask test test-faults lint format gen baseline lock bench bench-retrieval soak chart-test chart-e2e chart-docs image image-base image-test release release-test clean

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/.installed ## make the virtual environment, locked

.venv/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'error: Python 3.11 or later is needed; name one with "make PYTHON=..."' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo 'error: Python lacks its venv module; run "apt-get install python3-venv"' >&2; exit 1; }
	@echo "installing into .venv, which takes half a minute ..."
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv-gen/.installed: requirements/gen.txt
	$(PYTHON) -m venv --clear .venv-gen
	.venv-gen/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/gen.txt
	@touch $@

.venv-bench/.installed: requirements/bench.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv-chart/.installed: requirements/chart.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv-chart
	.venv-chart/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/chart.txt
	.venv-chart/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv-checkov/.installed: requirements/checkov.txt
	$(PYTHON) -m venv --clear .venv-checkov
	.venv-checkov/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/checkov.txt
	@touch $@

.venv-release/.installed: requirements/release.txt
	$(PYTHON) -m venv --clear .venv-release
	.venv-release/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/release.txt
	@touch $@

serve: setup ## start the server with the project's documentation as its sample corpus
	$(BIN)/kotaemon-grpc serve $(SAMPLE:%=--import %) $(ARGS)

ask: setup ## ask the running server: make ask Q="Which port serves the metrics?"
	@test -n "$(Q)" || { echo 'usage: make ask Q="Which port serves the metrics?"' >&2; exit 2; }
	@$(BIN)/kotaemon-grpc ask "$(Q)" $(ARGS)

test: setup ## run the tests
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile $(ARGS)

test-faults: setup ## break servers under load: make test-faults ARGS="--only kill9,disk_full"
	@$(BIN)/python tests/faults/run.py $(ARGS)

lint: setup .venv-gen/.installed ## check style, types, arrows, the contract, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	scripts/check-contract

format: setup ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gen: setup .venv-gen/.installed ## generate the code of the contract
	scripts/gen server

baseline: setup .venv-gen/.installed ## with a release: make today's contract the one that must not break
	scripts/gen --image proto/baseline.binpb

lock: setup ## lock the newest versions of what we depend on
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 pyproject.toml --extra server --extra otlp requirements/dev.in -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 requirements/gen.in -o requirements/gen.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 pyproject.toml --extra server --extra otlp requirements/bench.in -o requirements/bench.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 pyproject.toml --extra server --extra otlp requirements/chart.in -o requirements/chart.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 requirements/checkov.in -o requirements/checkov.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 pyproject.toml --extra server --extra otlp -o requirements/image.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 requirements/wheel.in -o requirements/wheel.txt
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 requirements/release.in -o requirements/release.txt

bench: .venv-bench/.installed ## measure the pipeline against its peers, on two idle cores
	.venv-bench/bin/python bench/run.py $(ARGS)

soak: .venv-bench/.installed ## see whether memory grows: make soak MINUTES=60
	.venv-bench/bin/python bench/soak.py --minutes $(MINUTES) $(ARGS)

bench-retrieval: setup ## measure retrieval and answers: make bench-retrieval DATA=DIR
	$(BIN)/python bench/retrieval.py $(DATA)

chart-test: .venv-chart/.installed .venv-checkov/.installed ## test the chart with real Helm 3 and 4, without a cluster
	@.venv-chart/bin/python scripts/chart-tools
	.venv-chart/bin/python -m pytest tests/chart $(ARGS)

chart-e2e: .venv-chart/.installed ## run the rendered pods in containers, or in the cluster of KUBECONFIG
	@.venv-chart/bin/python scripts/chart-tools
	.venv-chart/bin/python -m pytest tests/cluster --timeout 900 $(ARGS)

chart-docs: .venv-chart/.installed ## derive the chart's README and the schema of its settings
	.venv-chart/bin/python scripts/chart-docs

image: ## build the image with docker, podman or buildah: make image BASE=debian@sha256:...
	@$(PYTHON) scripts/image $(ARGS)

image-base: ## make a base for the image with debootstrap, where no registry is reached
	@scripts/image-base $(ARGS)

image-test: setup ## build the image, and test what is in it and how it runs
	@mkdir -p build
	@$(PYTHON) scripts/image >build/image.json
	$(BIN)/python -m pytest tests/image $(ARGS)

release: .venv-release/.installed ## make a release in dist/: make release SIGNING_KEY=... ARGS="--push REGISTRY"
	@.venv-release/bin/python scripts/release $(ARGS)

release-test: .venv-release/.installed ## make a release of a copy, push it to a registry here, and verify it
	.venv-release/bin/python -m pytest --confcutdir tests/release tests/release $(ARGS)

clean: ## remove what was made here, but certificates and data
	rm -rf .venv .venv-gen .venv-bench .venv-chart .venv-checkov .venv-release .mypy_cache .pytest_cache .ruff_cache build dist
