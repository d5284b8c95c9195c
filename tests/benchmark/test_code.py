"""Which code takes part: whatever is edited that a class rests on makes it another class, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmark.code import code_of, engine
from benchmark.contracts.defense import Defense
from benchmark.errors import UsageError

ROOT = Path(__file__).parents[2]
# --- the engine


def test_the_engine_is_what_measures_and_not_what_shows() -> None:
    files = engine()
    assert {"benchmark.run.cell", "benchmark.run.groups", "benchmark.measure.remeasure", "benchmark.contracts.row"} <= {
        *files
    }
    assert {"benchmark.code", "benchmark.values", "benchmark.model.passes", "benchmark.search.minimal_norm"} <= {*files}
    assert not {n for n in files if n.startswith(("leaderboard", "benchmark.published", "tasks", "attacks"))}
    assert not {"benchmark.cli", "benchmark.run.commands", "benchmark.run.display", "benchmark.catalogue"} & {*files}


@pytest.mark.parametrize(
    ("edited", "seen"), [("benchmark/measure/remeasure.py", True), ("benchmark/run/display.py", False)]
)
def test_an_edited_engine_is_another_engine(tmp_path: Path, edited: str, seen: bool) -> None:
    shutil.copytree(ROOT / "benchmark", tmp_path / "benchmark", ignore=shutil.ignore_patterns("__pycache__"))
    program = "import json; from benchmark.code import engine; print(json.dumps(engine()))"

    def asked() -> dict[str, str]:
        there = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=there, cwd=tmp_path, check=True
        )
        return json.loads(done.stdout)

    first = asked()
    assert first == engine()
    with (tmp_path / edited).open("a") as file:
        file.write("\n# edited\n")
    changed = {name for name, digest in asked().items() if first.get(name) != digest}
    assert changed == ({edited.removesuffix(".py").replace("/", ".")} if seen else set())


# --- classes that no file holds

NOTEBOOK = """
import math
from benchmark import Defense, FittedDefense
scale = 2.0
table = {"a": [1.0, 2.0]}
def helper(x):
    return deeper(x) + scale
def deeper(x):
    return [x * k for k in (1, 2)]
class Base(Defense):
    step = 1
class Mine(Base):
    def fit(self, fitting):
        def inner(h, where):
            return helper(h) if table else math.sqrt(self.step)
        return FittedDefense({})
"""


def typed(text: str) -> dict[str, str]:
    """The code of ``Mine`` after a text was typed at a prompt."""
    notebook = sys.modules["a_notebook"] = ModuleType("a_notebook")
    try:
        exec(compile(text, "<cell 3>", "exec"), vars(notebook))
        return dict(code_of([vars(notebook)["Mine"]]))
    finally:
        del sys.modules["a_notebook"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return helper(h) if", "return -helper(h) if"),
        ("deeper(x) + scale", "deeper(x) - scale"),
        ("x * k for", "x + k for"),
        ("(1, 2)]", "(1, 3)]"),
        ("scale = 2.0", "scale = 2.5"),
        ('"a": [1.0, 2.0]', '"a": [1.0, 2.5]'),
        ("step = 1", "step = 2"),
        ("math.sqrt", "math.floor"),
        ("def helper(x):", "def helper(x, y=1):"),
    ],
)
def test_an_edit_in_a_notebook_is_seen_wherever_the_class_reaches(before: str, after: str) -> None:
    assert before in NOTEBOOK and typed(NOTEBOOK) == typed(NOTEBOOK)
    assert typed(NOTEBOOK.replace(before, after)) != typed(NOTEBOOK)


MANY = """
import torch
import numpy as np
from abc import abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache, partial
from typing import NamedTuple, Generic, TypeVar
T = TypeVar("T")
class Mode(Enum):
    FAST = 1
class Pair(NamedTuple):
    a: int = 1
@dataclass(frozen=True)
class Plain:
    x: list = field(default_factory=list)
    def twice(self): return [*self.x] * 2
class Box(Generic[T]):
    __slots__ = ("x",)
class Net(torch.nn.Module):
    width = 3
    def forward(self, h): return h * self.width
@lru_cache
def cached(x): return x + 1
from benchmark import Defense, FittedDefense
class Base(Defense):
    @abstractmethod
    def part(self): ...
@dataclass(frozen=True)
class Mine(Base):
    k: int = 1
    def part(self): return Pair(1), Plain(), Mode.FAST, Box(), Net(), cached(3), Later().x, shifted(1), add, T, Bound
    @property
    def prop(self): return 5
    @cached_property
    def late(self): return 6
    @staticmethod
    def still(): return super
    @classmethod
    def made(cls): return cls(7)
    def fit(self, fitting): return FittedDefense({})
class Later:
    x = 1
add = np.add
shifted = partial(lambda a, b: a + b, 11)
Bound = list[int] | None
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FAST = 1", "FAST = 2"),
        ("a: int = 1", "a: int = 2"),
        ("* 2", "* 3"),
        ("width = 3", "width = 4"),
        ("h * self", "h + self"),
        ("x + 1", "x + 2"),
        ("return 5", "return 55"),
        ("return 6", "return 66"),
        ("return super", "return type"),
        ("cls(7)", "cls(8)"),
        ("    x = 1", "    x = 2"),
        ("a + b, 11", "a - b, 11"),
        ("a + b, 11", "a + b, 12"),
        ("np.add", "np.subtract"),
    ],
)
def test_all_kinds_of_code_are_followed_in_a_notebook(before: str, after: str) -> None:
    assert before in MANY and typed(MANY) == typed(MANY)
    assert typed(MANY.replace(before, after)) != typed(MANY)


def test_what_the_class_does_not_reach_and_where_it_stands_do_not_count() -> None:
    assert typed("\n\nunused = 3\n" + NOTEBOOK) == typed(NOTEBOOK)


def test_what_typed_code_refers_to_and_cannot_be_hashed_is_refused() -> None:
    text = NOTEBOOK.replace("scale = 2.0", "scale = (x for x in ())")
    with pytest.raises(UsageError, match=r"helper \(the name scale\) is a .*generator.*FILE.py:Class"):
        typed(text)


def test_what_a_class_was_made_around_counts() -> None:
    def made(value: Any) -> type:
        class Mine(Defense):
            def fit(self, fitting: Any) -> Any:
                return value

        return Mine

    assert code_of([made(1.0)]) == code_of([made(1.0)]) != code_of([made(2.0)])
    with pytest.raises(UsageError, match="its variable value"):
        code_of([made(iter(()))])


def test_a_method_that_is_put_into_a_class_later_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from defenses.none import NoDefense

    first = code_of([NoDefense])
    space: dict[str, Any] = {"__name__": "a_notebook"}
    exec(compile("def fit(self, fitting):\n    return 1", "<cell 4>", "exec"), space)
    monkeypatch.setattr(NoDefense, "fit", space["fit"])
    assert code_of([NoDefense]) != first
