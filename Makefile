# Everything is set up in .venv and built below this folder; nothing else on the machine is touched.
# `make help` lists the targets. A second run finds what the first one did.

VENV ?= .venv
PY = $(VENV)/bin/python
JOBS := $(shell getconf _NPROCESSORS_ONLN)
# Most tests wait for processes and sockets more than they compute: two more at a time than there are cores.
TEST_JOBS ?= $(shell expr $(JOBS) + 2)
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

# A Python 3.11 or newer that can make a venv and has the headers that C extensions need.
SUITS = import ensurepip, os, sys, sysconfig, venv; \
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
FIND_PYTHON = for p in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c '$(SUITS)' 2>/dev/null; then echo $$p; exit; fi; done

SOURCES = setup.py $(wildcard ext/btfast/* ext/kernels/*)
EXTRA = $(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"], sep="\n")'
PIP = $(PY) -m pip --disable-pip-version-check install -q

.PHONY: help demo test lint bench debug sanitize ext clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo      a real download on this machine, with progress (DEMO_ARGS="--size 4GiB")'
	@echo 'make test      the tests (PYTEST_ARGS="tests/wire -x", TEST_JOBS=0 for one at a time)'
	@echo 'make lint      ruff, mypy on btfast/, the stubs against the compiled modules'
	@echo 'make bench     the benchmarks against libtorrent and aria2, then those of single modules (BENCH_ARGS=flat)'
	@echo 'make debug     a build with assertions and bounds checks, and the tests of ext on it'
	@echo 'make sanitize  the same with the address and undefined-behaviour sanitizers'
	@echo 'make ext       only the build'
	@echo 'make clean     removes what was built, .venv included'

demo: $(VENV)/.built
	$(PY) -m btfast demo $(DEMO_ARGS)

test: $(VENV)/.built $(VENV)/.test
	$(PY) -m pytest -n $(TEST_JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.built $(VENV)/.lint
	$(PY) -m ruff check
	$(PY) -m mypy
	$(PY) -m mypy.stubtest $(patsubst btfast/%.pyi,btfast.%,$(wildcard btfast/_*.pyi)) --allowlist .ci/stubtest-allowlist --ignore-unused-allowlist

bench: $(VENV)/.built $(VENV)/.test $(VENV)/.bench
	$(PY) -m bench $(BENCH_ARGS)
	$(PY) -m pytest bench/micro -o addopts= --benchmark-only --benchmark-columns=min,median,ops

ext: $(VENV)/.built

# The variants live in copies of the tree, so that the normal build stays as it is.
CHECKED = build/$@
COPY_TREE = mkdir -p $(CHECKED) && cp -pRu setup.py pyproject.toml README.md LICENSE ext btfast $(CHECKED)/ && rm -f $(CHECKED)/btfast/*.so
RUN_EXT_TESTS = $(abspath $(PY)) -c 'import sys, pytest, btfast._ring as m; assert "/$(CHECKED)/" in m.__file__, m.__file__; \
	sys.exit(pytest.main(sys.argv[1:]))' $(CURDIR)/tests/ext $(PYTEST_ARGS)

debug: $(VENV)/.built $(VENV)/.test
	$(COPY_TREE)
	cd $(CHECKED) && BTFAST_DEBUG=1 $(abspath $(PY)) setup.py -q build_ext --inplace --parallel $(JOBS)
	cd $(CHECKED) && $(RUN_EXT_TESTS)

CC_LIBRARY = $$($$($(abspath $(PY)) -c 'import sysconfig; print(sysconfig.get_config_var("CC").split()[0])') -print-file-name=$(1))

sanitize: $(VENV)/.built $(VENV)/.test
	$(COPY_TREE)
	cd $(CHECKED) && BTFAST_SANITIZE=1 $(abspath $(PY)) setup.py -q build_ext --inplace --parallel $(JOBS)
	cd $(CHECKED) && LD_PRELOAD="$(call CC_LIBRARY,libasan.so) $(call CC_LIBRARY,libubsan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 $(RUN_EXT_TESTS)

$(VENV)/.venv:
	@python=$$($(FIND_PYTHON)); if [ -z "$$python" ]; then \
		echo 'make: no Python 3.11 or newer with venv and headers was found: install it (Debian: python3-dev python3-venv), or name one: make PYTHON=...' >&2; exit 1; fi; \
	echo "setting up $(VENV) with $$python"; $$python -m venv $(VENV)
	@touch $@

# The installation leads to this folder; the compiled modules are built into it by the next step, once. `compat` is a
# path in a .pth file: setuptools' usual import hook costs each start of Python 10 ms.
$(VENV)/.installed: $(VENV)/.venv pyproject.toml
	$(PIP) 'setuptools>=77' 'cython>=3.1'
	BTFAST_EXT=none $(PIP) --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	$(PY) setup.py -q build_ext --inplace --parallel $(JOBS)
	$(PY) -m compileall -q btfast
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.bench: $(VENV)/.venv pyproject.toml
	$(call EXTRA,$(patsubst .%,%,$(notdir $@))) > $@.txt
	$(PIP) -r $@.txt
	@touch $@

clean:
	rm -rf build dist *.egg-info btfast/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks $(VENV)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
