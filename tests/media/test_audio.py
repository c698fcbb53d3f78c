"""Sound tracks as people have them: several, in antiphase, with broken time stamps."""

from __future__ import annotations

import av
import numpy as np
import pytest

from helpers.media_files import click, write_sound, write_video
from talkingface import media
from talkingface.clips.source import Audio
from talkingface.errors import MediaError


def two_tracks(path, levels, default):
    """A file with two sound tracks of these levels, of which one is marked as default."""
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("aac", rate=16000, layout="mono") for _ in levels]
        tracks[0].metadata["language"] = "fre"
        for number, track in enumerate(tracks):
            track.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
        for track, level in zip(tracks, levels, strict=True):
            samples = (level * np.sin(np.arange(16000) * 0.3)).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux([*track.encode(frame), *track.encode(None)])
    return path


def test_the_sound_track_marked_as_default_is_taken(tmp_path):
    path = two_tracks(tmp_path / "a.mkv", (0.0, 0.5), 1)
    assert np.abs(media.read_audio(path)).max() > 0.4


def test_a_silent_track_names_the_others(tmp_path):
    path = two_tracks(tmp_path / "a.mkv", (0.5, 0.0), 1)
    with pytest.raises(MediaError, match=r"the sound track 2 \(there are others: 1 fre\) is silent; give a recording"):
        Audio.load(path)


def test_a_voice_in_antiphase_is_heard(tmp_path, caplog):
    voice = 0.5 * np.sin(np.arange(16000) * 0.3).astype(np.float32)
    path = write_sound(tmp_path / "a.wav", np.stack([voice, -voice]), 16000, "pcm_f32le")
    np.testing.assert_allclose(media.read_audio(path), voice, atol=1e-4)
    assert "a.wav: the channels of the sound cancel each other" in caplog.text


def test_time_stamps_cannot_ask_for_more_silence_than_the_sound_justifies(tmp_path):
    sound = click(1.0, at=0.5)[None]
    path = write_video(tmp_path / "a.mkv", [0.0, 0.04], audio=sound, audio_start=5e6)
    with pytest.raises(MediaError, match=r"a\.mkv: its time stamps ask for 5000000 s of silence beside 1 s of sound"):
        media.read_audio(path)


@pytest.mark.parametrize("rate", [10, 989_871_744])
def test_a_rate_that_no_recording_has_is_refused_at_once(tmp_path, rate):
    media.write_wav(tmp_path / "a.wav", np.zeros(16000, np.float32), rate)
    with pytest.raises(MediaError, match=rf"a\.wav: its sound has {rate} samples per second"):
        media.read_audio(tmp_path / "a.wav")
