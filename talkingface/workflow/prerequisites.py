"""What a run stands on: other models' runs, clips without videos, and files of weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from talkingface.errors import CheckpointError
from talkingface.plugin.borrowed import LenderMissing, carried_over, with_borrowed
from talkingface.plugin.configuration import load_config
from talkingface.plugin.hearing import with_front_end
from talkingface.plugin.registry import get_spec
from talkingface.preprocess.by_converter import with_converted
from talkingface.readiness import check_training
from talkingface.training.launchers import is_child_process
from talkingface.training.processes import in_several

if TYPE_CHECKING:
    from talkingface.plugin.configuration import LoadedConfig

log = logging.getLogger("talkingface")


def with_prerequisites(loaded: LoadedConfig, run_first: Callable[[LoadedConfig], object]) -> LoadedConfig:
    """The configuration with what its model borrows; with `prerequisites: train` a run that is missing is made first.

    Args:
        loaded: the configuration.
        run_first: trains what another configuration describes.

    Raises:
        LenderMissing: it is missing, and not to be made, or its training has not made it.
        CheckpointError: it is missing, and several processes train; or weights that this model itself needs are.
    """
    if is_child_process():
        return loaded  # the first process will say
    trained: set[str] = set()
    while True:
        try:
            return resolved(loaded)
        except LenderMissing as missing:
            name = missing.loan.model
            if loaded.config.prerequisites == "refuse" or missing.loan.optional or name in trained:
                raise
            if in_several(loaded.config):
                # The others would begin with this model while the first process trains the lender.
                raise CheckpointError(f"{missing}; where several processes train, that run is not made first") from None
            # What this model itself lacks is told before the lender's training, not days later.
            borrowed = get_spec(loaded.config.model_name).model.borrows
            check_training(loaded.config, loaded.config.evaluate, loaded.config.need_preprocess, coming=borrowed)
            trained.add(name)
            log.info("%s needs a trained %s, which comes first, in a run of its own", loaded.config.model_name, name)
            # A training that was killed in the lender's run goes on there.
            own = {"evaluate": False, "resume": "auto" if loaded.config.resume == "auto" else "none"}
            run_first(load_config(name, loaded.config.dataset, (), {**carried_over(loaded, missing.loan), **own}))
            log.info("now %s", loaded.config.model_name)


def resolved(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration with what follows from clips without videos, other runs, and files of weights."""
    return with_front_end(with_borrowed(with_converted(loaded)))
