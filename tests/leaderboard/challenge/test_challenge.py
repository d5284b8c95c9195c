"""A stronger attack is recorded against an entry, counted with its own, and credited."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from attacks.recovery import Recovery
from benchmark.errors import UsageError
from leaderboard.board.side import side
from leaderboard.bundle.form import Form
from leaderboard.bundle.reading import Bundle, read_bundle
from leaderboard.challenge.best_known import best_known, falls
from leaderboard.challenge.reading import FILE, found_for, read_challenge
from leaderboard.challenge.record import Recorded, challenge
from leaderboard.submission.collected import collected
from leaderboard.submission.submit import submit
from tests.leaderboard.conftest import FORM, clamp, evaluated
from tests.leaderboard.verification.tampering import nothing

FORM_2 = Form(title="recovery", organisation="Grace", contact="grace@example.org", licence="MIT")


@pytest.fixture(scope="module")
def blind(toy_suite: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An entry whose recovery attack did nothing, so that whoever searches finds something."""
    folder = tmp_path_factory.mktemp("blind")
    with pytest.MonkeyPatch.context() as weak:
        weak.setattr(Recovery, "run", nothing)
        run = evaluated(clamp(folder), toy_suite, folder)
    return read_bundle(submit(run, side(str(run)), FORM, folder / "entries"))


@pytest.fixture(scope="module")
def recorded(blind: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("challenge")
    return challenge(
        blind, "recovery", {"restarts": 4}, FORM_2, directory=folder / "run", challenges=folder / "challenges"
    )


def test_what_a_stronger_attack_brings_back_is_recorded(recorded: Recorded, blind: Bundle) -> None:
    assert recorded.folder is not None
    found = read_challenge(recorded.folder, blind)
    assert found.said.attack == "recovery" and found.said.settings == {"restarts": 4}
    assert {c.plan.threat_model for c in found.attacks} == {"before_edit"} and all(c.scored for c in found.attacks)
    (fall,) = recorded.falls
    assert fall.fell > 0 and 0 <= fall.gave_way <= fall.held
    assert falls(blind.run, [found]) == recorded.falls


def test_the_worst_case_is_over_both(recorded: Recorded, blind: Bundle) -> None:
    assert recorded.folder is not None
    found = read_challenge(recorded.folder, blind)
    whole = best_known(blind.run, [found])
    assert len(whole.cells) == len(blind.run.cells) + len(found.attacks)
    assert best_known(blind.run, []) == blind.run


def test_the_board_ranks_by_what_is_best_known_and_credits_it(recorded: Recorded, blind: Bundle) -> None:
    assert recorded.folder is not None
    root, challenges = blind.root.parents[2], recorded.folder.parents[3]
    plain, known = (collected(root, folder, resamples=50) for folder in (root, challenges))
    before, after = (found.boards[0].entries[0] for found in (plain, known))
    assert before.best_known is None and known.left_out == []
    assert after.headline == before.headline, "what the suite's own attacks did stays beside it"
    assert after.best_known is not None
    (credit,) = after.best_known.credits
    assert (credit.organisation, credit.attack, credit.settings) == ("Grace", "recovery", {"restarts": 4})
    assert credit.fell == sum(fall.fell for fall in recorded.falls) > 0


def test_an_attack_that_finds_nothing_new_is_not_recorded(toy_entry: Path, tmp_path: Path) -> None:
    weak = {"restarts": 1, "ascent": {"steps": 1}}
    run, kept = tmp_path / "run", tmp_path / "kept"
    found = challenge(read_bundle(toy_entry), "recovery", weak, FORM_2, directory=run, challenges=kept)
    assert found.folder is None and not any(fall.fell for fall in found.falls)
    assert not list((tmp_path / "kept").rglob("*.parquet"))


def test_a_control_is_no_challenge(toy_entry: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="random-direction counts against no defense: it is a control"):
        challenge(read_bundle(toy_entry), "random-direction", {}, FORM_2, directory=tmp_path / "run")


def test_a_challenge_counts_against_its_own_entry_alone(recorded: Recorded, toy_entry: Path) -> None:
    assert recorded.folder is not None
    with pytest.raises(UsageError, match="it is of another entry"):
        read_challenge(recorded.folder, read_bundle(toy_entry))


def test_a_challenge_that_was_changed_does_not_count(recorded: Recorded, blind: Bundle, tmp_path: Path) -> None:
    import shutil

    import pyarrow.parquet as pq

    assert recorded.folder is not None
    folder = tmp_path.joinpath(*recorded.folder.parts[-4:])
    shutil.copytree(recorded.folder, folder)
    rows = pq.read_table(folder / "rows.parquet")
    hits = pa.array([True] * rows.num_rows)
    forged = rows.set_column(rows.column_names.index("recovered"), "recovered", hits)
    pq.write_table(forged, folder / "rows.parquet")
    with pytest.raises(UsageError, match="rows.parquet was changed"):
        read_challenge(folder, blind)
    said = json.loads((folder / FILE).read_text())
    from benchmark.files import digest_of

    said["files"]["rows.parquet"] = digest_of(folder / "rows.parquet")
    (folder / FILE).write_text(json.dumps(said))
    with pytest.raises(UsageError, match="rows are recovered, and never suppressed"):
        read_challenge(folder, blind)
    kept, refused = found_for(blind, folder.parents[3])
    assert kept == [] and len(refused) == 1
    (folder / "more.txt").write_text("")
    with pytest.raises(UsageError, match="'more.txt' is no file of a challenge"):
        read_challenge(folder, blind)
