"""Defenses that suppress by destroying: the utility gate, and only that, tells them from real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contracts.defense import Defense
from benchmark.contracts.readout import Criteria, Verdict
from benchmark.errors import UsageError
from benchmark.measure.judging import judge
from benchmark.model.pack import make_packs
from defenses.always_refuse import AlwaysRefuse
from defenses.none import NoDefense
from defenses.prompt_destroyer import PromptDestroyer
from defenses.sae_bottleneck import SaeBottleneck
from tests.defenses.organism import defended, shares, undefended
from tests.defenses.world import HERE, fit, place, seen, stream, world
from tests.tiny import ToyTask


@pytest.mark.parametrize("recipe", [AlwaysRefuse(), PromptDestroyer()])
def test_a_control_suppresses_and_fails_the_utility_gate_by_far(recipe: Defense) -> None:
    few = undefended("ioi", sample=32, test=40)
    suppressed, kept = shares(few, defended(few, recipe))
    assert suppressed >= 0.35, "two names are left to chance: half of the answers"
    assert kept <= 0.9


def test_a_reconstruction_without_a_clamp_is_no_such_control() -> None:
    few = undefended("ioi", sample=32, test=40)
    suppressed, kept = shares(few, defended(few, SaeBottleneck(clamped=False)))
    assert suppressed <= 0.05 and kept >= 0.97


class Refusing(ToyTask):
    """What the model does not prefer it refuses."""

    def verdict(self, read: Any, criteria: Criteria) -> Verdict:
        margin = super().verdict(read, criteria).margin
        return Verdict(["complies" if m > 0 else "refusal" for m in margin.tolist()], margin)


def test_where_some_prompts_are_refused_the_vector_leads_from_the_others_to_those(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0], Refusing())
    fitted = AlwaysRefuse().fit(fitting)
    everyone = [*fitting.examples, *fitting.retain]
    refused = torch.tensor([label == "refusal" for label in fitting.labels(everyone)])
    at = fitting.streams(HERE, everyone)
    expected = at[refused].mean(0) - at[~refused].mean(0)
    h = stream()
    added = (fitted.edits[HERE](h, place(h)) - h)[:, 1:]
    assert torch.allclose(added, added[0, 0].expand_as(added), atol=1e-4), "the same everywhere"
    assert torch.cosine_similarity(added[0, 0], expected, dim=0) > 0.999
    assert fitted.record["direction"] == "refusing minus complying"
    unit = float(fitting.streams(HERE).norm(dim=1).median())
    assert float(added[0, 0].norm()) == pytest.approx(fitted.record["size"] * unit, rel=1e-3)


def test_without_refusals_the_vector_lowers_the_objective(tmp_path: Path) -> None:
    fitting = seen(world(tmp_path)[0])
    fitted = AlwaysRefuse().fit(fitting)
    assert fitted.record["direction"] == "against the objective" and fitted.record["suppressed_fit"] >= 0.5
    h = stream()
    step = (fitted.edits[HERE](h, place(h)) - h)[0, 1] * 1e-3
    nudged: Any = lambda x, where: x + step * ~where.special[..., None]  # noqa: E731
    lower, plain = (
        judge(fitting.subject, fitting.task, fitting.examples, edits).margin.mean() for edits in ({HERE: nudged}, {})
    )
    assert lower < plain


def test_prompts_of_a_length_look_alike_behind_the_destroyer_but_a_gradient_passes(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    edit: Any = next(iter(fit(PromptDestroyer(), subject).edits.values()))
    h = stream().requires_grad_()
    out = edit(h, place(h))
    assert (out[:, 1:].std((0, 1)) <= 1.1e-3 * h[:, 1:].std((0, 1))).all()
    assert torch.autograd.grad(out.sum(), h)[0][:, 1:].abs().min() > 0
    assert torch.equal(out[:, 0], h[:, 0])
    pack = max(make_packs(subject, ToyTask(), ToyTask().examples("test"), 8), key=len)
    reads = torch.stack(judge(subject, ToyTask(), pack.examples, {}).read)
    assert reads.std(0).mean() > 0.1, "undefended they differ"


@pytest.mark.parametrize("trace", [0.0, 1.0, -0.1])
def test_a_trace_out_of_range_is_refused(trace: float) -> None:
    with pytest.raises(UsageError, match="trace is"):
        PromptDestroyer(trace=trace)


def test_no_defense_edits_nothing(tmp_path: Path) -> None:
    fitted = fit(NoDefense(), world(tmp_path)[0])
    assert not fitted.edits and not fitted.protected and fitted.monitor is None
