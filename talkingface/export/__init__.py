"""Networks as ONNX files: written and checked, and run in place of PyTorch."""
