"""DINet (AAAI 2023): dubs a mouth by turning, scaling and shifting every channel of reference faces."""
