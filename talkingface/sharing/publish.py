"""`publish`: a folder with all that somebody else needs to use a trained model, and nothing about the machine."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from talkingface.config.layers import to_plain
from talkingface.config.stages import until
from talkingface.errors import CheckpointError, OutputError
from talkingface.evaluation.report.stored import read_result
from talkingface.files import writable_folder, write_text
from talkingface.plugin.assembly import hash_in_use, lacking_to_speak
from talkingface.plugin.trained import Trained, read_trained
from talkingface.sharing.card import Statement, Subject, model_card
from talkingface.sharing.privacy import shared_report, shared_settings
from talkingface.stored.jsons import read_json
from talkingface.weights.checkpoint import save_safe
from talkingface.weights.hub import is_on_hub, upload
from talkingface.weights.safe_file import PUBLISHED

if TYPE_CHECKING:
    from talkingface.evaluation.report.result import EvalResult

log = logging.getLogger("talkingface")
_MOST_BYTES = 2**26  # metrics.json of a large evaluation


def publish(run: str | Path, target: str | Path, stated: Statement) -> str:
    """Write a folder, or put one on the hub.

    Args:
        run: a run folder, a checkpoint, or a folder that was published before; the latter goes to the hub as it is,
            with whatever a person has written into its card.
        target: a folder that is new or empty, or `hub:USER/NAME`.
        stated: what only a person can say.

    Returns:
        Where it is now.

    Raises:
        CheckpointError: the run cannot be used, or the hub refuses.
        OutputError: the folder holds something, or cannot be written.
        PackageMissing: safetensors or huggingface_hub is not installed.
    """
    if not is_on_hub(target):
        return str(write_folder(read_trained(None, run), Path(target), stated))
    folder = Path(run)
    if (folder / PUBLISHED).is_file() and (folder / "README.md").is_file():
        return upload(folder, target)
    with TemporaryDirectory() as scratch:
        return upload(write_folder(read_trained(None, run), Path(scratch) / "model", stated), target)


def write_folder(trained: Trained, folder: Path, stated: Statement) -> Path:
    """Write `model.safetensors`, `config.yaml`, `README.md` and, where there is an evaluation, `metrics.json`."""
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty; publish to a new folder")
    ready = {name: state for name, state in trained.content.networks.items() if name in trained.content.ready}
    stages = until(trained.config.stages, trained.content.stage)
    lacking = lacking_to_speak(type(trained.model), trained.config.model, set(ready), stages)
    if lacking or not ready:
        raise CheckpointError(f"{trained.path}: holds no trained {', '.join(lacking or ('network',))}; train it first")
    config = shared_settings(to_plain(trained.config))
    metrics = metrics_of(trained)
    content = replace(trained.content, config=config, networks=ready)
    writable_folder(folder)
    save_safe(folder / PUBLISHED, content)
    write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    if metrics is not None:
        told = shared_report(read_json(metrics, _MOST_BYTES), to_plain(trained.config))
        write_text(folder / "metrics.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    result = read_result(metrics) if metrics is not None else None
    write_text(folder / "README.md", model_card(_subject(trained, config, result, stated)))
    return folder


def metrics_of(trained: Trained) -> Path | None:
    """The evaluation of these very weights, in their run or stage or published with them; None where there is none.

    Reports of other weights are left out, and the log says so.

    Raises:
        DataError: a report is damaged.
    """
    folder = trained.path.parent
    places = (folder / "metrics.json", folder / "eval" / "metrics.json", folder.parent / "eval" / "metrics.json")
    found = [path for path in places if path.is_file()]
    own = hash_in_use(trained.model) if found else ""
    for path in found:
        provenance = read_result(path).provenance
        if provenance.get("weights") == own:
            return path
        if "weights" not in provenance and _names(path, provenance.get("checkpoint"), trained.path):
            log.warning("%s: an older report, without a hash of the weights; taken since it names their file", path)
            return path
        if "weights" not in provenance and _came_with(path, provenance.get("checkpoint"), trained.path):
            log.warning("%s: an older report, without a hash of the weights; taken since it came with them", path)
            return path
    if found:
        in_a_run = folder.name in [stage.name for stage in trained.config.stages]
        log.warning(
            "%s: has not scored these weights, so the card says that they were not evaluated; for figures:"
            " `evaluate --model=%s --dataset=%s --checkpoint=%s --output=%s`, then publish again",
            ", ".join(map(str, found)),
            trained.name,
            trained.config.dataset,
            trained.path,
            (folder.parent if in_a_run else folder) / "eval",
        )
    return None


def _names(report: Path, named: Any, checkpoint: Path) -> bool:
    """Whether a report of before weights were noted is of a checkpoint: by its name, and no older than the file."""
    same = isinstance(named, str) and Path(named).resolve() == checkpoint.resolve()
    return same and report.stat().st_mtime >= checkpoint.stat().st_mtime


def _came_with(report: Path, named: Any, checkpoint: Path) -> bool:
    """Whether a report of before weights were noted was published with them: it then names no file, or no folder."""
    told = named is None or isinstance(named, str) and not re.search(r"[\\/]", named)
    return told and report.parent == checkpoint.parent and checkpoint.name == PUBLISHED


def _subject(trained: Trained, config: dict[str, Any], result: EvalResult | None, stated: Statement) -> Subject:
    content = trained.content
    counts = {
        name: sum(tensor.numel() for tensor in state.values())
        for name, state in content.networks.items()
        if name in content.ready
    }
    return Subject(
        model=trained.name,
        config=config,
        stage=content.stage,
        step=content.step,
        networks=counts,
        restriction=trained.model.licence,
        result=result,
        stated=stated,
    )
