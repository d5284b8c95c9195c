"""Generation meets edits and writes in absolute positions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmark.model.edits import Passage, passing
from benchmark.model.generation import generate
from benchmark.model.subject import Subject
from tests.benchmark.model.writer import FAMILIES, LAYER, LENGTH, NEW, Push, prompts, writer


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest) -> Subject:
    return writer(request.param)


def written(made: Subject, ids: Tensor, passage: Passage) -> Tensor:
    return torch.tensor([text.tokens for text in generate(made, ids, passage, NEW)])


def by_full_passes(made: Subject, ids: Tensor, passage: Passage) -> Tensor:
    """The same by running everything again for every token, without a cache."""
    with torch.no_grad(), passing(made, passage, generated_from=LENGTH):
        for _ in range(NEW):
            best = made.model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, best], 1)
    return ids[:, LENGTH:]


def write(size: float, start: int, width: int) -> Passage:
    delta = size * torch.randn(3, width, 32, generator=torch.Generator().manual_seed(1))
    return Passage({}, {LAYER: delta}, start)


@pytest.mark.parametrize(
    "passage", [Passage({}), Passage({LAYER: Push(4.0)}), write(6.0, LENGTH - 2, 2), write(6.0, LENGTH, 3)]
)
def test_the_cache_changes_nothing(made: Subject, passage: Passage) -> None:
    assert torch.equal(written(made, prompts(), passage), by_full_passes(made, prompts(), passage))


@pytest.mark.parametrize("position", [LENGTH, LENGTH + 1, LENGTH + 2])
def test_a_delta_at_a_generated_position_changes_that_step_and_none_before(made: Subject, position: int) -> None:
    plain = written(made, prompts(), Passage({}))
    moved = written(made, prompts(), write(50.0, position, 1))
    step = position - LENGTH + 1  # the token that is predicted from that position
    assert torch.equal(moved[:, :step], plain[:, :step])
    assert (moved[:, step] != plain[:, step]).any()
    beyond = written(made, prompts(), write(50.0, LENGTH + NEW + 1, 1))
    assert torch.equal(beyond, plain), "nothing is read there"


def test_an_edit_of_generated_positions_leaves_the_first_answer_token_alone(made: Subject) -> None:
    plain, pushed = (written(made, prompts(), p) for p in (Passage({}), Passage({LAYER: Push(50.0)})))
    assert torch.equal(plain[:, 0], pushed[:, 0]) and (plain[:, 1:] != pushed[:, 1:]).any()
