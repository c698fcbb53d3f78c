"""DeepSpeech 0.1: a frozen graph becomes an ONNX file that gives the same logits; other graphs are refused."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.clips import tone
from helpers.freeze_deepspeech import heard
from helpers.tensorflow_graphs import CELL, LAST, SIZES, GraphFile, computed, look_alike
from talkingface.cli import main
from talkingface.errors import CheckpointError, DataError
from talkingface.networks.deepspeech.front_ends import DeepSpeechOnnxFrontEnd, DeepSpeechTensorFlowFrontEnd
from talkingface.networks.deepspeech.graph import read_graph
from talkingface.networks.deepspeech.layers import read_deepspeech
from talkingface.networks.deepspeech.onnx_file import convert_deepspeech
from talkingface.sound.recogniser import deepspeech_input


def test_the_layers_of_a_frozen_graph_are_found_by_what_they_compute(tmp_path):
    found = read_deepspeech(look_alike(tmp_path / "graph.pb"))
    assert [layer.bias.size for layer in (*found.first, found.last, found.logits)] == [*SIZES, LAST, 29]
    assert [layer.clip for layer in (found.first[0], found.logits)] == [20.0, None]
    assert (found.forward.hidden, found.backward.forget_bias) == (CELL, 1.0)
    assert np.abs(found.forward.kernel - found.backward.kernel).max() > 0.1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"without": ["input_lengths", "logits"]}, "has no node input_lengths and no node logits; streaming graphs"),
        ({"shape": [1, 16, 19, 26]}, "its input is 1 x 16 x 19 x 26, where 1 x . x 494 is needed; streaming graphs"),
        ({"shape": [1, 16, 494]}, "its input is 1 x 16 x 494"),
        ({"letters": 33}, "its alphabet has 32 letters and a blank; the features are 29 logits"),
        ({"without": ["bw/while/basic_lstm_cell/split"]}, "node 'bw/while/basic_lstm_cell/split' is missing"),
        ({"without": ["ReverseSequence"]}, "node 'ReverseSequence' is missing"),
    ],
)
def test_another_graph_is_refused_by_what_it_lacks(tmp_path, capsys, change, told):
    path = look_alike(tmp_path / "output_graph.pb", **change)
    with pytest.raises(CheckpointError, match=f"output_graph.pb: .*{told}"):
        read_deepspeech(path)
    assert main(["convert-deepspeech", str(path), f"--out={tmp_path / 'new.onnx'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "new.onnx").exists()


def test_files_that_are_no_graphs_are_refused(tmp_path):
    for content, told in ((b"", "holds no TensorFlow graph"), (b"\xff" * 40, "not a frozen TensorFlow graph")):
        (tmp_path / "g.pbmm").write_bytes(content)
        with pytest.raises(CheckpointError, match=f"g.pbmm: {told}"):
            read_graph(tmp_path / "g.pbmm")
    file = GraphFile()
    file.constant("c", np.zeros((2, 2), np.float32))
    file.graph.node[0].attr[0].value.tensor.tensor_shape.dim[0].size = 10**9
    file.add("v", "VariableV2")
    nodes = read_graph(file.write(tmp_path / "g.pb"))
    for name, told in (("c", "holds 4 numbers for a shape"), ("v", "is no constant of numbers; was the graph frozen")):
        with pytest.raises(CheckpointError, match=told):
            nodes[name].value()


def test_the_onnx_file_gives_the_logits_of_the_graph(tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    graph, weights = look_alike(tmp_path / "output_graph.pb"), tmp_path / "checkpoints"
    before = graph.read_bytes()
    assert main(["convert-deepspeech", str(graph), f"--weights_dir={weights}"]) == 0
    front_end = DeepSpeechOnnxFrontEnd(weights)
    assert str(weights / front_end.files[0]) in capsys.readouterr().out and graph.read_bytes() == before
    sound = tone(1.0) + tone(1.0, 900.0)
    rows = front_end.extract(sound)
    assert rows.shape == (50, 29) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, computed(deepspeech_input(sound)), atol=1e-5)
    silent = front_end.extract(np.zeros(16000, np.float32))
    assert np.isfinite(silent).all()
    first = front_end.fingerprint()
    main(["convert-deepspeech", str(graph), f"--weights_dir={weights}"])
    assert DeepSpeechOnnxFrontEnd(weights).fingerprint() == first


@pytest.fixture
def frozen(tmp_path):
    """A graph that TensorFlow 2.19.1 has frozen, below a folder of weights; see `helpers.freeze_deepspeech`."""
    stored = np.load(Path(__file__).with_name("deepspeech_by_tensorflow.npz"))
    path = tmp_path / DeepSpeechTensorFlowFrontEnd.files[0]
    path.parent.mkdir()
    path.write_bytes(stored["graph"].tobytes())
    return path, stored["logits"]


def test_a_graph_that_tensorflow_has_frozen_gives_its_logits(frozen, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    path, logits = frozen
    session = onnxruntime.InferenceSession(str(convert_deepspeech(path, tmp_path / "graph.onnx")))
    np.testing.assert_allclose(session.run(None, {"input_node": heard()[None]})[0][:, 0], logits, atol=1e-5)


def test_tensorflow_itself_gives_the_same_logits(frozen, tmp_path):
    pytest.importorskip("tensorflow")
    path, logits = frozen
    front_end = DeepSpeechTensorFlowFrontEnd(tmp_path)
    np.testing.assert_allclose(front_end.recogniser(heard()[None])[:, 0], logits, atol=1e-5)


def test_tensorflow_computes_with_the_threads_of_torch_and_on_the_cpu(frozen, tmp_path, monkeypatch):
    """By a stand-in that keeps what it is told; the memory of a GPU would be taken by every process."""
    told = {}
    stand_in = SimpleNamespace(
        GraphDef=lambda: SimpleNamespace(ParseFromString=lambda content: None),
        Graph=lambda: SimpleNamespace(as_default=nullcontext),
        import_graph_def=lambda content, name: None,
        ConfigProto=lambda **options: options,
        Session=lambda graph, config: told.update(config),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(compat=SimpleNamespace(v1=stand_in)))
    monkeypatch.setitem(sys.modules, "tensorflow.compat", SimpleNamespace(v1=stand_in))
    monkeypatch.setitem(sys.modules, "tensorflow.compat.v1", stand_in)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert DeepSpeechTensorFlowFrontEnd(tmp_path).recogniser
    threads = {"intra_op_parallelism_threads": 3, "inter_op_parallelism_threads": 3}
    assert told == {"device_count": {"GPU": 0}, **threads}


def test_a_missing_or_other_onnx_file_is_one_line(tmp_path):
    pytest.importorskip("onnxruntime")
    front_end = DeepSpeechOnnxFrontEnd(tmp_path)
    with pytest.raises(DataError, match="output_graph.onnx: the front end deepspeech_onnx needs this file"):
        front_end.fingerprint()
    path = tmp_path / front_end.files[0]
    path.parent.mkdir()
    path.write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="output_graph.onnx: cannot be read as ONNX"):
        front_end.extract(tone(0.5))
