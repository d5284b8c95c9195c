"""What a user wrote is read as it stands, or refused with the file, the line and the key; it is never guessed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.documents import parse, read
from benchmark.errors import UsageError
from benchmark.plain_values import MOST_BYTES, MOST_NESTED
from benchmark.plain_yaml import written

HERE = "-D key"


def refused(text: str | bytes, folder: Path, name: str = "mine.yaml") -> str:
    """What is said of a file."""
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        read(file)
    assert str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3.5", -3.5),
        ("1e-3", 0.001),
        ("true", True),
        ("null", None),
        ("[1, a, {b: 2}]", [1, "a", {"b": 2}]),
        ("'yes'", "yes"),
        ('"010"', "010"),
        ("blocks.4.hook_resid_post", "blocks.4.hook_resid_post"),
        ("every:2", "every:2"),
        ("[&a [1], *a]", [[1], [1]]),
    ],
)
def test_plain_values_are_what_they_look_like(text: str, value: Any) -> None:
    found = parse(text, HERE)
    assert found == value and type(found) is type(value)


def test_what_only_some_readers_take_for_plain_text_is_refused() -> None:
    with pytest.raises(UsageError, match="line 2 has a byte-order mark"):
        parse("''\n\ufeff", HERE)
    with pytest.raises(UsageError, match="a question mark within brackets"):
        parse("[n? ull]", HERE)
    assert parse("n? ull", HERE) == yaml.safe_load("n? ull") == "n? ull"
    for text in ("n\tull", "n\t", "1\n...\t\n"):
        with pytest.raises(UsageError, match="has a tab; write spaces, or quote"):
            parse(text, HERE)
        with pytest.raises(yaml.YAMLError):
            yaml.safe_load(text)
    assert parse('"n\\tull"', HERE) == "n\tull"


@pytest.mark.parametrize(
    "text", "yes no on off Yes ON 010 0x1F 0o17 1_000 1:30 12:30:45 2024-01-02 .nan .inf -.inf".split()
)
def test_what_readers_of_yaml_do_not_agree_on_is_refused_and_quoted_it_is_text(text: str) -> None:
    with pytest.raises(UsageError, match="-D key.* to some readers of YAML.*quote it"):
        parse(text, HERE)
    assert parse(f'"{text}"', HERE) == text
    assert yaml.safe_load(text) != text or text in ("0o17",), "another reader takes it for something else"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", ["line 3", "the key 'a' is there twice, first in line 1"]),
        ("x:\n  - {a: 1, a: 2}\n", ["line 2", "key x.0", "'a' is there twice"]),
        ("a: 1\n1: 2\n", ["line 2", "the key 1 is no text"]),
        ("null: 2\n", ["the key None is no text"]),
        ("a: &b [*b]\n", ["line 1", "key a", "within itself"]),
        ("a: *b\n", ["*b is used before &b is set; anchors so far: none"]),
        ("a: !!python/object:os.system 1\n", ["the tag", "not read"]),
        ("a: !!float 1\n", ["the tag"]),
        ("a: 1\n---\nb: 1\n", ["line 2", "a second document"]),
        ("", ["it is empty"]),
        ("# nothing\n", ["it is empty"]),
        ("a: [1\n", ["line 2", "close every bracket"]),
        ("a: yes\n", ["line 1", "key a", "yes is true or false"]),
        ("a: 1e999\n", ["key a", "no finite number"]),
        ("a: " + "9" * 99, ["more than 40 digits"]),
        ("a: b\n<<: {a: c}\n", ["line 2", "merges mappings"]),
        ("[" * 2000, [f"nested more than {MOST_NESTED} deep"]),
        ("[a]: 1\n", ["a key is a list or mapping"]),
        (b"a: b\nc: \0d\n", ["line 2", "NUL"]),
        (b"a: b\nc: \xff\n", ["line 2", "byte 8", "not UTF-8"]),
        ("a: b".encode("utf-16"), ["UTF-16", "save it as UTF-8"]),
        (b"a" * (MOST_BYTES + 1), ["larger than"]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_file_that_is_not_plain_is_refused_with_its_line_and_key(text: Any, said: list[str], tmp_path: Path) -> None:
    message = refused(text, tmp_path)
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "a": 2}', ["line 2", "the key 'a' is there twice, first in line 1"]),
        ('{"b": [{"a": 1, "\\u0061": 2}]}', ["'a' is there twice"]),
        ('{"a": NaN}', ["NaN is no finite number"]),
        ('{"a": -Infinity}', ["no finite number"]),
        ('{"a": 1e999}', ["no finite number"]),
        ('{"a": "\\ud800"}', ["no file can hold"]),
        ('{"a": "\\u0000"}', ["no file can hold"]),
        ("[" * 100_000, ["nested more than"]),
        ("{'a': 1}", ["line 1"]),
        ("", ["line 1"]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_json_is_read_as_strictly(text: str, said: list[str], tmp_path: Path) -> None:
    message = refused(text, tmp_path, "mine.json")
    assert all(part in message for part in said), message


def test_json_may_be_indented_by_tabs_and_say_nan_in_a_text(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, True, 'NaN {"a": 1, "a": 2}'], "b": {"a": {"a": 1}}}
    (tmp_path / "mine.json").write_text(json.dumps(value, indent="\t"))
    assert read(tmp_path / "mine.json").value == value


def test_aliases_that_expand_without_end_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    start = time.process_time()
    assert "aliases expand to more than" in refused("\n".join(lines), tmp_path)
    assert time.process_time() - start < 1
    (tmp_path / "few.yaml").write_text("\n".join(lines[:3]))
    assert len(read(tmp_path / "few.yaml").value["c"]) == 9, "some are allowed"


def test_two_that_share_an_anchor_are_not_one_object(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: &a {x: 1}\nb: *a\n")
    value = read(tmp_path / "mine.yaml").value
    value["a"]["x"] = 2
    assert value["b"] == {"x": 1}


def test_what_would_be_left_out_of_an_option_is_refused() -> None:
    with pytest.raises(UsageError, match="'#b' would be left out"):
        parse("a #b", HERE)
    assert parse("'a #b'", HERE) == "a #b"


@pytest.mark.parametrize(
    "text", ["yes", "1e-3", "010", "null", "", " a", "a: b", "#", "x\ny", "é", "\u2028", "12", "~", "*a", "[v2]", "\t"]
)
def test_a_text_that_looks_like_something_else_is_written_so_that_it_stays_text(text: str, tmp_path: Path) -> None:
    value = {"k": text, "l": [text, 1, 1.5, 1e-7, 1e22, None, True]}
    (tmp_path / "mine.yaml").write_text(written(value), "utf-8")
    assert read(tmp_path / "mine.yaml").value == value


def test_a_value_knows_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1\nb:\n  - c: 2\n    d: 3\n")
    document = read(tmp_path / "mine.yaml")
    assert [document.line(place) for place in (("a",), ("b", 0, "d"), ("b", 0, "x"), ("z",))] == [1, 4, 3, None]
