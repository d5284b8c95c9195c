"""Which latents are chosen: by their effect on what the task climbs on, or by how often they fire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.measure.judging import judge
from benchmark.sae.dictionary import open_dictionary
from defenses.latents import Rule
from defenses.selection import Activity, activity, by_effect, by_firing_rate, opposed, pooled, top
from defenses.stand_ins import _drawn
from tests.defenses.world import ABOVE, HERE, second_layer, seen, world


def made(effect: list[float], rate: list[float] | None = None) -> Activity:
    ones = torch.ones(len(effect))
    return Activity(torch.tensor(effect), ones if rate is None else torch.tensor(rate), ones, 1, 1)


def test_effect_is_the_gradient_along_a_latent(tmp_path: Path) -> None:
    """Against a finite difference: scaling one latent's contribution everywhere moves the margin as the effect says."""
    subject, dictionary = world(tmp_path)
    fitting = seen(subject)
    examples = fitting.examples[:6]
    effect = activity(fitting, examples, [dictionary])[0].effect
    latent = int(effect.abs().argmax())
    features = dictionary.features([latent])
    step = 1e-3

    def nudged(sign: float) -> float:
        def edit(h: torch.Tensor, where: Any) -> torch.Tensor:
            act = features.encode(h).act * ~where.special[..., None]
            return h + sign * step * act @ features.decoder

        return float(judge(subject, fitting.task, examples, {HERE: edit}).margin.mean())

    assert (nudged(1) - nudged(-1)) / (2 * step) == pytest.approx(float(effect[latent]), rel=0.05)


def test_layers_measured_together_give_what_each_gives_alone(tmp_path: Path) -> None:
    subject, dictionary = world(tmp_path)
    fitting = seen(subject)
    pair = [dictionary, open_dictionary(subject, ABOVE, second_layer(tmp_path).sae)]
    examples = fitting.examples[:6]
    together = activity(fitting, examples, pair)
    alone = [activity(fitting, examples, [one])[0] for one in pair]
    for a, b in zip(together, alone, strict=True):
        assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(a[:3], b[:3], strict=True)) and a[3:] == b[3:]


def test_parts_together_are_what_is_measured_at_once(tmp_path: Path) -> None:
    """Of unequal size, and with latents that fire in one of them only."""
    subject, dictionary = world(tmp_path)
    fitting = seen(subject)
    (whole,) = activity(fitting, fitting.examples, [dictionary])
    parts = [activity(fitting, some, [dictionary])[0] for some in (fitting.examples[:1], fitting.examples[1:])]
    assert ((parts[0].rate == 0) & (parts[1].rate > 0)).any()
    joined = pooled(parts)
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(joined[:3], whole[:3], strict=True))
    assert joined[3:] == whole[3:] and not torch.allclose(joined.effect, (parts[0].effect + parts[1].effect) / 2)


def test_contrast_spares_what_the_retain_set_needs() -> None:
    task, rest = made([3.0, 2.0, 1.0]), made([2.0, -5.0, 0.0])
    assert by_effect(task, rest, 2.0).tolist() == [-1.0, 2.0, 1.0]
    assert top(by_effect(task, rest, 2.0), 3, "here") == (1, 2)


def test_a_rate_ratio_spares_latents_that_fire_as_often_elsewhere() -> None:
    task, rest = made([3.0, 2.0], [0.4, 0.4]), made([0.0, 0.0], [0.3, 0.1])
    assert top(by_effect(task, rest, 1.0, rate_ratio=2.0), 2, "here") == (1,)
    assert top(by_effect(task, rest, 1.0), 2, "here") == (0, 1)


def test_firing_rate_spares_what_fires_on_the_retain_set() -> None:
    task, rest = made([0.0, 0.0, 0.0], [0.9, 0.5, 0.4]), made([0.0, 0.0, 0.0], [0.5, 0.001, 0.0])
    assert top(by_firing_rate(task, rest, 0.01), 2, "here") == (1, 2)
    assert Rule(select="firing-rate").score(task, rest).tolist() == by_firing_rate(task, rest, 0.01).tolist()


def test_amplification_wants_latents_against_the_objective_that_the_retain_set_does_not_mind() -> None:
    task, rest = made([-3.0, -2.0, -1.0, 4.0]), made([-2.0, 5.0, 0.0, 0.0])
    score = Rule(contrast=2.0, rate_ratio=0.0).score(opposed(task), opposed(rest))
    assert score.tolist() == [-1.0, 2.0, 1.0, -4.0]  # the first hurts the retain set as it grows, the second helps it


def test_what_selects_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no latent of here qualifies"):
        top(torch.zeros(4), 2, "here")
    with pytest.raises(UsageError, match="at least 1"):
        Rule(count=0)


def test_of_few_latents_none_stands_in_for_itself_or_for_another_of_them() -> None:
    total = torch.arange(6.0)
    for seed in range(20):
        drawn = _drawn(total, [4, 1, 0], 8, torch.Generator().manual_seed(seed))
        assert sorted(drawn) == [2, 3, 5]
    with pytest.raises(UsageError, match="4 of 6 latents are taken"):
        _drawn(total, [0, 1, 2, 3], 8, torch.Generator())
