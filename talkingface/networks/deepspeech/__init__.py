"""DeepSpeech 0.1, whose letters steer DINet: its frozen TensorFlow graph read, made an ONNX file, and run."""
