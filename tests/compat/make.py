"""How `written_by_e143258.tar.xz` was made: `python make.py CHECKOUT FOLDER`, CHECKOUT being commit e143258.

The archive holds what users of that commit have on their disks: a small corpus, its prepared clips, a folder that
`convert-data` made of IP_LAP's layout, an interrupted run and a finished checkpoint of each model; and
what that commit made of them: losses of the steps after the interruption, a video, metrics.

Weights are rounded to a few levels and optimiser states are zero, so that the archive stays small. That happens between
two runs of the old code, which writes and reads every file itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

MODELS = {"SyncNet": "expert", "Wav2Lip": "generator", "IPLAP": "render"}
"""Model -> its last stage."""

DATA = """
    --data_root=data --preprocessed_root=preprocessed --saved_dir=saved --train_filelist=filelist/train.txt
    --val_filelist=filelist/val.txt --test_filelist=filelist/test.txt --unseen_filelist=filelist/unseen.txt
    --demo.identities=2 --demo.clips=3 --demo.unseen=0 --demo.seconds=0.9 --demo.size=96 --profile=tiny --precision=32
    --tensorboard=False --preprocess.workers=0 --show_progress=False --device=cpu --threads=1 --log_every=1
    --evaluation.bootstrap=0 --evaluation.html=False
""".split()  # noqa: SIM905  (reads as the command line that it is)
FIRST_STEPS, MORE_STEPS = 20, 4


def options(model: str, *more: str) -> list[str]:
    """The command line of a model on this corpus; paths in it are relative to the folder it runs in."""
    return [f"--model={model}", "--dataset=demo", *DATA, *more]


def going_on(model: str) -> list[str]:
    """The command line that resumes the interrupted run of a model and trains a little further."""
    stage = f"--stages.{MODELS[model]}"
    run = f"saved/{model}-demo/r"
    steps = [f"{stage}.max_steps={FIRST_STEPS + MORE_STEPS}", f"{stage}.epochs=1000"]
    return ["train", *options(model, f"--resume={run}", *steps)]


def speaking(model: str) -> list[str]:
    """The command line that makes a video with a checkpoint."""
    source, voice = "data/main/id00/00000.mp4", "data/main/id01/00000.wav"
    return ["generate", f"--model={model}", f"--checkpoint=saved/{model}-demo/r", f"--source={source}",
            f"--audio={voice}", f"--output={model}.mp4", "--device=cpu", "--show_progress=False"]  # fmt: skip


def scoring(model: str) -> list[str]:
    """The command line that scores the checkpoint."""
    return ["evaluate", *options(model, f"--checkpoint=saved/{model}-demo/r", "--output=report")]


def run_old(checkout: Path, folder: Path, arguments: list[str]) -> None:
    """Run a command of the old code in `folder`."""
    command = [sys.executable, str(checkout / "run_talkingface.py"), *arguments]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def losses(log: Path, stage: str) -> list[dict[str, float]]:
    """Training losses of the steps after the interruption."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    mine = [line for line in lines if line["stage"] == stage and line["step"] > FIRST_STEPS]
    kept = [{k: v for k, v in line.items() if k.startswith("train/")} for line in mine]
    return [line for line in kept if line]


def coarsen(path: Path) -> None:
    """Round weights to 7 levels a tensor, blank networks not trained yet, forget the optimisers' moments."""
    import torch

    content = torch.load(path, weights_only=True)
    for name, state in (*content["networks"].items(), *content["training_networks"].items()):
        for key, value in state.items():
            if name not in content["ready"]:
                state[key] = torch.zeros_like(value)
            elif value.is_floating_point() and value.numel() > 8:
                step = value.abs().max() / 3
                state[key] = (value / step).round() * step if step > 0 else value
    for optimizer in content["optimizers"].values():
        for moments in optimizer["state"].values():
            for key, value in moments.items():
                if key != "step":
                    moments[key] = torch.zeros_like(value)
    torch.save(content, path)


def interrupt(run: Path, stage: str) -> None:
    """Make a finished run look like one that was stopped at its last validation."""
    import torch

    for file in (run / stage / "last.pt", run / stage / "best.pt"):
        content = torch.load(file, weights_only=True)
        content["finished"] = False
        torch.save(content, file)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({**record, "status": "running"}), encoding="utf-8")


def iplap_tree(folder: Path) -> None:
    """Two of the clips as IP_LAP keeps them, made from our prepared clips."""
    import cv2
    import numpy as np

    from talkingface.data import facemesh
    from talkingface.data.clip import ClipFolder
    from talkingface.data.face import relative_landmarks

    for clip_id in ("id00/00000", "id01/00000"):
        clip = ClipFolder(folder / "preprocessed" / clip_id, clip_id=clip_id)
        iplap = {name: folder / "their_iplap" / name / clip_id for name in ("landmarks", "face", "audio")}
        for place in iplap.values():
            place.mkdir(parents=True)
        faces = clip.faces("faces")
        for index, face in enumerate(faces.read(range(len(faces)))):
            cv2.imwrite(str(iplap["face"] / f"{index}.jpg"), face[..., ::-1])
        pose, content = sorted(facemesh.IPLAP_POSE), sorted(facemesh.IPLAP_CONTENT)
        points = relative_landmarks(clip.track().points_px, faces.boxes)
        for index, row in enumerate(points):
            named = [[(i, float(row[0, i]), float(row[1, i])) for i in group] for group in (pose, content)]
            np.save(iplap["landmarks"] / f"{index}.npy", dict(zip(("pose_landmarks", "content_landmarks"), named)))
        np.save(iplap["audio"] / "audio.npy", clip.mel().T)
        shutil.copy(clip.path / "audio.wav", iplap["audio"] / "audio.wav")


def main(checkout: Path, folder: Path) -> None:
    """Make everything, then the archive beside this file."""
    sys.path.insert(0, str(checkout))
    folder.mkdir(parents=True)
    expected: dict[str, Any] = {}
    for model, stage in MODELS.items():
        run = folder / "saved" / f"{model}-demo" / "r"
        run_old(checkout, folder, options(model, "--run_name=r", f"--stages.{stage}.max_steps={FIRST_STEPS}"))
        for file in run.glob("*/last.pt"):
            coarsen(file)
            shutil.copy(file, file.with_name("best.pt"))
        interrupt(run, stage)
        shutil.rmtree(run / "eval")
        with tempfile.TemporaryDirectory() as kept:
            shutil.copytree(run, Path(kept) / "r")
            run_old(checkout, folder, going_on(model))
            found = losses(run / "log.jsonl", stage)
            shutil.rmtree(run)
            shutil.copytree(Path(kept) / "r", run)
        run_old(
            checkout, folder, ["evaluate", *options(model, f"--checkpoint=saved/{model}-demo/r", "--output=report")]
        )
        metrics = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
        expected[model] = {"losses": found, "rows": metrics["rows"], "stage_figures": metrics.get("stage_figures")}
        shutil.rmtree(folder / "report")
        if model != "SyncNet":
            run_old(checkout, folder, speaking(model))
            shutil.move(folder / f"{model}.mp4", folder / f"expected_{model}.mp4")
    iplap_tree(folder)
    roots = ["--landmarks=their_iplap/landmarks", "--faces=their_iplap/face", "--audio=their_iplap/audio"]
    run_old(checkout, folder, ["convert-data", "--kind=iplap", *roots, "--out=converted"])
    (folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")
    for needless in (*folder.glob("saved/*/r/*/samples"), *folder.glob("saved/*/r/*/eval"), *folder.glob("their_*")):
        shutil.rmtree(needless)
    with tarfile.open(Path(__file__).with_name("written_by_e143258.tar.xz"), "w:xz", preset=9) as archive:
        archive.add(folder, arcname=".")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
