# `make help` lists what can be done here. All of it happens in a virtual environment of the tree;
# `make test PYTHON=python3.13` has one of its own.

PYTHON ?= python3
environment := .venv$(if $(filter-out python3,$(PYTHON)),-$(subst /,-,$(PYTHON)))
programs := $(environment)/bin
python := $(programs)/python

# What tests import is compiled once, not by each of the thousands of processes that they start.
export PYTHONDONTWRITEBYTECODE =

compiled := $(environment)/.compiled
c_files := $(sort $(shell find csrc tests benchmarks -name "*.[ch]"))

# A Python without a GIL: the first of these that is here.
FREE_THREADED ?= $(notdir $(firstword $(shell for name in python3.15t python3.14t python3.13t; do command -v $$name; done)))

# No warning is tolerated.
sphinx := $(python) -m sphinx --quiet --nitpicky --fail-on-warning

SECONDS ?= 600
RESULTS ?= results.json
EXAMPLES ?= 2000

.PHONY: help build demo test paused free-threaded windows lint lint-python lint-types lint-c lint-pages format faults torture fuzz core sanitize references model bench report docs docs-look docs-links command-pages portable cross wheels emulate dist check-dist dependents clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

build: $(compiled) $(environment)/.group-test $(environment)/.group-lint  ## compile, and install what the other targets need

demo: $(compiled)  ## see the lock at work
	$(python) examples/demo.py

test: $(compiled) $(environment)/.group-test  ## run the tests and the examples of the documentation (ARGS="-k fork" for some)
	tools/prerequisites postgresql
	$(python) -m pytest -n 7 --dist worksteal $(ARGS)  # most of the time they wait

paused: $(compiled) $(environment)/.group-test  ## the same, while each test is slower than the processes that it starts (ARGS=tests/command for some)
	tools/prerequisites postgresql
	$(python) -m pytest -n 10 --dist worksteal --paused $(or $(ARGS),tests)  # nearly all of the time they wait

free-threaded:  ## the same, by a Python without a GIL (FREE_THREADED=python3.14t), if there is one
ifneq ($(FREE_THREADED),)
	$(MAKE) test PYTHON=$(FREE_THREADED)
else
	@echo "No Python without a GIL is here: docs/testing.rst says how to make one."
endif

windows: $(environment)/.group-build  ## build for Windows, and test what was built, under Wine (ARGS=--short for minutes of it)
	tools/windows/setup .windows $(python)
	$(python) tools/windows/build.py .windows
	tools/windows/check .windows $(ARGS)

lint: lint-python lint-types lint-c lint-pages  ## check style, types, stubs and the markup of the documentation

lint-python: $(environment)/.group-lint
	$(programs)/ruff check
	$(programs)/ruff format --check

lint-types: $(compiled) $(environment)/.group-lint
	$(programs)/mypy
	$(programs)/mypy --strict tests/interface/test_typical_uses.py lockfile/postgresql
	$(python) -m mypy.stubtest lockfile

lint-c: $(environment)/.group-lint
	$(programs)/clang-format --dry-run -Werror $(c_files)

lint-pages: $(compiled) $(environment)/.group-lint
	$(sphinx) --builder dummy docs build/pages

format: $(environment)/.group-lint  ## bring Python and C into shape
	$(programs)/ruff check --fix
	$(programs)/ruff format
	$(programs)/clang-format -i $(c_files)

faults: $(compiled) $(environment)/.group-test  ## kill, fail and attack at every system call, and fail at every allocation (ARGS=--quick for some)
ifeq ($(ARGS),--quick)
	$(python) -m pytest -n 4 --dist worksteal tests/campaigns/in_short.py
else
	$(python) tests/campaigns/faults.py
	$(python) tests/campaigns/memory.py
	$(python) tests/campaigns/hostile.py
endif

torture: $(compiled) $(environment)/.group-test  ## stop, kill, interrupt and fork who locks (SECONDS=600 for each class)
	$(python) tests/campaigns/torture.py --seconds $(SECONDS) $(ARGS)
	$(python) tests/campaigns/heirs.py --seconds $(SECONDS)
	$(python) tests/campaigns/postgresql.py --seconds $(SECONDS)

fuzz: $(compiled) $(environment)/.group-test  ## any sequence of operations, any path (EXAMPLES=2000 for each class)
	LOCKFILE_FUZZ_EXAMPLES=$(EXAMPLES) $(python) -m pytest -o timeout=0 tests/protocol/test_model.py tests/protocol/test_shared_model.py tests/mechanisms/test_pid_file_model.py tests/interface/test_paths.py

core: $(environment)/.made  ## the part that knows no Python, under sanitizers (ARGS="--seconds 60 thread")
	$(python) tests/core/run.py $(ARGS)

sanitize: $(compiled) $(environment)/.group-test  ## the tests, with AddressSanitizer and UndefinedBehaviorSanitizer in the extension
	rm -f $(compiled)  # what is compiled now is not for use
	$(python) tools/sanitize.py $(ARGS)

references:  ## look for leaked references, in a debug build of Python (python3-dbg)
	rm -f $(compiled)  # what is compiled now lies in its place
	$(MAKE) build PYTHON=python3-dbg
	.venv-python3-dbg/bin/python tests/campaigns/references.py $(ARGS)

model:  ## check the model of the protocol, and that it finds what is wrong (ARGS=--quick for two minutes of it)
	tools/prerequisites model
	docs/protocol/check $(ARGS)

bench: $(compiled)  ## measure, each figure beside its target (ARGS=--quick for a first look)
	$(python) benchmarks/run.py $(ARGS)

report: $(compiled) $(environment)/.group-bench  ## turn the samples of `make bench ARGS="--json FILE"` into docs/benchmarks.rst (RESULTS=FILE)
	$(python) benchmarks/report.py $(RESULTS)

docs: $(compiled) $(environment)/.group-docs  ## make the site of the documentation: build/site/index.html
	tools/prerequisites docs
	$(sphinx) --builder html docs build/site

docs-look: $(compiled) $(environment)/.group-docs-look  ## look at every page in a browser, and keep what it shows in build/screenshots
	tools/prerequisites docs-look
	LOCKFILE_SCREENSHOTS=build/screenshots $(python) -m pytest tests/site $(ARGS)

docs-links: $(compiled) $(environment)/.group-docs  ## ask whether the pages elsewhere that ours link to are there
	$(sphinx) --builder linkcheck docs build/links

command-pages: $(compiled) $(environment)/.group-command  ## make the command's manual page and completions anew, in share/
	$(python) tools/command_pages.py

portable: $(compiled) $(environment)/.group-test  ## the tests, in a build that uses nothing but what all POSIX systems have
	rm -f $(compiled)  # what is compiled now is not for use
	LOCKFILE_PLATFORM=portable $(python) setup.py --quiet build_ext --inplace --force
	LOCKFILE_PLATFORM=portable $(python) -m pytest -n 4 --dist worksteal $(or $(ARGS),tests)

cross: $(environment)/.group-cross  ## compile and link for macOS, the BSDs, musl and other processors (ARGS="freebsd musl")
	$(python) tools/cross.py $(ARGS)

wheels: $(environment)/.group-wheels  ## build and check the wheels for Linux and Windows (ARGS=musl)
	$(python) tools/wheels.py $(ARGS)

emulate: $(environment)/.group-cross $(environment)/.group-test  ## the core and the tests of the interface on another processor, emulated
	$(python) tests/core/run.py --seconds 10 aarch64
	$(python) tools/emulated.py $(ARGS)

dist: $(environment)/.group-build  ## build the source distribution, and from it the wheel
	rm -rf dist
	$(python) -m build

check-dist: dist  ## install both of them far from the tree, and lock with them
	$(python) tools/check_dist.py dist

dependents: dist  ## try programs that use the classic package, with this one in its place (ARGS=python-daemon for the quickest)
	$(python) tools/dependents.py dist $(ARGS)

clean:  ## remove everything that was made here
	rm -rf .venv* .windows build dist *.egg-info lockfile/*.so lockfile/*.pyd .hypothesis .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(environment)/.made:
	PYTHON="$(PYTHON)" tools/prerequisites
	$(PYTHON) -m venv --clear $(environment)
	$(python) -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

# greenlet, and what needs it, does not compile on every Python without a GIL: the tests do without
# it there. --prefer-binary: the same goes for the newest of the others.
$(environment)/.group-test: pyproject.toml | $(environment)/.made
	$(python) -m pip install --quiet --prefer-binary --group test || { \
	$(python) -c 'import sysconfig as s; assert s.get_config_var("Py_GIL_DISABLED")' && \
	$(python) -m pip install --quiet --prefer-binary --group test-without-greenlets; }
	@touch $@

$(environment)/.group-%: pyproject.toml | $(environment)/.made
	$(python) -m pip install --quiet --group $*
	@touch $@

# What depends on a package of this name finds this one.
$(environment)/.group-test: | $(environment)/.installed

# Puts the tree on the environment's path, with its metadata. A path alone: what else finds a package
# there takes half of a Python's start.
$(environment)/.installed: setup.py pyproject.toml $(environment)/.group-build
	$(python) -m pip install -qq --no-build-isolation --no-deps --config-settings editable_mode=compat --editable .
	@touch $@

$(compiled): $(filter csrc/%,$(c_files)) $(environment)/.installed
	$(python) setup.py --quiet build_ext --inplace --force
	@touch $@
