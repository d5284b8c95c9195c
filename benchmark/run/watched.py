"""Things that are to stay as they are: each says what of it changed, and puts it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

_OWN_STATE = frozenset(
    {"__annotations__", "__annotate__", "__annotations_cache__", "__doc__", "__warningregistry__", "__slotnames__"}
)
"""Names that Python itself sets later, and that nothing is decided by."""
_ABSENT: Any = object()


class Change(NamedTuple):
    """Something that is no longer what it was, and how to put it back."""

    what: str
    restore: Callable[[], Any]


class Names:
    """The attributes of a class, a module or an object, by identity; of functions their code too."""

    def __init__(self, where: str, owner: Any, *, grows: Callable[[str, Any], bool] | None = None) -> None:
        """``grows``: which names may come up later by themselves; None: none."""
        self.where, self.owner, self._grows = where, owner, grows
        self.held = {name: (value, _inner(value)) for name, value in vars(owner).items()}

    def changes(self) -> Iterator[Change]:
        now = vars(self.owner)
        for name, (value, inner) in self.held.items():
            if (name in now and now[name] is value and (inner is None or _inner(value) == inner)) or _of_itself(name):
                continue
            yield Change(f"{self.where}: {name}", lambda n=name, v=value, i=inner: self._put(n, v, i))
        if len(now) != len(self.held):
            for name in [n for n in now if n not in self.held and not _of_itself(n)]:
                if self._grows is None or not self._grows(name, now[name]):
                    yield Change(f"{self.where}: {name} (new)", lambda n=name: self._drop(n))

    def _put(self, name: str, value: Any, inner: Any) -> None:
        if inner is not None:
            value.__code__, value.__defaults__, value.__kwdefaults__ = inner
        if isinstance(self.owner, type):
            setattr(self.owner, name, value)
        else:
            vars(self.owner)[name] = value

    def _drop(self, name: str) -> None:
        delattr(self.owner, name) if isinstance(self.owner, type) else vars(self.owner).pop(name)


def _inner(value: Any) -> Any:
    return (value.__code__, value.__defaults__, value.__kwdefaults__) if type(value) is FunctionType else None


class Entries:
    """What a dictionary holds, by identity."""

    def __init__(self, where: str, owner: dict[Any, Any], *, grows: bool = False) -> None:
        self.where, self.owner, self.grows, self.held = where, owner, grows, dict(owner)

    def changes(self) -> Iterator[Change]:
        same = all(self.owner.get(key, _ABSENT) is value for key, value in self.held.items())
        if not same or (len(self.owner) != len(self.held) and not self.grows):
            yield Change(self.where, self._restore)

    def _restore(self) -> None:
        added = {k: v for k, v in self.owner.items() if k not in self.held} if self.grows else {}
        self.owner.clear()
        self.owner.update({**self.held, **added})


@dataclass(frozen=True)
class Value:
    """Something that is read and compared whole."""

    where: str
    read: Callable[[], Any]
    held: Any
    write: Callable[[Any], Any]

    def changes(self) -> Iterator[Change]:
        if self.read() != self.held:
            yield Change(self.where, lambda: self.write(self.held))


class Weights:
    """Parameters and buffers: an exact checksum of each on its device, and a copy on the host to put it back."""

    def __init__(self, model: Any) -> None:
        named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
        self.live: dict[str, Tensor] = {name: tensor for name, tensor in named}
        self.held = self._prints()
        self.copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.live.items()}
        self.learns = {name: tensor.requires_grad for name, tensor in self.live.items()}

    def _prints(self) -> list[Any]:
        prints = [checksum(tensor) for tensor in self.live.values()]
        return torch.stack(prints).tolist() if prints else []

    def changes(self) -> Iterator[Change]:
        for name, before, now in zip(self.live, self.held, self._prints(), strict=True):
            if before != now:
                yield Change(f"the weights {name}", lambda n=name: self._restore(n))
        for name, tensor in self.live.items():
            if tensor.requires_grad != self.learns[name] or tensor.grad is not None:
                yield Change(f"the gradient of {name}", lambda t=tensor, n=name: self._still(t, n))

    def _restore(self, name: str) -> None:
        live = self.live[name]
        live.data = self.copies[name].to(live.device, copy=True)

    def _still(self, tensor: Tensor, name: str) -> None:
        tensor.requires_grad_(self.learns[name])
        tensor.grad = None


@torch.no_grad()
def checksum(tensor: Tensor) -> Tensor:
    """Sums of a tensor's bits, weighted by row and by column, as a pair of int64 on its device.

    Exact: no rounding hides a small change, and rows or columns that change places change it.
    """
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    flat = tensor.contiguous().reshape(-1)
    whole = flat.view(bits) if not flat.is_complex() else torch.view_as_real(flat).reshape(-1).view(torch.int32)
    width = next((w for w in (256, 192, 128, 64, 32) if whole.numel() % w == 0), 1)
    table = whole.view(-1, width)
    return torch.stack([_weighted(table.sum(0, dtype=torch.int64)), _weighted(table.sum(1, dtype=torch.int64))])


def _weighted(sums: Tensor) -> Tensor:
    place = torch.arange(1, len(sums) + 1, device=sums.device)
    return (sums * (place * 0x5851F42D4C957F2D | 1)).sum()


def _of_itself(name: str) -> bool:
    """Whether Python or pydantic sets a name when they first need it, and nothing else is decided by it."""
    return name in _OWN_STATE or name.startswith("__pydantic")
