"""A site with several SAEs: who reads them is evaluated with each as if it were the only one, and they are compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from benchmark import Defense, FittedDefense, Fitting, Site, UsageError, evaluate
from benchmark.run.listener import Silent
from benchmark.run.prepare import prepare
from benchmark.run.request import Request
from benchmark.run.runner import Result
from defenses.direction_ablation import DirectionAblation
from defenses.latents import Layer
from defenses.mean_ablation import MeanAblation
from defenses.none import NoDefense
from defenses.sae_clamp import RandomClamp, SaeClamp
from defenses.shuffled_labels import ShuffledLabels
from leaderboard.board.aggregate import suite_board
from leaderboard.rows.run import read_run
from tests.benchmark.run.equal_rows import same_rows
from tests.tiny import SITE, exact_sae_folder
from tests.toy_run import DEFENSE

OPTIONS: dict[str, Any] = {"attacks": ["recovery"], "controls": False, "attribution": True, "limit": 12}
"""Of a run that stays small."""


class Notes(Silent):
    """What a run tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def shuffled(source: Path, folder: Path) -> str:
    """The same latents in another order."""
    shutil.copytree(source, folder)
    weights = load_file(source / "sae_weights.safetensors")
    order = torch.randperm(len(weights["b_enc"]), generator=torch.Generator().manual_seed(1))
    for name, axis in (("W_enc", 1), ("W_dec", 0), ("b_enc", 0), ("threshold", 0)):
        weights[name] = weights[name].index_select(axis, order).contiguous()
    save_file(weights, folder / "sae_weights.safetensors")
    return str(folder)


@pytest.fixture(scope="module")
def brief(suite: str) -> str:
    """The toy suite with one attack and two budgets."""
    content = yaml.safe_load(Path(suite).read_text())
    content["attacks"] = content["attacks"][:1]
    content["tasks"]["toy"]["budgets"] = {"before_edit": [0.1, 0.3]}
    path = Path(suite).with_name("brief.yaml")
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture(scope="module")
def saes(suite: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The suite's own, one with the same latents, one with others."""
    own, folder = Path(suite).parent / "sae", tmp_path_factory.mktemp("saes")
    return [str(own), shuffled(own, folder / "same"), exact_sae_folder(folder / "other", seed=5)]


@pytest.fixture(scope="module")
def three(brief: str, saes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Result:
    directory = tmp_path_factory.mktemp("three") / "run"
    return evaluate(DEFENSE, suite=brief, saes={SITE: saes}, output_dir=directory, **OPTIONS)


def planned(suite: str, saes: list[str], *defenses: Defense, controls: bool = True) -> dict[str, set[str]]:
    """Defense -> keys of its cells."""
    request = {"defense": defenses, "suite": suite, "saes": {SITE: saes}, "controls": controls}
    cells = prepare(Request.make(request)).plan.cells
    return {name: {c.key for c in cells if c.defense == name} for name in dict.fromkeys(c.defense for c in cells)}


def rows(result: Result, defense: str) -> pa.Table:
    """Of one defense, without its name and its cells' keys."""
    found = result.rows.filter(pa.array([name == defense for name in result.rows["defense"].to_pylist()]))
    for name in ("defense", "cell_key"):
        nothing = pa.nulls(len(found), found.schema.field(name).type)
        found = found.set_column(found.column_names.index(name), found.schema.field(name), nothing)
    return found


def pairs(directory: Path) -> dict[tuple[str, str], dict[str, Any]]:
    found = json.loads((directory / "stability.json").read_text())["pairs"]
    return {(one["first"], one["second"]): one for one in found}


def cosine(matches: list[dict[str, Any]]) -> float:
    return sum(one["cosine"] for one in matches) / len(matches)


def test_who_reads_the_suites_sae_is_planned_with_each_and_so_is_its_control(suite: str, saes: list[str]) -> None:
    assert list(planned(suite, saes[:2], SaeClamp(), DirectionAblation())) == [
        *("sae-clamp", "sae-clamp@2", "direction-ablation"),
        *("none", "random-clamp", "random-clamp@2", "shuffled-labels"),
    ]
    assert list(planned(suite, saes[:1], SaeClamp(), controls=False)) == ["sae-clamp"]


def test_a_recipe_says_which_saes_it_reads(saes: list[str]) -> None:
    home, there = Site.parse(SITE), "blocks.2.hook_resid_pre"
    own, given = Layer(SITE, sae=saes[0]), Layer(SITE, latents=(1, 2))
    assert SaeClamp().suite_saes(home) == RandomClamp().suite_saes(home) == (home,)
    assert MeanAblation((Layer(there), own)).suite_saes(home) == (Site.parse(there),)
    assert ShuffledLabels(SaeClamp()).suite_saes(home) == (home,)
    for once in (SaeClamp((own,)), SaeClamp((given,)), SaeClamp((given, Layer(there))), NoDefense()):
        assert not once.suite_saes(home), "latents given by number are those of one SAE"


def test_a_further_sae_changes_no_key_of_the_others(suite: str, saes: list[str]) -> None:
    alone, two, all_three = (planned(suite, saes[:count], SaeClamp()) for count in (1, 2, 3))
    for less, more in ((alone, two), (two, all_three)):
        assert less.items() <= more.items() and len(more) == len(less) + 2
    assert len(set[str]().union(*all_three.values())) == sum(map(len, all_three.values())), "nobody shares a cell"
    assert not planned(suite, saes[2:], SaeClamp())["sae-clamp"] & alone["sae-clamp"]


def test_an_edition_is_known_by_what_its_sae_holds(suite: str, saes: list[str], tmp_path: Path) -> None:
    moved = exact_sae_folder(tmp_path / "moved", seed=5)
    keys = [
        planned(suite, [saes[0], second], SaeClamp(), controls=False)["sae-clamp@2"]
        for second in (saes[2], moved, saes[1])
    ]
    assert keys[0] == keys[1] and not keys[0] & keys[2]


def test_a_name_that_an_edition_has_is_refused(suite: str, saes: list[str], tmp_path: Path) -> None:
    spec = tmp_path / "mine.yaml"
    spec.write_text("{defense: none, name: sae-clamp@2}")
    request = {"defense": ["sae-clamp", str(spec)], "suite": suite, "saes": {SITE: saes[:2]}}
    with pytest.raises(UsageError, match="the same name, sae-clamp@2"):
        prepare(Request.make(request))


def test_an_edition_has_the_rows_of_a_run_with_its_sae_alone(
    three: Result, brief: str, saes: list[str], tmp_path: Path
) -> None:
    """Fit, attack, drift and attribution: nothing of it reads the first SAE."""
    alone = evaluate(DEFENSE, suite=brief, saes={SITE: saes[2]}, output_dir=tmp_path, **OPTIONS)
    same_rows(rows(three, "sae-clamp@3"), rows(alone, "sae-clamp"))
    with pytest.raises(AssertionError):
        same_rows(rows(three, "sae-clamp"), rows(alone, "sae-clamp"))
    assert any(rows(alone, "sae-clamp")["attr_clamped_share"].to_pylist())
    card = json.loads((three.directory / "fits" / "toy__sae-clamp@3.json").read_text())
    assert card["record"] == json.loads((tmp_path / "fits" / "toy__sae-clamp.json").read_text())["record"]
    assert not (tmp_path / "stability.json").exists()


def test_a_shuffled_sae_is_the_same_defense_and_another_is_not(three: Result) -> None:
    found = pairs(three.directory)
    assert set(found) == {(f"sae-clamp{a}", f"sae-clamp{b}") for a, b in (("", "@2"), ("", "@3"), ("@2", "@3"))}
    same, other = found["sae-clamp", "sae-clamp@2"], found["sae-clamp", "sae-clamp@3"]
    assert cosine(same["best"]) == pytest.approx(1) == cosine(same["one_to_one"]) and len(same["best"]) == 24
    assert all(one["frequency"] == one["partner_frequency"] for one in same["best"])
    assert abs(cosine(other["best"]) - cosine(other["others"])) < 0.1 and cosine(other["best"]) < 0.8
    assert cosine(other["one_to_one"]) < cosine(other["best"])
    names = ["recovered", "suppressed", "eligible"]
    first, second, third = (
        rows(three, f"sae-clamp{edition}").select(names).to_pylist() for edition in ("", "@2", "@3")
    )
    assert first == second != third


def test_the_board_has_the_spread(three: Result) -> None:
    (found,) = suite_board([read_run(three.directory)], resamples=50).stability
    assert found.defense == "sae-clamp" and list(found.saes) == ["sae-clamp", "sae-clamp@2", "sae-clamp@3"]
    on = found.per_task["toy"]
    values = [one.value for one in on.rs0.by_edition.values() if one.value is not None]
    assert (
        len(values) == 3 and on.rs0.range.value == pytest.approx(max(values) - min(values)) and values[0] == values[1]
    )
    assert len(on.pairs) == 3


def test_a_resumed_run_compares_what_is_left_to_compare(
    three: Result, brief: str, saes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pairs(three.directory)
    (three.directory / "stability.json").write_text(json.dumps({"pairs": list(before.values())[:2]}))
    cell = next(c for c in (three.directory / "cells").iterdir())
    cell.unlink()
    compared: list[Any] = []
    monkeypatch.setattr("benchmark.run.stability._compared", lambda pair, *_: compared.append(pair) or {})
    again = evaluate(DEFENSE, suite=brief, saes={SITE: saes}, output_dir=three.directory, **OPTIONS)
    assert again.status == "complete" and cell.is_file() and len(compared) == 1
    assert set(pairs(three.directory)) == set(before)
    (three.directory / "stability.json").write_text(json.dumps({"pairs": list(before.values())}))


@dataclass(frozen=True)
class Silently(Defense):
    """Reads the suite's SAE and does not say so."""

    name = "silently"

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitting.sae(fitting.site)
        return FittedDefense({})


def test_a_fit_that_reads_an_sae_without_saying_so_is_told(brief: str, saes: list[str], tmp_path: Path) -> None:
    few = {"suite": brief, "controls": False, "limit": 2}
    notes = Notes()
    evaluate(Silently(), saes={SITE: saes[:2]}, output_dir=tmp_path / "two", listener=notes, **few)
    assert any(f"of 2 SAEs at {SITE} it reads the first alone" in told for told in notes.told)
    alone = Notes()
    evaluate(Silently(), saes={SITE: saes[:1]}, output_dir=tmp_path / "one", listener=alone, **few)
    assert not any("reads the first alone" in told for told in alone.told)


def test_every_sae_of_a_site_is_checked_before_any_work(suite: str, saes: list[str], tmp_path: Path) -> None:
    narrow = exact_sae_folder(tmp_path / "other-model", metadata={"model_name": "gpt2"})
    with pytest.raises(UsageError, match="trained on 'gpt2'"):
        planned(suite, [saes[0], narrow], NoDefense())
