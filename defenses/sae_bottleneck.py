"""The stream passes through the dictionary: an SAE's reconstruction replaces it, the error term is dropped.

After "Towards Understanding the Robustness of Sparse Autoencoders" (Saiyed et al. 2026, arXiv 2604.18756), which puts
pretrained SAEs into the residual stream, without touching weights or gradients. What is written before the edit is lost
as far as no latent expresses it. Latents may be clamped on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.registry import register_defense
from benchmark.sites import Site
from benchmark.values import by_content
from defenses.clamp_edit import reconstruct
from defenses.latents import default_layers, open_dictionaries
from defenses.monitors import make_monitor
from defenses.sae_clamp import RandomClamp, SaeClamp
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

    def fit(self, fitting: Fitting) -> FittedDefense:
        fitted = self._clamped(fitting) if self.clamped else self._plain(fitting)
        return replace(fitted, record={**fitted.record, **fitting.outcome(fitted.edits).record})

    def suite_saes(self, site: Site) -> tuple[Site, ...]:
        return self.clamp.suite_saes(site)

    def control(self) -> Defense | None:
        return RandomClamp(replace(self.clamp, monitor="none"), error_term="drop") if self.clamped else None

    def _clamped(self, fitting: Fitting) -> FittedDefense:
        chosen, strength, _ = self.clamp.settle(fitting)
        clamp = replace(self.clamp.on(fitting.task), error_term="drop")
        fitted = clamp.build(chosen, strength, {"error_term": "drop"})
        return replace(fitted, monitor=make_monitor(clamp.monitor, fitting, fitted.edits, chosen))

    def _plain(self, fitting: Fitting) -> FittedDefense:
        schedule = Schedule.parse(self.clamp.schedule)
        dictionaries = open_dictionaries(fitting, self.clamp.layers or default_layers(fitting))
        edits = {
            d.site: Scheduled(partial(reconstruct, dictionary=d), schedule, self.clamp.positions) for d in dictionaries
        }
        saes = [{"site": str(d.site), "sae": by_content(d.source), "latents": []} for d in dictionaries]
        return FittedDefense(edits, record={"layers": saes, "error_term": "drop"})
