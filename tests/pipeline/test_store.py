import os

import pytest

from fcn_trt.pipeline import store as network_cache
from fcn_trt.pipeline.store import NetworkCache


@pytest.fixture
def cache(tmp_path):
    return NetworkCache(tmp_path)


def keep(cache, key, data=b"a network", *, used_s=None):
    """Put a network into the cache, last used at a time."""
    cache.path(key).write_bytes(data)
    cache.keep(key, {"size": [64, 96]})
    if used_s is not None:
        for suffix in (".onnx", ".json"):
            os.utime(cache.folder / f"{key}{suffix}", (used_s, used_s))


def test_network_is_found_with_what_it_was_made_from(cache):
    keep(cache, "a")
    assert cache.find("a") == cache.path("a")
    assert cache.inputs("a") == {"size": [64, 96]}


def test_what_was_not_kept_is_not_found(cache):
    assert cache.find("a") is None
    assert cache.inputs("a") is None


def test_network_without_its_record_is_unfinished(cache):
    cache.path("a").write_bytes(b"a network")
    assert cache.find("a") is None


@pytest.mark.parametrize("data", [b"", b"a netwo", b"another network"])
def test_network_that_was_altered_is_not_found(cache, data):
    keep(cache, "a")
    cache.path("a").write_bytes(data)
    assert cache.find("a") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": 1, "inputs": {}}', "\0"])
def test_record_that_was_altered_counts_as_none(cache, text):
    keep(cache, "a")
    (cache.folder / "a.json").write_text(text)
    assert cache.find("a") is None
    assert cache.inputs("a") is None


def test_record_without_a_network_is_kept_for_its_inputs(cache):
    cache.keep("bundle", {"size": [64, 96]})
    assert cache.find("bundle") is None
    assert cache.inputs("bundle") == {"size": [64, 96]}


class TestLimit:
    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch):
        monkeypatch.setattr(network_cache, "LIMIT_BYTES", 10_000)

    def test_network_that_was_not_used_for_longest_goes_first(self, cache):
        for age, key in enumerate(("new", "older", "oldest")):
            keep(cache, key, bytes(4_000), used_s=1_000_000 - age)
        keep(cache, "last", bytes(4_000))
        kept = {key for key in ("new", "older", "oldest", "last") if cache.find(key)}
        assert kept == {"last", "new"}

    def test_use_keeps_a_network(self, cache):
        for age, key in enumerate(("new", "old")):
            keep(cache, key, bytes(4_000), used_s=1_000_000 - age)
        assert cache.find("old")
        keep(cache, "last", bytes(4_000))
        assert cache.find("old")
        assert cache.find("new") is None

    def test_what_a_killed_process_left_goes_too(self, cache):
        left = cache.folder / ".a-0123456789abcdef.part.onnx"
        left.write_bytes(bytes(8_000))
        os.utime(left, (1_000_000, 1_000_000))
        keep(cache, "last", bytes(4_000))
        assert not left.exists()
        assert cache.find("last")
