# make book | test | check | serve | clean | ...   (see CONTRIBUTING.md)
PYTHON ?= python3
TORCH_BACKEND ?= auto
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STRIP := $(BIN)/nbstripout --keep-id --extra-keys cell.metadata.lines_to_next_cell
PYODIDE := 314.0.7
RUNTIME := $(VENV)/share/pyodide
UV := $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python \
  --constraint $(CONSTRAINTS)
TESTS := $(BIN)/python -m pytest -n 2 --dist loadfile
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout 300

export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export PYTHONHASHSEED := 0

PORT ?= 8000
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
export CHROMIUM

.PHONY: book test clinic strip site colab browser runtime check lint audit fuzz mutants seeds bench links front-figure pdf matrix frameworks serve clean
.DELETE_ON_ERROR:

book: $(INSTALLED)
	$(BIN)/jupyter-book build . -W -n --keep-going

test: $(INSTALLED)
	$(TESTS)
	$(TESTS) chapters $(NBVAL)

# Scores diagnose() on the clinic under three seeds and two kinds of rounding, and keeps
# the scores in tests/clinic/scores.md.
clinic: $(INSTALLED)
	$(BIN)/python scripts/score_clinic.py --record

# Removes outputs from the chapters, and what jupytext left in them.
strip: $(INSTALLED)
	$(STRIP) chapters/*.ipynb

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(STRIP) --verify chapters/*.ipynb

# The book from nothing runs every cell of every chapter, which tests/site looks at; only
# the template is left to nbval.
check: browser runtime lint
	$(TESTS)
	$(TESTS) chapters/template.ipynb $(NBVAL)
	rm -rf _build
	$(BIN)/jupyter-book build . -W -n --keep-going
	$(BIN)/python -m pytest tests/site -n 2 --dist loadgroup
	$(BIN)/python -m pytest tests/colab -k "bare or git or concepts or field_guide"

# Runs every chapter as Colab does: only what Colab brings, gradlib through git.
colab: $(INSTALLED)
	$(BIN)/python -m pytest tests/colab -n 2

# Opens every page of the built book in Chromium.
site: browser runtime book
	$(BIN)/python -m pytest tests/site -n 2 --dist loadgroup

browser:
	@if [ -z "$(CHROMIUM)" ]; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq chromium; \
	  else \
	    echo "expected Chromium, found none: install the package chromium, or set CHROMIUM=" >&2; exit 1; \
	  fi; \
	fi

# Brings what runs Python in a browser, for the page that reads logs: Pyodide, by npm.
runtime: $(RUNTIME)/$(PYODIDE)

$(RUNTIME)/$(PYODIDE): | $(INSTALLED)
	@if ! command -v npm >/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    apt-get update -qq && apt-get install -y -qq npm; \
	  else \
	    echo "expected npm, found none: install Node.js with npm" >&2; exit 1; \
	  fi; \
	fi
	rm -rf $(RUNTIME)
	mkdir -p $(RUNTIME)
	npm pack --silent --pack-destination $(RUNTIME) pyodide@$(PYODIDE)
	tar -xzf $(RUNTIME)/pyodide-$(PYODIDE).tgz -C $(RUNTIME) --strip-components=1
	rm $(RUNTIME)/pyodide-$(PYODIDE).tgz
	touch $@

# Runs chapters (all, or CHAPTERS="causes ...") under SEEDS base seeds (ten); prints how
# often each claim held and its smallest margin, and keeps both in recorded/.
seeds: $(INSTALLED)
	$(BIN)/python scripts/run_seeds.py --seeds $(or $(SEEDS),10) --record $(CHAPTERS)

# Runs tests and chapters with the oldest, the newest and a CPU-only torch (all, or
# NAMES="cpu ...").
matrix: $(INSTALLED)
	$(BIN)/nox --noxfile scripts/noxfile.py $(if $(NAMES),--session $(NAMES))

# Tests the library under the newest frameworks, and keeps the outcomes in recorded/.
frameworks: $(INSTALLED)
	$(BIN)/nox --noxfile scripts/noxfile.py --session frameworks

# Measures what the library and the book cost (all, or NAMES="monitor ..."), beside the
# goals, and keeps it in recorded/.
bench: browser book
	$(BIN)/python benchmarks/goals.py --record $(NAMES)

# Calls every public function with 10,000 random examples, right and wrong, and reads
# as many damaged logs.
fuzz: $(INSTALLED)
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/fuzz tests/library/logs/test_log_fuzz.py -n 2

# Changes the library a little, many times, and lists the changes that no test notices
# (all subjects, or NAMES="clip ..."; EACH=0 takes every mutant); keeps it in recorded/.
mutants: $(INSTALLED)
	$(BIN)/python scripts/mutants.py --record --each $(or $(EACH),100) $(NAMES)

# Looks up known vulnerabilities of every pinned version; strict: unknown is no pass.
audit: $(INSTALLED)
	$(BIN)/uv tool run pip-audit==2.10.1 --strict --progress-spinner off \
	  --requirement constraints.txt --no-deps --disable-pip

links: $(INSTALLED)
	$(BIN)/jupyter-book build . --builder linkcheck

# Prints the whole book into one PDF, for reading offline.
pdf: browser book
	$(BIN)/python scripts/print_book.py

front-figure: $(INSTALLED)
	$(BIN)/python scripts/draw_front_figure.py

# Shows the book on this machine, at PORT.
serve: book
	$(BIN)/python scripts/serve_book.py --port $(PORT)

clean:
	rm -rf _build build .pytest_cache .ruff_cache .mypy_cache .hypothesis

# A machine without a GPU does not need the registry's 5 GB CUDA build of torch.
# TORCH_BACKEND=auto asks for the build that fits; cpu, cu130, ... choose one;
# TORCH_BACKEND=registry takes the package registry's.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) uv
	@if [ "$(TORCH_BACKEND)" = registry ]; then \
	  $(UV) --editable '.[book,test,dev]'; \
	elif $(UV) --torch-backend=$(TORCH_BACKEND) --editable '.[book,test,dev]' 2>$(VENV)/torch-backend.log; then \
	  tail -n 1 $(VENV)/torch-backend.log; \
	elif [ "$(TORCH_BACKEND)" = auto ]; then \
	  echo "torch: the index of builds by machine cannot be reached; taking the registry's build"; \
	  $(UV) --editable '.[book,test,dev]'; \
	else \
	  cat $(VENV)/torch-backend.log; exit 1; \
	fi
	touch $@
