"""How fast this machine works: the parts of a model, and those of the lip-sync metric."""
