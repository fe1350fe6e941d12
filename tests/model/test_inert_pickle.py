import argparse
import collections
import os
import pickle  # noqa: TID251  # what is written here is read as data
import struct

import numpy as np
import pytest

from fcn_trt.model import inert_pickle
from fcn_trt.model.inert_pickle import DamagedError, Inert, RefusedNameError, kind_of, read_pickle
from fcn_trt.model.stored_tensor import Storage, StoredTensor
from tests.model.pickles import BEGIN, called, named, text

PROTOCOLS = range(2, 6)
STORAGE = b"(" + text("storage") + b"NNNNtQ"


def read(data):
    value, end = read_pickle(
        memoryview(data), 0, lambda *_: Storage("float32", memoryview(bytes(24)))
    )
    assert end <= len(data)
    return value


def run(*instructions):
    return read(BEGIN + b"".join(instructions) + b".")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_are_what_they_were(protocol):
    shared = ["a", 1]
    value = {
        "text": "ä€😀",
        "long": "x" * 300,
        "numbers": [0, -1, 255, 65536, 1 << 40, -(1 << 90), 0.5, float("inf")],
        "constants": (None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "shared": (shared, shared),
        None: {},
        7: {"nested": {"deep": []}},
        True: "key",
    }
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_dicts_of_any_class_are_dicts(protocol):
    value = [collections.OrderedDict(a=1, b=2), collections.Counter("aab")]
    assert read(pickle.dumps(value, protocol)) == [{"a": 1, "b": 2}, {"a": 2, "b": 1}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_no_plain_value_is_inert(protocol):
    values = [
        *(np.ones(3), np.float64(2), np.dtype("f4"), argparse.Namespace(lr=1)),
        *(b"bytes", bytearray(b"x"), {1, 2}, 1j, 1 << 999, "x" * (1 << 20)),
    ]
    found = read(pickle.dumps(values, protocol))
    kinds = [kind_of(value) for value in found]
    assert all(isinstance(value, Inert) for value in found)
    assert kinds[1].endswith("multiarray.scalar")
    assert kinds[2:4] == ["numpy.dtype", "argparse.Namespace"]


def test_value_that_holds_itself_is_read():
    value: list[object] = []
    value.append((value,))
    found = read(pickle.dumps(value, 4))
    assert found[0][0] is found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("function", [os.system, eval, np.load, pickle.loads, open])
def test_name_on_no_list_is_refused_by_its_name(function, protocol):
    with pytest.raises(RefusedNameError, match=rf"\.{function.__name__}$"):
        read(pickle.dumps({"a": [function]}, protocol))


@pytest.mark.parametrize(
    "instructions",
    [
        called("numpy.ndarray", b"(K\x02t"),  # whose state would be a pointer
        called("builtins.getattr", text("x"), text("__class__")),
        called("builtins.bytearray", b"\x8a\x08" + struct.pack("<q", 1 << 60)),
        called("_codecs.encode", text("x"), text("rot13")),
        called("torch.device", text("cuda")),
    ],
)
def test_calls_make_nothing(instructions):
    assert isinstance(run(instructions, b"}b"), Inert)


class TestTensors:
    def view(self, offset=b"K\0", shape=b"K\x02K\x03\x86", strides=b"K\x03K\x01\x86", rest=b""):
        return called("torch._utils._rebuild_tensor_v2", STORAGE, offset, shape, strides, rest)

    def test_tensor_is_described(self):
        found = run(self.view(offset=b"K\x01"))
        assert (found.dtype, found.shape, found.strides, found.offset) == (
            *("float32", (2, 3), (3, 1)),
            1,
        )

    @pytest.mark.parametrize(
        "changed",
        [
            {"shape": b"K\x02\x85"},  # fewer than strides
            {"shape": b"J\xff\xff\xff\xffK\x03\x86"},
            {"shape": b"\x8a\x09" + bytes(8) + b"\x01K\x03\x86"},
            {"shape": b"NK\x03\x86"},
            {"shape": b"]"},
            {"shape": b"(" + b"K\x01" * 9 + b"t", "strides": b"(" + b"K\x01" * 9 + b"t"},
            {"offset": b"\x88"},
            {"strides": text("ab")},
            {"rest": b"N" * 20},
        ],
    )
    def test_sizes_that_are_none_are_damage(self, changed):
        with pytest.raises(DamagedError):
            run(self.view(**changed))

    def test_tensor_of_no_storage_is_damage(self):
        with pytest.raises(DamagedError, match="without a storage"):
            run(called("torch._utils._rebuild_tensor_v2", *[b"}", b"K\0", b")", b")"]))

    def test_class_of_its_own_is_rebuilt_once(self):
        outer = called(
            "torch._tensor._rebuild_from_type_v2",
            named("torch._tensor._rebuild_from_type_v2") + b"NN}\x86\x86",
        )
        with pytest.raises(DamagedError):
            run(outer)


@pytest.mark.parametrize(
    "instructions",
    [
        *(b"", b"0", b"(0", b"a", b"e", b"(K\x01e", b"s", b"}(Nu", b"t", b"R"),
        *(b"NNR", b"Nb", b"]}b", b"h\x05", b"Q", b"NQ", b"N\x85Q"),
        *(b"}\x85b", b"NN\x93", text("a") + b"N\x93", b"NN)\x81", b"2", b"I1\n", b"S'a'\n", b"V\n"),
        *(b"\x82\x01", b"P1\n", b"\x97", b"\x98", b"X\xff\xff\xff\xff", b"\x8d" + b"\xff" * 8),
        *(b"\x96" + b"\xff" * 8, b"cos", b"c" + b"x" * 999),
    ],
)
def test_instructions_that_do_not_fit_are_damage(instructions):
    with pytest.raises(DamagedError, match="its pickle"):
        run(instructions)


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        *((b"N", True), (b"\x88", True), (text("a"), True), (b"K\x07", True)),
        *((b"\x8a\x07" + bytes(6) + b"\x20", False), (b"G" + bytes(8), False)),
        *((b")", False), (b"]", False), (b"}", False), (b"C\x01a", False)),
    ],
)
def test_keys_whose_hashes_can_be_chosen_are_left(key, kept):
    assert len(run(b"}", key, b"Ns")) == kept


class TestBounds:
    @pytest.mark.parametrize("repeated", [b"}", b"]", b"(", b"N\x94", b"N\x85", b"N0", b"]Na"])
    def test_number_of_instructions(self, repeated, monkeypatch):
        monkeypatch.setattr(inert_pickle, "MAX_INSTRUCTIONS", 1000)
        with pytest.raises(DamagedError, match="over 1000 instructions"):
            run(repeated * 1001)

    def test_pairs_that_are_counted_each_time(self, monkeypatch):
        monkeypatch.setattr(inert_pickle, "MAX_INSTRUCTIONS", 1000)
        pairs = b"](" + b"NN\x86" * 100 + b"eq\x01"
        with pytest.raises(DamagedError, match="over 1000 instructions"):
            run(pairs, b"(", (named("collections.OrderedDict") + b"h\x01\x85R") * 20, b"t")

    def test_bytes(self, monkeypatch):
        monkeypatch.setattr(inert_pickle, "MAX_PICKLE_BYTES", 1000)
        with pytest.raises(DamagedError, match="over 1000 bytes"):
            run(text("x" * 1001))

    def test_text(self, monkeypatch):
        monkeypatch.setattr(inert_pickle, "MAX_ALL_TEXT_BYTES", 1000)
        with pytest.raises(DamagedError, match="over 1000 bytes of text"):
            run(b"(", text("x" * 300) * 4, b"t")

    def test_depth_needs_no_stack(self):
        value = run(b"N", b"\x85" * 10_000)
        assert isinstance(value, tuple)


def test_half_a_surrogate_pair_becomes_text_that_can_be_written():
    run(text("\ud800")).encode()


def test_tensor_is_called_one():
    assert kind_of(StoredTensor(dtype="float32", shape=())) == "tensor"
