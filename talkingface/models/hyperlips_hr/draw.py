"""How HyperLipsHR draws: Base's face, its features found and sketched, both decoded to the final face."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from talkingface.devices import OnTheWay, to_device
from talkingface.faces.detectors import DEFAULT_PLACE
from talkingface.lipsync.half_face.draw import Drawer
from talkingface.lipsync.half_face.model import HalfFaceModel
from talkingface.lipsync.half_face.pixels import faces_of, network_faces
from talkingface.media.info import FPS
from talkingface.models.hyperlips_hr.base import build_base
from talkingface.models.hyperlips_hr.config import HyperLipsHRConfig
from talkingface.models.hyperlips_hr.features import Features, crop_sides
from talkingface.models.hyperlips_hr.networks import FaceDiscriminator, HRDecoder
from talkingface.models.hyperlips_hr.steps import MeshFinder
from talkingface.plugin.contract import Batch
from talkingface.plugin.graphs import Graph, Port
from talkingface.preprocess.step import process_resource


class HyperLipsHRNetworks(HalfFaceModel):
    """Base's generator, the decoder, and the decoder's discriminator.

    Attributes:
        base: Base, whose `generator` is this model's.
    """

    config: HyperLipsHRConfig

    def __init__(self, config: HyperLipsHRConfig) -> None:
        super().__init__()
        self.config = config
        base = build_base(config.base, config.inference.precision)
        self.generator = base.generator
        # In a tuple, or its generator would be registered twice.
        self._base = (base,)
        sizes = config.decoder
        self.hr_decoder = HRDecoder(sizes.scale, sizes.width)
        self.hr_discriminator = FaceDiscriminator(sizes.discriminator_width)
        for network in (self.hr_decoder, self.hr_discriminator):  # same numbers, faster
            network.to(memory_format=torch.channels_last)

    @property
    def base(self) -> HalfFaceModel:
        """Base as it draws."""
        return self._base[0]

    @property
    def drawn_size(self) -> int:
        """Side of the faces that are drawn, in pixels."""
        return self.config.hr_crop.size

    def drawer(self, above: float = 0.5, fps: float = FPS) -> Drawer:
        """Whole faces always: the mesh is found on them."""
        return HRDrawer(self, fps)

    def graphs(self) -> tuple[Graph, ...]:
        """Base's generator and the decoder."""
        side, crop = self.config.crop.size, self.config.hr_crop.model_dump()
        about = "face that Base drew: channels 0-2; sketch of its features, 0 or 1: each of channels 3-5"
        faces = Port("faces", ("batch", 6, side, side), about, 0.0, 1.0, "BGR")
        drawn = Port("drawn", ("batch", 3, crop["size"], crop["size"]), "the final face crop", 0.0, 1.0, "BGR")
        return *self.base.graphs(), Graph("hr_decoder", (faces,), (drawn,), crop=crop)

    def decode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Drawn and true faces (N, 3, R, R), BGR in [0, 1], of a batch of `HRFrames`."""
        drawn = self.hr_decoder(decoder_input(batch["hyper"], batch["sketch"]))
        return drawn.float(), network_faces(batch["target"][:, None])[:, :, 0]


class HRDrawer(Drawer):
    """Draws one video; smoothed features remember the frames before.

    Args:
        model: the model, in eval mode.
        fps: frames per second of the video.
    """

    remembers = True

    def __init__(self, model: HyperLipsHRNetworks, fps: float = FPS) -> None:
        super().__init__(model)
        # The decoder needs the whole face, for its mesh is found on it.
        self.base = model.base.drawer()
        self.features = Features(model.config.sketch, model.config.crop.size, fps)
        self.find = process_resource(("mesh on crops", DEFAULT_PLACE), lambda: MeshFinder(DEFAULT_PLACE))

    def __call__(
        self, faces: np.ndarray, references: np.ndarray, mel: np.ndarray, follows: np.ndarray, boxes: np.ndarray
    ) -> OnTheWay:
        """See `Drawer.__call__`."""
        drawn = self.base(faces, references, mel, follows, boxes).numpy()
        return OnTheWay(faces_of(self.decoded(drawn, self.sketches(drawn, follows, boxes))))

    def sketches(self, drawn: np.ndarray, follows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Sketches (m, S, S) uint8 of Base's faces (m, S, S, 3) uint8 RGB."""
        if self.model.config.sketch.style == "none":
            return np.zeros(drawn.shape[:3], np.uint8)
        found = zip(drawn, follows, crop_sides(boxes), strict=True)
        return np.stack([self.features.sketch(self.find(face), bool(on), side) for face, on, side in found])

    @torch.no_grad()
    def decoded(self, drawn: np.ndarray, sketches: np.ndarray) -> Tensor:
        """(m, 3, R, R), BGR in [0, 1], of Base's faces and their sketches."""
        faces, lines = (to_device(each, self.model.device) for each in (drawn, sketches))
        with self.precision():
            return self.model.hr_decoder(decoder_input(faces, lines)).float()


class EnlargedDrawer(HRDrawer):
    """Draws what Base alone would give at the same size: the measure of what the decoder adds."""

    def decoded(self, drawn: np.ndarray, sketches: np.ndarray) -> Tensor:
        """Base's faces enlarged."""
        faces = network_faces(to_device(drawn, self.model.device)[:, None])[:, :, 0]
        side = self.model.drawn_size
        return torch.nn.functional.interpolate(faces, (side, side), mode="bicubic", align_corners=False)

    def sketches(self, drawn: np.ndarray, follows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """None are needed."""
        return drawn[..., 0]


def decoder_input(faces: Tensor, sketches: Tensor) -> Tensor:
    """Faces (N, S, S, 3) uint8 RGB and sketches (N, S, S) uint8 -> (N, 6, S, S): BGR, then the sketch three times."""
    lines = (sketches[:, None].float() / 255).expand(-1, 3, -1, -1)
    return torch.cat([network_faces(faces[:, None])[:, :, 0], lines], dim=1)
