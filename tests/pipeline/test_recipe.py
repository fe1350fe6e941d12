import itertools
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import FcnTrtError, PlanError, RecipeError
from fcn_trt.labels import label_set
from fcn_trt.model.architecture import ARCHITECTURES
from fcn_trt.model.weights import NO_TRUST, Trust, registry
from fcn_trt.pipeline.plan import Compile, Export, Plan, Type, float_beside
from fcn_trt.pipeline.recipe import Recipe, read_recipe
from fcn_trt.pipeline.run import run
from fcn_trt.spec import ShapeRange
from tests.plans import as_network

ENGINES = Path(__file__).parents[2] / "engines"
LADDER = {"256x512": (256, 512), "512x1024": (512, 1024), "1024x2048": (1024, 2048)}
DEVICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "orin-nano": ("tensorrt", ("8.7",)),
    "orin-nx": ("tensorrt", ("8.7",)),
    "agx-orin": ("tensorrt", ("8.7",)),
    "thor": ("tensorrt", ("11.0",)),
    "rtx-desktop": ("tensorrt-rtx", ("8.6", "8.9", "12.0")),
    "cpu": ("openvino", ()),
}
MODEL = 'model = "fcn_r18-d8"\n'
WHOLE = """
model = "fcn_r18-d8"
size = "512x1024"
precision = "fp16"
target = "tensorrt"
"""


@pytest.fixture
def read(tmp_path):
    """Read a recipe that has this text."""

    def from_text(text: str) -> Recipe:
        path = tmp_path / "street.toml"
        path.write_text(text, encoding="utf-8")
        return read_recipe(path)

    return from_text


@pytest.fixture
def refusal(read):
    """What is said about a recipe that has this text, without its folder."""

    def of_text(text: str) -> str:
        with pytest.raises(RecipeError) as caught:
            read(text)
        assert "\n" not in str(caught.value)
        return str(caught.value).partition("/street.toml ")[2]

    return of_text


def whole(**keys: Any) -> str:
    """The shortest recipe with other values of some top-level keys."""
    lines = dict(line.split(" = ") for line in WHOLE.split("\n") if line)
    return "\n".join(f"{key} = {value}" for key, value in (lines | keys).items() if value) + "\n"


PUBLISHED = sorted(ENGINES.glob("*_*[0-9]x[0-9]*.toml"))
"""Recipes of published weights."""


class TestRecipesOfTheRepository:
    def test_there_is_one_for_each_device_and_size(self):
        names = {path.stem for path in ENGINES.glob("*.toml")}
        ladder = {f"{device}_{size}" for device in DEVICES for size in LADDER}
        quantised = {"demo_cpu_int8", "demo_rtx_int8", "demo_rtx_fp8"}
        assert names == ladder | quantised | {"demo_cpu", "demo_rtx"}

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("size", LADDER)
    def test_each_says_what_its_name_says(self, device, size):
        recipe = read_recipe(ENGINES / f"{device}_{size}.toml")
        assert recipe.export
        assert recipe.type
        assert recipe.compile
        assert recipe.export.size == LADDER[size]
        found = (recipe.compile.target, recipe.compile.options.compute_capabilities)
        assert found == DEVICES[device]
        assert recipe.output == ENGINES / f"{device}_{size}"
        assert recipe.type.precision in ("fp32", "fp16", "bf16")

    @pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
    def test_weights_are_published_for_the_model(self, path):
        step = read_recipe(path).export
        assert step is not None
        assert step.model in ARCHITECTURES
        assert step.weights in {w.name for w in registry() if w.model == step.model}

    @pytest.mark.parametrize(
        "device", [d for d, (target, _) in DEVICES.items() if target == "tensorrt"]
    )
    def test_memory_that_the_cpu_shares_is_limited(self, device):
        for size in LADDER:
            step = read_recipe(ENGINES / f"{device}_{size}.toml").compile
            assert step is not None
            assert step.options.workspace_bytes

    @pytest.mark.parametrize("name", ["demo_cpu", "demo_rtx"])
    def test_demo_needs_nothing_but_the_repository(self, name):
        step = read_recipe(ENGINES / f"{name}.toml").export
        assert step is not None
        assert Path(step.model).is_file()


def test_shortest_recipe_takes_the_defaults(read, tmp_path):
    recipe = read(WHOLE)
    assert recipe.export == Export(model="fcn_r18-d8", size=(512, 1024))
    assert recipe.type == Type(precision="fp16")
    assert recipe.compile == Compile(target="tensorrt")
    assert recipe.output == tmp_path / "street"


def test_every_key_is_read_and_paths_are_relative_to_the_recipe(read, tmp_path):
    recipe = read(
        """
        model = "run.onnx"
        labels = "camvid"
        onnx_output = "aux"
        size = "256x512"
        batch = 2
        precision = "fp16"
        target = "tensorrt"
        output = "../built/street"
        images = "photos"
        [dynamic]
        min_size = "128x256"
        max_size = "512x1024"
        max_batch = 4
        [device]
        name = "Orin"
        compute_capability = "8.7"
        workspace = "512MiB"
        tactic_memory = "1GiB"
        optimization_level = 4
        version_compatible = true
        hardware_compatibility = "ampere_plus"
        strip = true
        timing_cache = false
        """
    )
    assert recipe == Recipe(
        path=tmp_path / "street.toml",
        model=tmp_path / "run.onnx",
        export=Export(
            model=str(tmp_path / "run.onnx"),
            labels=label_set("camvid"),
            images=str(tmp_path / "photos"),
            output="aux",
            size=(256, 512),
            batch=2,
            min_size=(128, 256),
            max_size=(512, 1024),
            max_batch=4,
        ),
        type=Type(precision="fp16", images=tmp_path / "photos"),
        compile=Compile(
            target="tensorrt",
            options=BuildOptions(
                compute_capabilities=("8.7",),
                workspace_bytes=1 << 29,
                tactic_bytes=1 << 30,
                optimization_level=4,
                version_compatible=True,
                hardware_compatibility="ampere_plus",
                strip=True,
                timing_cache=False,
            ),
        ),
        device="Orin",
        output=tmp_path / "../built/street",
    )
    assert recipe.export is not None
    dynamic = ShapeRange(min_size=(128, 256), max_size=(512, 1024), min_batch=2, max_batch=4)
    assert recipe.export.dynamic == dynamic
    assert recipe.compile is not None
    default = BuildOptions()
    for option in fields(BuildOptions):  # none was forgotten, here or in [device]
        assert getattr(recipe.compile.options, option.name) != getattr(default, option.name)


def test_several_gpus_are_a_list(read):
    recipe = read(
        whole(target='"tensorrt-rtx"') + '[device]\ncompute_capability = ["8.6", "12.0"]\n'
    )
    assert recipe.compile is not None
    assert recipe.compile.options.compute_capabilities == ("8.6", "12.0")


class TestUnknownKey:
    def test_it_is_named_with_the_nearest_and_all_that_are_allowed(self, refusal):
        assert refusal(whole(percision='"fp16"')) == (
            "has an unknown key: percision (did you mean precision?); allowed there are model, "
            "weights, weights_sha256, labels, onnx_output, size, batch, precision, target, output, "
            "calibration, method, keep_float, images, mean, std, scale, input_colour, threshold, "
            "ema, ignore, check, accept, dynamic, device"
        )

    def test_in_a_table_it_is_named_with_the_keys_of_that_table(self, refusal):
        assert refusal(WHOLE + "[device]\nworkspce = '1GiB'\n") == (
            "has an unknown key: device.workspce (did you mean device.workspace?); allowed in "
            "[device] are name, compute_capability, workspace, tactic_memory, optimization_level, "
            "version_compatible, hardware_compatibility, strip, timing_cache"
        )

    def test_one_that_resembles_nothing_is_named_without_a_guess(self, refusal):
        assert refusal(WHOLE + "[dynamic]\nfoo = 1\n") == (
            "has an unknown key: dynamic.foo; allowed in [dynamic] are min_size, max_size, "
            "min_batch, max_batch"
        )

    def test_it_is_named_before_the_key_that_it_was_meant_for_is_missed(self, refusal):
        assert "unknown key: modle (did you mean model?)" in refusal(
            whole(model=None, modle='"fcn_r18-d8"')
        )


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("model", "it names an architecture, published weights, or a checkpoint or .onnx file"),
        ("size", "it is height x width in pixels, such as 512x1024"),
        ("precision", "it is one of fp32, fp16, bf16, int8, fp8"),
    ],
)
def test_missing_key_is_named_with_what_it_takes(refusal, key, meaning):
    assert refusal(whole(**{key: None})) == f"lacks the key {key!r}; {meaning}"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"precision": '"fp4"'}, "precision: 'fp4' is none of fp32, fp16, bf16, int8, fp8"),
        ({"target": '"tpu"'}, "target: 'tpu' is none of openvino, tensorrt, tensorrt-rtx"),
        (
            {"size": '"512"'},
            "size: size '512' is not HEIGHTxWIDTH in pixels, such as 512x1024",
        ),
        ({"size": "512"}, "size: 512 is not text, such as '512x1024'"),
        ({"batch": "0"}, "batch: 0 should be greater than or equal to 1"),
        ({"batch": '"2"'}, "batch: '2' should be a valid integer"),
        ({"batch": "true"}, "batch: True should be a valid integer"),
        ({"model": "18"}, "model: 18 should be a valid string"),
        ({"model": '""'}, "model: '' should have at least 1 character"),
        ({"device": '"Orin"'}, "device: 'Orin' is not a table"),
    ],
)
def test_value_that_is_not_valid_is_named_with_its_key(refusal, keys, sentence):
    assert refusal(whole(**keys)) == f"is not valid at {sentence}"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "compute_capability = 8.7",
            "at device.compute_capability: 8.7 is not text, such as '8.7', nor a list of such "
            "texts",
        ),
        (
            'compute_capability = "87"',
            "at device.compute_capability: compute capability '87' is not MAJOR.MINOR, such as 8.7",
        ),
        (
            "compute_capability = []",
            "at device.compute_capability: [] names no GPU; name one, or leave the key out",
        ),
        (
            'compute_capability = ["8.6", "8.9", "8.6"]',
            "at device.compute_capability: '8.6' is given twice; name each GPU once",
        ),
        (
            'compute_capability = ["8.7", "8.9"]',
            "at device.compute_capability: tensorrt compiles for the one GPU it runs on, and 2 are "
            "given",
        ),
        (
            'workspace = "512MB"',
            "at device.workspace: '512MB' is no amount of memory, such as 512MiB or 2GiB",
        ),
        ("workspace = 512", "at device.workspace: 512 is not text, such as '512MiB'"),
        ("optimization_level = 6", "in [device]: optimization_level is 6; it is 0 to 5"),
        ('strip = "yes"', "at device.strip: 'yes' should be a valid boolean"),
        (
            'hardware_compatibility = "all"',
            "at device.hardware_compatibility: 'all' is none of none, ampere_plus, "
            "same_compute_capability",
        ),
    ],
)
def test_limit_that_is_not_valid_is_named_with_its_key(refusal, line, sentence):
    assert refusal(f"{WHOLE}[device]\n{line}\n") == f"is not valid {sentence}"


@pytest.mark.parametrize(
    ("line", "key", "name"),
    [
        ('min_size = "512x1032"', "min_size", "size"),
        ('max_size = "504x2048"', "max_size", "size"),
        ("min_batch = 2", "min_batch", "batch"),
    ],
)
def test_dynamic_range_without_the_recipes_own_shape_is_refused(refusal, line, key, name):
    said = refusal(f"{WHOLE}[dynamic]\n{line}\n")
    assert said.startswith(f"is not valid at dynamic.{key}: the network's own {name}, ")
    assert said.endswith("which the engine is optimised for, lies outside")


def test_limits_of_tensorrt_are_refused_for_openvino(refusal):
    text = whole(target='"openvino"') + '[device]\nname = "CPU"\nworkspace = "1GiB"\n'
    assert refusal(text) == (
        "is not valid at device: limits of the device are for TensorRT; leave them out for openvino"
    )


def test_jetson_is_refused_for_tensorrt_rtx(refusal):
    text = whole(target='"tensorrt-rtx"') + '[device]\ncompute_capability = ["8.6", "8.7"]\n'
    assert refusal(text) == (
        "is not valid at device.compute_capability: TensorRT-RTX does not compile for 8.7; it "
        "knows 7.5, 8.0, 8.6, 8.9, 12.0, 12.1 (Jetsons are for the target tensorrt)"
    )


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"calibration": '"street.json"'},
            "calibration: only int8 and fp8 are calibrated; leave it out",
        ),
        ({"method": '"mse"'}, "method: only int8 and fp8 are calibrated; leave it out"),
        (
            {"keep_float": '["first"]'},
            "keep_float: only int8 and fp8 leave something in float; leave it out",
        ),
        (
            {"onnx_output": '"aux"'},
            "onnx_output: only an .onnx model has outputs to choose; leave it out",
        ),
    ],
)
def test_key_that_would_change_nothing_is_refused(refusal, keys, sentence):
    assert refusal(whole(**keys)) == f"is not valid at {sentence}"


class TestQuantisedPrecision:
    @pytest.mark.parametrize("precision", ["int8", "fp8"])
    def test_without_a_calibration_cache_it_is_refused_with_the_key(self, refusal, precision):
        said = refusal(whole(precision=f'"{precision}"'))
        assert said.startswith(f"is not valid at calibration: {precision} needs a cache")
        assert "`fcn-trt calibrate`" in said

    @pytest.mark.parametrize(("target", "rest"), [("openvino", "fp32"), ("tensorrt-rtx", "fp16")])
    def test_with_one_it_is_read(self, read, target, rest):
        device = '\n[device]\ncompute_capability = "8.9"\n' if target != "openvino" else ""
        keys = {
            "precision": '"fp8"',
            "target": f'"{target}"',
            "calibration": '"street.json"',
            "method": '"entropy"',
            "keep_float": '["first", "decode_head.conv_seg"]',
        }
        recipe = read(whole(**keys) + device)
        assert recipe.type == Type(
            precision="fp8",
            calibration=recipe.path.parent / "street.json",
            method="entropy",
            keep_float=frozenset({"first", "decode_head.conv_seg"}),
        )
        assert float_beside(recipe.compile and recipe.compile.target) == rest

    @pytest.mark.parametrize(
        ("keys", "sentence"),
        [
            ({"method": '"kl"'}, "method: 'kl' is none of entropy, minmax, percentile, mse"),
            ({"keep_float": "[]"}, "keep_float: [] "),
            ({"keep_float": '"first"'}, "keep_float: 'first' "),
        ],
    )
    def test_a_wrong_value_is_refused_with_its_key(self, refusal, keys, sentence):
        text = whole(precision='"int8"', calibration='"street.json"', **keys)
        assert refusal(text).startswith(f"is not valid at {sentence}")

    @pytest.mark.parametrize("calibration", [None, '"street.json"'])
    def test_fp8_is_refused_for_a_gpu_that_has_none(self, refusal, calibration):
        text = whole(precision='"fp8"', calibration=calibration)
        assert refusal(text + '[device]\ncompute_capability = "8.7"\n') == (
            "is not valid at precision: fp8 needs a GPU of compute capability 8.9 or more, but 8.7 "
            "was asked for; choose fp16"
        )


def test_file_that_is_no_toml_is_refused_with_the_line(refusal):
    assert refusal("model = \n") == "is not a TOML file: Invalid value (at line 1, column 9)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" + ".a" * 50_000 + " = 1", "has 50000 dots in line 1; at most 256 are read, as each "),
        ("[" + "a." * 50_000 + "a]", "has 50000 dots in line 1; at most 256 are read"),
        ("a = " + "[" * 20_000 + "]" * 20_000, "is nested too deeply"),
        ("a = " + "{a=" * 20_000 + "1" + "}" * 20_000, "is nested too deeply"),
        ("# " + "x" * (128 << 10), "cannot be read: at most 131072 bytes are read, and it has 13"),
        ("batch = " + "9" * 5000, "is not a TOML file: "),
        ("batch = 0x" + "f" * 100_000, "has a whole number of 400000 bits, not 64"),
        ("labels = {a = [0x8000000000000000]}", "has a whole number of 64 bits, not 64"),
        ("size = 9999-99-99", "is not a TOML file: "),
        (
            MODEL + "size = 1979-05-27",
            "is not valid at size: datetime.date(1979, 5, 27) is no",
        ),
        (MODEL + "mean = [1e999, nan, 1.0]", "is not valid at mean: "),
        (MODEL + "accept = nan", "is not valid at accept: nan "),
        ("model = " + repr(["x" * 1000] * 100), "is not valid at model: ['xxx"),
        ("x" * 100_000 + " = 1", "has an unknown key: xxxx"),
        (MODEL + "[labels]\n" + "x" * 100_000 + " = 1", "is not valid at labels."),
        ("".join(f"[a{i}]\n" for i in range(10_000)), "has an unknown key: a0; allowed there are"),
        (
            "".join(f"[[a]]\n[a.b{'.c' * 200}]\n" for _ in range(200)),
            "has an unknown key: a; allow",
        ),
        ("a = 1\na = 2", "is not a TOML file: Cannot overwrite a value"),
        ("\ufeffmodel = 1", "is not a TOML file: "),
        ("model = '\0'", "is not a TOML file: "),
    ],
    ids=itertools.count(),
)
def test_hostile_file_is_refused_in_a_sentence(refusal, text, message):
    said = refusal(text)
    assert said.startswith(message), said[:200]
    assert len(said) < 800


def test_file_of_other_bytes_is_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"model = '\xff'")
    with pytest.raises(RecipeError, match=r"a\.toml is not a TOML file: 'utf-8' codec can't decod"):
        read_recipe(tmp_path / "a.toml")


def test_missing_file_is_refused_as_an_error_of_this_package(tmp_path):
    with pytest.raises(FcnTrtError, match=r"gone\.toml cannot be read: No such file or directory"):
        read_recipe(tmp_path / "gone.toml")


def test_dynamic_range_beyond_every_bound_is_refused_with_its_table(refusal):
    said = refusal(WHOLE + "[dynamic]\nmax_batch = 99999999\n")
    assert said.startswith("is not valid at dynamic: ")
    assert "max_batch" in said


class TestBeginningAndEnd:
    """A recipe may begin with any of the three files, and end after any step."""

    @pytest.fixture
    def typed(self, tiny_network, tmp_path):
        pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
        plan = Plan(source=as_network(tiny_network), type=Type(precision="bf16"))
        return run(plan, tmp_path / "typed.onnx").network

    def test_fp32_network_begins_with_typing(self, read, tiny_network, tmp_path):
        shutil.copy(tiny_network, tmp_path / "m.onnx")
        plan = read('model = "m.onnx"\nprecision = "bf16"\ntarget = "tensorrt-rtx"\n').plan()
        assert [step.name for step in plan.steps] == ["type", "build"]

    def test_typed_network_needs_neither_precision_nor_size(self, read, typed):
        plan = read('model = "typed.onnx"\ntarget = "tensorrt-rtx"\n').plan()
        assert plan == Plan(source=typed, compile=Compile(target="tensorrt-rtx"))

    def test_typed_network_of_another_precision_is_refused(self, refusal, read, typed):
        recipe = read('model = "typed.onnx"\nprecision = "fp16"\ntarget = "tensorrt-rtx"\n')
        with pytest.raises(RecipeError, match=r"at precision: .*typed\.onnx is bf16 already; name"):
            recipe.plan()

    def test_typed_network_of_another_size_is_refused(self, read, typed):
        recipe = read('model = "typed.onnx"\nsize = "512x1024"\ntarget = "tensorrt-rtx"\n')
        with pytest.raises(RecipeError, match=r"at size: it says 512x1024, but .* has 64x96"):
            recipe.plan()

    def test_fp32_network_of_another_size_is_imported_again(self, read, tiny_network, tmp_path):
        shutil.copy(tiny_network, tmp_path / "m.onnx")
        plan = read('model = "m.onnx"\nsize = "96x128"\nprecision = "fp32"\n').plan()
        assert [step.name for step in plan.steps] == ["export", "type"]

    def test_network_from_elsewhere_takes_the_place_of_the_weights(self, read, typed):
        text = whole(size='"64x96"', precision='"bf16"', target='"tensorrt-rtx"')
        plan = read(text).plan(typed.path)
        assert plan == Plan(source=typed, compile=Compile(target="tensorrt-rtx"))

    def test_network_of_another_model_is_refused(self, read, typed):
        text = whole(model='"fcn_r50-d8"', size='"64x96"', precision='"bf16"')
        with pytest.raises(
            RecipeError, match=r"at model: it says fcn_r50-d8, but .* has fcn_r18-d8"
        ):
            read(text).plan(typed.path)

    def test_weights_that_are_published_must_be_the_networks(self, read, typed):
        name = "fcn_r18-d8_512x1024_80k_cityscapes"
        text = whole(weights=f'"{name}"', size='"64x96"', precision='"bf16"')
        with pytest.raises(RecipeError, match=f"at weights: it says {name}, but .* has random"):
            read(text).plan(typed.path)

    def test_without_a_target_it_ends_with_the_typed_network(self, read, tmp_path):
        recipe = read(whole(target=None))
        assert [step.name for step in recipe.plan().steps] == ["export", "type"]
        assert recipe.output == tmp_path / "street.onnx"

    def test_without_a_precision_besides_it_ends_with_the_fp32_network(self, read):
        assert [s.name for s in read(whole(target=None, precision=None)).plan().steps] == ["export"]

    @pytest.mark.parametrize(("target", "output"), [("tensorrt", "street.onnx"), (None, "street")])
    def test_output_of_the_other_kind_is_refused(self, refusal, target, output):
        said = refusal(whole(target=target and f'"{target}"', output=f'"{output}"'))
        assert said.startswith(f"is not valid at output: {output!r} does not fit ")

    def test_limits_without_a_target_are_refused(self, refusal):
        said = refusal(whole(target=None) + "[device]\nstrip = true\n")
        assert said.startswith("is not valid at device: ")

    def test_foreign_file_needs_a_size(self, read, tmp_path):
        (tmp_path / "zoo.onnx").write_bytes(b"no metadata of ours")
        recipe = read('model = "zoo.onnx"\nprecision = "fp16"\n')
        with pytest.raises(RecipeError, match=r"at size: .* is to be imported and needs one"):
            recipe.plan()

    def test_network_of_which_nothing_is_left_to_do_is_refused(self, read, typed):
        with pytest.raises(RecipeError, match="there is nothing to do"):
            read('model = "typed.onnx"\nprecision = "bf16"\n').plan()


HASHES = 'weights = "my.pth"\nweights_sha256 = "{}"\n'


class TestTrust:
    def test_hash_that_the_checkpoint_must_have_is_a_key(self, read):
        recipe = read(HASHES.format("a" * 64) + WHOLE)
        assert recipe.export.trust == Trust(sha256="a" * 64)
        assert read(WHOLE).export.trust == NO_TRUST

    @pytest.mark.parametrize("text", ["a" * 63, "A" * 64])
    def test_what_is_no_hash_is_refused(self, refusal, text):
        said = refusal(HASHES.format(text) + WHOLE)
        assert said.startswith(f"is not valid at weights_sha256: '{text}' is not the 64 digits")

    @pytest.mark.parametrize("size", ['"64x96"', ""])
    def test_onnx_file_has_none(self, refusal, size):
        said = refusal(f'weights_sha256 = "{"a" * 64}"\n' + whole(model='"m.onnx"', size=size))
        assert "not valid at weights_sha256: it is about a checkpoint" in said

    def test_who_builds_it_can_vouch_for_it(self, read):
        recipe = read(HASHES.format("a" * 64) + WHOLE)
        assert recipe.trusting(Trust(is_given=True)).export.trust == Trust(
            is_given=True, sha256="a" * 64
        )
        with pytest.raises(PlanError, match=f"it says {'a' * 64}, and {'b' * 64} was asked"):
            recipe.trusting(Trust(sha256="b" * 64))
        with pytest.raises(PlanError, match="it is about a checkpoint"):
            read(whole(model='"m.onnx"')).trusting(Trust(is_given=True))
