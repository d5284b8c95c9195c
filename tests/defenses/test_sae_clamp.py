"""The clamp as a recipe: what it clamps, how it calibrates, what it shares with its control."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contracts.defense import Edits, Outcome
from benchmark.errors import UsageError
from benchmark.measure.judging import judge
from benchmark.model.subject import Subject
from benchmark.run.fitting import Fit
from benchmark.spec import resolve_defense
from defenses.latents import Layer
from defenses.sae_clamp import GAINS, STRENGTHS, RandomClamp, SaeClamp
from defenses.selection import Activity
from tests import tiny
from tests.defenses import world as toy
from tests.defenses.world import ABOVE, CALIBRATED, HERE, LENIENT, fit, second_layer, seen
from tests.tiny import D_MODEL, SITE, ToyChat, ToyTask, sae_folder


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return toy.world(tmp_path_factory.mktemp("sae"))[0]


def test_calibration_takes_the_smallest_strength_that_does_both(subject: Subject) -> None:
    fitting = seen(subject)
    recipe = CALIBRATED.on(fitting.task)
    fitted = recipe.fit(fitting)
    found = float(fitted.record["strength"])
    chosen = recipe.choose(fitting)

    def does_both(strength: float) -> bool:
        suppressed, retained = fitting.outcome(recipe.build(chosen, strength, {}).edits)
        return (suppressed or 0) >= recipe.target_share and (retained or 0) >= recipe.retain_share

    assert fitted.record["target_met"] is True and does_both(found)
    assert not any(does_both(s) for s in STRENGTHS if s < found)


def test_a_target_out_of_reach_is_said_in_the_record(subject: Subject) -> None:
    fitted = fit(SaeClamp(count=2, target_share=1.0, retain_share=0.01, **LENIENT), subject)
    assert fitted.record["target_met"] is False and 0 <= fitted.record["suppressed_fit"] < 1


def test_amplification_is_calibrated_on_gains_above_one(subject: Subject) -> None:
    recipe = SaeClamp(mode="scale", count=24, target_share=0.3, retain_share=0.01, **LENIENT)
    assert float(fit(recipe, subject).record["strength"]) in GAINS
    assert min(GAINS) == 1.5 and list(GAINS) == sorted(GAINS)


class Watched(Fit):
    """Remembers which sites were tried, and finds every trial good."""

    tried: list[set[str]]

    def outcome(self, edits: Edits) -> Outcome:
        self.tried.append({str(site) for site in edits})
        return Outcome(1.0, 1.0)


def test_calibration_has_the_edits_of_all_layers_live(subject: Subject, tmp_path: Path) -> None:
    watched = Watched(subject, tiny.viewed(), HERE)
    watched.tried = []
    SaeClamp(layers=(Layer(SITE, latents=(3, 1)), second_layer(tmp_path, latents=(5,)))).fit(watched)
    assert watched.tried == [{SITE, str(ABOVE)}]


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
    recipe = SaeClamp(mode=mode, strength=2.0, **LENIENT)
    (chosen,) = recipe.choose(fitting)
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


def test_where_text_is_read_a_clamp_amplifies_unless_told_otherwise() -> None:
    assert SaeClamp().on(ToyTask()).mode == "set_if_active" and SaeClamp().on(ToyChat()).mode == "scale"
    assert SaeClamp(mode="zero").on(ToyChat()).mode == "zero"


def test_strength_is_in_units_of_the_mean_positive_activation(subject: Subject) -> None:
    fitting = seen(subject)
    recipe = SaeClamp(layers=(Layer(SITE, latents=(3, 1)),), strength=2.0)
    (chosen,) = recipe.choose(fitting)
    edit: Any = recipe.fit(fitting).edits[HERE]
    assert torch.allclose(edit.level, 2.0 * chosen.task.level[[3, 1]].float())


def test_the_random_control_has_as_many_other_latents_of_like_activity(subject: Subject) -> None:
    fitting = seen(subject)
    recipe = SaeClamp(count=8, strength=2.0, **LENIENT)
    clamp, control = (made.fit(fitting) for made in (recipe, recipe.control()))
    mine, theirs = (list(made.protected[0].latents) for made in (clamp, control))
    assert len(theirs) == len(mine) and not set(mine) & set(theirs) and control.record["strength"] == 2.0
    stats: Activity = recipe.choose(fitting)[0].task
    total = stats.mean.clamp(min=1e-12).log()
    off = (total[mine] - total[theirs]).abs().mean()
    assert off < (total[:, None] - total[None]).abs().mean()
    edit: Any = control.edits[HERE]
    assert torch.allclose(edit.level, 2.0 * stats.level[theirs].float()), "in its own units"


def test_a_clamp_is_settled_once_for_all_that_start_from_it_and_again_for_others(subject: Subject) -> None:
    tried: list[Sequence[float]] = []

    class Counting(Fit):
        def calibrate(self, build: Any, grid: Any, **shares: Any) -> Any:
            tried.append(grid)
            return super().calibrate(build, grid, **shares)

    fitting = Counting(subject, tiny.viewed(), HERE)
    for recipe in (CALIBRATED, RandomClamp(CALIBRATED), RandomClamp(CALIBRATED, error_term="drop")):
        recipe.fit(fitting)
    assert len(tried) == 1
    SaeClamp(count=23, target_share=0.3, retain_share=0.01, **LENIENT).fit(fitting)
    CALIBRATED.fit(Counting(subject, tiny.viewed(), HERE))
    assert len(tried) == 3, "another setting, and another run"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_in": 16}, f"d_in is 16, the model's width is {D_MODEL}"),
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
