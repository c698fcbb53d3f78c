"""The metrics, one per file; `networks.py` has what those with a network share."""
