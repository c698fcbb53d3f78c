"""A toy face whose mouth a toy pipeline opens with the loudness of the sound, and evaluations of it."""

from __future__ import annotations

import json
from itertools import islice
from types import SimpleNamespace

import numpy as np

from helpers.toy_faces import ToyProvider, draw
from talkingface.clips.folder import ClipFolder
from talkingface.config.sections import EvaluationConfig
from talkingface.errors import MediaError
from talkingface.evaluation.evaluator import Evaluator
from talkingface.evaluation.setup import EvaluationSetup
from talkingface.faces.track import track_faces
from talkingface.media import VideoReader, VideoWriter, write_wav


class ToyPipeline:
    """Copies the source's frames and draws the mouth anew from the loudness of the sound."""

    name = "Toy"

    def __init__(self, fail=()):
        self.model = SimpleNamespace(stage_scores=self.stage_scores)
        self.fail = fail
        self.asked = []

    def generate_file(self, source, audio, output, progress=False):
        reference = source.reference.clip.clip_id if source.reference else source.clip.clip_id
        self.asked.append((source.clip.clip_id, reference))
        if source.clip.clip_id in self.fail:
            raise MediaError(f"{source.path}: is no good")
        step = round(16000 / source.fps)
        with VideoWriter(output, fps=source.fps, audio=audio.samples) as writer:
            for index, frame in enumerate(islice(source.frames(), audio.n_frames(source.fps))):
                opening = 40 * np.abs(audio.samples[index * step : index * step + step]).max()
                writer.write(draw(opening, frame[30, 30] + 4))

    @staticmethod
    def stage_scores(clips, donors):
        assert all(a.clip_id != b.clip_id for a, b in zip(clips, donors))
        return {"toy_l1": 0.5, "toy_l1_shuffled": 1.0}


def make_clip(root, speaker, name, frames=30, shade=120, fps=25.0):
    rng = np.random.default_rng(sum(map(ord, speaker + name)))
    path = np.convolve(rng.uniform(-1, 1, frames + 4), np.ones(3) / 3, "valid")[:frames]
    opening = 4 + 14 * (path - path.min()) / np.ptp(path)
    step = round(16000 / fps)
    tone = np.where(np.arange(frames * step) % 8 < 4, 1.0, -1.0)
    audio = (np.repeat(opening, step) / 40 * tone).astype(np.float32)
    folder = root / "prepared" / speaker / name
    folder.mkdir(parents=True)
    video = root / "data" / speaker / f"{name}.mp4"
    with VideoWriter(video, fps=fps, audio=audio) as writer:
        for value in opening:
            writer.write(draw(value, shade))
    write_wav(folder / "audio.wav", audio)
    track_faces(VideoReader(video, fps=fps), ToyProvider()).save(folder / "landmarks.npz")
    meta = {
        "format": 1,
        "status": "ok",
        "clip_id": f"{speaker}/{name}",
        "speaker": speaker,
        "frames": frames,
        "fps": fps,
    }
    steps = {"audio": {"files": ["audio.wav"]}, "landmarks": {"files": ["landmarks.npz"], "params": {"mode": "static"}}}
    (folder / "clip.json").write_text(json.dumps({**meta, "source": {"path": str(video)}, "steps": steps}))
    return ClipFolder(folder)


def setup(metrics, provider="toy", **settings):
    provider = ToyProvider() if provider == "toy" else provider
    return EvaluationSetup(metrics, EvaluationConfig(**settings), provider=provider)


def evaluate(clips, out, metrics=("SSIM", "PSNR", "LMD", "MOUTH", "LSE"), fail=(), run=None, pool=(), **settings):
    settings.setdefault("rows", ("generated", "real", "still", "shuffled"))
    pipeline = ToyPipeline(fail)
    chosen = EvaluationSetup(
        metrics, EvaluationConfig(**settings), weights_dir=out / "nothing", provider=ToyProvider(), pool=pool,
        identity={"model": "Toy", "dataset": "toys", "checkpoint": "x.pt"}, synthetic=True,
    )  # fmt: skip
    return Evaluator(pipeline, chosen).run(clips, out, **(run or {})), pipeline
