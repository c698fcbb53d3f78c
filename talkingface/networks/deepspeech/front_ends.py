"""DeepSpeech 0.1 as front ends: by onnxruntime, or by TensorFlow where that is installed. Both give the same rows.

Both compute on the CPU: a second of sound takes little there, and every process that prepares clips can hold one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from talkingface.errors import CheckpointError, first_line
from talkingface.networks.deepspeech.layers import INPUT, LENGTHS, OUTPUT, WINDOW
from talkingface.packages import unusable
from talkingface.sound.front_ends import FrontEnd, register_front_end
from talkingface.sound.recogniser import ROWS_PER_SECOND, WIDTH, deepspeech_input
from talkingface.workers import own_threads

Recogniser = Callable[[np.ndarray], np.ndarray]
"""Input (1, T, 494) float32 -> logits (T, 1, 29)."""


class _DeepSpeechFrontEnd(FrontEnd):
    """Logits of DeepSpeech 0.1, what the published DINet and older weights of LawDNet hear."""

    rows_per_second = float(ROWS_PER_SECOND)
    first_row = 0.0125  # the middle of the 25 ms that a row of cepstra is made of
    width = WIDTH
    of_frames = True
    on_cpu = True

    @cached_property
    def recogniser(self) -> Recogniser:
        """What computes the logits, read at its first use."""
        return self._read(self.path(self.files[0]))

    @abstractmethod
    def _read(self, path: Path) -> Recogniser:
        """Open the file.

        Raises:
            CheckpointError: it is another one, or the package that reads it does not work.
        """

    def extract(self, samples: np.ndarray) -> np.ndarray:
        """See `FrontEnd.extract`."""
        return self.recogniser(deepspeech_input(samples)[None])[:, 0].astype(np.float32)


@register_front_end
class DeepSpeechOnnxFrontEnd(_DeepSpeechFrontEnd):
    """By onnxruntime, of a file that `convert-deepspeech` has written."""

    name = "deepspeech_onnx"
    files = ("DeepSpeech/output_graph.onnx",)

    def _read(self, path: Path) -> Recogniser:
        try:
            import onnxruntime
        except ImportError as error:
            raise CheckpointError(f"front end {self.name}: {unusable('onnxruntime', error)}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = own_threads()  # by itself it takes all cores, and keeps them busy waiting
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:  # its own classes, which it does not document
            raise CheckpointError(f"{path}: cannot be read as ONNX ({first_line(error)})") from None
        shapes = [(each.name, each.shape[-1]) for each in (*session.get_inputs(), *session.get_outputs())]
        if shapes != [(INPUT, WINDOW), (OUTPUT, WIDTH)]:
            raise CheckpointError(f"{path}: not written by `convert-deepspeech`: it reads and gives {shapes}")
        return lambda rows: session.run([OUTPUT], {INPUT: rows})[0]


@register_front_end
class DeepSpeechTensorFlowFrontEnd(_DeepSpeechFrontEnd):
    """By TensorFlow, of the published file itself."""

    name = "deepspeech_tf"
    files = ("DeepSpeech/output_graph.pb",)

    def _read(self, path: Path) -> Recogniser:
        try:
            import tensorflow.compat.v1 as tf
        except ImportError as error:
            raise CheckpointError(f"front end {self.name}: {unusable('tensorflow', error)}") from None
        content = tf.GraphDef()
        content.ParseFromString(path.read_bytes())
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(content, name="")
        threads = own_threads()
        options = {"intra_op_parallelism_threads": threads, "inter_op_parallelism_threads": threads}
        # On a GPU it would take all memory that is free, once per process.
        session = tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0}, **options))
        ends = [f"{name}:0" for name in (INPUT, LENGTHS, OUTPUT)]
        return lambda rows: session.run(ends[2], {ends[0]: rows, ends[1]: [rows.shape[1]]})
