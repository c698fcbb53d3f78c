"""The data of a stage: data sets of both splits, how they are loaded, and how long the stage is."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Sampler

from talkingface.config.sections import Config, StageConfig
from talkingface.errors import ConfigError
from talkingface.plugin.contract import Plan
from talkingface.training.batches import HeldOutBatches, TrainBatches

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from talkingface.clips.dataset import ClipDataset
    from talkingface.clips.folder import ClipFolder

log = logging.getLogger("talkingface")


class StageData:
    """Data sets and loaders of one stage.

    Args:
        config: the configuration.
        stage: the stage.
        plan: of its kind; its data set is used.
        clips: prepared clips by split, `train` and possibly `val`.
        fabric: moves batches to the device; knows the processes that share them.

    Attributes:
        train: training data.
        batches: its items in order; can start anywhere.
        loader: training batches, endless.
        held_out: held-out data, None without validation clips.
        held_out_loader: its batches.
        total_steps: batches in the whole stage.

    Raises:
        ConfigError: no training clips, or a batch size that the processes cannot share.
        DataError: no clip can be used.
    """

    def __init__(
        self,
        config: Config,
        stage: StageConfig,
        plan: Plan,
        clips: Mapping[str, Sequence[ClipFolder]],
        fabric: Fabric,
    ) -> None:
        self.config, self.stage, self.plan, self.fabric = config, stage, plan, fabric
        rank, world = fabric.global_rank, fabric.world_size
        if stage.batch_size % world:
            raise ConfigError(
                f"stage '{stage.name}': batch_size {stage.batch_size} counts over all processes and must be a"
                f" multiple of {world}"
            )
        train = self._dataset("train", clips)
        if train is None:
            raise ConfigError(f"stage '{stage.name}': the training list is empty")
        self.train = train
        self.batches = TrainBatches(len(train), stage.batch_size, config.seed, stage.name, rank, world)
        self.loader = self._loader(train, self.batches)
        held_out = self.held_out = self._dataset("val", clips)
        self.held_out_loader: DataLoader | None = None
        if held_out is None:
            log.warning("stage %s: no validation clips, the last weights count as the best", stage.name)
        else:
            limited = HeldOutBatches(len(held_out), stage.batch_size, stage.val_batches, rank, world)
            self.held_out_loader = self._loader(held_out, limited)
        by_epochs = stage.epochs * len(self.batches) if stage.epochs else math.inf
        self.total_steps = int(min(by_epochs, stage.max_steps or math.inf))

    def _dataset(self, split: str, clips: Mapping[str, Sequence[ClipFolder]]) -> ClipDataset | None:
        chosen = clips.get(split) or []
        if not chosen:
            return None
        return self.plan.dataset(chosen, split, self.stage.data, self.config.model, self.config.seed)

    def _loader(self, dataset: ClipDataset, batches: Sampler[list[int]]) -> DataLoader:
        cuda = self.fabric.device.type == "cuda"
        workers = self.config.num_workers
        if workers is None:
            workers = min(8, torch.get_num_threads()) if cuda else 0
        dataset.share(workers)
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=dataset.collate,
            pin_memory=cuda,
            persistent_workers=workers > 0,
            # Its own generator: starting an epoch must not draw from the global one, or a resumed epoch would differ.
            generator=torch.Generator().manual_seed(self.config.seed),
        )
        return self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)
