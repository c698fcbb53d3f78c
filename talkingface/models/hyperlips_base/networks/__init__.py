"""Networks of HyperLipsBase: generator and discriminator."""

from talkingface.models.hyperlips_base.networks.discriminator import HalfFaceDiscriminator
from talkingface.models.hyperlips_base.networks.generator import HyperLipsGenerator

__all__ = ["HalfFaceDiscriminator", "HyperLipsGenerator"]
