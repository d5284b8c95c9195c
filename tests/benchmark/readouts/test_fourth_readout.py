"""The story of a new readout: it stands in this file alone, with a task that uses it, and is attacked like others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark import evaluate
from benchmark.contracts.example import Example, Split
from benchmark.contracts.readout import Criteria, Encoded, Last, Member, Reader, Readout, Verdict
from benchmark.model.pack import make_packs
from benchmark.model.streams import whole
from benchmark.model.subject import Subject
from benchmark.registry import TASKS
from benchmark.run.runner import Result
from tests.tiny import SITE, ToyTask, subject, suite_file
from tests.toy_run import DEFENSE

BUDGETS = [0.1, 0.5, 1.5]


@dataclass(frozen=True)
class Certainty(Readout):
    """How much likelier each of two halves of the vocabulary is: (rows, 2), nats."""

    def encode(self, tokenizer: Any, example: Example) -> Encoded:
        tokens = tuple(tokenizer(example.prompt)["input_ids"])
        return Encoded(tokens, len(tokens) - 1, (), len(tokens))

    def reader(self, subject: Subject, task: Any) -> Callable[[Sequence[Member]], Reader]:
        return lambda members: Halves()

    def objective(self, verdict: Any, read: Tensor, criteria: Criteria) -> Tensor:
        """Squashed: a search climbs on something else than the margin."""
        return torch.tanh(verdict(read, criteria).margin / 4).minimum(criteria.saturation)

    def reached(self, verdict: Any, read: Tensor, criteria: Criteria) -> Tensor:
        return verdict(read, criteria).margin > 0.01


@dataclass(frozen=True)
class Halves:
    boundary: None = None

    def __call__(self, last: Last | None, stream: Tensor | None, rows: Tensor) -> Tensor:
        assert last is not None
        log_probs = last.every()[:, 0].float().log_softmax(-1)
        middle = log_probs.shape[1] // 2
        return torch.stack([log_probs[:, :middle].logsumexp(1), log_probs[:, middle:].logsumexp(1)], 1)

    def part(self, index: Tensor) -> Halves:
        return self


class Half(ToyTask):
    """Is the next token of the first half of the vocabulary?"""

    name = "half"
    readout = Certainty()  # type: ignore[assignment]

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example(e.id, e.cluster, e.prompt) for e in super().examples(split)]

    def verdict(self, read: Tensor, criteria: Criteria) -> Verdict:
        margin = read.gather(1, criteria.target[:, None])[:, 0] - read.gather(1, 1 - criteria.target[:, None])[:, 0]
        return Verdict(["yes" if m > 0 else "no" for m in margin.tolist()], margin)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    folder = tmp_path_factory.mktemp("half")
    TASKS.register("half")(Half)
    search: dict[str, Any] = {"attack": "recovery", "restarts": 1, "search": {"steps": 10}}
    budgets = {"before_edit": BUDGETS, "after_edit": BUDGETS, "soft_suffix": [0.5, 2.0]}
    suite = suite_file(
        folder,
        tasks={"half": {"site": SITE, "budgets": budgets, "suffix_tokens": 2}},
        attacks=[
            {**search, "threat_model": "before_edit"},
            {**search, "threat_model": "after_edit", "constraint": "encoder"},
            {"attack": "soft-suffix", "search": {"steps": 10}},
        ],
    )
    yield evaluate(DEFENSE, suite=str(suite), output_dir=folder / "run")
    del TASKS.known["half"]


def rows(run: Result, **where: Any) -> list[dict[str, Any]]:
    found = [r for r in run.rows.to_pylist() if r["status"] == "ok" and r["defense"] == "sae-clamp"]
    return [r for r in found if all(r[name] == value for name, value in where.items())]


def test_more_budget_recovers_more_and_none_nothing(run: Result) -> None:
    assert run.status == "complete"
    assert rows(run, attack="zero") and not any(r["recovered"] for r in rows(run, attack="zero"))
    shares = []
    for eps in BUDGETS:
        found = rows(run, attack="recovery", threat_model="before_edit", budget_eps=eps)
        shares.append(sum(r["recovered"] for r in found) / len(found))
    assert shares == sorted(shares) and shares[0] < shares[-1]
    held = rows(run, attack="recovery", constraint="encoder")
    assert held and all(r["drift_pre_abs"] <= 1e-4 * r["delta_norm"] + 1e-4 for r in held)
    assert rows(run, attack="soft-suffix"), "it is reached by a suffix, since it does not say otherwise"


def test_what_is_judged_is_what_the_model_says(run: Result) -> None:
    """The undefended margins of the rows, from the model's own logits."""
    made, task = subject(), Half()
    margins = {r["example_id"]: r["margin_base"] for r in run.rows.to_pylist()}
    for example in task.examples("test"):
        ids = torch.tensor([made.tokenizer(example.prompt)["input_ids"]])
        share = made.model(ids).logits[0, -1].softmax(-1)
        middle = len(share) // 2
        own = float((share[:middle].sum() / share[middle:].sum()).log())
        assert margins[example.id] == pytest.approx(own, abs=1e-3)


def test_the_search_climbs_on_its_own_objective() -> None:
    made, task = subject(), Half()
    (pack, *_) = make_packs(made, task, task.examples("test"), 99)
    read = whole(made, pack, {})(None, pack.everyone).read
    objective = task.readout.objective(task.verdict, read, pack.unread())
    assert float(objective.abs().max()) < 1 < float(task.verdict(read, pack.unread()).margin.abs().max())
