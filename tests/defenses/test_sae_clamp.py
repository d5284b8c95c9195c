"""The clamp as a recipe: what it selects, how it calibrates, what it may look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.cells.reference import Retention, eligible, judge
from benchmark.contracts import Continuation, Split
from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.dictionary import open_dictionary
from benchmark.sites import Site
from benchmark.spec import resolve_defense
from defenses.latents import Layer
from defenses.sae_clamp import GAINS, STRENGTHS, SaeClamp
from defenses.selection import Activity, activity, by_attribution, by_firing_rate, top
from defenses.stand_ins import _drawn
from tests.tiny import D_MODEL, SITE, ToyTask, sae_folder, subject


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subject(saes={SITE: sae_folder(tmp_path_factory.mktemp("sae"))})


class Watched(ToyTask):
    """Tells which splits were asked for."""

    def __init__(self) -> None:
        self.asked: list[Split] = []

    def examples(self, split: Split) -> Any:
        self.asked.append(split)
        return super().examples(split)


def test_fitting_looks_at_the_fit_split_only(tiny: Subject) -> None:
    task = Watched()
    SaeClamp(count=8, contrast=0.0, rate_ratio=0.0, retain_share=0.1).fit(tiny, task, task.examples("fit"))
    assert set(task.asked) == {"fit"}


def test_effect_is_the_gradient_along_a_latent(tiny: Subject) -> None:
    """Against a finite difference: scaling one latent's contribution everywhere moves the margin as the effect says."""
    task = ToyTask()
    examples = task.examples("fit")[:6]
    dictionary = open_dictionary(tiny, Site.parse(SITE))
    effect = activity(tiny, task, examples, [dictionary], task.objective)[0].effect
    latent = int(effect.abs().argmax())
    features = dictionary.features([latent])
    step = 1e-3

    def nudged(sign: float) -> float:
        def edit(h: torch.Tensor, where: Any) -> torch.Tensor:
            act = features.encode(h).act * ~where.special[..., None]
            return h + sign * step * act @ features.decoder

        return float(judge(tiny, task, examples, {Site.parse(SITE): edit}).margin.mean())

    assert (nudged(1) - nudged(-1)) / (2 * step) == pytest.approx(float(effect[latent]), rel=0.05)


def test_a_site_behind_what_is_read_is_refused(tiny: Subject) -> None:
    task = ToyTask()
    dictionary = open_dictionary(tiny, Site.parse(SITE))
    with pytest.raises(UsageError, match="name an earlier site"):
        activity(tiny, task, task.examples("fit")[:2], [dictionary], lambda read, batch: read.detach().sum(1))


def test_contrast_spares_what_the_retain_set_needs() -> None:
    task = Activity(torch.tensor([3.0, 2.0, 1.0]), torch.ones(3), torch.ones(3))
    rest = Activity(torch.tensor([2.0, -5.0, 0.0]), torch.ones(3), torch.ones(3))
    assert by_attribution(task, rest, 2.0).tolist() == [-1.0, 2.0, 1.0]
    assert top(by_attribution(task, rest, 2.0), 3, "here") == (1, 2)


def test_firing_rate_spares_what_fires_on_the_retain_set() -> None:
    task = Activity(torch.zeros(3), torch.tensor([0.9, 0.5, 0.4]), torch.ones(3))
    rest = Activity(torch.zeros(3), torch.tensor([0.5, 0.001, 0.0]), torch.ones(3))
    assert top(by_firing_rate(task, rest, 0.01), 2, "here") == (1, 2)


def test_no_qualifying_latent_is_an_error() -> None:
    with pytest.raises(UsageError, match="no latent of here qualifies"):
        top(torch.zeros(4), 2, "here")


def test_calibration_takes_the_smallest_strength_that_does_both(tiny: Subject) -> None:
    task = ToyTask()
    fit = task.examples("fit")
    recipe = SaeClamp(count=24, contrast=0.0, rate_ratio=0.0, target_share=0.3, retain_share=0.01).on(task)
    fitted = recipe.fit(tiny, task, fit)
    found = float(fitted.record["strength"])
    shown = eligible(tiny, task, fit, judge(tiny, task, fit, {}))
    chosen = recipe.choose(tiny, task, fit)

    def does_both(strength: float) -> bool:
        edits = recipe.build(chosen, strength, {}).edits
        share = float((~judge(tiny, task, fit, edits).shown & shown).sum() / shown.sum())
        return share >= 0.3 and (Retention(tiny, task, task.retain("fit")).kept(edits) or 0) >= 0.01

    assert fitted.record["target_met"] is True and does_both(found)
    assert not any(does_both(s) for s in STRENGTHS if s < found)


def test_a_target_out_of_reach_is_said_in_the_record(tiny: Subject) -> None:
    fitted = SaeClamp(count=2, contrast=0.0, rate_ratio=0.0, target_share=1.0, retain_share=0.01).fit(
        tiny, ToyTask(), ToyTask().examples("fit")
    )
    assert fitted.record["target_met"] is False and 0 <= fitted.record["suppressed_fit"] < 1


def test_given_latents_and_several_layers_are_used_as_given(tiny: Subject, tmp_path: Path) -> None:
    other = sae_folder(tmp_path / "other", metadata={"hook_name": "blocks.2.hook_resid_post"}, seed=1)
    layers = (Layer(SITE, latents=(3, 1)), Layer("blocks.2.hook_resid_post", sae=other, latents=(5,)))
    fitted = SaeClamp(layers=layers, strength=1.0).fit(tiny, ToyTask(), ToyTask().examples("fit"))
    assert [f.latents for f in fitted.protected] == [(3, 1), (5,)] and len(fitted.edits) == 2


def test_one_spec_names_several_sites_with_given_or_selected_latents(tiny: Subject, tmp_path: Path) -> None:
    sae_folder(tmp_path / "other", metadata={"hook_name": "blocks.2.hook_resid_post"}, seed=1)
    spec = tmp_path / "mine.yaml"
    spec.write_text(f"""
defense: sae-clamp
layers:
  - {{site: {SITE}, latents: [3, 1]}}
  - {{site: blocks.2.hook_resid_post, sae: other}}
count: 5
contrast: 0.0
rate_ratio: 0.0
strength: 1.0
""")
    fitted = resolve_defense(str(spec)).defense.fit(tiny, ToyTask(), ToyTask().examples("fit"))
    assert [len(f) for f in fitted.protected] == [2, 5] and fitted.protected[0].latents == (3, 1)
    assert [entry["latents"] for entry in fitted.record["layers"]] == [list(f.latents) for f in fitted.protected]


def test_layers_at_one_place_of_the_stream_are_refused(tiny: Subject) -> None:
    layers = (Layer(SITE), Layer("blocks.2.hook_resid_pre", sae=tiny.saes[SITE]))
    with pytest.raises(UsageError, match="are the same place in the stream"):
        SaeClamp(layers=layers).fit(tiny, ToyTask(), ToyTask().examples("fit"))


def test_calibration_has_the_edits_of_all_layers_live(
    tiny: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from defenses import calibration

    tried: list[set[str]] = []

    def watched(self: Any, edits: Any) -> calibration.Outcome:
        tried.append({str(site) for site in edits})
        return calibration.Outcome(1.0, 1.0)

    monkeypatch.setattr(calibration.Trial, "__call__", watched)
    other = sae_folder(tmp_path / "other", metadata={"hook_name": "blocks.2.hook_resid_post"}, seed=1)
    layers = (Layer(SITE, latents=(3, 1)), Layer("blocks.2.hook_resid_post", sae=other, latents=(5,)))
    SaeClamp(layers=layers).fit(tiny, ToyTask(), ToyTask().examples("fit"))
    assert tried == [{SITE, "blocks.2.hook_resid_post"}]


def test_layers_measured_together_give_what_each_gives_alone(tiny: Subject, tmp_path: Path) -> None:
    task, hook = ToyTask(), "blocks.2.hook_resid_post"
    other = sae_folder(tmp_path / "other", metadata={"hook_name": hook}, seed=1)
    pair = [open_dictionary(tiny, Site.parse(SITE)), open_dictionary(tiny, Site.parse(hook), other)]
    examples = task.examples("fit")[:6]
    together = activity(tiny, task, examples, pair, task.objective)
    alone = [activity(tiny, task, examples, [one], task.objective)[0] for one in pair]
    for a, b in zip(together, alone, strict=True):
        assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("mode", "sign"), [("zero", 1), ("set_if_active", 1), ("scale", -1), ("set", -1)])
def test_those_latents_are_clamped_whose_clamping_lowers_the_margin(tiny: Subject, mode: Any, sign: int) -> None:
    """To first order: what is driven up pushed against the behavior before, what is driven down pushed for it."""
    task = ToyTask()
    examples = task.examples("fit")
    recipe = SaeClamp(mode=mode, strength=2.0, count=12, contrast=0.0, rate_ratio=0.0)
    chosen = recipe.choose(tiny, task, examples)
    assert (sign * chosen[0].task.effect[list(chosen[0].features.latents)] > 0).all()
    nudge = SaeClamp(mode="scale", strength=1 - 0.02 * sign, layers=(Layer(SITE, latents=chosen[0].features.latents),))
    nudged = judge(tiny, task, examples, nudge.fit(tiny, task, examples).edits).margin
    assert nudged.mean() < judge(tiny, task, examples, {}).margin.mean()


@pytest.mark.parametrize(("mode", "strength"), [("scale", 0.5), ("set", -1.0), ("zero", None)])
def test_a_clamp_that_drives_latents_down_selects_those_that_carry_the_behavior(mode: Any, strength: Any) -> None:
    assert not SaeClamp(mode=mode, strength=strength).amplifies
    assert SaeClamp(mode="scale").amplifies and SaeClamp(mode="set").amplifies


def test_amplification_is_calibrated_on_gains_above_one(tiny: Subject) -> None:
    task = ToyTask()
    recipe = SaeClamp(mode="scale", count=24, contrast=0.0, rate_ratio=0.0, target_share=0.3, retain_share=0.01)
    found = float(recipe.fit(tiny, task, task.examples("fit")).record["strength"])
    assert found in GAINS and min(GAINS) == 1.5 and list(GAINS) == sorted(GAINS)


def test_strength_is_in_units_of_the_mean_positive_activation(tiny: Subject) -> None:
    task = ToyTask()
    recipe = SaeClamp(layers=(Layer(SITE, latents=(3, 1)),), strength=2.0).on(task)
    chosen = recipe.choose(tiny, task, task.examples("fit"))[0]
    edit: Any = next(iter(recipe.build([chosen], 2.0, {}).edits.values()))
    assert torch.allclose(edit.level, 2.0 * chosen.task.level[[3, 1]].float())


def test_the_random_control_has_as_many_other_latents_of_like_activity(tiny: Subject) -> None:
    task = ToyTask()
    recipe = SaeClamp(count=8, contrast=0.0, rate_ratio=0.0, strength=2.0)
    clamp, control = (d.fit(tiny, task, task.examples("fit")) for d in (recipe, recipe.control()))
    mine, theirs = set(clamp.protected[0].latents), set(control.protected[0].latents)
    assert len(theirs) == len(mine) and not mine & theirs and control.record["strength"] == 2.0
    stats = recipe.choose(tiny, task, task.examples("fit"))[0].task
    total = (stats.rate * stats.level).clamp(min=1e-12).log()
    off = [
        abs(float(total[a] - total[b]))
        for a, b in zip(clamp.protected[0].latents, control.protected[0].latents, strict=True)
    ]
    assert sum(off) / len(off) < float((total[:, None] - total[None]).abs().mean())
    level: Any = control.edits[control.protected[0].site]
    assert torch.allclose(level.level, 2.0 * stats.level[list(control.protected[0].latents)].float()), (
        "in its own units"
    )


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
        SaeClamp(layers=(Layer(SITE, sae=folder),)).fit(subject(), ToyTask(), ToyTask().examples("fit"))


@pytest.mark.parametrize("bad", [{"count": 0}, {"target_share": 0.0}, {"retain_share": 1.5}, {"schedule": "sometimes"}])
def test_settings_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SaeClamp(**bad)


def test_a_rate_ratio_spares_latents_that_fire_as_often_elsewhere() -> None:
    task = Activity(torch.tensor([3.0, 2.0]), torch.tensor([0.4, 0.4]), torch.ones(2))
    rest = Activity(torch.zeros(2), torch.tensor([0.3, 0.1]), torch.ones(2))
    assert top(by_attribution(task, rest, 1.0, rate_ratio=2.0), 2, "here") == (1,)
    assert top(by_attribution(task, rest, 1.0), 2, "here") == (0, 1)


def test_where_text_is_read_a_clamp_amplifies_unless_told_otherwise() -> None:
    class Chat(ToyTask):
        readout = Continuation()

    assert SaeClamp().on(ToyTask()).mode == "set_if_active" and SaeClamp().on(Chat()).mode == "scale"
    assert SaeClamp(mode="zero").on(Chat()).mode == "zero"


def test_of_few_latents_none_stands_in_for_itself_or_for_another_of_them() -> None:
    total = torch.arange(6.0)
    for seed in range(20):
        drawn = _drawn(total, [4, 1, 0], 8, torch.Generator().manual_seed(seed))
        assert sorted(drawn) == [2, 3, 5]
    with pytest.raises(UsageError, match="4 of 6 latents are taken"):
        _drawn(total, [0, 1, 2, 3], 8, torch.Generator())
