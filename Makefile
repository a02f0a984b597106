# make run      the first six lessons on the simulated sample, into build/course: pages, a model, ROC figure, submission
# make check    two minutes: style, types, order of imports, examples in docstrings, quick tests; make format mends style
# make test     all of it, and the slow tests and the lessons; offline
# make lesson-test NAME=04   one lesson, compared with its stored outputs
# make bench    speed and memory, side by side with what they are compared to, into build/bench
# make matrix   tests and lessons with the lowest versions that we allow, with Colab's, Kaggle's and the newest
# make refresh  stores the notebooks' outputs in them anew
# make offline-kit   a folder, build/offline-kit, that installs and runs the course without a network
# make book     the course as a book, into build/book; make slides: the lessons' figures as slides, build/slides.html
# make lesson NAME=06_my_lesson   a new lesson, from the template
# make address ADDRESS=account/repository   writes the repository's real address into badges and setup cells
# make dist     what PyPI takes, of the last commit, into dist
# All make .venv and install what they need the first time. Choose the interpreter with PYTHON=python3.12 (after make clean).

PYTHON ?= python3
# The build without CUDA is less than half the download, but there is none for macOS; BACKEND=jax works too.
BACKEND ?= $(if $(filter Darwin,$(shell uname)),tensorflow,$(if $(shell command -v nvidia-smi),cuda,tensorflow-cpu))
BIN := .venv/bin
# Those that make run takes; LESSONS= for all.
LESSONS ?= 00 01 02 03 04 05
HERE = $(shell sed -n 's,^Repository = "https://github.com/\(.*\)",\1,p' pyproject.toml)

.PHONY: run check format lint test test-run lesson-test bench matrix refresh offline-kit book slides lesson address dist clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

run: .venv/run-installed data/sample
	$(BIN)/pcam course data/sample --out build/course $(addprefix --lesson ,$(LESSONS))

refresh: .venv/run-installed data/sample build/input/histopathologic-cancer-detection
	PCAM_WEIGHTS=pcam $(BIN)/pcam course data/sample --out build/refresh --refresh
	$(BIN)/python kaggle/run.py build/input build/kaggle --minutes 5 --store

build/input/histopathologic-cancer-detection: | .venv/run-installed
	$(BIN)/pcam sample $@ --layout kaggle
	mkdir -p build/input/weights && cp pcam_utils/models/weights/nasnetmobile_pcam.npz build/input/weights

bench: .venv/bench-installed data/sample
	$(BIN)/python benchmarks/speed.py --out build/bench

matrix:
	$(PYTHON) tools/matrix.py

KIT := build/offline-kit
offline-kit: .venv/run-installed data/sample book slides
	rm -rf $(KIT) build/lib && mkdir -p $(KIT)/data
	$(BIN)/python -m pip wheel --quiet --wheel-dir $(KIT)/wheels ".[$(BACKEND),notebooks]"
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(KIT)/wheels imgaug
	cp -r notebooks build/book build/slides.html $(KIT)/ && cp -r data/sample $(KIT)/data/
	sed "s/tensorflow-cpu/$(BACKEND)/" docs/offline_kit.md > $(KIT)/README.md
	$(BIN)/python -c 'import sysconfig as s; print("Made for Python", s.get_python_version(), "on", s.get_platform() + ".")' >> $(KIT)/README.md

book: .venv/book-installed
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees -c docs . build/book
	echo '<!doctype html><html lang="en"><title>To the book</title><meta http-equiv="refresh" content="0; url=docs/index.html">' > build/book/index.html

dist: .venv/run-installed
	rm -rf dist build/dist && git clone --quiet . build/dist
	cd build/dist && sed -i.old -E 's,!\[([^]]*)\]\(docs/,![\1](https://raw.githubusercontent.com/$(HERE)/main/docs/,; s,\]\(((docs|notebooks|data|pcam_utils)/|CONTRIBUTING|LICENSE|CITATION),](https://github.com/$(HERE)/blob/main/\1,g' README.md && rm README.md.old
	$(BIN)/python -m pip install --quiet build twine
	$(BIN)/python -m build --outdir dist build/dist && $(BIN)/twine check --strict dist/*

slides: .venv/run-installed
	$(BIN)/python docs/slides.py build/slides.html

lesson:
	@echo "$(NAME)" | grep -Eq '^[01][0-9]_[a-z0-9_]+$$' || { echo "Say which: make lesson NAME=06_my_lesson"; exit 1; }
	@number=$$(echo $(NAME) | cut -c1-2); test -z "$$(ls notebooks/$${number}_* 2>/dev/null)" || { echo "There is a lesson $$number already."; exit 1; }
	number=$$(echo $(NAME) | cut -c1-2); sed "s,NN_lesson_template,$(NAME),g; s,# NN · ,# $$number · ,; s,\"NN-,\"$$number-,g" docs/lesson_template.ipynb > notebooks/$(NAME).ipynb

address:
	@test -n "$(ADDRESS)" -a -n "$(HERE)" || { echo "Say where: make address ADDRESS=account/repository"; exit 1; }
	sed -i.old "s,$(HERE),$(ADDRESS),g" pyproject.toml README.md notebooks/*.ipynb docs/*.ipynb docs/*.md
	sed -i.old 's,"id": "[^/]*/,"id": "$(firstword $(subst /, ,$(ADDRESS)))/,' kaggle/kernel-metadata.json
	rm -f pyproject.toml.old README.md.old notebooks/*.old docs/*.old kaggle/*.old

data/sample: | .venv/run-installed
	$(BIN)/pcam sample $@

lint: .venv/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

format: .venv/test-installed
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# Some tests look at the sample, and are left out where there is none.
check: lint
	$(BIN)/python -m pytest --quiet --numprocesses 2 -m "not slow and not real"

NBVAL := PCAM_OUT="$(CURDIR)/build/test" PCAM_WEIGHTS=pcam $(BIN)/python -m pytest --nbval-lax --nbval-current-env
test: lint test-run
test-run: .venv/test-installed data/sample
	$(BIN)/python -m pytest --numprocesses 2 --cov --cov-report=term
	# Two lessons at a time; 05 well before 04, whose model it would otherwise find half-written.
	$(NBVAL) --numprocesses 2 --dist loadscope notebooks/05* notebooks/03* notebooks/0[!35]* $(wildcard notebooks/1*)

lesson-test: .venv/test-installed data/sample
	@test -n "$(NAME)" -a -n "$(wildcard notebooks/$(NAME)*.ipynb)" || { echo "Say which: make lesson-test NAME=04"; exit 1; }
	$(NBVAL) notebooks/$(NAME)*.ipynb

.venv/run-installed: EXTRAS = $(BACKEND),notebooks
.venv/test-installed: EXTRAS = $(BACKEND),notebooks,tests
.venv/bench-installed: EXTRAS = $(BACKEND),notebooks,bench
.venv/book-installed: EXTRAS = $(BACKEND),notebooks,book
.venv/%-installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	$(BIN)/python -m pip install --quiet --no-deps imgaug
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
