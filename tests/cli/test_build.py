"""The way from a network to a bundle that runs, as a user types it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import pytest

from fcn_trt.engine import preflight
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.tensorrt.builder import build_tensorrt
from fcn_trt.machine import Gpu, Machine, this_machine
from fcn_trt.pipeline import run as pipeline_run
from fcn_trt.spec import ShapeRange, read_spec
from tests.plans import as_network

UNCHECKED = ":: {}: not checked, its ONNX carries no reference"
SIZE = "64x96"
RTX = "tensorrt-rtx"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def written(bundle: Path) -> list[tuple[str, int, int]]:
    """Which files are there, and when each was written."""
    files = sorted(bundle.iterdir())
    return [(file.name, file.stat().st_ino, file.stat().st_mtime_ns) for file in files]


def write_recipe(path: Path, **keys: object) -> Path:
    """A recipe for the tiny network `m.onnx` beside it; a dictionary is a table."""
    values = {"model": "m.onnx", "size": SIZE, "precision": "fp32", "target": "openvino"} | keys
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in values.items() if k not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_network) -> Path:
    """The working folder, with the tiny network as m.onnx and an empty user's cache elsewhere."""
    folder: Path = tmp_path / "here"
    folder.mkdir()
    shutil.copy(tiny_network, folder / "m.onnx")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="session")
def built_rtx(rtx, tiny_network, tmp_path_factory) -> Path:
    """The tiny network as a TensorRT-RTX bundle for sm_86. Read only."""
    out = tmp_path_factory.mktemp("rtx") / "bundle"
    options = BuildOptions(compute_capabilities=("8.6",))
    build_tensorrt(as_network(tiny_network), out, target="tensorrt-rtx", options=options)
    return Path(out)


@pytest.fixture
def rtx_bundle(built_rtx, here) -> Path:
    """A copy of it, as `rtx` in the working folder."""
    shutil.copytree(built_rtx, here / "rtx")
    return Path(here / "rtx")


@pytest.fixture
def no_gpu() -> str:
    """Why this machine has no GPU."""
    machine = this_machine()
    if machine.gpu is not None:
        pytest.skip(f"needs a machine without a GPU, and this one has {machine.gpu.name}")
    return machine.gpu_problem


@pytest.fixture
def ada(monkeypatch, rtx) -> Machine:
    """A made-up machine with a GPU of sm_89; nothing here makes a CUDA context on it."""
    gpu = Gpu(name="RTX 4070", compute_capability="8.9", memory_bytes=12 << 30, integrated=False)
    machine = Machine(gpu=gpu, libraries={"tensorrt_rtx": rtx.__version__})
    for module in (preflight, pipeline_run):
        monkeypatch.setattr(module, "this_machine", lambda: machine)
    return machine


class TestRefused:
    """One sentence, and nothing under the final name nor beside it."""

    @pytest.fixture
    def refusal(self, cli, here):
        def refuse(*arguments: object, status: int = 1, steps: int = 0) -> str:
            before = names(here)
            done = cli(*arguments)
            assert done.status == status
            assert done.out == ""
            assert done.err.count("\n") == steps + 1
            assert names(here) == before
            return str(done.sentence)

        return refuse

    def replace_operator(self, path: Path, operator: str) -> Path:
        onnx = pytest.importorskip("onnx")
        model = onnx.load(path)
        model.graph.node[5].op_type = operator
        edited = path.with_name("edited.onnx")
        edited.write_bytes(model.SerializeToString())
        return edited

    @pytest.mark.parametrize("target", ["openvino", RTX])
    def test_onnx_that_is_no_onnx(self, refusal, here, target, request):
        if target == RTX:
            request.getfixturevalue("rtx")
        (here / "text.onnx").write_text("no network")
        said = refusal("build", "text.onnx", "--target", target, "--out", "new")
        assert said == "text.onnx is not a whole ONNX file; export it again"

    def test_operator_that_tensorrt_does_not_take(self, refusal, here, rtx):
        self.replace_operator(here / "m.onnx", "Det")
        said = refusal("build", "edited.onnx", "--target", RTX, "--out", "new")
        assert said.startswith(
            f"edited.onnx cannot become an engine: TensorRT-RTX {rtx.__version__} does not take "
            "the operator Det of node 'backbone.stem.8' (UNSUPPORTED_NODE"
        )
        assert said.endswith("; replace it, or export the model with `fcn-trt export`")

    def test_operator_that_openvino_does_not_take(self, refusal, here):
        self.replace_operator(here / "m.onnx", "Kaleidoscope")
        said = refusal("build", "edited.onnx", "--out", "new")
        assert said.startswith("edited.onnx cannot become an engine: OpenVINO ")
        assert "does not take the operator Kaleidoscope of node 'backbone.stem.8'" in said

    def test_operator_in_a_recipe_is_told_of_the_recipe(self, refusal, here, rtx):
        self.replace_operator(here / "m.onnx", "Bernoulli")
        device = {"compute_capability": "8.6"}
        write_recipe(
            here / "r.toml", model="edited.onnx", precision="bf16", target=RTX, device=device
        )
        said = refusal("build", "r.toml", steps=4)
        assert "/networks/" not in said
        assert said.startswith("the network of r.toml cannot become an engine: TensorRT-RTX ")

    @pytest.mark.parametrize("name", ["folder", "folder.toml"])
    def test_folder(self, refusal, here, name):
        (here / name).mkdir()
        assert refusal("build", name, "--out", "new", status=2) == (
            f"Invalid value for 'SOURCE': {name} is a folder; give a RECIPE.toml or an ONNX file; "
            "see `fcn-trt build --help`"
        )

    def test_int8_without_a_calibration_cache(self, refusal, here):
        write_recipe(here / "r.toml", precision="int8")
        said = refusal("build", "r.toml")
        assert said.startswith("r.toml is not valid at calibration: int8 needs a cache")
        assert "`fcn-trt calibrate`" in said

    @pytest.mark.parametrize("target", ["tensorrt", RTX])
    def test_fp8_for_a_device_below_8_9(self, refusal, here, target):
        device = {"compute_capability": "8.6"}
        write_recipe(here / "r.toml", precision="fp8", target=target, device=device)
        assert refusal("build", "r.toml") == (
            "r.toml is not valid at precision: fp8 needs a GPU of compute capability 8.9 or more, "
            "but 8.6 was asked for; choose fp16"
        )

    @pytest.mark.parametrize("precision", ["int8", "fp8"])
    @pytest.mark.parametrize("command", ["build", "quantize"])
    def test_quantised_precision_without_a_calibration(self, refusal, command, precision):
        arguments = [command, "m.onnx", "--precision", precision, "--out", "new"]
        said = refusal(*arguments, status=2)
        assert f"'--calibration': {precision} needs a cache from `fcn-trt calibrate`" in said
        assert said.endswith(f"see `fcn-trt {command} --help`")

    @pytest.mark.parametrize("command", ["build", "quantize"])
    def test_calibration_that_is_none(self, refusal, here, command):
        (here / "c.json").write_text("{}")
        arguments = ["--precision", "int8", "--calibration", "c.json", "--out", "new"]
        assert refusal(command, "m.onnx", *arguments).startswith("c.json has format None, but this")

    @pytest.mark.parametrize("network", ["b.onnx", "m.onnx --precision bf16"])
    def test_bf16_for_a_device_below_8_0(self, refusal, here, rtx, cli, network):
        assert cli("quantize", "m.onnx", "--precision", "bf16", "--out", "b.onnx").status == 0
        arguments = ["--target", RTX, "--compute-capability", "7.5", "--out", "new"]
        said = refusal("build", *network.split(), *arguments, status=2)
        assert "'--precision': bf16 needs a GPU of compute capability 8.0 or more, but 7.5" in said

    def test_recipe_with_an_unknown_key(self, refusal, here):
        write_recipe(here / "r.toml", precison="fp16")
        said = refusal("build", "r.toml")
        assert said.startswith(
            "r.toml has an unknown key: precison (did you mean precision?); allowed there are model"
        )

    @pytest.mark.parametrize("command", ["run rtx --source scene", "eval rtx --dataset scene"])
    def test_bundle_for_another_target(self, refusal, rtx_bundle, rtx, no_gpu, command):
        assert refusal(*command.split()) == (
            f"rtx cannot run here: built for sm_86 with TensorRT-RTX {rtx.__version__}, this "
            f"machine has no GPU ({no_gpu}); run it on one that has"
        )

    def test_bundle_for_another_gpu_names_the_command_that_rebuilds(
        self, refusal, rtx_bundle, rtx, ada
    ):
        assert refusal("run", "rtx", "--source", "scene") == (
            f"rtx cannot run here: built for sm_86 with TensorRT-RTX {rtx.__version__}, this "
            f"machine has sm_89 with {rtx.__version__}: run `fcn-trt build rtx/network.onnx "
            f"--target {RTX} --out rtx`, or add --rebuild"
        )

    @pytest.mark.parametrize("command", ["inspect", "inspect --rebuild", "run --source scene"])
    @pytest.mark.parametrize("keep", [0, 64, -1])
    def test_truncated_plan(self, refusal, rtx_bundle, command, keep):
        plan = rtx_bundle / "engine.plan"
        whole = plan.read_bytes()
        plan.write_bytes(whole[:keep])
        name, *options = command.split()
        said = refusal(name, "rtx", *options)
        assert said == (
            f"rtx/engine.plan was altered: it has {len(whole[:keep])} bytes, but the manifest says "
            f"{len(whole)} bytes; copy or build the bundle again"
        )

    @pytest.mark.parametrize("command", ["inspect", "run --source scene", "eval --dataset scene"])
    def test_plan_whose_manifest_was_edited(self, refusal, rtx_bundle, command):
        manifest = rtx_bundle / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"8.6"', '"8.9"'))
        name, *options = command.split()
        assert refusal(name, "rtx", *options) == (
            "rtx/manifest.json was altered: its content does not have the SHA-256 that it states; "
            "copy or build the bundle again"
        )

    def test_target_whose_library_is_not_there(self, refusal, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        said = refusal("build", "m.onnx", "--target", RTX, "--out", "new")
        assert said.startswith("TensorRT-RTX cannot be loaded (")
        assert said.endswith("); `fcn-trt doctor` says how to install it")

    @pytest.mark.parametrize("options", ["", "--compute-capability 8.7", "--precision fp16"])
    def test_tensorrt_on_a_machine_without_a_gpu(self, refusal, no_gpu, options):
        arguments = ["build", "m.onnx", "--target", "tensorrt", "--out", "new"]
        said = refusal(*arguments, *options.split())
        assert said.startswith("m.onnx cannot be built here: TensorRT compiles on the GPU that")
        assert f"({no_gpu}); build it on that device, or for tensorrt-rtx or openvino" in said

    @pytest.mark.parametrize(
        ("options", "status", "sentence"),
        [
            ("", 2, "Invalid value for '--out': an ONNX file needs it; see `fcn-trt build --help`"),
            ("--out new --workspace 12x", 2, "'12x' is no amount of memory, such as 512MiB or 2G"),
            ("--out new --tactic-memory 0", 2, "'0' is no amount of memory, such as 512MiB or 2G"),
            ("--out new --optimization-level 6", 2, "Invalid value for '--optimization-level': "),
            ("--out new --compute-capability 86", 2, "'86' is not MAJOR.MINOR, such as 8.7; see `"),
            (
                "--out new --hardware-compatibility all",
                2,
                "it is one of none, ampere_plus, same_c",
            ),
            ("--out new --images .", 2, "'--images': it needs --precision; "),
            ("--out new --workspace 1MiB", 2, "limits of the device are for TensorRT; leave them "),
            ("--out new --strip", 2, "limits of the device are for TensorRT; leave them out for o"),
        ],
    )
    def test_option_that_is_not_valid(self, refusal, options, status, sentence):
        assert sentence in refusal("build", "m.onnx", *options.split(), status=status)

    @pytest.mark.parametrize(
        "option",
        [
            *("--target openvino", "--precision fp16", "--precision int8"),
            *("--images .", "--workspace 1GiB", "--optimization-level 3", "--strip"),
        ],
    )
    def test_option_beside_a_recipe(self, refusal, here, option):
        write_recipe(here / "r.toml")
        assert refusal("build", "r.toml", *option.split(), status=2) == (
            "Invalid value for 'SOURCE': a recipe says everything itself; edit it, or build an "
            "ONNX file; see `fcn-trt build --help`"
        )

    def test_recipe_that_is_not_there(self, refusal):
        assert refusal("build", "r.toml") == "r.toml cannot be read: No such file or directory"

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_images_for_a_type_that_is_not_checked_on_any(self, refusal, precision):
        arguments = ["--precision", precision, "--images", ".", "--out", "new.onnx"]
        said = refusal("quantize", "m.onnx", *arguments, status=2)
        assert "'--images': only fp16 is checked on images" in said
        assert said.endswith("see `fcn-trt quantize --help`")

    def test_folder_that_a_typed_network_cannot_be_written_to(self, refusal):
        said = refusal("quantize", "m.onnx", "--precision", "fp16", "--out", "gone/new.onnx")
        assert said.startswith("gone/new.onnx cannot be written: No such file or directory")

    def test_own_size_outside_a_dynamic_range(self, refusal):
        arguments = ["--size", SIZE, "--min-size", "65x97", "--out", "new.onnx"]
        said = refusal("export", "fcn_r18-d8", "--weights", "random", *arguments, status=2)
        assert "'--min-size': the network's own size, " in said


class TestRtx:
    def test_table_says_for_which_gpus_and_how_the_precision_is_known(self, cli, here, rtx, no_gpu):
        gpus = ["--compute-capability", "8.6", "--compute-capability", "12.0"]
        done = cli("build", "m.onnx", "--target", RTX, *gpus, "--out", "rtx")
        assert (done.status, done.err) == (
            0,
            f"{UNCHECKED.format('build')}\nwrote the bundle to rtx\n",
        )
        assert (
            f"{RTX} {rtx.__version__} for any RTX GPU of compute capability 8.6, 12.0" in done.out
        )
        assert "18 fp32 (100.0 % of GMAC); read from the typed ONNX" in done.out
        assert "no: built for sm_86, sm_120 with TensorRT-RTX" in done.out
        kernels = [
            f"{k}-{c}.cubin" for k in ("decode", "overlay", "preprocess") for c in gpus[1::2]
        ]
        own = ["engine.plan", "manifest.json", "network.onnx"]
        assert names(here / "rtx") == sorted([*kernels, *own])

    def test_json_is_the_manifest_with_every_limit_that_was_given(self, cli, here, rtx):
        limits = "--compute-capability 8.9 --workspace 64MiB --tactic-memory 1GiB"
        more = "--optimization-level 0 --version-compatible --precision bf16"
        done = cli(*f"build m.onnx --target {RTX} {limits} {more} --out rtx --json".split())
        manifest = done.json["manifest"]
        assert done.json["bundle"] == "rtx"
        assert manifest["options"] == {
            "compute_capabilities": ["8.9"],
            "workspace_bytes": 64 << 20,
            "tactic_bytes": 1 << 30,
            "optimization_level": 0,
            "version_compatible": True,
            "hardware_compatibility": "none",
            "strip": False,
            "timing_cache": True,
        }
        assert manifest["precision_proven"]["convolutions"] == {"bf16": 18}
        assert (manifest["precision_asked"], manifest["inputs_sha256"]) == ("bf16", "")
        assert (
            json.loads((here / "rtx" / "manifest.json").read_text())["options"]
            == (manifest["options"])
        )

    def test_inspect_says_why_it_does_not_run_here(self, cli, rtx_bundle, rtx, no_gpu):
        reason = f"built for sm_86 with TensorRT-RTX {rtx.__version__}, this machine has no GPU"
        found = cli("inspect", "rtx", "--json").json
        assert found["runs_here"] is False
        assert found["obstacle"] == f"{reason} ({no_gpu}); run it on one that has"
        assert found["manifest"]["target"] == RTX
        text = cli("inspect", "rtx")
        assert (text.status, text.err) == (0, "")
        assert f"no: {reason}" in text.out


class TestRebuild:
    def test_bundle_for_another_gpu_is_built_for_this_one(self, cli, rtx_bundle, rtx, ada):
        before = load_bundle(rtx_bundle)
        done = cli("inspect", "rtx", "--rebuild", "--json")
        assert done.json["obstacle"] == (
            "running on a GPU needs PyCUDA and cuda-bindings; pip install 'fcn-trt[cuda]'"
        )
        assert done.err == (
            f":: building again: built for sm_86 with TensorRT-RTX {rtx.__version__}, this "
            f"machine has sm_89 with {rtx.__version__}\n{UNCHECKED.format('build')}\n"
        )
        after = load_bundle(rtx_bundle)
        assert after.manifest.compute_capabilities == ("8.9",)
        assert after.network.read_bytes() == before.network.read_bytes()

    def test_bundle_that_runs_is_left_as_it_is(self, cli, here, tiny_bundle):
        shutil.copytree(tiny_bundle.path, here / "tiny")
        before = written(here / "tiny")
        done = cli("inspect", "tiny", "--rebuild", "--json")
        assert (done.json["runs_here"], done.err) == (
            True,
            ":: nothing to rebuild: it runs here\n",
        )
        run = cli("run", "tiny", "--source", f"scene:1:{SIZE}", "--limit", 1, "--rebuild", "--json")
        assert run.json["frames"] == 1
        found = cli("eval", "tiny", "--dataset", "scene", "--rebuild")
        assert "does not predict the classes of scene" in found.sentence
        assert written(here / "tiny") == before

    def test_bundle_that_a_rebuild_does_not_help_is_left_as_it_is(self, cli, rtx_bundle, no_gpu):
        before = written(rtx_bundle)
        assert cli("inspect", "rtx", "--rebuild", "--json").json["runs_here"] is False
        done = cli("run", "rtx", "--source", "scene", "--rebuild")
        assert done.status == 1
        assert done.sentence.endswith("run it on one that has")
        assert written(rtx_bundle) == before


class TestRecipe:
    def test_what_is_made_and_what_is_reused_is_said(self, cli, here):
        write_recipe(here / "r.toml", size="96x128", output="street")
        done = cli("build", "r.toml")
        assert done.status == 0
        reference = "m.onnx in ONNX Runtime"
        drawn = "drawn streets and blurred noise, none of the user's"
        took = re.compile(r": \d+\.\d s$")
        assert [
            took.sub(": N s", line.partition(" on 3 ")[0]) for line in done.err.splitlines()
        ] == [
            ":: export (not in the cache)",
            f":: checking against {reference} on {drawn}",
            ":: export: N s",
            f":: export: 100.00 % as {reference}",
            ":: type (not in the cache)",
            f":: checking fp32 against the FP32 ONNX (proven at 64x96 by {reference})",
            ":: type: N s",
            f":: type: 100.00 % as the FP32 ONNX (proven at 64x96 by {reference})",
            ":: build (not built before)",
            f":: checking the engine against the FP32 ONNX (proven at 64x96 by {reference})",
            ":: build: N s",
            f":: build: 100.00 % as the FP32 ONNX (proven at 64x96 by {reference})",
            ":: street is built: made export, type, build",
        ]
        assert "18 fp32 (100.0 % of GMAC); read from the engine" in done.out
        assert names(here) == ["m.onnx", "r.toml", "street"]

    def test_second_time_nothing_is_done(self, cli, here):
        write_recipe(here / "r.toml", size="96x128", output="street")
        first = cli("build", "r.toml", "--json").json
        second = cli("build", "r.toml", "--json")
        for part in ("bundle", "manifest"):
            assert second.json[part] == first[part]
        assert [step.keys() for step in first["steps"]] == [
            {"name", "made", "reason", "duration_s"}
        ] * 3
        assert [step["reason"] for step in first["steps"]] == [
            "not in the cache",
            "not in the cache",
            "not built before",
        ]
        assert second.json["steps"] == [
            {"name": name, "made": False, "reason": "", "duration_s": 0.0}
            for name in ("export", "type", "build")
        ]
        assert second.err.splitlines()[:6:2] == [
            ":: export: reused",
            ":: type: reused",
            ":: build: reused",
        ]
        assert second.err.splitlines()[6].startswith(":: nothing to do: street is up to date")
        assert second.err.count("\n") == 7

    def test_suffix_of_a_recipe_may_be_in_capitals(self, cli, here):
        write_recipe(here / "R.TOML", output="street")
        assert cli("build", "R.TOML").status == 0

    def test_nodes_that_stay_fp32_are_said_each_time(
        self, cli, here, make_model, write_network, rtx
    ):
        torch = pytest.importorskip("torch")
        model = make_model()
        with torch.no_grad():
            model.module.decode_head.conv_seg.weight.mul_(1e9)
        write_network(model, here / "large.onnx")
        device = {"compute_capability": "8.6"}
        write_recipe(
            here / "r.toml", model="large.onnx", precision="fp16", target=RTX, device=device
        )
        for _ in range(2):
            done = cli("build", "r.toml", "--json")
            kept = ", ".join(done.json["manifest"]["spec"]["exceptions"])
            assert "decode_head.conv_seg" in kept
            assert f":: kept in fp32, because fp16 cannot hold it: {kept}\n" in done.err

    def test_fp16_is_checked_on_images(self, cli, here, make_frame, rtx):
        (here / "frames").mkdir()
        cv2.imwrite(str(here / "frames" / "a.png"), make_frame())
        write_recipe(
            here / "r.toml",
            precision="fp16",
            target=RTX,
            images="frames",
            device={"compute_capability": "8.6"},
        )
        found = cli("build", "r.toml", "--json").json["manifest"]
        assert found["precision_proven"]["convolutions"] == {"fp16": 18}
        assert len(found["inputs_sha256"]) == 64


class TestQuantize:
    def test_fp16_is_checked_on_drawn_streets(self, cli, here):
        done = cli("quantize", "m.onnx", "--precision", "fp16", "--out", "h.onnx")
        assert done == (
            *(0, ""),
            f":: checking what fits fp16 on 8 drawn streets\n{UNCHECKED.format('type')}\n"
            "wrote fcn_r18-d8 in fp16 to h.onnx\n",
        )
        assert read_spec(here / "h.onnx").precision == "fp16"

    def test_fp16_is_checked_on_the_users_images(self, cli, here, make_frame):
        (here / "frames").mkdir()
        cv2.imwrite(str(here / "frames" / "a.png"), make_frame())
        arguments = ["--precision", "fp16", "--images", "frames", "--out", "h.onnx"]
        done = cli("quantize", "m.onnx", *arguments, "--json")
        assert done.err == f":: checking what fits fp16 on frames\n{UNCHECKED.format('type')}\n"
        assert done.json["network"] == "h.onnx"
        assert (done.json["spec"]["precision"], done.json["spec"]["exceptions"]) == ("fp16", {})

    def test_folder_without_images_is_refused(self, cli, here):
        arguments = ["--precision", "fp16", "--images", "frames", "--out", "h.onnx"]
        (here / "frames").mkdir()
        done = cli("quantize", "m.onnx", *arguments)
        assert done.status == 1
        assert done.sentence.startswith("folder frames holds no image; images end in ")
        assert names(here) == ["frames", "m.onnx"]

    @pytest.mark.parametrize("precision", ["bf16", "fp32"])
    def test_other_types_need_no_images(self, cli, here, precision):
        done = cli("quantize", "m.onnx", "--precision", precision, "--out", "h.onnx")
        said = f"{UNCHECKED.format('type')}\nwrote fcn_r18-d8 in {precision} to h.onnx\n"
        assert done == (0, "", said)
        assert read_spec(here / "h.onnx").precision == precision

    def test_nodes_that_stay_fp32_are_said(self, cli, here, make_model, write_network):
        torch = pytest.importorskip("torch")
        model = make_model()
        with torch.no_grad():
            model.module.decode_head.conv_seg.weight.mul_(1e9)
        write_network(model, here / "large.onnx")
        done = cli("quantize", "large.onnx", "--precision", "fp16", "--out", "h.onnx")
        kept = read_spec(here / "h.onnx").exceptions
        assert list(kept.values()) == ["fp32"] * len(kept)
        assert done.err.splitlines() == [
            ":: checking what fits fp16 on 8 drawn streets",
            f":: kept in fp32, because fp16 cannot hold it: {', '.join(kept)}",
            UNCHECKED.format("type"),
            "wrote fcn_r18-d8 in fp16 to h.onnx",
        ]
        assert "decode_head.conv_seg" in kept

    def test_build_types_an_fp32_network_and_leaves_it_as_it_is(self, cli, here, rtx):
        before = (here / "m.onnx").read_bytes()
        asked = ["--precision", "fp16", "--target", RTX, "--compute-capability", "8.6"]
        done = cli("build", "m.onnx", *asked, "--out", "rtx")
        assert done.err.splitlines() == [
            ":: checking what fits fp16 on 8 drawn streets",
            UNCHECKED.format("type"),
            UNCHECKED.format("build"),
            "wrote the bundle to rtx",
        ]
        assert "18 fp16 (100.0 % of GMAC)" in done.out
        assert (here / "m.onnx").read_bytes() == before
        assert names(here) == ["m.onnx", "rtx"]


class TestDynamicExport:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ("", None),
            (
                "--min-size 32x64 --max-size 96x128 --max-batch 2",
                ShapeRange(min_size=(32, 64), max_size=(96, 128), min_batch=1, max_batch=2),
            ),
            (
                "--max-size 96x128",
                ShapeRange(min_size=(64, 96), max_size=(96, 128), min_batch=1, max_batch=1),
            ),
            (
                "--batch 2 --min-batch 1",
                ShapeRange(min_size=(64, 96), max_size=(64, 96), min_batch=1, max_batch=2),
            ),
        ],
    )
    def test_limits_that_are_left_out_are_the_own_shape(self, cli, here, options, expected):
        arguments = ["export", "m.onnx", "--size", SIZE, "--out", "d.onnx", *options.split()]
        assert cli(*arguments).status == 0
        assert read_spec(here / "d.onnx").dynamic == expected

    def test_dynamic_network_becomes_a_bundle_that_says_its_shapes(self, cli, here, rtx):
        limits = "--min-size 32x64 --max-size 96x128 --max-batch 2"
        assert cli(*f"export m.onnx --size {SIZE} {limits} --out d.onnx".split()).status == 0
        done = cli("build", "d.onnx", "--target", RTX, "--out", "rtx")
        assert done.status == 0
        assert "32x64 to 96x128, batch 1 to 2; optimised for 64x96, batch 1" in done.out


def test_doctor_lists_the_gpu_and_both_libraries(cli):
    findings = {finding["part"]: finding for finding in cli("doctor", "--json").json["findings"]}
    assert findings.keys() >= {"OpenVINO", "GPU"}
    assert all(finding.keys() == {"part", "found", "ok", "advice"} for finding in findings.values())
