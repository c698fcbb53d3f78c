"""Networks and losses that models and metrics share; no configuration, no clips, no files but their own weights."""
