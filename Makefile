# `make` alone lists the targets. Everything installs into .venv; nothing outside this folder is touched.
# The first that runs: a version manager puts names on the path that do not.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12,$(shell $(name) -c '' 2>/dev/null && command -v $(name))) python3.11)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DATASET ?=
START ?=
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Neither an outer installation nor user packages may leak into results, and no switch of Python may change them.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONWARNINGS PYTHONOPTIMIZE VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_ROOT
# A git hook points every command at its own repository; `cd` looks for the folders of this one below CDPATH first.
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_PREFIX CDPATH
# Each of the many processes of a run would compile this project again.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONNOUSERSITE := 1
# The path of a clone may hold what a locale cannot say.
export PYTHONUTF8 := 1
# On all cores; each has its share of the rooms one after the other, so that most of what a room makes once is made once.
TESTS := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal
# Goes before `user = true` in a pip.conf, with which pip installs nothing here.
export PIP_USER := 0

# What pip says of each of some 250 packages; downloads of a megabyte or more, errors and retries stay.
CHATTER := ^ *(Collecting|Requirement|Obtaining|Processing|Using cached|Looking|Preparing|Installing b|Checking|Getting|Building|Created|Stored|Successfully|Found|Attempting|Uninstalling|Not uninstalling|WARNING: Location|Downloading .*( kB|bytes|metadata))

.DEFAULT_GOAL := help
.PHONY: help install fuzz reproduce tables study plug-in forms few leftout paper server mlflow server-stop worker deploy test \
  coverage test-all bench bench-growth docs release gpu lint format audit constraints clean

help:  ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make reproduce DATASET=/data/my_patches   the same on your own folder of So2Sat files"
	@echo "  make reproduce DATASET=... START=MODEL    the same, beginning with a trained model (docs/fine-tuning.md)"

install: $(INSTALLED)  ## build the environment in .venv

$(INSTALLED): pyproject.toml constraints.txt constraints-runtime.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or 3.12, or set PYTHON to one" >&2; exit 1; }
	@echo "building $(VENV), some minutes, about 3 GB (6 with the libraries of a GPU): looking for the pinned packages"
	@rm -f $@
	@$(PYTHON) -m venv $(VENV)
	@# A pipe has the status of its end, so the file tells whether pip has done its work.
	@{ $(BIN)/python -m pip install --disable-pip-version-check --no-compile --progress-bar off -c constraints.txt -e '.[dev]' 2>&1 \
	    && touch $@; } | sed -uE '/$(CHATTER)/d; s/^(Installing collected packages).*/\1/'; test -e $@
	@echo "compiling them"
	@# On all cores, which pip does on one. Some packages bring files that are no Python.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@echo "$(VENV) is ready; \`source $(BIN)/activate\` puts its commands on the path"

reproduce: $(INSTALLED)  ## every stage, tables, figures, report, a registered model
ifeq ($(strip $(DATASET)$(START)),)
	@$(BIN)/python -m flows.train_bp_lcz
else ifeq ($(strip $(DATASET)),)
	@echo "error: START needs DATASET, the folder of So2Sat files to train on" >&2; exit 1
else
	@name=$$(basename -- "$(DATASET)" | LC_ALL=C tr -c 'A-Za-z0-9._\n-' '_' | \
	    sed 's/^[^A-Za-z0-9]/data&/' | cut -c 1-100) && \
	  workspace=$$($(BIN)/bp-lcz workspace "$$name" --dataset "$(DATASET)" \
	    $(if $(strip $(START)),--start "$(START)")) && \
	  $(BIN)/python -m flows.train_bp_lcz --workspace "$$workspace"
endif

# A matrix of profiles/ in a workspace of its own, then what it says of the paper's claims.
define run_profile
	@sed -n 's/^$@:.*## /$@: /p' $(firstword $(MAKEFILE_LIST))
	@workspace=$$($(BIN)/bp-lcz workspace $@ --profile $@) && \
	  $(BIN)/python -m flows.train_bp_lcz --workspace "$$workspace" && \
	  echo && cd "$$workspace" && PYTHONPATH=src bp-lcz verify
endef

tables: $(INSTALLED)  ## EB-CNN and ExViT, plain, bgp, bp-lcz, three seeds, on the demo data; about 35 minutes on two cores
	$(call run_profile)

study: $(INSTALLED)  ## what each part does, with controls, five seeds, large simulated data; about eleven hours on two cores
	$(call run_profile) && PYTHONPATH=src bp-lcz choose

plug-in: $(INSTALLED)  ## whether prompting and its texts help ResNet and ViT, five seeds; about 105 minutes on two cores
	$(call run_profile)

forms: $(INSTALLED)  ## which form of the loss and of the texts is the default, five seeds; about 105 minutes on two cores
	$(call run_profile) && PYTHONPATH=src bp-lcz choose

few: $(INSTALLED)  ## whether a text helps where labels are few, five seeds; about an hour on two cores
	$(call run_profile)

leftout: $(INSTALLED)  ## whether a text finds a class that the training never saw; 40 minutes on two cores
	$(call run_profile)

paper: $(INSTALLED)  ## every backbone, with controls, five seeds, on So2Sat LCZ42 v2, which it brings; needs a GPU
	@$(BIN)/python -m flows.paper $(if $(strip $(DATASET)),--dataset "$(DATASET)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") && \
	  echo && cd .workspaces/paper && PYTHONPATH=src bp-lcz verify

server: $(INSTALLED)  ## a Prefect server in the background; settings from the environment, docs/servers.md
	@$(BIN)/python -m flows.servers start prefect

mlflow: $(INSTALLED)  ## an MLflow server in the background, on the runs and models of this checkout or of a team
	@$(BIN)/python -m flows.servers start mlflow

server-stop: $(INSTALLED)  ## stop both
	@$(BIN)/python -m flows.servers stop

worker: $(INSTALLED)  ## a Prefect worker of the pool bp-lcz, in this clone, until it is stopped
	@exec $(BIN)/python -m flows.operate worker $(if $(POOL),--pool "$(POOL)") $(if $(LIMIT),--limit "$(LIMIT)")

deploy: $(INSTALLED)  ## register the deployments of prefect.yaml with the Prefect server
	@$(BIN)/python -m flows.operate deploy

test: $(INSTALLED)  ## all tests that fit ten minutes
	$(TESTS)

fuzz: $(INSTALLED)  ## thousands of damaged files and bodies against every reader; COUNT=1000 for each kind, SEED=1
	@$(BIN)/python -W ignore -m tests.fuzz.run --count $(or $(COUNT),1000) --seed $(or $(SEED),1)

coverage: $(INSTALLED)  ## the same tests, and which lines they run: a table, and pages in htmlcov
	$(TESTS) --cov --cov-report=term:skip-covered --cov-report=html

test-all: $(INSTALLED)  ## every test, `make reproduce` in a fresh clone included
	$(BIN)/python -m pytest -m "slow or not slow"

bench: $(INSTALLED)  ## speed against peers and the machine, with goals; results in benchmarks/results
	@$(BIN)/bp-lcz bench

bench-growth: $(INSTALLED)  ## how cost grows with data, batches, groups; figures in docs/images/growth
	@$(BIN)/bp-lcz bench --growth

gpu:  ## all that a GPU can tell, in one go; runs with `python3` where there is no .venv
	@PYTHONPATH=src $(if $(wildcard $(INSTALLED)),$(BIN)/python,python3) -m benchmarks.gpu

# Sphinx stops at a locale that is not there.
docs: $(INSTALLED)  ## the documentation as pages that open from the disk, site/index.html; stops at any broken link
	LC_ALL=C $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs site
	@echo "open site/index.html"

release: $(INSTALLED)  ## build the wheel and the source distribution in dist, check them, say what to upload
	@git diff --quiet HEAD || { echo "error: release: there are changes that are not committed" >&2; exit 1; }
	@version=$$($(BIN)/bp-lcz --version | cut -d' ' -f2) && grep -q "^## \[$$version\]" CHANGELOG.md || { \
	  echo "error: CHANGELOG.md: no section of version $$version; date the one of [Unreleased]" >&2; exit 1; }
	rm -rf dist && $(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m pytest -q tests/test_distribution.py
	@echo "to release: git tag v$$($(BIN)/bp-lcz --version | cut -d' ' -f2) && git push --tags, then upload dist/* (twine upload dist/*)"

lint: $(INSTALLED)  ## ruff, imports (declared, one direction), mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry src flows benchmarks
	$(BIN)/deptry tests --exclude __pycache__ --ignore DEP002,DEP004  # tests may import what is for development
	$(BIN)/mypy

format: $(INSTALLED)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(INSTALLED)  ## known vulnerabilities of the pinned versions; needs the network
	@$(BIN)/pip-audit --requirement constraints.txt --requirement constraints-runtime.txt --no-deps --disable-pip --strict --progress-spinner off || { \
	  echo "error: audit: vulnerabilities above, or some package could not be looked up" >&2; exit 1; }

constraints:  ## renew the pins from the bounds of pyproject.toml
	rm -rf $(VENV).new && $(PYTHON) -m venv $(VENV).new
	$(VENV).new/bin/python -m pip install --quiet 'torch==2.13.0' -e '.[dev]'
	$(VENV).new/bin/python -m pip freeze --exclude-editable \
	  | sed -E 's/^(torch==[^+]*).*/\1/' | grep -viE '^(nvidia|cuda|triton)' > $(VENV).new/pins
	sed -n 's/^\([^#=]*==\).*/^\1/p' constraints-runtime.txt > $(VENV).new/runtime
	{ sed -n '/^[#-]/p' constraints.txt; grep -vif $(VENV).new/runtime $(VENV).new/pins; } > constraints.new
	{ sed -n '/^#/p' constraints-runtime.txt; grep -if $(VENV).new/runtime $(VENV).new/pins; } > constraints-runtime.new
	mv constraints.new constraints.txt && mv constraints-runtime.new constraints-runtime.txt && rm -rf $(VENV).new

clean:  ## stop the servers, remove all results and caches of this clone, but not .venv
	@test ! -d .servers || $(BIN)/python -m flows.servers stop
	rm -rf outputs reports data/demo .scratch .workspaces .dvc/cache .dvc/tmp mlflow.db mlartifacts .prefect .servers
	@# The lock that is committed comes back, one that is not goes, and one of which git cannot tell stays.
	@test ! -e .git || { set -e; case "$$(git ls-files -t --cached --others -- dvc.lock 2>/dev/null)" in \
	  H*) git checkout --quiet -- dvc.lock ;; '?'*) rm dvc.lock ;; esac; git worktree prune; }
