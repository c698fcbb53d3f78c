"""Numbers on disk: checkpoints of ours, published files and where they come from, folders of runs."""
