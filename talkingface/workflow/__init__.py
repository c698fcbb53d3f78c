"""Preprocess, train, evaluate, as one call or one by one."""

from talkingface.workflow.calls import evaluate, preprocess, run, run_configured, train
from talkingface.workflow.data import prepare, prepared_clips
from talkingface.workflow.scoring import make_evaluator

__all__ = [
    "evaluate",
    "make_evaluator",
    "prepare",
    "prepared_clips",
    "preprocess",
    "run",
    "run_configured",
    "train",
]
