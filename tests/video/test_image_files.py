from pathlib import Path

import pytest

from fcn_trt.errors import SourceError
from fcn_trt.video.image_files import folder_images, output_names, pattern_images
from fcn_trt.video.source import open_source


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Make files of such names, with nothing in them, and work beside them."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("seq/frame_%d.png", ["seq/frame_1.png", "seq/frame_02.png", "seq/frame_10.png"]),
        ("seq/frame_%02d.png", ["seq/frame_02.png", "seq/frame_10.png"]),
        ("seq/*k_%d.png", ["seq/frame_mask_1.png"]),
        ("seq/frame_?.png", ["seq/frame_1.png"]),
        ("seq/frame_[0-9].png", ["seq/frame_1.png"]),
        ("clips [a]/*.png", ["clips [a]/1.png", "clips [a]/[2].png"]),
        ("clips [a]/%d.png", ["clips [a]/1.png"]),
        ("clips [a]/[%d].png", ["clips [a]/[2].png"]),
        ("clips [a]/b/../[[]2].png", ["clips [a]/b/../[2].png"]),
        ("**/%d.png", ["clips [a]/1.png", "clips [a]/b/3.png", "top/4.png", "5.png"]),
        ("top/**/%d.png", ["top/4.png"]),
        ("cam%d/*.png", ["cam1/a.png", "cam20/a.png"]),
        ("star*/x.png", ["star*/x.png"]),
    ],
)
def test_a_pattern_matches_what_it_says(files, pattern, found):
    files(*(f"seq/frame_{name}.png" for name in ("1", "02", "10", "1_mask", "mask_1", "1a")))
    files("clips [a]/1.png", "clips [a]/[2].png", "clips [a]/b/3.png", "top/4.png", "5.png")
    files("cam1/a.png", "cam20/a.png", "camx/a.png", "star*/x.png", "seq/.hidden.png")
    assert set(map(str, pattern_images(pattern))) == set(found)
    absolute = pattern_images(str(Path.cwd() / pattern))
    assert {str(path.relative_to(Path.cwd())) for path in absolute} == set(found)


def test_a_pattern_is_in_natural_order(files):
    files("frame_10.png", "frame_9.png")
    assert pattern_images("frame_%d.png") == [Path("frame_9.png"), Path("frame_10.png")]


def test_hidden_files_are_left_out_and_others_are_counted(files, caplog):
    files("in/a.png", "in/._a.png", "in/.DS_Store", "in/b.heic", "in/c.GIF", "in/sub/d.png")
    assert folder_images(Path("in").resolve()) == [Path("in/a.png").resolve()]
    (said,) = caplog.messages
    assert "2 of the 3 files in" in said
    assert "are left out, the first is 'b.heic'; images end in .bmp" in said
    folder_images(Path("in").resolve())
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["in/hall_9.png", "in/kitchen.jpg"], ["hall_9", "kitchen"]),
        (["one.v2.png"], ["one.v2"]),
        (["x/a.png", "y/a.png"], ["x/a", "y/a"]),
        (["x/a.png", "x/deep/a.png"], ["a", "deep/a"]),
        (["in/a.png", "in/a.jpg", "in/b.jpg"], ["a.png", "a.jpg", "b.jpg"]),
        (["in/A.png", "in/a.jpg"], ["A.png", "a.jpg"]),
    ],
)
def test_what_is_made_of_images_is_named_after_them(images, names):
    assert output_names([Path(image) for image in images]) == names
    assert output_names([Path("/data") / image for image in images]) == names


@pytest.mark.parametrize("prefix", ["file://", "file://localhost", "FILE://"])
def test_a_file_url_is_its_path(make_video, tmp_path, prefix):
    folder = tmp_path / "my clips"
    folder.mkdir()
    make_video("a.mp4", count=3).replace(folder / "é.mp4")
    with open_source(f"{prefix}{tmp_path}/my%20clips/%C3%A9.mp4") as source:
        assert len(list(source)) == 3
    with pytest.raises(SourceError, match=r"source 'file://.*/gone%20\*\.mp4' does not exist"):
        open_source(f"file://{tmp_path}/gone%20*.mp4")
