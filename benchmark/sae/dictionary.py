"""SAEs opened, checked against the model, and read latent by latent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.features import FeatureSet, InputScaling
from benchmark.sae.layouts.normal import Sae
from benchmark.sae.source import read_sae
from benchmark.sites import Site

_SAME_MODEL = {"gpt2-small": "gpt2"}
_TUNED = re.compile(r"-(?:it|pt|instruct|base|chat)(?=-|$)")
"""What tells a model from the one that it was tuned from; names alone do not decide between them, its health does."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """An SAE whose fit to the model has been checked."""

    site: Site
    source: str
    sae: Sae
    device: torch.device

    @property
    def width(self) -> int:
        return self.sae.width

    def features(self, latents: Sequence[int] | None = None) -> FeatureSet:
        """The given latents, or all of them.

        Raises:
            UsageError: no latent, or one that does not exist or is given twice.
        """
        index = list(range(self.width)) if latents is None else [int(i) for i in latents]
        bad = sorted({i for i in index if not 0 <= i < self.width})
        if not index or bad or len(set(index)) != len(index):
            why = "no latent is given for" if not index else "a latent is given twice for"
            why = f"latents {bad} do not exist in" if bad else why
            raise UsageError(f"{why} the SAE {self.source}, which has latents 0 to {self.width - 1}; name one of those")
        if latents is not None and self.sae.k is not None:
            return self.everything.subset(index)
        some = None if latents is None else torch.tensor(index)
        encoder = self._part(self.sae.W_enc, some, axis=1)
        shift = self._part(self.sae.b_dec) if self.sae.apply_b_dec_to_input else torch.zeros_like(encoder[:, 0])
        return FeatureSet(
            self.site,
            tuple(index),
            encoder,
            decoder=self._part(self.sae.W_dec, some),
            scaling=self.scaling,
            **self._nonlinearity(some, shift @ encoder),
        )

    @cached_property
    def everything(self) -> FeatureSet:
        """All latents, read once."""
        return self.features()

    @cached_property
    def _bias(self) -> Tensor:
        return self._part(self.sae.b_dec)

    def decode(self, activations: Tensor) -> Tensor:
        """Reconstruction of the (scaled) stream from all activations (..., width)."""
        return activations @ self.everything.decoder + self._bias

    def reconstruction(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """What the SAE sees of the stream ``h`` (..., d_model), and what it makes of it, both in the stream's units."""
        target, scale = h.float(), self.scaling(h)[1]
        mean = target.mean(-1, keepdim=True)
        decoded = self.decode(self.everything.encode(h).act)
        decoded = decoded if scale is None else decoded * scale
        if self.scaling.centred:
            return target - mean, decoded
        return target, decoded + mean if self.scaling.normalize == "layer_norm" else decoded

    @property
    def scaling(self) -> InputScaling:
        return InputScaling(self.sae.centred, self.sae.normalize)

    def _nonlinearity(self, some: Tensor | None, offset: Tensor) -> dict[str, Any]:
        sae = self.sae
        bias = self._part(sae.b_enc, some) - offset
        zero = torch.zeros_like(bias)
        if sae.r_mag is not None and sae.b_mag is not None:
            # the magnitude path sees the shifted input too: (x - b_dec) W gain + b_mag
            gain = self._part(sae.r_mag, some).exp()
            return {"bias": bias, "threshold": zero, "magnitude": (gain, self._part(sae.b_mag, some) - offset * gain)}
        if sae.k is not None:
            return {"bias": bias, "threshold": zero, "winners": sae.k}
        threshold = zero if sae.threshold is None else self._part(sae.threshold, some)
        # jumprelu is relu(u) * (u > threshold): a negative threshold still leaves nothing below 0
        return {"bias": bias, "threshold": threshold.clamp(min=0)}

    def _part(self, tensor: Tensor, some: Tensor | None = None, axis: int = 0) -> Tensor:
        """A tensor of the SAE, or its entries ``some`` along ``axis``; never the SAE's own memory."""
        found = tensor.clone() if some is None else tensor.index_select(axis, some)
        return found.to(self.device)


def open_dictionary(subject: Subject, site: Site, source: str | None = None) -> Dictionary:
    """The SAE that the suite names for ``site``, or the one at ``source`` (see ``benchmark.sae.source``).

    Raises:
        UsageError: no SAE there, one that is not supported or damaged, or one of another model, site or width.
    """
    subject.check(site)
    found = source or subject.saes.get(str(site))
    if found is None:
        known = ", ".join(subject.saes) or "none"
        raise UsageError(f"no SAE is known at {site} of {subject.name}; the suite has SAEs at: {known}. Give `sae:`")
    dictionary = Dictionary(site, found, read_sae(found), subject.device)
    wrong = list(_misfits(dictionary, subject))
    if wrong:
        raise UsageError(f"the SAE {found} does not fit {site}; give another `sae` or site: {'; '.join(wrong)}")
    return dictionary


def _misfits(dictionary: Dictionary, subject: Subject) -> Iterator[str]:
    """Everything of an SAE that does not fit the model or the site."""
    sae, said = dictionary.sae, dictionary.sae.declared
    if sae.d_model != subject.d_model:
        yield f"its latents read a stream of width {sae.d_model}, the model's width is {subject.d_model}"
    if said.hook is not None and _boundary(said.hook) != dictionary.site.boundary:
        yield f"it was trained at {said.hook}, not at {dictionary.site}"
    if said.model is not None and family(said.model) != family(subject.name):
        yield f"it was trained on {said.model!r}, this model is {subject.name!r} (a suite says so by `name:`)"
    if bos := bos_conflict(said.prepend_bos, subject.bos):
        yield bos


def bos_conflict(trained: bool | None, given: bool | None) -> str | None:
    """Why an SAE's texts and the prompts begin differently; None: they do not, or nobody says."""
    if trained is None or given is None or trained == given:
        return None
    if trained:
        return "its training texts began with BOS, and these prompts do not (set `bos: true` for the model)"
    return "its training texts did not begin with BOS, and these prompts do (set `bos: false` for the model)"


def _boundary(hook: str) -> int | None:
    try:
        return Site.parse(hook).boundary
    except ValueError:
        return None


def family(name: str) -> str:
    """A model's name without its owner, and without what tells a chat model from its base."""
    short = name.lower().rsplit("/", 1)[-1].removeprefix("meta-")
    return _TUNED.sub("", _SAME_MODEL.get(short, short))
