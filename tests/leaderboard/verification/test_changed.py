"""What a pull request may hand in."""

from __future__ import annotations

import json

import pytest

from leaderboard.verification.changed import Changed, Path, changed
from tests.leaderboard.conftest import FORM

PLACE = "leaderboard/entries/toy__v1/ada__clamp/0123abcd"
SAID = {
    "suite": {"name": "toy", "version": "1", "hash": "h"},
    "defense": "clamp",
    "spec_sha": "0123abcd",
    "run_id": "r",
    "submitter": FORM.model_dump(),
    "submitted": "2026-11-01",
    "files": {"rows.parquet": "0" * 64},
}
REASON = {"withdrawn": {"on": "2026-11-02", "why": "wrong"}}


def asked(*paths: tuple[str, str] | Path, before: object = SAID, after: object = SAID) -> Changed:
    made = [one if isinstance(one, Path) else Path(one[0], "100644", one[1]) for one in paths]
    return changed(made, lambda _: json.dumps(before), lambda _: json.dumps(after))


NEW = [("A", f"{PLACE}/{name}") for name in ("entry.json", "rows.parquet", "fits/toy__clamp.json")]


def test_a_new_entry_comes_whole() -> None:
    assert asked(*NEW) == Changed([PLACE], [], [])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("A", "defenses/mine.py"), "hand it in by another pull request"),
        (("M", "Makefile"), "hand it in by another pull request"),
        (("A", "leaderboard/entries/toy__v1/entry.json"), "hand it in by another pull request"),
        (("A", f"{PLACE}/../../x/entry.json"), "is nothing that is handed in"),
        (("A", f"{PLACE}/certificate.json"), "is what a maintainer writes: leave it out"),
        (("A", f"{PLACE}/notes.txt"), "is nothing that is handed in: leave it out"),
        (("M", f"{PLACE.replace('ada', 'eve')}/rows.parquet"), "leave it as it was handed in"),
        (("D", f"{PLACE.replace('ada', 'eve')}/entry.json"), "leave it as it was handed in"),
        (("A", f"{PLACE.replace('ada', 'eve')}/rows.parquet"), "leave it as it was handed in"),
        (Path("A", "120000", f"{PLACE}/run.json"), "is no plain new file"),
        (Path("A", "160000", f"{PLACE}/code/x.py"), "is no plain new file"),
        (Path("A", "100755", f"{PLACE}/code/x.py"), "is no plain new file"),
    ],
)
def test_nothing_else_comes_with_it(path: tuple[str, str] | Path, told: str) -> None:
    found = asked(*NEW, path)
    assert len(found.refused) == 1 and told in found.refused[0]


AGAINST = f"{PLACE.replace('entries', 'challenges')}/eve__gcg__01"


def test_a_new_challenge_comes_whole_and_stays_as_it_is() -> None:
    new = [("A", f"{AGAINST}/{name}") for name in ("challenge.json", "rows.parquet", "perturbations/" + "0" * 64)]
    new[2] = ("A", f"{new[2][1]}.safetensors")
    assert asked(*new) == Changed([AGAINST], [], [])
    for path, told in {
        ("A", f"{AGAINST}/certificate.json"): "is what a maintainer writes",
        ("A", f"{AGAINST}/entry.json"): "is nothing that is handed in",
        ("M", f"{AGAINST.replace('eve', 'ada')}/challenge.json"): "comes without its challenge.json",
        ("D", f"{AGAINST.replace('eve', 'ada')}/rows.parquet"): "leave it as it was handed in",
    }.items():
        found = asked(*new, path)
        assert len(found.refused) == 1 and told in found.refused[0]


def test_an_entry_may_be_withdrawn() -> None:
    assert asked(("M", f"{PLACE}/entry.json"), after={**SAID, **REASON}) == Changed([], [PLACE], [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SAID, {**SAID, "run_id": "other"}),
        (SAID, {**SAID, **REASON, "submitted": "2025-01-01"}),
        ({**SAID, **REASON}, SAID),
        ({**SAID, **REASON}, {**SAID, "withdrawn": {"on": "2026-11-02", "why": "another"}}),
        (SAID, SAID),
        (SAID, []),
    ],
)
def test_an_entry_is_changed_in_no_other_way(before: object, after: object) -> None:
    found = asked(("M", f"{PLACE}/entry.json"), before=before, after=after)
    assert not found.withdrawn and "may only be withdrawn" in found.refused[0]
