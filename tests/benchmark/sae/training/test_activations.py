"""Which activations are collected: those of every position but the first, of text that is not measured on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.model.subject import Subject
from benchmark.sae.training.activations import STORED, collect, padded, streams
from benchmark.sites import Site
from tests.benchmark.sae.training.conftest import COLLECTION, SITE, MakeOrder


def plain(subject: Subject, row: list[int]) -> torch.Tensor:
    """The stream at the site (position, d_model)."""
    seen: list[torch.Tensor] = []
    handle = subject.layers[SITE.layer].register_forward_hook(lambda module, given, output: seen.append(output[0]))
    with torch.no_grad():
        subject.model(input_ids=torch.tensor([row]))
    handle.remove()
    return seen[0]


def test_every_position_but_the_first_is_collected_once(subject: Subject, tmp_path: Path) -> None:
    rows = [[1, *range(3 + n, 8 + 2 * n)] for n in range(12)]
    found = collect(subject, [SITE], lambda n: [[row] for row in rows] if n == 0 else [], COLLECTION, tmp_path)
    assert found.held_out == [rows[0], rows[10]]
    left = [plain(subject, row) for n, row in enumerate(rows) if n % 10]
    expected = torch.cat([h[1:] for h in left]).to(STORED).float()
    read = found.read(SITE)
    assert read.dtype == STORED and len(read) == len(expected) == found.tokens
    torch.testing.assert_close(read.float(), expected, rtol=1e-2, atol=1e-4)
    first = left[0][0].to(STORED).float()
    assert float(torch.cdist(first[None], read.float()).min()) > 0.1, "the first position is not among them"
    assert float(torch.cdist(left[0][1:2], read.float()).min()) < 0.1, "and this would see it"


def test_sites_of_one_pass_are_those_of_their_own(subject: Subject, tmp_path: Path, order: MakeOrder) -> None:
    other = Site.parse("blocks.3.hook_resid_post")
    blocks = order(tmp_path).text.blocks
    alone = collect(subject, [other], blocks, COLLECTION, tmp_path / "alone").read(other)
    both = collect(subject, [SITE, other], blocks, COLLECTION, tmp_path / "both")
    assert torch.equal(both.read(other), alone) and not torch.equal(both.read(SITE), alone)


def test_no_text_is_both_trained_and_measured_on(subject: Subject, tmp_path: Path, order: MakeOrder) -> None:
    blocks = order(tmp_path).text.blocks
    found = collect(subject, [SITE], blocks, COLLECTION, tmp_path)
    documents = [document for n in range(20) for document in blocks(n)]
    apart = {tuple(row) for row in found.held_out}
    trained = sum(len(row) - 1 for doc in documents if not apart & {tuple(r) for r in doc} for row in doc)
    assert COLLECTION.held_out <= sum(len(row) - 1 for row in found.held_out) < COLLECTION.held_out + 16
    assert found.tokens == trained


def test_at_most_as_many_as_were_asked_for(subject: Subject, tmp_path: Path, order: MakeOrder) -> None:
    few = replace(COLLECTION, tokens=500)
    found = collect(subject, [SITE], order(tmp_path).text.blocks, few, tmp_path)
    assert found.tokens == len(found.read(SITE)) == 500


def test_too_little_text_is_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too short"):
        collect(subject, [SITE], lambda n: [[[1, 5, 6]]] if n == 0 else [], COLLECTION, tmp_path)


def test_padding_is_neither_kept_nor_seen(subject: Subject) -> None:
    rows = [[1, 5, 6, 7], [1, 9]]
    (batch,) = padded(rows)
    assert batch.kept.tolist() == [[False, True, True, True], [False, True, False, False]]
    ((seen, _),) = streams(subject, rows, [SITE.boundary])
    torch.testing.assert_close(seen[SITE.boundary][1, :2], plain(subject, rows[1]), rtol=1e-4, atol=1e-4)
    assert len(list(padded(rows * 4, tokens=8))) == 4
