"""IPLAP's generation: landmarks of the source, references, predicted mouths, rendered faces, pasted back.

Landmarks and predictions are held for the whole video (a few kB per frame), pictures only for one batch at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from talkingface.data.face import box_pixels, contour_mask, crop_face, paste_face, polygon_mask
from talkingface.data.facemesh import JAWLINE
from talkingface.data.mel import mel_windows, melspectrogram
from talkingface.data.sketch import draw_sketches
from talkingface.devices import resolve_precision
from talkingface.errors import NoFaceError
from talkingface.model.iplap_data import CONTENT, POSE, ClipPoints, box_shapes, clip_points
from talkingface.model.iplap_geometry import mouth_openness, select_references

if TYPE_CHECKING:
    from talkingface.data.landmarks import LandmarkTrack
    from talkingface.data.source import Audio, Source
    from talkingface.model.iplap import IPLAP
    from talkingface.networks.alignment import References

log = logging.getLogger("talkingface")

CPU_BATCH, GPU_BATCH = 8, 64
WINDOWS = 256  # windows of landmarks per pass
# Bridge of the nose between the ears: upper edge of the `lower` mask.
NOSE_BRIDGE = (454, 323, 425, 280, 429, 195, 209, 50, 205, 93, 234)


@torch.no_grad()
def generate(model: IPLAP, source: Source, audio: Audio) -> Iterator[np.ndarray]:
    """Yield one full frame, uint8 RGB (H, W, 3), per video frame of the audio.

    Frames without a face (gaps longer than a second; shorter ones are interpolated) pass through as they are and are
    reported once. Outside the mask every frame equals the source exactly.

    Raises:
        NoFaceError: the source or its reference shows no face, or some frames do not and `no_face` is `error`.
    """
    scene = Scene.look(model, source)
    order = np.asarray(source.order(audio.n_frames(source.fps)))
    report_missing(scene.points.valid, order, str(source.path), model.config.inference.no_face)
    groups = reference_groups(model, source, scene)
    mels = melspectrogram(audio.samples)
    content = np.zeros((len(order), model.config.landmark.window, 2, CONTENT), np.float32)
    for group in groups:
        mine = group.serves[order]
        if mine.any():
            content[mine] = predict_content(model, scene.points, order, mels, group, source.fps)[mine]
    content = finish_content(model, scene.points, order, content, audio, groups, source.fps)
    batch = model.config.inference.batch or (CPU_BATCH if model.device.type == "cpu" else GPU_BATCH)
    frames = iter(source.frames(order))
    for start in range(0, len(order), batch):
        rows = np.arange(start, min(start + batch, len(order)))
        pictures = list(islice(frames, len(rows)))
        for group in groups:
            mine = [k for k, row in enumerate(rows) if group.serves[order[row]] and scene.points.valid[order[row]]]
            if mine:
                part = rows[mine]
                windows = mel_windows(mels, part, source.fps)
                faces = render(model, scene, group, [pictures[k] for k in mine], order, part, content, windows)
                for k, face in zip(mine, faces, strict=True):
                    pictures[k] = scene.paste(model, pictures[k], face, int(order[rows[k]]))
        yield from pictures


@dataclass
class Scene:
    """Where the face is in every frame of a video."""

    track: LandmarkTrack
    points: ClipPoints
    openness: np.ndarray

    @classmethod
    def look(cls, model: IPLAP, source: Source) -> Scene:
        """Find the landmarks of a source (once; the source keeps them) and the face boxes."""
        track = source.landmarks()
        crop, settings = model.config.inference_crop, model.config.inference
        points = clip_points(track, crop)
        if settings.smooth == "savgol":
            boxes = smoothed(points.boxes, points.valid, settings.smooth_window)
            points = clip_points(track, crop, np.clip(boxes, 0, [*track.size[::-1], *track.size[::-1]]))
        if not points.valid.any():
            raise NoFaceError(f"{source.path}: no face found in any of its {len(points.valid)} frames")
        return cls(track, points, mouth_openness(track.points_px, track.size))

    def paste(self, model: IPLAP, picture: np.ndarray, face: np.ndarray, frame: int) -> np.ndarray:
        """Blend a generated face (S, S, 3) uint8 into its frame."""
        settings, box = model.config.inference, self.points.boxes[frame]
        if model.postprocess is not None:
            face = model.postprocess(face)
        x1, y1, x2, y2 = box_pixels(box, picture.shape[:2])
        points = self.track.points_px[frame] - [x1, y1]
        mask = np.zeros(picture.shape[:2], np.uint8)
        blur = mask_blur(points, (y2 - y1, x2 - x1), settings.blur)
        size = (y2 - y1, x2 - x1)
        if settings.mask == "lower":
            mask[y1:y2, x1:x2] = polygon_mask(points[[*JAWLINE[2:-2], *NOSE_BRIDGE]], size, blur)
        else:
            mask[y1:y2, x1:x2] = contour_mask(points, size, blur, settings.mask)
        return paste_face(picture, face, box, mask, settings.resize)


def mask_blur(points: np.ndarray, size_hw: tuple[int, int], blur: int) -> tuple[int, float] | None:
    """Kernel side and sigma of the mask's edge.

    Published: 21 and 11 pixels, made for a margin of 25. With a tighter box that edge would be cut off visibly at the
    chin, so 0 takes the distance between the jaw and the edge of the box.
    """
    if blur:
        return blur, blur * 11 / 21
    jaw = points[list(JAWLINE)]
    room = min(jaw[:, 0].min(), size_hw[1] - jaw[:, 0].max(), size_hw[0] - jaw[:, 1].max())
    half = int(np.clip(room, 1, 40))
    return 2 * half + 1, max(0.5, half / 2)


@dataclass
class ReferenceGroup:
    """Encoded references and the frames of the source they serve."""

    serves: np.ndarray  # (F,) bool
    tokens: Tensor  # (1, Nl, d_model)
    frames: References | None
    closed: np.ndarray  # (2, 131) landmarks of the reference whose mouth is most closed


def reference_groups(model: IPLAP, source: Source, scene: Scene) -> list[ReferenceGroup]:
    """Choose and encode the references; two groups where frames must not be made from themselves."""
    settings = model.config.inference
    origin = source.reference or source
    other = scene if origin is source else Scene.look(model, origin)
    count, usable = len(scene.points.valid), np.flatnonzero(other.points.valid)
    everything = [(np.ones(count, bool), usable)]
    apart = settings.reference_policy == "other_half" or source.held_out
    if apart and origin is source and not source.is_image:
        first = np.arange(count) < (count + 1) // 2
        halves = [(first, usable[~first[usable]]), (~first, usable[first[usable]])]
        everything = halves if all(len(candidates) for _, candidates in halves) else everything
    return [encode_group(model, origin, other, serves, candidates) for serves, candidates in everything]


def encode_group(
    model: IPLAP, origin: Source, scene: Scene, serves: np.ndarray, candidates: np.ndarray
) -> ReferenceGroup:
    """Pick references from closed to open mouth and run the encoders that depend on them alone."""
    from talkingface.model.iplap import network_images

    settings, size = model.config.inference, model.config.crop.size
    landmark_frames = select_references(scene.openness, settings.nl, candidates)
    picture_frames = select_references(scene.openness, settings.ref_n, candidates)
    unique, position = np.unique(picture_frames, return_inverse=True)
    boxes = scene.points.boxes
    crops = [crop_face(p, boxes[i], size) for i, p in zip(unique, origin.read(unique.tolist()), strict=True)]
    faces = torch.from_numpy(np.stack(crops)[position]).to(model.device)
    sketches = draw_sketches(scene.points.relative[picture_frames], box_shapes(boxes[picture_frames]), size)
    sketches = torch.from_numpy(sketches)[None, :, None].to(model.device)
    return ReferenceGroup(
        serves=serves,
        tokens=encode_landmarks(model, scene.points.relative[landmark_frames]),
        frames=model.renderer.encode_references(network_images(faces)[None], sketches),
        closed=scene.points.relative[landmark_frames[0]],
    )


def encode_landmarks(model: IPLAP, landmarks: np.ndarray) -> Tensor:
    """Tokens (1, Nl, d_model) of reference landmark sets (Nl, 2, 131)."""
    references = torch.from_numpy(landmarks)[None].to(model.device)
    return model.landmark_generator.encode_reference(references[..., :POSE], references[..., POSE:])


def predict_content(
    model: IPLAP, points: ClipPoints, order: np.ndarray, mel: np.ndarray, group: ReferenceGroup, fps: float
) -> np.ndarray:
    """Lips and jaws of the window around every output frame.

    Every frame's audio and pose are encoded once; windows then share the tokens. At both ends the windows reach over
    the edge: the audio is padded, the outermost pose is held.

    Args:
        model: the model, in eval mode.
        points: landmarks of the source.
        order: (n,) source frame shown at each output frame.
        mel: (80, L) spectrogram of the driving audio.
        group: references.
        fps: frame rate.

    Returns:
        (n, T, 2, 57) float32; entry [k, t] belongs to output frame k + t - T // 2.
    """
    net, count, window = model.landmark_generator, len(order), model.config.landmark.window
    half = window // 2
    known = _nearest_valid(points.valid)
    shown = known[order[np.clip(np.arange(-half, count + window - half - 1), 0, count - 1)]]
    mel_tokens, pose_tokens = [], []
    for first in range(0, len(shown), WINDOWS):
        frames = shown[first : first + WINDOWS]
        spoken = mel_windows(mel, np.arange(first, first + len(frames)) - half, fps)
        mel_tokens.append(net.encode_mel(torch.from_numpy(spoken[:, None]).float().to(model.device)))
        pose_tokens.append(net.encode_pose(torch.from_numpy(points.relative[frames][..., :POSE]).to(model.device)))
    mel_tokens, pose_tokens = torch.cat(mel_tokens), torch.cat(pose_tokens)
    index = torch.arange(count)[:, None] + torch.arange(window)
    predicted = [
        net.fuse(mel_tokens[rows], pose_tokens[rows], group.tokens).unflatten(0, (-1, window)).float().cpu()
        for rows in index.to(model.device).split(WINDOWS)
    ]
    return torch.cat(predicted).numpy()


def finish_content(
    model: IPLAP,
    points: ClipPoints,
    order: np.ndarray,
    content: np.ndarray,
    audio: Audio,
    groups: Sequence[ReferenceGroup],
    fps: float,
) -> np.ndarray:
    """Smooth predicted landmarks (n, T, 2, 57) over time and close the mouth in silence, where asked for."""
    settings = model.config.inference
    if settings.smooth == "savgol":
        content = smoothed(content, np.ones(len(content), bool), settings.smooth_window)
    if settings.silence == "close":
        window = content.shape[1]
        index = np.clip(np.arange(len(content))[:, None] + np.arange(window) - window // 2, 0, len(content) - 1)
        quiet = silence_gate(audio.samples, len(order), fps, audio.sample_rate, settings.silence_db)
        shown = _nearest_valid(points.valid)[order]
        closed = np.zeros((len(order), 2, content.shape[-1]), np.float32)
        for group in groups:
            mine = group.serves[order]
            closed[mine] = fit_pose(group.closed, points.relative[shown[mine]][..., :POSE])
        share = quiet[index][..., None, None]
        content = content * (1 - share) + closed[index] * share
    return content.astype(np.float32)


def fit_pose(reference: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Content of a reference moved by the affine map that takes its pose points to those of each frame.

    Args:
        reference: (2, 131).
        pose: (n, 2, 74).

    Returns:
        (n, 2, 57) float32.
    """
    ones = np.ones((1, reference.shape[1]))
    source = np.concatenate([reference, ones])
    affine = pose.astype(np.float64) @ np.linalg.pinv(source[:, :POSE])
    return (affine @ source[:, POSE:]).astype(np.float32)


def silence_gate(samples: np.ndarray, frames: int, fps: float, sample_rate: int, threshold_db: float) -> np.ndarray:
    """How silent each frame is, (n,) in [0, 1]: 1 where 0.2 s around it stay `threshold_db` below the loud parts."""
    centres = ((np.arange(frames) + 0.5) * sample_rate / fps).astype(int)
    reach = int(0.1 * sample_rate)
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    low, high = (np.clip(centres + side, 0, len(samples)) for side in (-reach, reach))
    level = 10 * np.log10((power[high] - power[low]) / np.maximum(high - low, 1) + 1e-12)
    loud = np.percentile(level, 95)
    quiet = ((level < loud + threshold_db) | (level < -70)).astype(np.float64)
    ramp = np.array([0.25, 0.5, 0.25])
    return np.convolve(np.pad(quiet, 1, mode="edge"), ramp, mode="valid").astype(np.float32)


def render(
    model: IPLAP,
    scene: Scene,
    group: ReferenceGroup,
    pictures: Sequence[np.ndarray],
    order: np.ndarray,
    rows: np.ndarray,
    content: np.ndarray,
    mels: np.ndarray,
) -> np.ndarray:
    """Generate the faces of some output frames.

    Args:
        model: the model, in eval mode.
        scene: landmarks of the source.
        group: references of these frames.
        pictures: the n source frames.
        order: source frame of every output frame.
        rows: (n,) output frames.
        content: (all output frames, T, 2, 57) predicted lips and jaws.
        mels: (n, 80, 16).

    Returns:
        (n, S, S, 3) uint8 RGB.
    """
    from talkingface.model.iplap import from_network, network_images

    size, window = model.config.crop.size, model.config.landmark.window
    around = np.clip(rows[:, None] + np.arange(window) - window // 2, 0, len(order) - 1)
    shown = _nearest_valid(scene.points.valid)[order[around]]
    pose = scene.points.relative[shown][..., :POSE]
    landmarks = np.concatenate([pose, content[rows]], axis=-1).reshape(-1, 2, pose.shape[-1] + content.shape[-1])
    sketches = draw_sketches(landmarks, box_shapes(scene.points.boxes[shown.reshape(-1)]), size).reshape(
        len(rows), window, 1, size, size
    )
    crops = [crop_face(p, scene.points.boxes[order[row]], size) for p, row in zip(pictures, rows, strict=True)]
    faces = network_images(torch.from_numpy(np.stack(crops)).to(model.device))
    spoken = torch.from_numpy(mels[:, None]).float().to(model.device)
    drive = torch.from_numpy(sketches).to(model.device)
    half = resolve_precision(model.config.inference.precision, model.device) == "bf16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        generated, _ = model.renderer.forward_with_references(faces, drive, group.frames, spoken)
    return from_network(generated)


def smoothed(values: np.ndarray, valid: np.ndarray, window: int) -> np.ndarray:
    """Savitzky-Golay filter (order 2) over axis 0, within every unbroken run of valid entries of at least `window`."""
    from scipy.signal import savgol_filter

    result = values.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= window:
            result[start:stop] = savgol_filter(values[start:stop], window, 2, axis=0)
    return result


def report_missing(valid: np.ndarray, order: np.ndarray, name: str, policy: str) -> None:
    """Name the shown source frames that have no face, in one warning.

    Raises:
        NoFaceError: there are any and the policy is `error`.
    """
    used = np.zeros(len(valid), bool)
    used[order] = True
    missing = np.flatnonzero(used & ~valid)
    if not len(missing):
        return
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    ranges = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs[:10])
    ranges += f" and {len(runs) - 10} more ranges" if len(runs) > 10 else ""
    if policy == "error":
        raise NoFaceError(f"{name}: no face in frames {ranges}; --model.inference.no_face=pass leaves them as they are")
    log.warning("%s: no face in frames %s; they are passed through unchanged", name, ranges)


def _nearest_valid(valid: np.ndarray) -> np.ndarray:
    """(F,) index of the nearest frame with a face, itself where it has one."""
    known = np.flatnonzero(valid)
    after = np.searchsorted(known, np.arange(len(valid))).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    frames = np.arange(len(valid))
    return np.where(np.abs(known[before] - frames) < np.abs(known[after] - frames), known[before], known[after])
