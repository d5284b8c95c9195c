"""SAEs on disk or in the sae_lens registry, opened, checked against the model, and read latent by latent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.model.loading import check_readable
from benchmark.model.subject import Subject
from benchmark.sae.features import FeatureSet, InputScaling
from benchmark.sites import Site

_POINTWISE = ("standard", "jumprelu", "gated")
_JOINT = ("topk",)
WEIGHTS = "sae_weights.safetensors"
_VECTORS = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "b_mag", "r_mag"),
}
"""Architecture -> its tensors of one number a latent, beside encoder, decoder and decoder bias."""
_SCALINGS = ("none", "layer_norm", "constant_norm_rescale")
_SAME_MODEL = {"gpt2-small": "gpt2", "gpt2": "gpt2"}


@dataclass(frozen=True, eq=False)
class Dictionary:
    """An SAE whose fit to the model has been checked."""

    site: Site
    source: str
    config: Mapping[str, Any]
    device: torch.device
    folder: Path | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """In memory, for SAEs that do not come as a folder in sae_lens format."""

    @property
    def width(self) -> int:
        return int(self.config["d_sae"])

    def features(self, latents: Sequence[int] | None = None) -> FeatureSet:
        """The given latents, or all of them.

        Raises:
            UsageError: no latent, one that does not exist or is given twice, or a file that is damaged.
        """
        index = list(range(self.width)) if latents is None else [int(i) for i in latents]
        bad = sorted({i for i in index if not 0 <= i < self.width})
        if not index or bad or len(set(index)) != len(index):
            why = "no latent is given for" if not index else "a latent is given twice for"
            why = f"latents {bad} do not exist in" if bad else why
            raise UsageError(f"{why} the SAE {self.source}, which has latents 0 to {self.width - 1}; name one of those")
        if latents is not None and self.config["architecture"] in _JOINT:
            return self.everything.subset(index)
        encoder, decoder = self._read("W_enc", index, 1), self._read("W_dec", index, 0)
        shift = (
            self._read("b_dec") if self.config.get("apply_b_dec_to_input", True) else torch.zeros(1, device=self.device)
        )
        offset = (shift.expand(encoder.shape[0])) @ encoder
        return FeatureSet(
            self.site, tuple(index), encoder, decoder=decoder, scaling=self.scaling, **self._nonlinearity(index, offset)
        )

    @cached_property
    def everything(self) -> FeatureSet:
        """All latents, read once."""
        return self.features()

    @cached_property
    def _bias(self) -> Tensor:
        return self._read("b_dec")

    def decode(self, activations: Tensor) -> Tensor:
        """Reconstruction of the (scaled) stream from all activations (..., width)."""
        return activations @ self.everything.decoder + self._bias

    @property
    def scaling(self) -> InputScaling:
        meta = self.config.get("metadata", {})
        centred = bool((meta.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights", False))
        return InputScaling(centred, self.config.get("normalize_activations", "none"))

    def _nonlinearity(self, index: list[int], offset: Tensor) -> dict[str, Any]:
        architecture = self.config["architecture"]
        zero = torch.zeros(len(index), device=self.device)
        if architecture == "gated":
            magnitude = (self._read("r_mag", index).exp(), self._read("b_mag", index))
            # the magnitude path sees the shifted input too: (x - b_dec) W gain + b_mag
            magnitude = (magnitude[0], magnitude[1] - offset * magnitude[0])
            return {"bias": self._read("b_gate", index) - offset, "threshold": zero, "magnitude": magnitude}
        bias = self._read("b_enc", index) - offset
        if architecture == "topk":
            return {"bias": bias, "threshold": zero, "winners": int(self.config["k"])}
        threshold = self._read("threshold", index) if architecture == "jumprelu" else zero
        # jumprelu is relu(u) * (u > threshold): a negative threshold still leaves nothing below 0
        return {"bias": bias, "threshold": threshold.clamp(min=0)}

    def _read(self, name: str, index: list[int] | None = None, axis: int = 0) -> Tensor:
        """A tensor in fp32, or its entries ``index`` along ``axis``."""
        if self.folder is None:
            tensor = self.tensors[name]
            tensor = tensor if index is None else tensor.index_select(axis, torch.tensor(index, device=tensor.device))
        else:
            tensor = _read_slices(self.folder / WEIGHTS, name, index, axis)
        found = tensor.detach().to(self.device, torch.float32)
        if not bool(torch.isfinite(found).all()):
            raise UsageError(f"the SAE {self.source} holds NaN or infinity in {name}; give sound weights")
        return found

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor that is there."""
        if self.folder is None:
            return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        file = self.folder / WEIGHTS
        check_readable(file)
        with safe_open(str(file), framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}


def _read_slices(path: Path, name: str, index: list[int] | None, axis: int) -> Tensor:
    try:
        return _slices(path, name, index, axis)
    except SafetensorError as error:
        raise UsageError(f"{path} is damaged or lacks {name}: {error}; save it again") from error


def _slices(path: Path, name: str, index: list[int] | None, axis: int) -> Tensor:
    with safe_open(str(path), framework="pt") as file:
        if index is None:
            return file.get_tensor(name)
        view = file.get_slice(name)
        if len(index) * 8 > view.get_shape()[axis]:
            return file.get_tensor(name).index_select(axis, torch.tensor(index))
        parts = [view[i : i + 1] if axis == 0 else view[:, i : i + 1] for i in index]
        return torch.cat(parts, axis)


def open_dictionary(subject: Subject, site: Site, source: str | None = None) -> Dictionary:
    """The SAE that the suite names for ``site``, or the one at ``source``: a local folder or ``release/sae_id``.

    Raises:
        UsageError: no SAE there, an architecture that is not supported, or an SAE of another model, site or width.
    """
    subject.check(site)
    found = source or subject.saes.get(str(site))
    if found is None:
        known = ", ".join(subject.saes) or "none"
        raise UsageError(f"no SAE is known at {site} of {subject.name}; the suite has SAEs at: {known}. Give `sae:`")
    path = Path(found)
    dictionary = _from_folder(subject, site, path) if path.is_dir() else _from_registry(subject, site, found)
    _check(dictionary, subject)
    return dictionary


def _from_folder(subject: Subject, site: Site, path: Path) -> Dictionary:
    missing = [name for name in ("cfg.json", WEIGHTS) if not (path / name).is_file()]
    if missing:
        raise UsageError(
            f"{path} is not an SAE folder in sae_lens format: {' and '.join(missing)} missing; give another folder"
        )
    return Dictionary(site, str(path), _config(path / "cfg.json"), subject.device, folder=path)


def _config(file: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is not JSON: {error}; copy the SAE again") from error
    if not isinstance(config, dict):
        raise UsageError(f"{file} holds a {type(config).__name__}; give the object that sae_lens writes")
    if "metadata" in config:
        return config
    _sae_lens()
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    return handle_config_defaulting(config)  # written before sae_lens 6: flat, with other names


def _from_registry(subject: Subject, site: Site, source: str) -> Dictionary:
    release, _, sae_id = source.partition("/")
    if not sae_id:
        raise UsageError(f"SAE {source!r}: no such folder; write a folder, or release/sae_id for the sae_lens registry")
    try:
        sae = _sae_lens().from_pretrained(release, sae_id, device=str(subject.device))
    except Exception as error:  # sae_lens raises ValueError, KeyError, OSError and hub errors alike
        raise UsageError(
            f"SAE {source!r} is no local folder, and sae_lens cannot load it: {error}; give a folder, or release/sae_id"
        ) from error
    config = {**sae.cfg.to_dict(), "architecture": sae.cfg.architecture()}
    return Dictionary(site, source, config, subject.device, tensors=sae.state_dict())


def _sae_lens() -> Any:
    try:
        from sae_lens import SAE
    except ImportError as error:
        raise UsageError("this SAE needs sae_lens: pip install 'recoverybench[sae]'") from error
    return SAE


def _check(dictionary: Dictionary, subject: Subject) -> None:
    """Everything that does not fit, in one error."""
    config, meta = dictionary.config, dictionary.config.get("metadata") or {}
    wrong = []
    if config.get("architecture") not in _POINTWISE + _JOINT:
        wrong.append(f"architecture {config.get('architecture')!r} is not one of {', '.join(_POINTWISE + _JOINT)}")
    if config.get("d_in") != subject.d_model:
        wrong.append(f"d_in is {config.get('d_in')}, the model's width is {subject.d_model}")
    hook = meta.get("hook_name")
    if hook is not None and _boundary(hook) != dictionary.site.boundary:
        wrong.append(f"it was trained at {hook}, not at {dictionary.site}")
    model = meta.get("model_name")
    if model is not None and _model_key(model) != _model_key(subject.name):
        wrong.append(f"it was trained on {model!r}, this model is {subject.name!r}")
    if config.get("rescale_acts_by_decoder_norm"):
        wrong.append("its decoder norms are not folded in; fold them (sae.fold_W_dec_norm()) and save it again")
    if config.get("normalize_activations", "none") not in _SCALINGS:
        wrong.append("its activation norm is not folded in; load it with sae_lens, fold it and save it again")
    if config.get("reshape_activations", "none") != "none":
        wrong.append("it reads attention heads (hook_z), not the residual stream")
    if wrong := wrong or list(_misshapen(dictionary)):
        raise UsageError(
            f"the SAE {dictionary.source} does not fit {dictionary.site}; give another `sae` or site: "
            f"{'; '.join(wrong)}"
        )


def _misshapen(dictionary: Dictionary) -> Iterator[str]:
    """What its file says otherwise than its configuration."""
    config, there = dictionary.config, dictionary.shapes()
    architecture, d_in, width = config["architecture"], config["d_in"], config.get("d_sae")
    if not isinstance(width, int) or architecture in _JOINT and not isinstance(config.get("k"), int):
        yield f"its configuration lacks a whole number of latents (d_sae is {width!r}, k is {config.get('k')!r})"
        return
    expected = {"W_enc": (d_in, width), "W_dec": (width, d_in), "b_dec": (d_in,)}
    expected |= {name: (width,) for name in _VECTORS[architecture]}
    for name, shape in expected.items():
        if name not in there:
            yield f"its weights lack {name}"
        elif there[name] != shape:
            yield f"{name} is {there[name]}, its configuration (d_in, d_sae) says {shape}"


def _boundary(hook: str) -> int | None:
    try:
        return Site.parse(hook).boundary
    except ValueError:
        return None


def _model_key(name: str) -> str:
    short = name.lower().rsplit("/", 1)[-1]
    return _SAME_MODEL.get(short, short)
