"""Each tampering that rows, plan or header show is caught, also where every hash was made anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.bundle.layout import ENTRY, PLAN, ROWS, RUN, SCORES
from leaderboard.verification.certificate import CLAIMED
from leaderboard.verification.verify import verify
from tests.leaderboard.verification.tampering import Row, cell_of, copied, edit_json, edit_rows, scored, sealed


def faults(entry: Path) -> str:
    """What verification finds wrong, in one text."""
    found = verify(str(entry))
    assert (found.tier == CLAIMED) is not found.ok
    return "\n".join(line for check in found.checks if not check.ok for line in [check.what, *check.evidence])


def test_what_was_handed_in_is_recomputed(toy_entry: Path, toy_run: Path) -> None:
    assert faults(toy_entry) == "" and verify(str(toy_entry)).tier == "recomputed"
    assert verify(str(toy_run)).tier == "recomputed", "and so is the run that it was"


@pytest.mark.parametrize("name", [ROWS, SCORES, PLAN, RUN, "fits/toy__toy-clamp.json"])
def test_a_file_that_was_cut_or_changed_is_named(toy_entry: Path, tmp_path: Path, name: str) -> None:
    entry = copied(toy_entry, tmp_path)
    content = (entry / name).read_bytes()
    for changed in (content[: len(content) // 2], content[:-2] + b"  "):
        (entry / name).write_bytes(changed)
        assert f"{name} was changed" in faults(entry)
    (entry / name).write_bytes(content)
    assert faults(entry) == ""


def test_a_flipped_verdict_contradicts_its_margin(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)

    def flip(rows: list[Row]) -> list[Row]:
        row = next(r for r in rows if r["recovered"])
        row["recovered"] = False
        return rows

    edit_rows(entry, cell_of(entry, "recovery", "before_edit")["key"], flip)
    assert "rows are not recovered, by a margin above 0" in faults(scored(entry))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[1:], "1 rows are missing"),
        (lambda rows: [*rows, rows[0]], "1 rows are there twice"),
        (lambda rows: [rows[0] | {"example_id": "mine"}, *rows[1:]], "1 rows are of no example or budget of the suite"),
        (lambda rows: [r | {"defense": "another"} for r in rows], "defense is 'another' in some rows"),
        (lambda rows: [r | {"run_id": "another"} for r in rows], "run_id is 'another' in some rows"),
        (lambda rows: [r | {"cluster_id": "one"} for r in rows], "rows are of another cluster than in the suite"),
        (lambda rows: [r | {"sanity": True} for r in rows], "marked as sanity rows, or not, against the plan"),
        (lambda rows: [r | {"status": "error"} for r in rows], "rows failed"),
        (lambda rows: [r | {"eligible": False, "suppressed": False} for r in rows], "are other than in other cells"),
    ],
)
def test_rows_that_are_not_those_of_the_run(
    toy_entry: Path, tmp_path: Path, change: Callable[[list[Row]], list[Row]], said: str
) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_rows(entry, cell_of(entry, "recovery", "before_edit")["key"], change)
    assert said in faults(sealed(entry))


def test_an_edited_aggregate_does_not_follow_from_the_rows(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)

    def better(said: Any) -> None:
        said["per_task"]["toy"]["rs0"]["value"] -= 1e-6

    edit_json(entry / SCORES, better)
    assert "scores.per_task.toy.rs0.value is" in faults(sealed(entry))


def _weaker(plan: Any) -> None:
    cell = next(c for c in plan["cells"] if c["attack"] == "recovery" and c["split"] == "test")
    cell["settings"]["search"]["steps"] = 1


def _fewer(plan: Any) -> None:
    plan["cells"] = [c for c in plan["cells"] if c["attack"] != "gcg"]


def _unseen(plan: Any) -> None:
    cell = next(c for c in plan["cells"] if c["attack"] == "random-direction")
    plan["cells"].remove(cell)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_weaker, "recovery (before_edit/none, goal behavior).settings.search.steps is 1, and has to be 5"),
        (_fewer, "gcg (token_suffix/none, goal behavior) was not run"),
        (_unseen, "random-direction (before_edit/none, goal behavior) was not run"),
    ],
)
def test_a_weakened_plan_is_not_the_suites(
    toy_entry: Path, tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / PLAN, change)
    assert said in faults(sealed(entry))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run["suite"].update(hash="0" * 16), "suite.hash is '0000000000000000', and has to be"),
        (lambda run: run["suite"].update(attacks=run["suite"]["attacks"][:1]), "suite.attacks is"),
        (
            lambda run: run["tasks"]["toy"]["ceilings"].update(before_edit=0.01),
            "tasks.toy.ceilings.before_edit is 0.01",
        ),
        (lambda run: run["tasks"]["toy"].update(examples_hash="x"), "tasks.toy.examples_hash is 'x'"),
        (lambda run: run["tasks"]["toy"].update(threat_models=["before_edit"]), "tasks.toy.threat_models is"),
        (lambda run: run["model"].update(weights_sha="x"), "were measured on another model than was run"),
        (lambda run: run.update(limit=5), "the run was limited to 5 examples"),
        (lambda run: run.update(status="partial"), "the run is partial"),
        (lambda run: run.update(protocol="paper", ranked=False), "the protocol is paper"),
        (lambda run: run["git"].update(dirty=True), "with changes: commit them"),
        (lambda run: run.update(git=None), "the code is of no commit"),
    ],
)
def test_a_run_that_says_of_itself_what_its_suite_does_not(
    toy_entry: Path, tmp_path: Path, change: Callable[[Any], None], said: str
) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / RUN, change)
    assert said in faults(sealed(entry))


def test_an_entry_that_says_it_is_another_one(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / ENTRY, lambda said: said.update(spec_sha="0" * 16))
    assert "spec_sha is 0000000000000000" in faults(entry)
    moved = entry.rename(entry.with_name("f" * 16))
    assert "which is the place of another entry" in faults(moved)


def test_text_and_places_and_secrets_are_found_in_what_was_handed_in(toy_entry: Path, tmp_path: Path) -> None:
    entry = copied(toy_entry, tmp_path)
    edit_json(entry / RUN, lambda run: run["versions"].update(note="see /home/ada/notes.txt, hf_" + "a" * 30))
    told = faults(sealed(entry))
    assert "run.json.versions.note has a place of this machine, '/home/ada/notes.txt'" in told
    assert "has a Hugging Face token: take it out" in told and "a" * 30 not in told


def test_the_certificate_of_another_entry_is_worth_nothing(toy_entry: Path, tmp_path: Path) -> None:
    from leaderboard.bundle.reading import read_entry
    from leaderboard.verification.certificate import tier_of, write

    entry = copied(toy_entry, tmp_path)
    assert tier_of(entry, read_entry(entry)) == CLAIMED, "there is none"
    assert write(verify(str(entry)), entry, read_entry(entry))
    assert tier_of(entry, read_entry(entry)) == "recomputed" and verify(str(entry)).ok, "and it is no file of the entry"
    certificate = json.loads((entry / "certificate.json").read_text())
    (entry / "certificate.json").write_text(json.dumps(certificate | {"tier": "re-run"}))
    assert tier_of(entry, read_entry(entry)) == CLAIMED, "a tier that its checks do not bear out"
    write(verify(str(entry)), entry, read_entry(entry))
    edit_json(entry / ENTRY, lambda said: said["submitter"].update(title="Other"))
    assert tier_of(entry, read_entry(entry)) == CLAIMED


def test_a_certificate_that_says_more_stays_where_nothing_is_wrong(toy_entry: Path, tmp_path: Path) -> None:
    from leaderboard.bundle.reading import read_entry
    from leaderboard.verification.certificate import tier_of, write
    from leaderboard.verification.checks import check
    from leaderboard.verification.replayed import DONE

    entry = copied(toy_entry, tmp_path)
    said, plain = read_entry(entry), verify(str(entry))
    more = plain.model_copy(update={"checks": [*plain.checks, check("replayed", DONE, [])], "tier": "replayed"})
    assert write(more, entry, said) and not write(plain, entry, said) and tier_of(entry, said) == "replayed"
    fault = plain.model_copy(update={"checks": [check("recomputed", "it holds", ["no"])], "tier": "claimed"})
    assert write(fault, entry, said) and tier_of(entry, said) == "claimed", "what is wrong now counts"
