# shed: `make run` and `make test` are all a newcomer needs; `make help` lists the rest.

.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

.PHONY: run
run: ## engine, image, programs, server in the background, the shed `demo`, and how to attach
	@docker/engine.sh ensure
	@docker/image.sh base
	@$(MAKE) --no-print-directory build
	@docker/run.sh run

.PHONY: stop
stop: ## stop what `make run` started; sheds start again with the next `make run`
	@docker/run.sh stop

.PHONY: uninstall
uninstall: ## remove all that shed made on this machine; asks before it removes volumes
	@docker/run.sh uninstall

.PHONY: build
build: ## target/release/shed and target/release/shed-server
	@cargo build --release --package shed --package shed-server

.PHONY: test
test: ## everything: build without warnings, all rings of tests, real Docker and OpenSSH
	@docker/test.sh all

.PHONY: test-values test-doors test-tour
test-values: ## pure rules and single parts
	@docker/test.sh values
test-doors: ## HTTP, SSH and the client on the process engine, with real tmux
	@docker/test.sh doors
test-tour: ## the programs on a real Docker engine
	@docker/test.sh tour

.PHONY: test-agents
test-agents: build ## the real agents with a stand-in for their models; needs the image shed-agents, which it builds
	@docker/engine.sh ensure
	@docker/image.sh agents
	@python3 docker/test-agents/run.py

.PHONY: test-clients
test-clients: build ## real SSH clients against a shed and against sshd; the table of docs/CLIENTS.md
	@docker/engine.sh ensure
	@docker/image.sh base
	@docker/image.sh test-images
	@docker/test-clients/setup.sh
	@python3 docker/test-clients/run.py

.PHONY: test-typescript
test-typescript: ## types for TypeScript from the OpenAPI document, and a program that uses them; needs npm
	@docker/test-api/typescript.sh

.PHONY: check
check: lint-dockerfile ## format, clippy, scripts, Dockerfiles, dependencies
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@docker/lint.sh deny
	@docker/lint.sh unused

.PHONY: lint lint-dockerfile
lint: check ## the same as check
lint-dockerfile: ## shell scripts and Dockerfiles
	@docker/lint.sh

.PHONY: mutants
mutants: ## mutation tests of the pure crates; their unit tests must catch at least 95 %
	@docker/mutants.sh

.PHONY: bench
bench: build ## benchmarks against docker and sshd; figures for docs/PERFORMANCE.md
	@docker/engine.sh ensure
	@docker/image.sh base
	@docker/image.sh test-images
	@python3 bench/bench.py

.PHONY: image image-agents
image: ## shed-base:latest
	@docker/engine.sh ensure
	@docker/image.sh base
image-agents: ## shed-agents:latest: Node and the agents on top
	@docker/engine.sh ensure
	@docker/image.sh agents

.PHONY: openapi
openapi: ## write docs/openapi.json from the code
	@UPDATE_OPENAPI=1 cargo test --quiet --package shed-http --lib openapi

.PHONY: docs
docs: ## API documentation of the crates and manual pages, in target/doc and target/man/{shed,shed-server}
	@cargo doc --quiet --workspace --no-deps
	@cargo run --quiet --package shed -- man target/man/shed
	@cargo run --quiet --package shed-server -- man target/man/shed-server
