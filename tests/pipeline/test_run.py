import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grimp
import pytest

from fcn_trt import code
from fcn_trt.calibration.images import RangeImages
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.errors import (
    BundleError,
    CalibrationError,
    EngineError,
    OnnxError,
    OutputError,
    RecipeError,
    WeightsError,
)
from fcn_trt.files import sha256
from fcn_trt.machine import Gpu, Machine, this_machine
from fcn_trt.pipeline.plan import Compile, Export, Plan, Type
from fcn_trt.pipeline.recipe import build_recipe, read_recipe
from fcn_trt.pipeline.run import Made, StepReport, Watcher
from fcn_trt.pipeline.store import keyed_steps
from tests.plans import as_network
from tests.processes import end_of, start

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

HEAVY = ("torch", "torchvision", "tensorrt", "tensorrt_rtx", "onnx", "openvino", "cv2")
STEPS = ("export", "type", "build")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The networks in a user's cache that is empty at first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder: Path = tmp_path / "cache" / "fcn_trt" / "networks"
    return folder


@pytest.fixture(scope="module")
def checkpoints(make_model, tmp_path_factory) -> tuple[Path, Path]:
    """The tiny model with two sets of weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed in (0, 1):
        state = make_model(classes=11, seed=seed).module.state_dict()
        torch.save({"state_dict": state, "meta": {"labels": "camvid"}}, folder / f"{seed}.pth")
    first: Path = folder / "0.pth"
    return first, first.with_name("1.pth")


@pytest.fixture
def recipe(tmp_path, checkpoints):
    """Write a recipe for the tiny model, beside its weights, with other values of some keys."""
    folder: Path = tmp_path / "engines"
    folder.mkdir()
    shutil.copy(checkpoints[0], folder / "street.pth")

    def write(name: str = "street", *, device: str = "", **keys: object) -> Path:
        values = {
            "model": "fcn_r18-d8",
            "weights": "street.pth",
            "size": "64x96",
            "precision": "fp32",
            "target": "openvino",
            "labels": "camvid",
            "check": False,  # tests/pipeline/test_checks.py has that
        } | keys
        path = folder / f"{name}.toml"
        lines = [f"{k} = {json.dumps(v)}\n" for k, v in values.items() if v is not None]
        path.write_text("".join(lines) + f"[device]\n{device}\n")
        return path

    return write


def build(path: Path) -> Made:
    return build_recipe(read_recipe(path))


def made(done: Made) -> list[str]:
    """Names of the steps that were done; all three are reported, in order."""
    assert [step.name for step in done.steps] == list(STEPS)
    return [step.name for step in done.steps if step.made]


def reasons(done: Made) -> set[str]:
    return {step.reason for step in done.steps if step.made}


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has imported nothing, with the arguments in sys.argv."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_first_run_makes_a_bundle_that_remembers_its_inputs(recipe):
    done = build(recipe())
    assert made(done) == ["export", "type", "build"]
    assert load_bundle(done.bundle.path) == done.bundle
    assert len(done.bundle.manifest.inputs_sha256) == 64
    assert done.bundle.manifest.spec.weights == "street.pth"
    assert done.describe() == f"{done.bundle.path} is built: made export, type, build"


class TestSameRecipeTwice:
    def test_second_run_does_nothing_and_says_so(self, recipe):
        path = recipe()
        first = build(path).bundle
        before = {f: f.stat().st_mtime_ns for f in first.path.iterdir()}
        second = build(path)
        assert made(second) == []
        assert second.bundle == first
        assert {f: f.stat().st_mtime_ns for f in first.path.iterdir()} == before
        assert second.describe() == (
            f"nothing to do: {first.path} is up to date, its export, type and build depend on "
            "nothing that changed"
        )
        assert [step.describe() for step in second.steps] == [f"{name}: reused" for name in STEPS]

    def test_second_run_imports_no_framework(self, recipe):
        path = recipe()
        build(path)
        done = run(
            f"""
            import sys
            from pathlib import Path
            from fcn_trt.pipeline.recipe import build_recipe, read_recipe
            done = build_recipe(read_recipe(Path(sys.argv[1])))
            print(done.is_reused, [name for name in {HEAVY!r} if name in sys.modules])
            """,
            path,
        )
        assert done.stdout == "True []\n", done.stderr

    def test_content_counts_and_no_time(self, recipe):
        path = recipe()
        build(path)
        weights = path.parent / "street.pth"
        weights.write_bytes(weights.read_bytes())
        path.write_text(f"# A comment.\n{path.read_text()}")
        assert made(build(path)) == []

    def test_name_of_the_device_is_only_words(self, recipe):
        build(recipe())
        assert made(build(recipe(device='name = "my own computer"'))) == []

    def test_folder_of_the_recipe_is_no_input_of_its_networks(self, recipe, tmp_path):
        build(recipe())
        shutil.move(tmp_path / "engines", tmp_path / "moved")
        assert made(build(tmp_path / "moved" / "street.toml")) == []
        shutil.rmtree(tmp_path / "moved" / "street")
        assert made(build(tmp_path / "moved" / "street.toml")) == ["build"]


class TestChange:
    @pytest.mark.parametrize(
        ("changes", "steps", "reason"),
        [
            ({"size": "64x128"}, ["export", "type", "build"], "size changed"),
            ({"batch": 2}, ["export", "type", "build"], "batch changed"),
            ({"weights": "random:3"}, ["export", "type", "build"], "weights changed"),
            ({"precision": "bf16"}, ["type", "build"], "precision changed"),
        ],
    )
    def test_exactly_what_depends_on_a_key_is_made_again(self, recipe, changes, steps, reason):
        target = {"target": "tensorrt-rtx"} if "precision" in changes else {}
        pytest.importorskip("tensorrt_rtx") if target else None
        build(recipe(**target))
        done = build(recipe(**target, **changes))
        assert made(done) == steps
        assert reasons(done) == {reason}
        assert made(build(recipe(**target, **changes))) == []

    def test_weights_file_changes_every_step(self, recipe, checkpoints):
        path = recipe()
        first = build(path).bundle
        shutil.copy(checkpoints[1], path.parent / "street.pth")
        done = build(path)
        assert made(done) == ["export", "type", "build"]
        assert reasons(done) == {"weights changed"}
        assert done.bundle.manifest.files != first.manifest.files

    def test_limit_of_the_device_changes_the_build_only(self, recipe):
        pytest.importorskip("tensorrt_rtx")
        keys = {"target": "tensorrt-rtx", "precision": "fp32"}
        one = 'compute_capability = "8.6"\n'
        build(recipe(device=one, **keys))
        done = build(recipe(device=f"{one}optimization_level = 2", **keys))
        assert made(done) == ["build"]
        assert reasons(done) == {"optimization_level changed"}
        assert done.bundle.manifest.options.optimization_level == 2

    def test_way_back_reuses_the_networks(self, recipe):
        first = build(recipe()).bundle
        build(recipe(size="64x128"))
        done = build(recipe())
        assert made(done) == ["build"]
        assert reasons(done) == {"size changed"}
        assert done.bundle.manifest.inputs_sha256 == first.manifest.inputs_sha256

    def test_recipes_share_networks(self, recipe):
        build(recipe())
        assert made(build(recipe("other"))) == ["build"]

    def test_image_on_which_fp16_is_checked_changes_type_and_build(
        self, recipe, make_frame, tmp_path
    ):
        cv2 = pytest.importorskip("cv2")
        pytest.importorskip("tensorrt_rtx")
        photos = tmp_path / "engines" / "photos"
        photos.mkdir()
        for index in range(2):
            cv2.imwrite(str(photos / f"{index}.png"), make_frame(seed=index))
        keys = {"precision": "fp16", "target": "tensorrt-rtx", "images": "photos", "check": True}
        path = recipe(device='compute_capability = "8.6"', **keys)
        seen: list[object] = []

        @contextmanager
        def bar(title, total):
            seen.append((title, total))
            yield lambda: seen.append("image")

        build_recipe(read_recipe(path), watcher=Watcher(images_bar=bar))
        assert seen == [
            ("checking against PyTorch on frames of photos", 4),
            *["image"] * 4,
            (f"checking what fits fp16 on {photos}", 2),
            *["image"] * 2,
            ("checking fp16 against PyTorch", 2),
            *["image"] * 2,
        ]
        assert made(build(path)) == []
        cv2.imwrite(str(photos / "1.png"), make_frame(seed=2))
        done = build(path)
        assert made(done) == ["export", "type", "build"]
        assert reasons(done) == {"frames changed", "frames, images changed"}

    def test_file_with_the_large_tensors_of_an_onnx_is_an_input(self, recipe, tiny_network):
        onnx = pytest.importorskip("onnx")
        keys = {"model": "m.onnx", "weights": None, "labels": None}
        path = recipe(**keys)
        onnx.save(
            onnx.load(tiny_network),
            path.parent / "m.onnx",
            save_as_external_data=True,
            location="tensors.bin",
            size_threshold=0,
        )
        build(path)
        tensors = path.parent / "tensors.bin"
        data = bytearray(tensors.read_bytes())
        data[0] ^= 1
        tensors.write_bytes(data)
        done = build(path)
        assert made(done) == ["export", "type", "build"]
        assert reasons(done) == {"weights changed"}
        tensors.unlink()
        with pytest.raises(OnnxError, match=r"tensors\.bin cannot be read: No such file"):
            build(path)

    def test_network_that_is_reused_tells_again_what_was_kept_in_fp32(self, recipe, checkpoints):
        pytest.importorskip("tensorrt_rtx")
        path = recipe(precision="fp16", target="tensorrt-rtx", device='compute_capability = "8.6"')
        weights = torch.load(checkpoints[0], weights_only=True)
        weights["state_dict"]["decode_head.conv_seg.weight"] *= 1e9
        torch.save(weights, path.parent / "street.pth")
        first = build(path)
        kept = first.bundle.manifest.spec.exceptions
        assert "decode_head.conv_seg" in kept
        assert [step.kept for step in first.steps] == [{}, kept, {}]
        assert [step.kept for step in build(path).steps] == [{}, kept, {}]
        shutil.rmtree(first.bundle.path)
        again = build(path)
        assert made(again) == ["build"]
        assert [step.kept for step in again.steps] == [{}, kept, {}]


class TestQuantised:
    @pytest.fixture
    def calibration(self, recipe) -> Path:
        """Of the tiny model, on two drawn streets, beside the recipe."""
        from fcn_trt.calibration.cache import write_calibration
        from fcn_trt.calibration.calibrate import calibrate
        from tests.plans import export_network

        folder: Path = recipe().parent
        weights = str(folder / "street.pth")
        network, out = folder / "street.onnx", folder / "street.json"
        export_network("fcn_r18-d8", network, size=(64, 96), weights=weights)
        streets = RangeImages(streets=2, size=(64, 96))
        cache = calibrate(as_network(network), streets, method="mse", created="2026-11-21")
        write_calibration(cache, out)
        return out

    def test_bundle_names_its_calibration_and_computes_in_int8(self, recipe, calibration):
        path = recipe(precision="int8", calibration="street.json", keep_float=["last"])
        done = build(path)
        manifest = done.bundle.manifest
        assert manifest.calibration_sha256 == sha256(calibration)
        assert manifest.spec.float_precision == "fp32"
        assert set(manifest.precision_proven.convolutions) == {"int8", "fp32"}
        assert done.steps[1].kept == {"decode_head.conv_seg": "fp32"}
        assert made(build(path)) == []

    def test_what_is_quantised_anew_is_not_exported_anew(self, recipe, calibration):
        from fcn_trt.calibration.cache import read_calibration, write_calibration

        build(recipe(precision="int8", calibration="street.json"))
        done = build(recipe(precision="int8", calibration="street.json", keep_float=["first"]))
        assert made(done) == ["type", "build"]
        assert reasons(done) == {"keep_float changed"}
        done = build(recipe(precision="int8", calibration="street.json", method="minmax"))
        assert "method" in reasons(done).pop()
        write_calibration(read_calibration(calibration).with_method("percentile"), calibration)
        done = build(recipe(precision="int8", calibration="street.json", method="minmax"))
        assert (made(done), reasons(done)) == (["type", "build"], {"calibration changed"})

    def test_calibration_of_other_weights_is_refused(self, recipe, calibration, checkpoints):
        path = recipe(precision="int8", calibration="street.json")
        shutil.copy(checkpoints[1], path.parent / "street.pth")
        with pytest.raises(CalibrationError, match="was made for another network"):
            build(path)

    def test_calibration_that_is_not_there_is_named(self, recipe):
        path = recipe(precision="int8", calibration="none.json")
        with pytest.raises(RecipeError, match=r"at calibration: .*none\.json cannot be read: No "):
            build(path)


@pytest.mark.parametrize("location", ["/dev/zero", "../secret.bin", "fifo", "."])
def test_onnx_that_names_no_file_of_its_own_folder_is_refused(recipe, tiny_network, location):
    onnx = pytest.importorskip("onnx")
    path = recipe(model="m.onnx", weights=None, labels=None)
    (path.parent.parent / "secret.bin").write_bytes(b"secret")
    os.mkfifo(path.parent / "fifo")
    model = onnx.load(tiny_network)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (path.parent / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(OnnxError) as caught:
        build(path)
    assert f"m.onnx keeps tensors in {location!r}, which is no file in its own" in str(caught.value)


CHECKS = "fcn_trt.pipeline.checks"
ENTRIES: dict[str, dict[str, tuple[str, ...]]] = {
    "checkpoint": {
        "export": ("fcn_trt.network.to_onnx", "fcn_trt.model.load", CHECKS),
        "type": ("fcn_trt.precision.type_network", "fcn_trt.calibration.images", CHECKS),
        "build": ("fcn_trt.engine.openvino.builder", "fcn_trt.runtime.openvino", CHECKS),
    },
    "import": {
        "export": ("fcn_trt.network.import_onnx", CHECKS),
        "type": ("fcn_trt.precision.type_network", CHECKS),
        "build": ("fcn_trt.engine.tensorrt.builder", "fcn_trt.runtime.segmenter", CHECKS),
    },
}
"""What each step calls, of a plan for the CPU in FP16 and of one for RTX GPUs in BF16."""


def plans_of_all_kinds(network: Path) -> dict[str, Plan]:
    return {
        "checkpoint": Plan(
            export=Export(model="fcn_r18-d8", weights="random", size=(64, 96)),
            type=Type(precision="fp16"),
            compile=Compile(target="openvino"),
        ),
        "import": Plan(
            export=Export(model=str(network), size=(64, 96)),
            type=Type(precision="bf16"),
            compile=Compile(target="tensorrt-rtx"),
        ),
    }


def keys_of(plan: Plan) -> dict[str, str]:
    return {step.name: step.key for step in keyed_steps(plan)}


def steps_that_run(file: Path, graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """The steps of each plan that import a file of the package, and those behind them.

    Says so from another reader of imports, and by hand only what data belongs to which module.
    """
    owners = {module_of(file)}
    if file.suffix == ".json":
        owners = {module_of(file.with_suffix(".py"))}
    elif file.parts[:2] == ("cuda", "kernels"):
        owners = {name for name in graph.modules if name.startswith("fcn_trt.cuda.")}
    elif file.suffix != ".py":
        owners = set()
    found: dict[str, set[str]] = {}
    for name, entries in ENTRIES.items():
        first = None
        for number, modules in enumerate(entries.values()):
            run = {m for e in modules for m in (e, *graph.find_upstream_modules(e))}
            run |= {m.rpartition(".")[0] for m in run}  # the packages that they lie in
            run |= {m.rpartition(".")[0] for m in run}
            run |= {"fcn_trt.version", "fcn_trt.pipeline.plan"}  # of the package; what calls them
            if owners & run and first is None:
                first = number
        found[name] = set() if first is None else set(list(entries)[first:])
    return found


def module_of(file: Path) -> str:
    parts = ("fcn_trt", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class TestCode:
    """What the code of the package is to the steps, on a copy of it that is edited."""

    @pytest.fixture
    def package(self, tmp_path, monkeypatch) -> Path:
        copy: Path = tmp_path / "fcn_trt"
        shutil.copytree(code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(code, "PACKAGE", copy)
        return copy

    def test_each_file_that_is_edited_changes_exactly_the_steps_that_import_it(
        self, package, monkeypatch, tiny_network
    ):
        graph = grimp.build_graph("fcn_trt", cache_dir=None, exclude_type_checking_imports=True)
        plans = plans_of_all_kinds(tiny_network)
        before = {name: keys_of(plan) for name, plan in plans.items()}
        wrong = []
        for file in sorted(path for path in package.rglob("*") if path.is_file()):
            expected = steps_that_run(file.relative_to(package), graph)
            content = file.read_bytes()
            file.write_bytes(content + b"\n# edited\n")
            for name, plan in plans.items():
                after = keys_of(plan)
                changed = {step for step, key in after.items() if key != before[name][step]}
                # Whatever comes behind a step that is done again is done again, too.
                wanted = expected[name]
                if changed != wanted:
                    wrong.append((str(file), name, changed, wanted))
            file.write_bytes(content)
        assert wrong == []

    def test_edited_kernel_rebuilds_what_carries_kernels_and_says_why(self, recipe, package):
        pytest.importorskip("tensorrt_rtx")
        device = 'compute_capability = "8.6"'
        gpu = recipe("gpu", target="tensorrt-rtx", precision="fp32", device=device)
        cpu = recipe("cpu")
        build(gpu), build(cpu)
        with (package / "cuda" / "kernels" / "decode.cu").open("a") as file:
            file.write("// edited\n")
        done = build(gpu)
        assert (made(done), reasons(done)) == (["build"], {"fcn_trt's code changed"})
        assert made(build(cpu)) == []

    def test_reason_says_so(self, recipe, package):
        path = recipe()
        build(path)
        (package / "precision" / "half.py").write_text("")
        done = build(path)
        assert made(done) == ["type", "build"]
        assert reasons(done) == {"fcn_trt's code changed"}


def test_cache_that_cannot_be_made_is_missed_only_when_something_is_built(recipe, monkeypatch):
    path = recipe()
    build(path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/x")
    assert made(build(path)) == []
    with pytest.raises(OutputError, match=r"^/proc/x/fcn_trt/networks cannot be made: .*; set XDG"):
        build(recipe(size="64x128"))


class TestDamage:
    def test_network_that_was_damaged_in_the_cache_is_made_again(self, recipe, cache):
        path = recipe()
        bundle = build(path).bundle
        for network in cache.glob("*.onnx"):
            network.write_bytes(network.read_bytes()[:-1])
        shutil.rmtree(bundle.path)
        done = build(path)
        assert made(done) == ["export", "type", "build"]
        assert [step.reason for step in done.steps] == [
            "damaged in the cache",
            "damaged in the cache",
            "not built before",
        ]

    @pytest.mark.parametrize("name", ["network.onnx", "manifest.json"])
    def test_bundle_that_was_altered_is_built_again(self, recipe, name):
        path = recipe()
        file = build(path).bundle.path / name
        file.write_bytes(file.read_bytes()[:-2])
        done = build(path)
        assert made(done) == ["build"]
        assert reasons(done) == {"the bundle there is incomplete, altered or of another format"}
        assert load_bundle(done.bundle.path) == done.bundle

    def test_bundle_that_no_recipe_made_is_replaced(self, recipe, tiny_bundle):
        path = recipe()
        shutil.copytree(tiny_bundle.path, path.with_suffix(""))
        done = build(path)
        assert done.steps[2].reason == "the bundle there is made from something else"


def build_until_rename(path: Path, number: int) -> None:
    """Be killed before a file or folder, counted from 1, gets its final name."""
    renames = []

    def kill(event: str, arguments: Any) -> None:
        if event == "os.rename" and not str(arguments[1]).endswith(".blob"):
            renames.append(arguments)
            if len(renames) == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    build(path)


class TestProcesses:
    def test_two_at_once_leave_one_whole_bundle(self, recipe):
        path = recipe()
        both = [start(build, path) for _ in range(2)]
        assert [end_of(process) for process in both] == [0, 0]
        assert made(build(path)) == []
        assert sorted(p.name for p in path.parent.iterdir()) == [
            "street",
            "street.pth",
            "street.toml",
        ]

    @pytest.mark.parametrize(
        ("rename", "networks", "then"),
        [
            (1, 0, ["export", "type", "build"]),  # to the FP32 ONNX
            (4, 2, ["type", "build"]),  # to the record of the typed ONNX
            (5, 2, ["build"]),  # to the bundle
        ],
    )
    def test_killed_one_leaves_nothing_that_is_not_whole(
        self, recipe, cache, rename, networks, then
    ):
        path = recipe()
        assert end_of(start(build_until_rename, path, rename)) == -signal.SIGKILL
        assert not path.with_suffix("").exists()
        assert len([p for p in cache.glob("*.onnx") if not p.name.startswith(".")]) == networks
        assert made(build(path)) == then


class TestRefusedBeforeLongWork:
    @pytest.fixture(autouse=True)
    def nothing_is_made(self, cache):
        yield
        assert list(cache.glob("*.onnx")) == []

    def test_model_that_is_neither_known_nor_a_file(self, recipe):
        with pytest.raises(
            RecipeError,
            match=r"street\.toml is not valid at model: .*fcn_r19-d8.*; `fcn-trt models` lists",
        ):
            build(recipe(model="fcn_r19-d8", weights=None))

    def test_weights_beside_a_file_that_carries_its_own(self, recipe):
        message = r"is not valid at weights: .*street\.pth is a checkpoint itself; leave them out"
        with pytest.raises(RecipeError, match=message):
            build(recipe(model="street.pth"))

    def test_weights_that_are_not_there(self, recipe):
        with pytest.raises(WeightsError, match=r"/engines/gone\.pth is neither a file nor a publ"):
            build(recipe(weights="gone.pth"))

    @pytest.mark.parametrize("model", ["fcn_r18-d8", "fcn_r18-d8_512x1024_80k_cityscapes"])
    def test_output_that_holds_other_files_before_weights_are_downloaded(self, recipe, model):
        path = recipe(model=model, weights=None, labels=None)
        path.with_suffix("").mkdir()
        (path.with_suffix("") / "one.jpg").write_text("mine")
        with pytest.raises(BundleError, match=r"street holds files that are no bundle's, such as"):
            build(path)

    def test_output_that_holds_other_files(self, recipe, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "one.jpg").write_text("mine")
        with pytest.raises(BundleError, match=r"photos holds files that are no bundle's, such as"):
            build(recipe(output="../photos"))

    def test_precision_that_this_cpu_does_not_compute(self, recipe):
        from fcn_trt.engine.openvino.builder import computes

        if computes("fp16"):
            pytest.skip("this CPU computes FP16")
        message = r"street\.toml cannot be built here: fp16 was asked for, which OpenVINO"
        with pytest.raises(EngineError, match=message):
            build(recipe(precision="fp16"))

    @pytest.mark.skipif(this_machine().gpu is not None, reason="this machine has a GPU")
    def test_tensorrt_where_there_is_no_gpu(self, recipe):
        message = (
            r"street\.toml cannot be built here: TensorRT compiles on the GPU that the engine is "
            r"for, and this machine has none \(.*\); build it on that device"
        )
        with pytest.raises(EngineError, match=message):
            build(recipe(target="tensorrt", device='compute_capability = "8.7"'))

    def test_tensorrt_for_another_gpu(self, recipe, monkeypatch):
        fake_gpu = Gpu(name="Orin", compute_capability="8.7", memory_bytes=8 << 30, integrated=True)
        for module in ("pipeline.plan", "engine.tensorrt.device"):
            monkeypatch.setattr(f"fcn_trt.{module}.this_machine", lambda: Machine(gpu=fake_gpu))
        message = (
            r"street\.toml cannot be built here: an engine for compute capability 11\.0 was asked "
            r"for, but the Orin here has 8\.7, .*; build it on that device"
        )
        with pytest.raises(EngineError, match=message):
            build(recipe(target="tensorrt", device='compute_capability = "11.0"'))


def test_watcher_hears_of_each_step_in_order(recipe):
    path = recipe()
    heard: list[object] = []

    def begin(name: str, reason: str) -> None:
        heard.append((name, reason))

    build_recipe(read_recipe(path), watcher=Watcher(on_begin=begin, on_step=heard.append))
    names = [h[0] if isinstance(h, tuple) else h for h in heard]
    reports = [h for h in heard if isinstance(h, StepReport)]
    assert names[::2] == list(STEPS)
    assert [report.name for report in reports] == list(STEPS)
    assert reports[0].describe().startswith("export: made in ")
    assert reports[0].describe().endswith(" s (not in the cache)")
