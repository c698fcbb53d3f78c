"""The networks of IPLAP, one architecture per file."""
