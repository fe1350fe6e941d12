"""Images of every kind as BGR, and those that claim more than they hold, which are refused."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from fcn_trt.errors import SourceError
from fcn_trt.images import IMAGE_SUFFIXES, read_image, read_orientation
from fcn_trt.limits import MAX_PIXELS

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
LARGE = 60_000


def png(width: int, height: int, *chunks: tuple[bytes, bytes], kind: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(width: int, height: int, *, tile: int = 0, order: str = "<", big: bool = False) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (279, 1)]
    tags += [(322, tile), (323, tile)] if tile else []
    start = struct.pack(f"{order}2sH", b"II" if order == "<" else b"MM", 43 if big else 42)
    if big:
        entries = [struct.pack(f"{order}HHQQ", tag, 16, 1, value) for tag, value in tags]
        return b"".join([start, struct.pack(f"{order}HHQQ", 8, 0, 16, len(tags)), *entries])
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags]
    return b"".join([start, struct.pack(f"{order}IH", 8, len(tags)), *entries, bytes(4)])


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, width, height, 1, 24, 0) + bytes(40)


def webp(kind: bytes, payload: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(payload)) + payload
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg(width: int, height: int) -> bytes:
    data = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def encoded(suffix: str, pixels: np.ndarray = PIXELS) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


TOO_LARGE = {
    "square.png": png(LARGE, LARGE),
    "flat.png": png(2**31 - 1, 1),
    "text.png": png(LARGE, LARGE, (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
    "profile.png": png(LARGE, LARGE, (b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8)))),
    "a.jpg": jpeg(65535, 65535),
    "up.bmp": bmp(LARGE, LARGE),
    "down.bmp": bmp(LARGE, -LARGE),
    "lowest.bmp": bmp(2**31 - 1, -(2**31)),
    "a.tif": tiff(LARGE, LARGE),
    "other.tiff": tiff(LARGE, LARGE, order=">"),
    "large.tif": tiff(2**40, 2**40, big=True),
    "tile.tif": tiff(16, 16, tile=LARGE),
    "a.webp": webp(b"VP8X", bytes(4) + b"\xff" * 6),
    "lossless.webp": webp(b"VP8L", b"\x2f" + b"\xff\xff\xff\x0f" + bytes(20)),
    "lossy.webp": webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(20)),
    "a.ppm": b"P6 1000000000 1000000000 255\n",
    "remark.pgm": b"P5\n# a remark\n1000000000\n1000000000\n255\n",
    "disguised.jpg": png(LARGE, LARGE),
}
"""Each below 200 kB."""

NO_IMAGES = {
    "empty.png": b"",
    "cut.png": png(7, 5)[:20],
    "none.png": png(0, 5),
    "long.png": png(2**21, 2),
    "text.jpg": b"no image",
    "other.png": b"GIF89a" + struct.pack("<HH", 7, 5) + bytes(20),
    "icon.bmp": b"\0\0\1\0\1\0" + bytes(30),
    "left.bmp": bmp(-7, 5),
    "cut.bmp": b"BM",
    "floats.ppm": b"PF\n60000 60000\n-1.0\n",
    "any.ppm": b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
    "signs.pgm": b"P5 -1 5 255\n" + bytes(5),
    "digits.pgm": b"P5 " + b"9" * 10_000 + b" 5 255\n",
    "far.tif": b"II+\0\x08\0\0\0" + b"\xff" * 8,
    "circle.tif": b"II*\0" + struct.pack("<I", 2**31),
    "sound.webp": b"RIFF\0\0\0\0WAVEfmt " + bytes(20),
    "radiance.png": b"#?RADIANCE\n\n-Y 60000 +X 60000\n",
    "cut.jpg": encoded(".jpg")[:-2],
    "unscanned.jpg": b"\xff\xd8\xff\xd9",
}

_READ = """
import json, resource, sys
from pathlib import Path
from fcn_trt.errors import SourceError
from fcn_trt.images import read_image
from fcn_trt.evaluation.label_files import class_numbers, read_truth
import numpy as np
labelled = np.zeros((5, 7, 3), np.uint8)
found = {}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(Path, sys.argv[1:]):
    said = []
    for read in (
        read_image, lambda p: read_truth((Path("a.jpg"), p), labelled, class_numbers("own", 2))
    ):
        try:
            read(path)
        except (SourceError, ValueError) as error:
            said.append(str(error))
    found[path.name] = said
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([found, (after - before) / 1024]))
"""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], float]:
    """What reading each file says, as an image and as labels, and how many MB all of it took."""
    folder = tmp_path_factory.mktemp("images")
    files = {f"large-{name}": data for name, data in TOO_LARGE.items()}
    files |= {f"none-{name}": data for name, data in NO_IMAGES.items()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-c", _READ, *map(str, sorted(folder.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found, megabytes = json.loads(done.stdout)
    return found, megabytes


def test_an_image_of_too_many_pixels_is_refused_by_its_header(refusals):
    found, megabytes = refusals
    for name in TOO_LARGE:
        assert len(found[f"large-{name}"]) == 2, name
        for said in found[f"large-{name}"]:
            assert "pixels are read, and it has " in said, (name, said)
            assert said.endswith("(--max-pixels raises that)")
    assert megabytes < 100


def test_what_is_no_image_is_refused_whatever_its_suffix_says(refusals):
    found, _ = refusals
    for name in NO_IMAGES:
        assert len(found[f"none-{name}"]) == 2, name
        assert "is not a whole image" in found[f"none-{name}"][0], name


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_is_read_whatever_its_header_is_like(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    pixels = PIXELS[:, :, 0] if suffix in {".pgm", ".pbm"} else PIXELS
    path.write_bytes(encoded({".jfif": ".jpg"}.get(suffix, suffix), pixels))
    assert read_image(path).shape == (5, 7, 3)


def test_the_limit_can_be_raised_and_lowered(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png"))
    monkeypatch.setenv(MAX_PIXELS.variable, "35")
    np.testing.assert_array_equal(read_image(path), PIXELS)
    monkeypatch.setenv(MAX_PIXELS.variable, "34")
    with pytest.raises(SourceError, match=r"a\.png is 7x5: at most 34 pixels are read, and it h"):
        read_image(path)


def test_a_jpeg_ends_in_short_segments_and_in_other_files(tmp_path):
    data = encoded(".jpg")
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:-2] + b"\xff\xfe\0\2\xff\xd9" + TOO_LARGE["a.jpg"])
    assert read_image(path).shape == (5, 7, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", Path("/dev/zero")):
        with pytest.raises(SourceError, match="no regular file"):
            read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_exif_says(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), np.uint8)))
    kind = {"quality": 95} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}
    image.save(path, exif=exif, **kind)
    with Image.open(path) as saved:
        upright = np.asarray(ImageOps.exif_transpose(saved).convert("RGB"))
        stored = np.asarray(saved.convert("RGB"))
    difference = 12 if suffix == ".jpg" else 0  # of two decoders
    assert np.abs(read_image(path)[..., ::-1].astype(int) - upright).max() <= difference
    assert read_orientation(path.read_bytes()) == orientation
    if suffix != ".tif":
        found = read_image(path, as_stored=True)[..., ::-1].astype(int)
        assert np.abs(found - stored).max() <= difference


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, orientation):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path)[..., ::-1], PIXELS)
    path.write_bytes(png(7, 5, (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff")))
    assert read_orientation(path.read_bytes()) == 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm", ".ppm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bits_are_scaled_from_as_many_as_are_used(tmp_path, caplog, suffix, bits):
    path = tmp_path / f"a{suffix}"
    pixels = np.array(PIXELS[:, :, 0] if suffix == ".pgm" else PIXELS)
    pixels.flat[0] = 255
    path.write_bytes(encoded(suffix, pixels.astype(np.uint16) << (bits - 8)))
    found = read_image(path)
    assert (found == (pixels if pixels.ndim == 3 else pixels[..., None])).all()
    assert f"taken as {bits} bits and scaled to 8" in caplog.text
    assert len(caplog.records) == 1


def test_the_largest_value_that_a_netpbm_states_counts(tmp_path, caplog):
    dark = np.full((2, 3), 160, dtype=">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5\n# of a camera\n3 2\n4095\n" + dark.tobytes())
    assert read_image(tmp_path / "a.pgm").max() == 10
    (tmp_path / "b.pgm").write_bytes(b"P5 3 2 15\n" + bytes([0, 3, 6, 9, 12, 15]))
    assert read_image(tmp_path / "b.pgm")[..., 0].tolist() == [[0, 51, 102], [153, 204, 255]]


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.float64])
def test_pixels_that_are_no_unsigned_integers_are_refused(tmp_path, kind):
    (tmp_path / "a.tif").write_bytes(encoded(".tif", PIXELS.astype(kind)))
    with pytest.raises(SourceError, match=rf"a\.tif has pixels of {kind.__name__}, and .*convert"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_of_an_image_becomes_bgr(tmp_path, mode):
    grey = Image.fromarray(PIXELS[:, :, 0])
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    grey.convert("RGB" if mode == "CMYK" else "L").convert(mode).save(path)
    found = read_image(path)
    assert found.shape == (5, 7, 3)
    assert found.dtype == np.uint8
    if mode == "1":  # which is dithered
        assert set(found.flat) == {0, 255}
    else:
        assert np.abs(found.astype(int) - np.asarray(grey.convert("RGB"))).max() <= 2


def test_a_jpeg_of_cmyk_becomes_bgr(tmp_path):
    colours = Image.new("RGB", (16, 16), (200, 100, 50))
    colours.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (50, 100, 200)).max() <= 2


def test_8_bits_that_were_scaled_to_16_are_as_they_were(tmp_path):
    dark = PIXELS // 16
    (tmp_path / "a.png").write_bytes(encoded(".png", dark.astype(np.uint16) * 257))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), dark)
