import argparse
import collections
import io
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch

from fcn_trt.model import archive as archive_module
from fcn_trt.model.inert_pickle import DamagedError
from fcn_trt.model.stored_tensor import StoredTensor
from fcn_trt.model.torch_file import read_torch_file
from tests.model.pickles import archive, called, text


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def flat(content, prefix=""):
    """Every tensor in dicts, lists and tuples, by where it is."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in pairs:
        if isinstance(value, dict | list | tuple):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor | StoredTensor):
            yield f"{prefix}{key}", value


def assert_same(data, expected):
    """Bit by bit what torch.load reads."""
    found, tensors = dict(flat(read_torch_file(data))), dict(flat(expected))
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        claim = found[name]
        assert (claim.shape, f"torch.{claim.dtype}") == (tuple(tensor.shape), str(tensor.dtype))
        if tensor.is_floating_point():
            assert torch.equal(claim.read(), tensor.float())


def content():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 6, generator=generator)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    network[0].weight.extra = 5
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 3, 4, 4)).sum().backward()
    optimiser.step()
    types = ["float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2", "int64", "uint8"]
    return {
        "state_dict": network.state_dict(),
        "parameters": dict(network.named_parameters()),
        "types": {name: matrix.to(getattr(torch, name)) for name in types},
        "views": [matrix, matrix.t(), matrix[1:3, ::2], matrix[2], matrix.flatten()[5:7]],
        "last": matrix.to(memory_format=torch.preserve_format)[None, None].contiguous(
            memory_format=torch.channels_last
        ),
        "sizes": {"none": torch.empty(0, 3), "one": torch.tensor(2.5), "size": matrix.size()},
        "optimizer": optimiser.state_dict(),
        "hyper_parameters": collections.OrderedDict(lr=0.1, args=argparse.Namespace(a=[1])),
        "callbacks": {"best": np.float64(0.5), "curve": np.arange(5), "seen": {1, 2}},
        "rng": [torch.get_rng_state()],
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_everything_is_what_torch_saved(protocol, legacy):
    options = {"_use_new_zipfile_serialization": not legacy, "pickle_protocol": protocol}
    expected = content()
    if legacy:
        del expected["types"]  # there one storage has one type
    assert_same(saved(expected, **options), expected)


def test_trained_checkpoints_are_what_torch_loads(shared_data):
    for path in (shared_data / "checkpoints").glob("*.pth"):
        assert_same(path.read_bytes(), torch.load(path, weights_only=True, mmap=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("convert", "kind"),
    [
        (torch.Tensor.to_sparse, "sparse_coo"),
        (torch.Tensor.to_sparse_csr, "sparse_csr"),
        (lambda t: t.to("meta"), "meta"),
        (lambda t: torch.nested.nested_tensor([t, t]), "nested"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "qint8"),
        (
            lambda t: torch.quantize_per_channel(
                t, torch.ones(2), torch.zeros(2), axis=0, dtype=torch.quint8
            ),
            "quint8",
        ),
        (lambda t: t.to(torch.complex64), "complex64"),
        (lambda t: t > 0, "bool"),
        (lambda t: t.to(torch.uint16), "uint16"),
    ],
)
def test_tensors_of_other_kinds_say_what_they_are(convert, kind):
    found = read_torch_file(saved({"a": convert(torch.eye(2))}))["a"]
    assert found.fault == f"holds {kind} values instead of plain numbers"


class TestArchive:
    DATA = saved({"a": torch.ones(4)})

    def altered(self, old, new, count=-1):
        assert old in self.DATA
        return self.DATA.replace(old, new, count)

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (archive(b"}", compression=zipfile.ZIP_DEFLATED), "compressed"),
            (archive(b"}", order=b"big"), "order of bytes"),
            (DATA[:-30], "no readable directory"),
            (DATA[:60] + DATA[160:], "records|directory"),
        ],
    )
    def test_archives_of_others_are_refused(self, data, what):
        with pytest.raises(DamagedError, match=what):
            read_torch_file(data)

    def repacked(self, names):
        file = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as packed:
            warnings.simplefilter("ignore")
            for name in names:
                packed.writestr(name, b"\x80\x02}.")
        return file.getvalue()

    @pytest.mark.parametrize(
        ("names", "what"),
        [
            (["a/data.pkl", "a/data.pkl"], "there twice"),
            (["a/data.pkl", "b/data.pkl"], "2 pickles"),
            (["a/x"], "0 pickles"),
        ],
    )
    def test_one_pickle_is_needed(self, names, what):
        with pytest.raises(DamagedError, match=what):
            read_torch_file(self.repacked(names))

    def test_records_that_overlap_are_refused(self):
        data = bytearray(self.repacked(["a/data.pkl", "a/x"]))
        entry = data.rindex(b"PK\x01\x02")
        data[entry + 42 : entry + 46] = bytes(4)  # where its record begins
        with pytest.raises(DamagedError, match="overlap"):
            read_torch_file(bytes(data))

    def test_record_beyond_the_end_is_refused(self):
        data = bytearray(self.repacked(["a/data.pkl"]))
        entry = data.rindex(b"PK\x01\x02")
        data[entry + 20 : entry + 28] = struct.pack("<II", 1 << 20, 1 << 20)
        with pytest.raises(DamagedError, match="cut off"):
            read_torch_file(bytes(data))

    def test_size_of_the_directory_is_bounded(self, monkeypatch):
        monkeypatch.setattr(archive_module, "MAX_DIRECTORY_BYTES", 100)
        with pytest.raises(DamagedError, match="no readable directory"):
            read_torch_file(self.DATA)

    @pytest.mark.parametrize(
        ("kind", "elements"),
        [
            ("torch.FloatStorage", b"K\x05"),  # of which four are there
            ("torch.FloatStorage", b"J\xff\xff\xff\xff"),
            ("torch.FloatStorage", b"N"),
            ("torch.FloatStorage", b"\x8a\x10" + b"\xff" * 15 + b"\x7f"),
            ("torch.device", b"K\x01"),
        ],
    )
    def test_storage_of_another_size_is_damage(self, kind, elements):
        module, _, name = kind.rpartition(".")
        storage = (
            *(b"(", text("storage"), f"c{module}\n{name}\n".encode(), text("0"), text("cpu")),
            *(elements, b"tQ"),
        )
        with pytest.raises(DamagedError):
            read_torch_file(archive(b"".join(storage), data={"0": bytes(16)}))


class TestSequence:
    DATA = saved({"a": torch.ones(4)}, _use_new_zipfile_serialization=False)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"\x04\0\0\0\0\0\0\0\0\0\x80?", b"\x05\0\0\0\0\0\0\0\0\0\x80?"),
            (b"\x04\0\0\0\0\0\0\0\0\0\x80?", b"\xff" * 8 + b"\0\0\x80?"),
            (b"M\xe9\x03", b"M\xe8\x03"),  # version
            (b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        ],
    )
    def test_altered_file_is_damage(self, old, new):
        assert old in self.DATA
        with pytest.raises(DamagedError):
            read_torch_file(self.DATA.replace(old, new))

    def test_cut_file_is_damage(self):
        for length in range(0, len(self.DATA) - 1, 9):
            with pytest.raises(DamagedError):
                read_torch_file(self.DATA[:length])

    def test_part_of_a_storage_is_its_view(self):
        kind = b"ctorch\nFloatStorage\n"
        view = b"(" + text("storage") + kind + text("k") + text("cpu") + b"K\x04"
        view += b"(" + text("v") + b"K\x01K\x02ttQ"
        tensor = called("torch._utils._rebuild_tensor_v2", view, b"K\0", b"K\x02\x85", b"K\x01\x85")
        start = self.DATA.index(b"\x80\x02", self.DATA.index(b"little_endian"))
        data = self.DATA[:start] + b"\x80\x02}" + text("a") + tensor + b"s."
        data += b"\x80\x02]" + text("k") + b"a." + struct.pack("<q4f", 4, 1, 2, 3, 4)
        assert read_torch_file(data)["a"].read().tolist() == [2, 3]
