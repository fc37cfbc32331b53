# Everything lives in .venv beside this file; nothing is installed elsewhere.
#   make reproduce [PAPERS="dncnn ..."] [PROFILE=smoke] [FETCH=0]    make test [FETCH=0]
#   make lab | install | check | pair | soak

OLD := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for name in python3 python3.12 python3.11 python3.13; do \
  $$name -c '$(OLD)' 2>/dev/null && echo $$name && break; done),python3)
PAPERS ?=
PROFILE ?= smoke
PARAMETERS ?=
FETCH ?= 1
CORES ?= all
GPUS ?= 1
CONSTRAINTS ?= constraints.txt

BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: reproduce test lab install check pair soak
.DEFAULT_GOAL := reproduce

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c '$(OLD)' || { \
	  echo "$(PYTHON) is missing or older than 3.11 (found: $$("$(PYTHON)" --version 2>&1)). Try: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -c '$(OLD)' 2>/dev/null && $(PIP) --version >/dev/null 2>&1 || { \
	  rm -rf .venv; "$(PYTHON)" -m venv .venv || { rm -rf .venv; \
	  echo "$(PYTHON) cannot make virtual environments; Debian and Ubuntu keep that in the package python3-venv" >&2; exit 1; }; }
	$(PIP) install -c "$(CONSTRAINTS)" torch torchvision
	$(PIP) install -c "$(CONSTRAINTS)" -e ".[baselines,oracle,test]"
	@touch $@

# A failed fetch does not stop the notebooks: they print n/a where a network is missing, and make fails at the end.
reproduce: install
	@fetched=0; ran=0; \
	if [ "$(FETCH)" != 0 ]; then $(BIN)/enhancelib fetch || fetched=$$?; fi; \
	$(BIN)/snakemake --snakefile Snakefile --rerun-incomplete --rerun-triggers mtime --keep-going \
	  --show-failed-logs --forcerun all --quiet host rules --cores $(CORES) --resources gpu=$(GPUS) \
	  --config papers="$(PAPERS)" profile="$(PROFILE)" parameters="$(PARAMETERS)" || ran=$$?; \
	if [ $$fetched != 0 ]; then \
	  echo "make reproduce: enhancelib fetch failed (above), so cells that need what it brings print n/a. FETCH=0 accepts that." >&2; fi; \
	[ $$ran = 0 ] && [ $$fetched = 0 ]

test: install
	@if [ "$(FETCH)" != 0 ]; then $(BIN)/enhancelib fetch \
	  || echo "make test: enhancelib fetch failed (above); tests that need it skip" >&2; fi
	$(BIN)/python -m pytest --nbval tests notebooks

lab: install
	$(BIN)/jupyter lab notebooks

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pair: install
	$(BIN)/python -m tests.notebooks.pair

soak: install
	$(BIN)/python -m tests.soak
