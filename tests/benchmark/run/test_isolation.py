"""A fit is seeded and leaves nothing behind; what it gives is looked at before anything is done with it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark import Defense, FittedDefense, Fitting, UsageError, evaluate
from benchmark.contracts.defense import Where
from benchmark.model.edits import Placed, by_boundary
from benchmark.registry import SOURCES, SUITES, TASKS
from benchmark.run.checked import plain
from benchmark.run.custody import Custody
from benchmark.run.learner import copied
from benchmark.run.random_state import generators, seeded
from benchmark.run.runner import Result
from benchmark.run.task_view import FittingTask
from benchmark.run.watched import checksum
from benchmark.sealed import sealed
from benchmark.sites import Site
from benchmark.suite_file import load_suite
from tests.tiny import SITE, ToyTask, subject, viewed
from tests.toy_run import DEFENSE, FEW

HERE = Site.parse(SITE)
QUICK: dict[str, Any] = {**FEW, "attacks": ["zero"]}


def halve(h: Tensor, where: Where) -> Tensor:
    return 0.5 * h


@dataclass(frozen=True)
class Giving(Defense):
    """Gives one of the faults below."""

    number: int
    name = "giving"

    def fit(self, fitting: Fitting) -> FittedDefense:
        return FAULTS[self.number][0]()


class Stopping(Defense):
    """Somebody presses Ctrl-C while it learns."""

    name = "stopping"

    def fit(self, fitting: Fitting) -> FittedDefense:
        raise KeyboardInterrupt


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


# --- what a fit may see


def test_what_a_defense_has_of_a_task_leads_to_no_other_split() -> None:
    view = viewed()
    seen = view.for_fitting()
    assert list(seen.examples("fit")) == list(view.examples("fit"))
    held = [value for value in vars(seen).values() if not callable(value)]
    assert view not in held and view.task not in held
    for split in ("dev", "test"):
        with pytest.raises(UsageError, match=f"learns from the split fit alone; take that one, it asked for '{split}'"):
            seen.examples(split)  # type: ignore[arg-type]
    assert isinstance(seen.for_fitting(), FittingTask)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: TASKS.get("ioi"),
        lambda: SOURCES.get("organism"),
        lambda: SUITES.get("embedded"),
        lambda: load_suite("embedded"),
        lambda: viewed().examples("test"),
        lambda: viewed().retain("dev"),
        lambda: viewed().fresh("key", 3),
    ],
)
def test_the_ways_round_are_closed_while_a_defense_learns_and_only_then(ask: Callable[[], Any]) -> None:
    ask()
    with sealed("somebody"), pytest.raises(UsageError, match="somebody: a defense learns from the split fit alone"):
        ask()
    ask()


# --- what is left behind


def test_a_copied_model_shares_weights_and_no_module() -> None:
    made = subject()
    copy = copied(made)
    assert all(a is b for a, b in zip(made.model.parameters(), copy.model.parameters(), strict=True))
    assert not {id(m) for m in made.model.modules()} & {id(m) for m in copy.model.modules()}
    assert copy.tokenizer is not made.tokenizer


def test_a_fingerprint_changes_with_any_bit_and_with_any_order() -> None:
    tensor = torch.randn(6, 192)
    same = checksum(tensor.clone()).tolist()
    assert checksum(tensor).tolist() == same
    for change in (
        lambda t: t[3, 7].add_(1e-6 * t[3, 7].abs() + 1e-7),
        lambda t: t[[1, 0, 2, 3, 4, 5]],
        lambda t: t[:, torch.arange(191, -1, -1)],
    ):
        other = tensor.clone()
        result = change(other)
        assert checksum(result if result.shape == tensor.shape else other).tolist() != same


def _mode(on: bool) -> Callable[[Any], Any]:
    return lambda _: torch.set_grad_enabled(on)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.model.model.layers[1].register_forward_pre_hook(lambda *_: None), "forward pre hooks"),
        (lambda s: s.model.model.layers[1].register_full_backward_hook(lambda *_: None), "backward hooks"),
        (lambda s: s.model.lm_head.weight.data.add_(1e-3), "the weights lm_head.weight"),
        (lambda s: setattr(s.model.lm_head.weight, "data", s.model.lm_head.weight.data * 2), "the weights lm_head"),
        (lambda s: setattr(s.model.model.layers[0], "forward", lambda *_, **__: None), "forward (new)"),
        (lambda s: setattr(s.model.model.norm, "variance_epsilon", 1.0), "variance_epsilon"),
        (lambda s: s.model.train(), "training"),
        (lambda s: s.model.lm_head.weight.requires_grad_(), "the gradient of lm_head.weight"),
        (lambda s: s.tokenizer.add_tokens(["new"]), "what the tokenizer reads"),
        (_mode(False), "the grad mode"),
        (lambda _: torch.set_default_dtype(torch.float64), "the default dtype"),
        (lambda _: setattr(ToyTask, "sizes", {}), None),
        (lambda _: setattr(Site, "boundary", 3), "benchmark.sites.Site: boundary"),
        (lambda _: setattr(torch.nn.functional, "softmax", torch.relu), "torch.nn.functional: softmax"),
        (lambda _: SOURCES.known.update(organism=None), "what is registered in SOURCES"),
    ],
)
def test_every_change_is_named_and_put_back(change: Callable[[Any], Any], named: str | None) -> None:
    SOURCES.get("organism")
    made, sizes = subject(), ToyTask.sizes
    custody = Custody([made], [viewed()])
    with custody.kept() as left:
        pass
    assert not left, "nothing was done"
    try:
        with custody.kept() as left:
            change(made)
    finally:
        ToyTask.sizes = sizes
    assert any(named in what for what in left) if named else not left, "a test's own class is not watched"
    assert not custody.changes(), "it was put back"


def test_random_numbers_go_on_as_if_nobody_had_drawn() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    with generators():
        expected = drawn()
    with seeded(0, "task", "defense"):
        first = drawn()
    with generators():
        assert drawn() == expected
    with seeded(0, "task", "defense"):
        assert drawn() == first
    with seeded(1, "task", "defense"):
        assert drawn() != first


# --- seeds


@dataclass(frozen=True)
class Drawn(Defense):
    """Its edit is drawn at random: from what is seeded, or from what is not."""

    name = "drawn"
    outside: bool = False

    def fit(self, fitting: Fitting) -> FittedDefense:
        own = int.from_bytes(os.urandom(4)) if self.outside else int(torch.randint(2**31, (1,)))
        direction = torch.randn(fitting.subject.d_model, generator=torch.Generator().manual_seed(own))
        number = float(direction[0]) + random.random() + float(np.random.rand()) * (not self.outside)
        return FittedDefense({HERE: lambda h, where: 0.3 * h + direction}, record={"number": number})


def number(folder: Path) -> float:
    return json.loads((folder / "fits" / "toy__drawn.json").read_text())["record"]["number"]


def test_a_fit_draws_the_same_from_run_to_run_whatever_ran_before(suite: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {**QUICK, "suite": suite}
    evaluate([Drawn()], output_dir=tmp_path / "a", **asked)
    _ = random.random(), torch.rand(3), np.random.rand(2)
    evaluate([DEFENSE, Drawn()], output_dir=tmp_path / "b", **asked)
    evaluate([Drawn()], output_dir=tmp_path / "c", seed=1, **asked)
    assert number(tmp_path / "a") == number(tmp_path / "b") != number(tmp_path / "c")


@pytest.mark.parametrize("outside", [False, True])
def test_a_resumed_run_does_not_mix_two_fits(suite: str, tmp_path: Path, outside: bool) -> None:
    asked: dict[str, Any] = {**FEW, "suite": suite, "attacks": ["recovery"], "output_dir": tmp_path / "run"}
    assert evaluate([Drawn(outside)], **asked).status == "complete"
    cells = sorted((tmp_path / "run" / "cells").iterdir())
    cells[0].unlink()
    again = evaluate([Drawn(outside)], **asked)
    assert again.status == ("partial" if outside else "complete")
    assert len(list((tmp_path / "run" / "cells").iterdir())) == len(cells) - outside
    if outside:
        (error,) = [e["error"] for e in events(tmp_path / "run") if e["event"] == "error"]
        assert "fitted again with another result" in error and f"{len(cells) - 1} finished cells stay" in error


# --- one defense's fault


def broken_edit(result: Callable[[Tensor], Any]) -> Callable[[], Any]:
    return lambda: FittedDefense({HERE: lambda h, where: result(h)})


def leaving() -> Any:
    raise SystemExit(0)


FAULTS: list[tuple[Callable[[], Any], str]] = [
    (leaving, "SystemExit(0)"),
    (lambda: None, "`fit` returned a NoneType; return what it promises: FittedDefense"),
    (lambda: FittedDefense([halve]), "the edits are a list; give a mapping: {Site: edit}"),  # type: ignore[arg-type]
    (lambda: FittedDefense({SITE: halve}), f"an edit is placed at '{SITE}', a str; give a Site"),  # type: ignore[dict-item]
    (lambda: FittedDefense({Site(99): halve}), "is outside tiny, which has 4 layers"),
    (lambda: FittedDefense({HERE: 3}), f"the edit at {SITE} is a int"),  # type: ignore[dict-item]
    (lambda: FittedDefense({}, record={"a": {"b": float("nan")}}), "record['a']['b'] is nan"),
    (lambda: FittedDefense({}, record={"a": [1.0, torch.ones(2)]}), "record['a'][1] is a torch.Tensor of shape (2,)"),
    (lambda: FittedDefense({}, record={3: 1}), "record has the key 3"),  # type: ignore[dict-item]
    (lambda: FittedDefense({}, record={"suppressed_fit": "much"}), "record['suppressed_fit'] is 'much'"),
    (broken_edit(lambda h: None), f"at {SITE} returned NoneType; return what it promises: a tensor"),
    (broken_edit(lambda h: h[:, :1]), "of torch.float32 on cpu; return what it promises: a tensor"),
    (broken_edit(lambda h: h.bfloat16()), "of torch.bfloat16 on cpu; return what it promises: a tensor"),
    (broken_edit(lambda h: torch.where(h > 1, torch.nan, h)), f"positions at {SITE}, over"),
]


@pytest.fixture(scope="module")
def faulty(suite: str, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One run of all faulty defenses, and a sound one last."""
    everyone = [type("Giving", (Giving,), {"name": f"fault-{i}"})(i) for i in range(len(FAULTS))]
    return evaluate([*everyone, DEFENSE], suite=suite, output_dir=tmp_path_factory.mktemp("faulty") / "run", **QUICK)


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_fault_is_named(number: int, faulty: Result) -> None:
    told = {e["what"]: e["error"] for e in events(faulty.directory) if e["event"] == "error"}
    assert FAULTS[number][1] in told[f"fault-{number} could not be fitted on toy"]


def test_a_fault_costs_nobody_else_anything(faulty: Result) -> None:
    assert faulty.status == "partial"
    assert {row["defense"] for row in faulty.rows.to_pylist()} == {"sae-clamp"}


def test_an_interrupt_is_no_fault(suite: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate([Stopping()], suite=suite, output_dir=tmp_path / "run", **QUICK)


def test_numbers_of_numpy_and_torch_are_taken_exactly() -> None:
    record = {"a": np.float64(0.1), "b": torch.tensor(3), "c": (np.bool_(True), None), "d": {"e": "f"}}
    assert plain(record, "record") == {"a": 0.1, "b": 3, "c": [True, None], "d": {"e": "f"}}
    assert type(plain(np.int32(2), "record")) is int


def test_an_unregistered_object_goes_by_the_name_of_its_class(suite: str, tmp_path: Path) -> None:
    class Unnamed(Defense):
        def fit(self, fitting: Fitting) -> FittedDefense:
            return FittedDefense({HERE: halve})

    found = evaluate(Unnamed(), suite=suite, output_dir=tmp_path / "run", **QUICK)
    assert {row["defense"] for row in found.rows.to_pylist()} == {"Unnamed"}


def test_an_edit_is_held_to_what_it_promises_wherever_it_is_placed() -> None:
    made = subject()
    placed = by_boundary(made, {HERE: halve})
    (edit,) = placed.values()
    assert isinstance(edit, Placed) and by_boundary(made, {HERE: edit})[HERE.boundary] is edit
