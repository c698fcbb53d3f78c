"""Checks that the metrics keep their promises on this machine and data."""
