"""lm-eval on the live model: paired by document, never padded, and without a trace."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark import evaluate
from benchmark.cache import PLACE
from benchmark.contracts.defense import Edit, Where
from benchmark.errors import UsageError
from benchmark.model.edits import HOOKS, edited
from benchmark.model.subject import Subject
from benchmark.run.live_model import live_model
from benchmark.run.utility import Utility
from benchmark.sites import Site
from benchmark.suite_file import load_suite
from benchmark.suite_utility import UtilityTask
from leaderboard.board.aggregate import suite_board
from leaderboard.rows.run import read_run
from tests import tiny
from tests.toy_run import DEFENSE, FEW

HERE = Site.parse(tiny.SITE)
CHOICES = """
task: toy-choices
dataset_path: json
dataset_kwargs: {data_files: {test: choices.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
TEXTS = """
task: toy-texts
dataset_path: json
dataset_kwargs: {data_files: {test: texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}]
"""


def words(rng: random.Random, count: int) -> str:
    return " ".join(f"w{rng.randrange(3, 58)}" for _ in range(count))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[UtilityTask]:
    """Prompts and texts of several lengths; choices of one word and of two."""
    folder, rng = tmp_path_factory.mktemp("tasks"), random.Random(0)
    asked = [
        {"text": words(rng, 3 + n % 5), "choices": [words(rng, 1), words(rng, 1 + n % 2)], "answer": n % 2}
        for n in range(16)
    ]
    texts = [{"text": words(rng, 4 + n % 7)} for n in range(10)]
    for name, rows in (("choices", asked), ("texts", texts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, said in (("choices", CHOICES), ("texts", TEXTS)):
        (folder / f"{name}.yaml").write_text(said)
    return [UtilityTask(task=str(folder / f"{name}.yaml"), keep=0.9) for name in ("choices", "texts")]


class LastPosition:
    """Adds to the last position what the others hold on average: wrong wherever a padded one is the last."""

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        pooled = h.mean(1, keepdim=True)
        last = (torch.arange(h.shape[1]) == h.shape[1] - 1)[None, :, None]
        return torch.where(last, 3 * pooled, h + pooled)


class Destroy:
    """Leaves nothing of the stream."""

    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return -30 * h.flip(-1)


def measured(subject: Subject, tasks: list[UtilityTask], edits: Mapping[Site, Edit], rows: int = 8) -> Any:
    return Utility(subject, tasks, rows).of(edits)


def test_without_edits_every_difference_is_exactly_zero(tasks: list[UtilityTask]) -> None:
    for one in measured(tiny.subject(), tasks, {}):
        assert one.base == one.defended and len(one.base) in (16, 10)


def test_a_defense_that_breaks_the_model_loses(tasks: list[UtilityTask]) -> None:
    choices, texts = measured(tiny.subject(), tasks, {HERE: Destroy()})
    assert choices.base != choices.defended and (choices.unit, texts.unit) == ("share", "nats")
    assert set(choices.base) == {0.0, 1.0} and texts.weights == [4.0 + n % 7 for n in range(10)]
    assert sum(texts.defended) != pytest.approx(sum(texts.base), rel=1e-3)


def test_a_batch_is_as_one_text_at_a_time_for_an_edit_that_looks_around(tasks: list[UtilityTask]) -> None:
    subject, edits = tiny.subject(), {HERE: LastPosition()}
    together, alone = (measured(subject, tasks, edits, rows) for rows in (8, 1))
    for many, one in zip(together, alone, strict=True):
        assert many.defended == pytest.approx(one.defended, rel=1e-5) and many.base == pytest.approx(one.base, rel=1e-5)


def test_lm_evals_own_padding_would_not_be(tasks: list[UtilityTask]) -> None:
    from lm_eval.models import huggingface

    subject, plain = tiny.subject(), cast(Any, huggingface).HFLM
    loaded = Utility(subject, tasks).tasks[1]

    def values(rows: int) -> list[float]:
        with edited(subject, {HERE: LastPosition()}):
            return loaded.of(plain(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=rows)).values

    assert values(8) != pytest.approx(values(1), rel=1e-3)


def test_a_perplexity_is_of_every_word_behind_one_bos(tasks: list[UtilityTask]) -> None:
    subject = tiny.subject()
    text = json.loads(Path(tasks[1].task).with_suffix(".jsonl").read_text().splitlines()[3])["text"]
    ids = subject.tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids[0, 0] == subject.tokenizer.bos_token_id
    with torch.no_grad():
        log_probs = subject.model(ids).logits[0, :-1].log_softmax(-1)
    expected = -float(log_probs.gather(1, ids[0, 1:, None]).sum())
    assert measured(subject, tasks, {})[1].base[3] == pytest.approx(expected, rel=1e-5)


def test_what_is_generated_is_generated_alone_and_seen_by_edits() -> None:
    subject = tiny.subject()
    model = live_model(subject, 4)
    asked = [type("Request", (), {"args": (words(random.Random(n), 3 + n), {"max_gen_toks": 3})})() for n in range(3)]
    plain = model.generate_until(asked)
    with edited(subject, {HERE: LastPosition()}):
        alone = [model.generate_until([one])[0] for one in asked]
        assert model.generate_until(asked) == alone
    assert alone != plain


def test_nothing_is_left_behind(tasks: list[UtilityTask], capfd: pytest.CaptureFixture[str]) -> None:
    subject = tiny.subject()
    subject.tokenizer.pad_token = None
    before = [(name, value.clone()) for name, value in subject.model.state_dict().items()]
    torch.manual_seed(7)
    drawn = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # type: ignore[index,union-attr]
    measured(subject, tasks, {HERE: Destroy()})
    assert random.getstate() == drawn[0] and np.random.get_state()[1].tolist() == drawn[1]  # type: ignore[index,union-attr]
    assert torch.equal(torch.get_rng_state(), drawn[2])
    assert not any(vars(part)[kind] for part in subject.parts for kind in HOOKS)
    assert all(torch.equal(value, subject.model.state_dict()[name]) for name, value in before)
    assert subject.tokenizer.pad_token is None and capfd.readouterr() == ("", "")


def test_a_limit_takes_the_first_documents(tasks: list[UtilityTask]) -> None:
    few = measured(tiny.subject(), [one.limited(3) for one in tasks], {})
    assert [len(one.base) for one in few] == [3, 3]


class Nan:
    position_wise = True

    def __call__(self, h: Tensor, where: Where) -> Tensor:
        return h * float("nan")


def test_a_mean_that_is_no_share_is_told(tasks: list[UtilityTask]) -> None:
    loaded = Utility(tiny.subject(), tasks[:1]).tasks[0]
    with pytest.raises(UsageError, match=r"toy-choices: acc is no share in \[0, 1\]"):
        loaded._documents([{"acc": 40.0, "prompt_hash": "0"}])


def test_a_value_that_is_no_number_is_told(tasks: list[UtilityTask]) -> None:
    with pytest.raises(UsageError, match="toy-texts: word_perplexity is not finite on 10 of 10 documents"):
        measured(tiny.subject(), tasks[1:], {HERE: Nan()})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "f1"}, "has no metric 'f1' that is a mean or a perplexity over documents; it has: acc, acc_norm"),
        ({"task": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_a_task_that_cannot_be_compared_or_loaded_is_refused(tasks: Any, change: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Utility(tiny.subject(), [tasks[0].model_copy(update=change)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CHOICES.replace("choices.jsonl", "other.jsonl"), "there is no data file"),
        (CHOICES.replace("dataset_kwargs: {data_files: {test: choices.jsonl}}", ""), "local data need their files"),
        (CHOICES + "include: base.yaml\n", "`include` is not read"),
        (CHOICES + "process_docs: !function code.run\n", "the tag '!function' is not read"),
        (CHOICES.replace("task: toy-choices", "group: toy"), "give `task: NAME`"),
        (CHOICES.replace("test_split: test", "test_split: dev"), "cannot be loaded"),
    ],
)
def test_a_local_task_that_is_wrong_is_refused(tasks: Any, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "choices.jsonl").write_bytes(Path(tasks[0].task).with_suffix(".jsonl").read_bytes())
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(UsageError, match=said):
        Utility(tiny.subject(), [UtilityTask(task=str(tmp_path / "task.yaml"))])


def test_a_hub_task_is_loaded_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, from lm-eval's own folder of one task; what would be downloaded is given."""
    import datasets
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    from benchmark.run import utility_tasks

    folder = Path(lm_eval.tasks.__file__).parent / "wikitext"
    known = TaskManager(include_path=folder, include_defaults=False)
    monkeypatch.setattr(utility_tasks, "_manager", lambda _: known)
    asked: list[Any] = []

    def load(**given: Any) -> Any:
        asked.append(given)
        rows = datasets.Dataset.from_list([{"page": "w3 w4 w5"}])
        return datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), rows))

    monkeypatch.setattr(datasets, "load_dataset", load)
    (one,) = measured(tiny.subject(), [UtilityTask(task="wikitext", revision="0123abc")], {})
    assert (one.name, one.metric, one.weights) == ("wikitext", "word_perplexity", [3.0])
    assert asked[0]["revision"] == "0123abc" and asked[0]["path"] == "EleutherAI/wikitext_document_level"
    with pytest.raises(UsageError, match="lm-eval has no task 'wikitex'. Did you mean 'wikitext'?"):
        Utility(tiny.subject(), [UtilityTask(task="wikitex")])


# --- in a run


@pytest.fixture(scope="module")
def asking(suite: str, tasks: list[UtilityTask]) -> str:
    path = Path(suite).with_name("asking.yaml")
    entries = ", ".join(f"{{task: {one.task}, keep: 0.9}}" for one in tasks)
    path.write_text(f"name: asking\nextends: toy.yaml\nutility: [{entries}]\n")
    return str(path)


def test_it_enters_the_record_and_the_board_and_resuming_measures_what_is_lacking(
    asking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**options: Any) -> Any:
        return evaluate(DEFENSE, suite=asking, output_dir=tmp_path / "run", **FEW, **options)

    def reasons() -> list[str]:
        board = suite_board([read_run(tmp_path / "run")], resamples=50)
        return [reason for reason in board.entries[0].verdict.reasons if reason.startswith("utility task")]

    assert run(utility=False).status == "complete"
    assert reasons() == [
        f"utility task {name} of the suite was not measured on toy: repeat the run without --no-utility"
        for name in ("toy-choices", "toy-texts")
    ]
    result = run()
    assert result.status == "complete" and not result.failures
    (found,) = suite_board([read_run(result.directory)], resamples=50).entries[0].per_task.values()
    assert [one.name for one in found.utility_tasks] == ["toy-choices", "toy-texts"]
    assert found.utility_tasks[1].change.value and "not measured" not in str(reasons())
    monkeypatch.setattr(Utility, "of", lambda *_: pytest.fail("it was measured already"))
    run()
    written = json.loads(next((tmp_path / "run" / "fits").glob("toy__sae-clamp.json")).read_text())
    assert {type(v) for one in written["utility_tasks"] for v in one["base"]} == {float}


def test_a_suites_hash_knows_the_data_and_not_the_place(asking: str, tasks: Any, tmp_path: Path) -> None:
    for one in tasks:
        for name in (Path(one.task).name, Path(one.task).with_suffix(".jsonl").name):
            (tmp_path / name).write_bytes(Path(one.task).with_name(name).read_bytes())
    moved = [UtilityTask(task=str(tmp_path / Path(one.task).name), keep=one.keep) for one in tasks]
    held = load_suite(asking)
    assert held.model_copy(update={"utility": tuple(moved)}).hash == held.hash
    with (tmp_path / "texts.jsonl").open("a") as file:
        file.write('{"text": "w3 w4"}\n')
    assert held.model_copy(update={"utility": tuple(moved)}).hash != held.hash
