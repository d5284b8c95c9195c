"""Nothing is left behind: what a fit and an attack must leave as they found it, compared afterwards and put back.

What is watched: the model (its modules' own attributes, hooks, weights, buffers, settings), the tokenizer, the tasks
with their examples, what is registered, the functions and classes of the project, of the model's and the tokenizer's
code and of torch, and torch's switches. Random number generators are put back without a word.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any

import torch

import benchmark.registry as registry
from benchmark.contracts.task import Task
from benchmark.model.subject import Subject
from benchmark.run.random_state import generators
from benchmark.run.torch_switches import Switches
from benchmark.run.watched import Change, Entries, Names, Value, Weights

PACKAGES = ("benchmark", "tasks", "defenses", "attacks", "leaderboard")
"""Whose modules are watched."""
PROBE = "A text: 12 words, <odd> ones too; é"
"""What a tokenizer must go on reading as it did."""


class Custody:
    """Of what one run uses. Taken once; ``changes`` after every fit and attack, against what there was at first."""

    def __init__(self, subjects: Iterable[Subject], tasks: Iterable[Task] = ()) -> None:
        """``subjects``: the first, and others that share its weights."""
        self.subjects, self.tasks = tuple(subjects), tuple(tasks)
        self._names: list[Names | Entries] = []
        self._numbers: list[Weights | Value] = []
        self._seen: set[int] = set()
        self._switches = Switches()
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
            lambda: list(self._switches.changes()),
            lambda: [change for watched in self._numbers for change in watched.changes()],
        )

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


def _cached(owner: Any) -> Callable[[str, Any], bool]:
    """Names that an object keeps of itself when they are first asked for."""
    return lambda name, value: any(isinstance(vars(kind).get(name), cached_property) for kind in type(owner).__mro__)


def told(left: Iterable[str], most: int = 6) -> str:
    """What was left, in one line."""
    names = list(left)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
