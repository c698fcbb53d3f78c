"""What the published landmark networks hear: the mel of a voice converted to one that is the same for all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from talkingface.errors import CheckpointError
from talkingface.models.makeittalk.assets import VOICE_FILE, read_voice
from talkingface.models.makeittalk.conversion import converted_mel
from talkingface.models.makeittalk.networks.autovc import AutoVC
from talkingface.models.makeittalk.segments import Segmenting
from talkingface.networks.speaker_encoder import Resemblyzer
from talkingface.sound.front_ends import FrontEnd, register_front_end
from talkingface.sound.pitch import Range, Tracker, default_tracker, pitch_bins, pitch_rows, relative_pitch, track_pitch
from talkingface.sound.speaker import Detector
from talkingface.sound.voice_mel import BANDS, ROWS_PER_SECOND, Level, as_pcm, levelled, scaled_mel, voice_signal
from talkingface.weights.checkpoint import load_state, read

FOLDER = "MakeItTalk"
"""Below the folder of weight files."""

AUTOVC_FILE = "ckpt_autovc.pth"


@register_front_end
class ConvertedMel(FrontEnd):
    """Mel, pitch and speaker of a voice through AutoVC.

    Args:
        weights_dir: folder of weight files.
        device: where the networks compute.
        search: range of the pitch; published: `F` for everybody.
        tracker: of the pitch; None: the published one where it is installed.
        segmenting: of sound longer than a minute.
        detector: who says what is voice, see `Resemblyzer`.
    """

    name = "autovc"
    rows_per_second = ROWS_PER_SECOND
    width = BANDS
    files = (f"{FOLDER}/{AUTOVC_FILE}", f"{FOLDER}/{VOICE_FILE}")

    def __init__(
        self,
        weights_dir: str | Path = "checkpoints",
        device: str = "cpu",
        search: Range = "F",
        tracker: Tracker | None = None,
        segmenting: Segmenting = "overlap",
        detector: Detector | None = None,
    ) -> None:
        super().__init__(weights_dir, device)
        self.search = self.one_of(Range, "search", search)
        self.tracker = self.one_of(Tracker, "tracker", tracker or default_tracker())
        self.segmenting = self.one_of(Segmenting, "segmenting", segmenting)
        self.speaker = Resemblyzer(weights_dir, device, detector)
        self.parts = (self.speaker,)

    def settings(self) -> dict[str, Any]:
        """What changes the rows."""
        return {"search": self.search, "tracker": self.tracker, "segmenting": self.segmenting}

    @cached_property
    def network(self) -> AutoVC:
        """The conversion, read at its first use.

        Raises:
            CheckpointError: missing, unreadable, or something else.
        """
        path = self.path(self.files[0])
        content = read(path, objects=True)
        state = content.get("model") if isinstance(content, Mapping) else None
        if not isinstance(state, Mapping):
            raise CheckpointError(f"{path}: no AutoVC inside: expected an entry 'model'")
        network = AutoVC()
        load_state(network, state, str(path))
        return network.to(self.device).eval()

    @cached_property
    def target(self) -> np.ndarray:
        """The voice that all others are converted to, (256,)."""
        return read_voice(self.path(self.files[1]))

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        return self._converted(samples)

    def extract_window(self, samples: np.ndarray, before: int, memory: dict[str, Any]) -> np.ndarray:
        """See `FrontEnd.extract_window`; pitch and speaker are those of the window."""
        return self._converted(samples, memory.setdefault("level", Level()).hear(as_pcm(samples), before))

    def _converted(self, samples: np.ndarray, now: float | None = None) -> np.ndarray:
        """Rows of samples that are as loud as `now` says in dB; None: as they are."""
        signal = voice_signal(samples, now)
        pitch = pitch_rows(pitch_bins(relative_pitch(track_pitch(signal, self.search, self.tracker))))
        # The speaker is told by the levelled sound, as published.
        source = self.speaker.vector(levelled(as_pcm(samples), now=now).astype(np.float32) / 32768)
        return converted_mel(self.network, scaled_mel(signal), pitch, source, self.target, self.segmenting)
