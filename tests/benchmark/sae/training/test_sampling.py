"""Text that the model writes: the same by seed, begun in many ways, drawn from what is likely."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.training.sampling import CHATS, ROWS, chat_opening, draw, openings, sampled, written
from benchmark.sae.training.settings import Collection
from tests import tiny

SMALL = Collection(context=10)
TEMPLATE = "{% for m in messages %}<unk> {{ m['content'] }} <eos> {% endfor %}"


def test_samples_depend_on_the_seed_and_the_block_alone(subject: Subject) -> None:
    first, again, other = (
        sampled(subject, SMALL),
        sampled(subject, SMALL),
        sampled(subject, Collection(context=10, seed=1)),
    )
    torch.manual_seed(5)
    assert again(1) == first(1) != first(0) and other(0) != first(0)
    rows = [row for document in first(0) for row in document]
    assert {row[0] for row in rows} == {1} and max(map(len, rows)) == 10
    assert len({row[1] for row in rows}) > ROWS // 4, "they begin in many ways"


def test_a_text_ends_where_the_model_ends_it(subject: Subject) -> None:
    begun = [[1, n] for n in range(3, 58)]
    whole = written(subject, begun, 30, torch.Generator().manual_seed(0), to_the_end=False)
    ended = written(subject, begun, 30, torch.Generator().manual_seed(0), to_the_end=True)
    assert any(len(row) < 30 for row in ended) and all(len(row) == 30 for row in whole)
    for row, longer in zip(ended, whole, strict=True):
        assert row == longer[: len(row)] and 2 not in row[:-1] and (len(row) == 30 or row[-1] == 2)


def test_the_model_writes_what_it_predicts(subject: Subject) -> None:
    """With the cache as without it: each token is drawn from what a whole pass predicts at its place."""
    row = written(subject, [[1, 9]], 12, torch.Generator().manual_seed(0), to_the_end=False)[0]
    logits = subject.model(input_ids=torch.tensor([row])).logits[0]
    generator = torch.Generator().manual_seed(0)
    assert [int(draw(logits[i : i + 1], generator)) for i in range(1, 11)] == row[2:]


def test_the_far_tail_is_never_drawn() -> None:
    logits = torch.tensor([[0.0, -1.0, -5.0]]).expand(3000, 3)
    found = draw(logits, torch.Generator().manual_seed(0)).flatten().bincount(minlength=3) / 3000
    assert found[2] == 0 and float(found[1]) == pytest.approx(1 / (1 + torch.e), abs=0.03)


def test_a_chat_begins_where_a_user_writes(subject: Subject) -> None:
    assert chat_opening(subject.tokenizer) == []
    talker = tiny.subject()
    talker.tokenizer.chat_template = TEMPLATE
    assert chat_opening(talker.tokenizer) == [tiny.VOCABULARY - 1]
    rows = [row for document in sampled(talker, SMALL)(0) for row in document]
    assert sum(row[0] == tiny.VOCABULARY - 1 for row in rows) == ROWS // CHATS


def test_openings_are_words_where_the_tokenizer_tells_them() -> None:
    vocabulary = {"\u0120the": 0, "ing": 1, "\u0120(": 2, "<s>": 3, "\u2581cat": 4}
    marked = SimpleNamespace(all_special_ids=[3], get_vocab=lambda: vocabulary)
    assert openings(marked) == [0, 4]
    with pytest.raises(UsageError, match="begins a word"):
        openings(SimpleNamespace(all_special_ids=[], get_vocab=lambda: {"(": 0}))
