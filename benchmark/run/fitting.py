"""From a plan to groups: fit a defense on ``fit``, and classify every test example under it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch

from benchmark.cells.detection import make_detector
from benchmark.cells.group import Group, Scale
from benchmark.cells.reference import Judged, Retention, ceilings, eligible, judge
from benchmark.contracts import Example, Task
from benchmark.model.edits import Edit, by_boundary
from benchmark.model.packs import make_packs
from benchmark.model.passes import FullPass, TailPass, Writes
from benchmark.model.readers import flat
from benchmark.model.subject import Subject
from benchmark.paper.arms import verdict_of
from benchmark.protocol import STRICT, Protocol
from benchmark.run.prepare import Prepared
from benchmark.sites import Site
from benchmark.spec import Named
from benchmark.suite import Frozen, TaskSettings

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest relative difference between a restarted and a full pass; other dtypes round far more."""


class TaskReference:
    """The undefended model on a task's test examples; the same for every defense."""

    def __init__(self, subject: Subject, task: Task, examples: Sequence[Example], protocol: Protocol = STRICT) -> None:
        self.subject, self.task, self.examples, self.protocol = subject, task, examples, protocol
        self.base: Judged = judge(subject, task, examples, {}, verdict_of(task, "base", protocol))
        self.eligible = eligible(subject, task, examples, self.base)
        self.ceiling = ceilings(subject, task, examples, self.base)

    @cached_property
    def retention(self) -> Retention:
        """What a defense should leave alone."""
        return Retention(self.subject, self.task, self.task.retain("test"))


def make_group(
    subject: Subject,
    task: Task,
    named: Named,
    settings: TaskSettings,
    frozen: Frozen,
    reference: TaskReference,
    *,
    attribution: bool = False,
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
        defended=judge(
            subject, task, reference.examples, fitted.edits, verdict_of(task, "defended", reference.protocol)
        ),
        eligible=reference.eligible,
        ceiling=reference.ceiling,
        scale=Scale(norms, frozen.embedding_norm),
        perturbed=settings.perturbed,
        suffix_tokens=settings.suffix_tokens,
        restart=restart_is_exact(subject, task, reference.examples, edits, sites),
        tau=frozen.tau,
        detector=make_detector(subject, task, fitted),
        attribution=attribution,
        protocol=reference.protocol,
    )


def groups(prepared: Prepared) -> Iterator[tuple[str, Group]]:
    """Every defense of a plan fitted on every task: (name of the defense, group)."""
    for task_name, task in prepared.plan.tasks.items():
        reference = TaskReference(prepared.subject, task, prepared.examples(task), prepared.plan.protocol)
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
    read = flat(run(at, torch.arange(len(delta), device=delta.device)).read)
    return read.detach(), torch.autograd.grad(read.sum(), at)[0]
