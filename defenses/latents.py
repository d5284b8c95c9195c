"""The latents that a defense acts on, at one site or several: given, or selected on ``fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from benchmark.contracts.defense import Fitting
from benchmark.contracts.example import Example
from benchmark.errors import UsageError
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.features import FeatureSet
from benchmark.sites import Site
from benchmark.values import by_content
from defenses.ranges import Latent, Number, Share, Weight
from defenses.selection import Activity, activity, by_effect, by_firing_rate, opposed, pooled, top
from defenses.sites import parse_site


@dataclass(frozen=True)
class Layer:
    """One site of a defense; several are live at once."""

    site: str
    """Where it acts, for example ``blocks.4.hook_resid_post``."""
    sae: str | None = None
    """Local folder or ``release/sae_id``; by default the suite's SAE at the site."""
    latents: tuple[Latent, ...] | None = None
    """Given latents; by default they are selected."""

    def __post_init__(self) -> None:
        parse_site(self.site)
        given = self.latents
        if given is not None and not given:
            raise UsageError(f"latents of {self.site} is empty; leave it out to have them selected, or name some")
        if given is not None and len(set(given)) < len(given):
            twice = sorted({i for i in given if given.count(i) > 1})
            raise UsageError(f"latents of {self.site}: {twice[0]} is there twice; leave it out")


@dataclass(frozen=True)
class Rule:
    """How latents are selected where none are given."""

    select: Literal["effect", "firing-rate"] = "effect"
    """effect | firing-rate: by activation x gradient of the task's objective, or by how often a latent fires."""
    count: Number = 12
    """Latents selected a layer."""
    contrast: Weight = 1.0
    """Effect: weight of the effect on the retain set that is held against a latent."""
    rate_ratio: Weight = 1.25
    """Effect: latents that do not fire so many times as often on the task as on the retain set are left alone."""
    highest_retain_rate: Share = 0.01
    """Firing rate: latents that fire on a larger share of retain tokens are left alone."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"{self.count} latents a layer were asked for; `count` must be at least 1")

    def score(self, task: Activity, retain: Activity | None) -> Tensor:
        """Score of every latent (width,); only those above 0 qualify."""
        if self.select == "effect":
            return by_effect(task, retain, self.contrast, self.rate_ratio)
        return by_firing_rate(task, retain, self.highest_retain_rate)


class Chosen(NamedTuple):
    """The latents of one layer, and their natural units."""

    dictionary: Dictionary
    features: FeatureSet
    unit: Tensor
    """(k,): mean positive activation of each latent on ``fit``."""
    task: Activity
    retain: Activity | None

    @property
    def record(self) -> dict[str, object]:
        """Which latents of which SAE, as JSON values."""
        source = by_content(self.dictionary.source)
        return {"site": str(self.features.site), "sae": source, "latents": list(self.features.latents)}


class Measured(NamedTuple):
    """All latents of one layer on some examples: what a rule chooses from."""

    dictionary: Dictionary
    given: tuple[int, ...] | None
    """The layer's own latents, which no rule changes."""
    device: torch.device
    task: Activity
    retain: Activity | None

    def score(self, rule: Rule, *, amplified: bool = False) -> Tensor:
        """(width,): what ``rule`` says of every latent; only those above 0 qualify."""
        if not amplified:
            return rule.score(self.task, self.retain)
        # what pushes against a behavior is at work elsewhere too (refusal: on every refused request); the contrast
        # with the retain set decides, not how often a latent fires
        return replace(rule, rate_ratio=0.0).score(opposed(self.task), self.retain and opposed(self.retain))

    def has(self, count: int) -> bool:
        """Whether so many could be chosen at all."""
        return self.given is not None or count <= self.dictionary.width

    def qualifying(self, rule: Rule, *, amplified: bool = False) -> int:
        """How many latents ``rule`` could choose."""
        return len(self.given) if self.given else int((self.score(rule, amplified=amplified) > 0).sum())

    def chosen(self, rule: Rule, *, amplified: bool = False) -> Chosen:
        """The layer with the latents that it is given, or else with the best that qualify.

        Raises:
            UsageError: none does, or the SAE has not so many.
        """
        where = f"{self.dictionary.source} at {self.dictionary.site}"
        latents = self.given or top(self.score(rule, amplified=amplified), rule.count, where)
        features = self.dictionary.features(latents)
        unit = self.task.level[list(features.latents)].float().to(self.device)
        return Chosen(self.dictionary, features, unit, self.task, self.retain)


def together(parts: Sequence[Measured]) -> Measured:
    """One layer, as if measured on the examples of all ``parts`` at once."""
    retain = [part.retain for part in parts if part.retain is not None]
    return parts[0]._replace(task=pooled([part.task for part in parts]), retain=pooled(retain) if retain else None)


def choose(fitting: Fitting, layers: Sequence[Layer], rule: Rule, *, amplified: bool = False) -> list[Chosen]:
    """Open the SAEs and settle the latents of every layer, all on the same passes of the undefended model.

    Args:
        layers: none is the suite's site for the task.
        amplified: the defense drives latents up, so that those qualify which push against the objective.

    Raises:
        UsageError: a site or SAE that does not exist or fit, or a layer on which no latent qualifies.
    """
    measured = measure(fitting, layers, fitting.examples, fitting.retain)
    return [one.chosen(rule, amplified=amplified) for one in measured]


def measure(
    fitting: Fitting, layers: Sequence[Layer], examples: Sequence[Example], retain: Sequence[Example]
) -> list[Measured]:
    """All latents of every layer on ``examples`` of the task and on ``retain`` ones; one pass serves all layers.

    Raises:
        UsageError: a site or SAE that does not exist or fit.
    """
    layers = layers or default_layers(fitting)
    dictionaries = open_dictionaries(fitting, layers)
    on_task = activity(fitting, examples, dictionaries)
    on_rest: Sequence[Activity | None] = activity(fitting, retain, dictionaries) if retain else [None] * len(layers)
    parts = zip(layers, dictionaries, on_task, on_rest, strict=True)
    return [Measured(d, layer.latents, fitting.subject.device, mine, rest) for layer, d, mine, rest in parts]


def default_layers(fitting: Fitting) -> tuple[Layer, ...]:
    """The suite's site for the task, with the suite's SAE there."""
    return (Layer(str(fitting.site)),)


def suite_saes(layers: Sequence[Layer], site: Site) -> tuple[Site, ...]:
    """Where layers read the suite's SAE, whichever that is; no layers are the one at ``site``.

    Nowhere if one of them names latents by number: these are the latents of one SAE.
    """
    if not layers:
        return (site,)
    read = [layer for layer in layers if layer.sae is None]
    return () if any(layer.latents for layer in read) else tuple(parse_site(layer.site) for layer in read)


def open_dictionaries(fitting: Fitting, layers: Sequence[Layer]) -> list[Dictionary]:
    """The SAE of every layer.

    Raises:
        UsageError: a site or SAE that does not exist or fit, or two layers at one place of the stream.
    """
    found = [fitting.sae(parse_site(layer.site), layer.sae) for layer in layers]
    if len({d.site.boundary for d in found}) < len(found):
        sites = ", ".join(layer.site for layer in layers)
        raise UsageError(f"two of the layers {sites} are the same place in the stream; give one layer for both")
    return found
