# make book       build the book and print where it is
# make test       the whole check, WORKERS=2 tests at a time: style, types, tests, claims, notebooks, the built book in a browser
# make lab        work in the notebooks
# make test-all   the same check twice, the second time on two threads
# make notebooks  run the chapters and the solved assignments, and store their text outputs
# make claims     measure the claims ledger anew
# make studies    measure the results of several seeds anew (about five hours; with GEOLESSONS_DATA seven)
# make bench      speed, memory, page weight, latency
# make clean      remove what was built
#
# Everything runs in .venv, which is made and filled when it is missing or out of date.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
HTML := _build/html
JOBS ?= 1
WORKERS ?= 2
SHARED := -n $(WORKERS) --dist loadfile

# Spinning OpenMP threads make small networks up to thirty times slower on busy cores.
export OMP_WAIT_POLICY = PASSIVE
export JUPYTER_PLATFORM_DIRS = 1
export PYTHONPATH := $(CURDIR)/book

.PHONY: help book test test-all lab check unit notebooks-check site-check notebooks claims studies bench clean

help:
	@sed -n 's/^# make/make/p' Makefile

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with PYTHON=python3.12 make …" >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes, about 7 GB. It happens once."
	@start=$$(date +%s); $(PYTHON) -m venv $(VENV) && \
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[book,test]" && \
	echo "installed in $$(( $$(date +%s) - start )) s" | tee $@

book: $(VENV)/installed
	@start=$$(date +%s); \
	$(BIN)/jupyter-book build book --config _config.yml --path-output . -q -W --keep-going || \
		{ rm -rf _build/.doctrees; exit 1; }; \
	echo "built in $$(( $$(date +%s) - start )) s: file://$(CURDIR)/$(HTML)/index.html"
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] && [ -z "$$CI" ] && command -v xdg-open > /dev/null; \
		then xdg-open $(HTML)/index.html; \
	elif [ "$$(uname)" = Darwin ] && [ -z "$$CI" ]; then open $(HTML)/index.html; fi

test: check unit notebooks-check book site-check

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/installed
	OMP_NUM_THREADS=$(JOBS) $(BIN)/python -m pytest tests --ignore=tests/book $(SHARED) \
		--ledger _build/claims.json --ledger-against book/results/claims.json

# Strict: every stored output is compared, at one thread.
notebooks-check: $(VENV)/installed
	OMP_NUM_THREADS=$(JOBS) $(BIN)/python -m pytest --nbval book --ignore=book/_ext --nbval-cell-timeout=120 $(SHARED)

site-check: $(VENV)/installed
	$(BIN)/python -m pytest tests/book -s

# Everything twice, and the notebooks on two threads as well.
test-all: test
	$(MAKE) unit notebooks-check
	$(MAKE) unit notebooks-check JOBS=2

lab: $(VENV)/installed
	cd book && $(CURDIR)/$(BIN)/jupyter lab

# Run the chapters anew and store their text outputs (no pictures in git).
notebooks: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python book/store_outputs.py

# Write the claims ledger that `make book` shows and `make test` compares.
claims: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/claims -q --ledger book/results/claims.json

# The measurements behind the book's numbers.  Those on MNIST and on text need GEOLESSONS_DATA.
# Not here, as they need a GPU, weights and a network: geolessons.studies.flat_lora_t5, flat_lora_clip and,
# on photographs, multitask.
studies: $(VENV)/installed
	for study in moves roads pushes glra flat_lora_digits insides drift noisy_line; do $(BIN)/python -m geolessons.studies.$$study --out book/results/$$study.json || exit 1; done
	$(BIN)/python -m geolessons.studies.multitask --jobs 3 --out book/results/multitask.json
	$(BIN)/python -m geolessons.studies.multitask --seeds 5 --method lora literal centred normalised \
		--out book/results/multitask_fields.json && rm book/results/multitask_fields.npz
	for times in 2 5; do $(BIN)/python -m geolessons.studies.multitask --lr 0.0$$times --method lora literal \
		--out book/results/multitask_rate$$times.json && rm book/results/multitask_rate$$times.npz || exit 1; done
	if [ -n "$$GEOLESSONS_DATA" ]; then \
		$(BIN)/python -m geolessons.studies.moves_mnist --out book/results/moves_mnist.json; \
		$(BIN)/python -m geolessons.studies.flat_lora_text --out book/results/flat_lora_text.json; \
		for data in mnist fashion; do \
			$(BIN)/python -m geolessons.studies.glra --data $$data --out book/results/glra_$$data.json; \
			$(BIN)/python -m geolessons.studies.flat_lora_digits --data $$data \
				--out book/results/flat_lora_$$data.json; done; fi

bench: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/angles.py
	for script in adapters merging; do \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$script.py --out _build/bench/$$script.json || exit 1; done
	@cat _build/measured.json 2> /dev/null || echo "for page weight and slider latency: make book site-check"

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis
