# The two commands are `make reproduce` and `make test`; `make help` lists the rest.
PROFILE ?= sample
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu)
DEVICE ?= cpu
EXECUTOR ?= local
JOBS ?= 16
HOURS ?= 24
GOAL ?= site
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WHICH := -c 'import sys; print(sys.version, sys.base_prefix)'
TOOLS := $(CURDIR)/_build/tools
EXECUTE_local = --cores $(CORES) --rerun-incomplete --scheduler greedy
EXECUTE_slurm = --profile workflow/slurm --jobs $(JOBS)
EXECUTE_kubernetes = $(EXECUTE_slurm) --workflow-profile workflow/kubernetes
SNAKEMAKE = XDG_CACHE_HOME="$(TOOLS)" $(BIN)/snakemake --snakefile workflow/Snakefile --directory . --nolock --rerun-triggers mtime --quiet rules \
  $(EXECUTE_$(EXECUTOR)) --config profile=$(PROFILE) device=$(DEVICE) hours=$(HOURS) $(if $(SEEDS),seeds="'$(SEEDS)'") --
ifndef EXECUTE_$(EXECUTOR)
  $(error EXECUTOR must be local, slurm or kubernetes; got "$(EXECUTOR)")
endif
ifeq ($(EXECUTOR)$(shell command -v sbatch),slurm)
  $(error EXECUTOR=slurm needs the command sbatch, which a cluster's login node has)
endif
ifeq ($(EXECUTOR),kubernetes)
  ifeq ($(shell command -v kubectl),)
    $(error EXECUTOR=kubernetes needs the command kubectl, set up for the cluster)
  endif
  ifneq ($(words $(IMAGE)) $(words $(CLAIM))$(filter /%,$(CLAIM))$(findstring //,$(CLAIM))$(findstring /../,$(CLAIM)/),1 1)
    $(error EXECUTOR=kubernetes needs IMAGE=, made from the Containerfile, and CLAIM=name[/folder], the claim and this folder's place on its volume; got IMAGE="$(IMAGE)" CLAIM="$(CLAIM)")
  endif
  ifneq ($(filter-out $(CURDIR) $(CURDIR)/%,$(abspath $(PRLIB_DATA) $(PRLIB_RESULTS))),)
    $(error EXECUTOR=kubernetes shows pods this folder alone; got PRLIB_DATA="$(PRLIB_DATA)" PRLIB_RESULTS="$(PRLIB_RESULTS)")
  endif
  ifeq ($(shell id -u),0)
    $(error EXECUTOR=kubernetes runs pods as the user who submits them, who must not be root)
  endif
  export IMAGE CLAIM
  export PRLIB_DATA ?= $(CURDIR)/_build/data
endif
ifdef ACCOUNT
  export SBATCH_ACCOUNT := $(ACCOUNT)
endif
ifdef PARTITION
  export SBATCH_PARTITION := $(PARTITION)
endif

# Text is UTF-8 whatever the locale, and what the tools remember stays in this folder.
export PYTHONUTF8 := 1
export MPLCONFIGDIR := $(TOOLS)/matplotlib
export IPYTHONDIR := $(TOOLS)/ipython
export JUPYTER_CONFIG_DIR := $(TOOLS)/jupyter
export JUPYTER_DATA_DIR := $(TOOLS)/jupyter
# Snakemake asks who runs it, which the system may not know, as in a container.
export LOGNAME := $(or $(LOGNAME),$(USER),$(shell id -u))
ifneq ($(origin PYTHON),file) # asked for: an environment of another one is made anew
  ifneq ($(shell $(BIN)/python $(WHICH) 2>&1),$(shell $(PYTHON) $(WHICH) 2>&1))
    .PHONY: $(READY)
  endif
endif

.DEFAULT_GOAL := help
.PHONY: bench bundle chapters cluster-test help setup plan reproduce test test-quick lint book pdf links clean distclean audit

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  PROFILE=sample (default) | published | tenth | paper     CORES=$(CORES)     DEVICE=cpu | cuda     SEEDS=\"0 1\""
	@echo "  EXECUTOR=slurm     JOBS=$(JOBS) at once     ACCOUNT=     PARTITION=     HOURS=$(HOURS) a job at most"
	@echo "  EXECUTOR=kubernetes     JOBS, HOURS, IMAGE=     CLAIM=name[/folder] of the volume"

setup: $(READY) ## make the virtual environment (.venv)

$(READY): requirements.txt requirements-nodeps.txt pyproject.toml workflow/install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || { echo "Python 3.11.5 or newer is needed; set PYTHON=..."; exit 1; }
	@echo "Setting up .venv (2 GB, some minutes the first time) ..."
	@test "$$($(BIN)/python $(WHICH) 2>&1)" = "$$($(PYTHON) $(WHICH))" || rm -rf .venv # another Python's links would stay
	$(PYTHON) -m venv .venv
	workflow/install $(BIN)/python
	@touch $@

plan: $(READY) ## say what `make reproduce` would run, how long it takes and how much disk
	@$(BIN)/python -m prlib list --profile $(PROFILE) $(if $(SEEDS),--seeds $(SEEDS))

reproduce: plan ## run the profile's experiments, execute the chapters, render the site
	@trap 'echo "interrupted; the same command goes on from here" >&2' INT; $(SNAKEMAKE) $(GOAL)
	@test "$(GOAL)" != site || echo "The book is at _build/html/index.html"

test: lint ## pass every check and test
	$(BIN)/pytest --numprocesses $(CORES) --dist worksteal --durations 20 tests
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/pytest -p kernels --numprocesses $(CORES) --dist loadfile \
	  --nbval --nbval-sanitize-with tests/nbval.cfg book

test-quick: $(READY) ## pass the tests that need neither chapters nor the site nor long, while you edit
	$(BIN)/pytest --numprocesses $(CORES) --dist worksteal --quiet -m "not book and not slow" tests

lint: $(READY) ## check style, types and the workflows of GitHub Actions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

chapters: $(READY) ## execute the committed notebooks on the committed records, in place
	$(BIN)/python workflow/execute

book: $(READY) ## render the site from the committed notebooks and records, without running anything
	workflow/render book results/published/records .
	@echo "The book is at _build/html/index.html"

pdf: $(READY) ## the same, with the whole book as PDF, which every page links to (needs an installed Chromium)
	PDF=1 workflow/render book results/published/records .
	@echo "The PDF is at _build/html/pixel-redrawn-reproduced.pdf"

links: $(READY) ## check the book's links to other sites (needs a network)
	workflow/render book results/published/records _build/links linkcheck

cluster-test: $(READY) ## set up a one-node SLURM cluster, kill jobs on it, compare its records (Debian, root)
	$(BIN)/python tests/cluster.py

bench: $(READY) ## time training, redrawing and attacks beside their peers, and many jobs' scheduling (15 min)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement benchmarks/requirements.txt
	$(BIN)/python benchmarks/bench.py --json benchmarks/measured.json
	$(BIN)/python benchmarks/cluster.py --json benchmarks/cluster.json

bundle: $(READY) ## pack code, wheels and datasets for a GPU machine without a network (workflow/gpu runs them there)
	$(BIN)/python -m prlib bundle --out _build/bundle

audit: ## look the dependencies up in the database of known vulnerabilities (needs a network)
	$(PYTHON) -m venv _build/audit && _build/audit/bin/pip install --quiet pip-audit==2.10.1
	_build/audit/bin/pip-audit --no-deps --requirement requirements.txt --requirement requirements-nodeps.txt

clean: ## remove what runs have made, but neither .venv nor committed records
	rm -rf _build .snakemake results/sample results/paper results/custom
	rm -rf results/tenth/weights
	cd results/published/weights && find . -type f ! -name SHA256SUMS | cut -c 3- | grep -vxF "$$(cut -c 67- SHA256SUMS)" | xargs rm -f
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	rm -rf .pytest_cache .mypy_cache .ruff_cache

distclean: clean ## remove .venv as well
	rm -rf .venv *.egg-info
