# Two commands: `make demo` shows the whole chain, `make test` proves it. Each sets itself up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS := $(shell getconf _NPROCESSORS_ONLN)
# A process of the tests takes up to 4 GB.
TEST_JOBS := $(shell awk -v cores=$(JOBS) '/^MemTotal/ {n = int($$2 / 4e6); print n < 1 ? 1 : n < cores ? n : cores}' \
	/proc/meminfo 2>/dev/null || echo $(JOBS))
# Tests import ONNX Runtime as they like; the packages themselves tell it so (providers.py).
export ORT_DISABLE_TELEMETRY := 1
CXX_FILES := $(shell find csrc tests runtime -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test lint format bench sanitize cuda gpu-test gpu-bench clean

demo: $(READY)  ## draw people, train, evaluate, export, verify, run, report (build/demo/report.html)
	PATH="$(abspath $(BIN)):$$PATH" sh demo/run.sh build/demo

# Processes instead of threads: one thread each, as those of PyTorch wait for one another where there are more than cores.
test: $(READY) lint  ## all tests and static checks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TEST_JOBS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/tables.py --check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

bench: $(READY)  ## print measurements that need nothing but this machine; the other scripts take a folder or a data set
	for name in distance evaluate rerank preprocess identify attention model gpu_rerank; do \
		$(BIN)/python benchmarks/bench_$$name.py || [ $$? -eq 77 ] || exit 1; \
	done

# setarch -R: the address layout of some kernels is not what the thread sanitizer expects. Some containers forbid it.
sanitize: export PATH := $(abspath $(BIN)):$(PATH)
sanitize: $(READY)  ## C++ tests of the kernels under the address, undefined-behaviour and thread sanitizers
	for kind in address,undefined thread; do \
		cmake -S . -B build/sanitize-$$kind -DSTCANET_SANITIZE=$$kind -DSTCANET_CUDA=OFF && \
		cmake --build build/sanitize-$$kind --parallel $(JOBS) && \
		$(shell setarch -R true 2>/dev/null && echo setarch -R) build/sanitize-$$kind/kernel_tests || exit 1; \
	done

cuda: $(READY)  ## compile the CUDA kernels; needs nvcc, no GPU
	PATH="$(abspath $(BIN)):$$PATH" cmake -S . -B build/cuda -DSTCANET_CUDA=ON -DPython_EXECUTABLE="$(abspath $(BIN))/python"
	PATH="$(abspath $(BIN)):$$PATH" cmake --build build/cuda --parallel $(JOBS)
	PATH="$(abspath $(BIN)):$$PATH" cmake --install build/cuda --prefix runtime

gpu-test: cuda  ## tests that need a GPU, and only those
	$(BIN)/python -m pytest -m gpu

# CuPy for the CUDA of PyTorch, whose libraries both take; without it (or CUDA) some parts measure nothing, and are named.
# Where nothing can be installed: sh benchmarks/gpu.sh, with the python3 that is there.
gpu-bench: $(READY)  ## test, check memory and races, and measure the CUDA kernels on a GPU, in under ten minutes
	-cuda=$$($(BIN)/python -c 'import torch; print((torch.version.cuda or "").split(".")[0])') && \
	{ test -z "$$cuda" || $(BIN)/python -m pip install --quiet "cupy-cuda$${cuda}x"; }
	PATH="$(abspath $(BIN)):$$PATH" sh benchmarks/gpu.sh

$(READY): setup.py pyproject.toml CMakeLists.txt $(shell find csrc -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	STCANET_KERNELS=require $(BIN)/python -m pip install --quiet --editable '.[train,export,cpu,jit,openvino,openvino-native,sign,video,metrics,dev]'
	touch $@

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache runtime/stcanet_runtime/*.so $(READY)
