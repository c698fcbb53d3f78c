"""Writes what docs/contributing.md shows of the code: the picture of the layers and the listing of the folders.

    python docs/house.py

Both come from the sources themselves, so that they do not rot: the layers from `.ci/importlinter.ini`, to which CI
holds the imports, and the sentences from the docstrings of the packages. A test compares what is checked in with what
this script writes.
"""

from __future__ import annotations

import ast
import configparser
import textwrap
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "talkingface"
CONTRACTS = ROOT / ".ci" / "importlinter.ini"
PAGE = ROOT / "docs" / "contributing.md"
PICTURE = ROOT / "docs" / "images" / "layers.svg"
BEGIN, END = "<!-- written by docs/house.py -->\n", "<!-- end -->\n"

# Sizes of the picture in pixels.
LEFT, WIDTH = 56, 880  # of the boxes
TITLE, LINE, MODEL = 44, 14, 30  # heights of the title, of a line of text and of a model
GAP, INSET = 8, 10  # between boxes, and inside
CHARACTER = 6.5  # mean width of one in a sentence


def main() -> None:
    """Write the picture, and the listing into its page."""
    PICTURE.write_text(picture(), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(head + BEGIN + listing() + END + rest.partition(END)[2], encoding="utf-8")


# -- what the sources say ----------------------------------------------------------------------------------------------


def contracts() -> dict[str, configparser.SectionProxy]:
    """The import contracts by their short names (`layers`, `models`, ...), as `.ci/importlinter.ini` has them."""
    parser = configparser.ConfigParser()
    parser.read(CONTRACTS, encoding="utf-8")
    return {name.rpartition(":")[2]: parser[name] for name in parser.sections() if ":contract:" in name}


def layers() -> list[list[str]]:
    """The layers from the top down; the names inside one do not import each other."""
    rows = contracts()["layers"]["layers"].split("\n")
    return [[name.strip().removeprefix("talkingface.") for name in row.split("|")] for row in rows if row.strip()]


def independent_models() -> list[str]:
    """The models, as the contract names them that keeps them from importing each other."""
    return [name.rpartition(".")[2] for name in contracts()["models"]["modules"].split()]


def sentence(path: Path) -> str:
    """The first paragraph of the docstring of a package (folder) or module (file), in one line."""
    source = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def place(name: str) -> Path:
    """The folder or the file of a name of the package's root."""
    return PACKAGE / name if (PACKAGE / name).is_dir() else PACKAGE / f"{name}.py"


def folders(top: Path) -> Iterator[Path]:
    """A folder and all packages below it, in the order of their names."""
    yield top
    for below in sorted(path for path in top.iterdir() if (path / "__init__.py").is_file()):
        yield from folders(below)


# -- the listing -------------------------------------------------------------------------------------------------------


def listing() -> str:
    """The package as a table, from the top layer down: folder or file, what it is for, which modules it holds."""
    rows = ["| where | what it is for | modules |", "|---|---|---|"]
    for name in (name for row in layers() for name in row):
        path = place(name)
        rows += [_row(folder) for folder in folders(path)] if path.is_dir() else [_row(path)]
    return "\n".join(rows) + "\n"


def _row(path: Path) -> str:
    name = path.relative_to(PACKAGE).as_posix() + "/" * path.is_dir()
    modules = sorted(file.stem for file in path.glob("*.py") if file.stem != "__init__")
    return f"| [`{name}`](../talkingface/{name}) | {sentence(path)} | {' '.join(modules)} |".replace("  |", " |")


# -- the picture -------------------------------------------------------------------------------------------------------


def picture() -> str:
    """The layers as SVG, from the top down; readable on light and dark pages, for it brings its own background."""
    shapes: list[str] = []
    top = TITLE
    for row in layers():
        width = (WIDTH - GAP * (len(row) - 1)) / len(row)
        said = [_said(name, width) for name in row]
        height = 30 + LINE * max(map(len, said)) + (MODEL + GAP if "models" in row else 0)
        for index, (name, lines) in enumerate(zip(row, said, strict=True)):
            shapes += _box(name, lines, LEFT + index * (width + GAP), top, width, height)
        top += height + GAP
    arrow = _arrow(TITLE, top - GAP)
    rules = "Held by CI: " + "; ".join(contract["name"] for contract in contracts().values()) + "."
    for line in textwrap.wrap(rules, int(WIDTH / CHARACTER)):
        top += LINE
        shapes.append(_text(LEFT, top, line, "said"))
    return "\n".join([*_opening(top + LINE), *arrow, *shapes, "</svg>"]) + "\n"


def _opening(height: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height:g}" role="img"'
        ' aria-label="The layers of the package, from the command line at the top to errors at the bottom">',
        "<!-- written by docs/house.py from .ci/importlinter.ini -->",
        "<style>",
        "text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2933; }",
        ".name { font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-weight: 600;"
        " font-size: 14px; }",
        ".said { font-size: 12px; fill: #52606d; }",
        ".title { font-size: 15px; font-weight: 600; }",
        ".box { fill: #eef2f7; stroke: #b8c4d0; } .model { fill: #ffffff; stroke: #b8c4d0; }",
        "</style>",
        f'<rect width="{LEFT + WIDTH + 20}" height="{height:g}" rx="8" fill="#ffffff"/>',
        _text(LEFT, 28, "Who may import whom: only downwards; names in one row do not import each other", "title"),
    ]


def _arrow(top: float, bottom: float) -> list[str]:
    middle = (top + bottom) / 2
    return [
        f'<path d="M30 {top:g} V{bottom - 2:g} M23 {bottom - 12:g} L30 {bottom:g} L37 {bottom - 12:g}" fill="none"'
        ' stroke="#7b8794" stroke-width="2"/>',
        f'<text class="said" text-anchor="middle" transform="translate(18 {middle:g}) rotate(-90)">imports</text>',
    ]


def _box(name: str, lines: list[str], left: float, top: float, width: float, height: int) -> list[str]:
    """A name with what it is for; the models stand inside theirs."""
    shapes = [f'<rect class="box" x="{left:g}" y="{top:g}" width="{width:g}" height="{height}" rx="5"/>']
    shapes.append(_text(left + INSET, top + 20, name + "/" * place(name).is_dir(), "name"))
    shapes += [_text(left + INSET, top + 22 + LINE * number, line, "said") for number, line in enumerate(lines, 1)]
    return shapes + (_models(left, top + height - MODEL - GAP, width) if name == "models" else [])


def _models(left: float, top: float, width: float) -> list[str]:
    names = independent_models()
    each = (width - 2 * INSET - GAP * (len(names) - 1)) / len(names)
    shapes = []
    for index, name in enumerate(names):
        x = left + INSET + index * (each + GAP)
        shapes.append(f'<rect class="model" x="{x:g}" y="{top:g}" width="{each:g}" height="{MODEL}" rx="4"/>')
        shapes.append(_text(x + INSET, top + 20, name + "/" * place(f"models/{name}").is_dir(), "name"))
    return shapes


def _said(name: str, width: float) -> list[str]:
    """The sentence of a name in lines: whole where it fits into one, else up to its first stop."""
    text, characters = sentence(place(name)), int((width - 2 * INSET) / CHARACTER)
    if len(text) > characters:
        ends = [text.index(stop) + 1 for stop in (": ", "; ", ". ", "? ") if stop in text]
        text = text[: min(ends, default=len(text))].rstrip(":;")
    return textwrap.wrap(text.rstrip("."), characters)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


if __name__ == "__main__":
    main()
