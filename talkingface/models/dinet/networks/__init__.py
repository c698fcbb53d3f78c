"""Networks of DINet: generator and AdaAT."""
