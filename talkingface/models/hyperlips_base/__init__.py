"""HyperLips, first stage: a sound steers the features of a face through kernels of its own."""
