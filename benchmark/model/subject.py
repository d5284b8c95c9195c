"""The model under test: a frozen Hugging Face causal language model, and where its parts are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UsageError
from benchmark.sites import Site

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class Subject:
    """A frozen model with its tokenizer and the SAEs that a suite names for it.

    Shapes throughout the engine: ``(rows, position, d_model)`` for the residual stream.
    """

    model: Any
    tokenizer: Any
    name: str
    """Name that SAE metadata is compared with, for example ``gpt2-small`` or ``organism``."""
    revision: str = ""
    saes: Mapping[str, str] = field(default_factory=dict)
    """Hook name -> local folder or ``release/sae_id``; what a defense may ask for by site."""
    folder: Path | None = None
    """Where the weights were read from, if that is a local folder."""

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)
        for site in self.saes:
            self.check(Site.parse(site))

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @cached_property
    def layers(self) -> nn.ModuleList:
        """The decoder layers: the only ModuleList whose length is the number of hidden layers."""
        count = self.model.config.get_text_config().num_hidden_layers
        lists = [m for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
        if len(lists) != 1:
            raise UsageError(
                f"{type(self.model).__name__} has {len(lists)} lists of {count} layers; expected exactly one"
            )
        return lists[0]

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @cached_property
    def d_model(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[1])

    @cached_property
    def plain_ids(self) -> frozenset[int]:
        """Token ids of BOS and padding; where a text begins with them, ``skip_special`` never edits."""
        ids = (self.tokenizer.bos_token_id, self.tokenizer.pad_token_id)
        return frozenset(i for i in ids if i is not None)

    @cached_property
    def weights_sha(self) -> str:
        """Hash of the weights as they are stored, whatever dtype they are used in."""
        digest = hashlib.sha256()
        stored = sorted(self.folder.glob("*.safetensors")) if self.folder else []
        for path in stored:
            digest.update(path.read_bytes())
        if stored:
            return digest.hexdigest()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def check(self, site: Site) -> Site:
        """The site itself, if the model has it.

        Raises:
            UsageError: the layer does not exist.
        """
        if not 0 <= site.layer < self.n_layers:
            raise UsageError(
                f"{site} is outside {self.name}, which has {self.n_layers} layers (0 to {self.n_layers - 1})"
            )
        return site

    def unembed(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Logits of a few tokens: ``hidden`` (rows, d_model) after the final norm, ``tokens`` (rows, choices)."""
        head = self.model.get_output_embeddings()
        logits = torch.einsum("rd,rcd->rc", hidden, head.weight[tokens])
        if getattr(head, "bias", None) is not None:
            logits = logits + head.bias[tokens]
        return self._capped(logits)

    def unembed_all(self, hidden: Tensor) -> Tensor:
        """Logits of all tokens: ``hidden`` (..., d_model) after the final norm -> (..., vocabulary)."""
        return self._capped(self.model.get_output_embeddings()(hidden))

    def _capped(self, logits: Tensor) -> Tensor:
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)


def load(
    source: str | Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    saes: Mapping[str, str] | None = None,
) -> Subject:
    """Load a causal language model from a local folder or a hub id.

    Raises:
        UsageError: unknown dtype, no such folder or hub id, unusable device.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)}")
    target = pick_device(device)
    options: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), **options)
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(source), dtype=DTYPES[dtype], use_safetensors=True, **options
        )
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot load a causal language model from {str(source)!r}: {error}; give a folder or hub id of one"
        ) from error
    return Subject(
        model.to(target),
        tokenizer,
        name or Path(source).name,
        revision or "",
        dict(saes or {}),
        Path(source) if Path(source).is_dir() else None,
    )


def pick_device(device: str) -> torch.device:
    """``auto`` is the first CUDA device, else the CPU.

    Raises:
        UsageError: a device that torch cannot use here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {device!r}; write cpu, cuda or cuda:<index>") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r} was asked for, but torch sees no CUDA device; use --device cpu")
    return chosen
