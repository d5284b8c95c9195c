"""Defenses that lead a search astray: each is barred for the reason, or scored as what it is; the clamp is neither."""

from __future__ import annotations

import pytest

from leaderboard.board.schema import Entry
from tests.adversarial.arena import barring, judged
from tests.adversarial.clamped import CLAMP
from tests.adversarial.crowd import Crowd
from tests.adversarial.moved_site import MovedSite
from tests.adversarial.ripple import Ripple
from tests.adversarial.weak_gradient import CallerAware, WeakGradient

REASONS = {"gradient-mismatch", "depends-on-caller", "gradient-free-beats-gradient"}


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    cheats = [WeakGradient(), CallerAware(), Ripple(), MovedSite(), Crowd()]
    return judged([CLAMP, *cheats], tmp_path_factory.mktemp("search") / "run")


def area(entry: Entry, threat: str = "before_edit") -> float:
    found = entry.per_task["ioi"].curves[threat].raw.aurc.value
    assert found is not None
    return found


def test_the_honest_clamp_raises_none_of_the_reasons(entries: dict[str, Entry]) -> None:
    assert not REASONS & {flag.code for flag in entries["sae-clamp"].flags}


@pytest.mark.parametrize("name", ["weak-gradient", "caller-aware", "ripple"])
def test_a_false_gradient_is_barred_and_does_not_pay(entries: dict[str, Entry], name: str) -> None:
    assert "gradient-mismatch" in barring(entries[name])
    assert area(entries[name]) == pytest.approx(area(entries["sae-clamp"]), abs=0.03)


def test_who_looks_at_the_caller_is_barred_for_that(entries: dict[str, Entry]) -> None:
    assert "depends-on-caller" in barring(entries["caller-aware"]) & barring(entries["crowd"])
    assert "depends-on-caller" not in barring(entries["weak-gradient"]), "it lies to everybody alike"


def test_a_lure_elsewhere_changes_nothing(entries: dict[str, Entry]) -> None:
    assert area(entries["moved-site"]) <= area(entries["sae-clamp"]) + 1e-6
