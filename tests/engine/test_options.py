import pytest

from fcn_trt.engine.options import BuildOptions, parse_bytes, parse_capability, require_capability


def test_options_that_nobody_gave_limit_nothing():
    options = BuildOptions()
    assert (options.workspace_bytes, options.tactic_bytes) == (None, None)
    assert (options.strip, options.version_compatible) == (False, False)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("compute_capabilities", ("87",), "'87' is not MAJOR.MINOR, such as 8.7"),
        ("compute_capabilities", ("8.6", "8.9", "8.6"), "8.6, 8.9, 8.6 names one twice; name each"),
        ("workspace_bytes", 1 << 63, r"workspace_bytes is \d+; it must be less than 2\*\*63"),
        ("tactic_bytes", 1 << 80, r"tactic_bytes is \d+; it must be less than 2\*\*63"),
        ("workspace_bytes", 0, "workspace_bytes is 0; it must be at least 1, or left out"),
        ("tactic_bytes", -1, "tactic_bytes is -1; it must be at least 1, or left out"),
        ("hardware_compatibility", "all", "it is one of none, ampere_plus, same"),
        ("optimization_level", 6, "optimization_level is 6; it is 0 to 5"),
    ],
)
def test_option_out_of_range_is_refused_with_its_name(key, value, message):
    with pytest.raises(ValueError, match=message):
        BuildOptions(**{key: value})


def test_largest_limit_is_taken():
    assert BuildOptions(workspace_bytes=(1 << 63) - 1).workspace_bytes == (1 << 63) - 1


def test_capabilities_compare_as_numbers():
    assert parse_capability("8.9") < parse_capability("12.0")
    assert parse_capability("8.7") == (8, 7)


@pytest.mark.parametrize("text", ["", "8", "8.7.1", "a.b", "-8.7", "8.\u0663"])
def test_text_that_is_no_capability_is_refused(text):
    with pytest.raises(ValueError, match=r"is not MAJOR\.MINOR"):
        parse_capability(text)


@pytest.mark.parametrize(
    ("precision", "least"), [("bf16", "8.0"), ("fp8", "8.9"), ("fp16", "7.5"), ("int8", "7.5")]
)
def test_precision_is_taken_from_the_first_gpu_that_has_it(precision, least):
    require_capability(precision, least)
    require_capability(precision, "12.0")


@pytest.mark.parametrize(
    ("precision", "capability", "least"), [("bf16", "7.5", "8.0"), ("fp8", "8.7", "8.9")]
)
def test_precision_that_a_gpu_lacks_is_refused(precision, capability, least):
    message = (
        f"{precision} needs a GPU of compute capability {least} or more, but {capability} was "
        "asked for; choose fp16"
    )
    with pytest.raises(ValueError, match=message):
        require_capability(precision, capability)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("1", 1), ("512MiB", 1 << 29), ("2 GiB", 1 << 31), (" 3KiB ", 3072), ("7B", 7)],
)
def test_memory_is_read_with_its_unit(text, amount):
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "MiB", "512MB", "1.5GiB", "-1", "0", "0MiB", "\u0663"])
def test_text_that_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(ValueError, match="is no amount of memory, such as 512MiB or 2GiB"):
        parse_bytes(text)
