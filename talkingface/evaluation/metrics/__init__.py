"""The metrics, one per file; `inference.py` has what those with a network share."""
