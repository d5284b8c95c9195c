"""Probe task: what is hidden, what must stay, and its summary on hand-made logits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.contracts.example import SPLITS, Example, Goal
from benchmark.contracts.readout import Criteria
from benchmark.contracts.task import Readings, Task
from benchmark.errors import UsageError
from benchmark.readouts.probe import Probe
from benchmark.spec import resolve_task
from tasks.organism.lexicon import PROFESSIONS
from tests.tasks.suite_tasks import suite_task

TASK = suite_task("tpp")
CLASSES = tuple(PROFESSIONS)
TARGETS, OTHERS = range(4), range(4, 8)


def criteria(answer: list[int], wrong: list[int], goal: Goal = "behavior", saturation: float = torch.inf) -> Criteria:
    return Criteria(torch.tensor(answer), torch.tensor(wrong), torch.full((len(answer),), saturation), goal)


# --- data


def test_examples_are_of_the_target_classes_and_retain_of_the_others_balanced() -> None:
    assert TASK.readout == Probe("blocks.3.hook_resid_post", CLASSES) and not TASK.readout.reached_by_suffix
    for rows, classes in ((TASK.examples("test"), TARGETS), (TASK.retain("test"), OTHERS)):
        counts = Counter(e.answer for e in rows)
        assert len(rows) >= 240 and set(counts) == set(classes) and len(set(counts.values())) == 1


def test_no_biography_names_its_profession() -> None:
    for example in (*TASK.examples("test"), *TASK.retain("test")):
        assert example.choices[example.answer] not in example.prompt


def test_wrong_targets_are_first_of_all_classes_that_no_defense_is_about() -> None:
    firsts = Counter((e.answer, e.wrong[0]) for e in TASK.examples("test"))
    assert {wrong for _, wrong in firsts} == set(OTHERS) and len(firsts) == len(TARGETS) * len(OTHERS)
    assert max(firsts.values()) - min(firsts.values()) <= 1
    for example in TASK.examples("test"):
        assert sorted((*example.wrong, example.answer)) == list(range(len(CLASSES)))
        assert set(example.wrong[: len(OTHERS)]) == set(OTHERS)


LABELS = ("smith", "cook", "nurse", "judge", "baker")


def labelled(tmp_path: Path, order: int = 1, **settings: Any) -> Task:
    """A probe task of texts with ``LABELS``, the rows in one order or the other (-1)."""
    rows = [f"text {i},{LABELS[i // 30]}" for i in range(150)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows[::order]]))
    site = "blocks.0.hook_resid_post"
    return resolve_task("probe", {"data": {"source": str(tmp_path / "texts.csv")}, "site": site, **settings})


def answers(task: Task) -> tuple[set[str], set[str]]:
    """Classes of the examples, and of the retain set."""
    found = ({e.choices[e.answer].strip() for s in SPLITS for e in rows(s)} for rows in (task.examples, task.retain))
    return next(found), next(found)


def test_classes_are_the_sorted_labels_and_targets_their_first_half(tmp_path: Path) -> None:
    for order in (1, -1):
        task = labelled(tmp_path, order)
        assert task.readout == Probe("blocks.0.hook_resid_post", ("baker", "cook", "judge", "nurse", "smith"))
        assert answers(task) == ({"baker", "cook"}, {"judge", "nurse", "smith"})
    chosen = labelled(tmp_path, classes=LABELS, targets=["nurse"])
    assert chosen.readout == Probe("blocks.0.hook_resid_post", LABELS)
    assert answers(chosen) == ({"nurse"}, {"smith", "cook", "judge", "baker"})


def test_each_class_has_all_others_as_first_wrong_target_equally_often_however_rows_stand(tmp_path: Path) -> None:
    firsts = Counter((e.answer, e.wrong[0]) for e in labelled(tmp_path).examples("test"))
    for answer in (0, 1):
        counts = [firsts[answer, wrong] for wrong in (2, 3, 4)]
        assert min(counts) > 0 and max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"classes": ["smith", "cook"]},
            "row 61: the label 'nurse' is none of smith, cook; add it, or leave it out by",
        ),
        ({"classes": [*LABELS, "smith"]}, "a probe needs two, all different"),
        ({"targets": ["pilot"]}, "the targets are pilot; name some, and not all, of the classes baker, cook"),
        ({"targets": list(LABELS)}, "name some, and not all"),
        ({"site": "blocks.0.hook_mlp_out"}, "blocks.0.hook_mlp_out"),
    ],
)
def test_classes_targets_and_sites_that_are_none_are_told(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as told:
        labelled(tmp_path, **settings).examples("fit")
    assert message in str(told.value)


# --- verdict


def test_the_margin_is_the_one_vs_rest_logit_of_the_target() -> None:
    read = torch.full((3, 8), -1.0)
    read[0, 0], read[0, 5], read[1, 5] = 0.5, 9.0, 2.0
    shown = TASK.verdict(read, criteria([0, 0, 0], [5, 5, 5]))
    assert shown.margin.tolist() == [0.5, -1.0, -1.0], "a larger logit elsewhere takes nothing away"
    assert shown.labels == ["class", CLASSES[5], "none"]
    steered = TASK.verdict(read, criteria([0, 0, 0], [5, 5, 5], "wrong"))
    assert steered.margin.tolist() == [9.0, 2.0, -1.0] and steered.labels == shown.labels


def test_the_objective_is_the_logit_up_to_the_undefended_one() -> None:
    read = torch.tensor([[3.0] + [0.0] * 7, [1.0] + [0.0] * 7], requires_grad=True)
    objective = TASK.readout.objective(TASK.verdict, read, criteria([0, 0], [5, 5], saturation=2.0))
    (gradient,) = torch.autograd.grad(objective.sum(), read)
    assert objective.tolist() == [2.0, 1.0] and gradient[0].abs().sum() == 0
    assert gradient[1].tolist() == [1.0] + [0.0] * 7


# --- summary


def readings(wipe: tuple[int, ...] = (), everywhere: tuple[int, ...] = ()) -> Readings:
    """Two examples a class with perfect logits; ``wipe`` loses its hits, ``everywhere`` is said of all."""
    examples = [Example(f"{c}/{i}", "", "", CLASSES, c) for c in range(8) for i in range(2)]
    reads = []
    for example in examples:
        logits = torch.full((8,), -1.0)
        logits[example.answer] = 1.0
        logits[list(wipe)] = -1.0
        logits[list(everywhere)] = 1.0
        reads.append(logits)
    return Readings(examples, reads)


def test_a_defense_that_hides_the_targets_alone_scores_one_half() -> None:
    """From perfect to chance, which is one half of a balanced accuracy."""
    found = TASK.summary(readings(), readings(wipe=(0, 1, 2, 3)))
    assert found["intended_drop"] == 0.5 and found["unintended_drop"] == 0 and found["tpp_score"] == 0.5
    assert found["accuracy_drop"] == {name: 0.5 if i in TARGETS else 0 for i, name in enumerate(CLASSES)}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("wipe", "everywhere", "score"),
    [
        ((), (), 0.0),
        (tuple(range(8)), (), 0.0),  # everything is hidden: no credit
        ((4, 5, 6, 7), (), -0.5),
        ((0,), (), 0.125),
        ((0, 1, 2, 3, 4), (), 0.375),
        ((), (0, 1, 2, 3), 0.5),  # said of everything is as uninformative as said of nothing
    ],
)
def test_the_score_is_the_intended_less_the_unintended_drop(
    wipe: tuple[int, ...], everywhere: tuple[int, ...], score: float
) -> None:
    assert TASK.summary(readings(), readings(wipe, everywhere))["tpp_score"] == pytest.approx(score)


def test_classes_without_examples_are_left_out_and_no_examples_are_no_score() -> None:
    few = Readings(readings().examples[:4], readings().reads[:4])  # classes 0 and 1
    found = TASK.summary(few, Readings(few.examples, [-torch.ones(8)] * 4))
    assert found["intended_drop"] == 0.5 and found["unintended_drop"] is None and found["tpp_score"] is None
    assert set(found["accuracy_drop"]) == set(CLASSES[:2])
    assert TASK.summary(Readings([], []), Readings([], []))["tpp_score"] is None
