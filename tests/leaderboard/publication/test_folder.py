"""A publication in a folder: what is laid out, what is left out, and what is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from benchmark.errors import UsageError
from leaderboard.board.schema import Leaderboard
from leaderboard.bundle.reading import read_bundle
from leaderboard.publication import folder as module
from leaderboard.publication.card import MARK
from leaderboard.publication.folder import write
from leaderboard.publication.publication import Publication, is_published, publication
from tests.leaderboard.publication.test_repository import published, there
from tests.leaderboard.verification.tampering import copied, edit_json, sealed


def entry_of(root: Path) -> Path:
    return next(root.rglob("entry.json")).parent


def test_an_entry_with_artifacts_is_read_from_where_it_was_published(entries: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    published(entries, str(target), artifacts=True)
    bundle = read_bundle(entry_of(target / "results"))
    assert there(bundle.root) == there(entry_of(entries))
    board = Leaderboard.model_validate_json((target / "leaderboard.json").read_bytes())
    places = [entry.submission.place for one in board.suites for entry in one.entries if entry.submission]
    assert places == ["/".join(bundle.root.parts[-3:])]


def test_rows_are_loaded_by_the_card(entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from datasets import config

    published(entries, str(tmp_path / "out"))
    front = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert front["license"] == "mit"
    name = front["configs"][0]["config_name"]
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    rows = datasets.load_dataset(str(tmp_path / "out"), name, split="rows", cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == pq.read_metadata(entry_of(entries) / "rows.parquet").num_rows > 0
    assert f"| {name} | 1 | {rows.num_rows} |" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_new_writes_nothing(entries: Path, tmp_path: Path) -> None:
    assert write(publication(entries), tmp_path / "out")
    assert write(publication(entries), tmp_path / "out") == []


def test_what_leaks_is_left_out_and_told(entries: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = copied(entry_of(entries), tmp_path / "more")
    edit_json(other / "spec.json", lambda spec: spec.update(note="see /home/ada/notes.txt"))
    edit_json(other / "entry.json", lambda said: said["submitter"].update(organisation="Eve"))
    sealed(other).parent.rename(entries / other.parts[-3] / "eve__toy-clamp")
    published(entries, str(tmp_path / "out"), code=1)
    assert "what must not be published: spec.json.note has a place of this machine" in capsys.readouterr().err
    assert not any("eve__toy-clamp" in name for name in there(tmp_path / "out"))
    assert "eve__toy-clamp" not in (tmp_path / "out" / "leaderboard.json").read_text()


def test_an_entry_that_is_not_as_it_was_handed_in_is_not_published(entries: Path) -> None:
    (entry_of(entries) / "scores.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no entry that can be published.*scores.json was changed"):
        publication(entries)


def test_an_entry_in_the_place_of_another_is_not_published(entries: Path) -> None:
    entry = entry_of(entries)
    entry.rename(entry.with_name("0" * 16))
    with pytest.raises(UsageError, match="is not the place of this entry: move it"):
        publication(entries)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    made = Publication({"README.md": MARK.encode(), "leaderboard.json": b"{}"}, [])
    for i, name in enumerate(["notes.txt", "README.md", "leaderboard.json", "results/x.csv"]):
        out = tmp_path / str(i)
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")
        with pytest.raises(UsageError, match="which no publication has; give an empty place"):
            write(made, out)
        assert there(out) == {name: b"mine"}


def test_a_link_is_not_followed(entries: Path, tmp_path: Path) -> None:
    write(publication(entries), tmp_path / "out")
    (tmp_path / "results").mkdir()
    place = next((tmp_path / "out" / "results").iterdir())
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = there(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"a link, which no publication has"):
        write(publication(entries, artifacts=True), tmp_path / "out")
    assert there(tmp_path / "elsewhere") == before


def test_a_publication_that_was_cut_off_can_be_repeated(
    entries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, whole, done = publication(entries), module.write_atomically, list[Path]()

    def cut(path: Path, save: object) -> None:
        if len(done) == 2:
            path.with_name(path.name + ".part").write_text("draft")
            raise OSError(28, "no space")
        done.append(path)
        whole(path, save)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_atomically", cut)
    with pytest.raises(UsageError, match="the disk is full; make room and repeat the command"):
        write(made, tmp_path / "out")
    monkeypatch.undo()
    write(made, tmp_path / "out")
    assert there(tmp_path / "out").keys() == made.files.keys()


def test_a_place_outside_is_no_place() -> None:
    good = "results/s__v1/o__d/abc/fits/x.json"
    assert is_published(good)
    assert not any(map(is_published, [f"../{good}", f"/{good}", good.replace("o__d", ".."), f"{good}/../y", "x.json"]))


def test_licences_that_differ_are_told_by_entry(entries: Path, tmp_path: Path) -> None:
    other = copied(entry_of(entries), tmp_path / "more")
    edit_json(other / "entry.json", lambda said: said["submitter"].update(licence="Apache-2.0", organisation="Eve"))
    other.parent.rename(entries / other.parts[-3] / "eve__toy-clamp")
    made: Publication = publication(entries)
    card = made.files["README.md"]
    assert isinstance(card, bytes) and b"license: other" in card and b"| Apache-2.0 |" in card
    assert json.loads(made.files["leaderboard.json"])["generated_at"].endswith("T00:00:00+00:00")  # type: ignore[arg-type]
