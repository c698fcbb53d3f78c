"""Settings of a lip-sync expert in training."""

from __future__ import annotations

from pydantic import Field

from talkingface.config.sections import Section


class SyncAlarmConfig(Section):
    """When the alarm rings, and how it looks for the cause.

    Attributes:
        windows: windows seen in training before it may ring; null switches it off.
        chance: distance of the two-alternative accuracy from one half that still counts as chance.
        gap: likewise, of the mean cosines of true and other pairs from each other.
        flat: likewise, prominence of the mean offset curve.
        fit_windows: windows that a fresh expert is asked to learn by heart.
        fit_steps: batches of 64 windows that it has for that at most.
    """

    windows: int | None = Field(15000, gt=0)
    chance: float = Field(0.03, ge=0, lt=0.5)
    gap: float = Field(0.02, ge=0)
    flat: float = Field(0.05, ge=0)
    fit_windows: int = Field(200, ge=16)
    fit_steps: int = Field(250, ge=1)


class SyncExpertConfig(Section):
    """The expert and what is looked at while it trains.

    Attributes:
        width: multiplier of the channels; 1 is published.
        sweep_clips: held-out clips, evenly spread over the list, whose windows are all looked at in every validation:
            they give the accuracies, the mean cosines and the offset sweep.
        alarm: says when the expert learns nothing, and why.
    """

    width: float = Field(1.0, gt=0)
    sweep_clips: int = Field(24, ge=1)
    alarm: SyncAlarmConfig = SyncAlarmConfig()
