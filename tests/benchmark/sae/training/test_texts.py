"""Texts of files: what is read, what is refused; rows of them; and settings that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.training.documents import BLOCK, cut, from_texts, together
from benchmark.sae.training.settings import Collection, Settings
from benchmark.sae.training.sources import text_of
from benchmark.sae.training.texts import read_texts

FILES = {
    "a.txt": "One two\nthree.\n\n \nFour.\n",
    "a.md": "One two\nthree.\n\nFour.",
    "a.jsonl": '{"text": "One two\\nthree."}\n\n{"text": "Four."}\n{"text": " "}\n',
    "a.csv": 'id,text\n1,"One two\nthree."\n2,Four.\n',
}


@pytest.mark.parametrize("name", [*FILES, "a.parquet"])
def test_every_kind_of_file_gives_its_texts(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name in FILES:
        file.write_text(FILES[name])
    else:
        pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["One two\nthree.", "Four."]}), file)
    found = read_texts(file)
    assert found.texts == ["One two\nthree.", "Four."] and found.name == name and len(found.sha256) == 64


def test_the_column_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,story\nno,yes\n")
    assert read_texts(tmp_path / "a.csv", "story").texts == ["yes"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "has no text"),
        ("blank.txt", " \n\n \n", "has no text"),
        ("empty.jsonl", "", "has no text"),
        ("empty.csv", "", "no column 'text'"),
        ("column.csv", "story\nyes\n", "its columns are story"),
        ("column.jsonl", '{"story": "yes"}\n', "its columns are story"),
        ("number.jsonl", '{"text": 3}\n', "line 1: 'text' is a int"),
        ("list.jsonl", "[1]\n", "line 1: list, no object"),
        ("broken.jsonl", "{\n", "cannot be read"),
        ("short.csv", "id,text\n1\n", "'text' is a NoneType"),
        ("text.pdf", "x", "there are .txt"),
        ("latin.txt", b"caf\xe9", "cannot be read"),
        ("broken.parquet", "x", "no sound Parquet"),
        ("missing.txt", None, "there is no file"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message):
        read_texts(file)


def test_a_parquet_without_the_column_names_what_it_has(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"story": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="its columns are story, n"):
        read_texts(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="'n' is a int"):
        read_texts(tmp_path / "a.parquet", "n")


@pytest.mark.parametrize(
    ("sources", "message"),
    [([], "missing"), (["model", "model"], "once"), (["hub:a/b@main"], "name one file"), (["hub:a b"], "write hub:")],
)
def test_sources_that_name_no_text_are_refused(subject: Subject, sources: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        text_of(subject, sources, "text", Collection())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "above 0"),
        ({"k": 0}, "above 0"),
        ({"k": 64}, "below the width"),
        ({"visits": 100}, "one batch"),
        ({"lr": float("nan")}, "above 0"),
        ({"save_dtype": "int8"}, "there are float32, float16"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**{"width": 64, **changes})


def test_long_texts_are_cut_and_every_row_begins_as_a_text() -> None:
    assert list(cut([5, 6, 7, 8, 9], [1], 3)) == [[1, 5, 6], [1, 7, 8], [1, 9]]
    assert list(cut([5, 6, 7], [], 2)) == [[5, 6]], "a row of only its first position has nothing to collect"
    assert list(cut([], [1], 3)) == []


def test_blocks_have_every_text_once_in_an_order_that_the_seed_decides(subject: Subject) -> None:
    texts = [f"w{a} w{b}" for a in range(3, 58) for b in range(3, 58)]
    settings = Collection(context=16)

    def rows(seed: int) -> list[tuple[int, ...]]:
        blocks = from_texts(subject, [*texts, *texts], Collection(context=16, seed=seed))
        return [tuple(row) for n in range(4) for document in blocks(n) for row in document]

    assert sorted(rows(0)) == sorted({(1, a, b) for a in range(3, 58) for b in range(3, 58)})
    assert rows(0) == rows(0) != rows(1)
    blocks = from_texts(subject, texts, settings)
    assert BLOCK <= sum(len(r) for d in blocks(0) for r in d) < BLOCK + 16 and not blocks(9)
    both = together([blocks, lambda number: [[[1, 2]]] if number == 0 else []])
    assert [*both(0)] == [*blocks(0), [[1, 2]]] and not both(9)
