"""Defenses that suppress by destroying: the utility gate, and only that, tells them from real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.cells.reference import Retention, judge, readout_stream
from benchmark.contracts import Batch, Defense, Example, Split, Verdict
from benchmark.errors import UsageError
from benchmark.model.packs import make_packs
from benchmark.model.subject import Subject
from benchmark.run.prepare import load_subject
from benchmark.suite import load_suite
from defenses.always_refuse import AlwaysRefuse
from defenses.prompt_destroyer import PromptDestroyer
from defenses.sae_bottleneck import SaeBottleneck
from tasks.ioi import Ioi
from tests.defenses.world import HERE, place, stream, world
from tests.tiny import ToyTask


class FewIoi(Ioi):
    """A sixth of the organism's names task."""

    def examples(self, split: Split) -> Sequence[Example]:
        return super().examples(split)[::6]

    def retain(self, split: Split) -> Sequence[Example]:
        return super().retain(split)[::4]


@pytest.fixture(scope="module")
def organism() -> Subject:
    return load_subject(load_suite("embedded"), "cpu", "float32")


def outcome(organism: Subject, recipe: Defense) -> tuple[float, float]:
    """Shares of ``test`` that are suppressed and retained."""
    task = FewIoi()
    fitted = recipe.fit(organism, task, task.examples("fit"))
    test = task.examples("test")
    shown = judge(organism, task, test, {}).shown
    lost = shown & ~judge(organism, task, test, fitted.edits).shown
    kept = Retention(organism, task, task.retain("test")).kept(fitted.edits)
    assert kept is not None
    return float(lost.sum() / shown.sum()), kept


@pytest.mark.parametrize("recipe", [AlwaysRefuse(), PromptDestroyer()])
def test_a_control_suppresses_and_fails_the_utility_gate_by_far(organism: Subject, recipe: Defense) -> None:
    suppressed, kept = outcome(organism, recipe)
    assert suppressed >= 0.35, "two names are left to chance: half of the answers"
    assert kept <= 0.9


def test_a_reconstruction_without_a_clamp_is_no_such_control(organism: Subject) -> None:
    suppressed, kept = outcome(organism, SaeBottleneck(clamped=False))
    assert suppressed <= 0.05 and kept >= 0.97


class Refusing(ToyTask):
    """What the model does not prefer it refuses."""

    def verdict(self, read: Any, batch: Batch) -> Verdict:
        margin = super().verdict(read, batch).margin
        return Verdict(["complies" if m > 0 else "refusal" for m in margin.tolist()], margin)


def test_where_some_prompts_are_refused_the_vector_leads_from_the_others_to_those(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    task = Refusing()
    fit = [*task.examples("fit")]
    fitted = AlwaysRefuse().fit(subject, task, fit)
    everyone = [*fit, *task.retain("fit")]
    shown = judge(subject, task, everyone, {}).shown
    at = readout_stream(subject, task, everyone, HERE)
    expected = at[~shown].mean(0) - at[shown].mean(0)
    h = stream()
    added = (fitted.edits[HERE](h, place(h)) - h)[:, 1:]
    assert torch.allclose(added, added[0, 0].expand_as(added), atol=1e-4), "the same everywhere"
    assert torch.cosine_similarity(added[0, 0], expected, dim=0) > 0.999
    assert fitted.record["direction"] == "refusing minus complying"
    unit = float(readout_stream(subject, task, fit, HERE).norm(dim=1).median())
    assert float(added[0, 0].norm()) == pytest.approx(fitted.record["size"] * unit, rel=1e-3)


def test_without_refusals_the_vector_lowers_the_objective(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    task = ToyTask()
    fitted = AlwaysRefuse().fit(subject, task, task.examples("fit"))
    assert fitted.record["direction"] == "against the objective" and fitted.record["suppressed_fit"] >= 0.5
    h = stream()
    step = (fitted.edits[HERE](h, place(h)) - h)[0, 1] * 1e-3
    nudged: Any = lambda x, where: x + step * ~where.special[..., None]  # noqa: E731
    margins = [judge(subject, task, task.examples("fit"), edits).margin.mean() for edits in ({HERE: nudged}, {})]
    assert margins[0] < margins[1]


def test_prompts_of_a_length_look_alike_behind_the_destroyer_but_a_gradient_passes(tmp_path: Path) -> None:
    subject, _ = world(tmp_path)
    task = ToyTask()
    edit: Any = next(iter(PromptDestroyer().fit(subject, task, task.examples("fit")).edits.values()))
    h = stream().requires_grad_()
    out = edit(h, place(h))
    assert (out[:, 1:].std((0, 1)) <= 1.1e-3 * h[:, 1:].std((0, 1))).all()
    assert torch.autograd.grad(out.sum(), h)[0][:, 1:].abs().min() > 0
    assert torch.equal(out[:, 0], h[:, 0])
    pack = max(make_packs(subject, task, task.examples("test"), 8), key=len)
    reads = torch.stack(judge(subject, task, pack.examples, {}).read)
    assert reads.std(0).mean() > 0.1, "undefended they differ"


@pytest.mark.parametrize("trace", [0.0, 1.0, -0.1])
def test_a_trace_out_of_range_is_refused(trace: float) -> None:
    with pytest.raises(UsageError, match="trace is"):
        PromptDestroyer(trace=trace)
