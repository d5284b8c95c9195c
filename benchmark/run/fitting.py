"""What a defense sees while it learns, measured on the frozen model (``benchmark.contracts.defense.Fitting``)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from benchmark.contracts.attack import Terms
from benchmark.contracts.defense import Edits, FittedDefense, Fitting, Outcome, Slopes
from benchmark.contracts.example import Example
from benchmark.errors import UsageError
from benchmark.measure.group import Group, Scale
from benchmark.measure.judging import Judged, Retention, eligible, judge, saturation
from benchmark.measure.rejudging import Rejudged
from benchmark.model.edits import by_boundary
from benchmark.model.pack import make_packs
from benchmark.model.streams import (
    Objective,
    embedding_norm,
    readout_streams,
    residual_norms,
    stream_gradients,
    token_stream,
)
from benchmark.model.subject import Subject
from benchmark.registry import threat as named_threat
from benchmark.run.random_state import seeded
from benchmark.run.saes import Saes
from benchmark.run.task_view import FittingTask, TaskView
from benchmark.sae.dictionary import Dictionary, open_dictionary
from benchmark.search.pack_size import PackSize
from benchmark.search.problem import Problem
from benchmark.sites import Site

ROWS = 32
"""Rows of a pass with gradients at every position."""
RECOVERY_ROWS = 256
"""Rows of a recovery problem's pass."""
HOPELESS = 0.1
"""Once so much more of the retain set is lost than may be, larger strengths are not tried."""

T = TypeVar("T")


class Fit(Fitting):
    """One for a (model, task): what is measured once serves all defenses of a run."""

    def __init__(
        self,
        subject: Subject,
        task: TaskView | FittingTask,
        site: Site,
        *,
        scale: Scale | None = None,
        perturbed: int | Literal["all"] = 1,
        suffix_tokens: int = 4,
        seed: int = 0,
        floor: float | None = None,
        saes: Saes | None = None,
    ) -> None:
        """``scale`` (measured if not given), ``perturbed``, ``suffix_tokens``: of the suite's attackers. ``seed``: of
        the run. ``floor``: of the suite, see ``judge``. ``saes``: the run's; None: outside of a run, where nobody looks
        at how healthy one is."""
        self._task = task.for_fitting()
        self.subject, self.task, self.site = subject, self._task, site
        self.examples, self.retain = self.task.examples("fit"), self.task.retain("fit")
        self._scale, self._suffix_tokens = scale, suffix_tokens
        self._perturbed: int | Literal["all"] = perturbed
        self._seed, self._floor, self._saes = seed, floor, saes
        self._made: dict[Hashable, Any] = {}
        self._of: Fit | None = None
        """What it was dealt from: the undefended model is asked about an example once. A part is judged again and
        again."""
        self.asked: set[str] = set()
        """Sites whose SAE of the suite was asked for."""

    def streams(
        self,
        site: Site,
        examples: Sequence[Example] | None = None,
        *,
        at: Literal["readout", "tokens"] = "readout",
        edits: Edits | None = None,
    ) -> Tensor:
        some, boundary = self._some(examples), self.subject.check(site).boundary
        if at == "tokens":
            return token_stream(self.subject, self.task, some, site, edits or {})
        return readout_streams(self.subject, self.task, some, frozenset({boundary}), edits)[boundary]

    def gradients(self, sites: Sequence[Site], examples: Sequence[Example] | None = None) -> Iterator[list[Slopes]]:
        some, boundaries = self._some(examples), tuple(self.subject.check(site).boundary for site in sites)
        objective = self._objective(some)
        for pack in make_packs(self.subject, self.task, some, ROWS):
            yield stream_gradients(self.subject, pack, boundaries, objective)

    def sae(self, site: Site, source: str | None = None) -> Dictionary:
        if source is None:
            self.asked.add(str(site))
            source = self.subject.saes.get(str(site))
        if self._saes is None:
            return open_dictionary(self.subject, site, source)
        return self._saes.opened(site, source)

    def labels(self, examples: Sequence[Example], edits: Edits | None = None) -> list[str]:
        return judge(self.subject, self.task, examples, edits or {}).labels

    def outcome(self, edits: Edits) -> Outcome:
        judged, kept = self._rejudged(edits), self._rejudged_retain(edits)
        lost = self._shown & ~judged.shown
        if judged.broken is not None:
            lost &= ~judged.broken
        share = float(lost.sum() / self._shown.sum()) if self._shown.any() else None
        shown, right = int(self._shown.sum()), int(self._retention.right.sum())
        return Outcome(share, self._retention.share(kept), shown, right)

    def calibrate(
        self, build: Callable[[float], Edits], grid: Sequence[float], *, target_share: float, retain_share: float
    ) -> tuple[float, Outcome]:
        if not self._shown.any():
            raise UsageError(
                f"{self.subject.name} shows {self.task.name} on no `fit` example: "
                "nothing to calibrate a defense on; choose a task that the model has learned"
            )
        best: tuple[float, Outcome] | None = None
        for strength in grid:
            outcome = self.outcome(build(strength))
            share, kept = outcome.suppressed or 0.0, outcome.retained
            if (kept is None or kept >= retain_share) and (best is None or share > (best[1].suppressed or 0.0)):
                best = strength, outcome
            if best is not None and (best[1].suppressed or 0.0) >= target_share:
                break
            if kept is not None and kept < retain_share - HOPELESS:
                break
        if best is None:
            raise UsageError(
                f"no strength down to {grid[0]} keeps {retain_share:.0%} of the retain set of {self.task.name}; "
                "lower `retain_share`, or give a strength"
            )
        return best

    def recovery(self, edits: Edits, threat: str, budgets: Sequence[float]) -> list[Problem]:
        model, group = named_threat(threat), self._group(edits)
        why = model.applies(self.task, group)
        if why:
            raise UsageError(f"no recovery by {threat} on {self.task.name}: {why}; choose another threat model")
        shown = [e for e, hit in zip(self.examples, group.eligible.tolist(), strict=True) if hit]
        terms = Terms("none", "behavior", 1, "fit")
        packs = make_packs(self.subject, self.task, shown, RECOVERY_ROWS)
        return [model.problem(group, terms, budgets, pack, PackSize(RECOVERY_ROWS)) for pack in packs]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            with seeded(self._seed, self.task.name):  # whoever asks first
                self._made[key] = make()
        return self._made[key]

    def dealt(self, examples: Sequence[Example], retain: Sequence[Example]) -> Fit:
        other = Fit(
            self.subject,
            self._task,
            self.site,
            scale=self._scale,
            perturbed=self._perturbed,
            suffix_tokens=self._suffix_tokens,
            seed=self._seed,
            floor=self._floor,
            saes=self._saes,
        )
        other.examples, other.retain, other.asked, other._of = examples, retain, self.asked, self
        return other

    def reading(self, saes: Mapping[str, str]) -> Fit:
        """The same with other SAEs of the suite; nothing is shared that was made with these."""
        other = copy(self)
        other.subject, other._made, other.asked = self.subject.reading(saes), {}, set()
        return other

    def _some(self, examples: Sequence[Example] | None) -> Sequence[Example]:
        return self.examples if examples is None else examples

    def _objective(self, examples: Sequence[Example]) -> Objective:
        """What the task's examples show, or what retain examples must not lose."""
        retained, readout = {e.id for e in self.retain}, self.task.readout
        kept = bool(examples) and all(e.id in retained for e in examples)
        return partial(readout.retain_objective if kept else readout.objective, self.task.verdict)

    def _judged(self, edits: Edits) -> Judged:
        return judge(self.subject, self.task, self.examples, edits, floor=self._floor)

    @cached_property
    def _rejudged(self) -> Rejudged:
        return Rejudged(self.subject, self.task, self.examples, self._floor, often=self._of is not None)

    @cached_property
    def _rejudged_retain(self) -> Rejudged:
        return Rejudged(self.subject, self.task, self.retain, often=self._of is not None)

    @cached_property
    def _base(self) -> Judged:
        of, places = self._of, _places(self.examples, self._of.examples if self._of else ())
        return of._base.part(places) if of and places else self._judged({})

    @cached_property
    def _shown(self) -> Tensor:
        """(examples,) bool: those that show the behavior undefended."""
        of, places = self._of, _places(self.examples, self._of.examples if self._of else ())
        return of._shown[places] if of and places else eligible(self.subject, self.task, self.examples, self._base)

    @cached_property
    def _retention(self) -> Retention:
        of, places = self._of, _places(self.retain, self._of.retain if self._of else ())
        base = of._retention.base.part(places) if of and places else None
        return Retention(self.subject, self.task, self.retain, base)

    @cached_property
    def _saturation(self) -> Tensor:
        return saturation(self.subject, self.task, self.examples)

    def _group(self, edits: Edits) -> Group:
        placed = by_boundary(self.subject, edits)
        return Group(
            subject=self.subject,
            task=self.task,
            fitted=FittedDefense(edits),
            edits=placed,
            sites=tuple(sorted(placed)) or (self.site.boundary,),
            examples=self.examples,
            base=self._base,
            defended=self._judged(edits),
            eligible=self._shown,
            saturation=self._saturation,
            scale=self._measured_scale,
            perturbed=self._perturbed,
            suffix_tokens=self._suffix_tokens,
            tail=False,  # it would keep what the edits did when it was made, and their parameters move
            tau=torch.inf,
        )

    @cached_property
    def _measured_scale(self) -> Scale:
        if self._scale is not None:
            return self._scale
        norms = residual_norms(self.subject, self.task, self.examples)
        return Scale(norms, embedding_norm(self.subject, self.task, self.examples))


def _places(some: Sequence[Example], of: Sequence[Example]) -> list[int] | None:
    """Where some examples stand among others; None: not all of them do."""
    there = {example.id: place for place, example in enumerate(of)}
    same = all(e.id in there and of[there[e.id]] is e for e in some)
    return [there[e.id] for e in some] if same else None
