"""A suite's constants: what a ceiling is, and that frozen ones are used as they were measured, or said to be stale."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from attacks.minimum_norm import MinimumNorm
from attacks.recovery import Recovery
from benchmark import evaluate
from benchmark.cache import PLACE
from benchmark.contracts.attack import Attempt
from benchmark.errors import UsageError
from benchmark.measure.group import Scale
from benchmark.measure.judging import Judged
from benchmark.model.streams import embedding_norm, residual_norms
from benchmark.run.freeze import STEERED, _floor, all_attacked, measure, write_into
from benchmark.run.prepare import opened
from benchmark.run.request import Request
from benchmark.search.problem import Problem
from benchmark.suite import TaskSettings
from benchmark.suite_file import load_suite
from tests import tiny
from tests.groups import measured
from tests.tiny import SITE, suite_file
from tests.toy_run import DEFENSE

SETTINGS = TaskSettings.model_validate({"site": SITE, "budgets": {"before_edit": [0.1], "token_suffix": [1]}})
SEARCH = Recovery(restarts=1, search=MinimumNorm(steps=5))


@dataclass(frozen=True)
class Failing(Recovery):
    def run(self, problem: Problem) -> Attempt:
        raise RuntimeError("an honest bug")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.subject(saes={SITE: tiny.sae_folder(tmp_path_factory.mktemp("sae"))})


def test_constants_are_those_of_fit_and_a_ceiling_is_where_a_tenth_of_dev_is_steered(subject: Any) -> None:
    task = tiny.viewed()
    frozen = measure(subject, task, SETTINGS, [SEARCH])
    fit = task.examples("fit")
    norms = residual_norms(subject, task, fit)
    assert list(frozen.residual_norms.values()) == pytest.approx(list(norms.values()), abs=1e-6)
    assert frozen.embedding_norm == pytest.approx(embedding_norm(subject, task, fit), abs=1e-6)
    assert frozen.tau and frozen.tau > 0 and frozen.weights_sha == subject.weights_sha
    assert frozen.ceilings["token_suffix"] is None, "no attack of the suite types tokens"
    ceiling = frozen.ceilings["before_edit"]
    assert ceiling
    group = all_attacked(subject, task, SETTINGS, task.examples("dev"), Scale(norms, frozen.embedding_norm))
    wrong = Recovery(restarts=1, search=MinimumNorm(steps=5), goal="wrong")
    rows = [r for r in measured(group, wrong, (ceiling, 2 * ceiling)).rows if r.outcome.suppressed]
    steered = [sum(bool(r.outcome.recovered) for r in rows[i::2]) / len(rows[i::2]) for i in (0, 1)]
    assert steered[0] <= STEERED < steered[1]


@dataclass(frozen=True)
class Farsighted(Recovery):
    """A search that goes as far as it may, and finds nothing nearer than half of that."""

    def run(self, problem: Problem) -> Attempt:
        far = problem.budget.amax()
        near = problem.budget < far / 2
        found = super().run(problem)
        return found._replace(proposal=found.proposal * ~near[:, None, None, None])


def test_a_search_that_may_go_far_does_not_raise_the_ceiling(subject: Any) -> None:
    ceilings = []
    for attack in (SEARCH, Farsighted(restarts=1, search=MinimumNorm(steps=5))):
        ceilings.append(measure(subject, tiny.viewed(), SETTINGS, [attack]).ceilings["before_edit"])
    assert ceilings[0] == ceilings[1] is not None


def test_where_nothing_is_edited_before_and_behind_it_are_one_place_and_searched_once(
    subject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    run = Recovery.run
    monkeypatch.setattr(Recovery, "run", lambda self, p: (searched.append(self.threat_model), run(self, p))[1])
    attacks = [SEARCH, replace(SEARCH, threat_model="after_edit")]
    both, alone = (
        measure(subject, tiny.viewed(), TaskSettings.model_validate({"site": SITE, "budgets": budgets}), attacks)
        for budgets in ({"before_edit": [0.1], "after_edit": [0.1]}, {"after_edit": [0.1]})
    )
    assert both.ceilings["before_edit"] == both.ceilings["after_edit"] == alone.ceilings["after_edit"]
    assert both.steered["before_edit"] == both.steered["after_edit"] == alone.steered["after_edit"]
    assert searched.count("before_edit") == searched.count("after_edit") > 0, "once for both, and once alone"
    ceiling = both.ceilings["before_edit"]
    assert ceiling
    other = {"before_edit": [ceiling / 2], "after_edit": [ceiling]}
    searched.clear()
    measure(subject, tiny.viewed(), TaskSettings.model_validate({"site": SITE, "budgets": other}), attacks)
    assert set(searched) == {"before_edit", "after_edit"}, "other budgets are tried under each"


def test_a_search_that_fails_is_no_ceiling(subject: Any) -> None:
    with pytest.raises(RuntimeError, match="no ceiling of before_edit on toy(.|\n)*an honest bug"):
        measure(subject, tiny.viewed(), SETTINGS, [Failing()])


def test_a_task_that_the_file_does_not_list_has_no_place_for_its_constants(subject: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: toy.yaml\nname: mine\n")
    frozen = measure(subject, tiny.viewed(), SETTINGS, [])
    with pytest.raises(UsageError, match="mine.yaml has no place for the constants of toy: list it"):
        write_into(path, {"toy": frozen})
    assert path.read_text() == "extends: toy.yaml\nname: mine\n"


@pytest.mark.parametrize(
    "budgets",
    ["{before_edit: &grid [0.1], after_edit: *grid}", "\n      before_edit: &grid [0.1]\n      after_edit: *grid"],
    ids=["in a line", "an alias last"],
)
def test_constants_are_exchanged_and_every_other_character_of_the_file_stays(
    subject: Any, tmp_path: Path, budgets: str
) -> None:
    path = tmp_path / "mine.yaml"
    text = f"""# kept
name: mine
tasks:
  toy:  # kept too
    budgets: {budgets}
{{here}}    # the end
  other: {{site: x}}
"""
    path.write_text(text.replace("{here}", ""))
    frozen = measure(subject, tiny.viewed(), SETTINGS, [SEARCH])
    assert frozen.floor is not None and "before_edit" in frozen.steered
    frozen = frozen.model_copy(update={"steered": {"before_edit": {f"toy/test/{i:03d}": 0.1 for i in range(9)}}})
    for constants in (frozen.model_copy(update={"tau": 9.0}), frozen):
        write_into(path, {"toy": constants})
    assert yaml.safe_load(path.read_text())["tasks"]["toy"]["frozen"] == frozen.model_dump()
    lines = path.read_text().splitlines()
    assert [line for line in text.replace("{here}", "").splitlines() if line not in lines] == []


def test_the_reference_is_where_the_undefended_model_is_steered_first_up_to_the_ceiling(
    subject: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.run.freeze.STEERED", 0.6)  # so that there is something below the ceiling
    task = tiny.viewed()
    settings = SETTINGS.model_copy(update={"budgets": {"before_edit": (0.01, 0.1, 0.3, 30.0)}})
    frozen = measure(subject, task, settings, [SEARCH])
    scale = Scale(residual_norms(subject, task, task.examples("fit")), 1.0)
    group = all_attacked(subject, task, settings, task.examples("test"), scale)
    wrong = Recovery(restarts=1, search=MinimumNorm(steps=5), goal="wrong")
    ceiling = frozen.ceilings["before_edit"]
    budgets = tuple(eps for eps in settings.budgets["before_edit"] if eps <= (ceiling or 0))
    rows = measured(group, wrong, budgets).rows
    stars = {r.identity.example_id: r.outcome.eps_star for r in rows if r.outcome.eps_star is not None}
    assert frozen.steered["before_edit"] == stars and 0 < max(stars.values()) < 30


def measured_in(run: Path) -> list[str]:
    """Why constants were measured in a run."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event["why"] for event in events if event["event"] == "constants-measured"]


@pytest.mark.usefixtures("suite")
def test_frozen_constants_are_used_as_they_are_and_on_other_weights_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path / "cache"))
    few: dict[str, Any] = {"attacks": ["zero"], "controls": False}
    path = suite_file(tmp_path)
    prepared = opened(Request.make({"defense": DEFENSE, "suite": str(path)}))
    fresh = evaluate(DEFENSE, suite=str(path), output_dir=tmp_path / "a", **few)
    before, constants = yaml.safe_load(path.read_text()), prepared.measured("toy")
    write_into(path, {"toy": constants})
    after = yaml.safe_load(path.read_text())
    assert load_suite(str(path)).tasks["toy"].frozen == constants
    del after["tasks"]["toy"]["frozen"]
    assert after == before, "everything else stays"
    frozen = evaluate(DEFENSE, suite=str(path), output_dir=tmp_path / "b", **few)
    headers = [json.loads((run.directory / "run.json").read_text())["tasks"]["toy"] for run in (fresh, frozen)]
    assert headers[0] == headers[1], "measured on the same model they are the same"
    assert measured_in(tmp_path / "a") == ["the suite has none"]
    assert measured_in(tmp_path / "b") == []
    content = yaml.safe_load(path.read_text())
    content["tasks"]["toy"]["frozen"]["weights_sha"] = "of others"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv(PLACE, str(tmp_path / "another"))
    evaluate(DEFENSE, suite=str(path), output_dir=tmp_path / "c", **few)
    assert measured_in(tmp_path / "c") == [
        "the suite's were measured on other weights, or another configuration or tokenizer"
    ]


def test_a_floor_is_a_hundredth_of_the_median_and_none_where_that_is_no_number() -> None:
    judged = Judged(["a"] * 3, torch.zeros(3), [None] * 3)
    assert _floor(judged) is None
    assert _floor(judged._replace(log_mass=torch.tensor([0.1, 0.5, 0.9]).log())) == 0.005
    assert _floor(judged._replace(log_mass=torch.full((3,), -900.0))) is None
