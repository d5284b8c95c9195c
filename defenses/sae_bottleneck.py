"""The stream passes through the dictionary: an SAE's reconstruction replaces it, the error term is dropped.

After "Towards Understanding the Robustness of Sparse Autoencoders" (Saiyed et al. 2026, arXiv 2604.18756), which puts
pretrained SAEs into the residual stream, without touching weights or gradients. What is written before the edit is lost
as far as no latent expresses it. Latents may be clamped on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmark.contracts import Defense, Example, FittedDefense, Task
from benchmark.model.subject import Subject
from benchmark.registry import register_defense
from benchmark.spec import fingerprint
from defenses.calibration import Trial
from defenses.clamp_edit import reconstruct
from defenses.latents import Layer, open_dictionaries
from defenses.monitors import make_monitor
from defenses.sae_clamp import SaeClamp, settle
from defenses.schedule import Schedule, Scheduled


@register_defense("sae-bottleneck")
@dataclass(frozen=True)
class SaeBottleneck(Defense):
    """The reconstruction of ``sae-clamp``: same sites, latents and strength, but the error term is dropped."""

    clamp: SaeClamp = SaeClamp()
    """The clamp, settled as if it stood alone, so that the two defenses differ in the error term only. (A clamp that is
    calibrated with its error term dropped is ``sae-clamp`` with ``error_term: drop``.)"""
    clamped: bool = True
    """False: the plain reconstruction at the clamp's sites; no latent is selected, clamped or protected."""

    def fit(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        trial = Trial(subject, task, examples)
        fitted = self._clamped(subject, task, examples) if self.clamped else self._plain(subject, task)
        return replace(fitted, record={**fitted.record, **trial(fitted.edits).record})

    def control(self) -> Defense | None:
        from defenses.random_clamp import RandomClamp  # beside the clamp's own control

        return RandomClamp(replace(self.clamp, monitor="none"), error_term="drop") if self.clamped else None

    def _clamped(self, subject: Subject, task: Task, examples: Sequence[Example]) -> FittedDefense:
        clamp = self.clamp.on(task)
        chosen, strength, _ = settle(replace(clamp, monitor="none"), subject, task, tuple(examples))
        fitted = replace(clamp, error_term="drop").build(chosen, strength, {"error_term": "drop"})
        monitor = make_monitor(self.clamp.monitor, subject, task, examples, fitted.edits, chosen)
        return replace(fitted, monitor=monitor)

    def _plain(self, subject: Subject, task: Task) -> FittedDefense:
        layers = self.clamp.layers or (Layer(subject.default_site(task.name)),)
        schedule = Schedule.parse(self.clamp.schedule)
        dictionaries = open_dictionaries(subject, layers)
        edits = {
            d.site: Scheduled(partial(reconstruct, dictionary=d), schedule, self.clamp.positions) for d in dictionaries
        }
        saes = [{"site": str(d.site), "sae": fingerprint(d.source), "latents": []} for d in dictionaries]
        return FittedDefense(edits, record={"layers": saes, "error_term": "drop"})
