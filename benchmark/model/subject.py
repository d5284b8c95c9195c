"""The model under test: a frozen Hugging Face causal language model, and where its parts are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UsageError
from benchmark.model.identity import as_prompted, identity_in_memory, identity_of_folder
from benchmark.model.loading import check_files, read_model, read_tokenizer
from benchmark.model.precision import HALF, logits, representable, widened
from benchmark.model.prompts import adds_bos, set_bos
from benchmark.model.sources import Fetched, Tell, fetched
from benchmark.sites import Site
from benchmark.terminal import terminal

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
    saes: Mapping[str, str] = field(default_factory=dict)
    """Hook name -> local folder or ``release/sae_id``; what a defense may ask for by site."""
    taken: Fetched | None = None
    """Where the model was read from; None: it was made in memory."""
    own_bos: bool = True
    """Whether the tokenizer's own BOS policy is used, and not one that a suite asked for."""

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

    @cached_property
    def parts(self) -> tuple[nn.Module, ...]:
        """Every module of the model."""
        return tuple(self.model.modules())

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @cached_property
    def d_model(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[1])

    @cached_property
    def plain_ids(self) -> frozenset[int]:
        """Token ids of BOS and padding, with which a text may begin."""
        ids = (self.tokenizer.bos_token_id, self.tokenizer.pad_token_id)
        return frozenset(i for i in ids if i is not None)

    @cached_property
    def bos(self) -> bool:
        """Whether prompts begin with BOS."""
        return adds_bos(self.tokenizer)

    @cached_property
    def weights_sha(self) -> str:
        """Hash of everything that makes it this model: weights as they are stored, whatever dtype they are used in,
        configuration, tokenizer, what its chat template renders, and a BOS policy that is not the tokenizer's own."""
        if self.taken is not None:
            held = identity_of_folder(self.taken.folder)
        else:
            held = identity_in_memory(self.model, self.tokenizer)
        return as_prompted(held, self.tokenizer, None if self.own_bos else self.bos)

    def reading(self, saes: Mapping[str, str]) -> Subject:
        """The same model with other SAEs."""
        return replace(self, saes=saes)

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
        """Logits of a few tokens: ``hidden`` (rows, d_model) after the final norm, ``tokens`` (rows, choices).

        Of a model in half precision they are fp32, and so are those of all tokens.
        """
        head = self.model.get_output_embeddings()
        found = torch.einsum("rd,rcd->rc", widened(representable(hidden)), widened(head.weight[tokens]))
        if getattr(head, "bias", None) is not None:
            found = found + widened(head.bias[tokens])
        return self._capped(found)

    def unembed_all(self, hidden: Tensor) -> Tensor:
        """Logits of all tokens: ``hidden`` (..., d_model) after the final norm -> (..., vocabulary)."""
        head = self.model.get_output_embeddings()
        return self._capped(logits(head, hidden) if head.weight.dtype in HALF else head(hidden))

    def _capped(self, logits: Tensor) -> Tensor:
        cap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)


def load(
    source: str | Path,
    *,
    name: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    saes: Mapping[str, str] | None = None,
    bos: bool | None = None,
    tell: Tell | None = None,
) -> Subject:
    """Load a causal language model from any source (``benchmark.model.sources``).

    Args:
        bos: whether every prompt begins with BOS; None: as the tokenizer does by itself.
        tell: gets what had to be done for it, line by line; None: it is written to the terminal.

    Raises:
        UsageError: unknown dtype, no such source, unusable device, or a tokenizer without a BOS where one is asked for.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)}")
    target = pick_device(device)
    taken = fetched(str(source), tell or terminal(stderr=True).print)
    check_files(taken.folder)
    tokenizer = read_tokenizer(taken.folder)
    own = bos is None or bos == adds_bos(tokenizer)
    if not own:
        set_bos(tokenizer, bool(bos))
    model = moved(read_model(taken.folder, DTYPES[dtype]), target)
    return Subject(model, tokenizer, name or Path(source).name, dict(saes or {}), taken, own)


def moved(model: Any, target: torch.device) -> Any:
    """The model on a device.

    Raises:
        UsageError: the device takes no model, or none of its dtype.
    """
    try:
        return model.to(target)
    except torch.OutOfMemoryError as error:
        raise UsageError(f"the model does not fit into the memory of {target}; use --device cpu") from error
    except (RuntimeError, TypeError, NotImplementedError, AssertionError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"the model cannot be moved to {target}: {told}; use --device cpu") from error


def pick_device(device: str) -> torch.device:
    """``auto`` is the first CUDA device, else the CPU.

    Raises:
        UsageError: a device that torch cannot use here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"unknown device {device!r}; {_devices()}") from error
    if chosen.type not in _usable():
        why = (
            f"torch sees no {chosen.type.upper()} device here"
            if chosen.type in ("cuda", "mps")
            else "no model runs on it"
        )
        raise UsageError(f"device {device!r} was asked for, but {why}; {_devices()}")
    if chosen.index is not None and chosen.index >= _usable()[chosen.type]:
        raise UsageError(
            f"device {device!r} was asked for, but there are {_usable()[chosen.type]} of them; {_devices()}"
        )
    return chosen


def _usable() -> dict[str, int]:
    """Kind of device -> how many there are."""
    found = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    found["mps"] = int(torch.backends.mps.is_available())
    return {kind: number for kind, number in found.items() if number}


def _devices() -> str:
    numbered = [f"{kind}:{i}" for kind, number in _usable().items() if kind != "cpu" for i in range(number)]
    return f"there are: auto, {', '.join([*_usable(), *numbered])}"
