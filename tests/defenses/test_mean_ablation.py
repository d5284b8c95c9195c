"""Mean ablation puts latents at their benign mean, in the units of the reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.contracts import Example, Split
from defenses.latents import Layer
from defenses.mean_ablation import MeanAblation
from defenses.streams import token_stream
from tests.defenses.world import GIVEN, HERE, LATENTS, RULE, place, stream, world
from tests.tiny import SITE, ToyTask, sae_folder


class Alone(ToyTask):
    """A task with nothing beside it."""

    def retain(self, split: Split) -> Sequence[Example]:
        return ()


def test_the_reconstruction_holds_the_mean_of_the_retain_set_at_every_position(tmp_path: Path) -> None:
    subject, dictionary = world(tmp_path)
    task = ToyTask()
    fitted = MeanAblation(layers=GIVEN).fit(subject, task, task.examples("fit"))
    features = fitted.protected[0]
    benign = features.encode(token_stream(subject, task, task.retain("fit"), HERE, {})).act.mean(0)
    h = stream()
    moved = (fitted.edits[HERE](h, place(h)) - h)[:, 1:]
    coefficients = torch.linalg.lstsq(features.decoder.T, moved.flatten(0, 1).T).solution.T  # in terms of the latents
    assert torch.allclose(coefficients + features.encode(h[:, 1:]).act.flatten(0, 1), benign.expand(21, -1), atol=1e-4)
    on_task = features.encode(token_stream(subject, task, task.examples("fit"), HERE, {})).act.mean(0)
    assert not torch.allclose(benign, on_task, atol=1e-2), "the task's own mean is another"
    assert fitted.record["mean_over"] == "retain" and fitted.record["layers"][0]["latents"] == list(LATENTS)


def test_without_a_retain_set_the_mean_is_the_tasks_and_the_record_says_so(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    task = Alone()
    fitted = MeanAblation(layers=GIVEN).fit(subject, task, task.examples("fit"))
    expected = fitted.protected[0].encode(token_stream(subject, task, task.examples("fit"), HERE, {})).act.mean(0)
    assert torch.allclose(fitted.edits[HERE].level, expected, atol=1e-4)  # type: ignore[attr-defined]
    assert fitted.record["mean_over"] == "task" and fitted.record["retained_fit"] is None


def test_latents_are_selected_at_every_site_where_none_are_given(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    hook = "blocks.2.hook_resid_post"
    other = sae_folder(tmp_path / "other", metadata={"hook_name": hook}, seed=1)
    recipe = MeanAblation(layers=(Layer(SITE), Layer(hook, sae=other, latents=(5,))), rule=RULE)
    fitted = recipe.fit(subject, ToyTask(), ToyTask().examples("fit"))
    assert [len(f) for f in fitted.protected] == [RULE.count, 1] and len(fitted.edits) == 2


def test_its_control_holds_other_latents_at_their_own_benign_mean(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    task = ToyTask()
    recipe = MeanAblation(layers=GIVEN)
    mine, control = (d.fit(subject, task, task.examples("fit")) for d in (recipe, recipe.control()))
    theirs = control.protected[0]
    assert len(theirs.latents) == len(LATENTS) and not set(theirs.latents) & set(mine.protected[0].latents)
    benign = theirs.encode(token_stream(subject, task, task.retain("fit"), HERE, {})).act.mean(0)
    assert torch.allclose(control.edits[HERE].level, benign, atol=1e-4)  # type: ignore[attr-defined]
