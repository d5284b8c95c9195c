"""Stored perturbations are replayed on the live model, and a sample of attacks is run again, harder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from attacks.recovery import Recovery
from benchmark.errors import UsageError
from benchmark.files import digest_of
from leaderboard.bundle.layout import ENTRY, PERTURBATIONS, SPEC
from leaderboard.rows.files import Rows
from leaderboard.verification import apart, live
from leaderboard.verification.certificate import Certificate
from leaderboard.verification.verify import How, verify
from tests.leaderboard.conftest import clamp, evaluated
from tests.leaderboard.verification.tampering import (
    Row,
    cell_of,
    copied,
    edit_json,
    edit_rows,
    in_this_process,
    nothing,
    scored,
    sealed,
)

REPLAY = How(replay=True, device="cpu")
RERUN = How(replay=True, share=1.0, device="cpu")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "run", in_this_process)


def wrong(found: Certificate) -> str:
    return "\n".join(line for check in found.checks if not check.ok for line in [check.what, *check.evidence])


@pytest.fixture(scope="module")
def honest(toy_entry: Path) -> Certificate:
    with pytest.MonkeyPatch.context() as patched:
        here.__wrapped__(patched)  # type: ignore[attr-defined]
        return verify(str(toy_entry), RERUN)


def test_every_perturbation_does_what_its_row_says(toy_entry: Path) -> None:
    found = verify(str(toy_entry), REPLAY)
    assert wrong(found) == "" and found.tier == "replayed" and found.same_code
    rows = [row for key in Rows(toy_entry).keys for row in Rows(toy_entry).cell(key).rows.to_pylist()]
    count = sum(row["status"] == "ok" and row["defense"] == "toy-clamp" for row in rows)
    assert found.checks[-1].evidence == [f"{count} perturbations"] and count > 100


def test_a_run_directory_is_replayed_like_an_entry(toy_run: Path) -> None:
    found = verify(str(toy_run), REPLAY)
    assert wrong(found) == "" and found.tier == "replayed" and found.entry is None


def _swap(entry: Path, first: str, second: str) -> None:
    """Let two cells name each other's perturbations."""
    rows = Rows(entry)
    one, other = (rows.cell(key).perturbations for key in (first, second))
    for key, digest in ((first, other), (second, one)):
        edit_rows(entry, key, lambda rows: rows, digest)


def test_perturbations_of_another_cell_do_something_else(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    keys = [
        cell_of(entry, "wrong-target", "before_edit", goal="wrong")["key"],
        cell_of(entry, "random-direction", "before_edit")["key"],
    ]
    _swap(entry, *keys)
    found = verify(str(sealed(entry)), REPLAY)
    assert found.tier == "recomputed"
    assert "rows are recovered, and the perturbation says otherwise" in wrong(found)
    assert "rows have another margin than the perturbation leads to" in wrong(found)


def test_perturbations_of_another_shape_are_no_ones(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    keys = [
        cell_of(entry, name, threat)["key"] for name, threat in (("recovery", "before_edit"), ("gcg", "token_suffix"))
    ]
    _swap(entry, *keys)
    assert "rows have no perturbation, or one that is written elsewhere" in wrong(verify(str(sealed(entry)), REPLAY))


def test_a_perturbation_in_the_place_of_another_is_another_file(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    one, other = sorted((entry / PERTURBATIONS).iterdir())[:2]
    one.write_bytes(other.read_bytes())
    found = verify(str(sealed(entry)), REPLAY)
    assert found.tier == "recomputed" and "is another file than it was" in wrong(found)
    one.unlink()
    assert "is not there" in wrong(verify(str(sealed(entry)), REPLAY))


def _edited(entry: Path, key: str, example: str) -> None:
    """Scale what was stored for an example down to nothing, under a hash that is right."""
    digest = Rows(entry).cell(key).perturbations
    held = load_file(entry / PERTURBATIONS / f"{digest}.safetensors")
    held[example] = 1e-3 * held[example]
    draft = entry / PERTURBATIONS / f"{'0' * 64}.safetensors"
    save_file(held, draft)
    made = draft.rename(draft.with_name(f"{digest_of(draft)}.safetensors"))
    edit_rows(entry, key, lambda rows: rows, made.stem)


def test_an_edited_perturbation_does_not_recover(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    key = cell_of(entry, "recovery", "before_edit", constraint="none")["key"]
    hit = next(row for row in Rows(entry).cell(key).rows.to_pylist() if row["recovered"])
    _edited(entry, key, hit["example_id"])
    said = wrong(verify(str(sealed(entry)), REPLAY))
    assert "recovered, and the perturbation says otherwise" in said and "another norm than the perturbation" in said


def test_a_verdict_that_was_flipped_with_all_that_follows_is_caught_by_what_is_stored(
    toy_entry: Path, tmp_path: Path
) -> None:
    entry = copied(toy_entry, tmp_path)
    key = cell_of(entry, "recovery", "before_edit", constraint="none")["key"]
    hit = next(row for row in Rows(entry).cell(key).rows.to_pylist() if row["recovered"])["example_id"]
    nothing = dict.fromkeys(("eps_star", "first_success_eps", "first_success_drift", "min_eps"))

    def hold(rows: list[Row]) -> list[Row]:
        held = {"recovered": False, "outcome": "held", "margin_attacked": -1.0, "label_attacked": "no", **nothing}
        return [row | held if row["example_id"] == hit else row for row in rows]

    edit_rows(entry, key, hold)
    found = verify(str(scored(entry)), REPLAY)
    assert found.tier == "recomputed", "the rows hang together, and the scores follow from them"
    assert "rows are held, and the perturbation says otherwise" in wrong(found)


_DROPPED = {"eligible": False, "outcome": None}


def test_a_base_model_that_shows_less_is_another_one(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    rows = Rows(entry)
    every = [row for key in rows.keys for row in rows.cell(key).rows.to_pylist() if row["split"] == "test"]
    one = min({r["example_id"] for r in every if r["eligible"]} - {r["example_id"] for r in every if r["suppressed"]})
    for key in rows.keys:
        edit_rows(entry, key, lambda held: [row | _DROPPED if row["example_id"] == one else row for row in held])
    found = verify(str(scored(entry)), REPLAY)
    assert found.tier == "recomputed" and "judged otherwise without an attack" in wrong(found)


def test_another_defense_under_the_same_rows_is_another_one(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / SPEC, lambda spec: spec.update(strength=2.0))
    said = wrong(verify(str(sealed(entry)), REPLAY))
    assert "fitted again it is the same defense" in said and "changes differs by" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda fit: fit["utility"].update(retained=1.25), "toy.utility.retained is 1.25, and has to be"),
        (lambda fit: fit.update(nondeterminism=0.5), "toy.nondeterminism is 0.5, and has to be 0.0"),
        (lambda fit: fit.update(edit_moved=9.0), "toy.edit_moved is 9.0"),
        (lambda fit: fit["suppressed_share"].update(dev=None), "toy.suppressed_share.dev is None"),
    ],
)
def test_a_record_that_flatters_is_measured_again(
    toy_entry: Path, tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / "fits" / "toy__toy-clamp.json", change)
    found = verify(str(scored(entry)), How(share=0.1, device="cpu"))
    assert said in wrong(found) and found.tier == "recomputed"


def test_a_defense_that_cannot_be_made_is_told(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / SPEC, lambda spec: spec.update(defense="nobody"))
    found = verify(str(sealed(entry)), REPLAY)
    assert found.tier == "recomputed" and "unknown defense 'nobody'" in wrong(found)


def test_without_perturbations_nothing_can_be_replayed(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    for file in (entry / PERTURBATIONS).iterdir():
        file.unlink()
    (entry / PERTURBATIONS).rmdir()
    with pytest.raises(UsageError, match="no perturbations to replay: give the folder of them by --perturbations"):
        verify(str(sealed(entry)), REPLAY)
    elsewhere = How(replay=True, device="cpu", perturbations=toy_entry / PERTURBATIONS)
    assert verify(str(entry), elsewhere).tier == "replayed", "they may lie elsewhere"


# --- attacked again


def test_a_sample_of_every_task_is_attacked_again_harder(honest: Certificate, toy_entry: Path) -> None:
    assert [check.stage for check in honest.checks if not check.ok] in ([], ["re-run"])
    scored_cells = [
        cell_of(toy_entry, *way)
        for way in (("recovery", "before_edit"), ("soft-suffix", "soft_suffix"), ("gcg", "token_suffix"))
    ]
    assert len(honest.reruns) == len(scored_cells) and honest.times == 2 and honest.share == 1.0
    assert all(one.area_again <= one.area and one.fell <= one.held for one in honest.reruns)
    assert (honest.tier == "re-run") == (not any(one.fell for one in honest.reruns))


def test_an_attack_that_was_made_blind_is_found_by_a_real_one(
    toy_suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack of the run did nothing; every row hangs together, and the sample falls."""
    with monkeypatch.context() as patched:
        patched.setattr(Recovery, "run", nothing)
        evaluated(clamp(tmp_path), toy_suite, tmp_path)
    found = verify(str(tmp_path / "run"), RERUN)
    assert found.tier == "replayed", "what is stored does what the rows say"
    fallen = [one for one in found.reruns if one.fell]
    assert fallen and any("before_edit" in one.cell and one.area_again < one.area for one in fallen)
    assert "rows that held fell" in wrong(found)


def test_a_smaller_share_is_a_seeded_part(toy_entry: Path) -> None:
    from leaderboard.rows.run import read_run

    run, name = read_run(toy_entry), "toy-clamp"
    drawn = [[cell.key for cell in live.sample(run, name, 0.4, seed)] for seed in (1, 1, 2, 3, 4, 5)]
    assert drawn[0] == drawn[1] and all(len(keys) == 1 for keys in drawn) and len({*map(tuple, drawn)}) > 1
    assert len(live.sample(run, name, 1.0, 1)) == 3 and live.sample(run, name, None, 1) == []


def test_nothing_is_run_of_what_does_not_hang_together(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / ENTRY, lambda said: said.update(run_id="another"))
    found = verify(str(entry), REPLAY)
    assert {check.stage for check in found.checks} == {"recomputed"} and not found.ok


def test_tables_of_the_other_process_are_read_with_bounds(tmp_path: Path) -> None:
    from benchmark.errors import RunDirectoryError
    from leaderboard.verification.again import REFERENCE, rows_of

    (tmp_path / "toy.reference.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunDirectoryError, match="is damaged"):
        rows_of(tmp_path, "toy", "reference", REFERENCE)
    pq.write_table(REFERENCE.empty_table(), tmp_path / "toy.reference.parquet")
    assert rows_of(tmp_path, "toy", "reference", REFERENCE) == []
