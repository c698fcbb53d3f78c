"""The networks of MakeItTalk and how they are asked, for training, generation and figures alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from talkingface.errors import ConfigError
from talkingface.media import read_audio
from talkingface.models.makeittalk.assets import STYLES_FILE, read_style
from talkingface.models.makeittalk.clip_faces import FOLDER, canonical_of
from talkingface.models.makeittalk.config import MakeItTalkConfig
from talkingface.models.makeittalk.data import padded
from talkingface.models.makeittalk.motion import Amplitudes, combined, face_steps, settled
from talkingface.models.makeittalk.mouth import uncross_lips
from talkingface.models.makeittalk.networks.content import ContentBranch
from talkingface.models.makeittalk.networks.discriminators import FrameDiscriminator, TemporalDiscriminator
from talkingface.models.makeittalk.networks.pieces import FACE, WINDOW, windows_of
from talkingface.models.makeittalk.networks.scaled import Scaled
from talkingface.models.makeittalk.networks.speaker import STRESS, SpeakerBranch
from talkingface.models.makeittalk.networks.translation import TranslationUNet
from talkingface.models.makeittalk.segments import joined, spans
from talkingface.models.makeittalk.silence import closed_in_silence
from talkingface.plugin.contract import TalkingFaceModel
from talkingface.sound.front_ends import front_end_kind

if TYPE_CHECKING:
    from talkingface.clips.source import Audio

_AT_ONCE = 2048  # windows that go through the content branch together: they take 50 MB


class MakeItTalkNetworks(TalkingFaceModel):
    """Networks, and landmarks of a voice."""

    Config = MakeItTalkConfig
    draws_wanted = True
    config: MakeItTalkConfig

    def __init__(self, config: MakeItTalkConfig) -> None:
        super().__init__()
        self.config = config
        bands = front_end_kind(config.sound.name).width
        says, who, draw = config.content, config.speaker, config.translate
        content = ContentBranch(bands, says.hidden, says.prior, says.depth, says.dropout)
        if says.start == "zero":
            content.rest_at_start()
        self.content_branch = Scaled(content, bands)
        sizes = {"code": who.code, "width": who.width, "heads": who.heads, "layers": who.layers}
        speaker = SpeakerBranch(
            bands, who.hidden, who.depth, who.dropout, transformer_dropout=who.transformer_dropout, **sizes
        )
        self.speaker_branch = Scaled(speaker, bands)
        windows = {"window": who.window, "stride": who.stride, "inside_step": who.inside_step}
        self.temporal_discriminator = TemporalDiscriminator(dropout=who.transformer_dropout, **sizes, **windows)
        if who.frame_discriminator:
            self.frame_discriminator = FrameDiscriminator()
        self.translator = TranslationUNet(num_downs=draw.num_downs, width=draw.width)
        if draw.input == "warped":
            self.translator.add_nothing_at_start()

    def canonical(self) -> np.ndarray:
        """The face (68, 3) that all are registered to.

        Raises:
            DataError: it is to be the imported one, which is not there.
        """
        return canonical_of(self.config.canonical, self.weights_dir)

    # -- landmarks -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def content_of(self, rows: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Displacements (T, 204) that the content branch gives for rows of sound (T, bands) and a resting face (204,).

        There are as many as rows: the last one goes on.
        """
        branch, whole = self.content_branch, padded(rows)
        rest = torch.from_numpy(face).to(self.device, torch.float32)[None]
        parts = []
        for start in range(0, len(rows), _AT_ONCE):
            sound = torch.from_numpy(whole[start : start + _AT_ONCE + WINDOW - 1]).to(self.device)
            parts.append(branch.follow(sound, rest).float().cpu().numpy())
        return np.concatenate(parts)

    @torch.no_grad()
    def head_of(self, rows: np.ndarray, speaker: np.ndarray, content: np.ndarray | None = None) -> np.ndarray:
        """Displacements (T, 204) of the speaker branch.

        Args:
            rows: (T, bands) of sound.
            speaker: (256,) vector of who speaks.
            content: (T, 204) displacements of the content branch: where it is calm segments of a long sound meet.
        """
        whole, calm = padded(rows), None if content is None else face_steps(content)
        places = spans(len(rows), self.config.inference.segmenting, least=1, motion=calm)
        vector = STRESS * torch.from_numpy(speaker).to(self.device)[None]
        parts = []
        for start, stop in places:
            sound = torch.from_numpy(whole[start : stop + WINDOW - 1]).to(self.device)
            motion = self.speaker_branch(windows_of(sound)[None], vector)
            parts.append(motion.displacement[0].float().cpu().numpy())
        return joined(parts, places)

    def faces_of(self, audio: Audio, face: np.ndarray, head: bool) -> np.ndarray:
        """Faces (T, 68, 3) over time, 62.5 rows per second from time 0.

        Args:
            audio: what is said.
            face: (68, 3) at rest.
            head: whether the speaker branch moves it, too.
        """
        assert self.front_end is not None, "bind() comes first"
        rows = self.front_end.extract_window(audio.samples, audio.before, audio.going_on("heard", dict))
        faces = self.faces_from(rows, self._style(audio) if head else None, face)
        return closed_in_silence(faces, audio) if self.config.inference.silence == "close" else faces

    def faces_from(self, rows: np.ndarray, speaker: np.ndarray | None, face: np.ndarray) -> np.ndarray:
        """The same for rows of sound (T, bands) and a speaker's vector (n,); without one the head rests."""
        rest = face.reshape(FACE).astype(np.float32)
        said, moved = self.content_of(rows, rest), np.zeros((len(rows), FACE), np.float32)
        if speaker is not None:
            moved = self.head_of(rows, speaker, said)
        made = self.config.inference
        size = Amplitudes(made.amp_lip_x, made.amp_lip_y, made.amp_pos)
        displacements = combined(moved, said, size, made.calibrate)
        faces = uncross_lips((displacements + rest).reshape(-1, 68, 3))
        return settled(faces.reshape(len(faces), FACE)).reshape(-1, 68, 3)

    def _style(self, audio: Audio) -> np.ndarray:
        """The vector of whose head motion it is: the voice's own, that of another one's file, or an imported one.

        Raises:
            MediaError: that file is missing or damaged.
            DataError: there is no such imported one.
            ConfigError: the front end tells no speakers apart, or otherwise than the imported vectors.
        """
        assert self.front_end is not None
        style = self.config.inference.style
        imported = self.weights_dir / FOLDER / STYLES_FILE
        if style != "own" and imported.is_file() and not Path(style).exists():
            if self.config.sound.speaker != "resemblyzer":
                told = f"{imported} has vectors of resemblyzer, these weights know others"
                raise ConfigError(f"model.inference.style={style}: {told}")
            return read_style(imported, style)
        vector = self.front_end.vector(audio.samples if style == "own" else read_audio(style))
        if vector is None:
            raise ConfigError("model.sound.speaker is empty, so nothing tells the speaker branch who speaks")
        return vector


def branches(model: nn.Module, windows: Tensor, face: Tensor) -> Tensor:
    """Displacements (B, L, 204) of the content branch for sequences of windows (B, L, 18, bands) and faces (B, 204)."""
    length = windows.shape[1]
    rest = face.repeat_interleave(length, dim=0)
    return model.content_branch(windows.flatten(0, 1), rest).unflatten(0, windows.shape[:2])
