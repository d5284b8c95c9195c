"""The clamp as a recipe: what it clamps, how it calibrates, what it shares with its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contracts.defense import Edits, Outcome
from benchmark.contracts.example import Example, Split
from benchmark.errors import UsageError
from benchmark.measure.judging import judge
from benchmark.model.subject import Subject
from benchmark.run.fitting import Fit
from benchmark.spec import resolve_defense
from defenses.calibration import Aim
from defenses.folds import deal, pooled
from defenses.latents import Layer, Rule
from defenses.sae_clamp import COUNTS, GAINS, RATE_RATIOS, STRENGTHS, RandomClamp, SaeClamp
from defenses.selection import Activity
from tests import tiny
from tests.defenses import world as toy
from tests.defenses.world import ABOVE, CALIBRATED, GIVEN, HERE, LENIENT, RULE, Never, fit, second_layer, seen
from tests.tiny import D_MODEL, SITE, Numbers, ToyChat, ToyTask, sae_folder


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return toy.world(tmp_path_factory.mktemp("sae"))[0]


def held_out(fitting: Fit, recipe: SaeClamp, rule: Rule, strength: float) -> Outcome:
    """What a clamp does to parts of ``fit`` that its latents were not selected on."""
    folds = deal(fitting, recipe.layers).folds
    made = [([one.chosen(rule) for one in fold.learned], fold.judge) for fold in folds]
    return pooled([judge.outcome(recipe.build(chosen, strength, {}).edits) for chosen, judge in made])


def test_calibration_settles_on_the_best_that_there_is(subject: Subject) -> None:
    """Against every count, ratio and strength by brute force: the fewest latents, and their smallest strength."""
    fitting = seen(subject)
    recipe = SaeClamp(contrast=0.0, target_share=0.3, retain_share=0.01).on(fitting.task)
    fitted, aim = recipe.fit(fitting), Aim(0.3, 0.01)
    assert fitted.record["target_met"] is True

    def does_both(count: int, ratio: float, strength: float) -> bool:
        rule = Rule(count=count, rate_ratio=ratio, contrast=0.0)
        return aim.meets(held_out(fitting, recipe, rule, strength))

    count, strength = len(fitted.protected[0]), float(fitted.record["strength"])
    fewer = [c for c in COUNTS if c < count]
    assert does_both(count, fitted.record["rate_ratio"], strength)
    assert not any(does_both(count, r, s) for r in RATE_RATIOS for s in STRENGTHS if s < strength)
    assert not any(does_both(c, r, s) for c in fewer for r in RATE_RATIOS for s in STRENGTHS)


@pytest.mark.parametrize(
    "given",
    [{"count": 5}, {"rate_ratio": 1.1}, {"strength": 3.0}, {"count": 5, "strength": 3.0}, {"layers": GIVEN}],
    ids=str,
)
def test_what_is_given_is_kept_and_what_is_not_is_calibrated(subject: Subject, given: dict[str, Any]) -> None:
    recipe = SaeClamp(contrast=0.0, target_share=0.3, retain_share=0.01, **given)
    fitted = fit(recipe, subject)
    assert fitted.record["calibrated"] is True and fitted.record["tried"] >= 1
    assert len(fitted.protected[0]) == (3 if "layers" in given else given.get("count", len(fitted.protected[0])))
    assert fitted.record["strength"] == given.get("strength", fitted.record["strength"])
    assert ("rate_ratio" in fitted.record) == (not given.keys() & {"rate_ratio", "layers"})
    again = fit(recipe, subject)
    assert again.record == fitted.record and again.protected[0].latents == fitted.protected[0].latents


def test_calibration_asks_for_no_split_but_fit(subject: Subject) -> None:
    asked: set[Split] = set()

    class Asked(tiny.ToyTask):
        def examples(self, split: Split) -> Sequence[Example]:
            asked.add(split)
            return super().examples(split)

    fit(CALIBRATED, subject, Asked())
    assert asked == {"fit"}


def test_a_target_out_of_reach_is_said_in_the_record_with_the_pair_that_was_reached(subject: Subject) -> None:
    fitting = seen(subject)
    recipe = SaeClamp(count=2, target_share=1.0, retain_share=0.01, **LENIENT).on(fitting.task)
    record = recipe.fit(fitting).record
    reached = held_out(fitting, recipe, replace(RULE, count=2), record["strength"])
    assert record["target_met"] is False and 0 < record["suppressed_held_out"] < 1
    assert (record["suppressed_held_out"], record["retained_held_out"]) == reached[:2]
    assert record["suppressed_fit"] == fitting.outcome(recipe.fit(fitting).edits).suppressed


def test_a_task_that_is_never_shown_has_nothing_to_calibrate_on(subject: Subject) -> None:
    with pytest.raises(UsageError, match="on no `fit` example: nothing to calibrate a clamp on; choose"):
        fit(CALIBRATED, subject, Never())


def test_amplification_is_calibrated_on_gains_above_one(subject: Subject) -> None:
    recipe = SaeClamp(mode="scale", count=24, target_share=0.3, retain_share=0.01, **LENIENT)
    assert float(fit(recipe, subject).record["strength"]) in GAINS
    assert min(GAINS) == 1.5 and list(GAINS) == sorted(GAINS)


class Watched(Fit):
    """Remembers which sites were tried, and finds every trial good."""

    tried: list[set[str]]

    def outcome(self, edits: Edits) -> Outcome:
        self.tried.append({str(site) for site in edits})
        return Outcome(1.0, 1.0, 1, 1)

    def dealt(self, examples: Any, retain: Any) -> Fit:
        return self


def test_calibration_has_the_edits_of_all_layers_live(subject: Subject, tmp_path: Path) -> None:
    watched = Watched(subject, tiny.viewed(), HERE)
    watched.tried = []
    SaeClamp(layers=(Layer(SITE, latents=(3, 1)), second_layer(tmp_path, latents=(5,)))).fit(watched)
    assert watched.tried and all(sites == {SITE, str(ABOVE)} for sites in watched.tried)


def test_one_spec_names_several_sites_with_given_or_selected_latents(subject: Subject, tmp_path: Path) -> None:
    second_layer(tmp_path)
    spec = tmp_path / "mine.yaml"
    spec.write_text(f"""
defense: sae-clamp
layers:
  - {{site: {SITE}, latents: [3, 1]}}
  - {{site: {ABOVE}, sae: above}}
count: 5
contrast: 0.0
rate_ratio: 0.0
strength: 1.0
""")
    fitted = fit(resolve_defense(str(spec)).defense, subject)
    assert [len(f) for f in fitted.protected] == [2, 5] and fitted.protected[0].latents == (3, 1)
    assert [entry["latents"] for entry in fitted.record["layers"]] == [list(f.latents) for f in fitted.protected]
    assert list(fitted.edits) == [HERE, ABOVE]


def test_layers_at_one_place_of_the_stream_are_refused(subject: Subject) -> None:
    layers = (Layer(SITE), Layer("blocks.2.hook_resid_pre", sae=subject.saes[SITE]))
    with pytest.raises(UsageError, match="are the same place in the stream"):
        fit(SaeClamp(layers=layers), subject)


@pytest.mark.parametrize(("mode", "sign"), [("zero", 1), ("set_if_active", 1), ("scale", -1), ("set", -1)])
def test_those_latents_are_clamped_whose_clamping_lowers_the_margin(subject: Subject, mode: Any, sign: int) -> None:
    """To first order: what is driven up pushed against the behavior before, what is driven down pushed for it."""
    fitting = seen(subject)
    recipe = SaeClamp(mode=mode, strength=2.0, count=12, **LENIENT)
    (chosen,) = recipe.settle(fitting).chosen
    assert (sign * chosen.task.effect[list(chosen.features.latents)] > 0).all()
    nudge = SaeClamp(mode="scale", strength=1 - 0.02 * sign, layers=(Layer(SITE, latents=chosen.features.latents),))
    nudged, plain = (
        judge(subject, fitting.task, fitting.examples, edits).margin.mean() for edits in (nudge.fit(fitting).edits, {})
    )
    assert nudged < plain


@pytest.mark.parametrize(("mode", "strength"), [("scale", 0.5), ("set", -1.0), ("zero", None)])
def test_a_clamp_that_drives_latents_down_selects_those_that_carry_the_behavior(mode: Any, strength: Any) -> None:
    assert not SaeClamp(mode=mode, strength=strength).amplifies
    assert SaeClamp(mode="scale").amplifies and SaeClamp(mode="set").amplifies


class RefusingChat(ToyChat):
    readout = Numbers(tokens=6, forced=4, openers=("5",))


def test_where_the_model_is_to_refuse_a_clamp_amplifies_unless_told_otherwise() -> None:
    assert SaeClamp().on(ToyTask()).mode == SaeClamp().on(ToyChat()).mode == "set_if_active"
    assert SaeClamp().on(RefusingChat()).mode == "scale"
    assert SaeClamp(mode="zero").on(RefusingChat()).mode == "zero"


def test_strength_is_in_units_of_the_mean_positive_activation(subject: Subject) -> None:
    fitting = seen(subject)
    recipe = SaeClamp(layers=(Layer(SITE, latents=(3, 1)),), strength=2.0)
    (chosen,) = recipe.settle(fitting).chosen
    edit: Any = recipe.fit(fitting).edits[HERE]
    assert torch.allclose(edit.level, 2.0 * chosen.task.level[[3, 1]].float())


def test_the_random_control_has_as_many_other_latents_of_like_activity(subject: Subject) -> None:
    fitting = seen(subject)
    recipe = SaeClamp(count=8, strength=2.0, **LENIENT)
    clamp, control = (made.fit(fitting) for made in (recipe, recipe.control()))
    mine, theirs = (list(made.protected[0].latents) for made in (clamp, control))
    assert len(theirs) == len(mine) and not set(mine) & set(theirs) and control.record["strength"] == 2.0
    stats: Activity = recipe.settle(fitting).chosen[0].task
    total = stats.mean.clamp(min=1e-12).log()
    off = (total[mine] - total[theirs]).abs().mean()
    assert off < (total[:, None] - total[None]).abs().mean()
    edit: Any = control.edits[HERE]
    assert torch.allclose(edit.level, 2.0 * stats.level[theirs].float()), "in its own units"


def test_a_clamp_is_settled_once_for_all_that_start_from_it_and_again_for_others(subject: Subject) -> None:
    dealt: list[Sequence[Example]] = []

    class Counting(Fit):
        def dealt(self, examples: Sequence[Example], retain: Sequence[Example]) -> Fit:
            dealt.append(examples)
            return super().dealt(examples, retain)

    fitting = Counting(subject, tiny.viewed(), HERE)
    for recipe in (CALIBRATED, RandomClamp(CALIBRATED), RandomClamp(CALIBRATED, error_term="drop")):
        recipe.fit(fitting)
    once = len(dealt)
    assert once > 1
    SaeClamp(count=23, target_share=0.3, retain_share=0.01, **LENIENT).fit(fitting)
    CALIBRATED.fit(Counting(subject, tiny.viewed(), HERE))
    assert len(dealt) == 3 * once, "another setting, and another run"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_in": 16}, f"a stream of width 16, the model's width is {D_MODEL}"),
        ({"metadata": {"hook_name": "blocks.3.hook_resid_pre"}}, "trained at blocks.3.hook_resid_pre"),
        ({"metadata": {"model_name": "gpt2"}}, "trained on 'gpt2'"),
    ],
)
def test_an_sae_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = sae_folder(tmp_path / "wrong", **change)
    with pytest.raises(UsageError, match=message):
        fit(SaeClamp(layers=(Layer(SITE, sae=folder),)), tiny.subject())


@pytest.mark.parametrize("bad", [{"count": 0}, {"target_share": 0.0}, {"retain_share": 1.5}, {"schedule": "sometimes"}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SaeClamp(**bad)
