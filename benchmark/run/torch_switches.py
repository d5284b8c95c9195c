"""Torch's global settings: what changes the numbers of every later pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from benchmark.run.watched import Change


class Switch(NamedTuple):
    """A global setting of torch."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _flag(owner: Any, name: str) -> Switch:
    return Switch(f"{owner.__name__}.{name}", lambda: getattr(owner, name), lambda v: setattr(owner, name, v))


SWITCHES: tuple[Switch, ...] = (
    Switch("the grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Switch("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Switch("deterministic algorithms", torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    Switch("the precision of matrix products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Switch("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Switch("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Switch(
        "autocast on the CPU",
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
    ),
    Switch(
        "autocast on CUDA", lambda: torch.is_autocast_enabled("cuda"), lambda on: torch.set_autocast_enabled("cuda", on)
    ),
    _flag(torch.backends.cudnn, "deterministic"),
    _flag(torch.backends.cudnn, "benchmark"),
)


class Switches:
    """All of them, and torch's modes, as they stand."""

    def __init__(self) -> None:
        self.held = [(switch, switch.read()) for switch in SWITCHES]
        self.modes = _modes()

    def changes(self) -> Iterator[Change]:
        for switch, value in self.held:
            if switch.read() != value:
                yield Change(switch.name, lambda s=switch, v=value: s.write(v))
        if _modes() != self.modes:
            yield Change("a torch mode that is still on", _leave_modes)


def _modes() -> tuple[int, int]:
    """How many modes are on."""
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def _leave_modes() -> None:
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    while torch._C._len_torch_dispatch_stack():
        torch._C._pop_torch_dispatch_stack(None)
