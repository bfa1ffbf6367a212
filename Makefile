# make book: from a bare clone to the site. make test: style, types, direction of imports, tests.
# make book-smollm2: the whole book about SmolLM2, an hour or more. make picture: the chart in README.md and its table.
# make extras: tests of what needs an environment of its own (GPTQModel as a second reader of GPTQ and AWQ).
# make matrix: what works on which architecture, tried on all of them.
# make install: the command `quantcliff` alone, for models of your own.
# make benchmark: our ways of computing beside the plain ones. make soak: kill commands at random, see what is lost.
# VENV=folder puts the environment elsewhere; TORCH_INDEX=https://download.pytorch.org/whl/cpu avoids CUDA wheels.

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
TORCH = $(shell sed -n 's/.*"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
BIN = $(VENV)/bin

.PHONY: smollm2 book book-smollm2 test extras matrix picture benchmark soak install clean

book: $(VENV)/.book-installed smollm2
	$(BIN)/quantcliff build

install: $(VENV)/.book-installed
	@echo "Ready: . $(VENV)/bin/activate, then quantcliff --help"

book-smollm2: $(VENV)/.book-installed smollm2
	$(BIN)/quantcliff build -p model smollm2

test: $(VENV)/.test-installed smollm2
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

# The real language model of the book, fetched once (93 MB); where it cannot be had, the book says what is missing.
smollm2: $(VENV)/.book-installed
	@$(BIN)/quantcliff fetch smollm2 || true

extras: $(VENV)/.test-installed
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/nox --envdir $(VENV)/extras

matrix: $(VENV)/.test-installed
	MATRIX=1 $(BIN)/python -m pytest -q -s tests/test_matrix.py tests/book/test_wording.py

picture: $(VENV)/.book-installed
	$(BIN)/python -m quantcliff.charts.picture _build/atlas/tables/intro.parquet book/_static/cliff.png

benchmark: $(VENV)/.book-installed
	$(BIN)/python benchmarks/speed.py

soak: $(VENV)/.book-installed
	$(BIN)/python benchmarks/soak.py

clean:
	rm -rf _build runs

# PyTorch comes first and alone: left to the resolver it brings several GB of CUDA packages.
$(VENV)/.book-installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "quantcliff needs Python 3.11; say which with make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Installing PyTorch and the rest into $(VENV): about 2 GB, some minutes."
	@$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test-installed: $(VENV)/.book-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,grid]'
	@touch $@
