"""Edits of the residual stream, and the only way in which a model is changed.

An edit is a function ``(h, where) -> h'`` of the stream at one site. ``edited`` installs edits on the live model
for the time of a ``with`` block; the passes of the engine apply the very same ``Passage`` at every boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmark.contracts.defense import Edit, Where
from benchmark.errors import BenchError, UsageError
from benchmark.model.precision import wide_logits, widened
from benchmark.model.subject import Subject
from benchmark.sealed import sealed
from benchmark.sites import Site


def is_position_wise(edit: Edit) -> bool:
    """Whether the edit promises to treat every position alone."""
    return bool(getattr(edit, "position_wise", False))


class Placed:
    """An edit at its site, held to what an edit promises whenever it is called."""

    def __init__(self, subject: Subject, site: Site, edit: Edit, *, counting: bool = False) -> None:
        """``counting``: positions that come out not finite are counted."""
        self.subject, self.site, self.edit, self.counting = subject, site, edit, counting
        self.spoiled = 0
        """Positions at which a finite stream came out not finite, where they are counted."""

    @property
    def position_wise(self) -> bool:
        return is_position_wise(self.edit)

    def __call__(self, h: Tensor, where: Where, /) -> Tensor:
        hooks = RemovableHandle.next_id
        with sealed(f"the edit at {self.site}"):
            changed = self.edit(h, where)
        self._check(h, changed)
        if RemovableHandle.next_id != hooks:
            refuse_strangers(self.subject, f"the edit at {self.site} left")
        if self.counting:
            self.spoiled += int((~changed.isfinite() & h.isfinite()).any(-1).sum())
        return changed

    def _check(self, h: Tensor, changed: Any) -> None:
        promised = f"a tensor {tuple(h.shape)} of {h.dtype} on {h.device}, as the stream is"
        returned = type(changed).__name__
        if isinstance(changed, Tensor):
            if (changed.shape, changed.dtype, changed.device) == (h.shape, h.dtype, h.device):
                return
            returned = f"a tensor {tuple(changed.shape)} of {changed.dtype} on {changed.device}"
        name = getattr(self.edit, "__qualname__", type(self.edit).__qualname__)
        raise UsageError(f"the edit {name} at {self.site} returned {returned}; return what it promises: {promised}")


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where a module keeps its hooks, each a dictionary."""
_ENGINE = __name__.partition(".")[0]


def refuse_strangers(subject: Subject, who: str) -> None:
    """Nothing, if the only hooks on the model are the engine's.

    Raises:
        BenchError: there is another one; ``who`` begins the sentence.
    """
    for module in subject.parts:
        for kind in HOOKS:
            for hook in vars(module)[kind].values():
                if getattr(hook, "__module__", "").partition(".")[0] != _ENGINE:
                    raise BenchError(
                        f"{who} a hook on {_name_of(subject, module)} ({type(module).__name__}): a model is changed by"
                        " the edits that a defense declares, and by nothing else"
                    )


def _name_of(subject: Subject, module: nn.Module) -> str:
    return next((name or "the model" for name, part in subject.model.named_modules() if part is module), "a module")


def by_boundary(subject: Subject, edits: Mapping[Site, Edit]) -> dict[int, Edit]:
    """Edits keyed by the boundary between layers, every site checked.

    Raises:
        UsageError: no mapping from sites to edits, a site that the model does not have, or two sites that are the same
            place.
    """
    if not isinstance(edits, Mapping):
        raise UsageError(f"the edits are a {type(edits).__name__}; give a mapping: {{Site: edit}}")
    placed: dict[int, Edit] = {}
    for site, edit in edits.items():
        if not isinstance(site, Site):
            raise UsageError(f"an edit is placed at {site!r}, a {type(site).__name__}; give a Site: Site.parse(NAME)")
        if not callable(edit):
            raise UsageError(f"the edit at {site} is a {type(edit).__name__}; give a function of (h, where)")
        boundary = subject.check(site).boundary
        if boundary in placed:
            raise UsageError(f"{site} and another edited site are the same place in the stream; give one edit for both")
        placed[boundary] = edit if isinstance(edit, Placed) else Placed(subject, site, edit)
    return placed


@dataclass
class Passage:
    """Everything that happens at the boundaries of one forward pass: writes of an attacker, edits, observations."""

    edits: Mapping[int, Edit]
    writes: Mapping[int, Tensor] = field(default_factory=dict)
    """Boundary -> perturbation (rows, perturbed, d_model), at the columns from ``start`` on."""
    start: int = 0
    """Absolute position of the first perturbed column."""
    write_after: bool = False
    """Write after the edit of the same site, else before it."""
    observe: frozenset[int] = frozenset()
    seen: dict[int, Tensor] = field(default_factory=dict)
    """Boundary -> the stream as the rest of the model gets it, for the boundaries in ``observe``; before it is rounded
    to half precision, so that a difference of two of these is what was written, and no rounding."""

    def touches(self, boundary: int) -> bool:
        return boundary in self.edits or boundary in self.writes or boundary in self.observe

    def __call__(self, boundary: int, h: Tensor, where: Where, *, edited: bool = False) -> Tensor:
        """Apply what belongs to ``boundary``; ``edited`` says that ``h`` already went through its edit.

        All of it is fp32 at least, and rounded to the dtype of ``h`` behind all of it: a perturbation of a few percent
        that was rounded beside the stream before the edit sees it would be another one, outside its constraint.
        """
        wide = widened(h)
        if not self.write_after:
            wide = self._write(boundary, wide, where)
        if boundary in self.edits and not edited:
            wide = self.edits[boundary](wide, where)
        if self.write_after:
            wide = self._write(boundary, wide, where)
        if boundary in self.observe:
            self.seen[boundary] = wide
        return wide.to(h.dtype)

    def _write(self, boundary: int, h: Tensor, where: Where) -> Tensor:
        delta = self.writes.get(boundary)
        if delta is None:
            return h
        before = self.start - int(where.index[0])
        # under a key/value cache only some of the perturbed columns come by, or none
        delta = delta[:, max(-before, 0) : max(h.shape[1] - before, 0)]
        if delta.shape[1] == 0:
            return h
        before = max(before, 0)
        padded = torch.nn.functional.pad(delta, (0, 0, before, h.shape[1] - before - delta.shape[1]))
        return (h + padded).to(h.dtype)  # the sum is taken in the wider of the two dtypes


@contextmanager
def boundaries(subject: Subject, wanted: Callable[[int], bool], act: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Call ``act(boundary, h)`` at every wanted boundary of each forward pass and continue with what it returns."""
    handles = []
    try:
        for b in filter(wanted, range(subject.n_layers)):
            hook = _input_hook(b, act)
            handles.append(subject.layers[b].register_forward_pre_hook(hook, with_kwargs=True))
        if wanted(subject.n_layers):
            handles.append(subject.layers[-1].register_forward_hook(_output_hook(subject.n_layers, act)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Reached(Exception):
    """The layers that were asked for have run."""


@contextmanager
def up_to(subject: Subject, boundary: int) -> Iterator[None]:
    """Let the forward pass inside the block end at ``boundary``: no layer above it runs, and it returns nothing.

    What happens at the boundary itself happens where it was installed before.
    """

    def stop(_module: Any, _args: tuple[Any, ...]) -> None:
        raise _Reached

    handle = subject.layers[boundary].register_forward_pre_hook(stop) if boundary < subject.n_layers else None
    try:
        yield
    except _Reached:
        pass
    finally:
        if handle is not None:
            handle.remove()


def _input_hook(boundary: int, act: Callable[[int, Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (act(boundary, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": act(boundary, kwargs["hidden_states"])}

    return hook


def _output_hook(boundary: int, act: Callable[[int, Tensor], Tensor]) -> Callable[..., Any]:
    def hook(_module: Any, _args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (act(boundary, output[0]), *output[1:])
        return act(boundary, output)

    return hook


@contextmanager
def passing(subject: Subject, passage: Passage, generated_from: int | None = None) -> Iterator[Passage]:
    """Make every forward pass inside the block go through ``passage``.

    Positions from ``generated_from`` on count as generated; by default those behind a key/value cache do. Positions are
    absolute: under a key/value cache they continue from the cache's length, so that what belongs to a
    generated position acts at that position. Everything is undone at the end, also after an exception.

    Raises:
        BenchError: there is a hook on the model already.
    """
    state: dict[str, Where] = {}
    refuse_strangers(subject, "before a pass there is")

    def start_pass(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state["where"] = _where(subject, args, kwargs, generated_from)

    handle = subject.model.register_forward_pre_hook(start_pass, with_kwargs=True)
    try:
        with (
            boundaries(subject, passage.touches, lambda b, h: passage(b, h, state["where"])),
            wide_logits(subject.model.get_output_embeddings()),
        ):
            yield passage
    finally:
        handle.remove()


@contextmanager
def edited(subject: Subject, edits: Mapping[Site, Edit]) -> Iterator[Any]:
    """The live defended model: every forward pass inside the block, generation included, meets the edits.

    Yields:
        The Hugging Face model itself.

    Raises:
        UsageError: before anything is changed, if a site does not exist or is named twice.
    """
    with passing(subject, Passage(by_boundary(subject, edits))):
        yield subject.model


def _where(subject: Subject, args: tuple[Any, ...], kwargs: dict[str, Any], generated_from: int | None) -> Where:
    ids = args[0] if args else kwargs.get("input_ids")
    rows = ids if ids is not None else kwargs["inputs_embeds"][..., 0]
    mask = kwargs.get("attention_mask")
    cache = kwargs.get("past_key_values")
    past = int(cache.get_seq_length()) if cache is not None else 0
    special = torch.zeros(rows.shape[:2], dtype=torch.bool, device=rows.device)
    if ids is not None and past == 0:
        special = is_special(subject, ids, mask if mask is not None and mask.shape == ids.shape else None)
    elif past == 0:
        special[:, 0] = True
    index = torch.arange(past, past + rows.shape[1], device=rows.device)
    start = generated_from if generated_from is not None else 0 if past > 0 else past + rows.shape[1]
    return Where(index, special, (index >= start).expand_as(special))


def is_special(subject: Subject, ids: Tensor, attended: Tensor | None = None) -> Tensor:
    """Which positions no edit, norm or perturbation counts: (rows, position), bool.

    Those are the BOS and padding that a text begins with, and its first position whatever stands there. That one is an
    attention sink: real models keep a residual of a hundred times the usual norm there, which is about no text.

    By place and not by token alone: a BOS further on is text, which somebody typed or the model wrote, and a
    defense that spares the beginning must not spare that.

    Args:
        attended: the attention mask, where it is known what is padding on the left.
    """
    index = torch.arange(ids.shape[1], device=ids.device)
    return untyped(subject, ids, attended) | (index == _first(subject, ids, attended)[:, None])


def untyped(subject: Subject, ids: Tensor, attended: Tensor | None = None) -> Tensor:
    """Which positions are the BOS or padding that a text begins with: (rows, position), bool."""
    plain = torch.zeros_like(ids, dtype=torch.bool) if attended is None else attended == 0
    for token in subject.plain_ids:
        plain = plain | (ids == token)
    return plain.int().cumprod(1).bool()


def _first(subject: Subject, ids: Tensor, attended: Tensor | None) -> Tensor:
    """The position at which each text begins, its BOS if it has one: (rows,)."""
    padding = subject.tokenizer.pad_token_id
    if attended is not None:
        before = attended == 0
    elif padding is None or padding == subject.tokenizer.bos_token_id:
        return torch.zeros(len(ids), dtype=torch.long, device=ids.device)  # one token for both: it is read as BOS
    else:
        before = ids == padding
    return before.int().cumprod(1).sum(1)
