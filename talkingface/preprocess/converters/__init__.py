"""Data that older code has preprocessed: one module per layout, see `base.Converter`."""
