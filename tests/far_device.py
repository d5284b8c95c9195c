"""A device that every machine has: tensors that say they are elsewhere, are computed with as usual, and refuse to be
mixed with those of the CPU, as CUDA's do.

``FarTensor`` holds its numbers in a tensor of the CPU and calls its device ``meta``. Inside ``far_device`` whatever is
made on that device, or moved there, is one; so what forgets a ``.to(device)``, or asks for ``.numpy()`` of what is not
on the CPU, fails as it would on a GPU. What CUDA allows is allowed: tensors without dimensions anywhere, indices of the
CPU, copies. Kernels, streams and rounding of a real device are not shown by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from benchmark.measure import slopes
from benchmark.model.subject import Subject

FAR = torch.device("meta")
_ATEN: Any = torch.ops.aten
_INDICES = (_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN.index_put.default, _ATEN._unsafe_index.Tensor)
"""What takes indices of the CPU for tensors anywhere: its second argument."""
_MOVES = (_ATEN._to_copy.default, _ATEN.copy_.default, _ATEN.to.dtype_layout, _ATEN.to.device)


class MixedDevices(RuntimeError):
    """What CUDA says of an operation over tensors of two devices."""


class FarTensor(Tensor):
    """A tensor that is not on the CPU."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> FarTensor:
        made: Any = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=FAR,
        )
        made.near = near
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"FarTensor({tuple(self.shape)}, {self.dtype})"

    def tolist(self) -> Any:
        return self.near.detach().tolist()

    def numpy(self, **_: Any) -> Any:  # type: ignore[override]
        raise TypeError("a tensor that is not on the CPU has no numpy(); use Tensor.cpu() first")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Elsewhere(TorchDispatchMode):
    """Makes far tensors of what is asked for on the far device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _FromPython(TorchFunctionMode):
    """The same of what is made of Python's numbers, an index too, which no dispatcher sees."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == FAR:
            return FarTensor(func(*args, **{**kwargs, "device": torch.device("cpu")}))
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _index(args[1]), *args[2:])
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [*_tensors(args), *_tensors(kwargs)]
    far = any(isinstance(x, FarTensor) for x in tensors)
    assert not any(x.device == FAR and not isinstance(x, FarTensor) for x in tensors), f"{func}: a tensor without data"
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    if far:
        _refuse_mixed(func, args, kwargs)
    there = far if asked is None else asked == FAR
    near_args, near_kwargs = _mapped(_near, args), _mapped(_near, kwargs)
    if asked is not None:
        near_kwargs["device"] = torch.device("cpu")
    out = func(*near_args, **near_kwargs)
    if not there or (func is _ATEN.copy_.default and not isinstance(args[0], FarTensor)):
        return args[0] if func is _ATEN.copy_.default else out
    out = _mapped(lambda x: x if isinstance(x, FarTensor) else FarTensor(x), out)
    return return_and_correct_aliasing(func, args, kwargs, out) if far else out


def _index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_index(part) for part in index)
    return torch.tensor(index, dtype=None if index else torch.long) if isinstance(index, list) else index


def _near(x: Tensor) -> Tensor:
    return x.near if isinstance(x, FarTensor) else x


def _tensors(x: Any) -> Iterator[Tensor]:
    """Those in arguments or results: torch's own walk over trees takes most of the time of operations so small."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, list | tuple | dict):
        for part in x.values() if isinstance(x, dict) else x:
            yield from _tensors(part)


def _mapped(change: Callable[[Tensor], Tensor], x: Any) -> Any:
    """The same arguments or results with other tensors."""
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, dict):
        return {key: _mapped(change, part) for key, part in x.items()}
    return type(x)(_mapped(change, part) for part in x) if isinstance(x, list | tuple) else x


def _refuse_mixed(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    if func in _MOVES:
        return
    checked = [*args[:1], *args[2:]] if func in _INDICES and isinstance(args[0], FarTensor) else [args, kwargs]
    here = [x for x in _tensors(checked) if not isinstance(x, FarTensor) and x.dim()]
    if here:
        shapes = ", ".join(str(tuple(x.shape)) for x in here)
        raise MixedDevices(f"{func}: expected all tensors to be on the same device, but found {shapes} on the CPU")


@contextmanager
def far_device() -> Iterator[None]:
    """Inside the block ``meta`` is a device that computes."""
    before = slopes._elsewhere  # the modes are those of a thread, and that one asks in another
    slopes._elsewhere = lambda work: before(lambda: _there(work))
    try:
        with _Elsewhere(), _FromPython():
            yield
    finally:
        slopes._elsewhere = before


def _there(work: Callable[[], Any]) -> Any:
    with _Elsewhere(), _FromPython():
        return work()


def moved(subject: Subject) -> Subject:
    """A copy of a subject whose model is on the far device; inside ``far_device``."""
    far = copy(subject)
    for name in ("layers", "parts", "weights_sha"):
        vars(far).pop(name, None)
    model = deepcopy(subject.model)
    made: dict[int, Tensor] = {}  # weights that are tied stay so
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                there = made.setdefault(id(parameter), FarTensor(parameter.detach()))
                module._parameters[name] = _parameter(made, parameter, there)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else FarTensor(buffer)
    object.__setattr__(far, "model", model)
    return far


def _parameter(made: dict[int, Tensor], parameter: nn.Parameter, there: Tensor) -> Any:
    if not isinstance(there, nn.Parameter):
        there = nn.Parameter(there, requires_grad=False)
        made[id(parameter)] = there
    return there
