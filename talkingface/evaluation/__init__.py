"""Scoring videos: the evaluator, the clip that metrics see (`sample.py`), reference rows; reports, self-tests."""
