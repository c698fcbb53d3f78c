"""Base as HyperLipsHR uses it: the lender's own code around a generator whose weights come from its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from talkingface.models.hyperlips_hr.config import LENDER
from talkingface.plugin.registry import get_spec

if TYPE_CHECKING:
    from talkingface.config.sections import Section
    from talkingface.lipsync.half_face.draw import HalfFaceNetworks


def build_base(settings: Section, precision: str) -> HalfFaceNetworks:
    """The lender with these settings, without the networks that only its training needs.

    Args:
        settings: of the lender.
        precision: see `HalfFaceInference.precision`; one for all that draws.
    """
    inference = settings.inference.model_copy(update={"precision": precision})
    base = get_spec(LENDER).model(settings.model_copy(update={"inference": inference}))
    for name in [name for name, _ in base.named_children() if name != "generator"]:
        delattr(base, name)
    return base
