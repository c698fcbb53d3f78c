"""Parity with the published implementations: see `conftest.py` for the fixtures and `fill.py` for the numbers."""
