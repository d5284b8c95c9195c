"""Settings as exact JSON values: what differs is told apart, what is equal is not, what cannot be told is refused."""

from __future__ import annotations

import io
import json
import random
import threading
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import values
from benchmark.errors import UsageError
from benchmark.values import by_content, exact, sha


class Mode(Enum):
    FAST = 1
    SLOW = 2


class Word(StrEnum):
    A = "a"


@dataclass(frozen=True)
class Inner:
    x: Any = 0


@dataclass(frozen=True)
class Twin:
    x: Any = 0


class Free:
    """No dataclass."""

    def __init__(self, x: Any) -> None:
        self.x = x

    @cached_property
    def computed(self) -> Any:
        return object()


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x


Pair = namedtuple("Pair", "a b")
NAN = float("nan")
DIFFERENT: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: 1,
    lambda: 1.5,
    lambda: 0.0,
    lambda: -0.0,
    lambda: NAN,
    lambda: float("inf"),
    lambda: float("-inf"),
    lambda: "1",
    lambda: "nan",
    lambda: b"1",
    lambda: 1j,
    lambda: Decimal("1.50"),
    lambda: Decimal("1.5"),
    lambda: date(2026, 1, 1),
    lambda: range(3),
    lambda: [1, 2],
    lambda: [2, 1],
    lambda: [[1], 2],
    lambda: {1, 2},
    lambda: {"1": 2},
    lambda: {1: 2},
    lambda: {(1, 2): 2},
    lambda: {"!set": [1, 2]},
    lambda: {Mode.FAST: 1},
    lambda: Mode.FAST,
    lambda: Mode.SLOW,
    lambda: Word.A,
    lambda: "a",
    lambda: Inner(),
    lambda: Inner(1),
    lambda: Twin(1),
    lambda: Inner(Twin(1)),
    lambda: Inner(Inner(1)),
    lambda: Free(1),
    lambda: Free(2),
    lambda: Slotted(1),
    lambda: Slotted(2),
    lambda: SimpleNamespace(x=1),
    lambda: torch.zeros(3),
    lambda: torch.zeros(3, dtype=torch.float64),
    lambda: torch.zeros(3, 1),
    lambda: -torch.zeros(3),
    lambda: torch.full((3,), NAN),
    lambda: torch.zeros(0),
    lambda: torch.zeros(3, dtype=torch.bfloat16),
    lambda: torch.tensor(1.0),
    lambda: np.zeros(3, "float32"),
    lambda: np.zeros(3),
    lambda: np.zeros((3, 1)),
    lambda: np.float32(1.5),
    lambda: np.float64(1.5),
    lambda: np.int64(1),
    lambda: np.bool_(True),
    lambda: torch.float32,
    lambda: torch.float64,
    lambda: torch.nn.Linear(1, 1, bias=False).requires_grad_(False).eval().weight.data * 0 + 7,
]


def test_what_differs_is_told_apart_and_what_is_made_again_is_the_same() -> None:
    found = [sha(exact(make())) for make in DIFFERENT]
    assert found == [sha(exact(make())) for make in DIFFERENT]
    for i, one in enumerate(found):
        assert [j for j, other in enumerate(found) if other == one] == [i], exact(DIFFERENT[i]())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "x", 2: "y"}, {2: "y", 1: "x"}),
        ({3, 1, 2}, frozenset([2, 3, 1])),
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        (deque([1, 2]), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (torch.arange(6.0).reshape(2, 3).T, torch.tensor([[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]])),
        (np.arange(6.0)[::2], np.array([0.0, 2.0, 4.0])),
        (torch.nn.Parameter(torch.ones(2)), torch.ones(2)),
    ],
)
def test_what_is_equal_is_the_same_however_it_is_held(one: Any, other: Any) -> None:
    assert exact(one) == exact(other) and json.dumps(exact(one), allow_nan=False)


def test_what_an_object_computes_for_itself_does_not_count() -> None:
    used, fresh = Free(1), Free(1)
    assert used.computed and exact(used) == exact(fresh)


def test_a_module_of_torch_is_its_weights() -> None:
    torch.manual_seed(0)
    first = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    before = exact(first)
    assert before == exact(first)
    next(first.parameters()).data[0, 0] += 1e-6
    assert exact(first) != before


cycle: list[Any] = []
cycle.append(cycle)


@pytest.mark.parametrize(
    "thing",
    [
        lambda h: h,
        len,
        partial(len, "x"),
        Inner,
        iter([1]),
        (x for x in ()),
        io.StringIO("x"),
        random.Random(0),
        np.random.default_rng(0),
        torch.Generator(),
        threading.Lock(),
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
        np.array([object()]),
        cycle,
        Free(1).__init__,
        np,
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_cannot_be_hashed_exactly_is_refused_by_name(thing: Any) -> None:
    with pytest.raises(UsageError, match=r"the setting clamp\.x\.deep.* (is|refers)"):
        exact(Inner({"deep": thing}), "clamp")


# --- files and folders


def test_a_file_or_folder_is_its_content_whatever_the_setting_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "weights.pt").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    ways: list[Callable[[str], Any]] = [
        lambda name: {"anything": f"{tmp_path}/{name}"},
        lambda name: {"anything": f"./{name}"},
        lambda name: {"probe_dir": name},
        lambda name: {"anything": Path(name)},
        lambda name: {"list": [f"{name}/deep/weights.pt"]},
    ]
    for way in ways:
        assert exact(way("a")) == exact(way("b")) and "sha256:" in json.dumps(exact(way("a")))
    before = [exact(way("a")) for way in ways]
    (tmp_path / "a" / "deep" / "weights.pt").write_bytes(b"2")
    assert all(exact(way("a")) != old for way, old in zip(ways, before, strict=True))


def test_a_word_that_happens_to_be_a_folder_is_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = exact({"mode": "zero", "site": "blocks.1.hook_resid_post", "source": "organism:ioi"})
    for name in ("zero", "blocks.1.hook_resid_post"):
        (tmp_path / name).mkdir()
    assert exact({"mode": "zero", "site": "blocks.1.hook_resid_post", "source": "organism:ioi"}) == before
    (tmp_path / "organism:ioi").write_text("x")
    assert exact({"source": "organism:ioi"}) != {"source": "organism:ioi"}


def test_a_folder_is_more_than_the_bytes_of_its_files(tmp_path: Path) -> None:
    shapes = [{"a": "xy", "b": ""}, {"a": "x", "b": "y"}, {"ab": "xy"}, {"a": "xy"}, {"c/a": "xy"}]
    found = []
    for number, shape in enumerate(shapes):
        for name, text in shape.items():
            (tmp_path / str(number) / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / str(number) / name).write_text(text)
        found.append(by_content(str(tmp_path / str(number))))
    assert len(set(found)) == len(shapes) and by_content("no/such/place") == "no/such/place"
    (tmp_path / "0" / "__pycache__").mkdir()
    (tmp_path / "0" / "__pycache__" / "x.pyc").write_text("x")
    assert by_content(str(tmp_path / "0")) == found[0], "what comes by itself does not count"


@pytest.mark.parametrize("text", ["", "a" * 5000, "a/" * 3000, "two\nlines/x", "nul\0/x", "~", "/"])
def test_texts_of_every_kind_are_read(text: str) -> None:
    exact({"prompt": text if text != "/" else "x/"})


def test_a_folder_of_everything_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / str(number)).write_text("a")
    whole = by_content(str(tmp_path))
    monkeypatch.setattr(values, "MOST_FILES", 3)
    with pytest.raises(UsageError, match="holds more than 3 files"):
        by_content(str(tmp_path))
    assert whole.startswith("sha256:")
