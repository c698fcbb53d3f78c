"""HyperLips, second stage: a generated face becomes larger and sharper."""
