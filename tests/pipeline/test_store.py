import os
import shutil

import pytest

from fcn_trt.errors import CacheError
from fcn_trt.pipeline import store as module
from fcn_trt.pipeline.store import KeyedStep, Store
from tests.plans import as_network


@pytest.fixture
def cache(tmp_path):
    return Store(tmp_path)


def step(key):
    return KeyedStep(name="export", inputs={"size": [64, 96]}, key=key)


@pytest.fixture
def keep(cache, tiny_network):
    """Put a network into the cache, last used at a time."""

    def put(cache, key, *, used_s=None):
        shutil.copy(tiny_network, cache.path(key))
        cache.keep(step(key), as_network(cache.path(key)))
        _last_used(cache, key, used_s)

    return put


def _last_used(cache, key, used_s):
    if used_s is not None:
        for suffix in (".onnx", ".json"):
            os.utime(cache.folder / f"{key}{suffix}", (used_s, used_s))


def test_network_is_found_with_what_it_was_made_from(cache, keep):
    keep(cache, "a")
    assert cache.find("a") == as_network(cache.path("a"))
    assert cache.record("a").inputs == {"size": [64, 96]}


def test_what_was_not_kept_is_not_found(cache, keep):
    assert cache.find("a") is None
    assert cache.record("a") is None


def test_network_without_its_record_is_unfinished(cache, keep):
    cache.path("a").write_bytes(b"a network")
    assert cache.find("a") is None


@pytest.mark.parametrize("data", [b"", b"a netwo", b"another network"])
def test_network_that_was_altered_is_not_found(cache, data, keep):
    keep(cache, "a")
    cache.path("a").write_bytes(data)
    assert cache.find("a") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 1, "inputs": {}}', "\0"])
def test_record_that_was_altered_counts_as_none(cache, text, keep):
    keep(cache, "a")
    (cache.folder / "a.json").write_text(text)
    assert cache.find("a") is None
    assert cache.record("a") is None


def test_record_without_a_network_is_kept_for_its_inputs(cache, keep):
    cache.keep(step("bundle"))
    assert cache.find("bundle") is None
    assert cache.record("bundle").inputs == {"size": [64, 96]}


class TestLimit:
    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch, tiny_network):
        size = tiny_network.stat().st_size
        monkeypatch.setattr(module, "LIMIT_BYTES", 2.5 * size)

    def test_network_that_was_not_used_for_longest_goes_first(self, cache, keep):
        for age, key in enumerate(("new", "older", "oldest")):
            keep(cache, key, used_s=1_000_000 - age)
        keep(cache, "last")
        kept = {key for key in ("new", "older", "oldest", "last") if cache.find(key)}
        assert kept == {"last", "new"}

    def test_use_keeps_a_network(self, cache, keep):
        for age, key in enumerate(("new", "old")):
            keep(cache, key, used_s=1_000_000 - age)
        assert cache.find("old")
        keep(cache, "last")
        assert cache.find("old")
        assert cache.find("new") is None

    def test_what_a_killed_process_left_goes_too(self, cache, keep):
        left = cache.folder / ".a-0123456789abcdef.part.onnx"
        left.write_bytes(bytes(10_000_000))
        os.utime(left, (1_000_000, 1_000_000))
        keep(cache, "last")
        assert not left.exists()
        assert cache.find("last")


def test_a_store_of_the_user_that_others_can_write_is_refused(tmp_path, monkeypatch, keep):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Store.of_user()
    assert cache.find("a") is None
    cache.make_folder()
    keep(cache, "a")
    assert Store.of_user().find("a") == as_network(cache.path("a"))
    cache.path("a").chmod(0o666)
    with pytest.raises(CacheError, match=r"a\.onnx can be written by others, so what lies in th"):
        Store.of_user()
