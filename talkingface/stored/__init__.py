"""Files that are read without being believed: arrays, JSON, wave files and JPEG headers, each through one reader."""
