"""Generation: a voice makes a picture speak, or the face in a video say something else.

Landmarks of the whole sound are held, pictures for one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from talkingface.clips.redraw import FrameBatch, frame_batches
from talkingface.clips.source import report_missing
from talkingface.faces.ibug68 import JAW, LIPS
from talkingface.models.makeittalk.clip_faces import face_height, head_box
from talkingface.models.makeittalk.motion import ROWS_PER_SECOND, blink_centres, blinking, rows_before, smoothed
from talkingface.models.makeittalk.mouth import Features, close_portrait, with_features
from talkingface.models.makeittalk.portraits import Group, Portrait, choose_portraits
from talkingface.models.makeittalk.pose import LinearPose, portrait_pose
from talkingface.models.makeittalk.puppet.speak import PuppetSource, puppet_frames
from talkingface.models.makeittalk.render import Painter, pane
from talkingface.plugin.contract import Drawn
from talkingface.sound.rows import held_at

if TYPE_CHECKING:
    from talkingface.clips.source import Audio, Source
    from talkingface.models.makeittalk.parts import MakeItTalkNetworks

_CPU_BATCH, _GPU_BATCH = 4, 32  # published size: 15 MB of maps per frame
SPOKEN = (*range(JAW.start + 1, JAW.stop - 1), *range(LIPS.start, LIPS.stop))
"""Points that the voice moves in a video: lips and jaw but for its ends."""


def generate(model: MakeItTalkNetworks, source: Source, audio: Audio) -> Iterator[Drawn]:
    """Yield one full frame per video frame of the audio, or per frame wanted of it.

    Raises:
        NoFaceError: the source shows no face, or some frames do not and `no_face` is `error`.
        DataError: an imported file is missing.
    """
    if isinstance(source, PuppetSource):
        return _perform(model, source, audio)
    if model.head_follows(source.is_image) == "source":
        return _dub(model, source, audio)
    return _talk(model, source, audio)


def head_of(setting: str, picture: bool) -> str:
    """What the head follows with a setting of `inference.head`: `source`, `predicted` or `none`."""
    return ("predicted" if picture else "source") if setting == "auto" else setting


def frame_batch(model: MakeItTalkNetworks) -> int:
    """Frames per pass."""
    return model.config.inference.batch or (_CPU_BATCH if model.device.type == "cpu" else _GPU_BATCH)


# -- a picture ---------------------------------------------------------------------------------------------------------


def _talk(model: MakeItTalkNetworks, source: Source, audio: Audio) -> Iterator[Drawn]:
    """A picture, or the first frame with a face of a video, speaks."""
    track, settings = source.landmarks(), model.config.inference
    shown = int(np.flatnonzero(track.found)[0])
    picture, points = source.read([shown])[0], track.ibug68()[shown].astype(np.float64)
    moved = spoken_points(model, audio, points, settings.head != "none")
    moved = held_at(moved, audio.rows(source.fps) / source.fps * ROWS_PER_SECOND)
    portrait = Portrait(picture, points)
    painter = audio.going_on("painter", lambda: Painter(model, portrait, opacity=source.opacity()))
    size = frame_batch(model)
    for start in range(0, len(moved), size):
        part = moved[start : start + size]
        for frame, points in zip(painter.speaking(part), part, strict=True):
            debug = pane(points, painter.box, frame, painter.whole) if settings.save_debug_video else None
            yield Drawn(frame, debug, painter.opacity_at(points))


def spoken_points(model: MakeItTalkNetworks, audio: Audio, points: np.ndarray, head: bool) -> np.ndarray:
    """Landmarks (T, 68, 2) in pixels of a portrait that speaks, 62.5 per second.

    Args:
        model: with a front end.
        audio: what it says.
        points: (68, 2) of the portrait.
        head: whether the speaker branch moves it.
    """
    return portrait_points(model, points, lambda face: model.faces_of(audio, face, head), rows_before(audio))


def portrait_points(
    model: MakeItTalkNetworks, points: np.ndarray, speak: Callable[[np.ndarray], np.ndarray], before: float = 0.0
) -> np.ndarray:
    """The same for a portrait whose faces over time (T, 68, 3) follow from the one at rest (68, 3) by `speak`.

    Args:
        model: with a front end.
        points: (68, 2) of the portrait.
        speak: gives the faces.
        before: rows of a longer voice before these.
    """
    settings, canonical = model.config.inference, model.canonical()
    upper, lower = settings.lip_thickness
    features = Features(upper, lower, settings.eyes, settings.lip_width).in_units(face_height(points))
    resting = close_portrait(points) if settings.close_input_mouth else points
    resting = with_features(resting, features)
    pose = portrait_pose(resting, canonical, settings.align)
    face = pose.normalise(resting, settings.depth * canonical[:, 2])
    faces = pose.denormalise(speak(face))
    if settings.blinks:
        faces = blinking(faces, blink_centres(len(faces), settings.blink_seed, settings.blinks, before))
    return smoothed(faces.reshape(len(faces), -1)).reshape(faces.shape)[..., :2]


# -- a puppet ----------------------------------------------------------------------------------------------------------


def _perform(model: MakeItTalkNetworks, source: PuppetSource, audio: Audio) -> Iterator[Drawn]:
    """A puppet speaks; triangles alone draw it."""
    box = head_box(source.puppet.points[None])
    clear = source.opacity() is not None
    for frame, opacity, points in puppet_frames(model, source, audio):
        debug = pane(points, box, frame) if model.config.inference.save_debug_video else None
        yield Drawn(frame, debug, opacity if clear else None)


# -- a video -----------------------------------------------------------------------------------------------------------


def _dub(model: MakeItTalkNetworks, source: Source, audio: Audio) -> Iterator[Drawn]:
    """The face in a video says something else: pose, brows, nose and eyes are the video's, lips and jaw the voice's."""
    track, count = source.landmarks(), audio.n_frames(source.fps)
    order, rows = np.asarray(source.order(count)), audio.rows(source.fps)
    report_missing(track.valid, order[rows], str(source.path), model.config.inference.no_face)
    points = track.ibug68().astype(np.float64)
    times = np.arange(count) / source.fps
    resting = model.config.content.resting
    portraits = source.once(model, "portraits", lambda: choose_portraits(source, track, resting))
    speakers = [_Speaker(model, group, audio, times, points[track.valid]) for group in portraits]
    batches = frame_batches(iter(source.frames(order[rows])), order, track.valid, rows, frame_batch(model))
    for part in batches:
        wanted: dict[int, np.ndarray] = {}
        for speaker in speakers:
            wanted |= speaker.speak(part, points)
        for k, frame in enumerate(part.pictures):
            shown = model.config.inference.save_debug_video
            yield Drawn(frame, pane(wanted.get(k), speakers[0].painter.box, frame) if shown else None)


class _Speaker:
    """A portrait that speaks in the frames of a video which it serves.

    Args:
        model: with a front end.
        group: the portrait, and whom it serves.
        audio: what is said.
        times: (n,) seconds of the output frames.
        faces: (F, 68, 2) all landmarks of the video.
    """

    def __init__(
        self, model: MakeItTalkNetworks, group: Group, audio: Audio, times: np.ndarray, faces: np.ndarray
    ) -> None:
        canonical = model.canonical()
        depth = model.config.inference.depth * canonical[:, 2]
        faces_at_rest = [LinearPose.upright(face, canonical).normalise(face, depth) for face in group.resting]
        self.rest = np.mean(faces_at_rest, axis=0)
        self.spoken = held_at(model.faces_of(audio, self.rest, head=False), times * ROWS_PER_SECOND)
        self.painter, self.serves = Painter(model, group.portrait, faces), group.serves

    def speak(self, part: FrameBatch, points: np.ndarray) -> dict[int, np.ndarray]:
        """Redraw its frames of a batch in place.

        Returns:
            Wanted landmarks (68, 2) by place in the batch.
        """
        mine = [int(k) for k in part.faces if self.serves[part.shown[k]]]
        old = [points[part.shown[k]] for k in mine]
        new = [_target(face, self.rest, self.spoken[part.rows[k]]) for k, face in zip(mine, old, strict=True)]
        drawn = self.painter.into([part.pictures[k] for k in mine], old, new)
        for k, frame in zip(mine, drawn, strict=True):
            part.pictures[k] = frame
        return dict(zip(mine, new, strict=True))


def _target(points: np.ndarray, rest: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """Landmarks (68, 2) of a frame whose lips and jaw are where the voice wants them.

    Args:
        points: (68, 2) of the frame.
        rest: (68, 3) the portrait at rest.
        spoken: (68, 3) the same while it speaks.
    """
    target, chosen = points.copy(), list(SPOKEN)
    target[chosen] = LinearPose.turned(rest, points).denormalise(spoken)[chosen, :2]
    return target
