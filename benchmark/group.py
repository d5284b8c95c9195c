"""What all cells of a (task, defense) share: the fitted defense, both references, and what the defense costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from benchmark.cell import Group, Scale
from benchmark.contracts import Example, FittedDefense, Task
from benchmark.edits import Edit, by_boundary
from benchmark.packs import Pack, make_packs
from benchmark.passes import FullPass, TailPass, Writes
from benchmark.prepare import Prepared
from benchmark.reference import Judged, Retention, eligible, judge
from benchmark.sites import Site
from benchmark.spec import Named
from benchmark.subject import Subject
from benchmark.suite import Frozen, TaskSettings

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest relative difference between a restarted and a full pass; other dtypes round far more."""


class TaskReference:
    """The undefended model on a task's test examples; the same for every defense."""

    def __init__(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        self.examples = examples
        self.base: Judged = judge(subject, task, examples, {})
        self.eligible = eligible(subject, task, examples, self.base)


def make_group(
    subject: Subject, task: Task, named: Named, settings: TaskSettings, frozen: Frozen, reference: TaskReference
) -> Group:
    """Fit the defense on ``fit`` and classify every test example under it."""
    fitted = named.defense.fit(subject, task, task.examples("fit"))
    edits = by_boundary(subject, fitted.edits)
    norms = {Site.parse(hook).boundary: norm for hook, norm in frozen.residual_norms.items()}
    sites = tuple(sorted(edits)) or (Site.parse(settings.site).boundary,)
    return Group(
        subject=subject,
        task=task,
        fitted=fitted,
        edits=edits,
        sites=sites,
        examples=reference.examples,
        base=reference.base,
        defended=judge(subject, task, reference.examples, fitted.edits),
        eligible=reference.eligible,
        scale=Scale(norms, frozen.embedding_norm),
        perturbed=settings.perturbed,
        suffix_tokens=settings.suffix_tokens,
        restart=restart_is_exact(subject, task, reference.examples, edits, sites),
    )


def groups(prepared: Prepared) -> Iterator[tuple[str, Group]]:
    """Every defense of a plan fitted on every task: (name of the defense, group)."""
    for task_name, task in prepared.plan.tasks.items():
        reference = TaskReference(prepared.subject, task, prepared.examples(task))
        frozen = prepared.constants(task_name)
        for named in prepared.plan.defenses.values():
            settings = prepared.plan.suite.tasks[task_name]
            yield named.name, make_group(prepared.subject, task, named, settings, frozen, reference)


def restart_is_exact(
    subject: Subject, task: Task, examples: Sequence[Example], edits: Mapping[int, Edit], sites: tuple[int, ...]
) -> bool:
    """Whether the restarted pass gives the values and gradients of the full one, tried on a few examples."""
    pack = make_packs(subject, task, examples[:4], 4)[0]
    writes = Writes(sites, pack.readout, 1, after=False)
    size = 0.01 * subject.d_model**0.5
    delta = size * torch.randn(len(pack), len(sites), 1, subject.d_model, generator=torch.Generator().manual_seed(0))
    try:
        full, tail = (
            _slope(kind(subject, pack, edits, writes), delta.to(subject.device)) for kind in (FullPass, TailPass)
        )
    except (RuntimeError, TypeError, KeyError, IndexError, AttributeError):
        return False  # a family whose layers cannot be replayed; the full pass serves any
    tolerance = _TOLERANCE.get(subject.dtype, 5e-2)
    return all(
        bool((a - b).abs().max() <= tolerance * a.abs().max().clamp(min=1e-6)) for a, b in zip(full, tail, strict=True)
    )


def _slope(run: FullPass | TailPass, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = delta.clone().requires_grad_()
    read = run(at, torch.arange(len(delta), device=delta.device)).read
    return read.detach(), torch.autograd.grad(read.sum(), at)[0]


def card(group: Group) -> dict[str, Any]:
    """What fitting found and what the defense costs, for fits/<task>__<defense>.json."""
    retain = group.task.retain("test")
    return {
        "task": group.task.name,
        "record": dict(group.fitted.record),
        "suppressed_fit": group.fitted.record.get("suppressed_fit"),
        "eligible": int(group.eligible.sum()),
        "suppressed": int(group.suppressed.sum()),
        "restart": "tail" if group.restart else "full pass: the restarted one differs on this model",
        "utility": utility(group.subject, group.task, retain, group.fitted),
        "idempotence_gap": idempotence_gap(group),
    }


def utility(subject: Subject, task: Task, retain: Sequence[Example], fitted: FittedDefense) -> dict[str, Any]:
    """Share of the retain set kept, and the cross-entropy of its answers among their choices (nats)."""
    return {
        "retained": Retention(subject, task, retain).kept(fitted.edits),
        "n": len(retain),
        "n_clusters": len({e.cluster for e in retain}),
        "ce_base": _cross_entropy(subject, task, retain, {}),
        "ce_defended": _cross_entropy(subject, task, retain, fitted.edits),
    }


def _cross_entropy(
    subject: Subject, task: Task, examples: Sequence[Example], edits: Mapping[Site, Edit]
) -> float | None:
    reads = judge(subject, task, examples, edits).read
    losses = [-float(r.log_softmax(0)[e.answer]) for r, e in zip(reads, examples, strict=True)]
    return sum(losses) / len(losses) if losses else None


@torch.no_grad()
def idempotence_gap(group: Group) -> float | None:
    """How much a second application of the edits moves the stream, relative to the first; the largest over sites.

    A dictionary is not orthogonal, so this is not 0 for an honest clamp; it is shown, not forbidden.
    """
    gaps = [_site_gap(group, b, edit) for b, edit in group.edits.items()]
    known = [g for g in gaps if g is not None]
    return max(known) if known else None


def _site_gap(group: Group, boundary: int, edit: Edit) -> float | None:
    moved = moved_again = 0.0
    for pack in make_packs(group.subject, group.task, group.examples[:32], 32):
        h = _stream(group, pack, boundary)
        once = edit(h, pack.where)
        moved += float((once - h).float().square().sum())
        moved_again += float((edit(once, pack.where) - once).float().square().sum())
    return (moved_again / moved) ** 0.5 if moved else None


def _stream(group: Group, pack: Pack, boundary: int) -> torch.Tensor:
    below = {b: e for b, e in group.edits.items() if b < boundary}
    run = FullPass(group.subject, pack, below, Writes((), 0, 0, after=False))
    return run(None, torch.arange(len(pack), device=pack.ids.device), frozenset({boundary})).stream[boundary]
