"""Nothing is left behind: what a fit and an attack must leave as they found it, compared afterwards and put back.

What is watched: the model (its modules' own attributes, hooks, weights, buffers, settings), the tokenizer, the tasks
with their examples, what is registered, the functions and classes of the project, of the model's and the tokenizer's
code and of torch, and torch's switches. Random number generators are put back without a word.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

import benchmark.registry as registry
from benchmark.contracts.task import Task
from benchmark.model.subject import Subject
from benchmark.run.random_state import generators

PACKAGES = ("benchmark", "tasks", "defenses", "attacks", "leaderboard")
"""Whose modules are watched."""
PROBE = "A text: 12 words, <odd> ones too; é"
"""What a tokenizer must go on reading as it did."""
_OWN_STATE = frozenset(
    {"__annotations__", "__annotate__", "__annotations_cache__", "__doc__", "__warningregistry__", "__slotnames__"}
)
"""Names that Python itself sets later, and that nothing is decided by."""
_ABSENT: Any = object()


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
"""What changes the numbers of every later pass."""


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


class Custody:
    """Of what one run uses. Taken once; ``changes`` after every fit and attack, against what there was at first."""

    def __init__(self, subjects: Iterable[Subject], tasks: Iterable[Task] = ()) -> None:
        """``subjects``: the first, and others that share its weights."""
        self.subjects, self.tasks = tuple(subjects), tuple(tasks)
        self._names: list[Names | Entries] = []
        self._numbers: list[Weights | Value] = []
        self._seen: set[int] = set()
        self._switches = [(switch, switch.read()) for switch in SWITCHES]
        self._modes = (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack())
        for subject in self.subjects:
            self._watch_subject(subject)
        self._numbers += [Weights(subject.model) for subject in self.subjects[:1]]
        for task in self.tasks:
            self._watch_task(task)
        for name, known in vars(registry).items():
            if isinstance(known, registry.Registry):
                self._names.append(Entries(f"what is registered in {name}", known.known, grows=True))
        self.update()

    def update(self) -> None:
        """Watch the modules that were imported since, too."""
        for name, module in list(sys.modules.items()):
            if id(module) not in self._seen and isinstance(module, ModuleType) and self._ours(name):
                self._watch_code(name, module)

    def changes(self) -> list[Change]:
        """Everything that is not what it was."""
        return [change for phase in self._phases for change in phase()]

    @contextmanager
    def kept(self, *shown: Any) -> Iterator[list[str]]:
        """Afterwards everything is what it was, ``shown`` objects too; the list then names what had changed."""
        left: list[str] = []
        self.update()
        lent = [Names(f"the {type(thing).__name__}", thing, grows=_cached(thing)) for thing in shown]
        with generators():
            try:
                yield left
            finally:
                for phase in (*self._phases, lambda: [change for names in lent for change in names.changes()]):
                    for change in phase():
                        left.append(change.what)
                        change.restore()

    @property
    def _phases(self) -> tuple[Callable[[], list[Change]], ...]:
        """Each puts back what the next one compares with: functions, switches, and then numbers."""
        return (
            lambda: [change for watched in self._names for change in watched.changes()],
            self._switched,
            lambda: [change for watched in self._numbers for change in watched.changes()],
        )

    def _switched(self) -> list[Change]:
        found = [
            Change(switch.name, lambda s=switch, v=value: s.write(v))
            for switch, value in self._switches
            if switch.read() != value
        ]
        if (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()) != self._modes:
            found.append(Change("a torch mode that is still on", _leave_modes))
        return found

    @cached_property
    def _code(self) -> frozenset[str]:
        """Modules outside of the project whose functions decide a pass."""
        kinds = {kind for s in self.subjects for part in s.model.modules() for kind in type(part).__mro__}
        kinds |= {kind for s in self.subjects for kind in type(s.tokenizer).__mro__}
        own = {kind.__module__ for kind in kinds if kind not in (object,)}
        return frozenset(own | {"torch", "torch.nn.functional", "torch.autograd", "torch._tensor", "builtins"})

    def _ours(self, name: str) -> bool:
        return name.partition(".")[0] in PACKAGES or name in self._code

    def _watch_code(self, name: str, module: ModuleType) -> None:
        self._seen.add(id(module))
        self._names.append(Names(f"the module {name}", module, grows=lambda _, value: type(value) is ModuleType))
        for value in list(vars(module).values()):
            own = isinstance(value, type) and value.__module__ == name and id(value) not in self._seen
            if own and module is not builtins:
                self._seen.add(id(value))
                self._names.append(Names(f"the class {name}.{value.__qualname__}", value))
        if name == "torch._tensor":
            self._names.append(Names("the class torch.Tensor", torch.Tensor))
            self._names += [
                Entries(f"torch's global module hooks {kind}", hooks)
                for kind, hooks in vars(torch.nn.modules.module).items()
                if kind.startswith("_global") and isinstance(hooks, dict)
            ]

    def _watch_subject(self, subject: Subject) -> None:
        _ = subject.layers, subject.parts, subject.d_model, subject.plain_ids, subject.n_layers
        self._names.append(Names("the subject", subject, grows=_cached(subject)))
        for name, part in subject.model.named_modules():
            where = f"{name or 'the model'} ({type(part).__name__})"
            self._names.append(Names(where, part))
            self._names += [
                Entries(f"{where}: {kind.strip('_').replace('_', ' ')}", inner)
                for kind, inner in vars(part).items()
                if isinstance(inner, dict)
            ]
        self._names.append(Names("the model's config", subject.model.config))
        self._watch_tokenizer(subject.tokenizer)

    def _watch_tokenizer(self, tokenizer: Any) -> None:
        if not hasattr(tokenizer, "special_tokens_map"):
            return
        names = Names("the tokenizer", tokenizer)
        self._names.append(names)
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        kind: Any = type(backend)
        saved = backend.to_str() if backend is not None else None

        def read() -> Any:
            special = dict(tokenizer.special_tokens_map)
            return len(tokenizer), special, list(tokenizer(PROBE)["input_ids"])

        def write(_: Any) -> None:
            if saved is not None:
                tokenizer._tokenizer = kind.from_str(saved)
                names.held["_tokenizer"] = tokenizer._tokenizer, None

        self._numbers.append(Value("what the tokenizer reads", read, read(), write))

    def _watch_task(self, task: Task) -> None:
        inner: Any = task
        while isinstance(inner, Task):
            _ = inner.readout
            self._names.append(Names(f"the task {task.name}", inner, grows=_cached(inner)))
            self._names.append(Names(f"the readout of {task.name}", inner.readout, grows=_cached(inner.readout)))
            inner = getattr(inner, "task", None)
        sets = [some for split in ("fit", "dev", "test") for some in (task.examples(split), task.retain(split))]
        held = [hash(e) for some in sets for e in some]

        def read() -> list[int]:
            return [hash(e) for some in sets for e in some]

        self._numbers.append(Value(f"the examples of {task.name}", read, held, lambda _: None))


def _of_itself(name: str) -> bool:
    """Whether Python or pydantic sets a name when they first need it, and nothing else is decided by it."""
    return name in _OWN_STATE or name.startswith("__pydantic")


def _cached(owner: Any) -> Callable[[str, Any], bool]:
    """Names that an object keeps of itself when they are first asked for."""
    return lambda name, value: any(isinstance(vars(kind).get(name), cached_property) for kind in type(owner).__mro__)


def _leave_modes() -> None:
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()
    while torch._C._len_torch_dispatch_stack():
        torch._C._pop_torch_dispatch_stack(None)


def told(left: Iterable[str], most: int = 6) -> str:
    """What was left, in one line."""
    names = list(left)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def copied(subject: Subject) -> Subject:
    """The same frozen model for who learns: modules, settings and tokenizer are copies, the weights are shared."""
    tensors: Mapping[int, Tensor] = {
        id(t): t for t in (*subject.model.parameters(), *subject.model.buffers()) if t is not None
    }
    return Subject(
        deepcopy(subject.model, dict(tensors)),
        deepcopy(subject.tokenizer),
        subject.name,
        subject.saes,
        subject.taken,
        subject.own_bos,
    )
