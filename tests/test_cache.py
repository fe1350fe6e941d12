"""The user's cache: what others own or can write is refused, what was altered is not used."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from fcn_trt.cache import (
    RECORD_NAME,
    cache_folder,
    cache_path,
    kept_folder,
    make_private,
    read_kept,
    write_kept,
)
from fcn_trt.errors import CacheError, OutputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, empty, under a umask that lets everybody write."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    return tmp_path / "new" / "cache"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_level_is_the_users_alone_whatever_the_umask(home, no_umask):
    folder = cache_folder("openvino", "ab")
    assert folder == home / "fcn_trt" / "openvino" / "ab"
    for level in (folder, folder.parent, home / "fcn_trt", home, home.parent):
        assert mode(level) == 0o700
    with kept_folder("runtime", "cd") as other:
        assert mode(other) == mode(other.parent) == 0o700
    write_kept(folder / "a", b"bytes")
    assert mode(folder / "a") == 0o644  # nobody else comes there, and it is not refused
    assert cache_folder("openvino", "ab") == folder


def test_a_path_is_not_made(home):
    assert cache_path("networks") == home / "fcn_trt" / "networks"
    assert not home.exists()
    make_private(cache_path("networks"))
    assert mode(home / "fcn_trt") == 0o700


def test_that_cannot_be_made_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    message = (
        r"fcn_trt/weights cannot be made: .*/file is no folder; set XDG_CACHE_HOME to a folder"
    )
    with pytest.raises(OutputError, match=message):
        cache_folder("weights")
    with pytest.raises(OutputError, match=message), kept_folder("weights"):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("rights", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("level", ["fcn_trt", "fcn_trt/weights", "fcn_trt/weights/a.pth", "."])
def test_what_others_can_write_is_refused(home, rights, level):
    path = cache_folder("weights") / "a.pth"
    path.touch()
    (home / level).chmod(rights)
    if (level, rights) == (".", 0o720):  # of a group, as ~/.cache is under umask 002
        assert cache_folder("weights") == path.parent
        return
    message = r"can be written by .*; delete it, `chmod -R go-w` it if .*set XDG_CACHE_HOME"
    for open_it in (cache_folder, cache_path):
        with pytest.raises(CacheError, match=message):
            open_it("weights")
    if level not in (".", "fcn_trt"):
        cache_folder("networks")


def test_the_users_own_links_are_followed_to_what_is_his(home, tmp_path):
    (tmp_path / "disk").mkdir(mode=0o700)
    make_private(home)
    (home / "fcn_trt").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "dangling").symlink_to("nowhere")
    assert cache_folder("weights").resolve() == tmp_path / "disk" / "weights"
    cache_path()
    (tmp_path / "disk").chmod(0o777)
    with pytest.raises(CacheError, match="fcn_trt can be written by others"):
        cache_folder("weights")


class TestKeptFile:
    def test_comes_back_as_it_was(self, home):
        path = cache_folder("timing") / "a"
        assert read_kept(path) == b""
        for data in (b"", b"x" * 100_000):
            write_kept(path, data)
            assert read_kept(path) == data

    @pytest.mark.parametrize("at", [0, 31, 32, -1])
    def test_is_not_used_once_it_was_altered(self, home, at, caplog):
        path = cache_folder("timing") / "a"
        write_kept(path, b"timings")
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        assert read_kept(path) == b""
        assert "was altered, or is of an earlier version" in caplog.text

    @pytest.mark.parametrize("planted", [b"", b"short", bytes(32), bytes(1000)])
    def test_is_not_used_if_something_else_wrote_it(self, home, planted):
        path = cache_folder("timing") / "a"
        path.write_bytes(planted)
        assert read_kept(path) == b""

    def test_is_no_pipe(self, home, caplog):
        path = cache_folder("timing") / "a"
        os.mkfifo(path)
        assert read_kept(path) == b""
        assert "is not used: it is a named pipe and no regular file" in caplog.text


Change: TypeAlias = Callable[[Path], object]


class TestKeptFolder:
    @pytest.fixture
    def filled(self, home) -> Path:
        with kept_folder("openvino", "ab") as folder:
            (folder / "a.blob").write_bytes(b"a" * 1000)
            (folder / "b.blob").write_bytes(b"b" * 1000)
        return folder

    def found(self) -> list[str]:
        with kept_folder("openvino", "ab") as folder:
            return sorted(path.name for path in folder.iterdir())

    def test_has_what_was_left_in_it(self, filled):
        assert self.found() == ["a.blob", "b.blob", RECORD_NAME]
        written = (filled / RECORD_NAME).stat().st_mtime_ns
        assert self.found() == ["a.blob", "b.blob", RECORD_NAME]
        assert (filled / RECORD_NAME).stat().st_mtime_ns == written

    @pytest.mark.parametrize(
        "change",
        [
            lambda blob: blob.write_bytes(b"x" + b"a" * 999),
            lambda blob: blob.write_bytes(b""),
            lambda blob: (blob.unlink(), (blob.parent / "b.blob").rename(blob)),
            lambda blob: (blob.unlink(), blob.symlink_to(blob.parent / "b.blob")),
            lambda blob: (blob.unlink(), blob.mkdir(), (blob / "c").touch()),
        ],
    )
    def test_what_was_altered_is_deleted_first(self, filled, change: Change):
        change(filled / "a.blob")
        assert "a.blob" not in self.found()

    def test_a_pipe_is_deleted_first(self, filled):
        (filled / "a.blob").unlink()
        os.mkfifo(filled / "a.blob")
        assert self.found() == ["b.blob", RECORD_NAME]

    def test_what_nobody_wrote_down_is_deleted_first(self, filled):
        for name in ("c.blob", ".hidden.part.json", "lib.so"):
            (filled / name).write_bytes(b"planted")
        assert self.found() == ["a.blob", "b.blob", RECORD_NAME]

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda record: record.unlink(),
            lambda record: record.chmod(0o666),
            lambda record: record.write_text("[" * 100_000),
            lambda record: record.write_text('["a.blob"]'),
            lambda record: record.write_text('{"a.blob": ["x"], "b.blob": NaN}'),
            lambda record: record.write_bytes(b"{" + b" " * (1 << 20) + b"}"),
            lambda record: (record.unlink(), record.mkdir()),
        ],
    )
    def test_without_a_list_of_the_users_own_nothing_is_used(self, filled, spoil: Change):
        spoil(filled / RECORD_NAME)
        assert not self.found()

    def test_what_a_block_that_failed_left_is_deleted(self, filled):
        with suppress(KeyError), kept_folder("openvino", "ab") as folder:
            (folder / "c.blob").write_bytes(b"half")
            raise KeyError
        assert self.found() == ["a.blob", "b.blob", RECORD_NAME]


AS_USER = """
import hashlib, json, os, sys
from pathlib import Path
from fcn_trt.cache import cache_folder, cache_path, kept_folder, read_kept, write_kept
from fcn_trt.errors import CacheError, OutputError
user = int(sys.argv[1])  # now, as he may not be able to read this Python
os.setgroups([])
os.setgid(user)
os.setuid(user)
os.umask(0)
exec(sys.argv[2])
"""

USE = """
def openvino():
    with kept_folder("openvino", "ab") as folder:
        names = sorted(path.name for path in folder.iterdir())
        (folder / "own.blob").write_bytes(b"own")
        return names
def timing():
    path = cache_folder("timing") / "a"
    found = read_kept(path).decode()
    write_kept(path, b"own")
    return found
def listed(open_it, name):
    folder = open_it(name)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
found = {}
for name, use in {
    "openvino": openvino, "timing": timing,
    "networks": lambda: listed(cache_path, "networks"),
    "weights": lambda: listed(cache_folder, "weights"),
}.items():
    try:
        found[name] = use()
    except (CacheError, OutputError) as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""

PLANT = """
base = Path(os.environ["XDG_CACHE_HOME"], "fcn_trt")
data = b"planted"
sha256 = hashlib.sha256(data)
done = []
for name, content in {
    "openvino/ab/planted.blob": data,
    "openvino/ab/sha256.json": json.dumps({"planted.blob": sha256.hexdigest()}).encode(),
    "timing/a": sha256.digest() + data,
    "networks/KEY.onnx": data,
    "networks/KEY.json": json.dumps({"sha256": sha256.hexdigest(), "inputs": {}}).encode(),
    "weights/fcn.pth": data,
    "weights/.fcn-0.part.pth": data,
}.items():
    try:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(content)
        done.append(name)
    except PermissionError:
        pass
try:
    base.rename(base.parent / "moved")
    done.append("swap")
    (base.parent / "moved").rename(base)
except PermissionError:
    pass
print(json.dumps(done))
"""

MAKE_ROOM = """
for name in ("openvino/ab", "timing", "networks", "weights"):
    folder = Path(os.environ["XDG_CACHE_HOME"], "fcn_trt", name)
    folder.mkdir(parents=True, exist_ok=True)
print("null")
"""

CLOSE = """
base = Path(os.environ["XDG_CACHE_HOME"], "fcn_trt")
for folder, _, _ in os.walk(base):
    os.chmod(folder, 0o700)
print("null")
"""

USERS = [(61_001, 61_002), (0, 61_002), (61_001, 0)]
"""Who runs this package, and who wants him to run something else."""

Do: TypeAlias = Callable[[int, str], Any]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user comes to, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "cache").mkdir()
        yield folder / "cache"


@pytest.fixture
def do(shared: Path) -> Do:
    """Run code as a user, with umask 000 and a cache in the shared folder; returns what it says."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs root, to be two users")

    def run(user: int, code: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", AS_USER, str(user), code],
            env={**os.environ, "XDG_CACHE_HOME": str(shared)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(("user", "other"), USERS)
class TestTwoUsers:
    def test_a_cache_that_the_other_made_is_refused(self, shared, do: Do, user, other):
        shared.chmod(0o1777)
        do(other, PLANT)
        for said in do(user, USE).values():
            assert f"fcn_trt belongs to user {other} and not {user}, so what lies in th" in said

    def test_a_folder_that_can_be_swapped_is_refused(self, shared, do: Do, user, other):
        shared.chmod(0o777)
        for said in do(user, USE).values():
            assert "cache can be written by every user, so what lies in the cache may be" in said

    def test_the_other_cannot_write_what_was_made(self, shared, do: Do, user, other):
        shared.chmod(0o1777)
        do(user, USE)
        if other != 0:  # root can do anything
            assert do(other, PLANT) == []
            found = do(user, USE)
            assert found == {
                "openvino": ["own.blob", RECORD_NAME],
                "timing": "own",
                "networks": [],
                "weights": [],
            }

    def test_what_was_planted_while_it_was_open_is_not_used(self, shared, do: Do, user, other):
        os.chown(shared, user, user)
        do(user, MAKE_ROOM)  # as an earlier version did, which kept to the umask
        do(other, PLANT)
        for said in do(user, USE).values():
            assert "fcn_trt can be written by others" in said
        do(user, CLOSE)
        found = do(user, USE)
        assert found.pop("openvino") == []  # deleted, and its list was not believed
        for name, said in found.items():
            assert f"belongs to user {other} and not {user}" in said, name

    def test_a_link_of_the_others_to_the_users_own_is_refused(self, shared, do: Do, user, other):
        shared.chmod(0o1777)
        (shared / "own").mkdir(mode=0o700)
        (shared / "fcn_trt").symlink_to("own")
        os.chown(shared / "own", user, user)
        os.chown(shared / "fcn_trt", other, other, follow_symlinks=False)
        for said in do(user, USE).values():
            assert f"fcn_trt belongs to user {other} and not {user}" in said
