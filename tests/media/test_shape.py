"""Pictures are shown as people see them: upright, unmirrored, in square pixels, on white."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from helpers.media_files import set_display_matrix, write_video
from talkingface import media
from talkingface.errors import MediaError


def scene(height=48, width=64):
    """A picture that looks different in each of the eight orientations, smooth enough for any codec."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 5, columns * 3, (rows + columns) * 2], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_photos_are_turned_as_their_camera_noted(tmp_path, number, suffix):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = number
    more = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(scene()).save(path, exif=exif, **more)
    with Image.open(path) as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture).convert("RGB")).astype(int)
    assert np.abs(media.read_image(path) - upright).mean() < 3
    assert media.probe(path).size == upright.shape[:2]


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0), (0, 1, -1, 0)])
def test_films_are_turned_and_mirrored_as_their_header_says(tmp_path, matrix):
    path = write_video(tmp_path / "a.mp4", [0.0, 0.04], frames=[scene()] * 2)
    stored = next(iter(media.VideoReader(path))).astype(int)
    set_display_matrix(path, *matrix)
    a, b, c, d = matrix
    # A point (x, y) goes to (a x + c y, b x + d y); what becomes negative is counted from the other end.
    shown = stored.transpose(1, 0, 2) if a == 0 else stored
    shown = shown[:, ::-1] if a + c < 0 else shown
    shown = shown[::-1] if b + d < 0 else shown
    np.testing.assert_array_equal(next(iter(media.VideoReader(path))), shown)
    assert media.probe(path).size == shown.shape[:2]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_a_png_with_a_colour_profile_is_read_by_a_process_that_lives_on(tmp_path, mode):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(scene()).convert(mode)
    picture.save(tmp_path / "a.png", icc_profile=profile)
    code = (
        "import gc, sys, numpy as np\nfrom talkingface import media\n"
        "np.save(sys.argv[2], media.read_image(sys.argv[1])); media.probe(sys.argv[1]); gc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png", tmp_path / "a.npy"], capture_output=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(4, 3), (48, 85)), (Fraction(8, 9), (54, 64)), (1, (48, 64))])
def test_films_come_in_square_pixels(tmp_path, aspect, size):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(), format="rgb24")))
        container.mux(stream.encode(None))
    assert media.probe(path).size == size
    (frame,) = media.VideoReader(path)
    assert frame.shape[:2] == size
    shrunk = np.asarray(Image.fromarray(frame).resize((64, 48))).astype(int)
    assert np.abs(shrunk - scene()).mean() < 4


def red_disc(codec, pixel_format, path):
    """A red square on a transparent ground, coded as a film of 3 frames."""
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[16:48, 16:48] = (200, 30, 30, 255)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 64, pixel_format
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


FILMS = {
    "vp9.webm": ("libvpx-vp9", "yuva420p"),
    "prores.mov": ("prores_ks", "yuva444p10le"),
    "animation.mov": ("qtrle", "argb"),
    "png.mov": ("png", "rgba"),
    "a.apng": ("apng", "rgba"),
}


@pytest.mark.parametrize("name", FILMS)
def test_transparent_films_lie_on_white(tmp_path, name):
    frames = list(media.VideoReader(red_disc(*FILMS[name], tmp_path / name)))
    assert len(frames) == 3
    for frame in frames:
        assert frame[2, 2].min() >= 253 and abs(frame[32, 32].astype(int) - (200, 30, 30)).max() < 8


def test_a_palette_with_transparency_lies_on_white(tmp_path):
    picture = Image.new("RGBA", (32, 32))
    picture.paste((200, 30, 30, 255), (8, 8, 24, 24))
    picture.quantize(8, Image.Quantize.FASTOCTREE).save(tmp_path / "a.png")
    frame = media.read_image(tmp_path / "a.png")
    assert frame[0, 0].tolist() == [255, 255, 255] and frame[16, 16].tolist() == [200, 30, 30]


def motion_photo(path, trailer):
    Image.fromarray(scene()).save(path, quality=90)
    whole = path.read_bytes()
    path.write_bytes(whole + trailer)
    return whole


def test_what_a_phone_appends_to_a_photo_does_no_harm(tmp_path):
    film = write_video(tmp_path / "film.mp4", [0.0, 0.04]).read_bytes()
    for trailer in (film, b"\xff\xda" * 8 + film, b"\xff\xd9\xff\xda\x00\x00"):
        motion_photo(tmp_path / "a.jpg", trailer)
        assert media.read_image(tmp_path / "a.jpg").shape == (48, 64, 3)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_photo_cut_in_its_scan_is_refused(tmp_path, progressive):
    Image.fromarray(scene()).save(tmp_path / "a.jpg", quality=90, progressive=progressive)
    whole = (tmp_path / "a.jpg").read_bytes()
    assert media.read_image(tmp_path / "a.jpg").shape == (48, 64, 3)
    for share in (0.7, 0.9):
        (tmp_path / "a.jpg").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MediaError, match="cut short|corrupt"):
            media.read_image(tmp_path / "a.jpg")


def test_an_avif_photo_is_one_picture(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.avif", quality=90)
    info = media.probe(tmp_path / "a.avif")
    assert (info.size, info.is_image, media.count_frames(tmp_path / "a.avif")) == ((48, 64), True, 1)
    (frame,) = media.VideoReader(tmp_path / "a.avif")
    assert np.abs(frame.astype(int) - scene()).mean() < 5


def test_an_animated_webp_is_called_what_it_is(tmp_path):
    pictures = [Image.fromarray(np.roll(scene(), 9 * k, 0)) for k in range(3)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:])
    with pytest.raises(MediaError, match="an animated WebP, which FFmpeg does not read; save it as gif or mp4"):
        media.probe(tmp_path / "a.webp")


@pytest.mark.parametrize("size", [(40000, 2), (2, 40000), (12000, 12000)])
def test_a_picture_too_large_to_be_searched_is_refused(tmp_path, size):
    Image.new("1", size).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match=f"is {size[0]} x {size[1]} pixels; .*make it smaller"):
        media.probe(tmp_path / "a.png")
