"""The import face for authors: complete, the same in its three lists, and light."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import talkingface
from talkingface import plugin


def typed_imports(module) -> dict[str, str]:
    """Name -> module of what a package imports for type checkers alone."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names}


@pytest.mark.parametrize("face", [talkingface, plugin], ids=["talkingface", "talkingface.plugin"])
def test_every_name_of_a_face_exists_and_its_lists_agree(face):
    assert typed_imports(face) == face._HOMES
    assert set(face.__all__) == {*face._HOMES, *(["__version__"] if face is talkingface else [])}
    assert dir(face) == sorted(face.__all__)
    for name, home in face._HOMES.items():
        value = getattr(face, name)
        assert value is getattr(importlib.import_module(home), name)
        # Where a class or function stands behind the name, it is defined there: no face of a face.
        assert not (inspect.isclass(value) or inspect.isfunction(value)) or value.__module__ == home


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'talkingface.plugin' has no attribute 'Trainer'"):
        _ = plugin.Trainer
    with pytest.raises(ImportError):
        exec("from talkingface.plugin import NoSuchName", {})


def test_importing_the_face_loads_nothing_heavy():
    code = (
        "import sys, talkingface.plugin; print(*sorted(name for name in sys.modules"
        " if name.split('.')[0] in {'torch', 'mediapipe', 'cv2', 'numpy', 'av', 'librosa', 'scipy', 'pydantic'}"
        " or name.startswith('talkingface.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["talkingface.plugin", "talkingface.version"]
