"""IPLAP (IP_LAP, CVPR 2023): landmarks from audio, then a renderer guided by sketches and reference frames."""
