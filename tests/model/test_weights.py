import contextvars
import functools
import hashlib
import http.server
import json
import os
import shutil
import ssl
import stat
import subprocess
import threading
import urllib.request
from contextlib import contextmanager

import pytest

from fcn_trt.errors import OutputError, PlanError, WeightsError
from fcn_trt.files import sha256
from fcn_trt.labels import label_set_names
from fcn_trt.model import weights
from fcn_trt.model.architecture import ARCHITECTURES
from fcn_trt.model.download import show_downloads
from fcn_trt.model.weights import (
    ModelSource,
    PublishedWeights,
    RandomWeights,
    Trust,
    WeightsFile,
    published_for,
    registry,
    resolve_weights,
)

CONTENT = b"some weights"
SHA256_PREFIX = "a0c76a31"


def entry(url="https://localhost/tiny-a0c76a31.pth", name="tiny", prefix=SHA256_PREFIX):
    return PublishedWeights(
        name=name,
        model="fcn_r18-d8",
        url=url,
        sha256_prefix=prefix,
        labels="cityscapes",
        crop="512x1024",
        miou=71.1,
        miou_ms_flip=None,
        measured_on="Cityscapes val",
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache, in a folder of the test's own, and so is what is pinned."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "cache" / "fcn_trt" / "weights"


@pytest.fixture
def published(monkeypatch):
    """Make these entries the registry."""

    def publish(*entries):
        monkeypatch.setattr(weights, "registry", lambda: entries)

    return publish


def resolve_file(text, model=None, **trust):
    found = resolve_weights(text and str(text), model, Trust(**trust))
    assert isinstance(found, WeightsFile)
    return found


class TestRegistry:
    def test_every_entry_fits_a_model_and_a_label_set(self):
        assert len(registry()) >= 30
        for known in registry():
            assert known.model in ARCHITECTURES
            assert known.labels in label_set_names()
            assert known.url.startswith("https://")
            assert known.file_name.removesuffix(".pth").endswith(known.sha256_prefix)
            assert len(known.sha256_prefix) == 8
            assert ("769" in known.crop) == ARCHITECTURES[known.model].align_corners

    def test_names_are_unique(self):
        assert len({known.name for known in registry()}) == len(registry())

    def test_best_comes_first(self):
        ious = [known.miou for known in published_for("fcn_r50-d8")]
        assert len(ious) > 1
        assert ious == sorted(ious, reverse=True)


class TestResolve:
    @pytest.mark.parametrize(
        ("text", "seed"), [("random", 0), ("random:7", 7), ("random:", 0), ("random:007", 7)]
    )
    def test_random_has_a_seed(self, text, seed):
        assert resolve_weights(text, None) == RandomWeights(seed=seed)

    @pytest.mark.parametrize("seed", ["x", "-1", "1.5", "9" * 40])
    def test_seed_that_is_no_number_is_refused(self, seed):
        with pytest.raises(WeightsError, match=f"random:{seed} has no seed.*random:7"):
            resolve_weights(f"random:{seed}", None)

    def test_path_is_hashed(self, tmp_path):
        path = tmp_path / "mine.pth"
        path.write_bytes(CONTENT)
        found = resolve_weights(str(path), None)
        assert found == WeightsFile(path=path, sha256=sha256(path), published=None)

    def test_folder_is_refused(self, tmp_path):
        with pytest.raises(WeightsError, match="is a folder; give the checkpoint that is in it"):
            resolve_weights(str(tmp_path), None)

    @pytest.mark.parametrize("name", ["nowhere.pth", "fcn_r50"])
    def test_what_is_neither_file_nor_name_is_refused(self, name):
        with pytest.raises(
            WeightsError, match="is neither a file nor a published checkpoint; `fcn"
        ):
            resolve_weights(name, None)

    def test_model_without_published_weights_says_what_to_give(self):
        with pytest.raises(WeightsError, match="no weights are published for pad_fcn_resnet101"):
            resolve_weights(None, "pad_fcn_resnet101")

    def test_file_that_cannot_be_read_is_refused(self):
        # Reading it gives an input/output error, also to root.
        with pytest.raises(
            WeightsError, match=r"/proc/self/mem cannot be read: Input/output error"
        ):
            resolve_weights("/proc/self/mem", None)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and what no server should send."""

    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            return self.end_headers()
        if kind not in ("cut.pth", "huge.pth", "endless.pth"):
            return super().do_GET()
        self.send_response(200)
        if kind != "endless.pth":
            self.send_header("Content-Length", "1000" if kind == "cut.pth" else str(10**10))
        self.end_headers()
        return self.wfile.write(CONTENT if kind == "cut.pth" else CONTENT * 100)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of localhost and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing, so there is no certificate for a local https server")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", path, "-out", path.with_suffix(".crt")]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def site(tmp_path, certificate, monkeypatch):
    """(folder, URL) of a real https server on this machine, which this process trusts."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setattr(urllib.request, "_opener", None)  # it may hold older certificates
    yield folder, f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


PINS = "data/fcn_trt/known_weights.json"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OTHER = "f" * 64


@pytest.fixture
def named(tmp_path, published):
    """A file whose hash begins as a published one's."""
    published(entry(name="other", prefix="00000000"), entry())
    path = tmp_path / "renamed.bin"
    path.write_bytes(CONTENT)
    return path


def write_pins(tmp_path, text):
    (tmp_path / PINS).parent.mkdir(mode=0o700, parents=True)
    (tmp_path / PINS).write_text(text)
    (tmp_path / PINS).chmod(0o600)


class TestTrust:
    def test_32_bits_are_no_proof(self, named, tmp_path, caplog):
        caplog.set_level("INFO")
        assert resolve_file(named).published is None
        assert "renamed.bin is named as tiny by the first 32 bits of its SHA-256" in caplog.text
        assert not (tmp_path / PINS).exists()

    @pytest.mark.parametrize("trust", [{"is_given": True}, {"sha256": DIGEST}])
    def test_word_or_whole_hash_of_the_user_pins_it(self, named, tmp_path, trust, caplog):
        caplog.set_level("INFO")
        before = ModelSource(architecture=None, weights=resolve_file(named)).content
        trusted = resolve_file(named, **trust)
        assert trusted.published == entry()
        assert f"is taken as tiny on your word; its SHA-256, {DIGEST}, is pinned" in caplog.text
        assert json.loads((tmp_path / PINS).read_text()) == {"tiny": DIGEST}
        assert resolve_file(named) == trusted
        assert ModelSource(architecture=None, weights=trusted).content != before

    @pytest.mark.parametrize("trust", [{}, {"is_given": True}, {"sha256": DIGEST}])
    def test_other_file_than_the_pinned_one_is_refused(self, named, tmp_path, trust):
        write_pins(tmp_path, json.dumps({"tiny": OTHER}))
        with pytest.raises(WeightsError, match=f"pinned to SHA-256 {OTHER}.* SHA-256 {DIGEST}"):
            resolve_file(named, **trust)
        assert json.loads((tmp_path / PINS).read_text()) == {"tiny": OTHER}

    def test_other_hash_than_asked_is_refused_of_any_file(self, named, tmp_path):
        mine = tmp_path / "mine.pth"
        mine.write_bytes(b"mine")
        for path in (named, mine):
            with pytest.raises(WeightsError, match=f"has SHA-256 .*, and {OTHER} was asked for"):
                resolve_file(path, sha256=OTHER)
        assert resolve_file(mine, sha256=sha256(mine)).published is None
        assert not (tmp_path / PINS).exists()

    def test_file_of_no_published_hash_cannot_be_trusted_as_one(self, tmp_path):
        (tmp_path / "mine.pth").write_bytes(b"mine")
        with pytest.raises(WeightsError, match="no published checkpoint that --trust could take"):
            resolve_file(tmp_path / "mine.pth", is_given=True)

    @pytest.mark.parametrize("text", ["", "f" * 63, "F" * 64, "g" * 64, DIGEST + "\n"])
    def test_hash_that_is_none_is_refused(self, text):
        with pytest.raises(PlanError, match="is not the 64 digits of a SHA-256"):
            Trust(sha256=text)

    @pytest.mark.parametrize("trust", [{"is_given": True}, {"sha256": DIGEST}])
    def test_random_weights_are_no_file_to_trust(self, trust):
        with pytest.raises(PlanError, match="random weights are no file"):
            resolve_weights("random", None, Trust(**trust))

    def test_file_that_somebody_put_into_the_cache_is_refused(self, named, cache):
        cache.mkdir(parents=True)
        (cache / entry().file_name).write_bytes(CONTENT)
        with pytest.raises(WeightsError, match="nobody knows who put it there; delete it, so that"):
            resolve_file("tiny")
        assert resolve_file("tiny", sha256=DIGEST).published == entry()
        assert resolve_file("tiny").published == entry()

    @pytest.mark.parametrize(
        "text", ["", "[]", "{", '{"tiny": 1}', '{"tiny": "abc"}', "[" * 100_000, "x" * (2 << 20)]
    )
    def test_damaged_pins_are_refused(self, named, tmp_path, text):
        write_pins(tmp_path, text)
        with pytest.raises(WeightsError, match=r"known_weights\.json (is no JSON|cannot be read)"):
            resolve_file(named)

    @pytest.mark.parametrize("place", ["file", "folder"])
    @pytest.mark.parametrize("rights", [0o020, 0o002])
    def test_pins_that_others_can_write_prove_nothing(self, named, tmp_path, place, rights):
        write_pins(tmp_path, json.dumps({"tiny": DIGEST}))
        path = tmp_path / PINS
        path = path if place == "file" else path.parent
        path.chmod(path.stat().st_mode | rights)
        with pytest.raises(WeightsError, match="written by others, so that its pins prove nothing"):
            resolve_file(named)

    def test_pins_behind_a_link_are_looked_at_where_they_are(self, named, tmp_path):
        write_pins(tmp_path, "{}")
        (tmp_path / PINS).rename(tmp_path / "elsewhere")
        (tmp_path / PINS).symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").chmod(0o666)
        with pytest.raises(WeightsError, match="written by others"):
            resolve_file(named)

    def test_pins_that_are_a_pipe_are_refused(self, named, tmp_path):
        write_pins(tmp_path, "{}")
        (tmp_path / PINS).unlink()
        os.mkfifo(tmp_path / PINS, 0o600)
        with pytest.raises(WeightsError, match="cannot be read: it is a named pipe"):
            resolve_file(named)

    def test_pins_are_private_under_any_umask(self, named, tmp_path):
        before = os.umask(0)
        try:
            resolve_file(named, is_given=True)
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / PINS).parent.stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / PINS).stat().st_mode) == 0o600


class TestDownload:
    @pytest.mark.parametrize("target", ["http://localhost/x", "ftp://localhost/x", "file:///x"])
    def test_redirect_to_what_is_not_https_is_refused(self, site, cache, published, target):
        published(entry(f"{site[1]}/to/{target}"))
        with pytest.raises(WeightsError, match=f"{target}.*not (https|allowed)"):
            resolve_weights("tiny", None)
        assert list(cache.iterdir()) == []

    def test_redirect_to_https_is_followed(self, site, published):
        folder, url = site
        (folder / "tiny.pth").write_bytes(CONTENT)
        published(entry(f"{url}/to/{url}/tiny.pth"))
        assert resolve_file("tiny").sha256 == DIGEST

    @pytest.mark.parametrize("name", ["huge.pth", "endless.pth"])
    def test_download_that_is_too_large_is_refused(self, site, cache, published, name, monkeypatch):
        monkeypatch.setattr("fcn_trt.model.download.DOWNLOAD_BYTES", 999)
        published(entry(f"{site[1]}/{name}"))
        with pytest.raises(WeightsError, match="it is larger than the 999 bytes that are fetched"):
            resolve_weights("tiny", None)
        assert list(cache.iterdir()) == []

    def test_download_is_shown_and_pinned(self, site, tmp_path, published, caplog):
        caplog.set_level("INFO")
        folder, url = site
        (folder / "tiny.pth").write_bytes(CONTENT)
        published(entry(f"{url}/tiny.pth"))
        came = []

        @contextmanager
        def bar(title, total):
            came.append((title, total))
            yield came.append

        context = contextvars.copy_context()
        context.run(show_downloads, bar)
        context.run(resolve_weights, "tiny", None)
        assert came == [("downloading tiny.pth", len(CONTENT)), len(CONTENT)]
        assert f"came from its authors' URL over https; its SHA-256, {DIGEST}" in caplog.text
        assert json.loads((tmp_path / PINS).read_text()) == {"tiny": DIGEST}

    @pytest.mark.parametrize("trust", [{}, {"sha256": OTHER}])
    def test_download_of_another_file_than_known_is_refused(
        self, site, cache, tmp_path, published, trust
    ):
        folder, url = site
        (folder / "tiny.pth").write_bytes(CONTENT)
        published(entry(f"{url}/tiny.pth"))
        if not trust:
            write_pins(tmp_path, json.dumps({"tiny": OTHER}))
        with pytest.raises(WeightsError, match=DIGEST):
            resolve_file("tiny", **trust)
        assert list(cache.iterdir()) == []

    def test_is_fetched_once_into_the_cache(self, site, cache, published):
        folder, url = site
        (folder / "tiny.pth").write_bytes(CONTENT)
        tiny = entry(f"{url}/tiny.pth")
        published(tiny)
        fetched = resolve_file("tiny")
        assert fetched.path == cache / "tiny.pth"
        assert fetched.path.read_bytes() == CONTENT
        assert fetched.published == tiny
        assert fetched.sha256.startswith(SHA256_PREFIX)
        (folder / "tiny.pth").unlink()
        assert resolve_weights("tiny", None) == fetched
        assert [path.name for path in cache.iterdir()] == ["tiny.pth"]

    def test_no_weights_takes_the_best_published_ones(self, site, published):
        folder, url = site
        (folder / "tiny.pth").write_bytes(CONTENT)
        tiny = entry(f"{url}/tiny.pth")
        published(tiny)
        assert resolve_file(None, "fcn_r18-d8").published == tiny

    @pytest.mark.parametrize("content", [b"other weights", b""])
    def test_wrong_hash_is_refused_and_nothing_is_left(self, content, site, cache, published):
        folder, url = site
        (folder / "tiny.pth").write_bytes(content)
        published(entry(f"{url}/tiny.pth"))
        message = f"/tiny.pth has SHA-256 [0-9a-f]{{8}}..., but tiny is .* with {SHA256_PREFIX}"
        with pytest.raises(WeightsError, match=message):
            resolve_weights("tiny", None)
        assert list(cache.iterdir()) == []

    def test_cut_download_is_refused_and_nothing_is_left(self, site, cache, published):
        published(entry(f"{site[1]}/cut.pth", prefix="00000000"))
        with pytest.raises(WeightsError, match="tiny"):
            resolve_weights("tiny", None)
        assert list(cache.iterdir()) == []

    def test_missing_page_says_what_to_fetch_and_where_to_put_it(self, site, cache, published):
        url = f"{site[1]}/gone.pth"
        published(entry(url))
        message = (
            f"File not found.*fetch {url} elsewhere and put it at {cache}/gone.pth, to be used"
        )
        with pytest.raises(WeightsError, match=message):
            resolve_weights("tiny", None)
        assert list(cache.iterdir()) == []

    def test_without_a_network_says_what_to_fetch_and_where_to_put_it(
        self, cache, published, monkeypatch
    ):
        monkeypatch.setenv("no_proxy", "localhost")
        url = "https://localhost:1/tiny.pth"  # nobody listens on port 1
        published(entry(url))
        message = (
            rf"cannot be downloaded \(.*\); fetch {url} elsewhere and put it at {cache}/tiny.pth"
        )
        with pytest.raises(WeightsError, match=message):
            resolve_weights("tiny", None)
        cache.joinpath("tiny.pth").write_bytes(CONTENT)
        assert resolve_file("tiny", is_given=True).path == cache / "tiny.pth"

    def test_server_without_a_trusted_certificate_is_refused(self, site, published, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
        monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
        published(entry(f"{site[1]}/tiny.pth"))
        with pytest.raises(WeightsError, match="certificate verify failed"):
            resolve_weights("tiny", None)

    def test_altered_file_in_the_cache_is_refused(self, cache, published):
        published(entry("https://localhost:1/tiny.pth"))
        cache.mkdir(parents=True)
        cache.joinpath("tiny.pth").write_bytes(b"altered")
        with pytest.raises(WeightsError, match=r"tiny\.pth has SHA-256 .*; delete it, so that"):
            resolve_weights("tiny", None)

    def test_only_https_is_fetched(self, published):
        published(entry("http://localhost/tiny.pth"))
        with pytest.raises(WeightsError, match="tiny is not published over https: http://localh"):
            resolve_weights("tiny", None)

    def test_cache_that_cannot_be_made_is_refused(self, tmp_path, published, monkeypatch):
        tmp_path.joinpath("file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        published(entry())
        with pytest.raises(OutputError, match=r"file/fcn_trt/weights cannot be made: .*/file is n"):
            resolve_weights("tiny", None)
