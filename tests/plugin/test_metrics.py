"""Metrics by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from talkingface.errors import RegistryError
from talkingface.evaluation.metric import Figure, make_metric
from talkingface.plugin.metrics import METRICS, metric_class


def test_metrics_are_found_in_any_case_and_unknown_names_are_explained():
    assert metric_class("psnr").name == "PSNR"
    with pytest.raises(
        RegistryError, match=r"unknown metric 'SSIMM', did you mean 'SSIM'\? \(known: CSIM, EXPERT, FID"
    ):
        make_metric("SSIMM")
    for name, entry in METRICS.items():
        cls = metric_class(name)
        assert cls.name == name
        assert entry.line
        assert all(isinstance(figure, Figure) for figure in cls.figures.values())


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, talkingface.plugin.metrics as e; assert e.METRICS;"
        "assert not {'torch', 'cv2', 'mediapipe', 'scipy', 'av', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
