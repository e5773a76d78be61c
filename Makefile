# Every target works in .venv, which the first one that needs it creates. `make help` lists them.
# A CPU-only or CUDA torch of your choice: see the README; constraints.txt pins what is tested.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --constraint constraints.txt
# pip ignores --constraint inside an isolated build and reads this variable there; without isolation it refuses it.
ISOLATED := PIP_BUILD_CONSTRAINT=constraints.txt
HERE := env -u PIP_BUILD_CONSTRAINT HASTEN_REQUIRE_NATIVE=1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What an installation is made from; after `make develop` the import itself rebuilds the kernels.
NATIVE := $(if $(wildcard $(VENV)/.develop),,CMakeLists.txt $(wildcard src/hasten/_native/*.[ch]pp src/hasten/_native/*/*.[ch]pp))
# Two files at a time; the tests of one file stay together and in order.
PYTEST_ARGS ?= --numprocesses 2 --dist loadfile
DEMO := runs/demo

.PHONY: help demo test lint docs sanitize fuzz develop clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

demo: $(VENV)/.bench ## compare two ways to train on the digits data, and write a report
	$(BIN)/hasten compare digits --out $(DEMO)
	@echo "Report: $(DEMO)/report.html"

test: $(VENV)/.dev ## run all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev ## style, types, import floors, workflow files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	PYTHONPATH=src $(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict .github

docs: $(VENV)/.docs ## build the documentation; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

# The native tests under AddressSanitizer and UndefinedBehaviorSanitizer (Linux, GCC). Both runtimes are preloaded,
# because Python itself is not built with them; -S leaves the ordinary installation of hasten out.
SANITIZED := build/sanitize/site
sanitize: $(VENV)/.dev ## build and run the native tests with ASan and UBSan
	rm -rf $(SANITIZED)
	$(HERE) $(INSTALL) --no-build-isolation --no-deps --target $(SANITIZED) -Cbuild-dir=build/sanitize/cmake \
	  -Ccmake.define.HASTEN_SANITIZE=ON -Ccmake.build-type=RelWithDebInfo -Cinstall.strip=false .
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))'); \
	cxx=$${CXX:-g++}; \
	PYTHONPATH=$(SANITIZED):$$site PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$($$cxx -print-file-name=libasan.so):$$($$cxx -print-file-name=libstdc++.so.6)" \
	$(BIN)/python -S -m pytest --capture=no tests/_native tests/matmul/maddness/test_kernels.py

# EXECUTIONS inputs in all, the same ones for the same SEED (fuzz/README.md). CXX=clang++ builds libFuzzer targets, too.
EXECUTIONS ?= 1000000
SEED ?= 1
FUZZ := build/fuzz
fuzz: $(VENV)/.dev ## build and run the fuzz targets with ASan and UBSan (EXECUTIONS=1000000 SEED=1)
	$(BIN)/cmake -S . -B $(FUZZ) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) -DHASTEN_FUZZ=ON > /dev/null
	$(BIN)/cmake --build $(FUZZ)
	cd $(FUZZ) && for share in decode_tsz:2 decode_v0:2 roundtrip_tsz:1; do \
	  fuzz/fuzz_$${share%:*} --seed $(SEED) --executions $$(($(EXECUTIONS) * $${share#*:} / 5)) || exit 1; \
	done

develop: $(VENV)/.dev ## install so that an edited C++ file is rebuilt at the next import
	$(HERE) $(INSTALL) --no-build-isolation --no-deps -Cbuild-dir='build/{wheel_tag}' -Ceditable.rebuild=true \
	  -Ceditable.verbose=false -e .
	@touch $(VENV)/.develop

clean: ## remove .venv and everything built (runs/ stays)
	rm -rf $(VENV) build dist docs/_build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f src/hasten/_native/_ext.*.so

# Stamps: an installation is repeated only when what it was made from has changed.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "hasten needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one:" \
	       "make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.bench: $(VENV)/.created pyproject.toml constraints.txt $(NATIVE)
	$(ISOLATED) $(INSTALL) --editable '.[bench]'
	@rm -f $(VENV)/.develop
	@touch $@

$(VENV)/.dev: $(VENV)/.bench
	$(INSTALL) --group dev
	@touch $@

$(VENV)/.docs: $(VENV)/.bench
	$(INSTALL) --group docs
	@touch $@
