"""All entries on a board a suite: who handed in what, how often, and what was checked of it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from leaderboard.board.aggregate import leaderboard
from leaderboard.board.schema import Leaderboard
from leaderboard.bundle.reading import read_entry
from leaderboard.submission.collected import collected
from leaderboard.submission.submit import withdraw
from leaderboard.verification.certificate import write
from leaderboard.verification.verify import verify
from tests.leaderboard.verification.tampering import copied, edit_json


def again(entry: Path, folder: Path, **changes: str) -> Path:
    """The entry once more, of another defense of somebody."""
    made, sha = copied(entry, folder / "more"), "f" * 16

    def change(said: dict) -> None:
        said["submitter"].update(changes)
        said["spec_sha"] = sha

    edit_json(made / "entry.json", change)
    return made.rename(made.with_name(sha))


def test_entries_are_on_the_board_with_who_handed_them_in(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    write(verify(str(entry)), entry, read_entry(entry))
    other = again(toy_entry, tmp_path, organisation="ada & co")
    withdraw(other, "a fault", today=date(2026, 2, 2))
    found = collected(tmp_path, resamples=50)
    assert found.left_out == []
    (board,) = found.boards
    assert Leaderboard.model_validate_json(leaderboard([board]).model_dump_json()).suites == [board]
    mine = {one.submission.place.split("/")[-1]: one for one in board.entries if one.submission}
    kept, gone = mine[entry.name], mine[other.name]
    assert kept.submission is not None and gone.submission is not None
    assert (kept.submission.tier, gone.submission.tier) == ("recomputed", "claimed")
    assert kept.submission.attempts == gone.submission.attempts == 2, "one owner, however it is written"
    assert gone.submission.withdrawn == "a fault" and gone.rank is None
    assert gone.verdict.reasons == ["withdrawn: a fault"]
    controls = sorted(one.defense.name for one in board.entries if one.submission is None)
    assert controls == ["none", "random-clamp"], "each once, of however many runs"


def test_an_entry_that_cannot_be_read_is_told_and_costs_no_other_one(toy_entry: Path, tmp_path: Path) -> None:
    copied(toy_entry, tmp_path)
    broken = again(toy_entry, tmp_path)
    (broken / "rows.parquet").write_bytes(b"PAR1")
    found = collected(tmp_path, resamples=50)
    assert [one.submission is not None for one in found.boards[0].entries].count(True) == 1
    (told,) = found.left_out
    assert "rows.parquet was changed" in told and broken.name in told


def test_an_empty_folder_is_an_empty_board_and_none_is_an_error(tmp_path: Path) -> None:
    assert collected(tmp_path).boards == []
    with pytest.raises(UsageError, match="there is no folder"):
        collected(tmp_path / "nowhere")


def test_suites_have_boards_of_their_own(toy_entry: Path, tmp_path: Path) -> None:
    from tests.leaderboard.row_factory import default_cells, write_entry

    copied(toy_entry, tmp_path)
    write_entry(tmp_path / "embedded__v1" / "b__clamp" / "sha-clamp", default_cells([0.1] * 8, [0.1] * 8))
    assert [one.suite.name for one in collected(tmp_path, resamples=50).boards] == ["embedded", "toy"]
