# One command each, the same at home and in CI. On a fresh machine `make demo` and `make test` do
# all the set-up themselves; a second run installs again only when what is to be installed changed.
#
#   make demo     documents without labels -> embeddings over gRPC; 14 minutes on 2 slow cores
#   make serve    serve the demo's student until Ctrl-C
#   make test     what make check does, and the tests; compiles attar-native, so it needs a C++ compiler
#   make slow     the tests that take more than ten seconds each, which make test leaves out
#   make clients  run other projects' clients against a server, in an environment of their own
#   make claims   train every recipe whose claim holds to the end, at one seed
#   make check    ruff and mypy --strict
#   make protos   generate the modules of protos/attar/v1
#   make bench    run every benchmark but gpu_training; with DATA=folder, those on data sets too
#   make docs     write the measured claims into the pages, then run every page's blocks
#   make site     the pages and an API reference as a web site, in build/site
#   make clean    remove what make made
#
# Yours to choose: make PYTHON=python3.12 VENV=~/envs/attar CONSTRAINTS=mine.txt demo

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := demo
.PHONY: demo serve test slow clients claims check lint protos bench docs site clean

BIN := $(VENV)/bin
# A stamp in the environment per set of extras and constraints file; dev contains demo.
INSTALLED := $(VENV)/.installed-$(notdir $(CONSTRAINTS))
DEMO := $(INSTALLED)-demo
DEV := $(INSTALLED)-dev
SITE := $(INSTALLED)-site
RESULTS := benchmarks/results
# Python compiles what is imported when it is first imported: a small part of what is installed.
# It keeps what it compiled, whatever the environment says: else each process of the tests, and each
# that they start, compiles torch anew.
INSTALL := $(BIN)/pip install --no-compile -c $(CONSTRAINTS)
unexport PYTHONDONTWRITEBYTECODE
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
NATIVE := native/pyproject.toml $(wildcard native/attar_native/*.py native/src/*)

demo: $(DEMO)
	$(BIN)/attar demo --out build/demo

serve: $(DEMO) | build/demo/student.attar
	$(BIN)/attar serve build/demo/student.attar --data-dir build/demo/server/data

# mypy runs while the tests do, and three of them run at a time on two cores: many wait for a server
# or a clock. Each computes with one thread. The files keep the order that tests/conftest.py gives
# them.
test: lint | build
	$(BIN)/mypy > build/mypy.txt & types=$$!; \
	tests=0; $(PYTEST) -m "not claims and not slow" || tests=$$?; \
	wait $$types || { cat build/mypy.txt; exit 1; }; \
	exit $$tests

slow: $(DEV)
	$(PYTEST) -m "slow and not claims"

# Not a part of `make test`: it installs 2 GB of other projects' packages, in build/clients.
clients: $(DEV)
	$(BIN)/python -m benchmarks.clients --out $(RESULTS)/clients.json

claims: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m claims

check: lint
	$(BIN)/mypy

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

protos: $(DEV)
	$(BIN)/python protos/generate.py

bench: $(DEV) | build/demo/student.attar
	$(BIN)/python -m benchmarks.footprint build/demo/student.attar > $(RESULTS)/footprint.json
	$(BIN)/python -m benchmarks.bad_input_table > $(RESULTS)/bad_inputs.md
	$(BIN)/python -m benchmarks.bad_folder_table > $(RESULTS)/bad_folders.md
	$(BIN)/python -m benchmarks.bad_command_table --out $(RESULTS)/bad_commands.md
	$(BIN)/python -m benchmarks.faults --full --out $(RESULTS)/faults.json
	$(BIN)/python -m benchmarks.attacks --out $(RESULTS)/attacks.json
	$(BIN)/python -m benchmarks.siege --out $(RESULTS)/siege.json
	$(BIN)/python -m benchmarks.conformance build/demo/minilm.attar --out $(RESULTS)/verify.json
	$(BIN)/python -m benchmarks.limits build/demo/minilm.attar --out $(RESULTS)/limits.json
	$(BIN)/python -m benchmarks.search --out $(RESULTS)/search.json
	$(BIN)/python -m benchmarks.attention --out $(RESULTS)/attention.json
	$(BIN)/python -m benchmarks.distillation_curve --out $(RESULTS)/distillation_curve.json
	$(BIN)/python -m benchmarks.prove_triton --out $(RESULTS)/triton.json
	$(BIN)/python -m benchmarks.lightly_losses --out $(RESULTS)/lightly.json
	for name in durability overhead rivals memory workers perf_analyzer loop recipes; do \
	  $(BIN)/python -m benchmarks.$$name --out $(RESULTS)/$$name.json; done
ifdef DATA
	for name in binarized_quality imagenet minilm; do \
	  $(BIN)/python -m benchmarks.$$name --data '$(DATA)' --out $(RESULTS)/$$name.json; done
	$(BIN)/python -m benchmarks.recipes --data '$(DATA)' --out $(RESULTS)/recipes.json
	$(BIN)/python -m benchmarks.detectors --data '$(DATA)/anomaly-adbench-tabular' --out $(RESULTS)/detectors.json
	$(BIN)/python -m benchmarks.classifiers --data '$(DATA)/text-clinc150' --out $(RESULTS)/classifiers.json
	$(BIN)/python -m benchmarks.labels --data '$(DATA)/image-cifar10' --out $(RESULTS)/labels.json
endif

docs: $(DEV)
	$(BIN)/python -m benchmarks.claims
	$(BIN)/python -m pytest tests/project/test_docs.py

site: $(SITE)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist native/build .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info

build/demo/student.attar: | $(DEMO)
	$(BIN)/attar demo --out build/demo

$(DEMO): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -e '.[demo]'
	touch $@

$(DEV): pyproject.toml $(CONSTRAINTS) $(NATIVE) | $(BIN)/python
	$(INSTALL) -e '.[dev]' ./native
	touch $@ $(DEMO)

$(SITE): $(DEV)
	$(INSTALL) -e '.[site]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

build:
	mkdir -p build
