"""What may be set: the typed sections, and how YAML files and arguments become values of them.

Knows no model and no metric; `plugin.configuration` puts a model's settings in.
"""
