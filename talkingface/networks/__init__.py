"""Networks and losses that several rooms share; no configuration, no clips, no files but their own weights."""
