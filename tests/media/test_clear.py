"""Pictures that something shines through: read, put before others, and written with their opacity."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from talkingface.errors import OutputError
from talkingface.media import VideoReader, probe, read_audio, read_image, write_image
from talkingface.media.clear import ClearVideoWriter, FrameFolder, frame_writer, holds_opacity
from talkingface.media.opacity import Backdrop, straight
from talkingface.media.write import VideoWriter


def disc(size=(64, 80), colour=(200, 30, 60)) -> np.ndarray:
    """(H, W, 4) RGBA: a disc with a soft edge on nothing; what is hidden is green."""
    picture = np.zeros((*size, 4), np.uint8)
    picture[...] = (0, 255, 0, 0)
    mask = np.zeros(size, np.uint8)
    cv2.circle(mask, (size[1] // 2, size[0] // 2), 20, 255, -1)
    picture[mask > 0, :3] = colour
    picture[..., 3] = cv2.GaussianBlur(mask, (0, 0), 2) * (mask > 0)
    return picture


def on_white(picture):
    share = picture[..., 3:] / 255
    return np.rint(picture[..., :3] * share + 255 * (1 - share)).astype(np.uint8)


def test_a_picture_is_read_as_seen_on_white_with_its_opacity_beside_it(tmp_path):
    write_image(tmp_path / "disc.png", disc())
    found = read_image(tmp_path / "disc.png", opacity=True)
    np.testing.assert_array_equal(found[..., 3], disc()[..., 3])
    np.testing.assert_array_equal(found[..., :3], on_white(disc()))
    np.testing.assert_array_equal(read_image(tmp_path / "disc.png"), on_white(disc()))


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "RGB", "P"])
def test_pictures_of_any_kind_have_an_opacity(tmp_path, mode):
    values = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1))
    whole = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(values).convert(mode)
    whole.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", opacity=True)
    assert found.shape == (24, 32, 4) and (found[..., 3] == 255).all()
    assert np.abs(found[..., 0].astype(int) - values).max() <= 1


def test_a_turned_photo_is_turned_with_its_opacity(tmp_path):
    picture = Image.fromarray(np.zeros((10, 20, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", opacity=True).shape == (20, 10, 4)


def test_files_get_colour_and_opacity_apart():
    shown, opacity = on_white(disc()), disc()[..., 3]
    found = straight(shown, opacity)
    clearly = opacity > 100
    assert np.abs(found[clearly].astype(int) - disc()[clearly]).max() <= 3
    np.testing.assert_array_equal(found[..., 3], opacity)
    np.testing.assert_array_equal(on_white(found)[opacity > 20], shown[opacity > 20])


def test_a_backdrop_is_seen_where_the_picture_is_not():
    behind = np.zeros((32, 40, 3), np.uint8)
    behind[:, :20] = (10, 200, 30)
    found = Backdrop(behind, (64, 80)).behind(on_white(disc()), disc()[..., 3])
    np.testing.assert_array_equal(found[2, 2], (10, 200, 30))
    np.testing.assert_array_equal(found[2, 77], (0, 0, 0))
    np.testing.assert_array_equal(found[32, 40], (200, 30, 60))
    share = disc()[..., 3:] / 255
    stretched = cv2.resize(behind, (80, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(found - (disc()[..., :3] * share + stretched * (1 - share))).max() <= 1.5


def written(writer, frames):
    with writer:
        for frame in frames:
            writer.write(frame)


@pytest.mark.parametrize("size", [(64, 80), (63, 81)])
def test_a_transparent_film_comes_back_with_its_opacity(tmp_path, size):
    sound = 0.1 * np.sin(np.arange(16000))
    frames = [disc(size, (200, 30 + 20 * k, 60)) for k in range(5)]
    written(ClearVideoWriter(tmp_path / "a.mov", fps=25, audio=sound), frames)
    assert probe(tmp_path / "a.mov").size == size and len(read_audio(tmp_path / "a.mov")) == pytest.approx(3200, abs=1)
    shown = list(VideoReader(tmp_path / "a.mov"))
    assert len(shown) == 5
    for frame, picture in zip(frames, shown, strict=True):
        assert np.abs(on_white(frame).astype(int) - picture).mean() < 1.5
        assert np.abs(picture[2:6, 2:6].astype(int) - 255).max() <= 2


def test_a_folder_of_pictures_has_frames_and_sound(tmp_path):
    sound = np.full(16000, 0.25, np.float32)
    written(FrameFolder(tmp_path / "out", fps=25, audio=sound), [disc()] * 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"frame_0000{k}.png" for k in range(3)),
        "sound.wav",
    ]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "frame_00002.png")), disc())
    assert len(read_audio(tmp_path / "out" / "sound.wav")) == 1920
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt), FrameFolder(tmp_path / "out") as writer:
        writer.write(disc())
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="no frame was written"), FrameFolder(tmp_path / "out"):
        pass
    (tmp_path / "there").mkdir()
    with pytest.raises(OutputError, match=r"there: .*name a new folder"), FrameFolder(tmp_path / "there"):
        pass
    assert sorted(tmp_path.iterdir()) == [tmp_path / "there"]


def test_the_name_of_the_output_decides_what_is_written(tmp_path):
    assert holds_opacity(tmp_path / "a.mov") and holds_opacity(tmp_path / "a") and not holds_opacity(tmp_path / "a.mp4")
    kinds = [type(frame_writer(tmp_path / name, None, clear)) for name, clear in
             (("a.mov", True), ("a.mov", False), ("a", True), ("a.mp4", False))]  # fmt: skip
    assert kinds == [ClearVideoWriter, VideoWriter, FrameFolder, VideoWriter]
