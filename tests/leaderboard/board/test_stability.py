"""A defense over several SAEs: its figures, how far apart they lie, and what its latents have in common."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmark.errors import RunDirectoryError
from leaderboard.board.schema import SuiteBoard
from leaderboard.scores.stability import SaePair
from leaderboard.tables.board import render
from tests.leaderboard.row_factory import HALF, NEVER, QUARTER, board, default_cells, dump, manifest, write_run


def match(latent: int, cosine: float) -> dict[str, Any]:
    return {"latent": latent, "partner": latent + 1, "cosine": cosine, "frequency": 0.2, "partner_frequency": 0.1}


PAIR: dict[str, Any] = {
    "task": "ioi",
    "defense": "clamp",
    "first": "clamp",
    "second": "clamp@2",
    "site": "blocks.2.hook_resid_post",
    "saes": ["one", "two"],
    "tokens": 500,
    "best": [match(1, 0.9), match(2, 0.7)],
    "one_to_one": [match(1, 0.9), match(2, 0.1)],
    "others": [match(5, 0.3), match(6, 0.2)],
}


def made(folder: Path, family: str | None = "clamp", pairs: Any = (PAIR,)) -> SuiteBoard:
    """A run of two defenses, of which half and a quarter hold; ``family``: of the second."""
    cells = default_cells(HALF, HALF) + default_cells(QUARTER, QUARTER, defense="clamp@2")
    defenses: Any = manifest(["ioi"], ["clamp", "clamp@2", "none"])["defenses"]
    defenses["clamp"] |= {"family": "clamp", "saes": {PAIR["site"]: "one"}}
    defenses["clamp@2"] |= {"family": family, "saes": {PAIR["site"]: "two"}}
    directory = write_run(folder / "run", cells, {"clamp": 1.0, "clamp@2": 0.9}, defenses=defenses)
    dump(directory / "stability.json", {"pairs": list(pairs)})
    return board(directory, resamples=300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SuiteBoard:
    return made(tmp_path_factory.mktemp("whole"))


def test_the_spread_is_between_the_editions(whole: SuiteBoard) -> None:
    (found,) = whole.stability
    score = found.per_task["ioi"].score
    assert {name: one.value for name, one in score.by_edition.items()} == {"clamp": 0.5, "clamp@2": 0.25}
    assert (score.min, score.max) == (score.by_edition["clamp@2"], score.by_edition["clamp"])
    assert score.range.value == 0.25 == found.wrs.range.value
    shares = {entry.defense.name: entry.per_task["ioi"].score for entry in whole.entries}
    assert score.by_edition == {name: shares[name] for name in score.by_edition}, "a score is defined once"
    assert found.saes == {"clamp": {PAIR["site"]: "one"}, "clamp@2": {PAIR["site"]: "two"}}


def test_the_range_is_paired(whole: SuiteBoard) -> None:
    """Both are of the same examples: what differs is eight of them, and not two samples."""
    (found,) = whole.stability
    score = found.per_task["ioi"].score
    apart, low, high = (one.interval for one in (score.range, score.min, score.max))
    assert apart and low and high and 0 < apart.low < 0.25 < apart.high
    assert apart.high - apart.low < ((high.high - high.low) ** 2 + (low.high - low.low) ** 2) ** 0.5
    assert found.per_task["ioi"].rs0.range.value == 0


def test_what_is_retained_has_no_paired_range(whole: SuiteBoard) -> None:
    retained = whole.stability[0].per_task["ioi"].retained
    assert (retained.min.value, retained.max.value) == (0.9, 1.0) and retained.range.value == pytest.approx(0.1)
    assert retained.min.interval and retained.min.interval.method == "wilson-on-clusters"
    assert retained.range.interval is None


def test_a_pair_has_the_means_of_its_matches(whole: SuiteBoard) -> None:
    (pair,) = whole.stability[0].per_task["ioi"].pairs
    assert isinstance(pair, SaePair) and (pair.frequency, pair.partner_frequency) == pytest.approx((0.2, 0.1))
    assert [pair.best_cosine, pair.baseline_cosine, pair.one_to_one_cosine] == pytest.approx([0.8, 0.25, 0.5])


@pytest.mark.parametrize("family", ["other", None])
def test_two_defenses_are_no_editions(tmp_path: Path, family: str | None) -> None:
    assert made(tmp_path, family).stability == []


def test_a_pair_is_of_its_task_and_defense(tmp_path: Path) -> None:
    others = [PAIR | {"task": "refusal"}, PAIR | {"defense": "ablation"}]
    assert made(tmp_path, pairs=others).stability[0].per_task["ioi"].pairs == []


def test_editions_that_were_only_classified_have_no_spread(tmp_path: Path) -> None:
    cells = [cell for cell in default_cells([NEVER] * 8, [NEVER] * 8) if cell.plan.role == "control"]
    cells += [cell for cell in default_cells([NEVER] * 8, [NEVER] * 8, defense="b") if cell.plan.role == "control"]
    defenses: Any = manifest(["ioi"], ["clamp", "b", "none"])["defenses"]
    defenses["b"] |= {"family": "clamp"}
    assert board(write_run(tmp_path / "run", cells, defenses=defenses)).stability == []


def test_the_table_follows_the_tasks(whole: SuiteBoard) -> None:
    out = io.StringIO()
    render(whole, Console(file=out, width=100))
    text = out.getvalue()
    after = text[text.index("Over SAEs") :]
    assert (
        text.index("attack") < text.index("Over SAEs") < text.index("eligible examples that are suppressed when nobody")
    )
    lines = [line.split() for line in after.splitlines()]
    assert any({"score", ".25", ".50", ".250"} <= set(line) for line in lines)
    assert any({"clamp", "ioi", ".80", ".25", ".50", ".200"} <= set(line) for line in lines)
    assert all(ord(sign) < 128 for sign in after[: after.index("Defenses")].replace("\u2500", ""))
    none = io.StringIO()
    render(whole.model_copy(update={"stability": []}), Console(file=none, width=100))
    assert "Over SAEs" not in none.getvalue()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"stability\.json is damaged .*repeat the run"):
        made(tmp_path, pairs=[PAIR | {"tokens": "many"}])
