import pytest
import torch

from fcn_trt.errors import CheckpointError
from fcn_trt.model.stored_tensor import Storage, StoredTensor


def stored(shape, strides, offset=0, *, numbers=6):
    data = torch.arange(float(numbers)).numpy().tobytes()
    storage = Storage("float32", memoryview(data))
    return StoredTensor(
        dtype="float32", shape=shape, strides=strides, offset=offset, storage=storage
    )


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((2, 3), (3, 1), 0), ((3, 2), (1, 3), 0), ((2,), (2,), 3), ((), (), 5), ((2, 2), (1, 1), 1)],
)
def test_values_are_those_of_the_view(shape, strides, offset):
    expected = torch.arange(6.0).as_strided(shape, strides, offset)
    found = stored(shape, strides, offset).read()
    assert torch.equal(found, expected)
    assert found.is_contiguous()


def test_values_are_in_memory_of_their_own():
    tensor = stored((6,), (1,))
    tensor.read().zero_()
    assert tensor.read()[5] == 5


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 1 << 40)])
def test_tensor_without_elements_is_read(shape):
    assert stored(shape, (1 << 40,) * len(shape), 1 << 50, numbers=0).fault is not None
    assert stored(shape, (1,) * len(shape), numbers=0).read().shape == shape


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((7,), (1,), 0),
        ((7,), (0,), 0),  # one number for seven
        ((2,), (0,), 0),
        ((1 << 40,), (0,), 0),
        ((1 << 31, 1 << 31), (0, 0), 0),
        ((3, 3), (1, 1), 0),  # windows that overlap
        ((6,), (1,), 1),
        ((2,), (6,), 0),
        ((2,), (1 << 62,), 0),
        ((), (), 6),
    ],
)
def test_what_the_file_does_not_store_is_refused(shape, strides, offset):
    tensor = stored(shape, strides, offset)
    assert "claims to be float32" in str(tensor.fault)
    with pytest.raises(CheckpointError, match="stores 6 numbers for it"):
        tensor.read()


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64", "qint8"])
def test_other_values_than_real_numbers_are_refused(dtype):
    tensor = StoredTensor(
        dtype=dtype, shape=(1,), strides=(1,), storage=Storage(dtype, memoryview(bytes(16)))
    )
    with pytest.raises(CheckpointError, match=f"holds {dtype} values"):
        tensor.read()
