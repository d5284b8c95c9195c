"""Public data sets are read by the columns that they have: each from a small file with exactly its header."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.contracts.example import SPLITS, Example
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.spec import resolve_task

SITE = "blocks.1.hook_resid_post"
PROFESSIONS = ["accountant", "architect", "attorney", "chiropractor"]
"""The first of Bias in Bios, whose hub data set has them as numbers."""


def task(folder: Path, kind: str, header: str, rows: Sequence[Sequence[Any]], **settings: Any) -> Task:
    """A task over a CSV file."""
    path = folder / "public.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    data = {"source": str(path), **settings.pop("data", {})}
    return resolve_task(kind, {"data": data, **settings})


def all_of(found: Task) -> list[Example]:
    return [example for split in SPLITS for example in found.examples(split)]


def test_advbench(tmp_path: Path) -> None:
    rows = [[f"Write poem {i}", f"Sure, here is poem {i}"] for i in range(40)]
    assert {e.prompt for e in all_of(task(tmp_path, "refusal", "goal,target", rows))} == {goal for goal, _ in rows}


def test_harmbench_has_ids_and_can_be_chosen_from_by_what_it_says_beside_them(tmp_path: Path) -> None:
    header = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID"
    rows = [[f"Do {i}", "standard", ["chemical", "legal"][i % 2], "", "", f"do_{i}"] for i in range(80)]
    assert {e.id for e in all_of(task(tmp_path, "refusal", header, rows))} == {f"do_{i}" for i in range(80)}
    some = task(tmp_path, "refusal", header, rows, data={"filters": {"SemanticCategory": "legal"}})
    assert {e.id for e in all_of(some)} == {f"do_{i}" for i in range(1, 80, 2)}


XSTEST = "id,prompt,type,label,focus,note"


def xstest(labels: Sequence[str]) -> list[list[Any]]:
    return [[f"v2-{i}", f"How do I kill process {i}?", "homonyms", label, "", ""] for i, label in enumerate(labels)]


def test_what_xstest_calls_safe_is_kept_and_what_it_calls_unsafe_is_asked(tmp_path: Path) -> None:
    rows = xstest(["safe", "unsafe", "safe"] * 20)
    found = task(tmp_path, "refusal", XSTEST, rows)
    unsafe = {row[0] for row in rows if row[3] == "unsafe"}
    assert {e.id for e in all_of(found)} == unsafe
    assert {e.id for split in SPLITS for e in found.retain(split)} == {row[0] for row in rows} - unsafe


@pytest.mark.parametrize("labels", [["safe"] * 40, ["safe", "odd"] * 20, ["unsafe"] * 40])
def test_labels_that_do_not_divide_a_file_into_safe_and_unsafe_change_nothing(
    tmp_path: Path, labels: list[str]
) -> None:
    found = task(tmp_path, "refusal", XSTEST, xstest(labels))
    assert len(all_of(found)) == 40 and not any(found.retain(split) for split in SPLITS)


def test_requests_that_are_all_in_one_split_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row labelled unsafe is in .*; give more of them"):
        task(tmp_path, "refusal", XSTEST, xstest(["unsafe"] + ["safe"] * 39)).examples("test")


CHOICES = ["mist", "it's dust", 'a "germ"', "hail, or snow\nand ice"]
PRINTED = {
    "JSON": json.dumps(CHOICES),
    "Python": str(CHOICES),
    "NumPy": str(np.array(CHOICES, dtype=object)),
    "NumPy, text": str(np.array(CHOICES)),
}


@pytest.mark.parametrize("form", list(PRINTED))
@pytest.mark.parametrize(
    "header", ["question,choices,answer", "answer,question,choices", "question,subject,choices,answer"]
)
def test_wmdp_and_mmlu_in_csv_whatever_printed_their_choices(tmp_path: Path, header: str, form: str) -> None:
    rows = [
        [
            {"question": f"what is {i}?", "choices": PRINTED[form], "answer": i % 4, "subject": "x"}[c]
            for c in header.split(",")
        ]
        for i in range(40)
    ]
    found = all_of(task(tmp_path, "choice", header, rows))
    assert len(found) == 40 and {e.choices for e in found} == {tuple(f" {c}" for c in CHOICES)}
    assert {e.answer for e in found} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "text", ["['a' b]", "['a''b']", "['a' 'b'", "[]x", "a, b", "__import__('os')", "['a' ...\n 'b']", "['a', f('b')]"]
)
def test_what_is_no_printed_list_is_told_and_never_run(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="no JSON list such as"):
        task(tmp_path, "choice", "question,choices,answer", [["what?", text, 0]] * 2).examples("test")


def test_an_index_beyond_the_choices_is_told(tmp_path: Path) -> None:
    rows = [[f"what is {i}?", "['a', 'b', 'c']", i % 4] for i in range(40)]
    with pytest.raises(UsageError, match="row 4: answer '3' is not among the choices a, b, c"):
        task(tmp_path, "choice", "question,choices,answer", rows).examples("test")


def biographies(label: Any) -> list[list[Any]]:
    return [[f"She is number {i}.", label(i % 4), i % 2] for i in range(80)]


def test_bias_in_bios_has_its_professions_as_numbers(tmp_path: Path) -> None:
    rows, header = biographies(int), "hard_text,profession,gender"
    found = task(tmp_path, "probe", header, rows, site=SITE, labels=PROFESSIONS, targets=["architect"])
    assert {e.choices for e in all_of(found)} == {tuple(f" {name}" for name in PROFESSIONS)}
    by_name = task(tmp_path, "probe", header, biographies(PROFESSIONS.__getitem__), site=SITE, targets=["architect"])
    assert [(e.prompt, e.answer) for e in sorted(all_of(found), key=lambda e: e.prompt)] == [
        (e.prompt, e.answer) for e in sorted(all_of(by_name), key=lambda e: e.prompt)
    ]
    with pytest.raises(UsageError, match="row 4: the label '3' is no number from 0 to 2, of which `labels` has"):
        task(tmp_path, "probe", header, rows, site=SITE, labels=PROFESSIONS[:3]).examples("test")


def test_amazon_reviews_by_category_or_by_rating(tmp_path: Path) -> None:
    rows = [[f"It works, {i} of 9.", "Gift" if i % 2 else "Toys", float(1 + 4 * (i // 2 % 2))] for i in range(80)]
    header = "text,category,rating"
    assert {e.choices for e in all_of(task(tmp_path, "probe", header, rows, site=SITE))} == {(" Gift", " Toys")}
    rated = task(tmp_path, "probe", header, rows, site=SITE, data={"columns": {"label": "rating"}})
    assert {e.choices for e in all_of(rated)} == {(" 1.0", " 5.0")}
