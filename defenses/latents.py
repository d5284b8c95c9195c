"""The latents that a defense acts on, at one site or several: given, or selected on ``fit``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from torch import Tensor

from benchmark.contracts.defense import Fitting
from benchmark.errors import UsageError
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.features import FeatureSet
from benchmark.values import by_content
from defenses.ranges import Latent, Number, Share, Weight
from defenses.selection import Activity, activity, by_effect, by_firing_rate, opposed, top
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


def choose(fitting: Fitting, layers: Sequence[Layer], rule: Rule, *, amplified: bool = False) -> list[Chosen]:
    """Open the SAEs and settle the latents of every layer, all on the same passes of the undefended model.

    Args:
        layers: none is the suite's site for the task.
        amplified: the defense drives latents up, so that those qualify which push against the objective.

    Raises:
        UsageError: a site or SAE that does not exist or fit, or a layer on which no latent qualifies.
    """
    layers = layers or default_layers(fitting)
    dictionaries = open_dictionaries(fitting, layers)
    on_task = activity(fitting, fitting.examples, dictionaries)
    on_rest: Sequence[Activity | None] = [None] * len(layers)
    if fitting.retain:
        on_rest = activity(fitting, fitting.retain, dictionaries)
    found = []
    for layer, dictionary, mine, rest in zip(layers, dictionaries, on_task, on_rest, strict=True):
        latents = layer.latents or _select(rule, mine, rest, amplified, f"{dictionary.source} at {dictionary.site}")
        features = dictionary.features(latents)
        unit = mine.level[list(features.latents)].float().to(fitting.subject.device)
        found.append(Chosen(dictionary, features, unit, mine, rest))
    return found


def _select(rule: Rule, task: Activity, retain: Activity | None, amplified: bool, where: str) -> tuple[int, ...]:
    if amplified:
        # what pushes against a behavior is at work elsewhere too (refusal: on every refused request); the contrast
        # with the retain set decides, not how often a latent fires
        task, retain, rule = opposed(task), retain and opposed(retain), replace(rule, rate_ratio=0.0)
    return top(rule.score(task, retain), rule.count, where)


def default_layers(fitting: Fitting) -> tuple[Layer, ...]:
    """The suite's site for the task, with the suite's SAE there."""
    return (Layer(str(fitting.site)),)


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
