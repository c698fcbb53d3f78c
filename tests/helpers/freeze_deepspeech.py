"""Made `tests/networks/deepspeech_by_tensorflow.npz`: a small DeepSpeech 0.1 as TensorFlow itself freezes it.

With TensorFlow 2.19.1, whose version 1 still writes loops with Enter, Merge and Exit:
`python tests/helpers/freeze_deepspeech.py OUT.npz`.
"""

from __future__ import annotations

import sys

import numpy as np

WINDOW, LETTERS, CELL, ROWS = 494, 29, 5, 20


def main(out: str) -> None:
    import tensorflow.compat.v1 as tf
    from tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl import BasicLSTMCell

    tf.disable_v2_behavior()
    tf.disable_control_flow_v2()

    def dense(x, name, width):
        spread = [tf.random_normal_initializer(stddev=s) for s in (2 / np.sqrt(int(x.shape[-1])), 0.3)]
        kernel = tf.get_variable(f"h{name}", [x.shape[-1], width], initializer=spread[0])
        return tf.add(tf.matmul(x, kernel), tf.get_variable(f"b{name}", [width], initializer=spread[1]))

    def clipped(x, name, width):
        return tf.minimum(tf.nn.relu(dense(x, name, width)), 20.0)

    x = tf.placeholder(tf.float32, [None, None, WINDOW], name="input_node")
    lengths = tf.placeholder(tf.int32, [None], name="input_lengths")
    count = tf.shape(x)[0]
    here = tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, WINDOW])
    here = clipped(clipped(clipped(here, "1", 12), "2", 10), "3", 2 * CELL)
    cells = [BasicLSTMCell(CELL, forget_bias=1.0, state_is_tuple=True) for _ in range(2)]
    rows = tf.reshape(here, [-1, count, 2 * CELL])
    both, _ = tf.nn.bidirectional_dynamic_rnn(*cells, rows, dtype=tf.float32, time_major=True, sequence_length=lengths)
    here = clipped(tf.reshape(tf.concat(both, 2), [-1, 2 * CELL]), "5", 11)
    logits = tf.reshape(dense(here, "6", LETTERS), [-1, count, LETTERS], name="logits")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        random = np.random.default_rng(1)
        for variable in tf.global_variables():
            if "lstm" in variable.name:
                variable.load(random.normal(0, 0.5, variable.shape.as_list()).astype(np.float32), session)
        found = session.run(logits, {x: heard()[None], lengths: [ROWS]})
        graph = tf.graph_util.convert_variables_to_constants(session, session.graph_def, ["logits"])
    np.savez_compressed(out, graph=np.frombuffer(graph.SerializeToString(), np.uint8), logits=found[:, 0])


def heard() -> np.ndarray:
    """What the logits were computed of, (20, 494)."""
    return np.random.default_rng(7).normal(size=(ROWS, WINDOW)).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1])
