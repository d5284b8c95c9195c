"""Steer along SAE decoder rows: what lm-eval's ``steered`` model does with a CSV, with all of its rows kept.

    lm-eval (0.4.13, lm_eval/models/hf_steered.py), one row a feature, at the output of the module ``hookpoint``:
        add     h + coefficient * W_dec[i]
        clamp   h + u (coefficient - u . (h - b_dec)),   u = W_dec[i] / |W_dec[i]|

Its "clamp" sets the projection of the stream onto a decoder row; no latent's activation is looked at, so it is called
``clamp_projection`` here and is not what ``sae-clamp`` does. Of several rows of one hookpoint lm-eval keeps the last;
here additions add up, and clamped projections hold at once (the smallest change that sets them all), after the
additions. lm-eval refuses every ``add`` of a CSV, for it passes the SAE's b_dec on, which an addition must not have;
it never reads the column ``head_index``; and it steers BOS too, which ``positions: all`` does here.

The control steers along random latents of equal activity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from benchmark.contracts.defense import Defense, FittedDefense, Fitting
from benchmark.errors import UsageError
from benchmark.registry import register_defense
from benchmark.sae.dictionary import Dictionary
from benchmark.sae.features import FeatureSet
from benchmark.values import by_content
from defenses.latents import Layer, Rule, choose, open_dictionaries
from defenses.ranges import Latent
from defenses.schedule import Positions, Schedule, Scheduled
from defenses.sites import parse_site
from defenses.stand_ins import StandIns
from defenses.steering_csv import SUFFIX, read_features

Coefficient = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Steered:
    """One feature that is steered along."""

    site: str
    """Where, for example ``blocks.4.hook_resid_post``."""
    latent: Latent
    """Whose decoder row it is."""
    coefficient: Coefficient
    """add: multiple of the decoder row; clamp_projection: the projection onto it, in units of the stream."""
    action: Literal["add", "clamp_projection"] = "add"
    """add | clamp_projection."""
    sae: str | None = None
    """As everywhere; by default the suite's SAE at the site."""

    def __post_init__(self) -> None:
        parse_site(self.site)


@register_defense("steering")
@dataclass(frozen=True)
class Steering(Defense):
    """Add decoder rows to the stream, or set its projections onto them."""

    reads: ClassVar[tuple[str, ...]] = (SUFFIX,)

    features: tuple[Steered, ...] = ()
    """What is steered along; a CSV of lm-eval's ``steered`` model is read as such a list."""
    positions: Positions = "skip_special"
    """skip_special | all: whether BOS and padding are spared; lm-eval spares nothing."""
    schedule: str = "always"
    """always | prompt | generated | every:n."""

    def __post_init__(self) -> None:
        Schedule.parse(self.schedule)
        places = [(one.site, one.latent, one.action) for one in self.features]
        twice = [place for place in places if places.count(place) > 1]
        if twice:
            site, latent, action = twice[0]
            raise UsageError(f"latent {latent} at {site} is there twice with {action}; give one coefficient for both")

    @classmethod
    def read_settings(cls, path: Path) -> dict[str, Any]:
        return {"features": read_features(path)}

    def fit(self, fitting: Fitting) -> FittedDefense:
        layers = self.layers
        opened = zip(open_dictionaries(fitting, layers), layers, strict=True)
        return self.build(fitting, [(one, one.features(layer.latents)) for one, layer in opened])

    def control(self) -> Defense:
        return RandomSteering(self)

    @property
    def layers(self) -> list[Layer]:
        """The sites with their latents, each once and in the order of ``features``.

        Raises:
            UsageError: there is no feature, or a site has two SAEs.
        """
        if not self.features:
            raise UsageError("steering has no feature; name some in `features`, or give lm-eval's CSV as the defense")
        found = []
        for site, mine in self._by_site().items():
            if len({one.sae for one in mine}) > 1:
                raise UsageError(f"the features at {site} are of two SAEs; name one SAE there")
            found.append(Layer(site, mine[0].sae, tuple(dict.fromkeys(one.latent for one in mine))))
        return found

    def build(self, fitting: Fitting, opened: Sequence[tuple[Dictionary, FeatureSet]]) -> FittedDefense:
        """The defense along the rows of the feature sets, one a layer, which may be others than the layers name."""
        wanted = zip(self._by_site().values(), opened, strict=True)
        changes = {features.site: _change(mine, dictionary, features) for mine, (dictionary, features) in wanted}
        schedule = Schedule.parse(self.schedule)
        edits = {site: Scheduled(change, schedule, self.positions) for site, change in changes.items()}
        layers = [{"site": str(f.site), "sae": by_content(d.source), "latents": list(f.latents)} for d, f in opened]
        record = {"layers": layers, "steered": len(self.features), **fitting.outcome(edits).record}
        return FittedDefense(edits, tuple(features for _, features in opened), record=record)

    def _by_site(self) -> dict[str, list[Steered]]:
        found: dict[str, list[Steered]] = {}
        for one in self.features:
            found.setdefault(one.site, []).append(one)
        return found


@register_defense("random-steering")
@dataclass(frozen=True)
class RandomSteering(Defense):
    """Control: ``steering`` along random latents that carry as much activation on ``fit`` (METHOD section 8)."""

    steering: Steering = Steering()
    """Whose latents are exchanged; coefficients and actions stay."""
    stand_ins: StandIns = StandIns()
    """How the random latents are drawn."""

    def fit(self, fitting: Fitting) -> FittedDefense:
        chosen = [self.stand_ins.of(layer) for layer in choose(fitting, self.steering.layers, Rule())]
        return self.steering.build(fitting, [(one.dictionary, one.features) for one in chosen])


@dataclass(frozen=True, eq=False)
class Change:
    """What is done to single positions of one site."""

    added: Tensor
    """(d_model,)."""
    directions: Tensor
    """(clamped, d_model), of length 1."""
    levels: Tensor
    """(clamped,): projections of the stream that are set, b_dec's own included."""
    back: Tensor
    """(d_model, clamped): the smallest change of the stream that moves each projection by 1 and no other."""

    def __call__(self, h: Tensor) -> Tensor:
        """(..., d_model) -> the same shape, fp32."""
        moved = h + self.added
        missing = self.levels - moved @ self.directions.T
        return moved + missing @ self.back.T


def _change(steered: Sequence[Steered], dictionary: Dictionary, features: FeatureSet) -> Change:
    """What the features of a site do together; the n-th latent that they name is the n-th of ``features``."""
    place = {latent: n for n, latent in enumerate(dict.fromkeys(one.latent for one in steered))}
    rows = features.decoder.float()
    coefficients = torch.zeros(len(place), device=rows.device)
    for one in steered:
        if one.action == "add":
            coefficients[place[one.latent]] = one.coefficient
    clamped = [one for one in steered if one.action != "add"]
    unit = torch.nn.functional.normalize(rows[[place[one.latent] for one in clamped]], dim=-1)
    bias = dictionary.decode(torch.zeros(dictionary.width, device=rows.device))
    levels = torch.tensor([one.coefficient for one in clamped], device=rows.device)
    return Change(coefficients @ rows, unit, levels + unit @ bias, torch.linalg.pinv(unit))
