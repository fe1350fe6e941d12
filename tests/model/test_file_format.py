import bz2
import gzip
import io
import lzma
import re
import tarfile
import warnings
import zipfile

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from fcn_trt.errors import CheckpointError
from fcn_trt.model.file_format import checkpoint_format
from fcn_trt.model.safe_load import read_checkpoint

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 141567418\n"


def torch_bytes(**options):
    file = io.BytesIO()
    torch.save({"a": torch.ones(2)}, file, **options)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("last.pth"))
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    return file.getvalue()


def npy():
    file = io.BytesIO()
    np.save(file, np.ones(2))
    return file.getvalue()


def empty_network():
    graph = onnx.helper.make_graph([], "g", [], [])
    return onnx.helper.make_model(graph).SerializeToString()


FOREIGN = {
    "is empty": b"",
    "is a Git LFS pointer": LFS,
    "is a web page": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
    "is an XML text": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "is a gzip archive": gzip.compress(torch_bytes()),
    "is a bzip2 archive": bz2.compress(torch_bytes()),
    "is an xz archive": lzma.compress(torch_bytes()),
    "is a Zstandard archive": b"\x28\xb5\x2f\xfd" + bytes(40),
    "is a 7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(40),
    "is a tar archive": tarred(),
    "is a zip archive": zipped(weights__last="x"),
    "is a NumPy archive": npz(),
    "is a NumPy array": npy(),
    "is an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "is a TensorFlow Lite": b"\x1c\0\0\0TFL3" + bytes(40),
    "is a TensorFlow SavedModel": b"\x08\x01\x12\x05" + bytes(40),
    "is a Keras model": zipped(**{"config.json": "{}", "model.weights.h5": "x"}),
    "is a torch.package": zipped(**{"m__.data__extern_modules": "", "m__model__model.pkl": ""}),
    "is an ONNX file": empty_network(),
    "is a plain pickle": b"\x80\x04\x95" + bytes(60),
    "is a text": '{"message": "nicht verfügbar"}'.encode(),
}


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("name", ["last.pth", "last.safetensors"])
def test_other_files_are_called_what_they_are(what, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FOREIGN[what])
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} {re.escape(what)}.*; ") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    assert "damaged" not in str(error.value)


@pytest.fixture(scope="module")
def layer():
    return torch.nn.Conv2d(1, 1, 1).eval()


def test_torchscript_is_refused_with_the_line_that_saves_its_weights(layer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.script(layer).save("script.pt")
    with pytest.raises(CheckpointError, match=r"is a TorchScript archive.*torch\.jit") as error:
        read_checkpoint(tmp_path / "script.pt")
    line = re.findall(r"torch\.save\(.*\)", str(error.value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(line[0], {"torch": torch})  # noqa: S102  # what the message tells to run
    assert read_checkpoint(tmp_path / "weights.pth").tensors.keys() == layer.state_dict().keys()


def test_torch_export_is_refused_with_the_line_that_saves_its_weights(layer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.export.save(torch.export.export(layer, (torch.ones(1, 1, 2, 2),)), "net.pt2")
    with pytest.raises(CheckpointError, match=r"is a torch\.export archive") as error:
        read_checkpoint(tmp_path / "net.pt2")
    line = re.findall(r"torch\.save\(.*\)", str(error.value))
    exec(line[0], {"torch": torch})  # noqa: S102  # what the message tells to run
    assert read_checkpoint(tmp_path / "weights.pth").tensors.keys() == layer.state_dict().keys()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_torch_save_is_told_from_pickles_and_zip_archives(legacy, protocol, tmp_path):
    path = tmp_path / "last"
    options = {"_use_new_zipfile_serialization": not legacy, "pickle_protocol": protocol}
    path.write_bytes(torch_bytes(**options))
    assert checkpoint_format(path.read_bytes(), path) == "torch"


def test_safetensors_are_told_by_their_header(tmp_path):
    path = tmp_path / "last.pth"
    save_file({"a": torch.ones(2)}, path)
    assert checkpoint_format(path.read_bytes(), path) == "safetensors"


def test_folder_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: it is a folder"):
        read_checkpoint(tmp_path)
