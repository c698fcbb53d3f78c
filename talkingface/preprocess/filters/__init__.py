"""Filters: steps that make no file, but measure a clip and may turn it away."""
