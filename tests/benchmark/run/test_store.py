"""A run directory in any state: taken up, mended, or refused with one line and nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError

from benchmark.contracts.row import SCHEMA
from benchmark.errors import RunDirectoryError
from benchmark.run import store as module
from benchmark.run.store import Store

CODE = {"engine": "0"}
KEYS = ("0123456789abcdef", "fedcba9876543210")
PLAN = {"identity": "mine", "cells": [{"key": key} for key in KEYS]}


def opened(root: Path) -> Store:
    """A directory that was opened once, and closed."""
    store = Store(root).open(PLAN)
    store.close()
    return store


def rows(key: str, status: str = "ok") -> pa.Table:
    row = {**dict.fromkeys(SCHEMA.names), "cell_key": key, "status": status, "flags": []}
    return pa.Table.from_pylist([row], schema=SCHEMA)


def filled(root: Path) -> Store:
    """A directory with both cells, the first with perturbations."""
    store = opened(root)
    store.write(KEYS[0], rows(KEYS[0]), CODE, {"e0": torch.zeros(3), "e1": torch.ones(3)})
    store.write(KEYS[1], rows(KEYS[1]), CODE)
    assert all(map(store.finished, KEYS)) and not store.mend(KEYS)
    return store


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize(
    "left",
    [[], [".lock"], ["cells/"], [".lock", "cells/", "fits/"], ["cells/", "fits/", "private/", "plan.json.part"]],
    ids=str,
)
def test_a_directory_that_was_killed_before_its_plan_was_written_is_taken_up(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("half")
    opened(tmp_path)
    assert json.loads((tmp_path / "plan.json").read_text()) == PLAN
    assert not list(tmp_path.rglob("*.part")) and (tmp_path / "private").is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "thesis.tex",
        "plan.json.bak",
        "cells/rows.csv",
        "cells/0000000000000000.parquet",
        "private/diary.txt",
        "private/deep/x",
        "data/x.part",
        "run.json",
    ],
)
def test_a_strangers_file_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_text("{}")
    before = contents(tmp_path)
    with pytest.raises(RunDirectoryError, match=name.split("/")[-1].split(".")[0] + "|deep|data"):
        opened(tmp_path)
    assert contents(tmp_path) == before and not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    "content", [b"", b'{"identity": "mi', b"[1, 2]", b"\xff\xfe\x00\x80", b'{"milk": 2}', b"[" * 99999]
)
def test_a_plan_that_cannot_be_read_is_one_line_that_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    filled(tmp_path)
    (tmp_path / "plan.json").write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"plan\.json .*delete it and repeat the command") as told:
        opened(tmp_path)
    assert "\n" not in str(told.value) and contents(tmp_path) == before
    (tmp_path / "plan.json").unlink()
    again = opened(tmp_path)
    assert all(map(again.finished, KEYS)), "what the line promises is true"


def test_a_plan_with_other_words_for_the_same_cells_is_written_again(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "plan.json").write_text('{"identity": "mine", "cells": []}')
    opened(tmp_path)
    assert json.loads((tmp_path / "plan.json").read_text()) == PLAN


@pytest.mark.parametrize("content", [b"", b"PAR1 cut short", b"\xff" * 300, None])
def test_a_cell_that_cannot_be_read_is_set_aside_and_run_again(tmp_path: Path, content: bytes | None) -> None:
    store = filled(tmp_path)
    file = tmp_path / "cells" / f"{KEYS[0]}.parquet"
    damaged = file.read_bytes()[:-40] if content is None else content
    file.write_bytes(damaged)
    (told,) = store.mend(KEYS)
    assert file.name in told and "run again" in told
    assert not store.has(KEYS[0]) and store.finished(KEYS[1])
    assert file.with_name(file.name + ".damaged").read_bytes() == damaged, "nothing is thrown away"
    opened(tmp_path)


def test_a_changed_bit_in_a_cell_is_seen(tmp_path: Path) -> None:
    store = filled(tmp_path)
    file = tmp_path / "cells" / f"{KEYS[0]}.parquet"
    sound, seen = file.read_bytes(), 0
    for place in range(8, len(sound) // 2, 97):
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        seen += bool(store.mend(KEYS[:1]))
    assert seen > 10


def test_a_cell_under_another_ones_name_or_of_another_version_is_run_again(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.write(KEYS[0], rows(KEYS[1]), CODE)
    assert ["of another cell" in told for told in store.mend(KEYS)] == [True]
    store.write(KEYS[0], rows(KEYS[0]).replace_schema_metadata({b"recoverybench.schema_version": b"0"}), CODE)
    assert ["row schema 0" in told for told in store.mend(KEYS)] == [True]


@pytest.mark.parametrize("harm", ["missing", "cut", "other"])
def test_a_cell_without_its_perturbations_is_not_finished(tmp_path: Path, harm: str) -> None:
    store = filled(tmp_path)
    (file,) = (tmp_path / "private").iterdir()
    content = file.read_bytes()
    if harm == "other":
        store.write(KEYS[1], rows(KEYS[1]), CODE, {"e0": torch.zeros(3)})
        (content,) = (one.read_bytes() for one in file.parent.iterdir() if one != file)
    file.unlink() if harm == "missing" else file.write_bytes(content[:-1] if harm == "cut" else content)
    (told,) = store.mend(KEYS)
    assert file.name in told
    assert not store.finished(KEYS[0]) and store.finished(KEYS[1])


def test_perturbations_are_called_by_their_content(tmp_path: Path) -> None:
    store = filled(tmp_path)
    (file,) = (tmp_path / "private").iterdir()
    assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()
    store.write(KEYS[1], rows(KEYS[1]), CODE, {"e1": torch.ones(3), "e0": torch.zeros(3)})
    assert [file] == list((tmp_path / "private").iterdir()), "equal ones are one file"
    assert store.perturbations(KEYS[1])["e1"].tolist() == [1, 1, 1]


def test_perturbations_are_there_before_the_cell_that_they_belong_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plain, order = opened(tmp_path), os.replace, []

    def noted(source: Path, target: Path) -> None:
        order.append(target.suffix)
        plain(source, target)

    monkeypatch.setattr(os, "replace", noted)
    store.write(KEYS[0], rows(KEYS[0]), CODE, {"e0": torch.zeros(3)})
    assert order == [".safetensors", ".parquet"]


def test_a_full_disk_is_told_whatever_exception_a_library_has_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)

    def full(*_: Any) -> None:
        raise SafetensorError('I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }')

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(RunDirectoryError, match="the disk is full. Finished cells are safe; make room"):
        store.write(KEYS[0], rows(KEYS[0]), CODE, {"e0": torch.zeros(3)})
    assert not store.has(KEYS[0]) and not list(tmp_path.rglob("*.part"))

    def broken(*_: Any) -> None:
        raise SafetensorError("a tensor is not contiguous")

    monkeypatch.setattr(module, "save_file", broken)
    with pytest.raises(SafetensorError, match="contiguous"):
        store.write(KEYS[0], rows(KEYS[0]), CODE, {"e0": torch.zeros(3)})


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff", b'{"task": "toy", "defense": "other"}'])
def test_a_fit_that_cannot_be_read_is_missing(tmp_path: Path, content: bytes | None) -> None:
    store = opened(tmp_path)
    store.write_fit("toy", "clamp", {"task": "toy", "defense": "clamp"})
    assert store.has_fit("toy", "clamp") and not store.has_fit("toy", "another")
    file = tmp_path / "fits" / "toy__clamp.json"
    file.unlink() if content is None else file.write_bytes(content)
    assert not store.has_fit("toy", "clamp")


@pytest.mark.parametrize("name", ["a/b", "..", "x" * 300, "[v2]", "ä b", ".hidden", ""])
def test_any_name_of_a_defense_has_a_file(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path)
    store.write_fit("toy", name, {"task": "toy", "defense": name})
    store.write_fit("toy", name + "'", {"task": "toy", "defense": name + "'"})
    assert store.has_fit("toy", name) and len(list((tmp_path / "fits").iterdir())) == 2


def test_events_are_whole_lines_after_one_that_was_cut_short(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.event("first")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"time": 1, "ev')
    store.event("second")
    store.event("third")
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 4 and [json.loads(lines[i])["event"] for i in (0, 2, 3)] == ["first", "second", "third"]
