"""The data of tasks: the same examples from every format, splits that nothing moves, and errors that name the row."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from benchmark.contracts.example import SPLITS, Example
from benchmark.contracts.task import Task
from benchmark.errors import UsageError
from benchmark.registry import SOURCES
from benchmark.spec import resolve_task
from tasks.organism.source import ITEMS, records

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Records = list[dict[str, Any]]
ROWS: Records = [
    {
        "question": f"what is {i}?",
        "choices": [f"a {i}", f'"b", {i}', f"c {i}"],
        "answer": i % 3,
        "cluster": f"topic {i % 20}",
    }
    for i in range(60)
]


def write(path: Path, rows: Records) -> Path:
    """Records as a file of the format that the path's ending names."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    else:
        path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def task_of(source: Path | str, kind: str = "choice", **data: Any) -> Task:
    return resolve_task(kind, {"data": {"source": str(source), **data}})


def by_split(task: Task) -> dict[str, list[Example]]:
    return {split: list(task.examples(split)) for split in SPLITS}


def ids(task: Task) -> dict[str, set[str]]:
    return {split: {e.id for e in examples} for split, examples in by_split(task).items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.json", ROWS)


# --- formats and columns


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in the layout of a hub data set, and a cache of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield tmp_path / "hub"
    datasets.enable_progress_bars()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_same_records_are_the_same_examples_in_every_format(path: Path, tmp_path: Path, ending: str) -> None:
    expected = by_split(task_of(path))
    assert sum(map(len, expected.values())) == len(ROWS)
    assert by_split(task_of(write(tmp_path / f"rows{ending}", ROWS))) == expected


def test_a_hub_data_set_is_a_folder_too(path: Path, hub: Path) -> None:
    hub.mkdir()
    write(hub / "train.parquet", ROWS)
    assert by_split(task_of(f"hub:{hub}")) == by_split(task_of(path))
    write(hub / "validation.parquet", [{**row, "question": f"and {row['question']}"} for row in ROWS[:5]])
    own = {"fit": "train", "dev": "validation", "test": "test"}
    with pytest.raises(UsageError, match="cannot be loaded: .*test"):
        task_of(f"hub:{hub}", splits=own).examples("fit")
    assert by_split(task_of(f"hub:{hub}::train")) == by_split(task_of(path)), "a split of several, dealt out"
    with pytest.raises(UsageError, match="row 1: the split 'train' is none of fit, dev, test; say which is which"):
        task_of(f"hub:{hub}").examples("fit")


def test_splits_and_class_labels_of_a_hub_data_set_go_by_name(hub: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["nurse", "cook", "judge"])})
    hub.mkdir()
    for split, numbers in (("train", range(20)), ("validation", range(20, 30)), ("test", range(30, 50))):
        rows = {"text": [f"text {i}" for i in numbers], "label": [i % 3 for i in numbers]}
        Dataset.from_dict(rows, features=features).to_parquet(hub / f"{split}.parquet")
    own = {"fit": "train", "dev": "validation", "test": "test"}
    settings = {"data": {"source": f"hub:{hub}", "splits": own}, "site": "blocks.0.hook_resid_post"}
    task = resolve_task("probe", settings)
    found = [*task.examples("fit"), *task.retain("fit")]
    assert {e.prompt for e in found} == {f"text {i}" for i in range(20)}
    assert {e.choices[e.answer] for e in found} == {" nurse", " cook", " judge"}


def test_a_choice_may_stand_in_a_column_of_its_own(path: Path, tmp_path: Path) -> None:
    expected = by_split(task_of(path))
    for names, mapping in ((("choice_0", "choice_1", "choice_2"), {}), (("A", "B", "C"), {"choices": ["A", "B", "C"]})):
        rows = [
            {k: v for k, v in row.items() if k != "choices"} | dict(zip(names, row["choices"], strict=True))
            for row in ROWS
        ]
        assert by_split(task_of(write(tmp_path / "rows.csv", rows), columns=mapping)) == expected


def test_columns_of_other_names_are_mapped(path: Path, tmp_path: Path) -> None:
    renamed = [{"Q": row["question"], "id": i, "topic": row["cluster"], **row} for i, row in enumerate(ROWS)]
    for row in renamed:
        del row["question"], row["cluster"]
    task = task_of(write(tmp_path / "renamed.csv", renamed), columns={"question": "Q", "cluster": "topic"})
    expected = by_split(task_of(path))
    assert {s: [(e.content_hash) for e in some] for s, some in by_split(task).items()} == {
        s: [(e.content_hash) for e in some] for s, some in expected.items()
    }
    assert ids(task) != ids(task_of(path)), "ids are the data's own"


@pytest.mark.parametrize("header", ["goal,target", "Behavior,BehaviorID", "prompt,type", "Index,Goal,Behavior"])
def test_public_files_are_read_by_their_own_names(tmp_path: Path, header: str) -> None:
    names = header.split(",")
    path = write(tmp_path / "public.csv", [{name: f"{name} {i}" for name in names} for i in range(40)])
    prompt = next(name for name in ("prompt", "goal", "Goal", "Behavior") if name in names)
    found = [e for some in by_split(task_of(path, "refusal")).values() for e in some]
    assert {e.prompt for e in found} == {f"{prompt} {i}" for i in range(40)}
    assert ("BehaviorID" in names) == (found[0].id.startswith("BehaviorID "))


@pytest.mark.parametrize("answer", [lambda row: row["choices"][row["answer"]], lambda row: "ABC"[row["answer"]]])
def test_the_right_choice_is_named_by_text_letter_or_index(
    path: Path, tmp_path: Path, answer: Callable[[dict[str, Any]], str]
) -> None:
    named = write(tmp_path / "named.csv", [{**row, "answer": answer(row)} for row in ROWS])
    assert [e.answer for e in task_of(named).examples("test")] == [e.answer for e in task_of(path).examples("test")]


def test_an_answer_that_can_be_read_in_two_ways_is_told_until_it_is_said_which(tmp_path: Path) -> None:
    numbers = write(
        tmp_path / "n.csv", [{"question": f"{i}?", "choices": ["1", "2", "3"], "answer": 2} for i in range(40)]
    )
    with pytest.raises(UsageError, match="row 1: answer '2' can be read as text, index; say which by answer_is"):
        task_of(numbers).examples("fit")
    for reading, place in (("text", 1), ("index", 2)):
        settings = {"data": {"source": str(numbers)}, "form": {"answer_is": reading}}
        assert {e.answer for e in resolve_task("choice", settings).examples("fit")} == {place}


# --- splits


def test_splits_do_not_depend_on_the_order_of_the_rows_nor_on_other_rows(path: Path, tmp_path: Path) -> None:
    whole = ids(task_of(path))
    assert ids(task_of(write(tmp_path / "turned.json", ROWS[::-1]))) == whole
    some = ids(task_of(write(tmp_path / "some.json", ROWS[:40])))
    assert all(some[split] < whole[split] for split in SPLITS)


def test_no_cluster_is_in_two_splits_and_rows_by_themselves_would_be(path: Path, tmp_path: Path) -> None:
    clusters = [{e.cluster for e in some} for some in by_split(task_of(path)).values()]
    assert all(clusters) and sum(map(len, clusters)) == len(set().union(*clusters)) == 20
    alone = [{k: v for k, v in row.items() if k != "cluster"} for row in ROWS]
    topics = {row["question"]: row["cluster"] for row in ROWS}
    split_up = by_split(task_of(write(tmp_path / "alone.json", alone)))
    assert sum(len({topics[e.prompt] for e in some}) for some in split_up.values()) > 20


@pytest.mark.parametrize("shares", [None, {"fit": 0.7, "dev": 0.1, "test": 0.2}])
def test_shares_are_kept_and_can_be_given(tmp_path: Path, shares: dict[str, float] | None) -> None:
    many = write(tmp_path / "many.json", [{"prompt": f"{i}?"} for i in range(1000)])
    found = by_split(task_of(many, "refusal", shares=shares))
    for split, share in (shares or {"fit": 0.4, "dev": 0.2, "test": 0.4}).items():
        assert abs(len(found[split]) / 1000 - share) < 0.05, (split, len(found[split]))


OWN = [{**row, "cluster": f"{i}", "split": ("train", "val", "test", "rest")[i % 4]} for i, row in enumerate(ROWS)]
NAMES = {"fit": "train", "dev": "val", "test": "test"}


def test_the_datas_own_splits_are_taken_by_their_names_and_others_left_out(tmp_path: Path) -> None:
    own = write(tmp_path / "own.csv", OWN)
    found = by_split(task_of(own, splits=NAMES))
    for split, theirs in NAMES.items():
        assert [e.prompt for e in found[split]] == [row["question"] for row in OWN if row["split"] == theirs]
    with pytest.raises(UsageError, match="row 1: the split 'train' is none of fit, dev, test"):
        task_of(own).examples("fit")
    dealt = task_of(own, shares={"fit": 0.4, "dev": 0.2, "test": 0.4})
    assert sum(map(len, by_split(dealt).values())) == len(OWN), "shares take no notice of them"


def test_splits_of_the_data_that_share_a_cluster_are_told_unless_that_is_meant(tmp_path: Path) -> None:
    shared = [{**row, "split": SPLITS[i % 3]} for i, row in enumerate(ROWS)]
    path = write(tmp_path / "shared.json", shared)
    with pytest.raises(
        UsageError, match=r"row 21: it is in test and shares the cluster 'topic 0' with .*row 1, in fit"
    ):
        task_of(path).examples("fit")
    assert len(task_of(path, shared_clusters=True).examples("fit")) == 20


def test_a_limit_takes_the_same_rows_in_whatever_order_they_stand(path: Path, tmp_path: Path) -> None:
    few, turned = task_of(path, limit=30), task_of(write(tmp_path / "turned.json", ROWS[::-1]), limit=30)
    assert ids(few) == ids(turned) and sum(map(len, ids(few).values())) == 30
    whole = ids(task_of(path))
    assert all(ids(few)[split] <= whole[split] for split in SPLITS)


def test_filters_choose_rows_by_columns_of_the_data(tmp_path: Path) -> None:
    rows = [{**row, "subject": ("bio", "chem", "law")[i % 3], "year": i % 2} for i, row in enumerate(ROWS)]
    path = write(tmp_path / "subjects.csv", rows)
    task = task_of(path, filters={"subject": ["bio", "law"], "year": 1})
    expected = {r["question"] for r in rows if r["subject"] != "chem" and r["year"] == 1}
    assert {e.prompt for some in by_split(task).values() for e in some} == expected


def test_two_tasks_of_a_kind_and_their_retain_sets_know_nothing_of_each_other(tmp_path: Path) -> None:
    halves = [write(tmp_path / f"{i}.json", rows) for i, rows in enumerate((ROWS[::2], ROWS[1::2]))]
    form = {"template": "{options} {question}"}
    one, two = (
        resolve_task("choice", {"data": {"source": str(a)}, "form": form, "retain_data": {"source": str(b)}})
        for a, b in (halves, halves[::-1])
    )
    for split in SPLITS:
        assert not {e.prompt for e in one.examples(split)} & {e.prompt for e in two.examples(split)}
        assert {e.cluster for e in one.retain(split)} == {e.cluster for e in two.examples(split)}
    example = two.examples("test")[0]
    assert example in two.prerequisites(example)
    assert not one.prerequisites(example), "it knows nothing of the other's examples"


# --- registered sources


def test_every_item_of_the_organism_is_a_source_with_splits_and_ids_of_its_own() -> None:
    assert SOURCES.get("organism") is records
    for item in ITEMS:
        found = records(item)
        assert {r["split"] for r in found} == set(SPLITS) and len({r["id"] for r in found}) == len(found)
    with pytest.raises(UsageError, match="the source organism has no item 'poems'; it has: ioi, "):
        records("poems")


# --- bad input


def changed(row: int, **values: Any) -> Records:
    """``ROWS`` with other values in a row, from 1."""
    return [{**r, **values} if i == row else r for i, r in enumerate(ROWS, 1)]


def without(column: str) -> Records:
    return [{k: v for k, v in row.items() if k != column} for row in ROWS]


BAD_ROWS: list[tuple[Records, str]] = [
    ([], "is empty: it has no records"),
    (without("answer"), "has no column answer; it has: question, choices, cluster; say which it is: columns: {"),
    (changed(3, question=" "), "row 3: question is empty; fill it in, or leave the row out"),
    (changed(3, question=None), "row 3: question is empty"),
    (changed(3, answer=math.nan), "row 3: answer is empty"),
    (changed(3, question={"text": "?"}), "row 3: question is a dict; write a text"),
    (changed(3, choices=[]), "row 3: choices is empty"),
    (changed(3, choices="['a' b]"), "row 3: choices is \"['a' b]\", no JSON list"),
    (changed(3, choices=4), "row 3: choices is 4; expected a list"),
    (changed(3, choices=["a", None]), "row 3: choices[1] is empty"),
    (changed(3, choices=["a", "b ", "b"], answer="a"), "row 3: the choice 'b' is there twice"),
    (changed(3, choices=["a"], answer="a"), "row 3: it has 1 choices; a question has two or more"),
    (changed(3, answer="d"), "row 3: answer 'd' is not among the choices a 2, \"b\", 2, c 2"),
    (changed(3, answer=3), "row 3: answer '3' is not among the choices"),
    (changed(3, answer=-1), "row 3: answer '-1' is not among the choices"),
    ([{**row, "wrong": [row["answer"]]} for row in ROWS], "row 1: the answer 'a 0' is named among the wrong choices"),
    ([*ROWS, ROWS[4]], "row 61: it says the same as"),
    ([{**row, "id": i // 2} for i, row in enumerate(ROWS)], "row 2: the id '0' is also that of"),
    ([{**ROWS[0], "id": i, "cluster": i} for i in range(9)], "row 2: it says the same as"),
    ([{**row, "split": "fit"} for row in ROWS], "no row is in dev, test, of 60 rows in 20 clusters; give more"),
    ([{**row, "cluster": "one"} for row in ROWS], "of 60 rows in 1 clusters"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "message"), BAD_ROWS)
def test_bad_rows_are_told_with_their_number(tmp_path: Path, rows: Records, message: str) -> None:
    with pytest.raises(UsageError) as told:
        task_of(write(tmp_path / "bad.json", rows)).examples("test")
    assert message in str(told.value) and "bad.json" in str(told.value)


BAD_FILES: list[tuple[str, str | bytes, str]] = [
    ("a.csv", "", "a.csv is empty: it has no records"),
    ("a.csv", "question,choices,answer\n", "a.csv is empty"),
    ("a.csv", "question,question\n1,2\n", "a.csv cannot be read as .csv: the header names question twice"),
    ("a.csv", "question,answer\nwhat, now?,1\n", "row 1 has more cells than the header, 2; quote texts with commas"),
    ("a.csv", 'question,answer\n"what,1\n', "a.csv cannot be read as .csv: unexpected end of data"),
    ("a.csv", b"question\n\xff\n", "a.csv cannot be read as .csv: 'utf-8' codec can't decode"),
    ("a.json", "[{", "a.json cannot be read as .json"),
    ("a.json", '{"question": []}', "it holds a dict; expected a list of objects"),
    ("a.json", "[1]", "row 1 is a int; expected an object"),
    ("a.jsonl", '{"question": "?"}\n{"question"\n', "row 2: Expecting ':' delimiter"),
    ("a.jsonl", '[1]\n', "row 1 is a list; expected an object"),
    ("a.parquet", "no parquet", "a.parquet cannot be read as .parquet"),
    ("a.txt", "x", "is no source of data; write a file (.csv, .json, .jsonl, .parquet), hub:OWNER/NAME@COMMIT"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_files_that_cannot_be_read_are_told(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UsageError) as told:
        task_of(path).examples("test")
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.csv", "there is no data file 'nowhere.csv'"),
        ("organsim:ioi", "unknown data source 'organsim'. Did you mean 'organism'?"),
        ("organism:poems", "has no item 'poems'"),
        ("hub:cais/mmlu", "is not pinned: its owner can change it, and scores with it; write hub:cais/mmlu@COMMIT"),
        ("hub:cais/mmlu@main", "is not pinned"),
        ("hub:cais/mmlu@c30699e", "is not pinned"),
        (f"hub:cais//mmlu@{COMMIT}", "names no part of the hub; write hub:OWNER/NAME@REVISION"),
        ("hub:cais/mmlu@c30699e:a:b:c", "has 1 parts too many; write hub:OWNER/NAME@COMMIT:CONFIG:SPLIT"),
    ],
)  # fmt: skip
def test_sources_that_are_none_are_told(source: str, message: str) -> None:
    with pytest.raises(UsageError) as told:
        task_of(source).examples("test")
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": {"quesiton": "Q"}}, "`columns` maps quesiton, but this kind reads: question, choices, answer"),
        ({"columns": {"question": "Q"}}, "has no column Q, which `columns` maps question to; it has: question, "),
        ({"columns": {"question": ["question", "answer"]}}, "row 1: question is a list; write a text"),
        ({"filters": {"subject": "bio"}}, "has no column subject to choose by; it has: question"),
        ({"filters": {"answer": 7}}, "none of 60 rows is left; answer was to be 7, and is 0, 1, 2"),
        ({"splits": {"fit": "a", "dev": "b", "test": "c"}}, "has no column split to choose by"),
        ({"splits": {"fit": "a", "dev": "b"}}, "name fit, dev and test, each its own"),
        ({"splits": {"fit": "a", "dev": "a", "test": "b"}}, "name fit, dev and test, each its own"),
        ({"splits": {"train": "a"}}, "data.splits.train"),
        ({"shares": {"fit": 1.0}}, "give fit, dev and test a share above 0 each; they sum to 1"),
        ({"shares": {"fit": 0.5, "dev": 0.5, "test": 0.5}}, "they sum to 1"),
        ({"limit": 0}, "data.limit: Input should be greater than or equal to 1"),
        ({"revision": "main"}, "data.revision: Unexpected keyword argument"),
    ],
)  # fmt: skip
def test_settings_that_fit_nothing_are_told(path: Path, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as told:
        task_of(path, **settings).examples("test")
    assert message in str(told.value)


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("form", ["{file}", "hub:{folder}"])
def test_a_file_with_other_content_is_read_anew_though_its_size_and_time_are_the_same(
    hub: Path, ending: str, form: str
) -> None:
    hub.mkdir()
    file = write(hub / f"train{ending}", ROWS)
    source = form.format(file=file, folder=hub)
    before = by_split(task_of(source))
    was = file.stat()
    write(file, [{**row, "question": row["question"].replace("what", "whom")} for row in ROWS])
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    after = by_split(task_of(source))
    assert {e.prompt.split()[0] for e in before["fit"]} == {"what"}
    assert {e.prompt.split()[0] for e in after["fit"]} == {"whom"}


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a data set at a commit, in a hub cache as the hub's library lays it out; nothing else is asked."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub-cache" / "datasets--someone--questions"
    (folder / "blobs").mkdir(parents=True)
    there = folder / "snapshots" / COMMIT
    for config, rows in (("easy", ROWS), ("hard", ROWS[:30])):
        blob, file = folder / "blobs" / config, there / config / "train.parquet"
        file.parent.mkdir(parents=True)
        write(folder / "blobs" / f"{config}.parquet", rows).rename(blob)
        file.symlink_to(blob)
    (there / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(f"- config_name: {c}\n  data_files: {c}/*.parquet\n" for c in ("easy", "hard"))
        + "---\n"
    )
    return there


def test_a_pinned_data_set_is_read_from_a_filled_cache_without_a_connection(
    hub: Path, path: Path, cached: Path
) -> None:
    source = f"hub:someone/questions@{COMMIT}"
    assert by_split(task_of(f"{source}:easy")) == by_split(task_of(path))
    assert by_split(task_of(f"{source}:easy:train")) == by_split(task_of(path))
    assert by_split(task_of(f"{source}:hard")) != by_split(task_of(path)), "the config is honoured"
    with pytest.raises(UsageError, match="cannot be loaded"):
        task_of(f"{source}:middling").examples("test")


def test_without_a_connection_what_is_missing_is_said(cached: Path) -> None:
    with pytest.raises(UsageError, match="is not on this machine, and this run is offline; missing"):
        task_of(f"hub:someone/else@{COMMIT}").examples("test")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "cais/mmlu is gated: .* give it on https://huggingface.co/datasets/cais/mmlu"),
        ("RevisionNotFoundError", f"cais/mmlu has no revision '{COMMIT}'; give a whole commit"),
        ("RepositoryNotFoundError", "the hub has no dataset 'cais/mmlu'"),
    ],
)
def test_what_the_hub_refuses_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: str, message: str
) -> None:
    import httpx
    from huggingface_hub import errors

    def refused(*_: Any, **__: Any) -> None:
        answer = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
        raise getattr(errors, error)("no", response=answer)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(UsageError, match=message):
        task_of(f"hub:cais/mmlu@{COMMIT}").examples("test")


def test_a_retain_set_is_checked_as_early_as_the_examples(path: Path, tmp_path: Path) -> None:
    bad = write(tmp_path / "bad.csv", changed(3, answer="d"))
    for kind, settings in (("choice", {}), ("refusal", {"columns": {"prompt": "question"}})):
        data = {"source": str(path), **settings}
        retain = {"source": str(bad), **settings}
        task = resolve_task(kind, {"data": data, "retain_data": {**retain, "limit": 60}})
        if kind == "choice":
            with pytest.raises(UsageError, match="bad.csv, row 3"):
                task.examples("fit")
        else:
            assert task.examples("fit"), "an answer is nothing to it"
