"""Values from YAML files and from the command line: whatever is written there, one line or a value, at once."""

from __future__ import annotations

import pytest

from talkingface.config.yaml_files import MOST_BYTES, parse_value, read_yaml
from talkingface.errors import ConfigError

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

BAD = {
    BOMB: "more than 20000 values once its references",
    "model: &a {x: *a}": "1: a value refers to itself",
    "model: &a [*a]": "1: a value refers to itself",
    f"model: {'[' * 3000}": "nested too deeply|not valid YAML",
    f"model: {'[' * 60}{']' * 60}": "1: nested too deeply, more than 40 levels",
    f"model: {'{a: ' * 3000}1{'}' * 3000}": "nested too deeply",
    "train: !!bool maybe": "a value does not fit its type",
    "seed: !!int abc": "a value does not fit its type",
    "seed: !!float x": "a value does not fit its type",
    "when: !!timestamp 2023-99-99": "a value does not fit its type|not valid YAML",
    "x: !!python/object/apply:os.system [ls]": "not valid YAML",
    "seed: 9999999999999999999999999999999999999999": "999999999999... is out of range",
    f"seed: {'9' * 5000}": "out of range|does not fit its type",
    "stages: {5: {max_steps: 3}}": "1: a key must be a name, found 5",
    "? [a, b]\n: 1": "1: a key must be a name, found a list or mapping",
    "yes: 1": "1: a key must be a name, found yes; put quotes around it",
    "a: 1\na: 2": "2: key 'a' is given twice",
    "a: \x01": "not valid YAML",
    "- 1": "expected `key: value` lines, found a list",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_file_that_holds_no_configuration_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=BAD[text]) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_file_of_megabytes_is_not_even_read(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="too much for a configuration file"):
        read_yaml(tmp_path / "mine.yaml")


def test_references_that_are_meant_well_are_followed(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\n")
    value, lines = read_yaml(tmp_path / "mine.yaml")
    assert value == {"a": {"x": 1, "y": [2]}, "b": {"x": 1, "y": [2]}, "c": {"x": 3, "y": [2]}}
    assert lines["b", "x"] == 1 and lines["c", "x"] == 3


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\r\nlayout: lrs2\r\n")
    assert read_yaml(tmp_path / "mine.yaml")[0] == {"seed": 3, "layout": "lrs2"}


@pytest.mark.parametrize(
    "text", ["2023-99-99", "2020-01-01", "[[[[", "a: b: c", "\x01", "!!int x", "(1,", "1+2j", "b'x'"]
)
def test_text_that_is_no_value_stays_text(text):
    assert parse_value(text) == text


@pytest.mark.parametrize("text", ["&a [*a]", "[" * 3000 + "]" * 3000, "9" * 40, "{1: 2}"])
def test_a_value_without_end_or_range_is_refused(text):
    with pytest.raises(ConfigError, match="^command line"):
        parse_value(text)


def test_paths_at_home_are_written_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "mine.yaml").write_text("data_root: ~/films\nexperts: {a: [~/b.pth, ~, '~', a~/b]}\n")
    value, _ = read_yaml(tmp_path / "mine.yaml")
    assert value == {"data_root": "/home/me/films", "experts": {"a": ["/home/me/b.pth", None, "~", "a~/b"]}}
    assert parse_value("~/films") == "/home/me/films" and parse_value("~") is None
