"""What a cell's key depends on, and which controls a plan adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.contracts.example import Example, Split
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.registry import ATTACKS, PROTOCOLS, threat
from benchmark.run.plan import Plan, make_plan, suite_attacks
from benchmark.run.prepare import _controls
from benchmark.run.task_view import TaskView
from benchmark.spec import Named
from benchmark.suite import Suite
from benchmark.suite_file import load_suite
from defenses.latents import Layer
from defenses.leace import Leace
from defenses.none import NoDefense
from defenses.sae_bottleneck import SaeBottleneck
from defenses.sae_clamp import RandomClamp, SaeClamp
from defenses.stand_ins import StandIns
from tests.tiny import SITE, ToyTask, sae_folder, suite_file


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return load_suite(str(suite_file(tmp_path_factory.mktemp("plan"))))


class Changed(ToyTask):
    """Every example is another one."""

    def __init__(self, change: Callable[[Example], Example]) -> None:
        self.change = change

    def examples(self, split: Split) -> Sequence[Example]:
        return [self.change(e) for e in super().examples(split)]


class Revised(ToyTask):
    version = 2


class Renamed(ToyTask):
    """Every example has another id."""

    def examples(self, split: Split) -> Sequence[Example]:
        return [replace(e, id=f"other/{e.id}") for e in super().examples(split)]


class Same(ToyTask):
    """Nothing is changed; of the same file as the others."""


for kind in (Changed, Revised, Renamed, Same):
    kind.__qualname__ = ToyTask.__qualname__


def viewed(task: Task | None = None, **settings: Any) -> dict[str, TaskView]:
    return {"toy": TaskView(task or ToyTask(), "toy", **settings)}


def plan(suite: Suite, defense: Any = None, tasks: dict[str, TaskView] | None = None, **changes: Any) -> Plan:
    named = Named("mine", defense or SaeClamp())
    given: dict[str, Any] = {
        "attacks": suite_attacks(suite, None),
        "weights_sha": "w",
        "dtype": "float32",
        "seed": 0,
        **changes,
    }
    return make_plan(suite, tasks or viewed(), [named], [Named("none", NoDefense())], **given)


def keys(made: Plan) -> set[str]:
    return {c.key for c in made.cells}


def test_equal_plans_have_equal_keys(suite: Suite) -> None:
    assert keys(plan(suite)) == keys(plan(suite)) and plan(suite).identity == plan(suite).identity


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"dtype": "bfloat16"},
        {"weights_sha": "v"},
        {"tasks": viewed(test=5)},
        {"tasks": viewed(Changed(lambda e: replace(e, prompt=e.prompt + " w3")))},
        {"tasks": viewed(Revised())},
        {"defense": SaeClamp(count=31)},
        {"protocol": PROTOCOLS.get("paper")()},
        {"attribution": True},
    ],
    ids=["seed", "dtype", "weights", "limit", "prompts", "version", "setting", "protocol", "attribution"],
)
def test_what_changes_results_changes_every_key_of_the_defense(suite: Suite, change: dict[str, Any]) -> None:
    mine = {c.key for c in plan(suite).cells if c.defense == "mine"}
    assert not mine & keys(plan(suite, **change))


def test_renaming_an_example_changes_no_key(suite: Suite) -> None:
    renamed = viewed(Renamed())
    assert keys(plan(suite, tasks=viewed(Same()))) == keys(plan(suite, tasks=renamed))
    assert renamed["toy"].examples("test")[0].id.startswith("other/")


def test_the_weights_of_an_sae_count_and_its_place_does_not(suite: Suite, tmp_path: Path) -> None:
    def with_sae(name: str, seed: int) -> set[str]:
        return keys(plan(suite, SaeClamp(layers=(Layer(SITE, sae=sae_folder(tmp_path / name, seed=seed)),))))

    assert with_sae("here", 0) == with_sae("there", 0)
    assert not {c for c in with_sae("here", 0)} & {c for c in with_sae("changed", 1)} - keys(plan(suite))


def test_wrong_targets_are_aimed_at_where_an_attack_is_free_and_scored(suite: Suite) -> None:
    """The same search with the same budgets; under a constraint or a diagnostic threat model it says nothing."""
    mine = [c for c in plan(suite).cells if c.defense == "mine"]
    attacks = [c for c in mine if not c.attack.is_control]
    asked = [c for c in attacks if c.attack.constraint == "none" and threat(c.attack.threat_model).role != "diagnostic"]
    wrong = {c.attack: c for c in mine if c.attack.goal == "wrong"}
    assert 0 < len(asked) < len(attacks)
    assert set(wrong) == {replace(c.attack, goal="wrong") for c in asked}
    for cell in asked:
        other = wrong[replace(cell.attack, goal="wrong")]
        described = other.describe()
        assert (described["attack"], described["goal"], described["role"]) == ("wrong-target", "wrong", "control")
        assert list(other.budgets) == [b for b in cell.budgets if b not in cell.sanity]


def test_what_must_stand_beside_an_attack_is_planned_and_told(suite: Suite) -> None:
    told = [c.describe() for c in plan(suite).cells if c.defense == "mine"]
    names = ("attack", "threat_model", "constraint", "goal")
    planned = [{name: cell[name] for name in names} for cell in told]
    for cell in told:
        assert all(control in planned for control in cell["controls"])
        assert bool(cell["controls"]) is (cell["role"] == "attack" and cell["threat_model"] != "soft_suffix")
    searching = {cell["attack"]: cell["searches"] for cell in told}
    assert searching["recovery"] and searching["wrong-target"]
    assert not searching["zero"] and not searching["random-direction"]


def test_residual_attacks_bring_zero_and_random_directions(suite: Suite) -> None:
    mine = [c.attack for c in plan(suite).cells if c.defense == "mine"]
    found = {(a.name, a.threat_model, a.constraint) for a in mine if a.role == "control"}
    assert {("zero", "before_edit", "none"), ("zero", "after_edit", "none")} <= found
    assert {("random-direction", "before_edit", "none"), ("random-direction", "after_edit", "encoder")} <= found


def test_token_attacks_bring_random_suffixes_and_the_empty_one(suite: Suite) -> None:
    mine = [c for c in plan(suite).cells if c.defense == "mine" and c.attack.threat_model == "token_suffix"]
    found = {c.attack.title: c.budgets for c in mine}
    assert found == {"gcg": (1, 2), "wrong-target": (1, 2), "random-suffix": (1, 2), "zero": (0,)}


def test_a_task_without_budgets_for_a_threat_model_is_not_attacked_that_way(tmp_path: Path) -> None:
    task = {"site": SITE, "budgets": {"before_edit": [0.1], "soft_suffix": [0.1]}}
    made = plan(load_suite(str(suite_file(tmp_path, tasks={"toy": task}))))
    assert {c.attack.threat_model for c in made.cells if c.defense == "mine"} == {"before_edit", "soft_suffix"}


def test_control_defenses_are_classified_and_not_attacked(suite: Suite) -> None:
    assert [c.attack.name for c in plan(suite).cells if c.defense == "none"] == ["zero"]


def test_two_defenses_of_one_name_are_refused(suite: Suite) -> None:
    named = [Named("mine", SaeClamp()), Named("mine", SaeClamp(count=3))]
    with pytest.raises(UsageError, match="same name"):
        make_plan(suite, {}, named, [], attacks=[], weights_sha="", dtype="float32", seed=0)


def test_every_defense_gets_its_own_control_once(suite: Suite) -> None:
    clamp, drop = Named("clamp", SaeClamp()), Named("drop", SaeBottleneck())
    found = {
        n.name: n.defense for n in _controls(suite, [clamp, drop, Named("again", SaeClamp()), Named("means", Leace())])
    }
    assert list(found) == ["none", "random-clamp", "random-clamp-of-drop", "shuffled-labels"]
    assert found["random-clamp"] == SaeClamp().control() and found["random-clamp-of-drop"] == SaeBottleneck().control()


def test_a_control_that_is_evaluated_itself_is_not_run_twice(suite: Suite) -> None:
    same, other = (
        Named("random-clamp", control) for control in (RandomClamp(), RandomClamp(stand_ins=StandIns(seed=1)))
    )
    assert [n.name for n in _controls(suite, [Named("clamp", SaeClamp()), same])] == ["none"]
    found = {n.name: n.defense for n in _controls(suite, [Named("clamp", SaeClamp()), other])}
    assert found == {"none": NoDefense(), "random-clamp-of-clamp": RandomClamp()}
    assert _controls(suite, [Named("none", NoDefense())]) == []


@pytest.fixture
def untyped(suite: Suite) -> Suite:
    """The suite without budgets for typed suffixes."""
    toy = suite.tasks["toy"]
    budgets = {name: grid for name, grid in toy.budgets.items() if name != "token_suffix"}
    return suite.model_copy(update={"tasks": {"toy": toy.model_copy(update={"budgets": budgets})}})


def test_an_attack_without_budgets_is_left_out_with_its_controls(suite: Suite, untyped: Suite) -> None:
    both = [ATTACKS.get("recovery")(), ATTACKS.get("gcg")()]
    found = [[c.attack for c in plan(s, attacks=both).cells if c.defense == "mine"] for s in (suite, untyped)]
    assert {a.name for a in found[0] if a.threat_model == "token_suffix"} == {"gcg", "random-suffix", "zero"}
    assert {a.threat_model for a in found[1]} == {"before_edit"}


def test_that_no_attack_applies_is_said(suite: Suite, untyped: Suite) -> None:
    gcg = [ATTACKS.get("gcg")()]
    assert plan(suite, attacks=gcg).cells
    with pytest.raises(UsageError, match=r"no attack applies: gcg \(token_suffix\) on toy"):
        plan(untyped, attacks=gcg)


def test_settings_of_a_named_attack_lie_on_top_of_the_suites() -> None:
    suite = load_suite("embedded")
    plain = suite_attacks(suite, ["recovery"])
    harder = suite_attacks(suite, ["recovery"], {"search": {"steps": 77}})
    assert len(plain) == len(harder) == 3 and plain != harder
    for one, other in zip(plain, harder, strict=True):
        assert other.search.steps == 77  # type: ignore[attr-defined]
        assert replace(other, search=replace(other.search, steps=one.search.steps)) == one  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="unknown setting stepps"):
        suite_attacks(suite, ["recovery"], {"stepps": 3})
