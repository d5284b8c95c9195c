"""Constants that a suite lacks are measured once: kept by all that they depend on, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from attacks.minimum_norm import MinimumNorm
from attacks.recovery import Recovery
from benchmark.cache import PLACE
from benchmark.contracts.attack import Attack
from benchmark.model.subject import Subject
from benchmark.run import constants as module
from benchmark.run.constants import constants, identity, stale
from benchmark.run.freeze import measure, write_into
from benchmark.run.prepare import opened, prepare
from benchmark.run.request import Request
from benchmark.run.task_view import TaskView
from benchmark.suite import TaskSettings
from tests import tiny
from tests.tiny import SITE, suite_file

SETTINGS = TaskSettings.model_validate({"site": SITE, "budgets": {"before_edit": "auto"}})
SEARCH = Recovery(restarts=1, search=MinimumNorm(steps=3))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(PLACE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "constants"


@pytest.fixture(scope="module")
def sae(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.sae_folder(tmp_path_factory.mktemp("sae"))


@pytest.fixture(scope="module")
def subject(sae: str) -> Subject:
    return tiny.subject(saes={SITE: sae})


def known(subject: Subject, told: list[str] | None = None) -> module.Known:
    return constants(subject, tiny.viewed(), SETTINGS, [SEARCH], 64, [].append if told is None else told.append)


def test_the_second_run_has_the_first_ones_constants_without_measuring(
    subject: Subject, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    first = known(subject, told)
    assert not first.cached and first.why == "the suite has none" and first.seconds > 0
    assert "measured in" in told[-1] and str(cache) in told[-1]
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("measured again"))
    second = known(subject, told)
    assert second.cached and second.frozen == first.frozen and "measured before" in told[-1]
    assert first.frozen.model_dump_json() == second.frozen.model_dump_json()


def test_a_file_that_is_broken_or_of_other_constants_is_measured_anew(subject: Subject, cache: Path) -> None:
    first = known(subject)
    (file,) = cache.iterdir()
    whole = json.loads(file.read_text())
    without = {name: value for name, value in whole["frozen"].items() if name != "tau"}
    spoiled = ["", "{", "[]", json.dumps({**whole, "key": "another"}), json.dumps({**whole, "frozen": without})]
    for content in (*spoiled, json.dumps({**whole, "frozen": {**whole["frozen"], "tau": "much"}})):
        file.write_text(content)
        assert not known(subject).cached, content
        again = known(subject)
        assert json.loads(file.read_text()) == whole and again.cached and again.frozen == first.frozen
    assert [path.name for path in cache.iterdir()] == [file.name], "nothing is left beside it"


def test_constants_that_cannot_be_kept_are_used_all_the_same(
    subject: Subject, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    told: list[str] = []
    assert known(subject, told).frozen.tau and "cannot be kept in" in told[-1] and "the disk is full" in told[-1]


class Others(tiny.ToyTask):
    """With one example more."""

    sizes = {**tiny.ToyTask.sizes, "dev": 7}


class Kept(tiny.ToyTask):
    """With another retain set."""

    def retain(self, split: Any) -> Any:
        return self.examples(split)[:3]


def other_sae(folder: Path, subject: Subject, task: TaskView, settings: TaskSettings) -> Any:
    return tiny.subject(saes={SITE: tiny.sae_folder(folder, seed=1)}), task, settings, [SEARCH]


CHANGES: dict[str, Callable[[Path, Subject, TaskView, TaskSettings], Any]] = {
    "weights": lambda f, s, t, c: (tiny.subject(saes=dict(s.saes), seed=1), t, c, [SEARCH]),
    "SAE": other_sae,
    "no SAE": lambda f, s, t, c: (tiny.subject(), t, c, [SEARCH]),
    "examples": lambda f, s, t, c: (s, tiny.viewed(Others()), c, [SEARCH]),
    "retain set": lambda f, s, t, c: (s, tiny.viewed(Kept()), c, [SEARCH]),
    "test examples": lambda f, s, t, c: (s, TaskView(t.task, t.name, test=3), c, [SEARCH]),
    "site": lambda f, s, t, c: (s, t, c.model_copy(update={"site": "blocks.2.hook_resid_post"}), [SEARCH]),
    "positions": lambda f, s, t, c: (s, t, c.model_copy(update={"perturbed": "all"}), [SEARCH]),
    "budgets": lambda f, s, t, c: (s, t, c.model_copy(update={"budgets": {"before_edit": (0.1,)}}), [SEARCH]),
    "search": lambda f, s, t, c: (s, t, c, [Recovery(restarts=2, search=MinimumNorm(steps=3))]),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_whatever_constants_depend_on_is_in_their_key(tmp_path: Path, subject: Subject, change: str) -> None:
    task = tiny.viewed()
    assert identity(*CHANGES[change](tmp_path, subject, task, SETTINGS)) != identity(subject, task, SETTINGS, [SEARCH])


def test_what_they_do_not_depend_on_is_not(subject: Subject, sae: str) -> None:
    def key(attacks: list[Attack], settings: TaskSettings = SETTINGS, of: Subject = subject) -> str:
        return identity(of, tiny.viewed(), settings, attacks)

    constrained = Recovery(threat_model="after_edit", constraint="encoder")
    measured = measure(subject, tiny.viewed(), SETTINGS.model_copy(update={"budgets": {}}), [])
    same = [
        key([SEARCH, constrained]),
        key([SEARCH], SETTINGS.model_copy(update={"examples": 24})),
        key([SEARCH], SETTINGS.model_copy(update={"frozen": measured})),
        key([SEARCH], of=tiny.subject(saes={SITE: sae, "blocks.2.hook_resid_post": "elsewhere"})),
    ]
    assert set(same) == {key([SEARCH])}


def test_a_suites_own_constants_go_first_where_they_are_of_this_model(subject: Subject, cache: Path) -> None:
    own = measure(subject, tiny.viewed(), SETTINGS.model_copy(update={"budgets": {}}), [])
    found = constants(subject, tiny.viewed(), SETTINGS.model_copy(update={"frozen": own}), [], 64, pytest.fail)
    assert found == module.Known(own) and not cache.exists()
    assert stale(subject, own.model_copy(update={"weights_sha": "x"})) and stale(subject, None)


@pytest.mark.usefixtures("suite")
def test_freezing_puts_the_proposed_grid_in_the_place_of_auto(tmp_path: Path, cache: Path) -> None:
    task = {"site": SITE, "budgets": {"before_edit": "auto", "after_edit": [0.1], "token_suffix": "auto"}}
    path = suite_file(tmp_path, tasks={"toy": task}, attacks=[{"attack": "recovery", "search": {"steps": 3}}])
    path.write_text(path.read_text() + "# the end\n")
    request = Request.make({"defense": "none", "suite": str(path), "device": "cpu"})
    prepared = prepare(request)
    write_into(path, {"toy": opened(request, whole=True).measured("toy")})
    text, content = path.read_text(), yaml.safe_load(path.read_text())["tasks"]["toy"]
    assert "# the end" in text and content["budgets"]["after_edit"] == [0.1]
    assert content["budgets"]["token_suffix"] == "auto", "for which the suite has no attack"
    assert tuple(content["budgets"]["before_edit"]) == prepared.plan.suite.tasks["toy"].budgets["before_edit"]
    before = {cell.key for cell in prepared.plan.cells}
    again = prepare(request)
    assert again.known["toy"].why is None and "token_suffix" not in again.plan.suite.tasks["toy"].budgets
    assert len(again.plan.cells) == len(before)


@pytest.mark.usefixtures("suite", "cache")
def test_freezing_anew_asks_nothing_of_the_constants_before(tmp_path: Path) -> None:
    """Neither are budgets proposed from their ceilings, nor does a ceiling that they lack bar it."""
    task: dict[str, Any] = {"site": SITE, "budgets": {"before_edit": "auto"}}
    attacks = [{"attack": "recovery", "search": {"steps": 3}}]
    path = suite_file(tmp_path, tasks={"toy": task}, attacks=attacks)
    request = Request.make({"defense": "none", "suite": str(path), "device": "cpu"})
    expected = opened(request, whole=True).measured("toy")
    for ceiling in (0.0025, None):
        old = expected.model_copy(update={"ceilings": {"before_edit": ceiling}, "steered": {}})
        write_into(path, {"toy": old})
        content = yaml.safe_load(path.read_text())
        content["tasks"]["toy"]["budgets"]["before_edit"] = "auto"
        path.write_text(yaml.safe_dump(content))
        found = opened(request, whole=True)
        assert found.suite.tasks["toy"].frozen == old and found.measured("toy") == expected
    assert expected.steered["before_edit"], "or the grid would not show"
