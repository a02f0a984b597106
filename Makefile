# make run   patches → trained model → ROC figure → submission, on the simulated sample
# make test  the tests, offline
# Both make .venv and install what they need the first time. Choose the interpreter with PYTHON=python3.12.

PYTHON ?= python3
# The build without CUDA is less than half the download; BACKEND=jax works too.
BACKEND ?= $(if $(shell command -v nvidia-smi),tensorflow,tensorflow-cpu)
BIN := .venv/bin
RUN := runs/sample

.PHONY: run test clean
.DELETE_ON_ERROR:

run: .venv/run-installed data/sample
	$(BIN)/pcam train data/sample --run $(RUN) --epochs 3 --resume
	$(BIN)/pcam predict data/sample --run $(RUN) --out $(RUN)/submission.csv
	$(BIN)/pcam evaluate data/sample --run $(RUN) --baseline --out $(RUN)/test

data/sample: | .venv/run-installed
	$(BIN)/pcam sample $@

test: .venv/test-installed
	$(BIN)/python -m pytest --cov --cov-report=term

.venv/run-installed: EXTRAS = $(BACKEND)
.venv/test-installed: EXTRAS = $(BACKEND),tests
.venv/%-installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
