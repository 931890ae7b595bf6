# make train   the environment, then the main job: the paper's final model in miniature, on the embedded data set
# make test    the environment, then lint and all tests
# make lint    the environment, then ruff (check and format) and mypy
# make bench   the environment, then the benchmarks
# make env     the environment alone
#
# The environment is made once (about 6 minutes on 2 idle cores, most of it compiling mmcv's operators), then only checked.
# What is missing for that (a compiler, Python's headers, disk, memory) is said before anything is installed.
# What it has already is left as it is, so an environment of your own is completed, never rebuilt:
#   make train VENV=$VIRTUAL_ENV          (or VENV=$CONDA_PREFIX; your torch, CUDA mmcv and mmdet stay)
#   make train TORCH=torch==2.4.1         another torch in a new environment, 2.3 or later (requirements/constraints.txt has
#                                         NumPy 2); any arguments of `pip install` will do, such as --extra-index-url
#   make test  STACK=onedl                the maintained forks of mmengine, mmcv and mmdetection, in .venv-onedl
#   make train ARGS='--cfg-options train_cfg.max_epochs=2'   more arguments for `mim train`; for pytest in `make test`

STACK ?= openmmlab
TORCH ?= torch==2.13.0
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS ?=

ifeq ($(STACK),openmmlab)
VENV ?= .venv
MMCV := mmcv==2.1.0
OPENMMLAB := mmengine==0.10.7 mmdet==3.3.0
MIM := openmim==0.3.9
PACKAGE := mmdet
else ifeq ($(STACK),onedl)
VENV ?= .venv-onedl
MMCV := onedl-mmcv==2.3.6
OPENMMLAB := onedl-mmengine==0.10.12 onedl-mmdetection==3.5.1
MIM := onedl-mim==0.5.1
PACKAGE := onedl-mmdetection
else
$(error STACK is $(STACK); it must be openmmlab or onedl)
endif

CONFIG := configs/miniature.py
WORK_DIR := work_dirs/miniature
READY := $(VENV)/.atss_plugin-ready
# Threads that wait do not spin: with other work on the same cores, spinning takes time that the others need.
export OMP_WAIT_POLICY ?= PASSIVE
HAS = $(VENV)/bin/python -c '$(1)' 2>/dev/null

.PHONY: train test lint bench env
train: $(READY)
	$(VENV)/bin/mim train $(PACKAGE) $(CONFIG) --gpus 0 --work-dir $(WORK_DIR) $(ARGS)
	@echo "Pictures (left: ground truth, right: detections):"; ls -1t $(WORK_DIR)/*/vis_data/vis_image/* | head -4

test: lint
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(READY)
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy

# on idle cores, where threads that spin are the fastest
bench: export OMP_WAIT_POLICY = ACTIVE
bench: $(READY)
	$(VENV)/bin/python -m benchmarks $(ARGS)

env: $(READY)

# An environment made here takes the versions that were tested; one of your own keeps its versions.
CONSTRAINTS = $(addprefix -c ,$(wildcard $(VENV)/constraints.txt))
PIP = $(VENV)/bin/python -m pip install --quiet $(CONSTRAINTS)
COMPILE = $(VENV)/bin/python tools/compile_mmcv.py $(CONSTRAINTS)

$(VENV)/bin/python:
	@$(PYTHON) tools/check_machine.py $(VENV)
	$(PYTHON) -m venv $(VENV)
	cp requirements/constraints.txt $(VENV)/constraints.txt

# The order matters: mmcv is compiled against the torch that is there, without build isolation; pip's cache may hold one
# that was compiled for another torch or without operators. setuptools 81 is the first without the pkg_resources that mim
# and mmcv's setup.py import; mim's own requirements would bring one from 2022 (opendatalab -> openxlab), so they are
# spelled out here without that one.
$(READY): setup.py pyproject.toml Makefile requirements/constraints.txt | $(VENV)/bin/python
	@echo "Looking after the environment $(VENV)"
	@$(call HAS,import mmcv.ops) || $(VENV)/bin/python tools/check_machine.py $(VENV)
	@$(PIP) 'setuptools<81' wheel ninja numpy
	@$(call HAS,import torch) || $(PIP) $(TORCH)
	@$(call HAS,import mmcv.ops) || { echo "Installing $(MMCV); compiling it takes about 5 minutes on 2 idle cores, once"; \
	    $(COMPILE) $(MMCV); }
	@$(call HAS,import mmcv.ops) || $(COMPILE) --no-cache-dir --no-deps --force-reinstall $(MMCV)
	@$(call HAS,import mmdet) || $(PIP) $(OPENMMLAB)
	@$(call HAS,import mim) || { $(PIP) click colorama model-index pandas requests rich tabulate; \
	    $(PIP) --no-deps $(MIM); }
	@$(PIP) --no-build-isolation 'setuptools<81' --editable '.[test]'
	@touch $@
