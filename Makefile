# Two commands: `make demo` does the main job, `make test` checks it in minutes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
           --constraint .ci/constraints.txt

.PHONY: demo test test-all test-lowest checks lint bindings test-families test-gpu fuzz bench clean

demo: $(VENV)/installed
	$(BIN)/fcn-trt demo --out demo_out

# Compiled modules are kept even where the environment says otherwise: tests start 200 processes.
unexport PYTHONDONTWRITEBYTECODE

# Two workers, each with a core of its own (tests/conftest.py).
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

test: checks
	$(PYTEST) -m "not exhaustive"

# Also what takes minutes: every model at every size in every type, all figures of the README's
# tables on all of CamVid; and what of the package's lines no test runs.
test-all: checks
	$(PYTEST) --cov --cov-report=term

# Side by side, as each takes half a minute of one core where nothing is cached.
checks: $(VENV)/installed-dev
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint bindings

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# What the package uses of TensorRT, against the real bindings of each release it is written for.
bindings: $(VENV)/installed-dev
	$(BIN)/python -m tests.bindings.check

# The source frameworks' own modules against ours; they get an environment of their own, because
# MMSegmentation 1.2.2 needs an old mmcv.
test-families: $(VENV)-families/installed
	$(VENV)-families/bin/python -m pytest tests/families --override-ini filterwarnings=default

# Files that others make, changed until a reader fails: tests/fuzz/README.md. Exits 1 on a finding.
SECONDS ?= 20
TARGETS ?=
fuzz: $(VENV)/installed-fuzz
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(if $(TARGETS),--targets "$(TARGETS)")

# The lowest versions that pyproject.toml allows, on the lowest Python, in an environment of their
# own (2.6 GB to download): every command once, and what depends most on the libraries.
test-lowest: $(VENV)-lowest/installed
	$(VENV)-lowest/bin/python -m pytest --override-ini filterwarnings=default -m "" $(LOWEST)

LOWEST_PYTHON ?= 3.10
LOWEST := $(addprefix tests/,cli/test_every_command.py cli/test_recipes.py \
  engine/openvino/test_zero_points.py model/test_file_format.py \
  network/test_to_onnx.py pipeline/test_packaged.py precision/test_qdq.py stages/test_preprocess.py \
  stages/test_overlay.py test_spec.py video/test_palette_png.py)

# Needs a GPU: kernels, the pipeline, and engines of what is installed for it. It says what it skips;
# with FCN_TRT_REQUIRE=gpu in the environment it fails where there is no GPU.
test-gpu: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/gpu

# Everything in benchmarks/ that needs no data from elsewhere; benchmarks/README.md has each command.
bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.peers
	$(BIN)/fcn-trt bench fcn_resnet50 engines/demo_cpu.toml engines/demo_cpu_int8.toml \
	  --precision fp32 --precision bf16 --precision int8 --out benchmarks/bench.json --plots benchmarks
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.video
	$(BIN)/python -m benchmarks.device

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml .ci/constraints.txt
	$(INSTALL) --editable '.[export]'
	touch $@

$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml .ci/constraints.txt
	$(INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/installed

$(VENV)/installed-fuzz: $(VENV)/installed-dev
	$(INSTALL) --editable '.[dev,fuzz]'
	touch $@

$(VENV)-families/installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)-families
	$(VENV)-families/bin/python -m pip install --quiet --constraint .ci/constraints.txt \
	  --editable '.[export]' pytest mmsegmentation==1.2.2 \
	  mmengine==0.10.7 mmcv-lite==2.1.0 ftfy==6.3.1 regex
	touch $@

$(VENV)-lowest/installed: $(VENV)/bin/python pyproject.toml
	$(INSTALL) uv
	$(BIN)/uv venv --quiet --clear --python $(LOWEST_PYTHON) $(VENV)-lowest
	$(BIN)/uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct \
	  --editable '.[export,test]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-families $(VENV)-lowest demo_out .bindings .fuzz .mypy_cache .ruff_cache .pytest_cache \
	  .coverage*
