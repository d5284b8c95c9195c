"""Mean ablation puts latents at their benign mean, in the units of the reconstruction."""

from __future__ import annotations

from pathlib import Path

import torch

from defenses.latents import Layer
from defenses.mean_ablation import MeanAblation
from tests.defenses.world import GIVEN, HERE, LATENTS, RULE, Alone, fit, place, second_layer, seen, stream, world
from tests.tiny import SITE


def test_the_reconstruction_holds_the_mean_of_the_retain_set_at_every_position(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0])
    fitted = MeanAblation(layers=GIVEN).fit(fitting)
    (features,) = fitted.protected
    means = [
        features.encode(fitting.streams(HERE, some, at="tokens")).act.mean(0)
        for some in (fitting.retain, fitting.examples)
    ]
    h = stream()
    moved = (fitted.edits[HERE](h, place(h)) - h)[:, 1:]
    coefficients = torch.linalg.lstsq(features.decoder.T, moved.flatten(0, 1).T).solution.T  # in terms of the latents
    held = coefficients + features.encode(h[:, 1:]).act.flatten(0, 1)
    assert torch.allclose(held, means[0].expand(21, -1), atol=1e-4)
    assert not torch.allclose(means[0], means[1], atol=1e-2), "the task's own mean is another"
    assert fitted.record["mean_over"] == "retain" and fitted.record["layers"][0]["latents"] == list(LATENTS)


def test_without_a_retain_set_the_mean_is_the_tasks_and_the_record_says_so(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Alone())
    fitted = MeanAblation(layers=GIVEN).fit(fitting)
    expected = fitted.protected[0].encode(fitting.streams(HERE, at="tokens")).act.mean(0)
    assert torch.allclose(fitted.edits[HERE].level, expected, atol=1e-4)  # type: ignore[attr-defined]
    assert fitted.record["mean_over"] == "task" and fitted.record["retained_fit"] is None


def test_latents_are_selected_at_every_site_where_none_are_given(tmp_path: Path) -> None:
    recipe = MeanAblation(layers=(Layer(SITE), second_layer(tmp_path, latents=(5,))), rule=RULE)
    fitted = fit(recipe, world(tmp_path)[0])
    assert [len(f) for f in fitted.protected] == [RULE.count, 1] and len(fitted.edits) == 2


def test_its_control_holds_other_latents_at_their_own_benign_mean(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0])
    recipe = MeanAblation(layers=GIVEN)
    mine, control = (made.fit(fitting) for made in (recipe, recipe.control()))
    (theirs,) = control.protected
    assert len(theirs) == len(LATENTS) and not set(theirs.latents) & set(mine.protected[0].latents)
    benign = theirs.encode(fitting.streams(HERE, fitting.retain, at="tokens")).act.mean(0)
    assert torch.allclose(control.edits[HERE].level, benign, atol=1e-4)  # type: ignore[attr-defined]
