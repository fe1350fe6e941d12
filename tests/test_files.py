import hashlib
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from fcn_trt.errors import BundleError, OutputError
from fcn_trt.files import (
    atomic_folder,
    atomic_path,
    combined_sha256,
    sha256,
    write_atomic,
)


@contextmanager
def largest_file(size_bytes):
    """Writing past this many bytes fails in this process, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 KiB."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root and mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run([mount, *options], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    yield tmp_path
    subprocess.run([unmount, str(tmp_path)], check=True)


@pytest.fixture
def read_only_folder():
    """A folder that this process cannot write into; root gives its rights up meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield folder
        if user == 0:
            os.seteuid(0)
        folder.chmod(0o700)


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    """It belongs to all threads, so two that set it and set it back can leave it wrong."""
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the umask was set"))
    write_atomic(tmp_path / "m", b"")
    with atomic_folder(tmp_path / "bundle"):
        pass


def test_sha256_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "big"
    data = os.urandom(3_000_001)
    path.write_bytes(data)
    assert sha256(path) == hashlib.sha256(data).hexdigest()
    path.write_bytes(b"")
    assert sha256(path).startswith("e3b0c442")


class TestAtomicPath:
    def test_file_appears_whole_and_alone(self, tmp_path):
        path = tmp_path / "m.onnx"
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            assert not path.exists()
            assert temporary.suffix == ".onnx"
            assert temporary.name.startswith(".")
            temporary.write_bytes(b"whole")
        assert path.read_bytes() == b"whole"
        assert left_in(tmp_path) == ["m.onnx"]

    def test_file_has_the_rights_that_the_umask_gives(self, tmp_path):
        before = os.umask(0o027)
        try:
            write_atomic(tmp_path / "m", b"")
            assert os.umask(0o027) == 0o027
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o640

    def test_file_never_has_more_rights_than_in_the_end(self, tmp_path):
        with atomic_path(tmp_path / "m") as temporary:
            during = temporary.stat().st_mode
        assert (tmp_path / "m").stat().st_mode == during

    @pytest.mark.parametrize("durable", [True, False])
    def test_only_what_is_durable_waits_for_the_disk(self, tmp_path, monkeypatch, durable):
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        write_atomic(tmp_path / "m", b"whole", durable=durable)
        assert len(synced) == durable
        assert (tmp_path / "m").read_bytes() == b"whole"

    def test_file_is_durable_unless_told_otherwise(self, tmp_path, monkeypatch):
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        write_atomic(tmp_path / "m", b"whole")
        assert len(synced) == 1

    def test_temporary_file_is_hidden_and_named_as_a_part(self, tmp_path):
        with atomic_path(tmp_path / "m.onnx") as temporary:
            assert re.fullmatch(r"\.m-[0-9a-f]{16}\.part\.onnx", temporary.name)
            assert left_in(tmp_path) == [temporary.name]

    def test_file_in_the_way_of_the_folder_is_named(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OutputError, match="file/m cannot be written: Not a directory"):
            write_atomic(tmp_path / "file" / "m", b"")

    def test_old_file_is_replaced(self, tmp_path):
        path = tmp_path / "m"
        path.write_bytes(b"old")
        write_atomic(path, b"new")
        assert path.read_bytes() == b"new"

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError, BundleError])
    def test_error_keeps_the_old_file_and_leaves_nothing(self, error, tmp_path):
        path = tmp_path / "m"
        path.write_bytes(b"old")

        def fail():
            with atomic_path(path) as temporary:
                temporary.write_bytes(b"half")
                raise error("stop")

        with pytest.raises(OutputError if error is OSError else error):
            fail()
        assert path.read_bytes() == b"old"
        assert left_in(tmp_path) == ["m"]

    def test_missing_folder_is_named(self, tmp_path):
        path = tmp_path / "nowhere" / "m.onnx"
        with pytest.raises(OutputError, match=r"nowhere/m\.onnx cannot be written: No such file"):
            write_atomic(path, b"")

    def test_read_only_folder_is_named_with_the_way_out(self, read_only_folder):
        path = read_only_folder / "m.onnx"
        message = f"^{path} cannot be written: Permission denied; choose another place$"
        with pytest.raises(OutputError, match=message):
            write_atomic(path, b"")

    def test_too_large_a_file_leaves_nothing(self, tmp_path):
        with (
            pytest.raises(OutputError, match=r"m cannot be written: File too large \(\d+ MB free"),
            largest_file(1000),
        ):
            write_atomic(tmp_path / "m", bytes(5000))
        assert left_in(tmp_path) == []

    def test_full_disk_leaves_nothing(self, full_disk):
        message = (
            r"m cannot be written: No space left on device \(0 MB free there\); choose another"
        )
        with pytest.raises(OutputError, match=message):
            write_atomic(full_disk / "m", bytes(200_000))
        assert left_in(full_disk) == []

    def test_folder_in_the_way_is_refused(self, tmp_path):
        (tmp_path / "m").mkdir()
        with pytest.raises(OutputError, match="m cannot be written: Is a directory"):
            write_atomic(tmp_path / "m", b"")
        assert left_in(tmp_path) == ["m"]


class TestAtomicFolder:
    def test_folder_appears_whole_with_its_parents(self, tmp_path):
        path = tmp_path / "a" / "b"
        with atomic_folder(path) as temporary:
            (temporary / "manifest.json").write_text("{}")
            assert not path.exists()
        assert left_in(path) == ["manifest.json"]
        assert left_in(tmp_path / "a") == ["b"]

    @pytest.mark.parametrize(
        ("of_folder", "umask", "file", "below"),
        [
            (0o700, 0o002, 0o644, 0o755),
            (0o700, 0o000, 0o644, 0o755),
            (0o755, 0o002, 0o644, 0o755),
            (0o775, 0o002, 0o664, 0o775),
            (0o777, 0o022, 0o644, 0o755),
        ],
    )
    def test_nobody_may_write_it_who_may_not_write_its_folder(
        self, tmp_path, of_folder, umask, file, below
    ):
        tmp_path.chmod(of_folder)
        before = os.umask(umask)
        try:
            write_atomic(tmp_path / "m", b"")
            with atomic_folder(tmp_path / "bundle"):
                pass
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == file
        assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == below

    def test_folder_has_the_rights_that_the_umask_gives(self, tmp_path):
        before = os.umask(0o027)
        try:
            with atomic_folder(tmp_path / "bundle"):
                pass
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o750

    def test_its_files_reach_the_disk_first(self, tmp_path, monkeypatch):
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", synced.append)
        with atomic_folder(tmp_path / "bundle") as temporary:
            for name in "ab":
                (temporary / name).touch()
        assert len(synced) == 2

    def test_old_folder_is_replaced_whole(self, tmp_path):
        path = tmp_path / "bundle"
        path.mkdir()
        (path / "old").touch()
        with atomic_folder(path) as temporary:
            (temporary / "new").touch()
            assert left_in(path) == ["old"]
        assert left_in(path) == ["new"]
        assert left_in(tmp_path) == ["bundle"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError, BundleError])
    def test_error_keeps_the_old_folder_and_leaves_nothing(self, error, tmp_path):
        path = tmp_path / "bundle"
        path.mkdir()
        (path / "old").touch()

        def fail():
            with atomic_folder(path) as temporary:
                (temporary / "half").touch()
                raise error("stop")

        with pytest.raises(OutputError if error is OSError else error):
            fail()
        assert left_in(path) == ["old"]
        assert left_in(tmp_path) == ["bundle"]

    def test_file_in_the_way_is_refused(self, tmp_path):
        (tmp_path / "bundle").touch()
        with (
            pytest.raises(OutputError, match="bundle is a file; give the name of a folder"),
            atomic_folder(tmp_path / "bundle"),
        ):
            pytest.fail("the block must not run")

    def test_read_only_folder_is_named(self, read_only_folder):
        with (
            pytest.raises(OutputError, match="bundle cannot be written: Permission denied"),
            atomic_folder(read_only_folder / "bundle"),
        ):
            pytest.fail("the block must not run")

    def test_full_disk_keeps_the_old_folder(self, full_disk):
        path = full_disk / "bundle"
        path.mkdir()
        (path / "old").touch()
        with (
            pytest.raises(OutputError, match="bundle cannot be written: No space left on device"),
            atomic_folder(path) as temporary,
        ):
            (temporary / "engine").write_bytes(bytes(200_000))
        assert left_in(path) == ["old"]
        assert left_in(full_disk) == ["bundle"]


def test_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "v3").mkdir()
    (tmp_path / "v3" / "old").write_text("old")
    (tmp_path / "current").symlink_to("v3")
    with atomic_folder(tmp_path / "current") as folder:
        (folder / "new").write_text("new")
    assert (tmp_path / "current").is_symlink()
    assert [path.name for path in (tmp_path / "v3").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "v3"]


def test_hash_tells_parts_apart():
    assert combined_sha256(["ab", "c"]) != combined_sha256(["a", "bc"])
    assert combined_sha256(["a", b"b"]) == combined_sha256(["a", "b"])
